# SPDX-License-Identifier: GPL-2.0-only
"""FFA_FEATURES (FF-A 1.2, 13.3): what it reports and what can be called are the same."""

from __future__ import annotations

from collections.abc import Iterator

from ffashim.ffa import FFA, V1_2, Feature, FfaError
from ffashim.model.outcome import Outcome, error, success
from ffashim.model.registers import Call, either, exactly
from ffashim.model.rules import exists, rule
from ffashim.model.state import Guest, System

REPORTED = frozenset({FFA.ERROR, FFA.SUCCESS_32, FFA.INTERRUPT})
"""Answers that every guest can meet (the FF-A ACS's ffa_features has the list)."""
PRIVATE = range(32)
"""SGIs and PPIs: the interrupts of notifications are private to a vCPU (1.2, 10.4)."""


@rule(FFA.FEATURES)
def features(system: System, guest: Guest, call: Call) -> Iterator[Outcome]:
    """w1 is a function ID or, with bit 31 clear, a feature ID; w3 to w7 are SBZ.

    w2 has a meaning for FFA_MEM_RETRIEVE_REQ and such only, and is SBZ elsewhere.
    """
    what = call.w(1)
    if what == Feature.NOTIF_PEND_INTR and exists(system, guest, FFA.NOTIFICATION_GET):
        own = system.profile.notification_interrupt
        yield success(system, call, "13.3, Table 13.13", exactly(own, "interrupt ID"))
    elif what == Feature.SCHEDULE_RECV_INTR and exists(system, guest, FFA.NOTIFICATION_GET):
        # A guest may schedule receivers of its own (9.5): another of its private interrupts.
        others = set(PRIVATE) - {system.profile.notification_interrupt}
        told = either(others, "interrupt ID", "0 to 31, another one")
        yield success(system, call, "13.3, Table 13.13", told)
        yield from _absent(system, call)
    elif what in (FFA.RXTX_MAP_32, FFA.RXTX_MAP_64) and exists(system, guest, what):
        # w2[1:0]: aligned to 4 KiB, as 0 says. Since 1.2, [31:16]: the most pages, 0 is any.
        most = system.profile.rxtx_pages << 16 if guest.version and guest.version >= V1_2 else 0
        yield success(system, call, "13.3, Table 13.14", exactly(most, "properties"))
    elif what in REPORTED or exists(system, guest, what):
        yield success(system, call, "13.3: it can be called")
    elif what == FFA.SUCCESS_64 and guest.bits == 64:
        # There only if an answer uses it.
        yield success(system, call, "13.3: an answer that the guest can meet")
        yield from _absent(system, call)
    else:
        yield from _absent(system, call)


def _absent(system: System, call: Call) -> Iterator[Outcome]:
    yield error(system, call, "13.3: it cannot be called", FfaError.NOT_SUPPORTED)
