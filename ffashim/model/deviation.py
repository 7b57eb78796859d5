# SPDX-License-Identifier: GPL-2.0-only
"""Known defects of a tree, as named additions to what the model allows.

The model itself stays as it is. A deviation is used only on a tree that has the defect, which a
probe of its behaviour tells, and every use of it is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ffashim.model.outcome import Outcome
from ffashim.model.registers import Call
from ffashim.model.rules import predict
from ffashim.model.state import System

Restore = Callable[[System], System]
Sees = Callable[[System, Call], "Iterable[tuple[System, Call, Restore]]"]
Says = Callable[[System, Call, Outcome], Iterable[Outcome]]


@dataclass(frozen=True)
class Deviation:
    """A known defect.

    finding: what is wrong. probe: asks a freshly booted machine whether it has the defect.
    sees: which other situation or call the tree takes this one for, and what is then really so.
    says: what it does instead of an outcome.
    ends: whether the call is the end of the machine, and must not be made.
    silent: it may change what follows though the answer is as it should be.
    """

    finding: str
    probe: Callable[[Any], Any]
    sees: Sees | None = None
    says: Says | None = None
    ends: Callable[[System, Call], bool] | None = None
    silent: bool = False


def deviating(deviations: Sequence[Deviation], system: System, call: Call) -> list[Outcome]:
    """Return what a tree with these defects may do beyond what is allowed; they add up."""
    situations: list[tuple[System, Call, Restore, tuple[str, ...]]] = [(system, call, _same, ())]
    for each in deviations:
        if each.sees is not None:
            situations += [
                (other, instead, _both(restore, before), (*known, each.finding))
                for seen, request, before, known in situations
                for other, instead, restore in each.sees(seen, request)
            ]
    outcomes = [
        replace(outcome, after=restore(outcome.after), known=known)
        for other, instead, restore, known in situations
        for outcome in predict(other, instead)
    ]
    for each in deviations:
        if each.says is not None:
            outcomes += list(_said(each, system, call, outcomes))
    return [outcome for outcome in outcomes if outcome.known]


def _said(
    deviation: Deviation, system: System, call: Call, outcomes: Sequence[Outcome]
) -> Iterator[Outcome]:
    assert deviation.says is not None
    for outcome in outcomes:
        for instead in deviation.says(system, call, outcome):
            yield replace(instead, known=(*outcome.known, deviation.finding))


def _same(system: System) -> System:
    return system


def _both(first: Restore, second: Restore) -> Restore:
    return lambda system: second(first(system))
