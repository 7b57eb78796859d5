# SPDX-License-Identifier: GPL-2.0-only
"""An outcome that FF-A allows: registers, what lands in RX, interrupts, how things then stand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from ffashim.ffa import FFA, V1_2, FfaError
from ffashim.model.contents import Contents
from ffashim.model.registers import (
    FUNCTION,
    SUCCESS,
    UNKNOWN,
    ZERO,
    Allowed,
    Call,
    Registers,
    answer,
    either,
    exactly,
    function,
    status,
)
from ffashim.model.state import System

Learn = Callable[[System, Sequence[int]], "System | str"]
"""What an answer tells beyond what was known: the system with that, or why it cannot be."""


@dataclass(frozen=True)
class Outcome:
    """One outcome.

    rule: where FF-A says so. after: how things stand then.
    rx: what lands in RX, None is nothing; receiver: whose, None is the caller's.
    cleared: pages of the caller's that hold nothing but zeros then.
    interrupted: guests that must be told by the interrupt for notifications; reminded: those that
        may be told again, as they have not looked yet.
    learn: what registers together tell. known: defects of the tree that it is due to.
    """

    registers: Registers
    after: System
    rule: str
    rx: Contents | None = None
    receiver: int | None = None
    cleared: frozenset[int] = frozenset()
    interrupted: frozenset[int] = frozenset()
    reminded: frozenset[int] = frozenset()
    learn: Learn | None = field(default=None, compare=False)
    known: tuple[str, ...] = ()


def high(system: System, call: Call) -> tuple[Allowed, ...]:
    """Return x8 to x17 where they hold no result.

    They are the caller's (SMCCC 1.2, 2.6). 1.2 has reserved ones of a 64-bit guest zero (11.2);
    whether that is for SMC32 calls too is left open.
    """
    guest = system.guest(call.caller)
    given = call.registers[8:]
    if guest.bits == 64 and guest.version is not None and guest.version >= V1_2:
        return tuple(either({value, 0}) for value in given)
    return tuple(map(exactly, given))


def success(
    system: System,
    call: Call,
    rule: str,
    *results: Allowed,
    after: System | None = None,
    rx: Contents | None = None,
) -> Outcome:
    """FFA_SUCCESS_32 with results from w2 on; the rest is reserved and zero (chapter 12)."""
    registers = answer((SUCCESS, ZERO, *results), high(system, call))
    return Outcome(registers, after or system, rule, rx)


def error(system: System, call: Call, rule: str, *errors: FfaError) -> Outcome:
    """FFA_ERROR with one of these codes, and nothing has changed (chapter 12)."""
    registers = answer((function(FFA.ERROR), ZERO, status(*errors)), high(system, call))
    return Outcome(registers, system, rule)


def unsupported(system: System, call: Call, rule: str) -> Iterable[Outcome]:
    """A call that is not there: FF-A's NOT_SUPPORTED, or SMCCC's own, x0 alone.

    SMCCC 1.2, 2.6, leaves x1 to x3 open then; what is not zero there must be the caller's.
    """
    yield error(system, call, rule, FfaError.NOT_SUPPORTED)
    yield unknown(system, call, rule)


def unknown(system: System, call: Call, rule: str) -> Outcome:
    """SMCCC's answer for a function of which nobody has heard (SMCCC 1.2, 5.1)."""
    rest = (either({value, 0}) for value in call.registers[1:8])
    registers = answer((either(UNKNOWN, FUNCTION), *rest), high(system, call))
    return Outcome(registers, system, rule)
