# SPDX-License-Identifier: GPL-2.0-only
"""The conformance report: what each test of the suite found, sorted by tree and by ABI.

:class:`Recorder` is the pytest plugin that gathers the results; this module is one too, by which
each test's report says on which tree it ran (``-p ffashim.report``). The suite has a file per ABI,
and in directories of their own one per client and one per part of Arm's compliance suite; each is
named by its docstring, before a colon.

:func:`as_json` gives the report as JSON of this shape::

    {"format": 1,
     "status": "passed" | "failed",
     "trees": [{"tree": "Xen 4.20 from ..., FFA_VM_TO_VM=y", # what was tested, for people
                "build": {...},                              # the record of `ffashim build`
                "totals": {"passed": 9, "failed": 0, "known_defect": 1, "not_applicable": 2},
                "abis": [{"abi": "FFA_ID_GET", "file": "abi/test_id_get.py",
                          "totals": {...},                   # as above
                          "tests": [{"name": "test_guest_gets_its_own_id",
                                     "outcome": "passed",    # one of the names in totals
                                     "seconds": 0.003,
                                     "reason": "",           # why, if the outcome is another one
                                     "new": [],              # defects that the baseline has not
                                     "mended": []}]}]}]}     # defects that only the baseline has
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ffashim.baseline import MENDED_PROPERTY, NEW_PROPERTY
from ffashim.failures import FAULT
from ffashim.faults import alike
from ffashim.variants import title

TREE_PROPERTY = "ffashim.tree"
"""The key in a test's ``user_properties`` whose value names the tree that it ran on."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note the tree and variant that the ``extension`` fixture is about to build."""
    callspec = getattr(item, "callspec", None)
    if callspec and "extension" in callspec.params:
        item.user_properties.append((TREE_PROPERTY, title(*callspec.params["extension"])))


class Outcome(Enum):
    """What became of a test; of those of its phases, the worst, which stands last here."""

    PASSED = "passed"
    NOT_APPLICABLE = "not_applicable"
    KNOWN_DEFECT = "known_defect"
    FAILED = "failed"

    @property
    def title(self) -> str:
        """The outcome in words."""
        return self.value.replace("_", " ")

    @property
    def heading(self) -> str:
        """The outcome as a column's heading."""
        return "n/a" if self is Outcome.NOT_APPLICABLE else self.title

    @property
    def colour(self) -> str:
        """The outcome's colour on a terminal."""
        return _COLOURS[self]


_COLOURS = {
    Outcome.PASSED: "green",
    Outcome.NOT_APPLICABLE: "dim",
    Outcome.KNOWN_DEFECT: "yellow",
    Outcome.FAILED: "red",
}
_SEVERITY = list(Outcome)
_COLUMNS = (Outcome.PASSED, Outcome.FAILED, Outcome.KNOWN_DEFECT, Outcome.NOT_APPLICABLE)


@dataclass(frozen=True)
class Result:
    """One test on one tree. ``seconds`` counts set-up and tear-down too."""

    tree: str
    abi: str
    file: str
    name: str
    outcome: Outcome
    seconds: float
    reason: str = ""
    fault: bool = False
    """It failed by a XenFault, which the reason names."""
    new: tuple[str, ...] = ()
    """Defects that a change has brought: the baseline does not have them."""
    mended: tuple[str, ...] = ()
    """Defects that a change has mended: the baseline has them, and the test passes."""


