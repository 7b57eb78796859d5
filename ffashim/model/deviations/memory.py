# SPDX-License-Identifier: GPL-2.0-only
"""FFA_MEM_SHARE."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ffashim.ffa import FFA, PAGE_SIZE, FfaError
from ffashim.machine import Machine
from ffashim.model.deviation import Deviation
from ffashim.model.deviations.changes import Seen, same
from ffashim.model.exchange import Plan
from ffashim.model.outcome import error, success
from ffashim.model.registers import Call
from ffashim.model.rules import exists
from ffashim.model.state import System
from ffashim.traffic import guest, handle_of, share, transaction, version_of

SHARES = (FFA.MEM_SHARE_32, FFA.MEM_SHARE_64)


def _long_probe(machine: Machine) -> bool:
    return guest(machine).smc(FFA.MEM_SHARE_64, PAGE_SIZE + 16, PAGE_SIZE + 16).ok


def _long(system: System, call: Call) -> Iterator[Plan]:
    caller = system.guest(call.caller)
    fits = call.w(1) == call.w(2) > PAGE_SIZE and not call.argument(3)
    if call.fid in SHARES and fits and caller.buffers and exists(system, caller, call.fid):
        yield success(system.settled(caller), call, "")


def _tag_probe(machine: Machine) -> bool:
    vm = guest(machine)
    handle = handle_of(share(vm, transaction(vm, tag=7)))
    return bool(machine.spmc.memory.shares[handle].tag == 0)


def _tag(system: System, call: Call) -> Seen:
    if call.fid in SHARES and any(call.tx[16:24]):
        yield system, replace(call, tx=call.tx[:16] + bytes(8) + call.tx[24:]), same


def _flags_probe(machine: Machine) -> bool:
    vm = guest(machine)
    return share(vm, transaction(vm, flags=1)).ok


def _flags(system: System, call: Call) -> Seen:
    if call.fid in SHARES and call.tx[4:5] != b"\0":
        yield system, replace(call, tx=call.tx[:4] + b"\0" + call.tx[5:]), same


def _x3_probe(machine: Machine) -> bool:
    vm = guest(machine)
    data = transaction(vm).encode(version_of(vm))
    vm.tx.write(data)
    return not vm.smc(FFA.MEM_SHARE_32, len(data), len(data), 1 << 32).ok


def _x3(system: System, call: Call) -> Iterator[Plan]:
    caller = system.guest(call.caller)
    if (
        call.fid == FFA.MEM_SHARE_32
        and call.registers[3] >> 32
        and exists(system, caller, call.fid)
    ):
        yield error(system.settled(caller), call, "", FfaError.NOT_SUPPORTED)


DEVIATIONS = [
    Deviation("FFA_SUCCESS, handle 0, for a descriptor longer than TX", _long_probe, does=_long),
    Deviation("drops the tag: the SP that retrieves with it is refused", _tag_probe, sees=_tag),
    Deviation("ignores the flags of a memory transaction", _flags_probe, sees=_flags),
    Deviation("FFA_MEM_SHARE_32 reads all of x3 as the buffer's address", _x3_probe, does=_x3),
]
