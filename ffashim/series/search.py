# SPDX-License-Identifier: GPL-2.0-only
"""The first commit of a range at which a test fails, by halves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ffashim import suite
from ffashim.errors import SourceError, UsageError
from ffashim.series import content, history, plan, tasks
from ffashim.series.history import Entry, History
from ffashim.series.tasks import Task
from ffashim.source import Tree, git


@dataclass(frozen=True)
class Test:
    """What is tried on each tree: tests by a ``-k`` of pytest, of a file or of the suite."""

    __test__ = False

    keyword: str | None
    file: Path | None
    settings: Mapping[str, str]
    cc: str


@dataclass(frozen=True)
class Probe:
    """A commit that was tried: passed, failed, or not to be told."""

    name: str
    subject: str
    outcome: str
    why: str


PASSED, FAILED, UNTOLD = "passed", "failed", "cannot be told"
NOTHING_SELECTED, NOTHING_APPLIES = "no test is selected", "no test applies"
"""Why nothing can be told, beside a commit that does not build."""

Tell = Callable[[Probe], None]


def open_range(what: str) -> tuple[History, str, list[Entry]]:
    """Return a repository, the commit before a range of it, and the commits of the range.

    Merges are followed by their first parents. Raises UsageError or SourceError.
    """
    named = list(history.split(what))
    for directory, revisions in named:
        if directory.is_dir():
            repository = History(directory)
            return repository, *repository.line(revisions)
    if not named:
        raise UsageError(f"{what}: name a range of a git repository, DIR@A..B")
    raise UsageError(f"{what}: there is no directory {named[0][0]}")


def require_tests(repository: History, entries: Sequence[Entry], test: Test) -> None:
    """Refuse a ``-k`` that selects nothing before anything is built. Raises UsageError."""
    if test.keyword is None:
        return
    try:
        tree = _tree(repository, entries[-1].hash)
    except SourceError:
        return  # which is told when the commit is tried
    file = str(test.file) if test.file else None
    what = {"tree": plan.subject(tree), "keyword": test.keyword, "file": file}
    task = Task("selects", what, [content.identity(tree), test.keyword, _content(test)])
    status = tasks.run([task], 1, lambda *_: None)[task.key].get("status")
    suite.require_tests(status, test.keyword, file or "the suite")


def first_bad(
    repository: History, before: str, entries: Sequence[Entry], test: Test, tell: Tell
) -> list[Entry]:
    """Return the first commit at which the test fails; more than one if others that might be it
    cannot be tried. It is the last of these.

    Raises UsageError unless the test passes before the range and fails at its end.
    """
    searcher = _Searcher(repository, test, tell)
    good, bad = -1, len(entries) - 1
    start = Entry(before, "", "the commit before the range", "", b"")
    for entry, wanted in ((start, PASSED), (entries[bad], FAILED)):
        found = searcher.probe(entry)
        if found.outcome != wanted:
            raise UsageError(_not_as_said(found, wanted, test))
    untold: set[int] = set()
    while True:
        open_ = [n for n in range(good + 1, bad) if n not in untold]
        if not open_:
            return list(entries[good + 1 : bad + 1])
        middle = min(open_, key=lambda n: abs(n - (good + bad) / 2))
        outcome = searcher.probe(entries[middle]).outcome
        if outcome == UNTOLD:
            untold.add(middle)
        elif outcome == PASSED:
            good = middle
        else:
            bad = middle


def _not_as_said(found: Probe, wanted: str, test: Test) -> str:
    """Say why there is nothing to search, and what to do about it."""
    name = found.name[:12]
    if found.why == NOTHING_SELECTED:
        of = str(test.file) if test.file else "the suite"
        return suite.nothing_selected(test.keyword, of)
    place, other = ("start", "an earlier") if wanted == PASSED else ("end", "a later")
    here = f"the {place} of the range, {name}"
    if found.why == NOTHING_APPLIES:
        return (
            f"{here}, lacks what the tests need: all are skipped. Let the range {place} elsewhere."
        )
    if found.outcome == UNTOLD:
        return (
            f"{here}, cannot be tried: {found.why}\nLet the range {place} at a commit that builds."
        )
    if wanted == PASSED:
        return (
            f"the test fails before the range, at {name}: {found.why}.\n"
            f"Begin at {other} commit, at which it passes; `ffashim defects` tells since when a"
            " known defect is there."
        )
    return (
        f"the test passes at {here}: no commit of it is bad.\n"
        f"End at {other} commit, at which it fails, or name the tests that fail."
    )


class _Searcher:
    def __init__(self, repository: History, test: Test, tell: Tell) -> None:
        self._repository = repository
        self._test = test
        self._tell = tell
        self._known: dict[str, tuple[str, str]] = {}

    def probe(self, entry: Entry) -> Probe:
        outcome, why = self._outcome(entry.hash)
        found = Probe(entry.hash, entry.subject, outcome, why)
        self._tell(found)
        return found

    def _outcome(self, commit: str) -> tuple[str, str]:
        try:
            tree = _tree(self._repository, commit)
        except SourceError as error:
            return UNTOLD, str(error).partition("\n")[0]
        identity = content.identity(tree)
        if identity not in self._known:
            self._known[identity] = self._run(tree)
        return self._known[identity]

    def _run(self, tree: Tree) -> tuple[str, str]:
        task = self._task(tree)
        result = tasks.run([task], 1, lambda *_: None)[task.key]
        if why := result.get("failed") or result.get("error"):
            lines = str(why).splitlines()
            return UNTOLD, next((line for line in lines if "error:" in line), lines[0])
        outcomes: Mapping[str, str] = result["tests"]
        # Who asks for the beginning of a known defect has named a test that is to fail of it.
        bad = ("failed", "known_defect")
        failed = next((name for name, outcome in outcomes.items() if outcome in bad), None)
        if failed is not None:
            of_it = ", of a known defect" if outcomes[failed] == "known_defect" else ""
            return FAILED, failed.partition("::")[2] + of_it
        if "passed" not in outcomes.values():
            return UNTOLD, NOTHING_APPLIES if outcomes else NOTHING_SELECTED
        return PASSED, ""

    def _task(self, tree: Tree) -> Task:
        test = self._test
        how = {"settings": dict(test.settings), "cc": test.cc, "keyword": test.keyword}
        what = {"tree": plan.subject(tree), **how, "file": str(test.file) if test.file else None}
        means = [content.identity(tree), plan.identity(test.cc), how, _content(test)]
        return Task("tries", what, means)


def _content(test: Test) -> str:
    return test.file.read_text(encoding="utf-8", errors="replace") if test.file else ""


def _tree(repository: History, commit: str) -> Tree:
    directory = repository.directory
    return git.at_revision(f"{directory}@{commit}", directory, commit, _silent)


def _silent(_: str) -> None:
    pass
