# SPDX-License-Identifier: GPL-2.0-only
"""Trees in the cache: made once, complete or absent, and known to be as they were made.

A tree is filled in a directory of its own and renamed when it is complete, so nobody ever sees a
part of one. A manifest of sizes and times tells later whether a file was lost or changed.
"""

from __future__ import annotations

import contextlib
import fcntl
import lzma
import os
import shutil
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from ffashim import paths
from ffashim.errors import CacheError, SourceError
from ffashim.source import selection

_MANIFEST = ".manifest"
_SCRATCH = ".new-"
_ABANDONED = 24 * 3600  # seconds after which a scratch directory belongs to a killed process


def stored(key: str, fill: Callable[[Path], None]) -> Path:
    """Return the tree of that key; if there is none, or it was damaged, make it with ``fill``.

    The key must stand for the content. ``fill`` is given an empty directory. Processes that want
    the same tree at once wait for the one that makes it.
    """
    home = paths.cache_dir() / "trees"
    final = home / key
    if _intact(final):
        _touch(final)
        return final
    with locked(f"tree-{key}"):
        if _intact(final):
            return final
        with scratch(home) as work:
            tree = work / "tree"
            tree.mkdir()
            fill(tree)
            (tree / _MANIFEST).write_text(_manifest(tree), encoding="utf-8")
            if final.exists():
                final.rename(work / "damaged")
            tree.rename(final)
    return final


def find(key: str) -> Path | None:
    """Return the tree of that key if it is there, and as it was made."""
    tree = paths.cache_dir() / "trees" / key
    if not _intact(tree):
        return None
    _touch(tree)
    return tree


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Keep other processes out; the kernel lets go of the lock even when this one is killed."""
    directory = paths.cache_dir() / "locks"
    directory.mkdir(exist_ok=True)
    with (directory / name).open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def scratch(home: Path) -> Iterator[Path]:
    """Give a temporary directory in ``home``, and clear away those that killed processes left."""
    home.mkdir(parents=True, exist_ok=True)
    for left in home.glob(f"{_SCRATCH}*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _ABANDONED:
                shutil.rmtree(left, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=home))
    try:
        yield work
    except OSError as error:
        raise CacheError(f"cannot write to the cache {home}: {error}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def unpack(archive: IO[bytes], into: Path, *, strip: int = 0) -> None:
    """Unpack the kept part of a tar archive, read as a stream, with compression if it has any.

    ``strip`` is the number of leading directories to drop from each name. Names and links that
    lead out of the tree are left out.
    """
    try:
        with tarfile.open(fileobj=archive, mode="r|*") as members:
            for member in members:
                _unpack_member(members, member, "/".join(member.name.split("/")[strip:]), into)
    except (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise SourceError(f"the archive is damaged: {error}") from error


def _unpack_member(
    archive: tarfile.TarFile, member: tarfile.TarInfo, name: str, into: Path
) -> None:
    if not selection.kept(name) or ".." in name.split("/"):
        return
    target = into / name
    if member.isfile() and (content := archive.extractfile(member)) is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as out:
            shutil.copyfileobj(content, out)
        # Read-only, to protect what others rely on from an editor.
        target.chmod(0o555 if member.mode & 0o100 else 0o444)
    elif member.issym():
        inside = os.path.normpath(Path(name).parent / member.linkname)
        if inside.startswith("xen/"):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(member.linkname)


def copy(root: Path, into: Path) -> None:
    """Copy the kept part of the tree below ``root``; writable, and sharing nothing with it."""
    for name in kept_files(root):
        target = into / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(root / name, target, follow_symlinks=False)
            if not target.is_symlink():
                target.chmod(0o755 if os.access(root / name, os.X_OK) else 0o644)
        except OSError as error:
            raise SourceError(f"cannot copy {root / name}: {error.strerror}") from error


def kept_files(root: Path) -> list[str]:
    """Return the names, relative to ``root``, of all files of the kept part, sorted."""
    found = []
    for directory, below, files in os.walk(root / "xen"):
        at = os.path.relpath(directory, root)
        below[:] = [name for name in below if selection.kept(f"{at}/{name}/")]
        links = [name for name in below if Path(directory, name).is_symlink()]
        found += [f"{at}/{name}" for name in files + links if name != ".git"]
    return sorted(found)


def _manifest(tree: Path) -> str:
    lines = []
    for name in kept_files(tree):
        status = os.lstat(tree / name)
        lines.append(f"{status.st_size} {status.st_mtime_ns} {status.st_mode:o} {name}\n")
    return "".join(lines)


def _touch(tree: Path) -> None:
    """Note that the tree is used: `ffashim.cache` looks."""
    with contextlib.suppress(OSError):
        os.utime(tree / _MANIFEST)


def _intact(tree: Path) -> bool:
    try:
        manifest = (tree / _MANIFEST).read_text(encoding="utf-8")
        for line in manifest.splitlines():
            size, mtime, mode, name = line.split(" ", 3)
            status = os.lstat(tree / name)
            if (status.st_size, status.st_mtime_ns, status.st_mode) != (
                int(size),
                int(mtime),
                int(mode, 8),
            ):
                return False
    except (OSError, ValueError):
        return False
    return bool(manifest)
