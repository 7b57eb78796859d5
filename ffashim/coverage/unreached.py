# SPDX-License-Identifier: GPL-2.0-only
"""What no test has reached: told by file and function, with the reason where one is known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby, zip_longest
from typing import NamedTuple

from ffashim.coverage import union
from ffashim.coverage.gcov import Document
from ffashim.coverage.reasons import REASONS

Changed = Mapping[str, set[int]]
"""Files of a tree to the numbers of their changed lines."""


class Line(NamedTuple):
    """A line that counts."""

    file: str
    number: int
    function: str
    reached: bool
    missed: tuple[int, ...]
    """Those of its branches that were not taken, from 1. All of them if it was not reached."""
    branches: int

    @property
    def gap(self) -> bool:
        """Whether anything of it was not reached."""
        return not self.reached or bool(self.missed)


def lines_of(*documents: Document) -> Iterator[Line]:
    """Yield the lines that count, in their order; each once, though several functions have it.

    documents: of one build, or of several that `union.align` has been given.
    """
    reached: dict[tuple[str, int, str], bool] = {}
    taken: dict[tuple[str, int, str], list[bool]] = {}
    for document in documents:
        for key, line in union.counted(document):
            reached[key] = bool(line["count"]) or reached.get(key, False)
            branches = [bool(branch["count"]) for branch in union.branches(line)]
            pairs = zip_longest(taken.get(key, ()), branches, fillvalue=False)
            taken[key] = [any(each) for each in pairs]
    found: dict[tuple[str, int], list[Line]] = {}
    for key, branches in taken.items():
        file, number, function = key
        missed = tuple(n for n, branch in enumerate(branches, 1) if not branch)
        one = Line(file, number, function, reached[key], missed, len(branches))
        found.setdefault((file, number), []).append(one)
    for same in found.values():
        # Reached in one of them, by a macro's expansion for instance, is not reached in all.
        yield min(same, key=lambda each: (each.reached, -len(each.missed)))


def as_markdown(document: Document, title: str, changed: Changed | None) -> str:
    """Return the list for people: a heading for each file and an item for each function."""
    text = [f"# {title}", ""]
    if changed is not None:
        text += ["## Changed lines", "", *_changes(document, changed), ""]
    gaps = [line for line in lines_of(document) if line.gap]
    for file, of_file in groupby(gaps, key=lambda gap: gap.file):
        text += [f"## {file}", ""]
        by_function: dict[str, list[Line]] = {}
        for gap in of_file:
            by_function.setdefault(gap.function, []).append(gap)
        for function, of_function in by_function.items():
            text.append(f"- `{function or 'no function'}`: {_places(of_function)}")
            text += [f"  - {reason}" for reason in REASONS.get(function, ())]
        text.append("")
    return "\n".join(text)


def of_changes(document: Document, changed: Changed) -> list[str]:
    """Return what was reached of changed lines, for the terminal."""
    return [f"  {line}" for line in _changes(document, changed)]


def _changes(document: Document, changed: Changed) -> list[str]:
    """Say how many changed lines were reached, and list those that were not, a file a line."""
    lines = [line for line in lines_of(document) if line.number in changed.get(line.file, ())]
    if not lines:
        return ["changed lines: none that is code"]
    reached = sum(line.reached for line in lines)
    taken = sum(line.branches - len(line.missed) for line in lines)
    text = [
        f"changed lines: {reached} of {len(lines)} reached, {taken} of "
        f"{sum(line.branches for line in lines)} branches"
    ]
    gaps = [line for line in lines if line.gap]
    for file, of_file in groupby(gaps, key=lambda gap: gap.file):
        text.append(f"- not reached in {file}: {_places(list(of_file))}")
    return text


def _places(gaps: Sequence[Line]) -> str:
    """Name lines as ranges, and the branches of those that were reached."""
    parts = []
    if lines := [gap.number for gap in gaps if not gap.reached]:
        parts.append(f"{'lines' if len(lines) > 1 else 'line'} {_ranges(lines)}")
    if branches := [gap for gap in gaps if gap.reached]:
        listed = ", ".join(
            f"{gap.number} ({_some(gap.missed)} of {gap.branches})" for gap in branches
        )
        parts.append(f"branches of line{'s' if len(branches) > 1 else ''} {listed}")
    return "; ".join(parts)


def _some(numbers: Iterable[int]) -> str:
    return "+".join(map(str, numbers))


def _ranges(numbers: Sequence[int]) -> str:
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ", ".join(f"{a}-{b}" if a != b else f"{a}" for a, b in ranges)
