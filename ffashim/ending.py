# SPDX-License-Identifier: GPL-2.0-only
"""The end of a guest, and of a test: nothing may be left, in Xen or in the secure world."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ffashim.alarms import Alarm, AlarmKind
from ffashim.holdings import holdings, leaks
from ffashim.spmc import Spmc
from ffashim.symbols import symbols

if TYPE_CHECKING:
    from ffashim.machine import Machine
    from ffashim.vm import Vm

PATIENCE = 64
"""How often timers may run, at the end, before they count as endless."""


def of_guest(machine: Machine, vm: Vm) -> Iterator[Alarm]:
    """Yield what is left of a guest that has just been freed."""
    yield from leaks(machine, vm.owner, f"domain {vm.domid}")
    if isinstance(machine.spmc, Spmc) and not machine.spmc.state.scripted:
        for left in machine.spmc.residue(vm.id):
            # No call of a hypervisor's ends a direct request.
            if "still runs a direct request" not in left:
                yield Alarm(AlarmKind.SPMC, f"domain {vm.domid} is gone; {left}")


def of_heap(machine: Machine) -> Iterator[Alarm]:
    """Yield the block, if there is one, that was written to where it may not be."""
    block = machine.ffi.new("ffashim_block *")
    if how := machine.lib.ffashim_damaged(block):
        place = machine.told.site(block.caller, block.outer)
        when = ("before its start", "past its end", "after it was freed")[how - 1]
        yield Alarm(
            AlarmKind.HEAP,
            f"a block of {block.size} bytes, allocated by {place}, was written to {when}",
        )


def of_test(machine: Machine) -> list[Alarm]:
    """Let all guests die, and what Xen still has to do be done. Returns the machine's alarms.

    A machine that has stopped, is in the middle of a call or was taken over by another one, and one
    with a secure world of a test's own, is left as it is. Where a script has answered in the secure
    world's place, what Xen cannot let go of, or hands on, may be due to that, and does not count;
    what it leaks does. Raises XenFault if Xen does not survive it.
    """
    lib, world = machine.lib, machine.spmc
    if machine._core.owner is not machine:
        return []
    busy = any(lib.ffashim_cpu_state(cpu) for cpu in range(machine.cpus))
    own = not isinstance(world, Spmc)
    scripted = own or world.state.scripted

    def counting(alarms: list[Alarm]) -> list[Alarm]:
        # What a lying SPMC lets Xen believe to be written, Xen hands on.
        return [each for each in alarms if not scripted or each.kind is not AlarmKind.DISCLOSED]

    if machine.stopped or busy or own:
        return counting([*machine.alarms, *(() if machine.stopped else of_heap(machine))])
    world.state.rules = {}
    world.state.running = {}
    machine.fail_allocation(0, 0)
    machine.fail_mapping(0)
    for vm in list(machine.vms.values()):
        if not vm.dead:
            vm.destroy()
    ran = 0
    while machine.timers and ran < PATIENCE:
        ran += machine.advance(1)
    alarms = counting([*machine.alarms, *of_heap(machine)])
    if scripted:
        return alarms
    for vm in machine.vms.values():
        # What the secure world still has keeps the guest, by right.
        if not (world.memory.residue(vm.id) or world.buffers.residue(vm.id)):
            alarms.append(_zombie(machine, vm))
    if machine.timers and not machine.vms:
        place = symbols(machine.extension.path).place(lib.ffashim_timer_function())
        alarms.append(
            Alarm(AlarmKind.TIMER, f"all guests are gone, and {place} is called for ever")
        )
    return alarms


def _zombie(machine: Machine, vm: Vm) -> Alarm:
    ways = tuple(map(str, holdings(machine, vm.owner)))
    return Alarm(AlarmKind.ZOMBIE, f"domain {vm.domid} is dead and is never freed", ways)
