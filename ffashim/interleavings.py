# SPDX-License-Identifier: GPL-2.0-only
"""A call in the middle of another one: what comes of both must be what comes of one order of them.

Two guests, of three vCPUs each, and a third that has not made its version final. A call of the
first or the third is left at each of its switch points in turn, and another vCPU, of the same guest
or of another, makes a call there. Answers and all that is left behind (memory, page references,
interrupts, what the secure world holds, and what guests are answered afterwards) are compared with
those of one call after the other. FF-A has no word for how a hypervisor orders calls, only for what
each of them does: BUSY and RETRY are always allowed (13.1), and do what no call does.

The machine itself is the measure: what is wrong in both orders is not seen here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from ffashim.errors import UsageError
from ffashim.faults import XenFault
from ffashim.ffa import FFA, FfaError, fid_name
from ffashim.machine import Machine
from ffashim.memory import PAGE
from ffashim.reply import Reply
from ffashim.traffic import SP, bind, guest, handle_of, message, share, transaction, version_of
from ffashim.vm import Vm

PAGES = 12
"""Of each guest's RAM: what is compared."""
BITS = 1
SITUATIONS = ("RX held", "no buffers", "a share", "a message to a guest", "notified")
"""How things stand for both guests before the calls: see `Scene`."""
_AGAIN = frozenset({FfaError.BUSY.w, FfaError.RETRY.w})

Registers = Sequence[int]
Outcome = tuple[object, ...]
"""All that is left behind, and what guests are answered then."""


@dataclass(frozen=True)
class Act:
    """A call of one of the guests, or its end."""

    who: Vm
    name: str
    registers: Registers = ()
    """None: the guest is destroyed."""

    @property
    def fid(self) -> int:
        """The function, 0 for the end of a guest."""
        return self.registers[0] if self.registers else 0

    def take(self, vcpu: int) -> Reply | None:
        """Do it on a vCPU. Raises a XenFault if it does not return."""
        if self.registers:
            return self.who.vcpus[vcpu].smc(*self.registers)
        self.who.destroy()
        return None


@dataclass(frozen=True)
class Clash:
    """An outcome that neither order has. point: the switch point, from 0."""

    outer: Act
    inner: Act
    point: int
    what: str

    def __str__(self) -> str:
        return f"{self.inner.name}, at switch point {self.point} of {self.outer.name}: {self.what}"


