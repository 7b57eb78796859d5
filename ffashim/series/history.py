# SPDX-License-Identifier: GPL-2.0-only
"""Series in git: the commits of a range, and the commit that patches were made for.

Only objects are read: a work tree and an index are left alone, and so is what is not committed.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ffashim.errors import SourceError, UsageError
from ffashim.source import git
from ffashim.source.patching import Patch

_CANDIDATES = 400
"""So many commits of each branch are looked at for the one that patches were made for."""


@dataclass(frozen=True)
class Entry:
    """A commit in git."""

    hash: str
    author: str
    subject: str
    message: str
    """The body."""
    diff: bytes


class History:
    """The commits of a repository, bare or not."""

    def __init__(self, directory: Path) -> None:
        """Raise SourceError unless git finds a repository there."""
        self.directory = directory
        self._repository = git.Repository(directory)
        found = git.run("rev-parse", "--absolute-git-dir", cwd=directory).stdout
        self._git_dir = Path(os.fsdecode(found).strip())

    def commit(self, revision: str) -> str:
        """Return a commit's full id, or raise SourceError."""
        return self._repository.commit(revision)

    def knows(self, revision: str) -> bool:
        """Tell whether there is such a commit."""
        return self._repository.known(revision) is not None

    def range(self, text: str) -> tuple[str, list[Entry]]:
        """Return the commit before a range such as ``A..B``, ``A..`` or ``..B``, and its commits.

        Raises UsageError or SourceError if there is nothing in it, or a merge.
        """
        since, until, listed = self._listed(text)
        merges = self._out("rev-list", "--merges", "--abbrev-commit", f"{since}..{until}").split()
        if merges:
            raise SourceError(
                f"{text} of {self.directory} holds {self._named(merges)}, a series does not: "
                "rebase it (git rebase), or name the commits after the merge."
            )
        before = self._out("rev-parse", "--verify", f"{listed[0]}^").strip()
        return before, [self._entry(each) for each in listed]

    def line(self, text: str) -> tuple[str, list[Entry]]:
        """The same of a range that may hold merges, by first parents, and without diffs."""
        since, until, listed = self._listed(text, "--first-parent")
        before = self._out("rev-parse", "--verify", f"{listed[0]}^").strip()
        shown = self._out(
            "log", "--reverse", "--topo-order", "--first-parent", "--format=%H%x00%an%x00%s",
            f"{since}..{until}",
        )  # fmt: skip
        lines = [line.split("\0", 2) for line in shown.splitlines()]
        return before, [Entry(name, author, subject, "", b"") for name, author, subject in lines]

    def _listed(self, text: str, *options: str) -> tuple[str, str, list[str]]:
        if "..." in text:
            raise UsageError(
                f"{text}: three dots name no series. Write A..B, the commits of B that A has not."
            )
        first, _, last = text.partition("..")
        since, until = (self.commit(name or "HEAD") for name in (first, last))
        listed = self._out(
            "rev-list", "--reverse", "--topo-order", *options, f"{since}..{until}"
        ).split()
        if not listed:
            raise SourceError(self._empty(text, since, until))
        return since, until, listed

    def _named(self, merges: Sequence[str]) -> str:
        more = f" and {len(merges) - 1} more" if len(merges) > 1 else ""
        return f"the merge {merges[0]}{more}"

    def _empty(self, text: str, since: str, until: str) -> str:
        what = f"there is no commit in {text} of {self.directory}"
        if since == until:
            return f"{what}: both ends are {since[:12]}. Is your work on another branch?"
        turned = self._out("rev-list", "--count", f"{until}..{since}").strip()
        if turned == "0":
            return f"{what}."
        first, _, last = text.partition("..")
        return (
            f"{what}: {last or 'HEAD'} comes before {first or 'HEAD'}. "
            f"Did you mean {last or 'HEAD'}..{first or 'HEAD'}?"
        )

    def _entry(self, commit: str) -> Entry:
        shown = self._out("show", "-s", "--format=%an <%ae>%x00%s%x00%b", commit)
        author, subject, message = shown.split("\0", 2)
        diff = self._raw(
            *("diff-tree", "-p", "--no-commit-id", "--no-ext-diff", "--no-textconv", "-M"),
            *("--no-color", "--root", commit),
        )
        return Entry(commit, author, subject, message.strip("\n"), diff)

    def dirty(self) -> bool:
        """Tell whether the work tree, if there is one, holds changes that are not committed."""
        done = git.run("diff", "--quiet", "HEAD", "--", ".", cwd=self.directory, check=False)
        return done.returncode == 1

    # --- the base of patches ----------------------------------------------------------------------

    def base_of(self, patches: Sequence[Patch], revision: str | None) -> tuple[str, str] | None:
        """Look for the commit that patches were made for. Return it, and how it was found.

        The newest is taken whose files are those that the patches start from; if there is none,
        the newest to which they apply. revision: where to look; None is HEAD, then all branches.
        """
        wanted = before_of(patches)
        starts = [revision] if revision else ["HEAD", *self._branches()]
        tried: set[str] = set()
        for start in starts:
            if self._repository.known(start) is None:
                continue
            for commit in self._touching(start, list(wanted)):
                if commit not in tried and self._starts_from(commit, wanted):
                    how = f"the newest commit of {start} with the files that the patches start from"
                    return commit, how
                tried.add(commit)
        for start in starts:
            if self._repository.known(start) is None:
                continue
            for commit in self._touching(start, list(wanted))[:50]:
                if self._takes(commit, patches):
                    return commit, f"the newest commit of {start} to which the patches apply"
        return None

    def _branches(self) -> list[str]:
        listed = self._out(
            "for-each-ref", "--sort=-committerdate", "--format=%(refname)", "refs/heads",
            "refs/remotes",
        ).split()  # fmt: skip
        return [name for name in listed if not name.endswith("/HEAD")]

    def _touching(self, start: str, files: Sequence[str]) -> list[str]:
        log = ("log", "--format=%H", f"-n{_CANDIDATES}", start, "--", *files)
        return [*self._out("rev-parse", "--verify", f"{start}^{{commit}}").split(),
                *self._out(*log).split()]  # fmt: skip

    def _starts_from(self, commit: str, wanted: dict[str, str]) -> bool:
        if not wanted or not all(wanted.values()):
            return False
        asked = "".join(f"{commit}:{name}\n" for name in wanted).encode()
        told = (
            self._raw("cat-file", "--batch-check=%(objectname)", stdin=asked).decode().split("\n")
        )
        return all(
            line.startswith(blob) or (blob.strip("0") == "" and line.endswith(" missing"))
            for line, blob in zip(told, wanted.values(), strict=False)
        )

    def _takes(self, commit: str, patches: Sequence[Patch]) -> bool:
        """Tell whether patches apply to a commit, in an index of our own."""
        with tempfile.TemporaryDirectory() as work:
            environment = {"GIT_INDEX_FILE": str(Path(work) / "index")}
            options = [f"--git-dir={self._git_dir}"]
            git.run(*options, "read-tree", commit, extra=environment)
            for patch in patches:
                done = git.run(
                    *options, "apply", "--cached", "--whitespace=nowarn", "-",
                    cwd=Path(work), stdin=patch.diff, check=False,
                    extra={**environment, "GIT_WORK_TREE": work},
                )  # fmt: skip
                if done.returncode:
                    return False
        return True

    def _out(self, *arguments: str) -> str:
        return self._raw(*arguments).decode(errors="replace")

    def _raw(self, *arguments: str, stdin: bytes = b"") -> bytes:
        return git.run(f"--git-dir={self._git_dir}", *arguments, stdin=stdin).stdout


def before_of(patches: Sequence[Patch]) -> dict[str, str]:
    """Return each file that patches change, and how the blob's id starts that it was before, empty
    if the diff does not tell.
    """
    found: dict[str, str] = {}
    for patch in patches:
        for name, blob in _blobs(patch.diff.decode(errors="replace")):
            found.setdefault(name, blob)
    return found


def _blobs(diff: str) -> Iterator[tuple[str, str]]:
    for part in re.split(r"^(?=diff --git )", diff, flags=re.M):
        header = re.match(r"diff --git a/(\S+) b/(\S+)\n", part)
        if header:
            index = re.search(r"^index ([0-9a-f]{7,})\.\.", part, re.M)
            yield header[1], index[1] if index else ""


def split(spec: str) -> Iterator[tuple[Path, str]]:
    """Divide ``DIR@A..B`` at each @, longest directory first: both parts may hold one."""
    at = spec.rfind("@")
    while at > 0:
        if ".." in spec[at + 1 :]:
            yield Path(spec[:at]).expanduser(), spec[at + 1 :]
        at = spec.rfind("@", 0, at)
