# SPDX-License-Identifier: GPL-2.0-only
"""Patches, as people send them, applied to a private copy of a tree.

git reads the mails and applies the diffs. The copy lies in the cache under a key made of the tree
and the diffs, so the same patches on the same tree are applied once.

A series is taken as it was sent: what of it lies outside the kept part of the tree, the toolstack
or the documentation, is passed over, and the notes of the tree say so where it is a whole patch.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from ffashim.errors import PatchError
from ffashim.source import git, mail, selection, store
from ffashim.source.provenance import hash_files
from ffashim.source.tree import PatchRecord, Progress, Tree, read_version, require_ffa


class NothingCompiled(PatchError):
    """Patches change files, but none that is kept."""


@dataclass(frozen=True)
class Patch:
    """One diff, of which a mailbox may hold several."""

    name: str
    diff: bytes

    @property
    def record(self) -> PatchRecord:
        """What is kept of it in a tree's provenance."""
        return PatchRecord(self.name, hashlib.sha256(self.diff).hexdigest())


def apply(tree: Tree, files: Sequence[Path], progress: Progress) -> Tree:
    """Return a private copy of the tree with the patches of the files applied in order.

    A patch that changes no file of the kept part is passed over, with a note.

    Raises PatchError, which names patch, file, hunk and line, if one does not apply, or if there is
    none that changes anything.
    """
    found = [read(file) for file in files]
    patched = apply_patches(tree, [patch for each in found for patch in each.patches], progress)
    return replace(patched, notes=(*patched.notes, *(n for each in found for n in each.notes)))


def apply_patches(tree: Tree, patches: Sequence[Patch], progress: Progress) -> Tree:
    """The same, of patches that were read already.

    Raises NothingCompiled, a PatchError, if none of them changes anything here.
    """
    records = tuple(patch.record for patch in patches)

    def fill(into: Path) -> None:
        store.copy(tree.root, into)
        outside: dict[int, Sequence[str]] = {}
        for number, patch in enumerate(patches):
            progress(f"applying {patch.name}")
            if names := _apply(patch, into):
                outside[number] = names
                progress(f"passed over: {patch.name}")
        if len(outside) == len(patches):
            raise NothingCompiled(_nothing(patches, outside))
        told = json.dumps({number: _some(names) for number, names in outside.items()})
        (into / _PASSED_OVER).write_text(told, encoding="utf-8")

    root = store.stored(_key(tree, records), fill)
    require_ffa(root / "xen", f"{tree.origin}, once patched,")
    version = read_version(root / "xen") if tree.version == read_version(tree.xen) else tree.version
    passed_over = _passed_over(root)
    return replace(
        tree,
        root=root,
        version=version,
        patches=(*tree.patches, *(r for n, r in enumerate(records) if n not in passed_over)),
        private=True,
        notes=(*tree.notes, *_notes(patches, passed_over)),
    )


def _key(tree: Tree, records: Sequence[PatchRecord]) -> str:
    digest = hashlib.sha256(selection.ID.encode())
    if tree.private:
        digest.update(tree.root.name.encode())
    else:
        files = [tree.root / name for name in store.kept_files(tree.root)]
        for file in hash_files(files, tree.root):
            digest.update(f"{file.path}\0{file.sha256}\0".encode())
    for record in records:
        digest.update(record.sha256.encode())
    return f"patched-{digest.hexdigest()[:40]}"


# --- what is passed over -------------------------------------------------------------------------

PASSED_OVER = "passed over: "
"""How the notes start that tell of it."""

_PASSED_OVER = ".passed-over"
"""A file in a patched tree: a patch's number to what it changes, for those that were."""
_SHOWN = 3
"""How many names, of files or of patches, are told before the rest is counted."""


def _passed_over(root: Path) -> dict[int, str]:
    try:
        found = json.loads((root / _PASSED_OVER).read_text(encoding="utf-8"))
        return {int(number): str(names) for number, names in found.items()}
    except (OSError, ValueError, AttributeError):  # by an earlier version, which had none
        return {}


def _notes(patches: Sequence[Patch], passed_over: Mapping[int, str]) -> list[str]:
    if len(passed_over) <= _SHOWN:
        return [
            f"{PASSED_OVER}{patches[number].name} changes only {names}"
            for number, names in passed_over.items()
        ]
    names = _some([patches[number].name for number in passed_over], "; ")
    return [
        f"{PASSED_OVER}{len(passed_over)} of {len(patches)} patches, which change nothing that is "
        f"compiled here: {names}"
    ]


def _nothing(patches: Sequence[Patch], outside: Mapping[int, Sequence[str]]) -> str:
    names = list(dict.fromkeys(name for names in outside.values() for name in names))
    what = f"{patches[0].name} changes" if len(patches) == 1 else "the patches change"
    return f"{what} nothing that is compiled here, only {_some(names)}."


def _some(names: Sequence[str], separator: str = ", ") -> str:
    more = len(names) - _SHOWN
    shown = separator.join(names[:_SHOWN])
    return f"{shown} and {more} more" if more > 0 else shown


# --- reading -------------------------------------------------------------------------------------


