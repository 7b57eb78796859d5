# SPDX-License-Identifier: GPL-2.0-only
"""What a task does, in a process of its own: from arguments that are JSON to a result that is."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ffashim import loader, paths, suite
from ffashim.errors import BuildError, ConfigError, CoverageError, FfashimError
from ffashim.loader import Extension
from ffashim.machine import Machine
from ffashim.model import corpus, known_of
from ffashim.model.script import Script
from ffashim.report import Outcome
from ffashim.series import behaviour, recording, warnings
from ffashim.source import Tree, store
from ffashim.source.tree import read_version
from ffashim.variants import nearest, variants

if TYPE_CHECKING:
    from ffashim.mutants.source import Mutant

Given = Mapping[str, str]
"""A tree, as `plan.subject` describes it."""
Settings = Mapping[str, str]
Found = dict[str, Any]

_SHOWN = 12_000
"""Characters of what pytest says of a failure that are kept."""
_NAME = "series"
"""What the tree is called in the names of tests, whichever it is."""


class NoResultError(FfashimError):
    """A task has come to no result."""


def tree_of(given: Given) -> Tree:
    """Return the tree that `plan.subject` has described."""
    root = Path(given["root"])
    return Tree(given["spec"], root, given["origin"], read_version(root / "xen"), private=True)


def compiles(tree: Given, settings: Settings, cc: str) -> Found:
    """Say what a compiler says of a tree."""
    return {"said": warnings.diagnose(tree_of(tree), settings, cc)}


def conformance(
    tree: Given,
    settings: Settings,
    cc: str,
    selected: Mapping[str, Any],
    sanitize: Sequence[str],
    counted: Sequence[str],
) -> Found:
    """Run the suite on one configuration of a tree.

    selected: which tests, see `_select`. sanitize: names of sanitizers to build with. counted:
    files of which it is counted, too, what is reached. Tests are known by their names without the
    tree's: what became of each, and why.
    """
    found = tree_of(tree)
    try:
        extension = loader.build(found, settings, cc=cc, sanitize=tuple(sanitize))
    except (BuildError, ConfigError) as error:
        return {"error": str(error), "tests": {}}
    reached: Found = {}
    if counted:
        try:
            extension = loader.build(found, settings, cc=cc, coverage=True)
        except BuildError as error:  # which is not the tree's fault: see above
            counted, reached = (), {"failed": str(error)}
    chosen = Chosen(found, extension)
    arguments = [f"--xen={found.root}", f"--cc={cc}", *_select(selected)]
    arguments += [f"--config={name}={value}" for name, value in settings.items()]
    arguments += [f"--sanitize={','.join(sanitize)}"] if sanitize else []
    status, results = suite.run(arguments, [chosen])
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise NoResultError(f"pytest came to no result: status {status}")
    return {
        "error": "",
        "tests": {
            f"{each.file}::{plain(each.name)}": {
                "name": f"{each.file}::{each.name}",
                "abi": each.abi,
                "outcome": each.outcome.value,
                "seconds": round(each.seconds, 4),
                "reason": each.reason,
                "fault": each.fault,
                "said": chosen.said.get(f"{each.file}::{each.name}", ""),
            }
            for each in results
        },
        "counted": _counted(extension, found, cc, counted) if counted else reached,
    }


def _counted(extension: Extension, tree: Tree, cc: str, files: Sequence[str]) -> Found:
    """Return what this process has reached of some files, as gcovr's JSON."""
    from ffashim.coverage import gcov

    try:
        with store.scratch(paths.cache_dir() / "coverage") as data:
            extension.load().lib.ffashim_write_counters(os.fsencode(data))
            return gcov.read(data, extension.notes, tree.root, files, gcov.tool(cc))
    except CoverageError as error:
        return {"failed": str(error)}


def _select(selected: Mapping[str, Any]) -> list[str]:
    """Return the arguments of pytest that select tests, and let them draw fewer examples.

    examples: of what is drawn at random, None for the suite's own number. tests: a ``-m``.
    keyword: a ``-k``, None for all.
    """
    if selected["examples"] is not None:
        os.environ["FFASHIM_EXAMPLES"] = str(selected["examples"])
    keyword = selected["keyword"]
    return [f"-m={selected['tests']}", *([f"-k={keyword}"] if keyword else [])]


