# SPDX-License-Identifier: GPL-2.0-only
"""Several builds of one tree as one: reached by any is reached.

gcovr adds up what it is given, once the branches of a line are the same ones everywhere. They are
told apart by numbers of the compiler's, which depend on all that the function holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ffashim.coverage.gcov import Document

_Key = tuple[str, int, str]


def align(documents: Sequence[Document]) -> None:
    """Number the branches of each line alike in all builds.

    In their order, if a line has as many in each. Where a configuration has decided a condition
    that is open in another, the line has fewer: then those count that have all of them.
    """
    most: dict[_Key, int] = {}
    for document in documents:
        for key, line in lines(document):
            most[key] = max(most.get(key, 0), len(line["branches"]))
    for document in documents:
        for key, line in lines(document):
            line.pop("calls", None)
            if len(line["branches"]) < most[key]:
                line["branches"] = []
            for number, branch in enumerate(sorted(line["branches"], key=_place)):
                branch["source_block_id"], branch["branchno"] = 0, number


def keep(document: Document, directory: str, changed: Mapping[str, set[int]]) -> None:
    """Drop all lines outside of a directory but those that a change has touched."""
    for file in document["files"]:
        if not file["file"].startswith(directory):
            numbers = changed.get(file["file"], set())
            file["lines"] = [line for line in file["lines"] if line["line_number"] in numbers]
    document["files"] = [file for file in document["files"] if file["lines"]]


def lines(document: Document) -> Iterator[tuple[_Key, dict[str, Any]]]:
    """Yield each line with its file, number and function."""
    for file in document["files"]:
        for line in file["lines"]:
            yield (file["file"], line["line_number"], line.get("function_name", "")), line


def counted(document: Document) -> Iterable[tuple[_Key, dict[str, Any]]]:
    """Yield those lines that count; see the package's docstring."""
    return (each for each in lines(document) if not each[1].get("gcovr/excluded"))


def branches(line: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the branches of a line that count, in their order."""
    found = [each for each in line["branches"] if not each.get("gcovr/excluded")]
    return sorted(found, key=_place)


def _place(branch: dict[str, Any]) -> tuple[int, int]:
    return branch.get("source_block_id", 0), branch.get("branchno") or 0