@dataclass
class Recorder:
    """A pytest plugin that keeps a result for each test under ``suite``.

    With pytest-xdist it belongs into the controlling process, which gets every worker's reports.
    """

    suite: Path
    _results: dict[str, Result] = field(default_factory=dict)

    @property
    def results(self) -> list[Result]:
        """What was found so far, in the order of trees, parts of the suite, ABIs and names."""
        return sorted(
            self._results.values(), key=lambda r: (r.tree, part(r.file), r.abi, r.file, r.name)
        )

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take up one phase (set-up, call or tear-down) of a test."""
        outcome = _outcome(report)
        self._add(report, outcome, _reason(report, outcome), report.duration)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Take up a file that cannot be imported: none of its tests was run."""
        if report.failed:
            self._add(report, Outcome.FAILED, _reason(report, Outcome.FAILED), 0.0)

    def _add(
        self,
        report: pytest.TestReport | pytest.CollectReport,
        outcome: Outcome,
        reason: str,
        seconds: float,
    ) -> None:
        path, _, name = report.nodeid.partition("::")
        properties: list[tuple[str, object]] = getattr(report, "user_properties", [])
        tree = str(dict(properties).get(TREE_PROPERTY, ""))
        new, mended = (
            tuple(str(value) for key, value in properties if key == name)
            for name in (NEW_PROPERTY, MENDED_PROPERTY)
        )
        fault = outcome is Outcome.FAILED and bool(getattr(report, FAULT, ""))
        old = self._results.get(report.nodeid)
        if old:
            seconds += old.seconds
            tree = tree or old.tree
            if _SEVERITY.index(old.outcome) >= _SEVERITY.index(outcome):
                outcome, reason, fault = old.outcome, old.reason, old.fault
        if outcome is not Outcome.PASSED:
            mended = ()
        self._results[report.nodeid] = Result(
            tree,
            abi_name(self.suite / path),
            path,
            name,
            outcome,
            seconds,
            reason,
            fault,
            new,
            mended,
        )


def part(file: str) -> str:
    """Return the part of the suite that a file belongs to: its directory in it."""
    return file.rpartition("/")[0]


@cache
def abi_name(path: Path) -> str:
    """Return what a file of the suite is about: what its docstring says before a colon."""
    try:
        title = ast.get_docstring(ast.parse(path.read_bytes())) or ""
    except (OSError, SyntaxError):
        title = ""
    return title.partition("\n")[0].partition(":")[0].rstrip(".") or path.stem.removeprefix("test_")


def _outcome(report: pytest.TestReport) -> Outcome:
    if report.failed:
        return Outcome.FAILED
    if report.skipped:
        return Outcome.KNOWN_DEFECT if hasattr(report, "wasxfail") else Outcome.NOT_APPLICABLE
    return Outcome.PASSED


def _reason(report: pytest.TestReport | pytest.CollectReport, outcome: Outcome) -> str:
    """Return one line on why a test did not pass."""
    if outcome is Outcome.PASSED:
        return ""
    if outcome is Outcome.KNOWN_DEFECT:
        reason = str(getattr(report, "wasxfail", "")).removeprefix("reason: ")
        return reason.removeprefix("known defect: ")
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    if fault := getattr(report, FAULT, ""):
        return str(fault)
    if crash := getattr(report.longrepr, "reprcrash", None):
        return str(crash.message).split("\n", 1)[0]
    # What pytest says of an import that failed ends in the exception.
    return report.longreprtext.strip().rpartition("\n")[2].removeprefix("E").strip()


def failed(results: Iterable[Result]) -> bool:
    """Tell whether any test failed."""
    return any(result.outcome is Outcome.FAILED for result in results)


