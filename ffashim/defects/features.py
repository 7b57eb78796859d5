# SPDX-License-Identifier: GPL-2.0-only
"""Defects of FFA_FEATURES, and of what Xen believes that the SPMC has."""

from __future__ import annotations

from collections.abc import Callable

from ffashim import capabilities
from ffashim.defaults import default_spmc
from ffashim.defects import Defect
from ffashim.ffa import FFA, NOTIFICATIONS, Feature, FfaError
from ffashim.machine import DomainError, Machine
from ffashim.spmc import Spmc
from ffashim.traffic import SP, direct, guest
from ffashim.vm import Vm


def _reports(vm: Vm, what: int) -> bool:
    return vm.smc(FFA.FEATURES, what).ok


HIDES_INTERRUPT = Defect(
    "FFA_INTERRUPT is not reported, though direct requests are answered with it",
    lambda machine: not _reports(machine.create_vm("1.1"), FFA.INTERRUPT),
)

MINDS_SBZ = Defect(
    "registers that should be zero are checked, the specification has them ignored",
    lambda machine: not machine.create_vm("1.1").smc(FFA.FEATURES, FFA.ID_GET, 0, 1).ok,
)

PROMISES_SMC64 = Defect(
    "64-bit function IDs are reported to 32-bit guests",
    lambda machine: _reports(machine.create_vm("1.1", bits=32), FFA.RXTX_MAP_64),
)


def _reports_set_in_vain(machine: Machine) -> bool:
    vm = machine.create_vm("1.1")
    set_one = vm.smc(FFA.NOTIFICATION_SET, vm.id << 16 | SP, 0, 1)
    return _reports(vm, FFA.NOTIFICATION_SET) and set_one.error is FfaError.NOT_SUPPORTED


REPORTS_SET_IN_VAIN = Defect(
    "NOTIFICATION_SET is reported, yet none can be set: the sender's ID is"
    " taken for the receiver's",
    _reports_set_in_vain,
)


# --- what the SPMC has not -----------------------------------------------------------------------

FORWARDED = (
    FFA.MSG_SEND_DIRECT_REQ_32, FFA.MSG_SEND_DIRECT_REQ_64, FFA.MSG_SEND_DIRECT_REQ2, FFA.RUN,
    FFA.MEM_SHARE_64, FFA.MEM_RECLAIM, FFA.MSG_SEND2, FFA.NOTIFICATION_BIND,
    FFA.NOTIFICATION_UNBIND, FFA.NOTIFICATION_SET, FFA.NOTIFICATION_GET,
)  # fmt: skip
"""What only an SPMC can do for a guest, but for what Xen does between guests."""
NOTIFICATION_INTERRUPTS = (Feature.NOTIF_PEND_INTR, Feature.SCHEDULE_RECV_INTR)
"""What a guest asks for that wants to be interrupted by notifications."""
IN_VAIN = "reports to guests what the SPMC has not"


def done_by_xen(machine: Machine, what: int) -> bool:
    """Tell whether a tree does something for guests without the SPMC: messages, and news of them.

    what: a function, or the ID of an interrupt of notifications.

    The machine must be booted afterwards.
    """
    between_guests = what in (FFA.MSG_SEND2, FFA.NOTIFICATION_GET, *NOTIFICATION_INTERRUPTS)
    return between_guests and capabilities.missing(machine, messages=True) is None


def _guest_without(machine: Machine, *abis: FFA) -> Vm | None:
    """Boot on an SPMC without some functions. None if the tree wants one that has them."""
    world = default_spmc(machine.extension)
    machine.boot(Spmc(world.version, world.state.partitions, features_off=abis))
    try:
        return guest(machine, buffers=False)
    except DomainError:
        return None


def _reports_in_vain(abi: FFA) -> Callable[[Machine], bool]:
    def probe(machine: Machine) -> bool:
        if done_by_xen(machine, abi):
            return False
        vm = _guest_without(machine, abi)
        return vm is not None and _reports(vm, abi)

    return probe


REPORTS_IN_VAIN = {abi: Defect(IN_VAIN, _reports_in_vain(abi)) for abi in FORWARDED}
"""By function: a tree may be right of some."""


def _interrupts_in_vain(machine: Machine) -> bool:
    if done_by_xen(machine, FFA.NOTIFICATION_GET):
        return False
    vm = _guest_without(machine, *NOTIFICATIONS)
    return vm is not None and any(_reports(vm, each) for each in NOTIFICATION_INTERRUPTS)


REPORTS_INTERRUPTS_IN_VAIN = Defect(
    "tells guests of the interrupts of notifications that there are not", _interrupts_in_vain
)

NOTIFYING = (
    FFA.NOTIFICATION_BIND, FFA.NOTIFICATION_UNBIND, FFA.NOTIFICATION_SET, FFA.NOTIFICATION_GET,
)  # fmt: skip
"""What a guest calls that has notifications."""


def boot_without_interrupt(machine: Machine, memory: bool = False) -> None:
    """Boot on an SPMC that has notifications, and let Xen not get the schedule receiver interrupt.

    memory: whether there is none for its handler, rather than the SPMC naming no interrupt.
    """
    world = default_spmc(machine.extension)
    asked = world.on(FFA.FEATURES).when(lambda x: x[1] == Feature.SCHEDULE_RECV_INTR)
    if memory:
        asked.call(lambda _x: machine.fail_allocation(1), times=1)
    else:
        asked.error(FfaError.NOT_SUPPORTED)
    machine.boot(world)
    machine.fail_allocation(0, 0)


def _reports_unprepared(what: int) -> Callable[[Machine], bool]:
    def probe(machine: Machine) -> bool:
        if done_by_xen(machine, what):
            return False
        boot_without_interrupt(machine)
        try:
            return _reports(guest(machine, buffers=False), what)
        except DomainError:
            return False  # it wants an SPMC that has it

    return probe


REPORTS_UNPREPARED = {
    what: Defect("reports notifications that it could not set up", _reports_unprepared(what))
    for what in (*NOTIFYING, *NOTIFICATION_INTERRUPTS)
}
"""By function and by interrupt."""

CALLS_IN_VAIN = "calls what the SPMC says it has not"
"""Of one function and of another, where they are needed: the tests have probes of their own."""


def _asks_in_vain(abi: FFA) -> Callable[[Machine], bool]:
    def probe(machine: Machine) -> bool:
        vm = _guest_without(machine, abi)
        if vm is not None:
            direct(vm, 0, fid=abi)
        return any(note.rule == "unsupported" for note in machine.spmc.notes)

    return probe


ASKS_IN_VAIN = {
    abi: Defect(CALLS_IN_VAIN, _asks_in_vain(abi))
    for abi in (FFA.MSG_SEND_DIRECT_REQ_32, FFA.MSG_SEND_DIRECT_REQ_64)
}
"""Direct requests, by function."""
