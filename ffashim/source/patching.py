# SPDX-License-Identifier: GPL-2.0-only
"""Patches, as people send them, applied to a private copy of a tree.

git reads the mails and applies the diffs. The copy lies in the cache under a key made of the tree
and the diffs, so the same patches on the same tree are applied once.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ffashim import paths
from ffashim.errors import PatchError, SourceError
from ffashim.source import git, selection, store
from ffashim.source.provenance import hash_files
from ffashim.source.tree import PatchRecord, Progress, Tree, read_version, require_ffa


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

    Raises PatchError, which names patch, file, hunk and line, if one does not apply.
    """
    patches = [patch for file in files for patch in read(file)]
    records = tuple(patch.record for patch in patches)

    def fill(into: Path) -> None:
        store.copy(tree.root, into)
        for patch in patches:
            progress(f"applying {patch.name}")
            _apply(patch, into)

    root = store.stored(_key(tree, records), fill)
    require_ffa(root / "xen", f"{tree.origin}, once patched,")
    version = read_version(root / "xen") if tree.version == read_version(tree.xen) else tree.version
    return replace(
        tree, root=root, version=version, patches=(*tree.patches, *records), private=True
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


# --- reading -------------------------------------------------------------------------------------


def read(file: Path) -> list[Patch]:
    """Return the patches in a diff, a mail, a mailbox, or a directory of ``*.patch`` files.

    A series in a mailbox is put in the order that its subjects number. Messages without a diff,
    such as a cover letter, are passed over. Raises PatchError if nothing is left.
    """
    file = file.expanduser()
    if file.is_dir():
        found = [patch for member in sorted(file.glob("*.patch")) for patch in _read_file(member)]
        what = "no *.patch file with a diff in it"
    else:
        found = _read_file(file)
        what = "no diff"
    if not found:
        raise PatchError(
            f"{file} holds {what}. Give a diff, the output of git format-patch, an mbox of a "
            "series, or a directory of *.patch files."
        )
    return found


def _read_file(file: Path) -> list[Patch]:
    try:
        # Xen has no file with CRLF line ends; patches get them in the mail.
        content = file.read_bytes().replace(b"\r\n", b"\n")
    except OSError as error:
        raise PatchError(f"cannot read the patch {file}: {error.strerror}") from error
    if not re.match(rb"\s*(From |[A-Za-z][A-Za-z-]*: )", content) or content.startswith(b"Index: "):
        return [Patch(file.name, content)] if _is_diff(content) else []
    try:
        mails = list(_mails(file.name, content))
    except SourceError as error:
        raise PatchError(f"cannot read the mails in {file}: {error}") from error
    return _in_order([(subject, patch) for subject, patch in mails if _is_diff(patch.diff)])


def _mails(name: str, mailbox: bytes) -> Iterator[tuple[str, Patch]]:
    """Split a mailbox, and decode each mail's transfer encoding, character set and parts."""
    with store.scratch(paths.cache_dir() / "mail") as work:
        git.run("mailsplit", "-b", f"-o{work}", stdin=mailbox.lstrip())
        for mail in sorted(work.iterdir()):
            info = git.run(
                *("mailinfo", "-k", "--encoding=UTF-8", "--quoted-cr=strip"),
                *(str(work / "message"), str(work / "diff")),
                stdin=mail.read_bytes(),
            )
            found = re.search(r"^Subject: (.*)$", info.stdout.decode(errors="replace"), re.M)
            subject = found[1] if found else "(no subject)"
            yield subject, Patch(f"{name}: {subject}", (work / "diff").read_bytes())


def _in_order(mails: Sequence[tuple[str, Patch]]) -> list[Patch]:
    """Sort by the n of [PATCH n/m], if every mail has one of its own: archives sort by date."""
    numbers = [re.match(r"\[[^]]*?(\d+)/\d+[^]]*\]", subject) for subject, _ in mails]
    patches = [patch for _, patch in mails]
    places = [int(number[1]) for number in numbers if number]
    if len(places) == len(set(places)) == len(patches):
        return [patch for _, patch in sorted(zip(places, patches, strict=True), key=lambda p: p[0])]
    return patches


def _is_diff(content: bytes) -> bool:
    return re.search(rb"^(diff --git |--- \S.*\n\+\+\+ \S)", content, re.M) is not None


# --- applying ------------------------------------------------------------------------------------

# Directories that the paths in a patch may be relative to: how many leading names to drop, and
# what to put before them. Made at the top of the tree with and without a/ and b/; inside xen/.
_FRAMES = ((1, ""), (0, ""), (1, "xen"), (0, "xen"))


def _apply(patch: Patch, root: Path) -> None:
    frame, touched = _frame(patch, root)
    options = [*frame, *(f"--exclude={name}/*" for name in selection.LEFT_OUT), "--include=xen/*"]
    before = {name: _state(root / name) for name in touched}
    done = _git_apply(patch, root, *options)
    if done.returncode != 0:
        raise PatchError(_failure(patch, root, options, done.stderr))
    # git has been seen to skip a patch in silence and to report success.
    same = [name for name in touched if _state(root / name) == before[name]]
    if same:
        raise PatchError(f"{patch.name} left {', '.join(same)} as it was; git skipped it.")


def _frame(patch: Patch, root: Path) -> tuple[list[str], list[str]]:
    """Find out what the patch's paths are relative to, and which kept files it changes."""
    complaint = ""
    touched_any: list[str] = []
    for strip, directory in _FRAMES:
        options = [f"-p{strip}"] + ([f"--directory={directory}"] if directory else [])
        listed = _git_apply(patch, root, *options, "--numstat", "-z")
        if listed.returncode != 0:
            complaint = complaint or listed.stderr
            continue
        names = [line.split("\t", 2)[-1] for line in listed.stdout.split("\0") if line]
        touched_any = touched_any or names
        touched = [name for name in names if selection.kept(name)]
        if any((root / name).parent.is_dir() for name in touched):
            return options, touched
    if complaint and not touched_any:
        raise PatchError(f"{patch.name} is damaged: {complaint.strip()}")
    raise PatchError(
        f"{patch.name} changes nothing that is compiled here, only {', '.join(touched_any)}."
    )


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


def _state(path: Path) -> object:
    if path.is_symlink():
        return path.readlink()
    return (path.read_bytes(), path.stat().st_mode) if path.is_file() else None
