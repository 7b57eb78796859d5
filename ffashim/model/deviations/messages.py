# SPDX-License-Identifier: GPL-2.0-only
"""Direct requests and FFA_RUN."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ffashim import capabilities
from ffashim.ffa import FFA, ID_SECURE, MSG_FLAG_FRAMEWORK, FfaError
from ffashim.machine import Machine
from ffashim.model.deviation import Deviation
from ffashim.model.direct import RESPONSE, passed_on, told
from ffashim.model.exchange import Answer, Ask, Plan, request
from ffashim.model.outcome import Outcome, error
from ffashim.model.registers import LOW, Call, exactly
from ffashim.model.rules import exists
from ffashim.model.state import System
from ffashim.traffic import SP, direct, guest
from ffashim.vm import Vm

DIRECT = (FFA.MSG_SEND_DIRECT_REQ_32, FFA.MSG_SEND_DIRECT_REQ_64)


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


DEVIATIONS = [
    Deviation(
        "passes on framework messages of guests",
        _framework_probe,
        does=_framework,
        forbidden="framework-from-vm",
    ),
    Deviation("ABORTED where an idle SP answers FFA_MSG_WAIT", _idle_probe, says=_idle),
    Deviation(
        "a guest that runs an SP gets the answer meant for another guest",
        _tells_probe,
        does=_tells,
    ),
]
