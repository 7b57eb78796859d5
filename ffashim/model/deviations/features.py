# SPDX-License-Identifier: GPL-2.0-only
"""FFA_FEATURES."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ffashim.defaults import default_spmc
from ffashim.ffa import FFA, Feature, FfaError
from ffashim.machine import DomainError, Machine
from ffashim.model.deviation import Deviation
from ffashim.model.outcome import Outcome, error, success
from ffashim.model.registers import ZERO, Call, either, exactly
from ffashim.model.rules import exists
from ffashim.model.state import System
from ffashim.spmc import Spmc
from ffashim.traffic import guest
from ffashim.vm import Vm


def _reports(vm: Vm, what: int) -> bool:
    return vm.smc(FFA.FEATURES, what).ok


def _interrupt(system: System, call: Call, _outcome: Outcome) -> Iterator[Outcome]:
    if call.fid == FFA.FEATURES and call.w(1) == FFA.INTERRUPT:
        yield error(system.settled(system.guest(call.caller)), call, "", FfaError.NOT_SUPPORTED)


def _minds_sbz(system: System, call: Call, _outcome: Outcome) -> Iterator[Outcome]:
    if call.fid == FFA.FEATURES and any(call.registers[2:8]):
        errors = FfaError.NOT_SUPPORTED, FfaError.INVALID_PARAMETERS
        yield error(system.settled(system.guest(call.caller)), call, "", *errors)


def _smc64(system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
    guest = system.guest(call.caller)
    if call.fid == FFA.FEATURES and guest.bits == 32 and call.w(1) >> 30 & 1:
        wide = replace(guest, bits=64)
        after = outcome.after
        if exists(system.having(wide), wide, call.w(1)) or call.w(1) == FFA.SUCCESS_64:
            pages = system.profile.rxtx_pages << 16 if call.w(1) == FFA.RXTX_MAP_64 else 0
            yield success(after, call, "", either({0, pages}, "properties"))


def _set_probe(machine: Machine) -> bool:
    vm = machine.create_vm("1.1")
    said = vm.smc(FFA.NOTIFICATION_SET, vm.id << 16 | 0x8001, 0, 1)
    return _reports(vm, FFA.NOTIFICATION_SET) and said.error is FfaError.NOT_SUPPORTED


def _set(_system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
    if call.fid == FFA.FEATURES and call.w(1) == FFA.NOTIFICATION_SET:
        yield success(outcome.after, call, "")
    elif call.fid == FFA.NOTIFICATION_SET:
        yield error(outcome.after, call, "", FfaError.INVALID_PARAMETERS, FfaError.DENIED)


FORWARDED = (
    FFA.MSG_SEND_DIRECT_REQ_32, FFA.MSG_SEND_DIRECT_REQ_64, FFA.MSG_SEND_DIRECT_REQ2, FFA.RUN,
    FFA.MEM_SHARE_64, FFA.MEM_RECLAIM, FFA.MSG_SEND2, FFA.NOTIFICATION_BIND,
    FFA.NOTIFICATION_UNBIND, FFA.NOTIFICATION_SET, FFA.NOTIFICATION_GET,
)  # fmt: skip
"""What only an SPMC can do for a guest, but for what Xen does between guests."""
BETWEEN_GUESTS = (FFA.MSG_SEND2, FFA.NOTIFICATION_GET)
WITH_IT = {
    FFA.NOTIFICATION_GET: (
        FFA.NOTIFICATION_INFO_GET_32,
        FFA.NOTIFICATION_INFO_GET_64,
        Feature.NOTIF_PEND_INTR,
    ),
    FFA.MEM_SHARE_64: (FFA.MEM_SHARE_32,),
}
"""What there is no use for without another function."""


def _in_vain(abi: FFA) -> Deviation:
    """It is reported though the SPMC has it not. A tree may be right of other functions."""

    def probe(machine: Machine) -> bool:
        if abi in BETWEEN_GUESTS and machine.extension.enabled("FFA_VM_TO_VM"):
            return False
        world = default_spmc(machine.extension)
        machine.boot(Spmc(world.version, world.state.partitions, features_off=[abi]))
        try:
            return _reports(guest(machine, buffers=False), abi)
        except DomainError:
            return False  # it wants an SPMC that has it

    def says(system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
        absent = FfaError.NOT_SUPPORTED.w in outcome.registers[2]
        what = call.w(1)
        told = what in (abi, *WITH_IT.get(abi, ()))
        if call.fid == FFA.FEATURES and told and absent and abi not in system.secure.calls:
            own = system.profile.notification_interrupt
            number = exactly(own) if what == Feature.NOTIF_PEND_INTR else ZERO
            yield success(outcome.after, call, "", number)

    return Deviation("reports to guests what the SPMC has not", probe, says=says)


DEVIATIONS = [
    Deviation(
        "FFA_INTERRUPT is not reported, though direct requests are answered with it",
        lambda machine: not _reports(machine.create_vm("1.1"), FFA.INTERRUPT),
        says=_interrupt,
    ),
    Deviation(
        "registers that should be zero are checked, the specification has them ignored",
        lambda machine: not machine.create_vm("1.1").smc(FFA.FEATURES, FFA.ID_GET, 0, 1).ok,
        says=_minds_sbz,
    ),
    Deviation(
        "64-bit function IDs are reported to 32-bit guests",
        lambda machine: _reports(machine.create_vm("1.1", bits=32), FFA.RXTX_MAP_64),
        says=_smc64,
    ),
    Deviation(
        "NOTIFICATION_SET is reported, yet none can be set: the sender's ID is"
        " taken for the receiver's",
        _set_probe,
        says=_set,
    ),
    *map(_in_vain, FORWARDED),
]
