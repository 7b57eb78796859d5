# SPDX-License-Identifier: GPL-2.0-only
"""Defects of guests that come and go."""

from __future__ import annotations

from ffashim.defects import Defect, crashes
from ffashim.ffa import FFA, FfaError, FrameworkMessage
from ffashim.machine import DomainError, Machine
from ffashim.traffic import direct, guest


def _forgets_failed_vm(machine: Machine) -> bool:
    try:
        machine.create_vm(domid=1, fail_late=True)
    except DomainError:
        return bool(machine.spmc.residue(2))
    return False


FORGETS_FAILED_VM = Defect(
    "frees the context of a guest before its teardown: SPs are not told, the bitmaps stay",
    _forgets_failed_vm,
)


def _bars_guests(machine: Machine) -> bool:
    busy = guest(machine, buffers=False)
    machine.spmc.on(FFA.MSG_SEND_DIRECT_REQ_32).delay(1)
    direct(busy)
    try:
        machine.create_vm()
    except DomainError:
        return True
    return False


BARS_GUESTS = Defect(
    "an SP that a guest has left preempted keeps all others from being created", _bars_guests
)


def _never_runs_again(machine: Machine) -> bool:
    rule = machine.spmc.on(FFA.MSG_SEND_DIRECT_REQ_32).framework(FrameworkMessage.VM_CREATED)
    rule.preempt()
    try:
        machine.create_vm()
    except DomainError:
        return True
    return False


NEVER_RUNS_AGAIN = Defect(
    "never runs an SP again that was preempted while it was told of a guest", _never_runs_again
)


def _gives_up_on_retry(machine: Machine) -> bool:
    rule = machine.spmc.on(FFA.MSG_SEND_DIRECT_REQ_32).framework(FrameworkMessage.VM_DESTROYED)
    rule.status(FfaError.RETRY)
    machine.create_vm().destroy()
    return machine.timers == 0


GIVES_UP_ON_RETRY = Defect("gives up on an SP that answers RETRY", _gives_up_on_retry)


def _frees_what_the_timer_needs(machine: Machine) -> bool:
    if _gives_up_on_retry(machine):
        return False
    return crashes(lambda m: m.advance(2), "ffa_(domain_)?teardown_")(machine)


FREES_WHAT_THE_TIMER_NEEDS = Defect(
    "frees the context of a domain whose teardown is to be retried: the timer runs on freed memory",
    _frees_what_the_timer_needs,
)
