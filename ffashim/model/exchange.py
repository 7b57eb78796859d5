# SPDX-License-Identifier: GPL-2.0-only
"""What a hypervisor asks the SPMC on a guest's behalf, and what then becomes of the call.

What the SPMC answers, nobody foresees. So a rule says what must be asked, and for each answer
what follows: a plan. It is made before the call, and followed afterwards along what was answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from ffashim.ffa import FFA, NREGS, FfaError
from ffashim.model.outcome import Outcome, error
from ffashim.model.registers import (
    LOW,
    STATUS,
    ZERO,
    Allowed,
    Call,
    Registers,
    either,
    function,
)
from ffashim.model.state import System

Answer = tuple[int, ...]
"""x0 to x17 as the SPMC has left them."""


@dataclass(frozen=True)
class Smc:
    """An SMC of the hypervisor: x0 to x17 before and after it.

    tx: what the hypervisor's TX buffer held when it was made, empty where it has none.
    """

    request: tuple[int, ...]
    answer: Answer
    tx: bytes = b""


Frame = Callable[[int, int], int]
"""The machine address behind an address of a guest's: (endpoint, address)."""
Sent = Callable[[Smc, Frame], Iterable[str]]
"""What is wrong with the descriptor that came with a request in the hypervisor's TX."""


@dataclass(frozen=True)
class Ask:
    """The SPMC must see this request; what follows depends on its answer.

    sent: looks at the hypervisor's TX, where the request has a descriptor there.
    """

    registers: Registers
    then: Callable[[Answer], Iterable[Plan]]
    rule: str
    sent: Sent | None = None


Plan = Outcome | Ask


def request(fid: int, *arguments: Allowed) -> Registers:
    """Return x0 to x17 of a request; what it does not use should be zero (SBZ), and is."""
    return (function(fid), *arguments, *(ZERO,) * (NREGS - 1 - len(arguments)))


def changed(plan: Plan, change: Callable[[Outcome], Iterable[Outcome]]) -> Iterator[Plan]:
    """Yield what becomes of a plan if each of its ends is replaced by what ``change`` returns."""
    if isinstance(plan, Outcome):
        yield from change(plan)
        return

    def then(answer: Answer) -> Iterator[Plan]:
        for each in plan.then(answer):
            yield from changed(each, change)

    yield replace(plan, then=then)


def succeeded(answer: Sequence[int]) -> bool:
    """Whether an answer is FFA_SUCCESS, of either width."""
    return answer[0] & LOW in (FFA.SUCCESS_32, FFA.SUCCESS_64)


def refused(system: System, call: Call, rule: str, answer: Answer) -> Outcome:
    """The SPMC has refused what the guest wants: the guest is told why.

    An answer that is none is some error to the guest, and so is a status that FF-A does not have,
    unless it is told as it is.
    """
    status = answer[2] & LOW
    codes = [each for each in FfaError if each.w == status]
    if answer[0] & LOW == FFA.ERROR and codes:
        return error(system, call, rule, *codes)
    some = some_error(system, call, rule)
    if answer[0] & LOW == FFA.ERROR and status:
        told = either({*(each.w for each in FfaError), status}, STATUS)
        some = replace(some, registers=(*some.registers[:2], told, *some.registers[3:]))
    return some


def some_error(system: System, call: Call, rule: str) -> Outcome:
    """The hypervisor cannot do what the guest wants; FF-A does not say by which code."""
    return error(system, call, rule, *FfaError)


def relayed(
    system: System,
    call: Call,
    rule: str,
    registers: Registers,
    done: Callable[[Answer], Iterable[Plan]],
    sent: Sent | None = None,
) -> Ask:
    """Pass a guest's request on. What the SPMC refuses, changes nothing, and is told."""

    def then(answer: Answer) -> Iterable[Plan]:
        if succeeded(answer):
            return done(answer)
        return [refused(system, call, rule, answer)]

    return Ask(registers, then, rule, sent)
