# SPDX-License-Identifier: GPL-2.0-only
"""What the tests have reached of each tree, on the terminal and in files.

In the directory of the reports each tree has one of its own, named as in the tests' names, with

- ``index.html``: every file with what was reached of it, line by line
- ``lcov.info``, ``cobertura.xml``: the same for other tools
- ``coverage.json``: the same as gcovr's JSON, ``summary.json``: its totals
- ``unreached.md``: what was not reached, function by function, with the reason where it is known
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from ffashim.coverage import gcov, union, unreached
from ffashim.coverage.changes import changed_lines
from ffashim.coverage.gcov import Document
from ffashim.source import resolve

MEDIATOR = "xen/arch/arm/tee/"
"""What is reported of a tree, beside the files that a change has touched."""


class Build(NamedTuple):
    """A build of a tree that tests were run on."""

    name: str
    """The tree's name in the names of the tests."""
    tree: str
    """One line for people."""
    spec: str
    root: str
    patched: bool
    settings: dict[str, str]
    compiler: str
    notes: str
    """The directory of what the compiler has noted for gcov."""

    @property
    def configuration(self) -> str:
        """The settings, for people."""
        named = [f"{name}={value}" for name, value in sorted(self.settings.items())]
        return " ".join(named) or "as configured"


def report(
    builds: Iterable[tuple[Path, Build]], reports: Path, tool: str, baseline: str | None
) -> list[str]:
    """Write the reports of all trees that were built, and return the lines for the terminal.

    builds: each with the directory of its counters. tool: gcov's command. baseline: the tree to
    compare with, if not the same without its patches.

    Raises CoverageError or SourceError.
    """
    lines: list[str] = []
    used: set[str] = set()
    found = sorted(builds, key=lambda each: (each[1].root, each[1].settings.items()))
    for root, group in groupby(found, key=lambda each: each[1].root):
        of_tree = list(group)
        name = _unused(of_tree[0][1].name, used)
        lines += ["", *_report_tree(of_tree, Path(root), reports / name, tool, baseline)]
    return lines or ["coverage: no test has used a tree"]


def _unused(name: str, used: set[str]) -> str:
    number = 1
    while (found := name if number == 1 else f"{name}-{number}") in used:
        number += 1
    used.add(found)
    return found


def _report_tree(
    builds: Sequence[tuple[Path, Build]],
    root: Path,
    directory: Path,
    tool: str,
    baseline: str | None,
) -> list[str]:
    build = builds[0][1]
    directory.mkdir(exist_ok=True)
    compared = build.patched or baseline is not None
    changed: dict[str, set[int]] = {}
    if compared:
        before = resolve(build.spec if baseline is None else baseline)
        changed = changed_lines(before.root, root)
    documents = [
        gcov.read(data, Path(each.notes), root, [MEDIATOR, *changed], tool) for data, each in builds
    ]
    for document in documents:
        # Of the rest of Xen what is changed is all that the tests are about.
        union.keep(document, MEDIATOR, changed)
    union.align(documents)
    configurations = list(dict.fromkeys(each.configuration for _, each in builds))
    title = f"Coverage of {build.tree} ({' and '.join(configurations)}, {build.compiler})"
    whole, totals = _write(documents, [data for data, _ in builds], root, directory, title)
    (directory / "unreached.md").write_text(
        unreached.as_markdown(whole, title, changed if compared else None), encoding="utf-8"
    )
    return [
        title,
        *_table(totals),
        *(unreached.of_changes(whole, changed) if compared else []),
        f"reports: {directory}/index.html, lcov.info, cobertura.xml, unreached.md",
    ]


def _write(
    documents: Sequence[Document], places: Sequence[Path], root: Path, directory: Path, title: str
) -> tuple[Document, Mapping[str, Any]]:
    """Write the reports that gcovr makes; return the union of the builds, and its totals."""
    inputs = []
    for document, place in zip(documents, places, strict=True):
        inputs += ["--add-tracefile", str(gcov.dump(document, place / "aligned.json"))]
    gcov.run(
        *inputs,
        "--merge-mode-functions=merge-use-line-min",
        *("--json", "coverage.json", "--json-summary", "summary.json"),
        *("--lcov", "lcov.info", "--cobertura", "cobertura.xml"),
        *("--html-details", "index.html", "--html-title", title, "--html-theme", "github.blue"),
        root=root,
        cwd=directory,
    )
    return gcov.load(directory / "coverage.json"), gcov.load(directory / "summary.json")


def _table(totals: Mapping[str, Any]) -> list[str]:
    rows = [(file["filename"], file) for file in totals["files"]] + [("all", totals)]
    width = max(len(name) for name, _ in rows)
    return [
        f"  {name:{width}}  lines {_share(row, 'line')}  branches {_share(row, 'branch')}"
        for name, row in rows
    ]


def _share(row: Mapping[str, Any], what: str) -> str:
    reached, total = row[f"{what}_covered"], row[f"{what}_total"]
    percent = f"{100 * reached / total:5.1f} %" if total else "      -"
    return f"{percent} {f'({reached}/{total})':>12}"
