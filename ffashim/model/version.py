# SPDX-License-Identifier: GPL-2.0-only
"""FFA_VERSION (FF-A 1.2, 13.2)."""

from __future__ import annotations

from collections.abc import Iterator

from ffashim.ffa import FFA, Version
from ffashim.model.outcome import Outcome, high
from ffashim.model.registers import LOW, UNKNOWN, Call, answer, either, exactly
from ffashim.model.rules import rule
from ffashim.model.state import Guest, System

MBZ = 1 << 31
"""Bit 31 of w1, which tells a version from an error code (Table 13.4)."""


@rule(FFA.VERSION)
def version(system: System, guest: Guest, call: Call) -> Iterator[Outcome]:
    """Caller and callee agree; w2 to w7 are SBZ, the last successful request counts (13.2.1)."""
    own = system.profile.version
    asked = Version.parse(call.w(1))
    if call.w(1) & MBZ:
        # Hafnium, tf-a-tests (test_ffa_version_bit31) and the FF-A ACS.
        yield _refused(system, call, "13.2: bit 31 of the version must be zero")
        return
    if asked.major != own.major:
        # 13.2.1: its own version, which the caller may take up or not, or NOT_SUPPORTED.
        where = "13.2.1: versions of another major number"
        yield _refused(system, call, where)
        yield _told(system, call, where)
        if not guest.settled:
            yield _told(system.speaking(guest, own), call, where)
        return
    selected = min(asked, own)
    if not guest.settled:
        after = system.speaking(guest, selected)
        yield _told(after, call, "13.2.1: the callee's version, whichever the caller's is")
    elif selected == guest.version:
        # A caller of a later minor version that asks again changes nothing, either.
        yield _told(system, call, "13.2.1: the version that was negotiated")
    else:
        yield _refused(system, call, "13.2.1: no other version once another call was made")


def _told(after: System, call: Call, where: str) -> Outcome:
    own = exactly(int(after.profile.version), "version")
    return Outcome(answer((own,), high(after, call)), after, where)


def _refused(system: System, call: Call, where: str) -> Outcome:
    refusal = either(UNKNOWN, "version", "NOT_SUPPORTED (-1)")
    assert LOW in refusal
    return Outcome(answer((refusal,), high(system, call)), system, where)
