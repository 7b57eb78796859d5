# SPDX-License-Identifier: GPL-2.0-only
"""FFA_RXTX_MAP, FFA_RXTX_UNMAP, FFA_RX_RELEASE (FF-A 1.2, 13.6, 13.7, 13.5, and 7.2.2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ffashim.ffa import FFA, PAGE_SIZE, FfaError
from ffashim.model.outcome import Outcome, error, success
from ffashim.model.registers import Call
from ffashim.model.rules import rule
from ffashim.model.state import Buffers, Guest, System


@rule(FFA.RXTX_MAP_32, FFA.RXTX_MAP_64)
def rxtx_map(system: System, guest: Guest, call: Call) -> Iterator[Outcome]:
    """x1 TX, x2 RX, w3[5:0] pages, w3[31:6] MBZ (13.6); whichever check comes first."""
    tx, rx, pages = call.argument(1), call.argument(2), call.w(3)
    errors = set()
    if guest.buffers is not None:
        errors.add(FfaError.DENIED)  # FF-A ACS ffa_rxtx_map_and_unmap
    if (
        not 1 <= pages <= system.profile.rxtx_pages
        or tx % PAGE_SIZE
        or rx % PAGE_SIZE
        or abs(tx - rx) < pages * PAGE_SIZE
        or not (guest.has(tx, pages) and guest.has(rx, pages))
    ):
        errors.add(FfaError.INVALID_PARAMETERS)
    if errors:
        yield error(system, call, "13.6", *errors)
        return
    after = system.having(replace(guest, buffers=Buffers(tx, rx, pages)))
    yield success(system, call, "13.6", after=after)


@rule(FFA.RXTX_UNMAP)
def rxtx_unmap(system: System, guest: Guest, call: Call) -> Iterator[Outcome]:
    """w1[31:16] names a VM at the physical instance; here it must be zero, or is the caller's own,
    as the FF-A ACS has it. Another one may be refused or ignored; nobody else's pair is taken.
    """
    errors = set()
    if guest.buffers is None:
        errors.add(FfaError.INVALID_PARAMETERS)  # FF-A ACS ffa_rxtx_map_and_unmap
    elif guest.buffers.owned:
        errors |= system.profile.unmap_of_held_rx
    if call.w(1) >> 16 not in (0, guest.id):
        yield error(system, call, "13.7: another's ID", FfaError.INVALID_PARAMETERS, *errors)
    if errors:
        yield error(system, call, "13.7", *errors)
        return
    yield success(system, call, "13.7", after=system.having(replace(guest, buffers=None)))


@rule(FFA.RX_RELEASE)
def rx_release(system: System, guest: Guest, call: Call) -> Iterator[Outcome]:
    """Who owns RX gives it back; w1 names a VM at the physical instance only (13.5)."""
    if guest.buffers is None or not guest.buffers.owned:
        yield error(system, call, "13.5: the caller does not own RX", FfaError.DENIED)
        return
    released = replace(guest, buffers=replace(guest.buffers, owned=False))
    yield success(system, call, "13.5", after=system.having(released))
