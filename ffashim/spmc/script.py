# SPDX-License-Identifier: GPL-2.0-only
"""Scripts: make the secure world answer otherwise, once, N times, or whenever a test says so.

    spmc.on(FFA.MEM_RECLAIM).error(FfaError.DENIED, times=1)
    spmc.on(FFA.MSG_SEND_DIRECT_REQ_64).delay(3)
    spmc.on(FFA.RXTX_MAP_64).when(lambda x: x[3] == 0).error(FfaError.NO_MEMORY)
    spmc.on(FFA.FEATURES).garble(lambda request, reply: reply[:2] + (0xffff,) + reply[3:])

A rule added later goes before one added earlier; one that is used up is as if it were not there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ffashim.errors import UsageError
from ffashim.ffa import FFA, MSG_TYPE_MASK, FfaError, FrameworkMessage
from ffashim.spmc.messages import RESPONSES, framework_response, is_framework
from ffashim.spmc.replies import UNKNOWN, Regs, error, registers

if TYPE_CHECKING:
    from ffashim.spmc.world import Spmc

Predicate = Callable[[Regs], bool]
Action = Callable[["Spmc", "Rule", Regs], "Regs | None"]
ANY = 0
"""The key of rules that apply to every function ID."""


@dataclass(slots=True)
class Rule:
    """One instruction of a script. `left`: how often it still applies (None: for ever)."""

    fid: int
    action: Action
    predicate: Predicate | None
    left: int | None
    overrides: bool
    """The answer may not be what the world's own state says (see `Spmc.violations`)."""
    name: str = ""
    """For people: the call that made it."""
    _uses: list[int] = field(default_factory=lambda: [0], compare=False)
    """In a list, which the copies of snapshots share."""

    @property
    def used(self) -> int:
        """How many SMCs it has been applied to, also before a restore."""
        return self._uses[0]

    def __str__(self) -> str:
        """One line."""
        return self.name

    def copy(self) -> Rule:
        """For a snapshot."""
        return replace(self)


