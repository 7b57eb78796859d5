# SPDX-License-Identifier: GPL-2.0-only
"""FFA_FEATURES."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ffashim.defects import Defect
from ffashim.defects.features import (
    ASKS_IN_VAIN,
    HIDES_INTERRUPT,
    MINDS_SBZ,
    NOTIFICATION_INTERRUPTS,
    PROMISES_SMC64,
    REPORTS_IN_VAIN,
    REPORTS_INTERRUPTS_IN_VAIN,
    REPORTS_SET_IN_VAIN,
)
from ffashim.ffa import FFA, Feature, FfaError
from ffashim.model.deviation import Deviation, Restore
from ffashim.model.features import PRIVATE
from ffashim.model.outcome import Outcome, error, success
from ffashim.model.registers import Call, either
from ffashim.model.rules import exists
from ffashim.model.state import System


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


def _set(_system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
    if call.fid == FFA.FEATURES and call.w(1) == FFA.NOTIFICATION_SET:
        yield success(outcome.after, call, "")
    elif call.fid == FFA.NOTIFICATION_SET:
        yield error(outcome.after, call, "", FfaError.INVALID_PARAMETERS, FfaError.DENIED)


WITH_IT = {
    FFA.NOTIFICATION_GET: (FFA.NOTIFICATION_INFO_GET_32, FFA.NOTIFICATION_INFO_GET_64),
    FFA.MEM_SHARE_64: (FFA.MEM_SHARE_32,),
}
"""What there is no use for without another function."""


def _in_vain(abi: FFA, defect: Defect) -> Deviation:
    """It is reported though the SPMC has it not."""

    def says(system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
        absent = FfaError.NOT_SUPPORTED.w in outcome.registers[2]
        what = call.w(1)
        told = what in (abi, *WITH_IT.get(abi, ()))
        if call.fid == FFA.FEATURES and told and absent and abi not in system.secure.calls:
            yield success(outcome.after, call, "")

    return Deviation(defect, says=says)


def _interrupts(system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
    absent = FfaError.NOT_SUPPORTED.w in outcome.registers[2]
    if call.fid == FFA.FEATURES and call.w(1) in NOTIFICATION_INTERRUPTS and absent:
        own = system.profile.notification_interrupt
        pending = call.w(1) == Feature.NOTIF_PEND_INTR
        yield success(outcome.after, call, "", either({own} if pending else PRIVATE, "interrupt"))


def _asks(abi: FFA, defect: Defect) -> Deviation:
    """The SPMC is asked for what it has said not to have."""

    def sees(system: System, call: Call) -> Iterator[tuple[System, Call, Restore]]:
        calls = system.secure.calls
        if call.fid == abi and system.secure.version is not None and abi not in calls:

            def restore(after: System) -> System:
                return replace(after, secure=replace(after.secure, calls=calls))

            yield replace(system, secure=replace(system.secure, calls=calls | {abi})), call, restore

    return Deviation(defect, sees=sees)


DEVIATIONS = [
    *(_asks(abi, defect) for abi, defect in ASKS_IN_VAIN.items()),
    Deviation(REPORTS_INTERRUPTS_IN_VAIN, says=_interrupts),
    Deviation(HIDES_INTERRUPT, says=_interrupt),
    Deviation(MINDS_SBZ, says=_minds_sbz),
    Deviation(PROMISES_SMC64, says=_smc64),
    Deviation(REPORTS_SET_IN_VAIN, says=_set),
    *(_in_vain(abi, defect) for abi, defect in REPORTS_IN_VAIN.items()),
]