def plain(name: str) -> str:
    """Return a test's name without the tree and the configuration that it was run on."""
    test, bracket, rest = name.partition("[")
    if not bracket:
        return name
    kept = [
        part
        for part in rest.removesuffix("]").split("-")
        if part != _NAME and not part.startswith(("FFA_VM_TO_VM=", "DEBUG="))
    ]
    return f"{test}[{'-'.join(kept)}]" if kept else test


class Chosen:
    """A pytest plugin: the suite runs on one tree, and what it says of failures is kept.

    extension: a build of it that was made already.
    """

    def __init__(self, tree: Tree, extension: Extension | None = None) -> None:
        self.tree = Tree(_NAME, tree.root, tree.origin, tree.version, private=True)
        self.extension = extension
        self.said: dict[str, str] = {}

    def pytest_ffashim_trees(self, metafunc: pytest.Metafunc, trees: Sequence[Tree]) -> list[Tree]:
        """Have the tests run on this tree."""
        return [self.tree]

    def pytest_ffashim_extension(self, tree: Tree, settings: Settings) -> Extension | None:
        """Have them run on this build of it, if there is one."""
        return self.extension

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what is said of a failure."""
        if report.failed:
            text = [report.longreprtext, *(f"-- {name}\n{text}" for name, text in report.sections)]
            self.said.setdefault(report.nodeid, "\n".join(text)[:_SHOWN])


def selects(tree: Given, keyword: str, file: str | None = None) -> Found:
    """Tell by pytest's exit status whether ``-k`` selects any test, of a file or of the suite."""
    found = tree_of(tree)
    arguments = [f"--xen={found.root}", "--collect-only", f"-k={keyword}"]
    status, _ = suite.run(arguments, [Chosen(found)], [file] if file else None)
    return {"status": int(status)}


def tries(tree: Given, settings: Settings, cc: str, keyword: str | None, file: str | None) -> Found:
    """Run some tests, of a file or of the suite, on each configuration of a tree."""
    found = tree_of(tree)
    try:
        for chosen in variants(found, nearest(found, settings)):
            loader.build(found, chosen, cc=cc)
    except (BuildError, ConfigError) as error:
        return {"error": str(error), "tests": {}}
    arguments = [f"--xen={found.root}", f"--cc={cc}", *([f"-k={keyword}"] if keyword else [])]
    arguments += [f"--config={name}={v}" for name, v in nearest(found, settings).items()]
    status, results = suite.run(arguments, [Chosen(found)], [file] if file else None)
    if status == pytest.ExitCode.INTERNAL_ERROR or status == pytest.ExitCode.USAGE_ERROR:
        raise NoResultError(f"pytest came to no result: status {status}")
    return {"error": "", "tests": {f"{r.file}::{r.name}": r.outcome.value for r in results}}


# --- behaviour ------------------------------------------------------------------------------------


def machine_of(tree: Given, settings: Settings, cc: str) -> Machine:
    """Return a machine of a tree. Raises BuildError."""
    return Machine(loader.build(tree_of(tree), settings, cc=cc))


def conversations(
    tree: Given, settings: Settings, cc: str, drafts: Mapping[str, int], file: str
) -> Found:
    """Draft conversations with a tree, and leave them in a file. drafts: see `_drafted`."""
    scripts = _drafted(machine_of(tree, settings, cc), drafts)
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Path(file).write_bytes(pickle.dumps(scripts))
    return {"files": [file], "count": len(scripts)}


def _drafted(machine: Machine, drafts: Mapping[str, int]) -> list[Script]:
    """Draft conversations: count of them, of so many steps at most, drawn with seed."""
    known = known_of(machine.boot())
    return recording.drafted(machine, known, drafts["count"], drafts["steps"], drafts["seed"])


