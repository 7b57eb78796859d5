# SPDX-License-Identifier: GPL-2.0-only
"""RX and TX, and what the SPMC knows of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ffashim.defects.buffers import (
    BLAMES_THE_GUEST,
    HIDES_BUFFERS,
    KEEPS_FILLED_RX,
    TAKES_NO_PAGES,
    TAKES_ONE_PAGE_TWICE,
    TAKES_UNALIGNED,
    TRIPS_OVER_RX,
    UNMAPS_OWNED_RX,
)
from ffashim.ffa import FFA, PAGE_SIZE, FfaError
from ffashim.model.deviation import Deviation
from ffashim.model.deviations.changes import Seen, same, with_arguments
from ffashim.model.deviations.messages import sent_anyway
from ffashim.model.exchange import Plan
from ffashim.model.outcome import Outcome, error, success
from ffashim.model.registers import Call
from ffashim.model.rules import exists
from ffashim.model.state import Buffers, System

MAPS = (FFA.RXTX_MAP_32, FFA.RXTX_MAP_64)


def _no_pages(_system: System, call: Call) -> bool:
    return call.fid in MAPS and call.w(3) == 0


def _no_rx(system: System, call: Call) -> bool:
    page = call.argument(2) & -PAGE_SIZE
    return call.fid in MAPS and not system.guest(call.caller).has(page, 1)


def _same_page(system: System, call: Call) -> Iterator[Plan]:
    """It holds the page twice."""
    caller = system.guest(call.caller)
    tx, rx, pages = call.argument(1), call.argument(2), call.w(3)
    if call.fid not in MAPS or tx != rx or tx % PAGE_SIZE or pages != 1 or caller.buffers:
        return
    if exists(system, caller, call.fid) and caller.has(tx, 1) and not system.secure.knows_buffers:
        now = system.settled(caller)
        mapped = replace(now.guest(caller.id), buffers=Buffers(tx, rx))
        yield success(now, call, "", after=now.having(mapped))


def _rounds(system: System, call: Call) -> Seen:
    tx, rx = (call.argument(n) for n in (1, 2))
    if call.fid in MAPS and (tx % PAGE_SIZE or rx % PAGE_SIZE):
        yield system, with_arguments(call, x1=tx & -PAGE_SIZE, x2=rx & -PAGE_SIZE), same


def _unmap(_system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
    guest = outcome.after.guest(call.caller)
    if call.fid == FFA.RXTX_UNMAP and guest.buffers and guest.buffers.owned:
        yield success(outcome.after.having(replace(guest, buffers=None)), call, "")


def _hides(system: System, call: Call) -> Seen:
    """To it, guests' buffers are none of the SPMC's business."""
    secure = system.secure
    if secure.knows_buffers:
        blind = replace(secure, calls=secure.calls - {FFA.RX_ACQUIRE})
        yield (
            replace(system, secure=blind),
            call,
            lambda after: replace(after, secure=secure),
        )


def _sends_anyway(system: System, call: Call) -> Iterator[Plan]:
    """Whether the SPMC knows TX is not asked."""
    return sent_anyway(system, call, lambda offset, size, room: 0 < size <= room - offset)


def _filled(system: System, call: Call) -> Iterator[Plan]:
    caller = system.guest(call.caller)
    if call.fid == FFA.RX_RELEASE and caller.buffers and caller.buffers.filled_below:
        yield error(system.settled(caller), call, "", FfaError.DENIED)


def _no_room(system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
    if call.fid in MAPS and call.scarce and FfaError.NO_MEMORY.w in outcome.registers[2]:
        yield error(outcome.after, call, "", FfaError.INVALID_PARAMETERS)


DEVIATIONS = [
    Deviation(BLAMES_THE_GUEST, says=_no_room),
    Deviation(TAKES_NO_PAGES, ends=_no_pages),
    Deviation(TRIPS_OVER_RX, ends=_no_rx),
    Deviation(TAKES_ONE_PAGE_TWICE, does=_same_page),
    Deviation(TAKES_UNALIGNED, sees=_rounds),
    Deviation(UNMAPS_OWNED_RX, says=_unmap),
    Deviation(
        HIDES_BUFFERS,
        sees=_hides,
        does=_sends_anyway,
        forbidden=r"MSG_SEND2: VM \d+ has no TX buffer here",
    ),
    Deviation(KEEPS_FILLED_RX, does=_filled),
]
