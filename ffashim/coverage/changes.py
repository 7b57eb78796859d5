# SPDX-License-Identifier: GPL-2.0-only
"""Which lines of a tree are new or changed, against the tree that a change started from."""

from __future__ import annotations

import re
from pathlib import Path

from ffashim.errors import CoverageError
from ffashim.source import git, store


def changed_lines(before: Path, after: Path) -> dict[str, set[int]]:
    """Return, for each file of the tree at ``after`` that differs, the numbers of its own lines.

    Lines that are gone are no lines of the tree. Both are directories that contain ``xen/``.

    Raises CoverageError if git, which compares, cannot.
    """
    found: dict[str, set[int]] = {}
    for name in store.kept_files(after):
        if not name.endswith((".c", ".h")):
            continue
        old, new = before / name, after / name
        if not old.is_file():
            found[name] = set(range(1, len(new.read_bytes().splitlines()) + 1))
        elif old.read_bytes() != new.read_bytes():
            found[name] = _compare(old, new)
    return found


def _compare(old: Path, new: Path) -> set[int]:
    options = ("--no-index", "--no-ext-diff", "--no-textconv", "--no-color", "-U0")
    done = git.run("diff", *options, "--", str(old), str(new), check=False)
    if done.returncode not in (0, 1):
        raise CoverageError(f"git cannot compare {old} and {new}: {done.stderr.decode().strip()}")
    numbers: set[int] = set()
    for start, count in re.findall(rb"^@@ -\S+ \+(\d+)(?:,(\d+))? @@", done.stdout, re.M):
        numbers.update(range(int(start), int(start) + int(count or 1)))
    return numbers
