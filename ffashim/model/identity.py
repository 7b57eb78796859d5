# SPDX-License-Identifier: GPL-2.0-only
"""FFA_ID_GET and FFA_SPM_ID_GET (FF-A 1.2, 13.10 and 13.11)."""

from __future__ import annotations

from collections.abc import Iterator

from ffashim.ffa import FFA, ID_SECURE
from ffashim.model.outcome import Outcome, success
from ffashim.model.registers import Allowed, Call, exactly
from ffashim.model.rules import rule
from ffashim.model.state import Guest, System


@rule(FFA.ID_GET)
def id_get(system: System, guest: Guest, call: Call) -> Iterator[Outcome]:
    """The caller's own ID in w2[15:0]; the upper half of w2 is MBZ."""
    yield success(system, call, "13.10", exactly(guest.id, "endpoint ID"))


@rule(FFA.SPM_ID_GET)
def spm_id_get(system: System, _guest: Guest, call: Call) -> Iterator[Outcome]:
    """The ID of an SPM: IMPLEMENTATION DEFINED, of 16 bits, and a secure one by 6.1."""
    secure = frozenset({ID_SECURE})
    ids = Allowed(secure, "SPM's ID", (1 << 64) - 1 & ~(ID_SECURE - 1), "0x8000 to 0xffff")
    yield success(system, call, "13.11", ids)
