# SPDX-License-Identifier: GPL-2.0-only
"""Direct requests, FFA_RUN and FFA_MSG_SEND2."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import replace

from ffashim.defects.messages import (
    ABORTS_IDLE,
    ABORTS_INTERRUPTED,
    ANSWERS_AS_WIDE_AS_ASKED,
    ECHOES_W1,
    PASSES_ON_FRAMEWORK_MESSAGES,
    PASSES_ON_NOTHING,
    PASSES_ON_WHAT_WRAPS,
    READS_MISSING_TX,
    TELLS_ANYBODY,
)
from ffashim.ffa import FFA, ID_SECURE, MSG_FLAG_FRAMEWORK, PAGE_SIZE, FfaError
from ffashim.model.contents import HEADER_1_1
from ffashim.model.deviation import Deviation
from ffashim.model.deviations.changes import with_register
from ffashim.model.direct import RESPONSE, SUSPENDED, passed_on, told
from ffashim.model.exchange import Answer, Ask, Plan, relayed, request
from ffashim.model.outcome import Outcome, error, high, success
from ffashim.model.registers import ALL, LOW, Allowed, Call, exactly
from ffashim.model.rules import exists
from ffashim.model.state import System

DIRECT = (FFA.MSG_SEND_DIRECT_REQ_32, FFA.MSG_SEND_DIRECT_REQ_64)
PASSED = frozenset({FFA.ERROR, FFA.SUCCESS_32, FFA.SUCCESS_64, *RESPONSE.values()})
"""Answers to a direct request that are told as they are."""


def _framework(system: System, call: Call) -> Iterator[Plan]:
    sender, receiver = call.w(1) >> 16, call.w(1) & 0xFFFF
    caller = system.guest(call.caller)
    if (
        call.fid in DIRECT
        and call.w(2) & MSG_FLAG_FRAMEWORK
        and sender == caller.id
        and receiver & ID_SECURE
        and exists(system, caller, call.fid)
    ):
        yield passed_on(system.settled(caller), system.settled(caller).guest(caller.id), call)


def _requested(
    system: System, call: Call, then: Callable[[System, Answer], Iterator[Plan]]
) -> Iterator[Plan]:
    """A direct request that is passed on, and what becomes of its answers."""
    caller = system.guest(call.caller)
    if call.fid in DIRECT and call.w(1) >> 16 == caller.id and exists(system, caller, call.fid):
        now = system.settled(caller)
        asked = passed_on(now, now.guest(caller.id), call)
        yield replace(asked, then=lambda answer: then(now, answer))


def _aborted(system: System, call: Call) -> Outcome:
    """FFA_ERROR with what the caller has left in w1."""
    return with_register(error(system, call, "", FfaError.ABORTED), 1, exactly(call.w(1)))


def _abort(system: System, call: Call) -> Iterator[Plan]:
    def then(now: System, answer: Answer) -> Iterator[Plan]:
        if answer[0] & LOW in SUSPENDED:
            pair = (call.w(1) & 0xFFFF, call.caller)
            yield _aborted(replace(now, running=now.running | {pair}), call)

    return _requested(system, call, then)


def _echoes(system: System, call: Call) -> Iterator[Plan]:
    def then(now: System, answer: Answer) -> Iterator[Plan]:
        if answer[0] not in PASSED and answer[0] & LOW not in SUSPENDED:
            yield _aborted(now, call)

    return _requested(system, call, then)


def _width(system: System, call: Call) -> Iterator[Plan]:
    def then(now: System, answer: Answer) -> Iterator[Plan]:
        if answer[0] in PASSED:
            mask = ALL if call.wide else LOW
            low = (exactly(value & mask) for value in answer[1:8])
            yield Outcome((exactly(answer[0]), *low, *high(now, call)), now, "")

    return _requested(system, call, then)


def _widened(_system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
    codes = outcome.registers[2].values
    if call.fid == FFA.MSG_SEND_DIRECT_REQ_64 and FFA.ERROR in outcome.registers[0] and codes:
        wide = frozenset(code | ALL ^ LOW for code in codes)
        yield with_register(outcome, 2, Allowed(wide, "status of 64 bits"))


def _idle(system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
    if call.fid == FFA.RUN and FFA.MSG_WAIT in outcome.registers[0]:
        yield error(outcome.after, call, "", FfaError.ABORTED)


def _tells(system: System, call: Call) -> Iterator[Plan]:
    caller = system.guest(call.caller)
    receiver = call.w(1) >> 16
    if call.fid != FFA.RUN or not receiver & ID_SECURE or not exists(system, caller, call.fid):
        return
    now = system.settled(caller)

    def then(reply: Answer) -> Iterator[Plan]:
        if reply[0] & LOW in RESPONSE.values():
            left = frozenset(pair for pair in now.running if pair[0] != receiver)
            yield told(replace(now, running=left), call, "", reply)

    yield Ask(request(FFA.RUN, exactly(call.w(1))), then, "")


def _no_tx(system: System, call: Call) -> bool:
    """Before anything else, whatever the SPMC has and whatever version was agreed on."""
    return call.fid == FFA.MSG_SEND2 and system.guest(call.caller).buffers is None


def sent_anyway(
    system: System, call: Call, fits: Callable[[int, int, int], bool]
) -> Iterator[Plan]:
    """A message to a secure partition is passed on, whatever else may be wrong with it, if it
    ``fits``: that is asked of its offset, its size and the room there is.
    """
    caller = system.guest(call.caller)
    if call.fid != FFA.MSG_SEND2 or not caller.buffers or not exists(system, caller, call.fid):
        return
    offset, receiver, sender, size = struct.unpack_from("<8xIHHI", call.tx)
    named = sender == caller.id and receiver & ID_SECURE and offset >= HEADER_1_1
    if named and fits(offset, size, caller.buffers.pages * PAGE_SIZE):
        now = system.settled(caller)
        registers = request(FFA.MSG_SEND2, exactly(caller.id << 16))
        yield relayed(now, call, "", registers, lambda _: [success(now, call, "")])


def _empty(system: System, call: Call) -> Iterator[Plan]:
    return sent_anyway(system, call, lambda offset, size, room: not size and offset <= room)


def _wraps(system: System, call: Call) -> Iterator[Plan]:
    return sent_anyway(
        system, call, lambda offset, size, room: offset + size > LOW and offset + size & LOW <= room
    )


DEVIATIONS = [
    Deviation(PASSES_ON_FRAMEWORK_MESSAGES, does=_framework, forbidden="framework-from-vm"),
    Deviation(ABORTS_INTERRUPTED, does=_abort),
    Deviation(ECHOES_W1, does=_echoes),
    Deviation(ANSWERS_AS_WIDE_AS_ASKED, does=_width, says=_widened),
    Deviation(ABORTS_IDLE, says=_idle),
    Deviation(TELLS_ANYBODY, does=_tells),
    Deviation(READS_MISSING_TX, ends=_no_tx),
    Deviation(PASSES_ON_NOTHING, does=_empty),
    Deviation(PASSES_ON_WHAT_WRAPS, does=_wraps),
]
