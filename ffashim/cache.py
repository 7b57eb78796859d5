# SPDX-License-Identifier: GPL-2.0-only
"""What the cache holds, and how it is kept from growing for ever.

Trees and builds note when they were last used. What has not been for a while is taken away in one
step, by a rename, so that no process ever finds a part of one; who wants it again makes it anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ffashim import paths
from ffashim.source import store

USED = {
    "trees": ".manifest",
    "builds": "manifest",
    "objects": ".",
    "coverage": ".",
    "series": "result.json",
}
"""The kinds of entries that can be made anew, and the file in each whose time is its last use."""

SPARED = 3600.0
"""Seconds: what was used so lately may be in use."""


@dataclass(frozen=True)
class Entry:
    """A tree, a build, or anything else in the cache."""

    path: Path
    size: int
    """Bytes on the disk."""
    used: float | None
    """When it was last used, in seconds since the epoch; None if it is not to be pruned."""


def entries() -> Iterator[Entry]:
    """Yield all that lies in the cache: trees and builds one by one, the rest by directory."""
    kept = _not_to_be_had_again()
    for path in sorted(paths.cache_dir().iterdir()):
        if path.name not in USED:
            yield Entry(path, _size(path), None)
            continue
        for entry in sorted(path.iterdir()):
            yield Entry(entry, _size(entry), None if entry.name in kept else _last_use(entry))


def prune(seconds: float) -> list[Entry]:
    """Remove what has not been used for so long; return what that was.

    Safe while other processes use the cache: what was used within the last hour stays.
    """
    before = time.time() - max(seconds, SPARED)
    return [
        each for each in entries() if each.used and each.used < before and _remove(each, before)
    ]


def _remove(entry: Entry, before: float) -> bool:
    with store.scratch(entry.path.parent) as work, _idle(entry.path) as idle:
        if not idle:
            return False
        gone = work / entry.path.name
        try:
            entry.path.rename(gone)
        except FileNotFoundError:  # somebody else prunes too
            return False
        # Somebody may have come to use it since it was looked at.
        used = _last_use(gone, entry.path.parent.name)
        if used is not None and used >= before:
            with contextlib.suppress(OSError):  # who missed it has made it anew
                gone.rename(entry.path)
            return False
    return True


@contextlib.contextmanager
def _idle(entry: Path) -> Iterator[bool]:
    """Tell whether nobody builds there, and keep others from it meanwhile."""
    with contextlib.ExitStack() as stack:
        idle = True
        try:
            lock = stack.enter_context((entry / "lock").open("r+"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            idle = False
        except FileNotFoundError:  # a tree, which is made elsewhere; or it is gone
            pass
        yield idle


def _last_use(entry: Path, kind: str | None = None) -> float | None:
    try:
        return (entry / USED[kind or entry.parent.name]).stat().st_mtime
    except OSError:
        return None


def _not_to_be_had_again() -> set[str]:
    """Return the trees of Debian, which moves on: without them a machine would need a network."""
    hashes = []
    for record in (paths.cache_dir() / "debian").glob("*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            hashes.append(str(json.loads(record.read_text(encoding="utf-8"))["sha256"]))
    trees = (paths.cache_dir() / "trees").glob("tar-*")
    return {tree.name for tree in trees if tree.name.startswith(tuple(f"tar-{h}" for h in hashes))}


def _size(path: Path) -> int:
    total = 0
    for directory, _, files in os.walk(path):
        for name in (".", *files):
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(directory, name)).st_blocks * 512
    return total
