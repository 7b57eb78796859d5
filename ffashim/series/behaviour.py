# SPDX-License-Identifier: GPL-2.0-only
"""What guests and the SPMC see of a change: two trees, the same conversations.

A difference is known by what was called and by how the outcome differs, and each kind of it is
told once, by the shortest conversation that shows it. One that is never there without another one
before it in the conversation is taken to follow from that.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

from ffashim.ffa import fid_name
from ffashim.machine import Machine
from ffashim.model.reduce import shortened
from ffashim.model.script import Script, Step
from ffashim.reply import Reply
from ffashim.series.recording import Seen, played
from ffashim.series.showing import as_json

SEEN = "seen"
"""The kind of what a guest or the SPMC can see."""
ORDER = "order"
"""The same SMCs in a step, in another order."""
TIMING = "timing"
"""As many of the same SMCs in the conversation, at other steps; guests see no difference."""

Key = tuple[str, str]
"""What differences of the same kind have in common."""

_EVENTS = {
    "guest": "a guest comes",
    "attempt": "a guest comes",
    "destroy": "a guest goes",
    "advance": "time passes",
    "notify": "an SP notifies",
    "send": "an SP sends a message",
    "borrow": "an SP uses memory",
}


@dataclass(frozen=True)
class Difference:
    """One step that is not the same."""

    index: int
    """Of the step; 0 is booting."""
    subject: str
    """What was called, or what happened."""
    what: str
    """How the outcome differs, in words; numbers are left out."""
    kind: str
    before: Seen
    after: Seen

    @property
    def key(self) -> Key:
        """What differences of the same kind have in common."""
        return self.subject, self.what


def differences(before: Sequence[Seen], after: Sequence[Seen]) -> list[Difference]:
    """Return how two plays of a conversation differ, step by step."""
    found = [
        _difference(n, one, other)
        for n, (one, other) in enumerate(zip_longest(before, after))
        if one is not None and other is not None and _visible(one) != _visible(other)
    ]
    totals = tuple(Counter(map(_request, _smcs_of(*seen))) for seen in (before, after))
    return [replace(d, kind=TIMING) if _has_moved(d, *totals) else d for d in found]


def _has_moved(difference: Difference, before: Counter[Any], after: Counter[Any]) -> bool:
    """Tell whether guests see the same, and the SPMC as much of the same at other steps."""
    ends = difference.before, difference.after
    if difference.kind == ORDER or len({_of_guests(each) for each in ends}) > 1:
        return False
    one, other = (Counter(map(_request, each.smcs)) for each in ends)
    moved = {*(one - other), *(other - one)}
    return bool(moved) and all(before[each] == after[each] for each in moved)


def _smcs_of(*seen: Seen) -> Iterator[Any]:
    return itertools.chain.from_iterable(each.smcs for each in seen)


def _request(smc: tuple[tuple[int, ...], tuple[int, ...], bytes]) -> tuple[tuple[int, ...], bytes]:
    return smc[0], smc[2]


def _visible(seen: Seen) -> tuple[object, ...]:
    return seen.reply, seen.memory, seen.smcs, seen.interrupts, seen.others, seen.end


def _of_guests(seen: Seen) -> tuple[object, ...]:
    """Return what guests see of a step, in a form that can be hashed."""
    return seen.reply, tuple(sorted(seen.memory.items())), seen.interrupts, seen.end


# --- one step ------------------------------------------------------------------------------------


def _difference(index: int, before: Seen, after: Seen) -> Difference:
    one, other = (Counter(each.smcs) for each in (before, after))
    if before.end != after.end:
        parts = [_ends(before.end, after.end)]
    else:
        parts = [*_aspects(before, after), *([_smcs(one, other)] if one != other else [])]
    if parts:
        return Difference(index, subject(before.step), "; ".join(parts), SEEN, before, after)
    kind, what = SEEN, "what is sent or left behind that must not be"
    if before.smcs != after.smcs:
        kind, what = ORDER, "the SPMC sees the same in another order"
    return Difference(index, subject(before.step), what, kind, before, after)


def _aspects(before: Seen, after: Seen) -> Iterator[str]:
    """Yield what guests see of a difference."""
    if before.reply != after.reply:
        assert before.reply is not None
        assert after.reply is not None
        yield _replies(before.reply, after.reply)
    if before.memory != after.memory:
        yield _memory(before, after)
    if len(after.interrupts) != len(before.interrupts):
        more = len(after.interrupts) > len(before.interrupts)
        yield "a guest is interrupted" if more else "a guest is not interrupted"
    elif before.interrupts != after.interrupts:
        yield "another interrupt"


def subject(step: Step | None) -> str:
    """Return what was called, or what happened."""
    if step is None:
        return "booting"
    if step.method == "call":
        name = fid_name(int(step.arguments[1]) & 0xFFFF_FFFF)
        return name if name.startswith("FFA_") else "another function"
    return _EVENTS.get(step.method, step.method.replace("_", " "))


def _ends(before: str, after: str) -> str:
    if after and not before:
        return f"does not return: {after}"
    if before and not after:
        return f"returns; before: {before}"
    return f"{after}; before: {before}"


def _replies(before: Reply, after: Reply) -> str:
    one, other = (_status(each) for each in (before, after))
    if one != other:
        return f"{other}, was {one}"
    registers = [f"x{n}" for n, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    return f"{one} with another {', '.join(registers)}"


def _status(reply: Reply) -> str:
    """Return an answer's name, and its status; FFA_VERSION's answer is a number."""
    return " ".join(word for word in str(reply).split() if "=" not in word)


def _memory(before: Seen, after: Seen) -> str:
    if not before.memory:
        return "memory of a guest is written to"
    if not after.memory:
        return "memory of a guest is not written to"
    return "something else is written to a guest's memory"


def _smcs(before: Counter[Any], after: Counter[Any]) -> str:
    """Say what the SPMC sees more, less, or with other registers."""
    gone, new = (Counter(_name(each) for each in (a - b).elements())
                 for a, b in ((before, after), (after, before)))  # fmt: skip
    parts = [f"with other registers {name}" for name in sorted(gone & new)]
    parts += [f"no {name}" for name in sorted(gone - new)]
    parts += [f"also {name}" for name in sorted(new - gone)]
    return f"the SPMC sees {', '.join(dict.fromkeys(parts))}"


def _name(smc: tuple[tuple[int, ...], tuple[int, ...], bytes]) -> str:
    return fid_name(smc[0][0] & 0xFFFF_FFFF)


# --- two trees -----------------------------------------------------------------------------------


class Comparison:
    """Two machines and the conversations that they are to have."""

    def __init__(self, before: Machine, after: Machine) -> None:
        self.machines = before, after

    def of(self, script: Script) -> list[Difference]:
        """Play a conversation on both."""
        return differences(*(played(machine, script) for machine in self.machines))

    def run(
        self, scripts: Sequence[Script], most: int, tries: int
    ) -> tuple[list[dict[str, Any]], int]:
        """Return each kind of difference once, as JSON, with a short conversation for it, and how
        many kinds were not looked into.

        most: so many are. tries: so many shorter conversations are played for each, at most.
        """
        shown: dict[Key, Script] = {}
        first: dict[Key, Script] = {}
        counts: Counter[Key] = Counter()
        kinds: dict[Key, set[str]] = {}
        for script in scripts:
            found = self.of(script)
            counts.update({each.key for each in found})
            # Others do not follow from what is different as Xen boots: every conversation has that.
            for n, each in enumerate(sorted(found, key=lambda each: each.index == 0)):
                kinds.setdefault(each.key, set()).add(each.kind)
                short = replace(script, steps=script.steps[: each.index])
                for known in (shown, first) if n == 0 or each.index == 0 else (shown,):
                    if len(short.steps) <= len(known.get(each.key, short).steps):
                        known[each.key] = short
        # Those that are first somewhere are sure to be differences; others may follow from them.
        keys = [*first, *(key for key in shown if key not in first)]
        result = []
        for key in keys[:most]:
            if told := self._told(key, first.get(key) or shown[key], tries):
                kind = next(iter(kinds[key])) if len(kinds[key]) == 1 else SEEN
                result.append({**told, "kind": kind, "conversations": counts[key]})
        return sorted(result, key=lambda each: (each["kind"], each["subject"], each["what"])), max(
            0, len(keys) - most
        )

    def _told(self, key: Key, script: Script, tries: int) -> dict[str, Any] | None:
        left = itertools.count(tries, -1)

        def still(other: Script) -> Script | None:
            # The kind of it, timing, is a matter of the whole conversation.
            found = next((each for each in self.of(other) if each.key == key), None)
            return None if found is None else replace(other, steps=other.steps[: found.index])

        short = shortened(script, still, lambda: next(left) > 0)
        found = self.of(short)
        booting = [each for each in found if each.index == 0 and each.key == key]
        first = next((each for each in (*booting, *(f for f in found if f.index))), None)
        return as_json(first, short) if first is not None and first.key == key else None
