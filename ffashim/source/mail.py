# SPDX-License-Identifier: GPL-2.0-only
"""Mails of a patch series, as an archive of the list or `b4 am` has them.

As b4 does it: a reply is no patch, however much of one it quotes; of several copies of a mail one
counts; of several versions the last; patches go by the numbers in their subjects, not by how the
archive sorts them.
"""

from __future__ import annotations

import email
import email.policy
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from pathlib import Path

from ffashim import paths
from ffashim.errors import PatchError, SourceError
from ffashim.source import git, store

_TAGS = re.compile(r"^\s*\[([^\]]*)\]\s*")
_REPLY = re.compile(r"^\s*(re|aw|sv|fwd?|antw|vs)\s*:", re.I)
_QUOTED_DIFF = re.compile(rb"^(> ?)+(diff --git |--- a/)", re.M)


@dataclass(frozen=True)
class Mail:
    """A mail that carries a patch or introduces some."""

    subject: str
    """As it was sent, with its tags."""
    title: str
    """The same without them."""
    author: str
    message: str
    """The commit message's body."""
    diff: bytes
    """Empty for a cover letter."""
    id: str
    thread: str
    """The ID of the mail that began the thread, as far as this one tells."""
    sent: float
    """In seconds since the epoch; 0 if the mail does not say."""
    version: int
    number: int
    """Its place in the series; 0 is the cover letter."""
    total: int
    damage: str = ""
    """Why a mail that is numbered as a patch holds none."""


@dataclass(frozen=True)
class Posting:
    """A series as it was sent: one version of it, in order."""

    cover: Mail | None
    patches: Sequence[Mail]
    notes: Sequence[str] = ()
    """What else the file holds, and was passed over."""

    @property
    def base(self) -> str | None:
        """The commit that it was made for, by its ``base-commit:`` trailer."""
        for mail in (self.cover, *self.patches):
            if mail and (found := _BASE.search(mail.message)):
                return found[1]
        return None


_BASE = re.compile(r"^base-commit:\s*([0-9a-f]{7,64})\s*$", re.M)


def is_diff(content: bytes) -> bool:
    """Tell whether there is a diff anywhere in it."""
    return re.search(rb"^(diff --git |--- \S.*\n\+\+\+ \S)", content, re.M) is not None


def is_mail(content: bytes) -> bool:
    """Tell whether a file holds mails, and not a bare diff."""
    head = content.lstrip()
    return re.match(rb"From |[A-Za-z][A-Za-z-]*: ", head) is not None and not head.startswith(
        b"Index: "
    )


def read(file: Path, content: bytes) -> Posting:
    """Return the newest version of the one series that a mailbox holds.

    Raises PatchError, which names what is missing or what else is there.
    """
    everything = list(mails(file, content))
    found = [mail for mail in everything if not mail.damage]
    patches = [mail for mail in found if mail.diff]
    damaged = [mail for mail in everything if mail.damage]
    if not patches:
        raise PatchError("\n".join([*map(_damaged, damaged), no_patch(file, content)]))
    notes: list[str] = []
    version = max(mail.version for mail in patches)
    if older := sorted({mail.version for mail in patches} - {version}):
        told = ", ".join(f"v{each}" for each in older)
        notes.append(f"{file.name} holds {told} too; v{version} is taken")
    newest = [mail for mail in found if mail.version == version]
    chosen = _one_series(file, newest)
    placed: dict[int, Mail] = {}
    for mail in sorted(chosen, key=lambda each: each.sent):
        if mail.number in placed:
            notes.append(f"{mail.subject} was sent more than once; the last one is taken")
        placed[mail.number] = mail
    cover = placed.pop(0, None)
    total = max(mail.total for mail in chosen)
    if missing := [n for n in range(1, total + 1) if n not in placed]:
        there = {mail.number: _damaged(mail) for mail in damaged
                 if mail.version == version and mail.total == total}  # fmt: skip
        lacks = [n for n in missing if n not in there]
        title = (cover or placed[min(placed)]).title
        wrong = [f"{file}: {there[n]}" for n in missing if n in there]
        if lacks:
            wrong.append(f"{file} lacks {_numbers(lacks)} of {total} of the series {title!r}.")
        raise PatchError("\n".join([*wrong, _WHOLE]))
    return Posting(cover, [placed[n] for n in sorted(placed)], notes)


def _one_series(file: Path, mails: Sequence[Mail]) -> list[Mail]:
    threads = {mail.thread: mail for mail in mails if mail.diff}
    if len({mail.thread for mail in mails if mail.diff and mail.total > 1}) > 1:
        titles = "\n".join(f"  {mail.subject}" for mail in threads.values())
        raise PatchError(
            f"{file} holds more than one series:\n{titles}\nGive one of them: b4 am MESSAGE-ID"
        )
    if many := [mail for mail in mails if mail.total > 1]:
        return many
    # Without numbers they come in the order of the file, as git format-patch --no-numbered has it.
    places = {title: n for n, title in enumerate(dict.fromkeys(mail.title for mail in mails), 1)}
    return [replace(mail, number=places[mail.title], total=len(places)) for mail in mails]


