# SPDX-License-Identifier: GPL-2.0-only
"""Direct requests, FFA_RUN and FFA_MSG_SEND2."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from ffashim import capabilities
from ffashim.ffa import FFA, ID_SECURE, MSG_FLAG_FRAMEWORK, PAGE_SIZE, FfaError
from ffashim.machine import Machine
from ffashim.model.contents import HEADER_1_1
from ffashim.model.deviation import Deviation
from ffashim.model.deviations.changes import with_register
from ffashim.model.direct import RESPONSE, SUSPENDED, passed_on, told
from ffashim.model.exchange import Answer, Ask, Plan, relayed, request
from ffashim.model.outcome import Outcome, error, high, success
from ffashim.model.registers import ALL, LOW, Allowed, Call, exactly
from ffashim.model.rules import exists
from ffashim.model.state import System
from ffashim.spmc.replies import interrupt
from ffashim.traffic import SP, crashes, direct, guest, send2
from ffashim.vm import Vm

DIRECT = (FFA.MSG_SEND_DIRECT_REQ_32, FFA.MSG_SEND_DIRECT_REQ_64)
PASSED = frozenset({FFA.ERROR, FFA.SUCCESS_32, FFA.SUCCESS_64, *RESPONSE.values()})
"""Answers to a direct request that are told as they are."""


def _framework_probe(machine: Machine) -> bool:
    vm = guest(machine, buffers=False)
    direct_to(vm, MSG_FLAG_FRAMEWORK | 4)
    return any(each.rule == "framework-from-vm" for each in machine.spmc.violations)


def direct_to(vm: Vm, flags: int) -> None:
    """Send a direct request with flags."""
    vm.smc(FFA.MSG_SEND_DIRECT_REQ_32, vm.id << 16 | SP, flags)


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


def _abort_probe(machine: Machine) -> bool:
    machine.spmc.messages.handle(SP, lambda _request: interrupt(SP))
    return direct(guest(machine)).error is FfaError.ABORTED


def _abort(system: System, call: Call) -> Iterator[Plan]:
    def then(now: System, answer: Answer) -> Iterator[Plan]:
        if answer[0] & LOW in SUSPENDED:
            pair = (call.w(1) & 0xFFFF, call.caller)
            yield _aborted(replace(now, running=now.running | {pair}), call)

    return _requested(system, call, then)


def _echoes_probe(machine: Machine) -> bool:
    vm = guest(machine, buffers=False)
    machine.spmc.on(FFA.MSG_SEND_DIRECT_REQ_32).reply(FFA.RX_RELEASE)
    return direct(vm).x1 != 0


def _echoes(system: System, call: Call) -> Iterator[Plan]:
    def then(now: System, answer: Answer) -> Iterator[Plan]:
        if answer[0] not in PASSED and answer[0] & LOW not in SUSPENDED:
            yield _aborted(now, call)

    return _requested(system, call, then)


def _width_probe(machine: Machine) -> bool:
    return guest(machine, buffers=False).smc(FFA.MSG_SEND_DIRECT_REQ_64, SP).x2 >> 32 != 0


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


def _idle_probe(machine: Machine) -> bool:
    if FFA.RUN not in capabilities.handled(machine):
        return False
    machine.boot()
    return guest(machine, buffers=False).smc(FFA.RUN, SP << 16).error is FfaError.ABORTED


def _idle(system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
    if call.fid == FFA.RUN and FFA.MSG_WAIT in outcome.registers[0]:
        yield error(outcome.after, call, "", FfaError.ABORTED)


def _tells_probe(machine: Machine) -> bool:
    if FFA.RUN not in capabilities.handled(machine):
        return False
    machine.boot()
    one, two = guest(machine, buffers=False), guest(machine, buffers=False)
    machine.spmc.on(FFA.MSG_SEND_DIRECT_REQ_32).delay(1)
    direct(one, 0x5EC)
    return 0x5EC in two.smc(FFA.RUN, SP << 16)


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


def _takes(machine: Machine, **fields: Any) -> bool:
    machine.spmc.on(FFA.MSG_SEND2).reply(FFA.SUCCESS_32)
    return send2(guest(machine), SP, **fields).ok


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
    Deviation(
        "passes on framework messages of guests",
        _framework_probe,
        does=_framework,
        forbidden="framework-from-vm",
    ),
    Deviation(
        "ABORTED for an SP that was preempted: it cannot be resumed, and stays busy",
        _abort_probe,
        does=_abort,
    ),
    Deviation(
        "FFA_ERROR holds the request's w1 where the SPMC's answer is none",
        _echoes_probe,
        does=_echoes,
    ),
    Deviation(
        "an answer is as wide as the request: error codes of 64 bits, messages cut to 32",
        _width_probe,
        does=_width,
        says=_widened,
    ),
    Deviation("ABORTED where an idle SP answers FFA_MSG_WAIT", _idle_probe, says=_idle),
    Deviation(
        "a guest that runs an SP gets the answer meant for another guest",
        _tells_probe,
        does=_tells,
    ),
    Deviation(
        "reads TX of a guest that has none: a NULL pointer, and the end of the host",
        crashes(lambda machine: guest(machine, buffers=False).smc(FFA.MSG_SEND2), "/ffa_msg.c"),
        ends=_no_tx,
    ),
    Deviation("passes on an empty message", lambda machine: _takes(machine, size=0), does=_empty),
    Deviation(
        "passes on a size that wraps around",
        lambda machine: _takes(machine, offset=0xFFFF_FFF0, size=0x20),
        does=_wraps,
    ),
]