@dataclass
class Scene:
    """The guests, in one of the situations. The machine must be booted."""

    machine: Machine
    situation: str
    guests: list[Vm] = field(default_factory=list)
    known: dict[Vm, dict[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for _ in range(2):
            vm = guest(self.machine, vcpus=3)
            self.guests.append(vm)
        for vm, other in (self.guests, self.guests[::-1]):
            self.known[vm] = self._prepare(vm, other)
        late = self.machine.create_vm(vcpus=2)
        late.smc(FFA.VERSION, 0x1_0002)
        self.guests.append(late)

    def _prepare(self, vm: Vm, other: Vm) -> dict[str, int]:
        base, handle = vm.memory.base, 0
        lent, next_one = (transaction(vm, (base + n * PAGE, 1)) for n in (6, 7))
        if self.situation == "a share" and (reply := share(vm, lent)).ok:
            handle = handle_of(reply)
        if self.situation == "a message to a guest":
            data = message(vm, other.id, b"hello")
        else:
            data = next_one.encode(version_of(vm))
        vm.tx.write(data)
        if self.situation == "RX held":
            vm.smc(FFA.PARTITION_INFO_GET)
        if self.situation == "no buffers":
            vm.smc(FFA.RXTX_UNMAP)
        if self.situation == "notified" and bind(vm, BITS).ok:
            with suppress(UsageError):  # a tree that has bound others
                self.machine.spmc.notifications.notify(SP, vm.id, BITS)
        return {"length": len(data), "handle": handle}

    def calls(self, vm: Vm) -> Mapping[str, Registers]:
        """Return what a guest may call, by name."""
        base, length, handle = vm.memory.base, *self.known[vm].values()
        plain: list[Registers] = [
            [FFA.ID_GET],
            [FFA.VERSION, 0x1_0001],
            [FFA.FEATURES, FFA.RXTX_MAP_64],
            [FFA.RXTX_MAP_64, base + 8 * PAGE, base + 9 * PAGE, 1],
            [FFA.RXTX_UNMAP],
            [FFA.RX_RELEASE],
            [FFA.PARTITION_INFO_GET],
            [FFA.PARTITION_INFO_GET_REGS],
            [FFA.PARTITION_INFO_GET_REGS, 0, 0, 5],
            [FFA.MSG_SEND2],
            [FFA.MEM_SHARE_64, length, length],
            [FFA.MEM_RECLAIM, handle & 0xFFFF_FFFF, handle >> 32],
            [FFA.NOTIFICATION_BIND, SP << 16 | vm.id, 0, BITS << 1],
            [FFA.NOTIFICATION_UNBIND, SP << 16 | vm.id, 0, BITS],
            [FFA.NOTIFICATION_GET, vm.id, 15],
            [FFA.NOTIFICATION_INFO_GET_64],
            [FFA.MSG_SEND_DIRECT_REQ_32, vm.id << 16 | SP, 0, 1],
            [FFA.RUN, SP << 16],
        ]
        return {_named(registers): registers for registers in plain}

    def outers(self) -> Iterator[Act]:
        """Yield the calls that others are made in the middle of."""
        first, _, late = self.guests
        for name, registers in self.calls(first).items():
            yield Act(first, name, registers)
        yield from self._entering(late)

    def inners(self) -> Iterator[Act]:
        """Yield what is done in the middle of them."""
        first, second, late = self.guests
        for vm, whose in ((first, "of the same guest"), (second, "of another guest")):
            for name, registers in self.calls(vm).items():
                yield Act(vm, f"{name} {whose}", registers)
        yield from self._entering(late)
        yield Act(second, "the end of another guest")

    @staticmethod
    def _entering(late: Vm) -> Iterator[Act]:
        base, whose = late.memory.base, "of a guest that makes its version final"
        for registers in ([FFA.ID_GET], [FFA.RXTX_MAP_64, base, base + PAGE, 1]):
            yield Act(late, f"{_named(registers)} {whose}", registers)


def _named(registers: Registers) -> str:
    start = " from 5" if registers[0] == FFA.PARTITION_INFO_GET_REGS and registers[1:] else ""
    return fid_name(registers[0]) + start


def clashes(scene: Scene, outer: Act) -> Iterator[Clash]:
    """Yield what neither order has, the first point of each pair of calls only."""
    machine = scene.machine
    start, interrupts = machine.snapshot(), len(machine.virqs)
    for inner in scene.inners():
        try:
            orders = [
                _in_turn(scene, outer, inner, start, interrupts, first) for first in (True, False)
            ]
        except XenFault:
            continue  # not of their meeting
        for point in itertools.count():
            machine.restore(start)
            try:
                answers = _meet(machine, outer, inner, point)
                if answers is None:
                    break
                wrong = _judge(orders, answers, scene, interrupts)
            except XenFault as fault:
                wrong = f"does not return: {fault}"
            if wrong:
                yield Clash(outer, inner, point, wrong)
                break
    machine.restore(start)


def _in_turn(
    scene: Scene, outer: Act, inner: Act, start: object, interrupts: int, first: bool
) -> tuple[list[Reply | None], Outcome]:
    """Do one after the other: the inner one first, or last."""
    scene.machine.restore(start)
    if first:
        reply = inner.take(1)
        answers = [outer.take(0), reply]
    else:
        answers = [outer.take(0), inner.take(1)]
    return answers, _left(scene, interrupts) if inner.registers else ()


def _meet(machine: Machine, outer: Act, inner: Act, point: int) -> list[Reply | None] | None:
    """Do one in the middle of the other; None if that has no such point."""
    seen = itertools.count()
    inside: list[Reply | None] = []

    def reached(_point: object) -> None:
        if next(seen) == point:
            inside.append(inner.take(1))

    with machine.at_points(reached):
        answer = outer.take(0)
    return [answer, *inside] if inside else None


def _judge(
    orders: Sequence[tuple[list[Reply | None], Outcome]],
    answers: list[Reply | None],
    scene: Scene,
    interrupts: int,
) -> str:
    """Say what is wrong, nothing if an order is like this."""
    if None in answers:
        return ""  # a guest that dies: when it is gone depends on who looks at it just then
    if any(_is_to_be_tried_again(reply) for reply in answers):
        return ""
    left = _left(scene, interrupts)
    if (answers, left) in orders:
        return ""
    told = "; in turn: ".join(
        " and ".join(map(str, each)) for each in (answers, *(order[0] for order in orders))
    )
    if answers not in [order[0] for order in orders]:
        return f"answers {told}"
    return f"answers {told}; what is left, or is answered later, is of neither order"


def _is_to_be_tried_again(reply: Reply | None) -> bool:
    return reply is not None and reply.fid == FFA.ERROR and reply.w(2) in _AGAIN


def _left(scene: Scene, interrupts: int) -> Outcome:
    """Return what is left behind, and what guests are answered then."""
    machine, state = scene.machine, scene.machine.spmc.state
    left: list[object] = [
        [(vm, each.held) for vm, each in sorted(state.buffers.items())],
        sorted(state.shares),
        sorted(state.bitmaps.items()),
        state.delivered,
        machine.virqs[interrupts:],
        [each.kind for each in machine.alarms],
    ]
    for vm in scene.guests:
        if vm.exists:
            pages = range(vm.memory.base, vm.memory.base + PAGES * PAGE, PAGE)
            left.append([(bytes(vm.memory.page(n)), vm.memory.references(n)) for n in pages])
    for vm in scene.guests[:2]:
        left += [
            vm.vcpus[2].smc(*registers)
            for registers in _questions(vm)
            if vm.exists
        ]  # fmt: skip
    return tuple(left)


def _questions(vm: Vm) -> Sequence[Registers]:
    """What tells how things stand: who owns RX, who is listed, what is pending."""
    return (
        [FFA.NOTIFICATION_GET, vm.id, 15],
        [FFA.RX_RELEASE],
        [FFA.PARTITION_INFO_GET_REGS],
        [FFA.PARTITION_INFO_GET_REGS, 0, 0, 5],
        [FFA.RXTX_UNMAP],
        [FFA.RXTX_UNMAP],
    )
