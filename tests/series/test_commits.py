# SPDX-License-Identifier: GPL-2.0-only
"""A series as commits: from ranges, files and mails, with the base found and told."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from repositories import FILE, Repo

from ffashim.errors import FfashimError
from ffashim.series.commits import Series, load

START = r"(?m)^(static bool ffa_handle_call\()"


def read(what: str | Path, xen: Path | None = None, base: str | None = None) -> Series:
    return load(str(what), str(xen) if xen else None, base, lambda line: None)


def comment(repo: Repo, word: str) -> str:
    """Commit a comment of ours."""
    repo.edit(START, rf"/* {word} */\n\1")
    return repo.commit(f"Say {word}")


def content(series: Series, number: int) -> str:
    return (series.trees[number].root / FILE).read_text()


def test_each_commit_of_a_range_has_the_tree_that_it_leaves(repo: Repo) -> None:
    comment(repo, "first")
    comment(repo, "second")
    series = read(f"{repo.path}@HEAD~2..")
    assert [commit.subject for commit in series.commits] == ["Say first", "Say second"]
    assert series.commits[0].name == repo.git("rev-parse", "HEAD~1")[:12]
    found = [
        ("/* first */" in content(series, n), "/* second */" in content(series, n))
        for n in range(3)
    ]
    assert found == [(False, False), (True, False), (True, True)]


def test_a_commit_of_documentation_is_one_like_the_others(repo: Repo, tmp_path: Path) -> None:
    comment(repo, "first")
    repo.document("Tell of it")
    comment(repo, "second")
    patches = repo.patches("HEAD~3", tmp_path / "out")
    for series in (read(f"{repo.path}@HEAD~3.."), read(patches, repo.path, "HEAD~3")):
        assert [commit.compiled for commit in series.commits] == [True, False, True]
        assert "/* second */" in content(series, 3)


def test_patches_are_called_by_their_files(repo: Repo, tmp_path: Path) -> None:
    comment(repo, "first")
    comment(repo, "second")
    patches = repo.patches("HEAD~2", tmp_path / "out", "--cover-letter")
    series = read(patches, repo.path)
    names = [commit.name for commit in series.commits]
    assert names == ["0001-Say-first.patch", "0002-Say-second.patch"]


def test_the_base_is_the_one_that_the_patches_name(repo: Repo, tmp_path: Path) -> None:
    comment(repo, "first")
    comment(repo, "second")
    patches = repo.patches("HEAD~1", tmp_path / "out", "--base=HEAD~1")
    series = read(patches, repo.path)
    assert series.base.commit == repo.git("rev-parse", "HEAD~1")
    assert "base-commit" in series.found


def two_patches(repo: Repo, tmp_path: Path) -> Path:
    """A directory of the patches of two commits."""
    comment(repo, "first")
    comment(repo, "second")
    return repo.patches("HEAD~2", tmp_path / "out")


def test_a_thread_may_come_as_an_archive_packs_it(repo: Repo, tmp_path: Path) -> None:
    comment(repo, "first")
    (patch,) = repo.patches("HEAD~1", tmp_path / "out").iterdir()
    thread = tmp_path / "t.mbox.gz"
    thread.write_bytes(gzip.compress(patch.read_bytes()))
    assert [commit.name for commit in read(thread, repo.path).commits] == ["t.mbox.gz"]
    thread.write_bytes(thread.read_bytes()[:-20])
    with pytest.raises(FfashimError, match=r"t\.mbox\.gz is damaged"):
        read(thread, repo.path)


def test_the_base_is_looked_for_where_none_is_named(repo: Repo, tmp_path: Path) -> None:
    comment(repo, "first")
    comment(repo, "mine")
    patches = repo.patches("HEAD~1", tmp_path / "out")
    wanted = repo.git("rev-parse", "HEAD~1")
    repo.git("reset", "-q", "--hard", "HEAD~1")
    comment(repo, "theirs")
    series = read(patches, repo.path)
    assert series.base.commit == wanted
    assert wanted[:12] in series.found


def test_where_no_files_are_just_those_of_the_patches_they_are_tried(
    repo: Repo, tmp_path: Path
) -> None:
    comment(repo, "mine")
    patches = repo.patches("HEAD~1", tmp_path / "out")
    (file,) = patches.iterdir()
    # As a patch is that was made by another tool: it does not say what it starts from.
    lines = [line for line in file.read_text().splitlines(True) if not line.startswith("index ")]
    file.write_text("".join(lines))
    repo.git("reset", "-q", "--hard", "HEAD~1")
    series = read(patches, repo.path)
    assert series.base.commit == repo.git("rev-parse", "HEAD")
    assert "to which the patches apply" in series.found


def test_a_patch_that_does_not_apply_is_named_with_the_place_and_the_base(
    repo: Repo, tmp_path: Path
) -> None:
    patches = two_patches(repo, tmp_path)
    second = patches / "0002-Say-second.patch"
    second.write_text(second.read_text().replace("/* first */", "/* other */"))
    with pytest.raises(FfashimError) as error:
        read(patches, repo.path, "HEAD~2")
    said = str(error.value)
    assert "0002-Say-second.patch does not apply" in said
    assert f"{FILE}: hunk 1" in said
    assert "0001-Say-first.patch is the last that was applied" in said
    assert "--base names (HEAD~2)" in said


def test_a_patch_that_is_cut_off_is_named_before_a_base_is_looked_for(
    repo: Repo, tmp_path: Path
) -> None:
    patches = two_patches(repo, tmp_path)
    second = patches / "0002-Say-second.patch"
    lines = second.read_text().splitlines(True)
    at = next(n for n, line in enumerate(lines) if "second */" in line and line.startswith("+"))
    second.write_text("".join([*lines[:at], *lines[at + 2 :]]))
    with pytest.raises(FfashimError, match=r"^0002-Say-second\.patch, patch 2 of 2, is damaged: "):
        read(patches, repo.path)


def test_a_file_of_patches_without_its_diff_is_named(repo: Repo, tmp_path: Path) -> None:
    patches = two_patches(repo, tmp_path)
    first = patches / "0001-Say-first.patch"
    first.write_text(first.read_text().partition("diff --git")[0])
    with pytest.raises(FfashimError, match=r"'\[PATCH 1/2\] Say first', is damaged: there is no"):
        read(patches, repo.path)


def test_what_is_not_committed_is_said_not_to_count(repo: Repo) -> None:
    comment(repo, "first")
    repo.edit(START, r"/* not yet */\n\1")
    series = read(f"{repo.path}@HEAD~1..")
    assert "not committed" in series.notes[0]
    assert "/* not yet */" not in content(series, 1)


def merge(repo: Repo) -> None:
    repo.git("checkout", "-qb", "side", "HEAD~1")
    repo.document("On the side")
    repo.git("merge", "-q", "master", "-m", "Merge it")


@pytest.mark.parametrize(
    ("revisions", "told"),
    [
        ("HEAD..", "there is no commit in"),
        ("HEAD..HEAD~1", r"Did you mean HEAD~1\.\.HEAD\?"),
        ("HEAD~1...HEAD", "three dots"),
        ("HEAD~1..nowhere", "no branch, tag or commit 'nowhere'"),
        ("master~1..side", "holds the merge"),
    ],
)
def test_a_range_that_is_no_series_is_refused(repo: Repo, revisions: str, told: str) -> None:
    comment(repo, "first")
    if "side" in revisions:
        merge(repo)
    with pytest.raises(FfashimError, match=told):
        read(f"{repo.path}@{revisions}")


def test_a_repository_without_a_range_is_refused_and_how_to_name_one_is_said(repo: Repo) -> None:
    with pytest.raises(FfashimError, match=r"name a range: .*@HEAD~3\.\."):
        read(repo.path)


@pytest.mark.parametrize(
    ("message", "claim"),
    [
        ("No functional change intended.", "No functional change"),
        ("xen/arm: tidy up, NFC", "NFC"),
        ("There is no change in\nbehaviour.", "no change in behaviour"),
        ("Change the function.", None),
    ],
)
def test_a_claim_that_nobody_sees_a_change_is_read(
    repo: Repo, message: str, claim: str | None
) -> None:
    repo.edit(START, r"/* first */\n\1")
    repo.commit("Tidy", message)
    assert read(f"{repo.path}@HEAD~1..").commits[0].claim == claim
