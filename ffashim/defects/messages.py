# SPDX-License-Identifier: GPL-2.0-only
"""Defects of direct requests, FFA_RUN and FFA_MSG_SEND2."""

from __future__ import annotations

import itertools
from typing import Any

from ffashim.defects import Defect, crashes
from ffashim.ffa import FFA, MSG_FLAG_FRAMEWORK, FfaError, FrameworkMessage
from ffashim.machine import Machine, Points
from ffashim.reply import Reply
from ffashim.spmc.replies import interrupt
from ffashim.testing import at_each_point, lock_up
from ffashim.traffic import SP, direct, guest, message, send2

# --- direct requests -----------------------------------------------------------------------------


def _passes_on_framework_messages(machine: Machine) -> bool:
    vm = guest(machine)
    flags = MSG_FLAG_FRAMEWORK | FrameworkMessage.VM_CREATED
    vm.smc(FFA.MSG_SEND_DIRECT_REQ_32, vm.id << 16 | SP, flags)
    return any(each.rule == "framework-from-vm" for each in machine.spmc.violations)


PASSES_ON_FRAMEWORK_MESSAGES = Defect(
    "passes on framework messages of guests", _passes_on_framework_messages
)


def _aborts_interrupted(machine: Machine) -> bool:
    machine.spmc.messages.handle(SP, lambda _request: interrupt(SP))
    return direct(guest(machine)).error is FfaError.ABORTED


ABORTS_INTERRUPTED = Defect(
    "ABORTED for an SP that was preempted: it cannot be resumed, and stays busy",
    _aborts_interrupted,
)


def _echoes_w1(machine: Machine) -> bool:
    vm = guest(machine)  # first: partitions are told of it by the same call
    machine.spmc.on(FFA.MSG_SEND_DIRECT_REQ_32).reply(FFA.RX_RELEASE)
    return direct(vm).x1 != 0


ECHOES_W1 = Defect("FFA_ERROR holds the request's w1 where the SPMC's answer is none", _echoes_w1)

ANSWERS_AS_WIDE_AS_ASKED = Defect(
    "an answer is as wide as the request: error codes of 64 bits, messages cut to 32",
    # In the name of endpoint 0: an error.
    lambda machine: guest(machine).smc(FFA.MSG_SEND_DIRECT_REQ_64, SP).x2 >> 32 != 0,
)


# --- FFA_RUN -------------------------------------------------------------------------------------

ABORTS_IDLE = Defect(
    "ABORTED where an idle SP answers FFA_MSG_WAIT",
    lambda machine: guest(machine).smc(FFA.RUN, SP << 16).error is FfaError.ABORTED,
)


def _tells_anybody(machine: Machine) -> bool:
    one, two = guest(machine), guest(machine)
    machine.spmc.on(FFA.MSG_SEND_DIRECT_REQ_32).delay(1)
    direct(one, 0x5EC)
    return 0x5EC in two.smc(FFA.RUN, SP << 16)


TELLS_ANYBODY = Defect(
    "a guest that runs an SP gets the answer meant for another guest", _tells_anybody
)


# --- FFA_MSG_SEND2 -------------------------------------------------------------------------------

READS_MISSING_TX = Defect(
    "reads TX of a guest that has none: a NULL pointer, and the end of the host",
    crashes(lambda machine: guest(machine, buffers=False).smc(FFA.MSG_SEND2), "/ffa_msg.c"),
)


def _passes_on(machine: Machine, **fields: Any) -> bool:
    machine.spmc.on(FFA.MSG_SEND2).reply(FFA.SUCCESS_32)
    return send2(guest(machine), SP, **fields).ok


PASSES_ON_NOTHING = Defect(
    "passes on an empty message", lambda machine: _passes_on(machine, size=0)
)

PASSES_ON_WHAT_WRAPS = Defect(
    "passes on a size that wraps around",
    lambda machine: _passes_on(machine, offset=0xFFFF_FFF0, size=0x20),
)


def send_to_the_dying(machine: Machine) -> list[Reply]:
    """Send a message; at each place where Xen can be left, the receiver is destroyed."""
    vm, peer = guest(machine), guest(machine)
    vm.tx.write(message(vm, peer.id, b"are you there?"))
    calls = at_each_point(machine, lambda: vm.smc(FFA.MSG_SEND2), peer.destroy)
    return [reply for reply, _ in calls]


WRITES_TO_THE_DYING = Defect(
    "writes to the receiver's RX after its teardown has unmapped it",
    lambda machine: (
        machine.extension.enabled("FFA_VM_TO_VM")
        and crashes(send_to_the_dying, "/ffa_msg.c")(machine)
    ),
)


def _guests_deadlock(machine: Machine) -> bool:
    """Tell whether two guests can lock up four CPUs.

    Each sends to the other on one vCPU and unmaps its buffers on the other one; the calls stop
    between any two locks before all of them go on. What else may go wrong then is not looked at.
    """
    if not machine.extension.enabled("FFA_VM_TO_VM"):
        return False
    guests = [machine.create_vm("1.1", vcpus=2) for _ in range(2)]
    for one, other in (guests, guests[::-1]):
        one.map_rxtx()
        one.tx.write(message(one, other.id, b"and you?"))
    start = machine.snapshot()
    for steps in itertools.product(range(6), repeat=2):
        machine.restore(start)
        with machine.at_points(lambda _point: None, Points.LOCK | Points.UNLOCK):
            calls = []
            for n, fid in enumerate((FFA.MSG_SEND2, FFA.RXTX_UNMAP)):
                for each in guests:
                    calls.append(each.vcpus[n].start(fid))
                    for _ in range(steps[n]):
                        calls[-1].step()
        if lock_up(calls):
            return True
    return False


GUESTS_DEADLOCK = Defect(
    "locks the receiver's RX inside TX, RXTX_UNMAP the other way round: two guests deadlock",
    _guests_deadlock,
)
