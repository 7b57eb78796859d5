# SPDX-License-Identifier: GPL-2.0-only
"""`ffashim series` and `ffashim bisect`: what they refuse, and what they exit with."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from commands import ffashim
from repositories import Repo


def refused(told: str, *arguments: str) -> None:
    done = ffashim(*arguments)
    assert done.returncode == 2, done.stdout
    assert done.stderr.startswith("error: ")
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_series_of_documentation_is_sound_and_its_summary_can_be_piped(repo: Repo) -> None:
    repo.document("Tell of it")
    done = ffashim("series", f"{repo.path}@HEAD~1..", "--text", "-")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ffashim series: HEAD~1..")
    assert "1/1 Tell of it\n  changes nothing that is compiled here" in done.stdout


def test_an_option_of_no_commit_is_refused(repo: Repo) -> None:
    repo.document("Tell of it")
    refused("neither the base nor a commit has such a symbol", "series",
            f"{repo.path}@HEAD~1..", "--config", "FFA_VM_TO_VN=y")  # fmt: skip


@pytest.mark.parametrize(
    ("keyword", "told"),
    [("nosuch", "-k nosuch: no test of the suite is selected"), ("a (", "no expression")],
)
def test_a_keyword_that_selects_nothing_is_refused_before_anything_is_built(
    repo: Repo, keyword: str, told: str
) -> None:
    repo.edit("(#include)", r"/* changed */\n\1")
    repo.commit("Change it")
    refused(told, "series", f"{repo.path}@HEAD~1..", "-k", keyword)


def test_a_bisect_for_a_test_that_there_is_not_is_refused_before_anything_is_built(
    repo: Repo,
) -> None:
    repo.edit("(#include)", r"/* changed */\n\1")
    repo.commit("Change it")
    refused("-k nosuch: no test of the suite is selected", "bisect", f"{repo.path}@HEAD~1..",
            "-k", "nosuch", "--cc", "/nowhere/cc")  # fmt: skip


def test_a_bisect_to_a_revision_that_there_is_not_is_refused(repo: Repo) -> None:
    refused("no branch, tag or commit 'nowhere'", "bisect", f"{repo.path}@HEAD..nowhere",
            "-k", "test_id_get")  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["series", "/nowhere"], "there is no /nowhere"),
        (["series", "/nowhere", "--html", "/nowhere/page.html"], "cannot be written"),
        (["bisect", "/nowhere@a..b"], "name what fails"),
        (["bisect", "/nowhere@a..b", "-k", "x"], "there is no directory /nowhere"),
        (["bisect", "/nowhere", "-k", "x"], "name a range of a git repository"),
        (["bisect", "/nowhere@a..b", "/nowhere/test.py"], "there is no file"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], told: str) -> None:
    refused(told, *arguments)


@pytest.mark.parametrize("command", ["series /nowhere", "explore"])
def test_an_effort_that_there_is_not_is_told_with_those_that_there_are(command: str) -> None:
    done = ffashim(*command.split(), "--effort", "fast")
    assert done.returncode == 2
    assert "Invalid value for '--effort': 'fast' is not one of 'quick', " in done.stderr


def test_what_a_tool_of_the_list_saved_instead_of_the_mail_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.txt"
    page.write_text("[Date Prev][Date Next]\n\n> diff --git a/f b/f\n> --- a/f\n> +++ b/f\n")
    refused("a reply that quotes one", "series", str(page))


def test_a_range_needs_no_base(repo: Repo) -> None:
    repo.document("Tell of it")
    refused("has its own base", "series", f"{repo.path}@HEAD~1..", "--base", "HEAD")


def test_a_report_that_takes_a_missing_package_is_refused_before_the_work_is_done(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    refused("pip install 'ffashim[series]'", "series", "/nowhere", "--html",
            str(tmp_path / "page.html"))  # fmt: skip