_WHOLE = "Save the whole thread: b4 am MESSAGE-ID, or the archive's mbox of the thread."


def _damaged(mail: Mail) -> str:
    return f"the mail {mail.subject!r} is damaged: {mail.damage}."


def _numbers(numbers: Sequence[int]) -> str:
    names = ", ".join(map(str, numbers))
    return f"patch {names}" if len(numbers) == 1 else f"patches {names}"


def no_patch(file: Path, content: bytes) -> str:
    """Say what a file without a patch holds, and what to give instead."""
    if _QUOTED_DIFF.search(content):
        return (
            f"{file} holds no patch, but a reply that quotes one: quoted lines are wrapped and "
            "trimmed, so they cannot be applied.\n"
            "Save the mail that it answers, or the thread: b4 am MESSAGE-ID"
        )
    return (
        f"{file} holds no patch. Give the output of git format-patch, a diff, or an mbox of the "
        "series: b4 am MESSAGE-ID, or the archive's mbox of the thread."
    )


# --- reading one mail ----------------------------------------------------------------------------


def mails(file: Path, content: bytes) -> Iterator[Mail]:
    """Yield patches and cover letters, each once; b4 and lists send copies of the same mail.

    A mail that should be a patch and is none comes with its damage.
    """
    seen: set[str] = set()
    try:
        with store.scratch(paths.cache_dir() / "mail") as work:
            git.run("mailsplit", "-b", f"-o{work}", stdin=content.lstrip())
            for path in sorted(work.glob("[0-9]*")):
                mail = _read(path.read_bytes(), work)
                if mail is None or (mail.id and mail.id in seen):
                    continue
                if not mail.damage:  # another copy may be whole
                    seen.add(mail.id)
                yield mail
    except SourceError as error:
        raise PatchError(f"cannot read the mails in {file}: {error}") from error


def _read(raw: bytes, work: Path) -> Mail | None:
    """Read a mail; None if it is neither patch nor cover letter."""
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    subject = _header(message, "Subject")
    if _REPLY.match(subject):
        return None
    info = git.run(
        *("mailinfo", "-b", "--encoding=UTF-8", "--quoted-cr=strip"),
        *(str(work / "message"), str(work / "diff")),
        stdin=raw,
    ).stdout.decode(errors="replace")
    diff = (work / "diff").read_bytes()
    title, version, number, total = _parse(subject)
    body = (work / "message").read_text(encoding="utf-8", errors="replace")
    damage = ""
    if not is_diff(diff):
        if not total:
            return None
        if number:
            damage = _damage(message, body.encode() + diff)
        diff = b""
    found = dict(re.findall(r"^(Author|Email): (.*)$", info, re.M))
    # What follows the three dashes is no part of the commit, but may say for which it is.
    trailer = _BASE.search(raw.decode("utf-8", "replace"))
    if trailer and not _BASE.search(body):
        body += f"\n{trailer[0]}\n"
    return Mail(
        subject, title, f"{found.get('Author', '')} <{found.get('Email', '')}>", body, diff,
        _header(message, "Message-ID"), _thread(message), _sent(message), version,
        number or (0 if total and not diff else 1), total or 1, damage,
    )  # fmt: skip


def _damage(message: EmailMessage, text: bytes) -> str:
    """Say why there is no diff in a mail, as far as that can be told."""
    for pattern, why in _DAMAGES:
        if re.search(pattern, text, re.M):
            return why
    if message.get_content_type() == "text/html":
        return "it is HTML"
    return "there is no diff in it"


_DAMAGES = (
    (rb"^(> ?)+(diff --git |--- \S)", "its diff is quoted"),
    (rb"^\s+diff --git ", "its diff is indented"),
    (rb"^@@ -\d", "its diff has lost the lines that name the files"),
)


def _header(message: EmailMessage, name: str) -> str:
    try:
        return " ".join(str(message.get(name, "")).split())
    except (ValueError, LookupError, AttributeError):  # headers are anybody's
        return ""


def _parse(subject: str) -> tuple[str, int, int, int]:
    """Return the title, the version, the number and the total; total is 0 if there is none."""
    version, number, total = 1, 0, 0
    while tags := _TAGS.match(subject):
        subject = subject[tags.end() :]
        for word in tags[1].split():
            if found := re.fullmatch(r"(?:PATCH)?v(\d+)", word, re.I):
                version = int(found[1])
            elif found := re.fullmatch(r"(\d+)/(\d+)", word):
                number, total = int(found[1]), int(found[2])
    return subject, version, number, total


def _thread(message: EmailMessage) -> str:
    above = f"{_header(message, 'References')} {_header(message, 'In-Reply-To')}".split()
    return above[0] if above else _header(message, "Message-ID")


def _sent(message: EmailMessage) -> float:
    try:
        return parsedate_to_datetime(_header(message, "Date")).timestamp()
    except (TypeError, ValueError, OverflowError):
        return 0.0
