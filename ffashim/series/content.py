# SPDX-License-Identifier: GPL-2.0-only
"""What results hold for: the part of a tree that is compiled here, and ourselves.

A commit that is rebased or reworded, or one of documentation, so costs nothing.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from ffashim import loader, paths, stamps
from ffashim.source import Tree, store


def identity(tree: Tree) -> str:
    """Return a name for all of a tree that a build may read. The tree lies in the cache."""
    return _identity(tree.root)


@functools.cache
def _identity(root: Path) -> str:
    return hashlib.sha256(json.dumps(_hashes(root)).encode()).hexdigest()[:32]


def changed(before: Tree, after: Tree) -> list[str]:
    """Return the names of the files that differ of what a build may read."""
    one, other = _hashes(before.root), _hashes(after.root)
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


@functools.cache
def _hashes(root: Path) -> dict[str, str]:
    names = (name for name in store.kept_files(root) if loader.reads(name))
    return {name: stamps.sha256(root / name) for name in names if (root / name).is_file()}


@functools.cache
def ourselves() -> str:
    """Return a name for what judges: the machine, the model, the suite."""
    package = Path(__file__).resolve().parent.parent
    parts = [package, paths.STUBS, *paths.SUITE]
    files = [path for part in parts for path in part.rglob("*.[pchl]*")]
    sources = (path for path in files if path.suffix in (".py", ".c", ".h", ".ld"))
    return _hash(package.parent, sorted({*sources, paths.BUILD_PY}))


def _hash(root: Path, files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        if path.is_file():
            content = path.read_bytes()
            digest.update(f"{path.relative_to(root)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:32]
