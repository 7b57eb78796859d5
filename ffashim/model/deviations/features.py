# SPDX-License-Identifier: GPL-2.0-only
"""FFA_FEATURES."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ffashim.defects import Defect
from ffashim.defects.features import (
    HIDES_INTERRUPT,
    MINDS_SBZ,
    PROMISES_SMC64,
    REPORTS_IN_VAIN,
    REPORTS_SET_IN_VAIN,
)
from ffashim.ffa import FFA, Feature, FfaError
from ffashim.model.deviation import Deviation
from ffashim.model.outcome import Outcome, error, success
from ffashim.model.registers import ZERO, Call, either, exactly
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
    FFA.NOTIFICATION_GET: (
        FFA.NOTIFICATION_INFO_GET_32,
        FFA.NOTIFICATION_INFO_GET_64,
        Feature.NOTIF_PEND_INTR,
    ),
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
            own = system.profile.notification_interrupt
            number = exactly(own) if what == Feature.NOTIF_PEND_INTR else ZERO
            yield success(outcome.after, call, "", number)

    return Deviation(defect, says=says)


DEVIATIONS = [
    Deviation(HIDES_INTERRUPT, says=_interrupt),
    Deviation(MINDS_SBZ, says=_minds_sbz),
    Deviation(PROMISES_SMC64, says=_smc64),
    Deviation(REPORTS_SET_IN_VAIN, says=_set),
    *(_in_vain(abi, defect) for abi, defect in REPORTS_IN_VAIN.items()),
]
