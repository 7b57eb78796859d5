# SPDX-License-Identifier: GPL-2.0-only
"""How many mutants the suite notices: tables for people, and JSON.

:meth:`Report.as_json` gives it in this shape::

    {"format": 1,
     "tree": {...},                                 # the record of `ffashim build`
     "totals": {"noticed": 90, "survived": 4, "equivalent": 3, "refused": 5, "same": 6,
                "duplicate": 7},
     "score": 95.7,                                 # noticed in 100 of noticed and survived
     "mutants": [{"key": "ffa_mem_share/swap/0a1b2c3d",
                  "within": ["4e5f6a7b"],           # the conditions of the ifs around it
                  "file": "ffa_shm.c", "line": 12, "function": "ffa_mem_share",
                  "operator": "swap", "before": "a, b", "after": "b, a",
                  "fate": "noticed",                # one of the names in totals
                  "test": "test_mem_share.py::...", # which noticed it
                  "why": "..."}]}                   # what the test said, or why none can tell
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ffashim.errors import UsageError
from ffashim.mutants.reasons import Reason, find
from ffashim.mutants.run import Fate, Result

EQUIVALENT = "equivalent"
"""The fate of a mutant that survives because nobody could tell it from the original."""
_NO_MUTANTS = (Fate.REFUSED.value, Fate.SAME.value, Fate.DUPLICATE.value)
_FATES = (Fate.NOTICED.value, Fate.SURVIVED.value, EQUIVALENT, *_NO_MUTANTS)


@dataclass
class Report:
    """The results of a run, as they come, and what is known of why mutants survive."""

    reasons: Sequence[Reason]
    results: list[Result] = field(default_factory=list)

    def fate_of(self, result: Result) -> str:
        """Return what became of a mutant, in a word."""
        if result.fate is Fate.SURVIVED:
            reason = find(result.mutant, self.reasons)
            if reason is not None and reason.equivalent:
                return EQUIVALENT
        return result.fate.value

    def fates(self, results: Iterable[Result] | None = None) -> Counter[str]:
        """Return how often each fate was met, by all mutants or by some."""
        return Counter(map(self.fate_of, self.results if results is None else results))

    @property
    def score(self) -> float:
        """How many in 100 were noticed of those that could be; 100 if there was none."""
        return _score(self.fates())

    def as_json(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return the report as JSON; see above. record: that of the extension."""
        fates = self.fates()
        return {
            "format": 1,
            "tree": dict(record),
            "totals": {fate: fates[fate] for fate in _FATES},
            "score": round(self.score, 1),
            "mutants": [self._mutant_as_json(result) for result in self.results],
        }

    def _mutant_as_json(self, result: Result) -> dict[str, Any]:
        mutant = result.mutant
        reason = find(mutant, self.reasons) if result.fate is Fate.SURVIVED else None
        return {
            "key": mutant.key,
            "within": list(mutant.within),
            "file": mutant.file,
            "line": mutant.line,
            "function": mutant.function,
            "operator": mutant.operator,
            "before": mutant.before,
            "after": mutant.after,
            "fate": self.fate_of(result),
            "test": result.test,
            "why": reason.why if reason else result.why,
        }

    # --- for people -----------------------------------------------------------------------------

    def print_survivor(self, result: Result, console: Console) -> None:
        """Print a mutant that no test noticed, and why, as far as that is known."""
        mutant = result.mutant
        where = f"{mutant.file}:{mutant.line}, {mutant.function}()"
        console.print(f"[bold]{where}[/]: {mutant.operator}, {self.fate_of(result)}")
        console.print(f"  [red]- {escape(mutant.before)}[/]\n  [green]+ {escape(mutant.after)}[/]")
        if reason := find(mutant, self.reasons):
            console.print(f"  {escape(reason.why)}")
        console.print(f"  {mutant.key}", style="dim")

    def print_tables(self, console: Console) -> None:
        """Print what became of the mutants, by file and by operator, and the score."""
        console.print(self._table("file", lambda result: result.mutant.file))
        console.print(self._table("operator", lambda result: result.mutant.operator))
        fates = self.fates()
        console.print(
            f"Not counted: {fates['refused']} do not compile, the compiler makes the same of "
            f"{fates['same']} as without the mistake and of {fates['duplicate']} as of another."
        )
        counted = fates["noticed"] + fates["survived"]
        console.print(f"{fates['noticed']} of {counted} mutants noticed: {self.score:.1f} in 100")

    def _table(self, title: str, by: Callable[[Result], str]) -> Table:
        table = Table(title, box=SIMPLE_HEAD)
        for heading in ("mutants", "noticed", "survived", EQUIVALENT, "not counted", "in 100"):
            table.add_column(heading, justify="right")
        for name in sorted(set(map(by, self.results))):
            fates = self.fates(result for result in self.results if by(result) == name)
            kept = (fates[fate] for fate in ("noticed", "survived", EQUIVALENT))
            left_out = sum(fates[fate] for fate in _NO_MUTANTS)
            share = f"{_score(fates):.0f}" if fates["noticed"] + fates["survived"] else ""
            counts = (str(count or "") for count in (fates.total(), *kept, left_out))
            table.add_row(name, *counts, share)
        return table


def _score(fates: Mapping[str, int]) -> float:
    counted = fates["noticed"] + fates["survived"]
    return 100 * fates["noticed"] / counted if counted else 100.0


def read_json(file: Path) -> dict[str, dict[str, Any]]:
    """Read a report. Return its mutants by their keys. Raises UsageError."""
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
        return {each["key"]: each for each in report["mutants"]}
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file} is no report that `ffashim mutants --json` wrote") from error