class On:
    """What to do about a function ID; made by `Spmc.on()`. Each method adds a rule."""

    def __init__(self, spmc: Spmc, fid: int, predicate: Predicate | None = None) -> None:
        self._spmc = spmc
        self._fid = fid
        self._predicate = predicate

    def when(self, predicate: Predicate) -> On:
        """Only calls for which predicate(registers) is true; conditions add up."""
        before = self._predicate
        if before is None:
            return On(self._spmc, self._fid, predicate)
        return On(self._spmc, self._fid, lambda x: before(x) and predicate(x))

    def framework(self, kind: FrameworkMessage | int) -> On:
        """Only framework messages of this type, such as FrameworkMessage.VM_DESTROYED."""
        return self.when(lambda x: is_framework(x) and x[2] & MSG_TYPE_MASK == kind)

    def error(self, code: FfaError | int, *, times: int | None = None) -> Rule:
        """Answer FFA_ERROR with this status. FFA_VERSION has no FFA_ERROR: it gets -1 in x0."""
        answer = error(_status(code))

        def act(_spmc: Spmc, _rule: Rule, x: Regs) -> Regs:
            return UNKNOWN if x[0] & 0xFFFFFFFF == FFA.VERSION else answer

        return self._add(act, times, f"error({_told(code)})")

    def status(self, code: FfaError | int, *, times: int | None = None) -> Rule:
        """Answer a framework message with its response carrying this status in w3 (18.3)."""
        number = _status(code)

        def act(_spmc: Spmc, _rule: Rule, x: Regs) -> Regs:
            return framework_response(x, number)

        return self._add(act, times, f"status({_told(code)})")

    def reply(self, *regs: int, times: int | None = None) -> Rule:
        """Answer with these registers, x0 first; the rest are zero. The world does not act."""
        answer = registers(*regs)
        shown = ", ".join(f"{value:#x}" for value in regs)
        return self._add(lambda _spmc, _rule, _x: answer, times, f"reply({shown})", overrides=True)

    def call(self, fn: Callable[[Regs], Sequence[int] | None], *, times: int | None = None) -> Rule:
        """Answer with what fn(registers) returns; None: go on to the next rule, then the world.

        `Spmc.answer(registers)` is what the world itself would say. What fn raises reaches the
        test as it is.
        """

        def act(_spmc: Spmc, _rule: Rule, x: Regs) -> Regs | None:
            values = fn(x)
            return None if values is None else registers(*values)

        return self._add(act, times, "call(...)", overrides=True)

    def garble(
        self, fn: Callable[[Regs, Regs], Sequence[int]], *, times: int | None = None
    ) -> Rule:
        """Let the world act, then answer with fn(request, its answer) instead."""
        return self._add(
            lambda spmc, _rule, x: registers(*fn(x, spmc.answer(x))),
            times,
            "garble(...)",
            overrides=True,
        )

    def delay(self, n: int, code: FfaError = FfaError.RETRY) -> Rule:
        """Answer that it is not done yet, n times, and then well.

        A direct request of a VM: the SP is preempted, FFA_INTERRUPT, and FFA_RUN finds it so
        until n are used up. A framework message: its response with status `code`. Anything else:
        FFA_ERROR with `code`.
        """
        _status(code)

        def act(spmc: Spmc, rule: Rule, x: Regs) -> Regs:
            if x[0] & 0xFFFFFFFF not in RESPONSES:
                return error(code)
            if is_framework(x):
                return framework_response(x, code)
            rule.left = 0  # It is FFA_RUN that goes on, not the same request once more.
            return spmc.messages.preempt(x, n)

        return self._add(act, n, f"delay({n})")

    def preempt(self, n: int = 1, pause: FFA = FFA.INTERRUPT) -> Rule:
        """Let the SP that gets the next direct request, a framework message as well, be preempted
        n times before it is done: FFA_INTERRUPT, and FFA_RUN finds it so until n are used up.

        pause: FFA.MSG_YIELD for an SP that yields instead.
        """
        if pause not in (FFA.INTERRUPT, FFA.MSG_YIELD):
            raise UsageError(f"{pause!r}: an SP pauses by FFA.INTERRUPT or by FFA.MSG_YIELD")
        if not isinstance(n, int) or n < 1:
            raise UsageError(f"preempt({n!r}): how often an SP is preempted is a number from 1 up")

        def act(spmc: Spmc, _rule: Rule, x: Regs) -> Regs | None:
            known = x[0] & 0xFFFFFFFF in RESPONSES
            return spmc.messages.preempt(x, n, pause) if known else None

        return self._add(act, 1, f"preempt({n}, FFA.{pause.name})")

    def _add(
        self, action: Action, times: int | None, what: str, *, overrides: bool = False
    ) -> Rule:
        if times is not None and not (isinstance(times, int) and times >= 0):
            raise UsageError(f"times={times!r}: how often a rule applies is a number from 0 up")
        about = "" if self._fid == ANY else f"{self._fid:#x}"
        if self._fid in _IDS:
            about = f"FFA.{FFA(self._fid).name}"
        condition = "" if self._predicate is None else ".when(...)"
        name = f"on({about}){condition}.{what}"
        rule = Rule(self._fid, action, self._predicate, times, overrides, name)
        rules = self._spmc.state.rules
        rules[self._fid] = (rule, *rules.get(self._fid, ()))
        return rule


_IDS = frozenset(map(int, FFA))


def _status(code: FfaError | int) -> int:
    """Check a status. Raises UsageError for what is none."""
    if not isinstance(code, int) or not -(1 << 31) <= code < 1 << 32:
        raise UsageError(
            f"{code!r} is no status: want one such as FfaError.NO_MEMORY, or a 32-bit number"
        )
    return int(code)


def _told(code: FfaError | int) -> str:
    return f"FfaError.{code.name}" if isinstance(code, FfaError) else str(code)


def unused(spmc: Spmc) -> list[Rule]:
    """Return the rules that no SMC has met, in the order in which they were added."""
    rules = [rule for rules in spmc.state.rules.values() for rule in reversed(rules)]
    return [rule for rule in rules if not rule.used]


def apply(spmc: Spmc, x: Regs) -> Regs | None:
    """The answer of the first rule that has one, or None."""
    rules = spmc.state.rules
    for key in (x[0] & 0xFFFFFFFF, ANY):
        for rule in rules.get(key, ()):
            if rule.left == 0 or (rule.predicate is not None and not rule.predicate(x)):
                continue
            rule._uses[0] += 1
            if rule.left is not None:
                rule.left -= 1
            answer = rule.action(spmc, rule, x)
            if answer is not None:
                spmc.state.scripted = True
                spmc.state.overridden |= rule.overrides
                return answer
    return None
