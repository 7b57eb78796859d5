# SPDX-License-Identifier: GPL-2.0-only
"""Conversations without the model: drafted once, then played on any tree, and what is seen of it.

What guests and the SPMC can see is recorded, and nothing else: replies, what is written into
guests' memory, SMCs in both directions, interrupts, and what a call ends in that does not return.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, reject, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from ffashim.errors import FfashimError
from ffashim.faults import XenFault
from ffashim.machine import Machine
from ffashim.model.compare import Observation
from ffashim.model.conversations import Conversations
from ffashim.model.deviation import Deviation
from ffashim.model.pair import Disagreement, Pair
from ffashim.model.script import Script, Step
from ffashim.reply import Reply
from ffashim.vm import Vm

Page = tuple[int, int]
"""Endpoint, and the offset of a page in its RAM."""


@dataclass(frozen=True)
class Seen:
    """What a step has done."""

    step: Step | None
    """None is booting."""
    reply: Reply | None = None
    memory: dict[Page, bytes] = field(default_factory=dict)
    """The pages of guests that have changed."""
    smcs: tuple[tuple[tuple[int, ...], tuple[int, ...], bytes], ...] = ()
    """Request, answer, and what the hypervisor's TX held where a descriptor came along."""
    interrupts: tuple[tuple[int, int, int], ...] = ()
    others: tuple[str, ...] = ()
    """What is left behind, or sent that FF-A forbids."""
    end: str = ""
    """Why it did not return; it is the last step then."""


class Recording(Pair):
    """A machine that steps are taken on, without a model beside it."""

    def __init__(self, machine: Machine, *arguments: Any, **options: Any) -> None:
        super().__init__(machine, *arguments, **options)
        self.states = ()  # nothing is predicted of nothing
        self._reply: Reply | None = None
        self._others: list[str] = []
        self._known: dict[tuple[int, int], bytes] = {}
        self.seen = [Seen(None, smcs=self._smcs(0), others=tuple(map(str, self.spmc.violations)))]
        self.spmc.violations.clear()

    def play(self, step: Step) -> Seen:
        """Take a step. Raises LookupError if it makes no sense here."""
        first, interrupts = len(self.spmc.log.entries), len(self.machine.virqs)
        self._reply, self._others, end = None, [], ""
        self._sent.clear()
        before = self._known
        try:
            self.take(step)
        except XenFault as fault:
            end = ended(fault)
        except FfashimError as error:
            end = str(error).partition("\n")[0]
        except Disagreement as error:  # a guest does not come that did
            self._others.append(error.what.partition("\n")[0])
        after = self._known = {} if end else self._pages()
        base = {vm.id: vm.memory.base for vm in self.vms}
        seen = Seen(
            step,
            self._reply,
            {
                (who, page - base[who]): data
                for (who, page), data in after.items()
                if before.get((who, page), data) != data
            },
            self._smcs(first),
            tuple((each.domain + 1, each.vcpu, each.intid)
                  for each in self.machine.virqs[interrupts:]),
            (*self._others, *map(str, self.spmc.violations)),
            end,
        )  # fmt: skip
        self.spmc.violations.clear()
        self.seen.append(seen)
        return seen

    def _smcs(self, first: int) -> tuple[tuple[tuple[int, ...], tuple[int, ...], bytes], ...]:
        return tuple(
            (tuple(request), tuple(answer or ()), self._sent.get(n, b""))
            for n, (request, answer) in enumerate(self.spmc.log.entries[first:], first)
            if request is not None
        )

    # --- what the model would do ------------------------------------------------------------------

    def call(self, vm: Vm, fid: int, *registers: int, vcpu: int = 0, scarce: int = 0) -> Reply:
        """Make a call."""
        self._reply = super().call(vm, fid, *registers, vcpu=vcpu, scarce=scarce)
        return self._reply

    def _tx(self, vm: Vm) -> bytes:
        return b""

    def _watch(self, what: str, action: Any, replies: Sequence[Reply]) -> Observation:
        action()
        return Observation(tuple(replies[0]), {}, {}, {})

    def _compare(self, call: Any, seen: Any, expected: Any) -> None:
        pass

    def _listen(self) -> None:
        pass  # alarms name lines, which move

    def _knows(self, what: str, line: str) -> bool:
        self._others.append(line)
        return True


def ended(fault: XenFault) -> str:
    """Say how a call ended, without the line: that moves with any change above it."""
    report = fault.report
    function = report.backtrace[0].partition(" ")[0] if report.backtrace else ""
    places = [each for each in (function, report.where.partition(":")[0]) if each]
    return f"{fault.headline}: {report.text} in {', '.join(places) or 'Xen'}"


def played(machine: Machine, script: Script) -> list[Seen]:
    """Play a script, up to the step that makes no sense or does not return."""
    pair = Recording(machine, **script.options)
    for step in script.steps:
        try:
            if pair.play(step).end:
                break
        except LookupError:
            pair.seen.append(Seen(step, end="the step makes no sense here"))
            break
    return pair.seen


# --- drafting ------------------------------------------------------------------------------------


class _Draft(Pair):
    """A pair that ends the conversation, and nothing else, where Xen and the model differ."""

    def _compare(self, *arguments: Any) -> None:
        try:
            super()._compare(*arguments)
        except Disagreement:
            reject()

    def _watch(self, *arguments: Any) -> Observation:
        try:
            return super()._watch(*arguments)
        except Disagreement:
            reject()

    def _knows(self, what: str, line: str) -> bool:
        return True


def drafted(
    machine: Machine, deviations: Sequence[Deviation], count: int, steps: int, number: int
) -> list[Script]:
    """Return so many conversations: the same for the same tree, numbers and version of this.

    steps: of each, at most. number: what they are drawn with.
    """
    scripts: list[Script] = []

    class Round(Conversations):
        pair_type = _Draft

        def __init__(self) -> None:
            super().__init__(machine, deviations)

        def teardown(self) -> None:
            if hasattr(self, "pair") and len(scripts) < count:
                scripts.append(self.pair.script)

    run_state_machine_as_test(
        seed(number)(Round),
        settings=settings(
            max_examples=count,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            print_blob=False,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    return scripts
