# SPDX-License-Identifier: GPL-2.0-only
"""A commit's diff as lines with numbers, and with what tests reach of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

MOST = 4000
"""Lines of a commit's diff that are shown."""


@dataclass(frozen=True)
class Line:
    """A line of a hunk. kind: added, dropped, same, or hunk for its heading."""

    kind: str
    text: str
    old: int | None = None
    new: int | None = None
    mark: str = ""
    """What tests reach of it: reached, partly or missed; empty where nobody counted."""


@dataclass
class File:
    """What a commit does to a file."""

    name: str
    lines: list[Line] = field(default_factory=list)
    cut: int = 0
    """Lines that are not shown."""


def files(diff: bytes, margin: Mapping[str, Mapping[int, str]]) -> list[File]:
    """Return a diff file by file."""
    found: list[File] = []
    shown = 0
    for name, line in _lines(diff.decode("utf-8", "replace"), margin):
        if not found or found[-1].name != name:
            found.append(File(name))
        if line is None:
            continue
        if shown < MOST:
            found[-1].lines.append(line)
            shown += 1
        else:
            found[-1].cut += 1
    return found


def _lines(diff: str, margin: Mapping[str, Mapping[int, str]]) -> Iterator[tuple[str, Line | None]]:
    name, old, new, left_old, left_new = "", 0, 0, 0, 0
    for text in diff.split("\n"):
        if left_old or left_new:
            sign, rest = text[:1], text[1:]
            if sign == "+":
                yield name, Line("added", rest, None, new, margin.get(name, {}).get(new, ""))
                new, left_new = new + 1, left_new - 1
            elif sign == "-":
                yield name, Line("dropped", rest, old)
                old, left_old = old + 1, left_old - 1
            elif sign in (" ", ""):
                yield name, Line("same", rest, old, new)
                old, new, left_old, left_new = old + 1, new + 1, left_old - 1, left_new - 1
            continue
        if header := re.match(r"diff --git a/(\S+) b/(\S+)", text):
            name = header[2]
            yield name, None
        elif header := re.match(r"\+\+\+ (?:b/)?(\S+)", text):
            if header[1] != "/dev/null":
                name = header[1]
        elif hunk := re.match(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@(.*)", text):
            old, new = int(hunk[1]), int(hunk[3])
            left_old, left_new = (int(n) if n is not None else 1 for n in (hunk[2], hunk[4]))
            yield name, Line("hunk", hunk[5].strip())
