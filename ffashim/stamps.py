# SPDX-License-Identifier: GPL-2.0-only
"""Whether files are still what they were when something was made of them."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Stamps = Mapping[str, Sequence[Any]]
"""Names of files and directories to what `take` has returned; JSON."""


def take(paths: Iterable[Path], started: int) -> dict[str, list[Any]]:
    """Return what tells later whether files or directories have changed.

    One that has changed since `started`, in nanoseconds since the epoch, may have been read before
    it did: its stamp never holds.
    """
    return {str(path): _stamp(path, started) for path in paths if path.exists()}


def hold(stamps: Stamps) -> bool:
    """Tell whether nothing has changed. Raises OSError if something is gone."""
    for name, stamp in stamps.items():
        status = os.stat(name)
        if [status.st_mtime_ns, status.st_size] != stamp[:2] and _content(name) != stamp[2]:
            return False
    return True


def read_by(rules: str) -> list[Path]:
    """Return the files that a compiler read, from the make rules that it wrote."""
    words = re.split(r"(?<!\\)\s+", rules.partition(":")[2].replace("\\\n", " ").strip())
    # What make would otherwise take for its own.
    return [Path(re.sub(r"\\([ #])", r"\1", word).replace("$$", "$")) for word in words]


def sha256(path: Path | str) -> str:
    """Return the hash of a file's content."""
    with open(path, "rb") as stream:
        return hashlib.sha256(stream.read()).hexdigest()


def sha256_of(directory: Path) -> str:
    """Return a hash of all files in a directory, with their names."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    listed = "".join(f"{path.relative_to(directory)} {sha256(path)}\n" for path in files)
    return hashlib.sha256(listed.encode()).hexdigest()


def _stamp(path: Path, started: int) -> list[Any]:
    status = os.stat(path)
    if status.st_ctime_ns >= started:
        return [0, 0, ""]
    return [status.st_mtime_ns, status.st_size, _content(path)]


def _content(path: Path | str) -> str:
    """Return a hash of a file, or of the names of the sources in a directory."""
    if Path(path).is_dir():
        names = sorted(each.name for each in Path(path).glob("*.c"))
        return hashlib.sha256("\n".join(names).encode()).hexdigest()
    return sha256(path)
