# SPDX-License-Identifier: GPL-2.0-only
"""Debian's ``xen`` source package: its upstream archive, without Debian's own patches.

What was found once is used from then on, without the network.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ffashim import paths
from ffashim.errors import SourceError
from ffashim.source import apt, selection, store
from ffashim.source.tree import Progress, Tree, require_ffa

PACKAGE = "xen"

SUITES = ("unstable", "testing", "stable", "oldstable")
"""Newest first. A name moves on with Debian's releases, so none of them goes out of date."""


@dataclass(frozen=True)
class Found:
    """The outcome of a search, which is kept."""

    suite: str
    package: str
    name: str
    sha256: str
    notes: tuple[str, ...] = ()


def fetch(spec: str, suite: str | None, progress: Progress, *, refresh: bool = False) -> Tree:
    """Return Xen as it is in a suite of Debian, or in the newest that has a usable one.

    ``refresh`` looks again for a newer version than the one found before.

    Raises SourceError, with what was wrong with each suite, if none has an FF-A mediator and can
    be downloaded and verified.
    """
    record = paths.cache_dir() / "debian" / f"{suite or 'newest'}.json"
    if not refresh and (known := _known(record)) is not None:
        return _tree(spec, *known)
    with store.locked("debian"):
        if not refresh and (known := _known(record)) is not None:
            return _tree(spec, *known)
        found, root = _search((suite,) if suite else SUITES, progress)
        record.parent.mkdir(exist_ok=True)
        with store.scratch(record.parent) as work:
            (work / "found").write_text(json.dumps(asdict(found)), encoding="utf-8")
            (work / "found").rename(record)
    return _tree(spec, found, root, fresh=True)


def _known(record: Path) -> tuple[Found, Path] | None:
    """Return what an earlier search found, if its tree is still there and whole."""
    try:
        fields = json.loads(record.read_text(encoding="utf-8"))
        found = Found(**{**fields, "notes": tuple(fields["notes"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    root = store.find(_key(found.sha256))
    return (found, root) if root is not None else None


def _search(suites: tuple[str, ...], progress: Progress) -> tuple[Found, Path]:
    mirror = apt.machine_mirror()
    notes: list[str] = []
    # Grows by the codenames: of a suite's two names, a mirror may have updated only one.
    names = list(suites)
    for suite in names:
        progress(f"looking for {PACKAGE} in Debian {suite} at {mirror.uri}")
        try:
            found, root = _look_in(mirror, suite, names, progress)
        except SourceError as error:
            notes.append(f"Debian {suite} passed over: {error}".replace("\n", " "))
            progress(notes[-1])
        else:
            return replace(found, notes=tuple(notes)), root
    raise SourceError(
        "\n".join(
            [
                f"no Xen with FF-A could be had from Debian ({mirror.uri}):",
                *(f"  {note}" for note in notes),
                "If this machine has no network, name a directory or a git repository instead.",
            ]
        )
    )


def _look_in(
    mirror: apt.Mirror, suite: str, names: list[str], progress: Progress
) -> tuple[Found, Path]:
    with store.scratch(paths.cache_dir() / "apt") as home:
        archive = apt.Archive(mirror, suite, home)
        if archive.codename not in ("", *names):
            names.append(archive.codename)
        entry = archive.find(PACKAGE)

        def fill(into: Path) -> None:
            progress(f"downloading {entry.name}")
            with archive.download(PACKAGE).open("rb") as file:
                store.unpack(file, into, strip=1)

        root = store.stored(_key(entry.sha256), fill)
    require_ffa(root / "xen", entry.name)
    return Found(suite, entry.package, entry.name, entry.sha256), root


def _key(sha256: str) -> str:
    return f"tar-{sha256}-{selection.ID}"


def _tree(spec: str, found: Found, root: Path, *, fresh: bool = False) -> Tree:
    origin = f"Debian {found.suite}, {found.name} (sha256 {found.sha256[:12]})"
    passed_over = _summed_up(found.notes)
    notes = passed_over if fresh else ()
    if (pin := _pin()) is not None and pin != (found.sha256, found.name):
        notes += (f"the last archive known to be good is {pin[1]} (sha256 {pin[0][:12]})",)
    return Tree(
        spec,
        root,
        origin,
        found.package,
        private=True,
        notes=notes,
        search=() if fresh else passed_over,
        sha256=found.sha256,
    )


def _summed_up(notes: tuple[str, ...]) -> tuple[str, ...]:
    """Return one note where several suites were passed over for the same reason, which is usual."""
    suites: dict[str, list[str]] = {}
    for note in notes:
        suite, _, reason = note.partition(" passed over: ")
        # apt's layout, and the address that a name stood for at that moment.
        reason = re.sub(r" *\[IP: [^]]*\]", "", re.sub(r"\s+", " ", reason))
        suites.setdefault(reason, []).append(suite.removeprefix("Debian "))
    return tuple(
        f"Debian {' and '.join(names)} passed over: {reason}" for reason, names in suites.items()
    )


def _pin() -> tuple[str, str] | None:
    """Return hash and name of the archive in ``xen_src/SHA256SUMS``; None in a wheel."""
    if paths.XEN_SRC is None:
        return None
    try:
        words = (paths.XEN_SRC / "SHA256SUMS").read_text(encoding="utf-8").split()
    except OSError:
        return None
    return (words[0], words[1]) if len(words) == 2 else None
