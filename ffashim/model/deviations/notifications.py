# SPDX-License-Identifier: GPL-2.0-only
"""Notifications."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ffashim.defects.notifications import (
    ANSWERS_IN_64_BITS,
    FORGETS_WHAT_IT_HAS_NOT_COLLECTED,
    KEEPS_BITMAP,
    SWAPS_HALVES,
    TELLS_AN_OFFLINE_VCPU,
)
from ffashim.ffa import FFA
from ffashim.model.deviation import Deviation
from ffashim.model.deviations.changes import Seen, same, with_arguments, with_register
from ffashim.model.notifications import BELOW
from ffashim.model.outcome import Outcome
from ffashim.model.registers import Call, function
from ffashim.model.state import Source, System


def _wide(system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
    if call.fid == FFA.NOTIFICATION_INFO_GET_32 and FFA.SUCCESS_32 in outcome.registers[0]:
        yield with_register(outcome, 0, function(FFA.SUCCESS_64))


def _forgets(_system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
    """It forgets before it asks for all that the secure world has."""
    failed = FFA.ERROR in outcome.registers[0]
    if call.fid == FFA.NOTIFICATION_GET and failed and call.w(2) & BELOW == BELOW:
        caller = outcome.after.guest(call.caller)
        left = replace(caller, news=caller.news - {Source.SECURE})
        yield replace(outcome, after=outcome.after.having(left))


def _deaf(system: System, call: Call) -> Seen:
    """It tells the first vCPU, whether it is online or not."""
    known = {each.id: each.offline for each in system.guests}
    if call.fid != FFA.MSG_SEND2 or not any(0 in each for each in known.values()):
        return

    def restore(after: System) -> System:
        for each in after.guests:
            after = after.having(replace(each, offline=known[each.id]))
        return after

    deaf = tuple(
        replace(each, offline=frozenset(range(each.vcpus)) if 0 in each.offline else each.offline)
        for each in system.guests
    )
    yield replace(system, guests=deaf), call, restore


def _swapped(system: System, call: Call) -> Seen:
    if call.fid in (FFA.NOTIFICATION_BIND, FFA.NOTIFICATION_UNBIND) and call.w(3) != call.w(4):
        yield system, with_arguments(call, x3=call.w(4), x4=call.w(3)), same


DEVIATIONS = [
    Deviation(SWAPS_HALVES, sees=_swapped),
    Deviation(ANSWERS_IN_64_BITS, says=_wide),
    Deviation(KEEPS_BITMAP, leaves="notification bitmap .* something is pending"),
    Deviation(FORGETS_WHAT_IT_HAS_NOT_COLLECTED, says=_forgets, silent=True),
    Deviation(TELLS_AN_OFFLINE_VCPU, sees=_deaf),
]