def compares(
    before: Given,
    after: Given,
    settings: Sequence[Settings],
    cc: str,
    file: str,
    drafts: Mapping[str, int],
    compared: int,
    tries: int,
) -> Found:
    """Have the same conversations with two trees, and say how they differ, each kind once.

    settings: of the one and of the other. file: conversations drafted with the base. Beside the
    corpus others are drafted with the tree after the change, for what the base has not.
    compared: so many kinds of difference are looked into. tries: so many shorter ones are played
    for each.
    """
    one, other = (machine_of(tree, chosen, cc)
                  for tree, chosen in zip((before, after), settings, strict=True))  # fmt: skip
    # Ours: it lies in the cache, beside what is loaded as code anyway.
    drawn: list[Script] = pickle.loads(Path(file).read_bytes())  # noqa: S301
    scripts = [*corpus.scripts(), *drawn, *_drafted(other, drafts)]
    found, left = behaviour.Comparison(one, other).run(scripts, compared, tries)
    return {"differences": found, "left": left, "conversations": len(scripts)}


# --- the lines that a series changes --------------------------------------------------------------


def mutants(
    tree: Given,
    settings: Settings,
    cc: str,
    selected: Mapping[str, Any],
    lines: Mapping[str, Sequence[int]],
    most: int,
    seed: int,
    jobs: int,
    seen: str,
    killers: Mapping[str, str],
) -> Found:
    """Make small mistakes in some lines of a tree, and say which of them no test notices.

    most: so many, see `_sample`. seen: the file of what `conformance` has found of
    the same tests there, which are not run again to find out that they pass. killers: see
    `ffashim.mutants.run.run`.
    """
    from ffashim.mutants import report, run, source, workshop
    from ffashim.mutants.reasons import reasons_on

    subject = tree_of(tree)
    top = f"xen/{workshop.MEDIATOR}/"
    wanted = {name.removeprefix(top): of for name, of in lines.items() if name.startswith(top)}
    found = [
        each
        for name, text in workshop.files(subject).items()
        if name in wanted
        for each in source.find(name, text, lines=wanted)
    ]
    # First what may take longest: to find out that nothing notices it takes the whole suite.
    chosen = sorted(_sample(found, most, seed), key=lambda each: each.key in killers)
    if not chosen:
        return {"of": 0, "mutants": [], "why": ""}
    with store.scratch(paths.cache_dir() / "mutants") as directory:
        shop = workshop.Workshop(subject, settings, directory, cc=cc)
        arguments = [f"--xen={subject.root}", f"--cc={cc}", *_select(selected)]
        arguments += [f"--config={name}={value}" for name, value in settings.items()]
        passing = _passing(Path(seen))
        job = run.Job(subject, settings, arguments, paths.SUITE, cc, name=_NAME, passing=passing)
        told = report.Report(reasons_on(Machine(shop.extension)))
        try:
            told.results.extend(run.run(job, shop, chosen, jobs, killers))
        except run.SuiteError as error:
            return {"of": len(found), "mutants": [], "why": str(error).partition("\n")[0]}
        return {"of": len(found), "mutants": told.as_json({})["mutants"], "why": ""}


def _sample(mutants: Sequence[Mutant], most: int, seed: int) -> list[Mutant]:
    """Draw some mutants, the same ones again of lines that have stayed the same."""
    lots = {each.key: hashlib.sha256(f"{seed} {each.key}".encode()).digest() for each in mutants}
    return sorted(mutants, key=lambda each: lots[each.key])[:most]


def _passing(seen: Path) -> dict[str, float] | None:
    """Return the seconds of each test that can notice a mutant, by name; None if one fails already,
    or if nothing is known any more.
    """
    try:
        tests: Mapping[str, Any] = json.loads(seen.read_text(encoding="utf-8"))["tests"]
    except (OSError, ValueError):
        return None
    if any(each["outcome"] == Outcome.FAILED.value for each in tests.values()):
        return None
    able = (Outcome.PASSED.value, Outcome.KNOWN_DEFECT.value)
    return {each["name"]: each["seconds"] for each in tests.values() if each["outcome"] in able}


KINDS: Mapping[str, Callable[..., Found]] = {
    "selects": selects,
    "compiles": compiles,
    "conformance": conformance,
    "tries": tries,
    "conversations": conversations,
    "compares": compares,
    "mutants": mutants,
}
"""What can be done. A further check of a tree is a function here and a task in `plan`."""
