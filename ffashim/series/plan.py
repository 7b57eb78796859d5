# SPDX-License-Identifier: GPL-2.0-only
"""What is to be done for a series, task by task, in stages: each of what the last has found.

A further check of every commit is a method here that yields tasks, one a tree and configuration,
and a name in `Plan.of_trees`; `work` says how it is done. Sanitizers are a matter of the build that
the suite runs on, see `Plan._conformance`.
"""

from __future__ import annotations

import functools
import importlib.util
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ffashim import loader, suite
from ffashim.series import content, killers, lines, tasks
from ffashim.series.commits import Series
from ffashim.series.tasks import Result, Task
from ffashim.source import Tree
from ffashim.variants import nearest, variants

Settings = Mapping[str, str]


@dataclass(frozen=True)
class Effort:
    """How much is done.

    examples: of what tests draw at random, None is the suite's own number. tests: a ``-m`` of
    pytest. conversations, steps: drafted with the base, and as many with each commit's tree.
    compared: so many kinds of difference are looked into. tries: so many shorter conversations
    are played for each. mutants: of the lines that the series changes, at most.
    """

    examples: int | None
    tests: str
    conversations: int
    steps: int
    compared: int
    tries: int
    mutants: int


EFFORTS = {
    "quick": Effort(40, "not slow", 20, 25, 24, 150, 16),
    "full": Effort(None, "", 150, 40, 60, 600, 150),
}
SEED = 1
"""What conversations and samples are drawn with."""

Done = Callable[[Task, Result, bool], None]
Expect = Callable[[Sequence[Task]], None]


@dataclass
class Results:
    """Results by what they are about: the number of a tree (0 is the base), then a configuration or
    a compiler.
    """

    compiles: dict[tuple[int, str], Result] = field(default_factory=dict)
    conformance: dict[tuple[int, str], Result] = field(default_factory=dict)
    compares: dict[tuple[int, str], Result] = field(default_factory=dict)
    coverage: Result = field(default_factory=dict)
    mutants: Result = field(default_factory=dict)


def name_of(settings: Settings) -> str:
    """Return a configuration in words."""
    return " ".join(f"{name}={value}" for name, value in sorted(settings.items())) or "default"


def subject(tree: Tree) -> dict[str, str]:
    """Return a tree as `work.tree_of` takes it."""
    return {"root": str(tree.root), "spec": tree.spec, "origin": tree.origin}


