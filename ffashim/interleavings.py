# SPDX-License-Identifier: GPL-2.0-only
"""One act in the middle of another: what comes of both must be what comes of one order of them.

An act is a call of a guest's, its coming, or its failing to come, its end, or the interrupt by
which the SPMC tells of notifications. It is left at each of its switch points in turn, and another
CPU does something there. Answers and all that is left behind (memory, page references, interrupts,
what the secure world holds, and what guests are answered afterwards) are compared with those of one
after the other. Who is answered by BUSY or RETRY must have done nothing.

The machine itself is the measure: what is wrong in both orders is not seen here. Of a guest that
dies meanwhile only that all acts return: when it is gone depends on who looks at it just then.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

from ffashim.errors import UsageError
from ffashim.faults import XenFault
from ffashim.ffa import FFA, FfaError, fid_name
from ffashim.machine import DomainError, Machine, VirtualInterrupt
from ffashim.memory import PAGE
from ffashim.reply import Reply
from ffashim.spmc.state import State
from ffashim.traffic import SP, bind, guest, handle_of, message, share, transaction, version_of
from ffashim.vm import Vm

Registers = Sequence[int]
Answers = tuple[Reply | None, Reply | None]
"""Of the outer act and of the inner one; None where it was not taken, or has none."""
Standing = tuple[int, State]
"""The fingerprint of the machine, and what the SPMC remembers: if equal, so is what follows."""

BUSY = "an SP is preempted"
"""No guest comes then: the SP is to be told of it."""
SITUATIONS = (
    "RX held", "no buffers", "a share", "a message to a guest", "a message is there",
    "a message was read", "notified", "not told yet", BUSY, "the SPMC refuses", "no memory",
)  # fmt: skip
"""How things stand for both guests before: see `Scene`."""
REFUSED = (
    FFA.RXTX_MAP_64, FFA.RXTX_UNMAP, FFA.RX_ACQUIRE, FFA.RX_RELEASE, FFA.MEM_SHARE_64,
    FFA.MEM_RECLAIM, FFA.MSG_SEND2, FFA.NOTIFICATION_BIND, FFA.NOTIFICATION_UNBIND,
    FFA.NOTIFICATION_GET, FFA.NOTIFICATION_INFO_GET_64, FFA.RUN,
)  # fmt: skip
"""What the SPMC denies guests then."""
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


COMES, GOES, INTERRUPT = "a guest that comes", "the end of a guest", "the interrupt"
FAILS = "a guest whose creation fails"
OUTERS = (*_calls(0, 0, 0, 0), *_first_calls(0), COMES, FAILS, GOES, INTERRUPT)
"""Names of what something is done in the middle of."""


@dataclass(frozen=True)
class Act:
    """Something that is done. take: does it, on a vCPU if it is a call, and returns the answer if
    there is one. Raises a XenFault if it does not return. fid: the function, 0 if it is no call.
    """

    name: str
    take: Callable[[int], Reply | None]
    fid: int = 0
    ends: bool = False
    """It is the end of a guest."""


def _call(vm: Vm, name: str, registers: Registers) -> Act:
    return Act(name, lambda vcpu: vm.vcpus[vcpu].smc(*registers), registers[0])


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
        self._situation = situation
        self._first, self._second = (guest(machine, vcpus=3) for _ in range(2))
        self._late = machine.create_vm(vcpus=2)
        self._late.smc(FFA.VERSION, 0x1_0002)
        pair = self._first, self._second
        self._calls = {
            vm: _calls(vm.id, vm.memory.base, *self._prepare(vm, other))
            for vm, other in (pair, pair[::-1])
        }
        if situation == "no memory":  # for Xen: what guests have they have already
            machine.fail_allocation(count=1 << 62)
        self._start = machine.snapshot()

    def _prepare(self, vm: Vm, other: Vm) -> tuple[int, int]:
        """Return the length of what is in TX, and the handle of what is shared."""
        situation = self._situation
        lent, more = (transaction(vm, (vm.memory.base + n * PAGE, 1)) for n in (6, 7))
        shared = share(vm, lent) if situation == "a share" else None
        to_guest = "message" in situation
        data = message(vm, other.id, b"hello") if to_guest else more.encode(version_of(vm))
        vm.tx.write(data)
        if situation in ("a message is there", "a message was read"):
            vm.smc(FFA.MSG_SEND2)
        if situation == "a message was read":  # and who read it has not asked what is pending
            other.smc(FFA.RX_RELEASE)
        if situation == BUSY:
            self.machine.spmc.on(FFA.MSG_SEND_DIRECT_REQ_32).preempt(1)
            vm.smc(FFA.MSG_SEND_DIRECT_REQ_32, vm.id << 16 | SP, 0, 1)
        if situation == "RX held":
            vm.smc(FFA.PARTITION_INFO_GET)
        if situation == "no buffers":
            vm.smc(FFA.RXTX_UNMAP)
        if situation in ("notified", "not told yet") and bind(vm, _BITS).ok:
            self._notify(vm, delay=situation == "not told yet")
        if situation == "the SPMC refuses":
            for fid in REFUSED:
                self.machine.spmc.on(fid).error(FfaError.DENIED)
        return len(data), handle_of(shared) if shared is not None and shared.ok else 0

    def outer(self, name: str) -> Act:
        """Return the one of `OUTERS`."""
        calls = self._calls[self._first]
        if name in calls:
            return _call(self._first, name, calls[name])
        if name in (COMES, FAILS):
            return self._comes(name)
        if name == GOES:
            return self._ends(self._first, name)
        if name == INTERRUPT:
            return self._interrupt()
        return _call(self._late, name, _first_calls(self._late.memory.base)[name])

    def inners(self, outer: Act) -> Iterator[Act]:
        """Yield what is done in the middle of it. Whose end is under way calls nothing."""
        for vm, whose in ((self._first, "the same"), (self._second, "another")):
            if not (outer.ends and vm is self._first):
                for name, registers in self._calls[vm].items():
                    yield _call(vm, f"{name} of {whose} guest", registers)
        for name, registers in _first_calls(self._late.memory.base).items():
            yield _call(self._late, name, registers)
        # One at a time: the toolstack's lock sees to it.
        if outer.name not in (COMES, FAILS) and self._situation != BUSY:
            yield self._comes(COMES)
            yield self._comes(FAILS)
        yield self._interrupt()
        yield self._notifies()
        yield self._ends(self._second, "the end of another guest")

    def _comes(self, name: str) -> Act:
        def take(_vcpu: int) -> None:
            with suppress(DomainError):  # of which nothing is left, or else it is an alarm
                self.machine.create_vm(domid=9, fail_late=name == FAILS)  # nobody's before

        return Act(name, take)

    @staticmethod
    def _ends(vm: Vm, name: str) -> Act:
        def take(_vcpu: int) -> None:
            vm.destroy()

        return Act(name, take, ends=True)

    def _interrupt(self) -> Act:
        """A CPU takes the interrupt by which the SPMC asks for somebody to look."""

        def take(_vcpu: int) -> None:
            self.machine.take_irq(self.machine.spmc.sri)

        return Act(INTERRUPT, take)

    def _notifies(self) -> Act:
        """A partition does, and the interrupt is still to come."""

        def take(_vcpu: int) -> None:
            self._notify(self._first, delay=True)

        return Act("a partition that notifies", take)

    def _notify(self, vm: Vm, delay: bool) -> None:
        with suppress(UsageError):  # nothing is bound, as far as the SPMC knows
            self.machine.spmc.notifications.notify(SP, vm.id, _BITS, delay=delay)

    def reset(self) -> None:
        """Let everything be as it was at first."""
        self.machine.restore(self._start)

    def standing(self) -> Standing:
        """Return how things stand, so that it can be compared with another time."""
        machine = self.machine
        return machine.fingerprint(), machine.spmc.state.copy()

    def look(self) -> tuple[object, ...]:
        """Return what is left behind, and what guests are answered then."""
        state, guests = self.machine.spmc.state, (self._first, self._second, self._late)
        return (
            [(vm, each.held) for vm, each in sorted(state.buffers.items())],
            sorted(state.shares),
            sorted(state.bitmaps.items()),
            state.delivered,
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
    for inner in scene.inners(outer):
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
    inside: list[Reply | None] = []
    with machine.at_points(lambda _point: inside.append(inner.take(1)), only=point):
        answer = outer.take(0)
    return (answer, inside[0]) if inside else None


class _Order:
    """What comes of acts one after the other, or of one alone. Raises a XenFault if one does not
    return.
    """

    def __init__(self, scene: Scene, turns: Sequence[tuple[str, Act]]) -> None:
        self._scene, self._turns = scene, turns
        said = self._take()
        self.answers: Answers = (said.get("outer"), said.get("inner"))
        self.interrupts = Counter(scene.machine.virqs)
        self.standing = scene.standing()

    def _take(self) -> Mapping[str, Reply | None]:
        self._scene.reset()
        return {name: act.take(0 if name == "outer" else 1) for name, act in self._turns}

    @cached_property
    def seen(self) -> tuple[object, ...]:
        """See `Scene.look`. That takes long, and is rarely asked for: the acts are done again."""
        self._take()
        return self._scene.look()

    def interrupts_fit(self, found: Counter[VirtualInterrupt]) -> bool:
        """Tell whether these are its interrupts, or one too many: who gets that finds out that
        there is nothing.
        """
        return found >= self.interrupts and sum((found - self.interrupts).values()) <= 1


class _Orders:
    """What comes of one after the other, and of each alone. Raises a XenFault if one does not
    return.
    """

    def __init__(self, scene: Scene, outer: Act, inner: Act) -> None:
        self._scene = scene
        self._acts = ("outer", outer), ("inner", inner)
        self._comparable = not (outer.ends or inner.ends)
        self._both = [_Order(scene, self._acts[::-1]), _Order(scene, self._acts)]

    def judge(self, answers: Answers) -> str:
        """Say what is wrong with how things stand after these answers, nothing if nothing is."""
        if not self._comparable:
            return ""
        interrupts, standing = Counter(self._scene.machine.virqs), self._scene.standing()
        alike = [o for o in self._both if o.answers == answers and o.interrupts_fit(interrupts)]
        if any(order.standing == standing for order in alike):
            return ""
        seen = self._scene.look()
        try:
            if any(order.seen == seen for order in alike):
                return ""
            acted = [(name, act) for (name, act), reply in zip(self._acts, answers, strict=True)
                     if not _is_to_be_tried_again(reply)]  # fmt: skip
            if len(acted) < 2:
                alone = _Order(self._scene, acted)
                if alone.interrupts_fit(interrupts) and alone.seen == seen:
                    return ""
        except XenFault:
            return ""  # not of their meeting
        orders = [order.answers for order in self._both]
        told = "; in turn: ".join(" and ".join(map(str, each)) for each in (answers, *orders))
        if answers in orders or len(acted) < 2:
            return f"answers {told}; what is left, or is answered later, is of neither order"
        return f"answers {told}"


def _is_to_be_tried_again(reply: Reply | None) -> bool:
    return reply is not None and reply.fid == FFA.ERROR and reply.w(2) in _AGAIN
