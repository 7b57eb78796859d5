# SPDX-License-Identifier: GPL-2.0-only
"""A call in the middle of another one: what comes of both must be what comes of one order of them.

A call is left at each of its switch points in turn, and another vCPU, of the same guest or of
another, does something there. Answers and all that is left behind (memory, page references,
interrupts, what the secure world holds, and what guests are answered afterwards) are compared with
those of one after the other. Who is answered by BUSY or RETRY must have done nothing.

The machine itself is the measure: what is wrong in both orders is not seen here. Of a guest that
dies meanwhile only that all calls return: when it is gone depends on who looks at it just then.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ffashim.errors import UsageError
from ffashim.faults import XenFault
from ffashim.ffa import FFA, FfaError, fid_name
from ffashim.machine import Machine
from ffashim.memory import PAGE
from ffashim.reply import Reply
from ffashim.traffic import SP, bind, guest, handle_of, message, share, transaction, version_of
from ffashim.vm import Vm

Registers = Sequence[int]
Answers = tuple[Reply | None, Reply | None]
"""Of the outer act and of the inner one; None where it was not taken, or is the end of a guest."""
Traces = tuple[object, ...]
"""All that is left behind, and what guests are answered then."""

SITUATIONS = ("RX held", "no buffers", "a share", "a message to a guest", "notified")
"""How things stand for both guests before: see `Scene`."""
_RAM = 12 * PAGE
"""Of each guest: what is compared."""
_BITS = 1
_AGAIN = frozenset({FfaError.BUSY.w, FfaError.RETRY.w})


def _calls(endpoint: int, base: int, length: int, handle: int) -> Mapping[str, Registers]:
    """Return what a guest may call, by name. length: of what TX holds. handle: of a share."""
    return {
        _named(registers): registers
        for registers in (
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
            [FFA.NOTIFICATION_BIND, SP << 16 | endpoint, 0, _BITS << 1],
            [FFA.NOTIFICATION_UNBIND, SP << 16 | endpoint, 0, _BITS],
            [FFA.NOTIFICATION_GET, endpoint, 15],
            [FFA.NOTIFICATION_INFO_GET_64],
            [FFA.MSG_SEND_DIRECT_REQ_32, endpoint << 16 | SP, 0, 1],
            [FFA.RUN, SP << 16],
        )
    }


def _first_calls(base: int) -> Mapping[str, Registers]:
    """Return calls by which a guest makes its version final, by name."""
    calls: Sequence[Registers] = ([FFA.ID_GET], [FFA.RXTX_MAP_64, base, base + PAGE, 1])
    return {f"{_named(each)} of a guest that makes its version final": each for each in calls}


def _named(registers: Registers) -> str:
    window = " from 5" if registers[0] == FFA.PARTITION_INFO_GET_REGS and registers[1:] else ""
    return fid_name(registers[0]) + window


OUTERS = (*_calls(0, 0, 0, 0), *_first_calls(0))
"""Names of the calls that something is done in the middle of."""


@dataclass(frozen=True)
class Act:
    """A call of one of the guests; without registers, its end."""

    who: Vm
    name: str
    registers: Registers = ()

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
    """What comes of neither order. point: the switch point, from 0."""

    outer: Act
    inner: Act
    point: int
    what: str

    def __str__(self) -> str:
        return f"{self.inner.name}, at switch point {self.point} of {self.outer.name}: {self.what}"


class Scene:
    """Two guests of three vCPUs, for both of which things stand as a situation has it, and a third
    that has not made its version final. The machine must be booted.
    """

    def __init__(self, machine: Machine, situation: str) -> None:
        self.machine = machine
        self._first, self._second = (guest(machine, vcpus=3) for _ in range(2))
        self._late = machine.create_vm(vcpus=2)
        self._late.smc(FFA.VERSION, 0x1_0002)
        pair = self._first, self._second
        self._calls = {
            vm: _calls(vm.id, vm.memory.base, *self._prepare(vm, other, situation))
            for vm, other in (pair, pair[::-1])
        }
        self._start = machine.snapshot()

    def _prepare(self, vm: Vm, other: Vm, situation: str) -> tuple[int, int]:
        """Return the length of what is in TX, and the handle of what is shared."""
        lent, more = (transaction(vm, (vm.memory.base + n * PAGE, 1)) for n in (6, 7))
        shared = share(vm, lent) if situation == "a share" else None
        to_guest = situation == "a message to a guest"
        data = message(vm, other.id, b"hello") if to_guest else more.encode(version_of(vm))
        vm.tx.write(data)
        if situation == "RX held":
            vm.smc(FFA.PARTITION_INFO_GET)
        if situation == "no buffers":
            vm.smc(FFA.RXTX_UNMAP)
        if situation == "notified" and bind(vm, _BITS).ok:
            with suppress(UsageError):  # a tree that has bound others
                self.machine.spmc.notifications.notify(SP, vm.id, _BITS)
        return len(data), handle_of(shared) if shared is not None and shared.ok else 0

    def outer(self, name: str) -> Act:
        """Return the one of `OUTERS`."""
        calls = self._calls[self._first]
        if name in calls:
            return Act(self._first, name, calls[name])
        return Act(self._late, name, _first_calls(self._late.memory.base)[name])

    def inners(self) -> Iterator[Act]:
        """Yield what is done in the middle of it."""
        for vm, whose in ((self._first, "the same"), (self._second, "another")):
            for name, registers in self._calls[vm].items():
                yield Act(vm, f"{name} of {whose} guest", registers)
        for name, registers in _first_calls(self._late.memory.base).items():
            yield Act(self._late, name, registers)
        yield Act(self._second, "the end of another guest")

    def reset(self) -> None:
        """Let everything be as it was at first."""
        self.machine.restore(self._start)

    def traces(self) -> Traces:
        """Return what is left behind, and what guests are answered then."""
        machine, state = self.machine, self.machine.spmc.state
        guests = (self._first, self._second, self._late)
        return (
            [(vm, each.held) for vm, each in sorted(state.buffers.items())],
            sorted(state.shares),
            sorted(state.bitmaps.items()),
            state.delivered,
            machine.virqs,
            [each.kind for each in machine.alarms],
            [_ram(vm) for vm in guests],
            [vm.vcpus[2].smc(*each) for vm in guests[:2] for each in _questions(vm)],
        )


def _ram(vm: Vm) -> list[tuple[bytes, int]]:
    base = vm.memory.base
    pages = range(base, base + _RAM, PAGE)
    return [(bytes(vm.memory.page(page)), vm.memory.references(page)) for page in pages]


def _questions(vm: Vm) -> Sequence[Registers]:
    """What tells how things stand: what is pending, who owns RX, who is listed."""
    return (
        [FFA.NOTIFICATION_GET, vm.id, 15],
        [FFA.RX_RELEASE],
        [FFA.PARTITION_INFO_GET_REGS],
        [FFA.PARTITION_INFO_GET_REGS, 0, 0, 5],
        [FFA.RXTX_UNMAP],
        [FFA.RXTX_UNMAP],
    )


def clashes(scene: Scene, outer: Act) -> Iterator[Clash]:
    """Yield what comes of neither order, for each inner act at the first point only."""
    for inner in scene.inners():
        try:
            orders = _Orders(scene, outer, inner)
        except XenFault:
            continue  # not of their meeting
        for point in itertools.count():
            scene.reset()
            try:
                answers = _meet(scene.machine, outer, inner, point)
                if answers is None:
                    break
                wrong = orders.judge(answers)
            except XenFault as fault:
                wrong = f"does not return: {fault}"
            if wrong:
                yield Clash(outer, inner, point, wrong)
                break
    scene.reset()


def _meet(machine: Machine, outer: Act, inner: Act, point: int) -> Answers | None:
    """Do one in the middle of the other; None if that has no such point."""
    seen = itertools.count()
    inside: list[Reply | None] = []

    def reached(_point: object) -> None:
        if next(seen) == point:
            inside.append(inner.take(1))

    with machine.at_points(reached):
        answer = outer.take(0)
    return (answer, inside[0]) if inside else None


class _Orders:
    """What comes of one after the other, and of each alone. Raises a XenFault if one does not
    return.
    """

    def __init__(self, scene: Scene, outer: Act, inner: Act) -> None:
        self._scene, self._outer, self._inner = scene, outer, inner
        self._both = [self._in_turn("inner", "outer"), self._in_turn("outer", "inner")]

    def _in_turn(self, *names: str) -> tuple[Answers, Traces]:
        self._scene.reset()
        said: dict[str, Reply | None] = {}
        for name in names:
            act, vcpu = (self._outer, 0) if name == "outer" else (self._inner, 1)
            said[name] = act.take(vcpu)
        traces = self._scene.traces() if self._inner.registers else ()
        return (said.get("outer"), said.get("inner")), traces

    def judge(self, answers: Answers) -> str:
        """Say what is wrong with how things stand after these answers, nothing if nothing is."""
        if not self._inner.registers:
            return ""
        traces = self._scene.traces()
        if (answers, traces) in self._both:
            return ""
        acted = [name for name, reply in zip(("outer", "inner"), answers, strict=True)
                 if not _is_to_be_tried_again(reply)]  # fmt: skip
        if len(acted) < 2 and traces == self._in_turn(*acted)[1]:
            return ""
        orders = [order[0] for order in self._both]
        told = "; in turn: ".join(" and ".join(map(str, each)) for each in (answers, *orders))
        if answers in orders or len(acted) < 2:
            return f"answers {told}; what is left, or is answered later, is of neither order"
        return f"answers {told}"


def _is_to_be_tried_again(reply: Reply | None) -> bool:
    return reply is not None and reply.fid == FFA.ERROR and reply.w(2) in _AGAIN