class Plan:
    """What is to be done for a series.

    settings: Kconfig symbols for all of it. cc: what tests are compiled with. compilers: those
    whose warnings are looked at. keyword: which tests, as pytest's ``-k``; None is all.
    sanitize: names of the sanitizers that the suite runs with.
    """

    def __init__(
        self,
        series: Series,
        settings: Settings,
        cc: str,
        compilers: Sequence[str],
        effort: Effort,
        keyword: str | None = None,
        sanitize: Sequence[str] = (),
    ) -> None:
        self.series = series
        self.trees = series.trees
        self.settings = settings
        self.cc = cc
        self.compilers = compilers
        self.effort = effort
        self._sanitize = list(sanitize)
        self._keyword = keyword
        self._selected = {"examples": effort.examples, "tests": effort.tests, "keyword": keyword}
        self._variants: dict[Path, list[dict[str, str]]] = {}
        self.found = Results()
        self.notes: list[str] = []
        """What could not be done, and why."""

    def run(self, jobs: int, done: Done, expect: Expect = lambda tasks: None) -> Results:
        """Do it all, ``jobs`` tasks at a time.

        expect: told the tasks of each stage before it begins. done: told each result as it comes.
        """
        if not any(commit.compiled for commit in self.series.commits):
            return self.found

        def stage(wanted: Sequence[Task]) -> Mapping[str, Result]:
            expect(wanted)
            return tasks.run(wanted, jobs, done)

        self._require_tests(stage)
        first, counts, draft = self.of_trees(), self.counts(), self.draft()
        results = stage([draft, *first, *(task for task in counts if task not in first)])
        for task in first:
            into = self.found.compiles if task.kind == "compiles" else self.found.conformance
            name = task.what["cc"] if task.kind == "compiles" else name_of(task.what["settings"])
            into[task.about, name] = results[task.key]
        self.found.coverage = self._coverage([results[task.key] for task in counts])
        compares = [] if "failed" in results[draft.key] else list(self.compares(draft))
        mutants = self.mutants(jobs)  # runs so many processes itself: last of all
        results = stage([*compares, *mutants])
        for task in compares:
            name = name_of(task.what["settings"][1])
            self.found.compares[task.about, name] = results[task.key]
        for task in mutants:
            self.found.mutants = results[task.key]
            killers.remember(self.found.mutants.get("mutants", ()))
        return self.found

    def _require_tests(self, stage: Callable[[Sequence[Task]], Mapping[str, Result]]) -> None:
        """Refuse a ``-k`` that selects nothing before anything is built."""
        if (keyword := self._keyword) is None:
            return
        tree = self.trees[0]
        means = [content.identity(tree), keyword]
        task = Task("selects", {"tree": subject(tree), "keyword": keyword}, means)
        suite.require_tests(stage([task])[task.key].get("status"), keyword)

    # --- each tree by itself ----------------------------------------------------------------------

    def of_trees(self) -> list[Task]:
        """Return what is done to each tree, commit by commit, the base first."""
        return [
            task
            for number, tree in enumerate(self.trees)
            for make in (self._conformance, self._compiles)
            for task in make(number, tree)
        ]

    def _conformance(self, number: int, tree: Tree) -> Iterator[Task]:
        last = content.identity(tree) == content.identity(self.trees[-1])
        counted = self.counted if last and not self._sanitize else []
        yield from self._suite(number, tree, self._sanitize, counted)

    def _suite(
        self, number: int, tree: Tree, sanitize: Sequence[str], counted: Sequence[str]
    ) -> Iterator[Task]:
        how: dict[str, Any] = {"cc": self.cc, "selected": self._selected}
        how |= {"sanitize": list(sanitize), "counted": list(counted)}
        for chosen in self.variants(tree):
            yield self._task("conformance", number, tree, {**how, "settings": chosen})

    def _compiles(self, number: int, tree: Tree) -> Iterator[Task]:
        for cc in self.compilers:
            how = {"settings": nearest(tree, self.settings), "cc": cc}
            yield self._task("compiles", number, tree, how)

    def variants(self, tree: Tree) -> list[dict[str, str]]:
        """Return the configurations that a tree is tested in."""
        if tree.root not in self._variants:
            self._variants[tree.root] = variants(tree, nearest(tree, self.settings))
        return self._variants[tree.root]

    def _task(self, kind: str, number: int, tree: Tree, how: Mapping[str, Any]) -> Task:
        means = [content.identity(tree), identity(str(how["cc"])), how]
        return Task(kind, {"tree": subject(tree), **how}, means, number)

    # --- behaviour --------------------------------------------------------------------------------

    def draft(self) -> Task:
        """Return what makes conversations with the base, which are the same for all commits."""
        how = {"settings": self.variants(self.trees[0])[-1], "cc": self.cc, "drafts": self._drafts}
        task = self._task("conversations", 0, self.trees[0], how)
        return replace(task, what={**task.what, "file": str(task.file.with_name("scripts"))})

    @property
    def _drafts(self) -> dict[str, int]:
        effort = self.effort
        return {"count": effort.conversations, "steps": effort.steps, "seed": SEED}

    def compares(self, draft: Task) -> Iterator[Task]:
        """Yield what compares each commit with the one before, as far as both were built."""
        for number, commit in enumerate(self.series.commits, 1):
            if not commit.compiled:
                continue
            for chosen in self.variants(commit.tree):
                before = nearest(commit.before, chosen)
                if "y" in set(chosen.values()) - set(before.values()):
                    continue  # an option that was not there before
                if self._built(number - 1, before) and self._built(number, chosen):
                    yield self._compare(number, before, chosen, draft)

    def _compare(self, number: int, before: Settings, chosen: Settings, draft: Task) -> Task:
        commit = self.series.commits[number - 1]
        how = {
            "settings": [dict(before), dict(chosen)],
            "cc": self.cc,
            "drafts": self._drafts,
            "compared": self.effort.compared,
            "tries": self.effort.tries,
        }
        trees = {"before": commit.before, "after": commit.tree}
        means = [[content.identity(tree) for tree in trees.values()], identity(self.cc), how,
                 draft.key]  # fmt: skip
        subjects = {name: subject(tree) for name, tree in trees.items()}
        return Task("compares", {**subjects, **how, "file": draft.what["file"]}, means, number)

    def _built(self, number: int, chosen: Settings) -> bool:
        result = self.found.conformance.get((number, name_of(chosen)), {"failed": ""})
        return not result.get("error") and "failed" not in result

    # --- what the series changes, at its end ------------------------------------------------------

    @functools.cached_property
    def owners(self) -> lines.Owners:
        """Which commit has added which of the lines that the series leaves."""
        return lines.owners(self.series)

    @functools.cached_property
    def counted(self) -> list[str]:
        """The files of the last tree of which it is counted what tests reach: those with lines
        that the series leaves, if that can be done.
        """
        if self.owners and (why := lines.not_counted(self.cc)):
            self.notes.append(f"coverage was not counted: {why}")
            return []
        return sorted(self.owners)

    def counts(self) -> list[Task]:
        """Return what counts the lines that tests reach: the suite's runs on the last tree, or
        further ones, where those are of builds with sanitizers.
        """
        last = len(self.trees) - 1
        return list(self._suite(last, self.trees[-1], [], self.counted)) if self.counted else []

    def _coverage(self, results: Sequence[Result]) -> Result:
        if not results or any(result.get("error") for result in results):
            return {}
        documents = [result.get("counted", result) for result in results]
        failed = [each for each in documents if "failed" in each]
        return failed[0] if failed else {"lines": lines.reached(documents)}

    def mutants(self, jobs: int) -> list[Task]:
        """Return what makes mutants of the changed lines of the last tree."""
        tree = self.trees[-1]
        if not self.owners or not self._all_built() or not self.effort.mutants:
            return []
        if importlib.util.find_spec("tree_sitter_c") is None:
            self.notes.append("no mutants were made: pip install 'ffashim[mutants]'")
            return []
        *_, seen = self._conformance(len(self.trees) - 1, tree)
        how = {
            "settings": self.variants(tree)[-1],
            "cc": self.cc,
            "selected": self._selected,
            "lines": {file: sorted(of) for file, of in self.owners.items()},
            "most": self.effort.mutants,
            "seed": SEED,
        }
        task = self._task("mutants", len(self.trees) - 1, tree, how)
        hints = {"jobs": jobs, "seen": str(seen.file), "killers": killers.known()}
        return [replace(task, what={**task.what, **hints})]

    def _all_built(self) -> bool:
        last = len(self.trees) - 1
        return all(self._built(last, chosen) for chosen in self.variants(self.trees[-1]))


def compilers(cc: str) -> list[str]:
    """Return those whose warnings are looked at: gcc and clang, as far as they are there."""
    found = [name for name in ("gcc", "clang") if shutil.which(name)]
    return found or [cc]


@functools.cache
def identity(cc: str) -> Any:
    """Return what changes when a compiler does."""
    return loader.identity(cc)
