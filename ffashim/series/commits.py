# SPDX-License-Identifier: GPL-2.0-only
"""A series as commits, each with the tree that it leaves, wherever it comes from.

A commit that changes nothing that is compiled here, documentation or tools, is one like the others:
it leaves the tree as it was, and what is known of that holds for it too.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from ffashim.errors import PatchError, SourceError, UsageError
from ffashim.series import content, history
from ffashim.series.history import History
from ffashim.source import Tree, git, mail, patching, resolve, resolve_default
from ffashim.source.patching import NothingCompiled, Patch
from ffashim.source.tree import Progress

_GZIP = b"\x1f\x8b"
_CLAIM = re.compile(
    r"\bno\s+functional\s+changes?\b|\bno\s+(?:intended\s+)?change\s+(?:in|of)\s+behaviou?r\b|\bNFC\b"
    r"|\b(?:purely\s+)?non-functional\s+change\b",
    re.I,
)


@dataclass(frozen=True)
class Commit:
    """One patch of a series."""

    number: int
    """Its place, from 1."""
    name: str
    """What users call it: a file, a mail's subject, or an abbreviated hash."""
    subject: str
    author: str
    message: str
    """The body, without the subject."""
    diff: bytes
    before: Tree
    tree: Tree
    spec: str | None
    """The tree in words that ``--xen`` takes, where there are any."""

    @property
    def compiled(self) -> bool:
        """Whether it changes anything that is compiled here."""
        return content.identity(self.tree) != content.identity(self.before)

    @cached_property
    def claim(self) -> str | None:
        """The words by which it says that nobody can see a change, None if it does not."""
        found = _CLAIM.search(f"{self.subject}\n{self.message}")
        return " ".join(found[0].split()) if found else None


@dataclass(frozen=True)
class Series:
    """What is judged."""

    title: str
    base: Tree
    found: str
    """How the base was found, for people."""
    commits: Sequence[Commit]
    notes: Sequence[str] = ()

    @property
    def trees(self) -> list[Tree]:
        """The base, then the tree that each commit leaves."""
        return [self.base, *(commit.tree for commit in self.commits)]


@dataclass(frozen=True)
class _Draft:
    """A patch that has not been applied yet."""

    name: str
    subject: str
    author: str
    message: str
    patch: Patch


def load(what: str, xen: str | None, base: str | None, progress: Progress) -> Series:
    """Read a series, find its base, and make the tree that each commit leaves.

    what: ``DIR@A..B``, or a file or directory of patches. xen: the tree or repository that patches
    are for. base: the revision of it. Raises SourceError, PatchError or UsageError.
    """
    path = Path(what).expanduser()
    if path.exists():
        return _from_patches(path, xen, base, progress)
    for directory, revisions in history.split(what):
        if directory.is_dir():
            if xen or base:
                raise UsageError(f"{what} has its own base: leave --xen and --base out")
            return _from_range(what, directory, revisions, progress)
    raise SourceError(
        f"there is no {what}.\nName a range of a git repository, DIR@A..B or DIR@HEAD~4.., a "
        "directory of git format-patch output, or an mbox."
    )


# --- a range in git ------------------------------------------------------------------------------


def _from_range(what: str, directory: Path, revisions: str, progress: Progress) -> Series:
    repository = History(directory)
    before, entries = repository.range(revisions)
    where = str(directory)
    tree = base = git.at_revision(f"{where}@{before}", directory.resolve(), before, progress)
    commits = []
    for number, entry in enumerate(entries, 1):
        spec = f"{where}@{entry.hash}"
        after = git.at_revision(spec, directory.resolve(), entry.hash, progress)
        commits.append(
            Commit(
                number, entry.hash[:12], entry.subject, entry.author, entry.message, entry.diff,
                tree, after, f"{where}@{entry.hash[:12]}",
            )
        )  # fmt: skip
        tree = after
    notes = []
    if repository.dirty():
        notes.append(f"{where} holds changes that are not committed: they are not looked at")
    found = f"the commit before {revisions}"
    return Series(f"{revisions} of {where}", base, found, commits, notes)


# --- patches -------------------------------------------------------------------------------------


def _from_patches(path: Path, xen: str | None, base: str | None, progress: Progress) -> Series:
    drafts, cover, named, notes = _read(path)
    for number, draft in enumerate(drafts, 1):
        patching.require_whole(draft.patch, number, len(drafts))
    tree, found = _base(drafts, xen, base, named, progress)
    commits: list[Commit] = []
    first = tree
    for number, draft in enumerate(drafts, 1):
        before = tree
        try:
            tree = patching.apply_patches(before, [draft.patch], progress)
        except NothingCompiled:
            pass
        except PatchError as error:
            done = "no patch was applied before it"
            if commits:
                done = f"{commits[-1].name} is the last that was applied before it"
            raise PatchError(
                f"{error}\n{done}; the base is {first.origin}, {found}.\nIs that what the series "
                "was made for? --base REV names another commit, --xen another tree."
            ) from error
        commits.append(
            Commit(
                number, draft.name, draft.subject, draft.author, draft.message, draft.patch.diff,
                before, replace(tree, spec=str(tree.root)), None,
            )
        )  # fmt: skip
    return Series(cover or path.name, first, found, commits, notes)


