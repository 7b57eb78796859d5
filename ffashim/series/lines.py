# SPDX-License-Identifier: GPL-2.0-only
"""Which commit has added which line, and where that is once the series is complete.

What a commit adds may be reached by no guest before a later commit: an ABI comes before it is
offered. So coverage and mutants are those of the last tree, of the lines that are left there.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ffashim.coverage import gcov, union, unreached
from ffashim.coverage.gcov import Document
from ffashim.errors import CoverageError
from ffashim.series import content
from ffashim.series.commits import Series

Owners = Mapping[str, Mapping[int, int]]
"""A file's name in the tree, a line's number in the last tree: the commit that has added it."""


def owners(series: Series) -> Owners:
    """Return the lines of C that a series adds or changes and that are left at its end."""
    found: dict[str, dict[int, int]] = {}
    for commit in series.commits:
        for name in content.changed(commit.before, commit.tree):
            if not name.endswith((".c", ".h")):
                continue
            before, after = (_lines(tree.root / name) for tree in (commit.before, commit.tree))
            moved = dict(_kept(before, after))
            old = found.get(name, {})
            of_file = {moved[n]: owner for n, owner in old.items() if n in moved}
            same = set(moved.values())
            for number in range(1, len(after) + 1):
                if number not in same:
                    of_file[number] = commit.number
            found[name] = of_file
    return {name: of_file for name, of_file in found.items() if of_file}


def at_the_end(series: Series, number: int) -> dict[str, dict[int, int]]:
    """Return where lines of the tree that a commit leaves are in the last one, by file.

    Those of files that the commit changes, and that no later commit changes.
    """
    commit = series.commits[number - 1]
    found = {}
    for name in content.changed(commit.before, commit.tree):
        if not (commit.tree.root / name).is_file():
            continue
        count = len(_lines(commit.tree.root / name))
        places = {n: n for n in range(1, count + 1)}
        for later in series.commits[number:]:
            before, after = (_lines(tree.root / name) for tree in (later.before, later.tree))
            if before != after:
                moved = dict(_kept(before, after))
                places = {n: moved[at] for n, at in places.items() if at in moved}
        found[name] = places
    return found


def _kept(before: Sequence[bytes], after: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Yield the numbers, from 1, of lines that stay what they are."""
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for block in matcher.get_matching_blocks():
        for n in range(block.size):
            yield block.a + n + 1, block.b + n + 1


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines() if path.is_file() else []


def reached(documents: Sequence[Document]) -> dict[str, dict[int, tuple[bool, int, int]]]:
    """Return what builds of one tree have reached together, by file and number of the line:
    whether the line was, how many of its branches were not, how many it has.
    """
    union.align(documents)
    found: dict[str, dict[int, tuple[bool, int, int]]] = {}
    for line in unreached.lines_of(*documents):
        told = line.reached, len(line.missed), line.branches
        found.setdefault(line.file, {})[line.number] = told
    return found


def not_counted(cc: str) -> str | None:
    """Return why coverage cannot be counted here, None if it can: it takes gcc, gcov and gcovr."""
    try:
        gcov.tool(cc)
    except CoverageError as error:
        return str(error).replace("\n", " ")
    return None
