# SPDX-License-Identifier: GPL-2.0-only
"""A series on the terminal: a table that grows while it is looked at, and the findings below it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from types import TracebackType

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.syntax import Syntax
from rich.table import Table

from ffashim.series.commits import Series
from ffashim.series.findings import ERROR, NOTE, WARNING, Finding, Judgement, Verdict
from ffashim.series.tasks import Result, Task

COLUMNS = {
    "compiles": "builds",
    "conformance": "tests",
    "compares": "behaviour",
    "mutants": "mutants",
}
"""Kinds of tasks, and the column that each belongs to."""
_HEADINGS = ("builds", "tests", "behaviour", "coverage", "mutants")
_SILENCE = 15.0
"""Seconds after which those who see no table, in a log, are told how far it is."""
_COLOURS = {ERROR: "red", WARNING: "yellow", NOTE: "cyan"}
RULES = {
    "builds": ("build", "warning"),
    "tests": ("test", "defect", "lost", "fixed", "unknown"),
    "behaviour": ("claim", "behaviour", "order", "timing"),
}


def _columns(task: Task) -> list[str]:
    names = [COLUMNS[task.kind]] if task.kind in COLUMNS else []
    return [*names, "coverage"] if task.what.get("counted") else names


class Watch:
    """The table while the series is looked at: how much of each commit is done."""

    def __init__(self, series: Series, console: Console) -> None:
        self._series = series
        self._done: Counter[tuple[int, str]] = Counter()
        self._wanted: Counter[tuple[int, str]] = Counter()
        self._known = 0
        self._console = console
        self._said = time.monotonic()
        self._told = False
        self._live = Live(self._table(), console=console, transient=True, auto_refresh=False)

    def __enter__(self) -> Watch:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()
        if self._told:
            self._tell()

    def expect(self, wanted: Sequence[Task]) -> None:
        """Take up what is going to be done."""
        self._wanted.update((task.about, name) for task in wanted for name in _columns(task))
        self._live.update(self._table(), refresh=True)

    def done(self, task: Task, result: Result, known: bool) -> None:
        """Take up that a task has ended."""
        self._done.update((task.about, name) for name in _columns(task))
        self._known += known
        self._live.update(self._table(), refresh=True)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._said >= _SILENCE:
            self._said = now
            self._told = True
            self._tell()

    def _tell(self) -> None:
        told = f"{self._done.total()} of {self._wanted.total()} steps done, more may follow"
        self._console.print(told, highlight=False)

    def _table(self) -> Table:
        table = _grid("commit", *_HEADINGS)
        rows = ["base", *(f"{c.number} {c.subject}" for c in self._series.commits)]
        for number, row in enumerate(rows):
            table.add_row(escape(row), *(self._cell(number, name) for name in _HEADINGS))
        if self._known:
            table.caption = f"{self._known} results were known"
        return table

    def _cell(self, number: int, heading: str) -> str:
        done, wanted = self._done[number, heading], self._wanted[number, heading]
        if not wanted:
            return "[dim].[/]"
        return f"[green]{done}/{wanted}[/]" if done == wanted else f"{done}/{wanted}"


def _grid(first: str, *others: str) -> Table:
    table = Table(box=SIMPLE_HEAD, expand=True)
    table.add_column(first, no_wrap=True, overflow="ellipsis", ratio=1)
    for heading in others:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def print_verdict(verdict: Verdict, console: Console) -> None:
    """Print the table of all commits, then what there is to say of each."""
    console.print(f"[bold]{escape(verdict.series.title)}[/]")
    console.print(f"base: {verdict.series.base.origin}, {verdict.series.found}", markup=False)
    for note in (*verdict.series.notes, *verdict.notes):
        console.print(f"note: {note}", markup=False, style="dim")
    table = _grid("commit", *_HEADINGS)
    for judgement in verdict.judgements:
        table.add_row(_name(judgement), *cells(judgement))
    console.print(table)
    for judgement in verdict.judgements:
        _print_commit(judgement, console, len(verdict.judgements))
    for judgement, findings in verdict.stumbles:
        console.print(f"[red]{escape(stumble(judgement, findings))}[/]")
    console.print(f"[bold]{escape(summary(verdict))}[/]")


def _name(judgement: Judgement) -> str:
    commit = judgement.commit
    colour = _COLOURS.get(judgement.level, "green")
    return f"[{colour}]{commit.number}[/] {escape(commit.subject)}"


def cells(judgement: Judgement, colours: bool = True) -> list[str]:
    """Return what stands in the columns for a commit."""
    if not judgement.commit.compiled:
        return ["-"] * len(_HEADINGS)

    def painted(text: str, findings: Sequence[Finding]) -> str:
        levels = {finding.level for finding in findings}
        worst = next((each for each in (ERROR, WARNING, NOTE) if each in levels), "")
        return f"[{_COLOURS[worst]}]{text}[/]" if worst and colours else text

    builds, tests, behaviour = (judgement.of(*RULES[name]) for name in _HEADINGS[:3])
    broken = len(judgement.of("test", "defect", "lost"))
    fixed = len(judgement.of("fixed"))
    parts = [*([f"{broken} worse"] if broken else []), *([f"{fixed} better"] if fixed else [])]
    tested, compared = judgement.outcomes.total(), judgement.conversations
    marks = Counter(mark for of in judgement.margin.values() for mark in of.values())
    counted = sum(marks.values())
    fates = judgement.mutants
    noticed, survived = fates["noticed"], fates["survived"]
    built = painted(f"{len(builds)} worse" if builds else "ok", builds)
    if judgement.broken:
        built = "[red]does not build[/]" if colours else "does not build"
    return [
        built,
        painted(", ".join(parts) or ("same" if tested else "-"),
                [f for f in tests if f.rule != "fixed"]),
        painted(f"{len(behaviour)} changed" if behaviour else "none seen" if compared else "-",
                behaviour),
        painted(f"{counted - marks['missed']}/{counted}" if counted else "-",
                judgement.of("coverage")),
        painted(f"{noticed}/{noticed + survived}" if noticed + survived else "-",
                judgement.of("mutant")),
    ]  # fmt: skip


def _print_commit(judgement: Judgement, console: Console, total: int) -> None:
    commit = judgement.commit
    if not judgement.findings:
        return
    console.print(f"\n[bold]{commit.number}/{total} {escape(commit.subject)}[/]")
    for line in lines(judgement):
        console.print(f"  {line}")
    for finding in judgement.findings:
        if finding.test and finding.level == ERROR:
            console.print(Syntax(finding.test, "python", theme="ansi_dark", word_wrap=True))


_MOST = 12
"""Findings of a rule that are named before the rest is counted."""


def lines(judgement: Judgement, markup: bool = True) -> Iterator[str]:
    """Yield a line for each finding of a commit, the rest of many alike as a number."""
    for rule in dict.fromkeys(finding.rule for finding in judgement.findings):
        same = judgement.of(rule)
        for finding in same[:_MOST]:
            label, text = finding.level, finding.title
            if finding.mended:
                text += f"; commit {finding.mended} mends it"
            if where := ", ".join(finding.where):
                text += f" [{where}]"
            if markup:
                yield f"[{_COLOURS[finding.level]}]{label}:[/] {escape(text)}"
            else:
                yield f"{label}: {text}"
        if len(same) > _MOST:
            yield f"{same[0].level}: and {len(same) - _MOST} more of the kind"


def stumble(judgement: Judgement, findings: Sequence[Finding]) -> str:
    """Say that who bisects stops at a commit, by what one later commit mends."""
    commit = judgement.commit
    more = f"; and {len(findings) - 1} more" if len(findings) > 1 else ""
    return (
        f"not bisectable: commit {commit.number} ({commit.subject}) breaks what commit "
        f"{findings[0].mended} mends: {findings[0].title}{more}"
    )


def summary(verdict: Verdict) -> str:
    """Return the verdict in a line."""
    counts = Counter(f.level for j in verdict.judgements for f in j.findings)
    commits = len(verdict.judgements)
    told = f"{commits} commit{'s' if commits != 1 else ''}: "
    if not counts[ERROR]:
        told += "sound"
    else:
        bad = [str(j.commit.number) for j in verdict.judgements if j.level == ERROR]
        told += f"not sound: see {', '.join(bad)}"
    return told + f" ({counts[ERROR]} errors, {counts[WARNING]} warnings, {counts[NOTE]} notes)"