def _read(path: Path) -> tuple[list[_Draft], str | None, str | None, list[str]]:
    """Return the patches in order, the series' title, the base that it names, and notes."""
    if path.is_dir():
        return _read_directory(path)
    text = _content(path)
    if not mail.is_mail(text):
        if not mail.is_diff(text):
            raise PatchError(mail.no_patch(path, text))
        return [_Draft(path.name, path.stem, "", "", Patch(path.name, text))], None, None, []
    posting = mail.read(path, text)
    one = len(posting.patches) == 1
    drafts = [_draft(path.name if one else each.subject, each) for each in posting.patches]
    title = posting.cover.title if posting.cover else None
    return drafts, title, posting.base, list(posting.notes)


def _read_directory(path: Path) -> tuple[list[_Draft], str | None, str | None, list[str]]:
    files = sorted(path.glob("*.patch"))
    if not files:
        hint = ""
        if (path / ".git").exists() or (path / "HEAD").is_file():
            hint = f"\nTo check commits of the repository, name a range: {path}@HEAD~3.."
        raise PatchError(f"{path} holds no *.patch file.{hint}")
    found: list[tuple[str, mail.Mail]] = []
    drafts: list[_Draft] = []
    for file in files:
        text = _content(file)
        if mail.is_mail(text):
            found += [(file.name, each) for each in mail.mails(file, text)]
        elif mail.is_diff(text):
            drafts.append(_Draft(file.name, file.stem, "", "", Patch(file.name, text)))
    notes = []
    version = max((each.version for _, each in found), default=1)
    if older := sorted({each.version for _, each in found} - {version}):
        told = ", ".join(f"v{each}" for each in older)
        notes.append(f"{path} holds {told} too; v{version} is taken")
    newest = [(name, each) for name, each in found if each.version == version]
    whole = {each.number for _, each in newest if not each.damage}
    for name, each in newest:
        if each.damage and each.number not in whole:
            raise PatchError(
                f"{path / name}, {each.subject!r}, is damaged: {each.damage}.\n"
                "Write it anew: git format-patch."
            )
    newest = [(name, each) for name, each in newest if not each.damage]
    covers = [each for _, each in newest if not each.diff]
    drafts += [_draft(name, each) for name, each in newest if each.diff]
    if not drafts:
        raise PatchError(f"no *.patch file in {path} has a diff in it.")
    posting = mail.Posting(covers[0] if covers else None, [each for _, each in newest])
    title = covers[0].title if covers else None
    return sorted(drafts, key=lambda draft: draft.name), title, posting.base, notes


def _draft(name: str, found: mail.Mail) -> _Draft:
    return _Draft(name, found.title, found.author, found.message.strip("\n"),
                  Patch(name, found.diff))  # fmt: skip


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        if content.startswith(_GZIP):  # as an archive hands out a thread
            content = gzip.decompress(content)
        return content.replace(b"\r\n", b"\n")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise PatchError(f"{path} is damaged: {error}") from error
    except OSError as error:
        raise PatchError(f"cannot read {path}: {error.strerror}") from error


# --- the base ------------------------------------------------------------------------------------


def _base(
    drafts: Sequence[_Draft], xen: str | None, base: str | None, named: str | None, tell: Progress
) -> tuple[Tree, str]:
    """Return the tree that the patches are for, and how it was found."""
    directory = Path(xen).expanduser() if xen else None
    repository = _repository(directory) if directory else None
    if base is not None:
        if repository is None or directory is None:
            raise UsageError(f"--base {base}: name the git repository that it is of, --xen DIR")
        commit = repository.commit(base)
        return _at(directory, commit, tell), f"which --base names ({base})"
    if repository is None or directory is None:
        tree = resolve(xen, progress=tell) if xen else resolve_default(progress=tell)
        return tree, f"which --xen names ({xen})" if xen else "which is used where none is named"
    if named and repository.knows(named):
        return _at(directory, named, tell), f"which the series' base-commit names ({named[:12]})"
    patches = [draft.patch for draft in drafts]
    tell("looking for the commit that the patches were made for")
    if (found := repository.base_of(patches, None)) is None:
        unknown = f", and their base-commit {named[:12]} is unknown there" if named else ""
        raise PatchError(
            f"the patches apply to no commit of {directory} that was looked at{unknown}.\n"
            "Fetch the branch that they were made for, or name the commit: --base REV"
        )
    commit, how = found
    return _at(directory, commit, tell), f"{how} ({commit[:12]})"


def _at(directory: Path, commit: str, progress: Progress) -> Tree:
    return git.at_revision(f"{directory}@{commit}", directory.resolve(), commit, progress)


def _repository(directory: Path) -> History | None:
    """Return the repository that a directory is the top of; None if it is no such."""
    if not directory.is_dir():
        return None
    if not (directory / ".git").exists() and not (directory / "HEAD").is_file():
        return None
    return History(directory)
