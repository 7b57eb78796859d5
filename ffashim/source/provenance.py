# SPDX-License-Identifier: GPL-2.0-only
"""What exactly was compiled: a hash of every file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FileHash:
    """The content of a file."""

    path: str
    """Relative to the tree's root where it lies below it."""
    sha256: str
    blob: str
    """The id that git gives this content, which ``git log --find-object`` looks up."""


def hash_files(files: Iterable[Path], root: Path | None = None) -> tuple[FileHash, ...]:
    """Return the hashes of the files in the order given; names become relative to ``root``."""
    return tuple(_hash(file, root) for file in files)


def _hash(file: Path, root: Path | None) -> FileHash:
    content = file.read_bytes()
    name = file.relative_to(root) if root is not None and file.is_relative_to(root) else file
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
    return FileHash(name.as_posix(), hashlib.sha256(content).hexdigest(), blob.hexdigest())
