# SPDX-License-Identifier: GPL-2.0-only
"""Defects of RX and TX, and of what the SPMC is told of them."""

from __future__ import annotations

from ffashim.alarms import AlarmKind
from ffashim.defects import Defect, crashes
from ffashim.faults import XenMemory
from ffashim.ffa import FFA, PAGE_SIZE, FfaError
from ffashim.interleavings import SITUATIONS, Scene, clashes
from ffashim.machine import Machine
from ffashim.testing import boot_with
from ffashim.traffic import SP, guest

_LAST_PAGE = (1 << 64) - PAGE_SIZE
"""Where no guest has memory."""


def _unlocked(machine: Machine) -> bool:
    scene = Scene(machine, SITUATIONS[0])
    unmaps = scene.outer("FFA_RXTX_UNMAP")
    return any(clash.inner.fid == FFA.RXTX_UNMAP for clash in clashes(scene, unmaps))


UNLOCKED = Defect(
    "two vCPUs unmap the same buffers at once, or unmap TX that the other one's call reads",
    _unlocked,
)


def _maps(machine: Machine, offset: int = 0, pages: int = 1, rx: int | None = None) -> bool:
    vm = machine.create_vm("1.1")
    tx = vm.memory.allocate()
    rx = vm.memory.allocate() if rx is None else rx
    return vm.smc(FFA.RXTX_MAP_64, tx + offset, rx, pages).ok


TAKES_NO_PAGES = Defect(
    "buffers of no pages are mapped, and cannot be unmapped",
    lambda machine: _maps(machine, pages=0),
)

TAKES_UNALIGNED = Defect(
    "addresses that are not page aligned are rounded down",
    lambda machine: _maps(machine, offset=0x100),
)

TRIPS_OVER_RX = Defect(
    "an RX address without memory is a NULL pointer to Xen: a guest can crash it",
    crashes(lambda machine: _maps(machine, rx=_LAST_PAGE), r"/ffa_rxtx\.c|/ffa\.c", XenMemory),
)


def _takes_one_page_twice(machine: Machine) -> bool:
    # An SPMC that is told of guests' buffers refuses it itself.
    boot_with(machine, [], features_off=[FFA.RX_ACQUIRE, FFA.MSG_SEND2])
    vm = machine.create_vm("1.1")
    page = vm.memory.allocate()
    return vm.smc(FFA.RXTX_MAP_64, page, page, 1).ok


TAKES_ONE_PAGE_TWICE = Defect(
    "the same page is taken as RX and TX unless an SPMC refuses it", _takes_one_page_twice
)


def _blames_the_guest(machine: Machine) -> bool:
    vm = machine.create_vm("1.1")
    tx, rx = vm.memory.allocate(), vm.memory.allocate()
    machine.fail_mapping()
    return vm.smc(FFA.RXTX_MAP_64, tx, rx, 1).error is not FfaError.NO_MEMORY


BLAMES_THE_GUEST = Defect("INVALID_PARAMETERS where Xen has no room to map", _blames_the_guest)


def _unmaps_owned_rx(machine: Machine) -> bool:
    vm = guest(machine)
    vm.partition_info_get()
    return vm.smc(FFA.RXTX_UNMAP).ok


UNMAPS_OWNED_RX = Defect("RX is unmapped while the guest owns it", _unmaps_owned_rx)

HIDES_BUFFERS = Defect(
    # It has FFA_RX_ACQUIRE, so it keeps track of them (7.2.2).
    "never asks for FFA_RX_ACQUIRE, so the SPMC is not told of any guest's buffers",
    lambda machine: guest(machine).id not in machine.spmc.state.buffers,
)


def _keeps_filled_rx(machine: Machine) -> bool:
    vm = guest(machine)
    if machine.spmc.messages.send(SP, vm.id, b"x") is not None:
        return False
    return vm.smc(FFA.RX_RELEASE).error is FfaError.DENIED


KEEPS_FILLED_RX = Defect(
    "RX that the SPMC has filled can never be released: Xen takes it for free", _keeps_filled_rx
)


def _leaves_locks(machine: Machine) -> bool:
    machine.forget_alarms()
    guest(machine).partition_info_get()
    return any(alarm.kind is AlarmKind.LOCK_INIT for alarm in machine.alarms)


LEAVES_LOCKS = Defect(
    "never initialises the locks of a guest's buffers and of its memory shares", _leaves_locks
)
