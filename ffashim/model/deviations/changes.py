# SPDX-License-Identifier: GPL-2.0-only
"""What deviations are made of: small changes of calls and outcomes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ffashim.ffa import FFA
from ffashim.model.deviation import Restore
from ffashim.model.outcome import Outcome
from ffashim.model.registers import Allowed, Call
from ffashim.model.state import System

Seen = Iterator[tuple[System, Call, Restore]]
"""What `Deviation.sees` yields."""


def same(system: System) -> System:
    """Leave the system as it is: nothing else is really so."""
    return system


def with_register(outcome: Outcome, n: int, allowed: Allowed) -> Outcome:
    """Return an outcome with another register."""
    registers = outcome.registers
    return replace(outcome, registers=(*registers[:n], allowed, *registers[n + 1 :]))


def with_arguments(call: Call, **changes: int) -> Call:
    """Return a call with other registers, such as x1=0."""
    registers = list(call.registers)
    for name, value in changes.items():
        registers[int(name[1:])] = value
    return replace(call, registers=tuple(registers))


def succeeds(outcome: Outcome) -> bool:
    """Whether an outcome is FFA_SUCCESS."""
    return FFA.SUCCESS_32 in outcome.registers[0]
