# SPDX-License-Identifier: GPL-2.0-only
"""From what a user names (``--xen``, ``XEN=``) to a tree on disk."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ffashim import paths
from ffashim.errors import SourceError, UsageError
from ffashim.source import debian, git, patching
from ffashim.source.tree import Progress, Tree, is_xen, read_version, require_ffa


def resolve(
    spec: str | os.PathLike[str],
    patches: Sequence[str | os.PathLike[str]] = (),
    progress: Progress | None = None,
    *,
    refresh: bool = False,
) -> Tree:
    """Return the Xen tree that ``spec`` names, with the patches applied to a private copy.

    ``spec`` is one of

    - a directory: the top of a Xen tree or its ``xen/``; used in place and never written to
    - ``DIR@REV``: a commit, tag or branch of a git repository
    - ``debian`` or ``debian:SUITE``: the source package of Debian
    - ``upstream`` or ``upstream@REV``: Xen's official git, of which REV is ``master`` by default

    A directory of such a name is written ``./debian``. ``patches`` are files, or directories of
    ``*.patch`` files, applied in order. ``progress`` is told what takes a while.
    Debian's package is looked for once; ``refresh`` looks for a newer one.

    Raises SourceError if there is no such tree or it has no FF-A mediator, PatchError if a patch
    does not apply.
    """
    tell = progress or _silent
    tree = _find(os.fspath(spec), tell, refresh)
    return patching.apply(tree, [Path(patch) for patch in patches], tell) if patches else tree


def resolve_default(
    patches: Sequence[str | os.PathLike[str]] = (),
    progress: Progress | None = None,
    *,
    refresh: bool = False,
) -> Tree:
    """Return the tree to use when none is named: what lies in ``xen_src/``, else Debian's."""
    found = [directory for directory in _left_in_xen_src() if _xen_below(directory) is not None]
    if len(found) > 1:
        names = ", ".join(str(directory) for directory in found)
        raise SourceError(f"several Xen trees lie in xen_src/: {names}. Name one of them.")
    return resolve(found[0] if found else "debian", patches, progress, refresh=refresh)


def _left_in_xen_src() -> Iterator[Path]:
    if paths.XEN_SRC is None or not paths.XEN_SRC.is_dir():
        return
    if (paths.XEN_SRC / "xen" / "arch").is_dir():
        yield paths.XEN_SRC
        return
    yield from sorted(path for path in paths.XEN_SRC.iterdir() if path.is_dir())


def _find(spec: str, progress: Progress, refresh: bool) -> Tree:
    name, _, detail = spec.partition(":")
    if name == "debian":
        return debian.fetch(spec, detail or None, progress, refresh=refresh)
    name, _, detail = spec.partition("@")
    if name == "upstream":
        return git.upstream(spec, detail or "master", progress)
    if not spec:
        raise UsageError("the name of the Xen tree is empty. Name a directory, or `debian`.")
    directory = Path(spec).expanduser()
    if directory.is_dir():
        return _in_place(spec, directory.resolve())
    for directory, revision in _splits(spec):
        if directory.is_dir():
            return git.at_revision(spec, directory.resolve(), revision, progress)
    raise SourceError(
        f"there is no directory {spec}.\n"
        "A Xen tree is named by a directory, DIR@REV, debian, debian:SUITE, upstream or "
        "upstream@REV."
    )


def _splits(spec: str) -> Iterator[tuple[Path, str]]:
    """Divide at each @, longest directory first: both parts may hold one, as in HEAD@{1}."""
    at = spec.rfind("@")
    while at > 0:
        yield Path(spec[:at]).expanduser(), spec[at + 1 :]
        at = spec.rfind("@", 0, at)


def _in_place(spec: str, directory: Path) -> Tree:
    xen = _xen_below(directory)
    if xen is None:
        if (directory / "HEAD").is_file() and (directory / "objects").is_dir():
            raise SourceError(
                f"{directory} is a bare git repository. Name a revision of it: {spec}@master"
            )
        require_ffa(directory / "xen", str(directory))
        raise SourceError(f"{directory} is no Xen tree.")
    if xen.name != "xen":
        raise SourceError(
            f"{xen} looks like the xen/ directory of a Xen tree, but is not called so. Rename it."
        )
    require_ffa(xen, str(directory))
    origin, commit = f"directory {xen.parent}", None
    if (state := git.directory_state(xen)) is not None:
        commit, changed = state
        origin += " (with changes that are not committed)" if changed else ""
    return Tree(spec, xen.parent, origin, read_version(xen), commit=commit)


def _xen_below(directory: Path) -> Path | None:
    """Return the ``xen/`` of a tree of which ``directory`` is the top or ``xen/`` itself."""
    for xen in (directory / "xen", directory):
        if is_xen(xen):
            return xen.resolve()
    return None


def _silent(_: str) -> None:
    pass
