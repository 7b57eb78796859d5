# SPDX-License-Identifier: GPL-2.0-only
"""The one place that compares what happened with what FF-A allows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ffashim.ffa import PAGE_SIZE
from ffashim.model.outcome import Outcome
from ffashim.model.registers import Call, spelled
from ffashim.model.state import Guest, System

Pages = Mapping[tuple[int, int], bytes]
"""What is in memory: (endpoint, address) of a page, and its bytes."""


@dataclass(frozen=True)
class Observation:
    """What a call has done, as far as guests and the machine's owner can see.

    before, after: pages of guests, the caller's buffers among them. held: which of these pages
    the hypervisor holds references to, and how many.
    """

    registers: tuple[int, ...]
    before: Pages
    after: Pages
    held: Mapping[tuple[int, int], int]


@dataclass(frozen=True)
class Misfit:
    """Why an outcome is not what happened. registers: those that differ."""

    outcome: Outcome
    registers: tuple[int, ...]
    others: tuple[str, ...]

    @property
    def size(self) -> tuple[bool, int]:
        """How far it is off. An outcome of another kind, by x0, is the farthest."""
        return 0 in self.registers, len(self.registers) + len(self.others)


def match(call: Call, outcome: Outcome, seen: Observation) -> System | Misfit:
    """Return how things stand if this outcome is what happened, else why it is not."""
    registers = tuple(
        n
        for n, (allowed, value) in enumerate(zip(outcome.registers, seen.registers, strict=True))
        if value not in allowed
    )
    after = outcome.after
    others: list[str] = []
    if not registers and outcome.learn is not None:
        learnt = outcome.learn(after, seen.registers)
        if isinstance(learnt, str):
            others.append(learnt)
        else:
            after = learnt
    others += _memory(call, outcome, seen)
    others += _references(outcome, seen)
    return Misfit(outcome, registers, tuple(others)) if registers or others else after


def _memory(call: Call, outcome: Outcome, seen: Observation) -> Iterator[str]:
    """A call writes to the caller's RX if that is what it is for, and to nothing else."""
    buffers = outcome.after.guest(call.caller).buffers
    for page, before in seen.before.items():
        after = seen.after[page]
        if outcome.rx is not None and buffers and page == (call.caller, buffers.rx):
            yield from outcome.rx.wrong(before, after)
        elif before != after:
            at = next(n for n in range(PAGE_SIZE) if before[n] != after[n])
            yield f"memory of guest {page[0]:#x} at {page[1] + at:#x} has changed"


def _references(outcome: Outcome, seen: Observation) -> Iterator[str]:
    """Buffers stay the guest's memory while the hypervisor uses them (7.2.2): it holds their
    pages, and no others.
    """
    wanted = {
        (guest.id, page)
        for guest in outcome.after.guests
        if guest.buffers
        for page in guest.buffers.addresses
    }
    for (endpoint, address), count in seen.held.items():
        if count != ((endpoint, address) in wanted):
            yield f"the page of guest {endpoint:#x} at {address:#x} is held {count} times"


def explain(call: Call, who: Guest, misfits: Iterable[Misfit], seen: Observation) -> str:
    """Return a table for people: the nearest outcome beside what happened, register by register."""
    ranked = sorted(misfits, key=lambda each: each.size)
    best = ranked[0]
    rows = [("", "register", "the model", "Xen")]
    names = [allowed.name for allowed in best.outcome.registers]
    for n, (allowed, value) in enumerate(zip(best.outcome.registers, seen.registers, strict=True)):
        wrong = n in best.registers
        if wrong or n < 8 or value or str(allowed) not in ("0x0", "anything"):
            mark = "->" if wrong else ""
            shown = spelled(names[n], value)
            rows.append((mark, f"x{n} {names[n]}".strip(), str(allowed), shown))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [f"{_describe(who)} called {call}", f"by {best.outcome.rule}", ""]
    for row in rows:
        padded = (row[column].ljust(widths[column]) for column in range(3))
        lines.append("  ".join([*padded, row[3]]).rstrip())
    lines += [f"-> {each}" for each in best.others]
    rules = {each.outcome.rule for each in ranked} - {best.outcome.rule}
    lines += [f"nor is it what is allowed by {each}" for each in sorted(rules)]
    return "\n".join(lines)


def _describe(guest: Guest) -> str:
    version = f"FF-A {guest.version}" if guest.version else "no version yet"
    if guest.buffers is None:
        buffers = "no buffers"
    else:
        buffers = "RX its own" if guest.buffers.owned else "RX the hypervisor's"
    return f"guest {guest.id:#x} ({guest.bits} bits, {version}, {buffers})"