def as_json(results: Iterable[Result], records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the report as the module's docstring describes it, ready for json.dump().

    ``records`` maps the names of trees to the records of their builds.
    """
    results = list(results)
    return {
        "format": 1,
        "status": "failed" if failed(results) else "passed",
        "trees": [
            {
                "tree": tree,
                "build": dict(records.get(tree, {})),
                "totals": _totals_json(of_tree),
                "abis": [
                    {
                        "abi": abi,
                        "file": file,
                        "totals": _totals_json(of_abi),
                        "tests": [
                            {
                                "name": result.name,
                                "outcome": result.outcome.value,
                                "seconds": round(result.seconds, 6),
                                "reason": result.reason,
                                "new": list(result.new),
                                "mended": list(result.mended),
                            }
                            for result in of_abi
                        ],
                    }
                    for (abi, file), of_abi in _by_abi(of_tree).items()
                ],
            }
            for tree, of_tree in _by_tree(results).items()
        ],
    }


def print_tables(results: Iterable[Result], console: Console) -> None:
    """Print a table for each tree, an ABI or client a line, and what is to be known of it below."""
    for tree, of_tree in _by_tree(results).items():
        console.print(_table(tree, of_tree))
        for label, colour, line in _explanations(of_tree):
            marked = f"[{colour}]{label}:[/] {escape(line)}"
            console.print(marked, soft_wrap=True, highlight=False)


def _explanations(results: list[Result]) -> Iterator[tuple[str, str, str]]:
    """Yield label, colour and text: a line for each defect, known or mended, whatever it breaks,
    and last, where a terminal shows them, one for each failed test.

    A fault or a new defect that fails many tests gets one line too. Tests whose own assertions
    fail have a line each: alike in words is not alike in cause.
    """
    failed: dict[str, list[Result]] = {}
    first: dict[str, str] = {}
    known: dict[str, list[Result]] = {}
    mended: dict[str, list[Result]] = {}
    for result in results:
        if result.outcome is Outcome.FAILED:
            why = f"new defect: {'; '.join(result.new)}" if result.new else result.reason
            kind = alike(why) if result.fault and not result.new else why
            failed.setdefault(kind, []).append(result)
            first.setdefault(kind, why)
        elif result.outcome is Outcome.KNOWN_DEFECT:
            known.setdefault(result.reason, []).append(result)
        for finding in result.mended:
            mended.setdefault(finding, []).append(result)
    for finding, found in known.items():
        yield _label(Outcome.KNOWN_DEFECT, f"{finding} ({_extent(found)})")
    for finding, found in mended.items():
        yield "mended", Outcome.PASSED.colour, f"{finding} ({_extent(found)})"
    for kind, found in failed.items():
        # At a place in Xen they are one thing to mend, however few.
        few = 1 if kind != first[kind] else _ONE_BY_ONE
        if len(found) > few and all(result.fault or result.new for result in found):
            yield _label(Outcome.FAILED, f"{first[kind]} ({_extent(found)})")
        else:
            for result in found:
                why = first[kind] if result.new else result.reason
                yield _label(Outcome.FAILED, f"{result.abi}: {result.name}: {why}")


_ONE_BY_ONE = 3
"""How many tests that fail for the same reason have a line each."""


def _label(outcome: Outcome, line: str) -> tuple[str, str, str]:
    return outcome.title, outcome.colour, line


def _extent(found: list[Result]) -> str:
    abis = ", ".join(dict.fromkeys(result.abi for result in found))
    return f"{len(found)} test{'s' if len(found) > 1 else ''} of {abis}"


_ABI_WIDTH = 36
"""So that the table fits 80 columns."""


def _table(tree: str, results: list[Result]) -> Table:
    table = Table(
        title=escape(f"Conformance of {tree}" if tree else "Conformance"),
        title_justify="left",
        show_footer=True,
    )
    totals = _count(results)
    table.add_column("ABI or client", footer="all", max_width=_ABI_WIDTH)
    for outcome in _COLUMNS:
        table.add_column(
            outcome.heading, footer=str(totals[outcome]), justify="right", no_wrap=True
        )
    before = None
    for (abi, file), of_abi in _by_abi(results).items():
        if before not in (None, part(file)):
            table.add_section()
        before = part(file)
        counts = _count(of_abi)
        cells = (
            f"[{outcome.colour}]{counts[outcome]}[/]" if counts[outcome] else ""
            for outcome in _COLUMNS
        )
        table.add_row(escape(abi), *cells)
    return table


def _by_tree(results: Iterable[Result]) -> Mapping[str, list[Result]]:
    return {key: list(group) for key, group in groupby(results, lambda r: r.tree)}


def _by_abi(results: Iterable[Result]) -> Mapping[tuple[str, str], list[Result]]:
    return {key: list(group) for key, group in groupby(results, lambda r: (r.abi, r.file))}


def _count(results: Iterable[Result]) -> Counter[Outcome]:
    return Counter(result.outcome for result in results)


def _totals_json(results: Iterable[Result]) -> dict[str, int]:
    counts = _count(results)
    return {outcome.value: counts[outcome] for outcome in _COLUMNS}
