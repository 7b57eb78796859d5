# SPDX-License-Identifier: GPL-2.0-only
"""Why some mutants are not noticed: nobody could tell, or the suite does not look.

A mutant is named by its key: the function, the operator and a hash of the statement and of what
becomes of it. It holds in every tree in which the statement reads the same. A pattern, as in a
shell, names many; so does the hash of a condition, which a report in JSON shows as ``within``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from ffashim import capabilities
from ffashim.machine import Machine
from ffashim.mutants.source import Mutant


@dataclass(frozen=True)
class Reason:
    """Why these mutants survive."""

    why: str
    keys: tuple[str, ...] = ()
    within: tuple[str, ...] = ()
    """All that depends on one of these conditions."""
    equivalent: bool = True
    """No guest and no SPMC can tell them from the original: they do not count."""
    probe: Callable[[Machine], Any] | None = None
    """Only on trees of which this is true: a known defect, behind which nothing is reached."""


REASONS: Sequence[Reason] = (
    Reason("one host thread runs the machine: memory ordering is not modelled", ("*/barrier/*",)),
)


def reasons_on(machine: Machine, reasons: Sequence[Reason] = REASONS) -> list[Reason]:
    """Return the reasons that hold on a tree."""
    return [
        reason
        for reason in reasons
        if reason.probe is None or capabilities.probe(machine, reason.probe)
    ]


def find(mutant: Mutant, reasons: Sequence[Reason]) -> Reason | None:
    """Return why a mutant survives, None if that is not known."""
    for reason in reasons:
        if not set(reason.within).isdisjoint(mutant.within) or any(
            fnmatchcase(mutant.key, pattern) for pattern in reason.keys
        ):
            return reason
    return None
