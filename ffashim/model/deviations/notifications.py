# SPDX-License-Identifier: GPL-2.0-only
"""Notifications."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ffashim import capabilities
from ffashim.ffa import FFA, FfaError
from ffashim.machine import Machine
from ffashim.model.deviation import Deviation
from ffashim.model.deviations.changes import Seen, same, with_arguments, with_register
from ffashim.model.notifications import BELOW
from ffashim.model.outcome import Outcome
from ffashim.model.registers import Call, function
from ffashim.model.state import Source, System
from ffashim.traffic import SP, bind, guest, send2, swaps_notification_halves

BITS = 1 << 32 | 1
"""Notifications that are the same ones with their halves swapped."""


def _wide_probe(machine: Machine) -> bool:
    if FFA.NOTIFICATION_INFO_GET_32 not in capabilities.handled(machine):
        return False
    machine.boot()
    vm = guest(machine, buffers=False)
    bind(vm, BITS)
    machine.spmc.notifications.notify(SP, vm.id, BITS)
    return vm.smc(FFA.NOTIFICATION_INFO_GET_32).fid == FFA.SUCCESS_64


def _wide(system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
    if call.fid == FFA.NOTIFICATION_INFO_GET_32 and FFA.SUCCESS_32 in outcome.registers[0]:
        yield with_register(outcome, 0, function(FFA.SUCCESS_64))


def _bitmap_probe(machine: Machine) -> bool:
    if FFA.NOTIFICATION_BIND not in capabilities.handled(machine):
        return False
    machine.boot()
    vm = guest(machine, buffers=False)
    bind(vm, BITS)
    machine.spmc.notifications.notify(SP, vm.id, BITS)
    vm.destroy()
    return vm.id in machine.spmc.state.bitmaps


def _forgets_probe(machine: Machine) -> bool:
    if FFA.NOTIFICATION_GET not in capabilities.handled(machine):
        return False
    machine.boot()
    vm = guest(machine, buffers=False)
    bind(vm, BITS)
    machine.spmc.notifications.notify(SP, vm.id, BITS)
    machine.spmc.on(FFA.NOTIFICATION_GET).error(FfaError.BUSY, times=1)
    vm.smc(FFA.NOTIFICATION_GET, vm.id, BELOW)
    return vm.smc(FFA.NOTIFICATION_INFO_GET_64).error is FfaError.NO_DATA


def _forgets(_system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
    """It forgets before it asks for all that the secure world has."""
    failed = FFA.ERROR in outcome.registers[0]
    if call.fid == FFA.NOTIFICATION_GET and failed and call.w(2) & BELOW == BELOW:
        caller = outcome.after.guest(call.caller)
        left = replace(caller, news=caller.news - {Source.SECURE})
        yield replace(outcome, after=outcome.after.having(left))


def _deaf_probe(machine: Machine) -> bool:
    if not machine.extension.enabled("FFA_VM_TO_VM"):
        return False
    sender, receiver = guest(machine), machine.create_vm("1.1", vcpus=2)
    receiver.map_rxtx()
    receiver.offline()
    send2(sender, receiver.id)
    return [each.vcpu for each in machine.virqs] != [1]


def _deaf(system: System, call: Call) -> Seen:
    """It tells the first vCPU, whether it is online or not."""
    known = {each.id: each.offline for each in system.guests}
    if call.fid != FFA.MSG_SEND2 or not any(0 in each for each in known.values()):
        return

    def restore(after: System) -> System:
        for each in after.guests:
            after = after.having(replace(each, offline=known[each.id]))
        return after

    deaf = tuple(
        replace(each, offline=frozenset(range(each.vcpus)) if 0 in each.offline else each.offline)
        for each in system.guests
    )
    yield replace(system, guests=deaf), call, restore


def _swapped(system: System, call: Call) -> Seen:
    if call.fid in (FFA.NOTIFICATION_BIND, FFA.NOTIFICATION_UNBIND) and call.w(3) != call.w(4):
        yield system, with_arguments(call, x3=call.w(4), x4=call.w(3)), same


DEVIATIONS = [
    Deviation(
        "the halves of the bitmap reach the SPMC the wrong way round",
        lambda machine: (
            FFA.NOTIFICATION_BIND in capabilities.handled(machine)
            and capabilities.probe(machine, swaps_notification_halves)
        ),
        sees=_swapped,
    ),
    Deviation("FFA_SUCCESS_64 in answer to FFA_NOTIFICATION_INFO_GET_32", _wide_probe, says=_wide),
    Deviation(
        "does not collect what is pending: the SPMC keeps the bitmap, and the ID is lost",
        _bitmap_probe,
        leaves="notification bitmap",
    ),
    Deviation(
        "a FFA_NOTIFICATION_GET that fails makes FFA_NOTIFICATION_INFO_GET forget",
        _forgets_probe,
        says=_forgets,
        silent=True,
    ),
    Deviation("tells a vCPU that is offline of a full RX buffer", _deaf_probe, sees=_deaf),
]