class Reading(NamedTuple):
    """What a file or directory holds. notes: what of it was not taken, and why."""

    patches: Sequence[Patch]
    notes: Sequence[str] = ()


def read(file: Path) -> Reading:
    """Return the patches in a diff, a mail, a mailbox, or a directory of ``*.patch`` files.

    A series in a mailbox is read as `mail.read` does: whole, its newest version, in the order that
    its subjects number. Cover letters and replies are passed over. Raises PatchError if nothing is
    left, or if a patch of the series is missing.
    """
    file = file.expanduser()
    if file.is_dir():
        members = [_read_file(member) for member in sorted(file.glob("*.patch"))]
        found = Reading(
            [patch for each in members for patch in each.patches],
            [note for each in members for note in each.notes],
        )
        complaint = (
            f"{file} holds no *.patch file with a diff in it. Give a diff, the output of git "
            "format-patch, an mbox of a series, or a directory of *.patch files."
        )
    else:
        found = _read_file(file)
        complaint = "" if found.patches else mail.no_patch(file, file.read_bytes())
    if not found.patches:
        raise PatchError(complaint)
    return found


def _read_file(file: Path) -> Reading:
    try:
        # Xen has no file with CRLF line ends; patches get them in the mail.
        content = file.read_bytes().replace(b"\r\n", b"\n")
    except OSError as error:
        raise PatchError(f"cannot read the patch {file}: {error.strerror}") from error
    if not mail.is_mail(content):
        return Reading([Patch(file.name, content)] if mail.is_diff(content) else [])
    everything = list(mail.mails(file, content))
    found: Sequence[mail.Mail] = [each for each in everything if each.diff]
    notes: Sequence[str] = ()
    # One alone may well be of a series.
    if len(found) > 1 or any(each.damage for each in everything):
        posting = mail.read(file, content)
        found, notes = posting.patches, posting.notes
    return Reading([Patch(f"{file.name}: {each.subject}", each.diff) for each in found], notes)


def require_whole(patch: Patch, number: int, total: int) -> None:
    """Find out before it is applied whether git can read a patch. Raises PatchError."""
    with tempfile.TemporaryDirectory() as work:
        done = _git_apply(patch, Path(work), "--numstat")
    if done.returncode == 0:
        return
    why = done.stderr.strip().partition("\n")[0].removeprefix("error: ")
    if at := re.search(r"at (?:<stdin>:|line )(\d+)", why):
        lines = patch.diff.decode(errors="replace").splitlines()
        why += f", before {lines[int(at[1]) - 1]!r}" if int(at[1]) <= len(lines) else ", its end"
    raise PatchError(
        f"{patch.name}, patch {number} of {total}, is damaged: {why}.\n"
        "Save it anew: as git format-patch writes it, or b4 am MESSAGE-ID."
    )


# --- applying ------------------------------------------------------------------------------------

# What the paths in a patch may be relative to: how many leading names to drop, and what to put
# before them. Made at the top of the tree with and without a/ and b/; inside xen/.
_FRAMES = ((1, ""), (0, ""), (1, "xen"), (0, "xen"))

# What lies right here may also be meant to lie beside xen/: Makefile, COPYING, scripts/.
_AT_BOTH = ("xen", "xen/scripts")


@dataclass(frozen=True)
class _Frame:
    """A patch, read as if its paths were relative to one of the directories."""

    strip: int
    directory: str
    counts: Mapping[str, str]
    """Each file it changes, named from the top of the tree, to how many lines it adds and drops."""
    moves: Sequence[tuple[str, str, str]]
    """rename or copy, the old name, the new name."""

    @property
    def options(self) -> list[str]:
        """What tells git of it, and to leave out what is not kept."""
        directory = [f"--directory={self.directory}"] if self.directory else []
        left_out = [f"--exclude={name}/*" for name in selection.LEFT_OUT]
        return [f"-p{self.strip}", *directory, *left_out, "--include=xen/*"]

    @property
    def kept(self) -> list[str]:
        """The files of the kept part that the patch leaves there, new or changed or removed."""
        return [name for name in self.counts if selection.kept(name)]

    @property
    def moved_out(self) -> list[str]:
        """Files that it moves out of the kept part: git leaves a move out if it does the target."""
        return [
            old
            for how, old, new in self.moves
            if how == "rename" and selection.kept(old) and not selection.kept(new)
        ]

    def evidence(self, root: Path) -> dict[str, int]:
        """What in the tree speaks for this reading: files that are there, directories of xen/."""
        found = {}
        for name in (*self.kept, *self.moved_out):
            if _state(root / name) is not None:
                found[name] = 2
            elif _parent(name) not in _AT_BOTH and (root / Path(*Path(name).parts[:2])).is_dir():
                found[name] = 1
        return found


