# SPDX-License-Identifier: GPL-2.0-only
"""The one place that compares what happened with what FF-A allows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ffashim.ffa import PAGE_SIZE
from ffashim.model.exchange import Ask, Frame, Plan, Smc
from ffashim.model.outcome import Outcome
from ffashim.model.registers import Call, Registers, spelled
from ffashim.model.state import Guest, System

Pages = Mapping[tuple[int, int], bytes]
"""What is in memory: (endpoint, address) of a page, and its bytes."""


def _nowhere(_endpoint: int, address: int) -> int:
    return address


@dataclass(frozen=True)
class Observation:
    """What a call has done, as far as guests, the SPMC and the machine's owner can see.

    before, after: pages of guests, the caller's buffers among them. held: which of these pages
    the hypervisor holds references to, and how many. smcs: what the SPMC has seen, and answered.
    interrupts: (endpoint, vCPU, interrupt ID) of each that was injected. frame: where the pages
    of guests are.
    """

    registers: tuple[int, ...]
    before: Pages
    after: Pages
    held: Mapping[tuple[int, int], int]
    smcs: tuple[Smc, ...] = ()
    interrupts: tuple[tuple[int, int, int], ...] = ()
    frame: Frame = _nowhere


@dataclass(frozen=True)
class Fit:
    """A plan is what happened: how things stand, and the known defects that it is due to."""

    after: System
    known: tuple[str, ...] = ()


@dataclass(frozen=True)
class Misfit:
    """Why a plan is not what happened.

    step: which SMC it is about, counted from 0; the number of SMCs where it is the guest's answer.
    allowed, seen: registers as they should be and as they are, where that is the matter.
    registers: which of them differ. others: what else is wrong, a line each.
    """

    rule: str
    step: int
    allowed: Registers
    seen: tuple[int, ...]
    registers: tuple[int, ...]
    others: tuple[str, ...]

    @property
    def size(self) -> tuple[int, bool, int]:
        """How far it is off. What fits for more SMCs is nearer, another kind by x0 farther."""
        return -self.step, 0 in self.registers, len(self.registers) + len(self.others)


def match(call: Call, plan: Plan, seen: Observation, step: int = 0) -> list[Fit | Misfit]:
    """Follow a plan along what happened: one result for each way that it leaves open."""
    if isinstance(plan, Outcome):
        return [_outcome(call, plan, seen, step)]
    if step >= len(seen.smcs):
        missing = f"the SPMC has not seen {_name(plan)}"
        return [Misfit(plan.rule, step, (), (), (), (missing,))]
    smc = seen.smcs[step]
    if misfit := _request(plan, smc, step, seen.frame):
        return [misfit]
    return [found for then in plan.then(smc.answer) for found in match(call, then, seen, step + 1)]


def _name(plan: Ask) -> str:
    return str(plan.registers[0])


def _wrong(allowed: Registers, values: Sequence[int]) -> tuple[int, ...]:
    pairs = enumerate(zip(allowed, values, strict=True))
    return tuple(n for n, (each, value) in pairs if value not in each)


def _request(plan: Ask, smc: Smc, step: int, frame: Frame) -> Misfit | None:
    registers = _wrong(plan.registers, smc.request)
    others = tuple(plan.sent(smc, frame)) if plan.sent and not registers else ()
    if not registers and not others:
        return None
    return Misfit(plan.rule, step, plan.registers, smc.request, registers, others)


def _outcome(call: Call, outcome: Outcome, seen: Observation, step: int) -> Fit | Misfit:
    registers = _wrong(outcome.registers, seen.registers)
    after = outcome.after
    others: list[str] = []
    if not registers and outcome.learn is not None:
        learnt = outcome.learn(after, seen.registers)
        if isinstance(learnt, str):
            others.append(learnt)
        else:
            after = learnt
    more = [Call(0, smc.request) for smc in seen.smcs[step:]]
    others += [f"the SPMC has seen {each}, which nobody asked for" for each in more]
    others += _memory(call, outcome, seen)
    others += _references(outcome, seen)
    others += _interrupts(outcome, seen)
    if not registers and not others:
        return Fit(after, outcome.known)
    return Misfit(outcome.rule, step, outcome.registers, seen.registers, registers, tuple(others))


def _memory(call: Call, outcome: Outcome, seen: Observation) -> Iterator[str]:
    """A call writes to the RX that it is about, if any, and to nothing else."""
    buffers, receiver = None, call.caller if outcome.receiver is None else outcome.receiver
    if outcome.rx is not None:
        buffers = outcome.after.guest(receiver).buffers
    for page, before in seen.before.items():
        after = seen.after[page]
        if outcome.rx is not None and buffers and page == (receiver, buffers.rx):
            yield from outcome.rx.wrong(before, after)
        elif page[0] == call.caller and page[1] in outcome.cleared:
            if any(after):
                yield f"memory of guest {page[0]:#x} at {page[1]:#x} was not cleared"
        elif before != after:
            at = next(n for n in range(PAGE_SIZE) if before[n] != after[n])
            yield f"memory of guest {page[0]:#x} at {page[1] + at:#x} has changed"


def _references(outcome: Outcome, seen: Observation) -> Iterator[str]:
    """Buffers and shared memory stay the guest's while others use them (7.2.2, chapter 10): the
    hypervisor holds their pages, and no others.
    """
    wanted = Counter((guest.id, page) for guest in outcome.after.guests for page in guest.held)
    for page, count in seen.held.items():
        if count != wanted[page]:
            yield (
                f"the page of guest {page[0]:#x} at {page[1]:#x} is held {count} times,"
                f" not {wanted[page]}"
            )


def _interrupts(outcome: Outcome, seen: Observation) -> Iterator[str]:
    """Who is told of notifications: on a vCPU that can take it, by the interrupt that
    FFA_FEATURES has named (1.2, 10.4).
    """
    told = Counter(endpoint for endpoint, _, _ in seen.interrupts)
    for endpoint in sorted({*told, *outcome.interrupted}):
        least = endpoint in outcome.interrupted
        if told[endpoint] < least or (told[endpoint] > least and endpoint not in outcome.reminded):
            yield f"guest {endpoint:#x} has been interrupted {told[endpoint]} times, not {least:d}"
    for endpoint, vcpu, intid in seen.interrupts:
        if vcpu in outcome.after.guest(endpoint).offline:
            yield f"vCPU {vcpu} of guest {endpoint:#x} was interrupted, and is offline"
        if intid != outcome.after.profile.notification_interrupt:
            yield f"interrupt {intid} of guest {endpoint:#x} is not that of notifications"


def explain(call: Call, who: Guest | None, misfits: Iterable[Misfit], seen: Observation) -> str:
    """Return a table for people: the nearest outcome beside what happened, register by register."""
    ranked = sorted(misfits, key=lambda each: each.size)
    best = ranked[0]
    happened = f"{_describe(who)} called {call}" if who else "what happened below"
    lines = [happened, f"by {best.rule}", ""]
    for n, smc in enumerate(seen.smcs):
        mark = "->" if n == best.step else "  "
        request, answer = Call(0, smc.request), Call(0, smc.answer)
        lines.append(f"{mark}  the SPMC saw {request}, and answered {answer}")
    if seen.smcs:
        lines.append("")
    if best.allowed:
        lines += _table(best)
    lines += [f"-> {each}" for each in best.others]
    rules = {each.rule for each in ranked} - {best.rule}
    lines += [f"nor is it what is allowed by {each}" for each in sorted(rules)]
    return "\n".join(lines)


def _table(misfit: Misfit) -> Iterator[str]:
    rows = [("", "register", "the model", "Xen")]
    names = [allowed.name for allowed in misfit.allowed]
    for n, (allowed, value) in enumerate(zip(misfit.allowed, misfit.seen, strict=True)):
        wrong = n in misfit.registers
        if wrong or n < 8 or value or str(allowed) not in ("0x0", "anything"):
            mark = "->" if wrong else ""
            shown = spelled(names[n], value)
            rows.append((mark, f"x{n} {names[n]}".strip(), str(allowed), shown))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        padded = (row[column].ljust(widths[column]) for column in range(3))
        yield "  ".join([*padded, row[3]]).rstrip()


def _describe(guest: Guest) -> str:
    version = f"FF-A {guest.version}" if guest.version else "no version yet"
    if guest.buffers is None:
        buffers = "no buffers"
    else:
        buffers = "RX its own" if guest.buffers.owned else "RX the hypervisor's"
    return f"guest {guest.id:#x} ({guest.bits} bits, {version}, {buffers})"
