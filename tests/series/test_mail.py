# SPDX-License-Identifier: GPL-2.0-only
"""Mails: which of them are the patches of a series, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from ffashim.errors import PatchError
from ffashim.source.mail import Posting, read

FILE = Path("thread.mbox")


def diff(word: str) -> str:
    return f"diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-one\n+{word}\n"


def mail(subject: str, body: str, name: str, above: str = "", date: int = 1) -> str:
    """A mail as an archive's mbox holds it."""
    lines = [
        "From mboxrd@z Thu Jan  1 00:00:00 1970",
        "From: A Developer <dev@example.org>",
        f"Date: Mon, {date:02d} Jan 2024 10:00:00 +0000",
        f"Subject: {subject}",
        f"Message-ID: <{name}>",
        *([f"In-Reply-To: <{above}>", f"References: <{above}>"] if above else []),
        "",
        body,
        "",
    ]
    return "\n".join(lines)


def patch(subject: str, word: str, name: str, above: str = "", date: int = 1) -> str:
    return mail(subject, f"Change it to {word}.\n---\n f | 2 +-\n\n{diff(word)}-- \n2.40\n",
                name, above, date)  # fmt: skip


def taken(*mails: str) -> Posting:
    return read(FILE, "\n".join(mails).encode())


def titles(posting: Posting) -> Sequence[str]:
    return [each.title for each in posting.patches]


COVER = mail("[PATCH 0/2] Two changes", "Both matter.\n\nbase-commit: 0123456789abcdef\n", "c")
ONE = patch("[PATCH 1/2] First", "one", "p1", "c")
TWO = patch("[PATCH 2/2] Second", "two", "p2", "c")


def test_patches_go_by_their_numbers_whatever_the_archive_sorts_by() -> None:
    posting = taken(TWO, ONE, COVER)
    assert titles(posting) == ["First", "Second"]
    assert posting.cover is not None
    assert posting.cover.title == "Two changes"


def test_a_reply_is_no_patch_however_much_of_one_it_quotes() -> None:
    quoted = "\n".join(f"> {line}" for line in diff("one").splitlines())
    reply = mail("Re: [PATCH 1/2] First", f"{quoted}\n\nLooks good.", "r1", "p1")
    suggestion = mail("Re: [PATCH 2/2] Second", f"Rather:\n\n{diff('other')}", "r2", "p2")
    assert titles(taken(COVER, ONE, reply, TWO, suggestion)) == ["First", "Second"]


def test_a_copy_of_a_mail_counts_once() -> None:
    posting = taken(COVER, ONE, ONE, TWO, COVER)
    assert titles(posting) == ["First", "Second"]
    assert not posting.notes


def test_the_newest_version_is_taken_and_that_is_said() -> None:
    newer = [patch(f"[PATCH v3 {n}/2] New {n}", f"new{n}", f"n{n}", "c3") for n in (1, 2)]
    older = patch("[RFC PATCH v2 1/1] Old", "old", "o1")
    posting = taken(COVER, ONE, *newer, TWO, older)
    assert titles(posting) == ["New 1", "New 2"]
    assert posting.notes == ["thread.mbox holds v1, v2 too; v3 is taken"]


def test_of_a_patch_that_was_sent_again_the_last_is_taken() -> None:
    again = patch("[PATCH RESEND 2/2] Second, mended", "mended", "p2b", "c", date=9)
    posting = taken(again, ONE, TWO, COVER)
    assert titles(posting) == ["First", "Second, mended"]
    assert "more than once" in posting.notes[0]


def test_a_series_that_lacks_a_patch_is_refused_by_its_number() -> None:
    with pytest.raises(PatchError, match=r"lacks patch 1 of 2 of the series 'Two changes'"):
        taken(COVER, TWO)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("".join(f"> {line}" for line in diff("one").splitlines(True)), "its diff is quoted"),
        ("".join(f"  {line}" for line in diff("one").splitlines(True)), "its diff is indented"),
        (
            diff("one").partition("\n+++ b/f\n")[2],
            "its diff has lost the lines that name the files",
        ),
        ("Change it.", "there is no diff in it"),
    ],
)
def test_a_mail_of_a_series_that_is_damaged_is_named_with_what_is_wrong(
    body: str, why: str
) -> None:
    damaged = mail("[PATCH 1/2] First", body, "p1", "c")
    with pytest.raises(PatchError) as error:
        taken(COVER, damaged, TWO)
    told = f"{FILE}: the mail '[PATCH 1/2] First' is damaged: {why}.\nSave the whole thread"
    assert str(error.value).startswith(told)


def test_a_damaged_mail_of_which_there_is_a_copy_that_is_whole_is_no_harm() -> None:
    damaged = mail("[PATCH 1/2] First", "Change it.", "p1", "c")
    assert titles(taken(COVER, damaged, ONE, TWO)) == ["First", "Second"]


def test_two_series_are_not_mixed() -> None:
    others = [patch(f"[PATCH {n}/2] Other {n}", f"x{n}", f"x{n}", "elsewhere") for n in (1, 2)]
    with pytest.raises(PatchError, match="more than one series"):
        taken(COVER, ONE, TWO, *others)


def test_a_patch_without_a_number_is_a_series_of_one() -> None:
    posting = taken(patch("[PATCH] Alone", "alone", "a"))
    assert titles(posting) == ["Alone"]
    assert posting.patches[0].message.strip() == "Change it to alone."
    assert posting.patches[0].author == "A Developer <dev@example.org>"


def test_a_reply_alone_is_refused_and_what_to_save_instead_is_said() -> None:
    quoted = "\n".join(f"> {line}" for line in diff("one").splitlines())
    with pytest.raises(PatchError, match=r"(?s)a reply that quotes one.*b4 am MESSAGE-ID"):
        taken(mail("Re: [PATCH] Alone", quoted, "r", "a"))


def test_subjects_come_encoded_and_folded() -> None:
    subject = "=?utf-8?q?=5BPATCH_1/1=5D_Gr=C3=BC=C3=9Fe?=\n from here"
    assert titles(taken(patch(subject, "one", "p"))) == ["Grüße from here"]


@pytest.mark.parametrize(
    ("cover", "first"),
    [("base-commit: 0123456789abcdef\n", ""), ("", "base-commit: 0123456789abcdef")],
)
def test_the_base_is_named_by_the_cover_letter_or_below_a_patch(cover: str, first: str) -> None:
    start = mail("[PATCH 0/2] Two changes", f"Both matter.\n\n{cover}", "c")
    one = mail("[PATCH 1/2] First", f"One.\n---\n\n{diff('one')}\n{first}\n-- \n2.40\n", "p1", "c")
    assert taken(start, one, TWO).base == "0123456789abcdef"
