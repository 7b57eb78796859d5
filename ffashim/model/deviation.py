# SPDX-License-Identifier: GPL-2.0-only
"""Known defects of a tree, as named additions to what the model allows.

The model itself stays as it is. A deviation is used only on a tree that has the defect, which a
probe of its behaviour tells, and every use of it is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from ffashim.defects import Defect
from ffashim.model.exchange import Plan, changed
from ffashim.model.outcome import Outcome
from ffashim.model.registers import Call
from ffashim.model.rules import predict
from ffashim.model.state import System

Restore = Callable[[System], System]
Sees = Callable[[System, Call], "Iterable[tuple[System, Call, Restore]]"]
Says = Callable[[System, Call, Outcome], Iterable[Outcome]]
Does = Callable[[System, Call], Iterable[Plan]]


@dataclass(frozen=True)
class Deviation:
    """A known defect, and what a tree that has it does.

    sees: which other situation or call the tree takes this one for, and what is then really so.
    says: what it does instead of an outcome. does: what it does beside all that is allowed.
    ends: whether the call is the end of the machine, and must not be made.
    leaves: a regular expression for what the secure world keeps of a guest that is gone.
    gives_up: one for what it keeps if somebody was not ready for the guest's end at first.
    forsakes: one for what it keeps, or "no guest", if somebody was held up as it was told.
    abandons: one for what stays of a guest that could not be created.
    forbidden: one for what it sends the SPMC though FF-A forbids it (see `Spmc.violations`).
    silent: it may change what follows though the answer is as it should be.
    """

    defect: Defect
    sees: Sees | None = None
    says: Says | None = None
    does: Does | None = None
    ends: Callable[[System, Call], bool] | None = None
    leaves: str | None = None
    gives_up: str | None = None
    forsakes: str | None = None
    abandons: str | None = None
    forbidden: str | None = None
    silent: bool = False


def deviating(deviations: Sequence[Deviation], system: System, call: Call) -> list[Plan]:
    """Return what a tree with these defects may do beyond what is allowed; they add up."""
    situations: list[tuple[System, Call, Restore, tuple[str, ...]]] = [(system, call, _same, ())]
    for each in deviations:
        if each.sees is not None:
            situations += [
                (other, instead, _both(restore, before), (*known, each.defect.finding))
                for seen, request, before, known in situations
                for other, instead, restore in each.sees(seen, request)
            ]
    right: list[Plan] = []
    wrong: list[Plan] = []
    for other, instead, restore, known in situations:
        for plan in predict(other, instead):
            (wrong if known else right).extend(_noted(plan, restore, known))
        for each in deviations:
            if each.does is not None:
                for plan in each.does(other, instead):
                    wrong += _noted(plan, restore, (*known, each.defect.finding))
    said = [each for each in deviations if each.says is not None]

    def instead_of(outcome: Outcome) -> list[Outcome]:
        return _said(said, system, call, outcome)[1:]

    def beside(outcome: Outcome) -> list[Outcome]:
        return _said(said, system, call, outcome)

    return [
        *(new for plan in right for new in changed(plan, instead_of)),
        *(new for plan in wrong for new in changed(plan, beside)),
    ]


def _noted(plan: Plan, restore: Restore, known: tuple[str, ...]) -> Iterator[Plan]:
    def note(outcome: Outcome) -> Iterator[Outcome]:
        yield replace(outcome, after=restore(outcome.after), known=(*outcome.known, *known))

    return changed(plan, note)


def _said(
    deviations: Sequence[Deviation], system: System, call: Call, outcome: Outcome
) -> list[Outcome]:
    """Return an outcome, and all that is said instead of it by one of these or by several."""
    found = [outcome]
    for each in deviations:
        assert each.says is not None
        found += [
            replace(new, known=(*before.known, each.defect.finding))
            for before in found
            for new in each.says(system, call, before)
        ]
    return found


def _same(system: System) -> System:
    return system


def _both(first: Restore, second: Restore) -> Restore:
    return lambda system: second(first(system))