def _apply(patch: Patch, root: Path) -> list[str]:
    """Apply what of the patch lies in the kept part. If nothing does, return what it changes."""
    frames = _frames(patch, root)
    frame = _fitting(patch, frames, root)
    if frame is None:
        # The names as they stand in the patch, but for a/ and b/.
        prefixed = re.search(rb"^(diff --git |--- |\+\+\+ )[abciow]/", patch.diff, re.M)
        return list(next((f for f in frames if f.strip == bool(prefixed)), frames[0]).counts)
    for how, old, new in frame.moves:
        if selection.kept(new) and not selection.kept(old):
            raise PatchError(
                f"{patch.name} makes {new} as a {how} of {old}, which is not kept here.\n"
                "Make the patch anew, with that file in full: git format-patch --no-renames"
            )
    before = {name: _state(root / name) for name in frame.kept}
    done = _git_apply(patch, root, *frame.options)
    if done.returncode != 0:
        raise PatchError(_failure(patch, root, frame.options, done.stderr))
    # git has been seen to skip a patch in silence and to report success. No line changes where the
    # mode does, and a file may well have that mode already.
    same = [
        name
        for name, state in before.items()
        if _state(root / name) == state and (state is None or frame.counts[name] != "0 0")
    ]
    if same:
        raise PatchError(f"{patch.name} left {', '.join(same)} as it was; git skipped it.")
    for name in frame.moved_out:
        (root / name).unlink(missing_ok=True)
    return []


def _frames(patch: Patch, root: Path) -> list[_Frame]:
    """Read the patch's paths in each way that there is."""
    found = []
    complaint = ""
    headers = re.findall(
        r"^(rename|copy) from (.*)\n(?:rename|copy) to (.*)$",
        patch.diff.decode(errors="surrogateescape"),
        re.M,
    )
    for strip, directory in _FRAMES:
        options = [f"-p{strip}"] + ([f"--directory={directory}"] if directory else [])
        listed = _git_apply(patch, root, *options, "--numstat", "-z")
        if listed.returncode != 0:
            complaint = complaint or listed.stderr
            continue
        lines = [line.split("\t", 2) for line in listed.stdout.split("\0") if line]
        counts = {name: f"{added} {dropped}" for added, dropped, name in lines}
        # These names come without a/ and b/ in every patch.
        before = f"{directory}/" if directory else ""
        moves = [(how, before + old, before + new) for how, old, new in headers]
        found.append(_Frame(strip, directory, counts, moves))
    if not any(frame.counts for frame in found):
        raise PatchError(f"{patch.name} is damaged: {complaint.strip()}")
    return found


def _fitting(patch: Patch, frames: Sequence[_Frame], root: Path) -> _Frame | None:
    """Return the reading that fits the tree, None if by none of them anything kept is changed."""
    best = max(frames, key=lambda frame: sum(frame.evidence(root).values()))  # first of equals
    if evidence := best.evidence(root):
        unsure = best.directory and all(_parent(name) in _AT_BOTH for name in evidence)
        if unsure and _git_apply(patch, root, *best.options, "--check").returncode != 0:
            return None
        return best
    # Nothing of it is there: files in new directories, or a patch for quite another tree.
    outright = [frame for frame in frames if frame.kept and not frame.directory]
    return min(outright, key=lambda frame: frame.strip, default=None)


def _failure(patch: Patch, root: Path, options: Sequence[str], complaint: str) -> str:
    """Say which hunks fail, and where. The copy is lost anyway, so git may try the rest."""
    if _git_apply(patch, root, *options, "--reverse", "--check").returncode == 0:
        return f"{patch.name} is already in this tree; it applies only in reverse."
    told = _git_apply(patch, root, *options, "--reject", "--verbose").stderr
    lines = re.findall(r"^error: patch failed: (.*):(\d+)$", told, re.M)
    hunks: list[tuple[str, str]] = []
    file = ""
    for line in told.splitlines():
        if applying := re.match(r"Applying patch (.*) with \d+ rejects?\.\.\.$", line):
            file = applying[1]
        elif rejected := re.match(r"Rejected hunk #(\d+)\.$", line):
            hunks.append((file, rejected[1]))
    if hunks and len(hunks) == len(lines):
        wrong = [
            f"{name}: hunk {hunk}, at line {line}, does not match the tree"
            for (name, hunk), (_, line) in zip(hunks, lines, strict=True)
        ]
    else:
        wrong = [line.removeprefix("error: ") for line in complaint.splitlines()]
    return "\n  ".join([f"{patch.name} does not apply:", *wrong])


def _git_apply(patch: Patch, root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = ["git", "apply", "--whitespace=nowarn", *options, "-"]
    # In a directory of a repository, which a home directory may be, git would skip everything.
    around = {"GIT_CEILING_DIRECTORIES": str(root.resolve().parent)}
    try:
        done = subprocess.run(
            command,
            cwd=root,
            env={**git.environment(), **around},
            input=patch.diff,
            capture_output=True,
            check=False,
        )
    except OSError as error:
        raise PatchError(f"git, which applies patches, cannot be run: {error}") from error
    out, err = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
    return subprocess.CompletedProcess(command, done.returncode, out, err)


def _parent(name: str) -> str:
    return name.rpartition("/")[0]


def _state(path: Path) -> object:
    if path.is_symlink():
        return path.readlink()
    return (path.read_bytes(), path.stat().st_mode) if path.is_file() else None
