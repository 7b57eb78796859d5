# SPDX-License-Identifier: GPL-2.0-only
"""Defects of FFA_MEM_SHARE, and of what becomes of the shares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ffashim.defects import Defect, crashes
from ffashim.ffa import (
    FFA,
    MEM_FLAG_CLEAR,
    MEM_FLAG_CLEAR_RELINQUISH,
    MEM_FLAG_DONATE,
    MEM_FLAG_LEND,
    MEM_FLAG_TIME_SLICE,
    PAGE_SIZE,
    V1_1,
    FfaError,
)
from ffashim.machine import Machine
from ffashim.traffic import guest, handle_of, share, transaction, version_of
from ffashim.vm import Vm

_SHARE = r"/ffa_shm\.c|/ffa\.c"
"""Where a share is handled: 4.18 has one file."""
_HEADER = 48
"""Bytes of a transaction descriptor since 1.1 (Table 10.20)."""
_ACCESS_OFFSET = 32
"""Where in it the offset of the access descriptors is."""


def _shares(machine: Machine, *ranges: tuple[int, int], **fields: Any) -> bool:
    vm = guest(machine)
    return share(vm, transaction(vm, *ranges, **fields)).ok


def _drops_tag(machine: Machine) -> bool:
    vm = guest(machine)
    handle = handle_of(share(vm, transaction(vm, tag=7)))
    return bool(machine.spmc.memory.shares[handle].tag == 0)


DROPS_TAG = Defect("drops the tag: the SP that retrieves with it is refused", _drops_tag)

NO_SHARE_FLAGS = (
    MEM_FLAG_CLEAR, MEM_FLAG_TIME_SLICE, MEM_FLAG_CLEAR_RELINQUISH, MEM_FLAG_LEND, MEM_FLAG_DONATE,
    *(1 << n for n in (5, 6, 7)),
)  # fmt: skip
"""Flags that must not be set in a share (10.11.4). All trees refuse those that a byte is too short
for."""
_IGNORES_FLAGS = "ignores the flags of a memory transaction"


def _shares_with(*flags: int) -> Callable[[Machine], bool]:
    return lambda machine: any(_shares(machine, flags=each) for each in flags)


IGNORES_SHARE_FLAG = {each: Defect(_IGNORES_FLAGS, _shares_with(each)) for each in NO_SHARE_FLAGS}
"""By flag: a tree may refuse some."""
IGNORES_SHARE_FLAGS = Defect(_IGNORES_FLAGS, _shares_with(*NO_SHARE_FLAGS))
"""Any of them."""

TAKES_MISALIGNED_ACCESS = Defect(
    "takes access descriptors that are not 16-byte aligned",
    lambda machine: _shares(machine, access_offset=_HEADER + 8),
)

ROUNDS_RANGES = Defect(
    "shares the page around an address that is not page aligned",
    lambda machine: _shares(machine, (0x4000_3001, 1)),
)


def _shares_buffers(machine: Machine) -> bool:
    vm = guest(machine)
    return share(vm, transaction(vm, (vm.rx.address, 1))).ok


SHARES_BUFFERS = Defect("lets a guest share its RX/TX buffers", _shares_buffers)


def _asks_for_a_guest(machine: Machine) -> bool:
    vm = guest(machine)
    share(vm, transaction(vm, receiver=vm.id))
    return bool(machine.spmc.calls(FFA.MEM_SHARE_64))


ASKS_FOR_A_GUEST = Defect("asks the SPMC to share with a guest", _asks_for_a_guest)

TAKES_MORE_THAN_TX = Defect(
    "FFA_SUCCESS, handle 0, for a descriptor longer than TX",
    lambda machine: guest(machine).smc(FFA.MEM_SHARE_64, PAGE_SIZE + 16, PAGE_SIZE + 16).ok,
)


def share_behind_tx(vm: Vm) -> FfaError | None:
    """Share by a descriptor that fills TX, and whose access descriptor, of size 0, is behind it."""
    vm.tx.write(transaction(vm, access_size=0, access_offset=PAGE_SIZE).encode(V1_1)[:_HEADER])
    vm.tx.write(PAGE_SIZE.to_bytes(4, "little"), offset=_ACCESS_OFFSET)
    return vm.smc(FFA.MEM_SHARE_64, PAGE_SIZE, PAGE_SIZE).error


READS_BEHIND_TX = Defect(
    "an access descriptor of size 0 at the end of TX is read from behind it",
    crashes(lambda machine: share_behind_tx(guest(machine)), _SHARE),
)


READS_AN_ODD_REGION = Defect(
    "reads a region that is not aligned, as --sanitize=undefined sees",
    crashes(lambda machine: _shares(machine, composite_offset=65), _SHARE),
)


def _reads_all_of_x3(machine: Machine) -> bool:
    vm = guest(machine)
    data = transaction(vm).encode(version_of(vm))
    vm.tx.write(data)
    reply = vm.smc(FFA.MEM_SHARE_32, len(data), len(data), 1 << 32)
    return reply.error is FfaError.NOT_SUPPORTED


READS_ALL_OF_X3 = Defect(
    "FFA_MEM_SHARE_32 reads all of x3 as the buffer's address", _reads_all_of_x3
)


def _keeps_shares(machine: Machine) -> bool:
    vm = guest(machine)
    share(vm)
    vm.destroy()
    return bool(machine.spmc.memory.shares)


KEEPS_SHARES = Defect("does not reclaim what a dead guest shared", _keeps_shares)
