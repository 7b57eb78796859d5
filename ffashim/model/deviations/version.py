# SPDX-License-Identifier: GPL-2.0-only
"""FFA_VERSION, and guests that have not called it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ffashim.defects.versions import (
    ANSWERS_A_CHANGE,
    CHANGES_LATE,
    ECHOES_THE_VERSION,
    SERVES_WITHOUT_VERSION,
    TAKES_BIT_31,
)
from ffashim.ffa import FFA, V1_0, V1_1, FfaError, Version
from ffashim.model.deviation import Deviation
from ffashim.model.deviations.changes import Seen, same, with_arguments, with_register
from ffashim.model.exchange import Plan
from ffashim.model.outcome import Outcome, error, high
from ffashim.model.registers import Call, answer, exactly
from ffashim.model.state import Guest, System
from ffashim.model.version import MBZ


def _unsaid(system: System, call: Call) -> Seen:
    """A guest that has said nothing counts as one of 1.0 in one place, and not in another.

    It remains one that has said nothing, and is in nobody's list.
    """
    guest = system.guest(call.caller)

    def restore(after: System) -> System:
        silent = replace(after.guest(guest.id), version=None, settled=False)
        listed = replace(after, tag=system.tag, retired=system.retired, places=system.places)
        return listed.having(silent)

    if guest.version is None and call.fid != FFA.VERSION:
        for version in (V1_0, V1_1):
            yield system.having(replace(guest, version=version)), call, restore


def _bit_31(system: System, call: Call) -> Seen:
    """It is ignored in the answer, and taken for a part of the major number in what is kept."""
    if call.fid == FFA.VERSION and call.w(1) & MBZ:
        yield system, with_arguments(call, x1=call.w(1) & ~MBZ), same
        yield system, with_arguments(call, x1=int(system.profile.version)), same
        odd = Version(call.w(1) >> 16, call.w(1) & 0xFFFF)

        def kept(after: System) -> System:
            return after.having(replace(after.guest(call.caller), version=odd))

        yield system, with_arguments(call, x1=int(system.profile.version)), kept


def _no_count(system: System, call: Call) -> Iterator[Plan]:
    """Who may ask for a count is told by its very version, which nobody has then."""
    guest = system.guest(call.caller)
    if call.fid == FFA.PARTITION_INFO_GET and call.w(5) and _is_odd(guest):
        yield error(system.settled(guest), call, "", FfaError.INVALID_PARAMETERS)


def _is_odd(guest: Guest) -> bool:
    """Whether it has a version with bit 31."""
    return guest.version is not None and guest.version.major >= MBZ >> 16


def _change(system: System, call: Call, _outcome: Outcome) -> Iterator[Outcome]:
    if call.fid == FFA.VERSION and system.guest(call.caller).settled:
        yield _told(system, call)


def _late(system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
    guest = system.guest(call.caller)
    if call.fid == FFA.VERSION and guest.settled:
        if _is_odd(outcome.after.guest(guest.id)):
            yield _told(outcome.after, call)
        version = max(V1_0, min(Version.parse(call.w(1)), system.profile.version))
        yield _told(system.having(replace(guest, version=version)), call)
        yield _told(system.having(replace(guest, version=system.profile.version)), call)


def _echo(system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
    own = int(system.profile.version)
    if call.fid == FFA.VERSION and own in outcome.registers[0] and call.w(1) < own:
        if call.w(1) >> 16:
            yield with_register(outcome, 0, exactly(call.w(1), "version"))
            return
        guest = system.guest(call.caller)
        lowest = system.having(replace(guest, version=V1_0))
        yield replace(with_register(outcome, 0, exactly(0x1_0000, "version")), after=lowest)


def _told(after: System, call: Call) -> Outcome:
    own = exactly(int(after.profile.version), "version")
    return Outcome(answer((own,), high(after, call)), after, "a known defect")


DEVIATIONS = [
    Deviation(SERVES_WITHOUT_VERSION, sees=_unsaid),
    Deviation(TAKES_BIT_31, sees=_bit_31, does=_no_count, silent=True),
    Deviation(ANSWERS_A_CHANGE, says=_change),
    Deviation(CHANGES_LATE, says=_late, silent=True),
    Deviation(ECHOES_THE_VERSION, says=_echo, silent=True),
]
