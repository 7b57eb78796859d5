# SPDX-License-Identifier: GPL-2.0-only
"""`ffashim bisect`: the first bad commit, by halves, and builds that are kept."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from repositories import FILE, Repo

from ffashim.errors import UsageError
from ffashim.series import search
from ffashim.series.history import Entry, History
from ffashim.source import Tree

MISTAKE = r"(case FFA_ID_GET:\n.*success\(regs, \w+\(d\))"


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The commits that are tried; a commit's subject says what comes of it."""
    names: list[str] = []

    def outcome(self: object, commit: str) -> tuple[str, str]:
        names.append(commit)
        word = commit.partition(" ")[0]
        return {"good": search.PASSED, "bad": search.FAILED}.get(word, search.UNTOLD), ""

    monkeypatch.setattr(search._Searcher, "_outcome", outcome)
    return names


def found(*commits: str) -> list[str]:
    """Search a range of such commits, each named by what comes of it and a number."""
    names = [f"{word} {n}" for n, word in enumerate(commits)]
    entries = [Entry(name, "", name, "", b"") for name in names]
    test = search.Test("anything", None, {}, "cc")
    nothing = cast("History", None)  # what comes of a commit is in its name
    result = search.first_bad(nothing, "good", entries, test, lambda probe: None)
    return [entry.hash for entry in result]


def test_the_first_bad_commit_of_many_is_found_in_few_tries(tried: list[str]) -> None:
    assert found(*["good"] * 40, *["bad"] * 24) == ["bad 40"]
    assert len(tried) <= 8


@pytest.mark.parametrize("good", range(5))
def test_it_is_found_wherever_it_is(tried: list[str], good: int) -> None:
    assert found(*["good"] * good, *["bad"] * (5 - good)) == [f"bad {good}"]


def test_what_cannot_be_tried_is_named_if_it_may_be_the_one(tried: list[str]) -> None:
    assert found("good", "unclear", "unclear", "bad") == ["unclear 1", "unclear 2", "bad 3"]
    assert found("unclear", "good", "bad", "unclear", "bad") == ["bad 2"]


def test_a_range_whose_end_does_not_fail_is_refused(tried: list[str]) -> None:
    with pytest.raises(
        UsageError, match=r"passes at the end of the range, .*: no commit .* is bad"
    ):
        found("good", "good")


@pytest.mark.parametrize(
    ("at", "outcome", "told"),
    [
        ("start", (search.FAILED, "test_a, of a known defect"), "fails before the range, .* known"),
        ("start", (search.UNTOLD, "ffa.c:3: error: no"), "start .* cannot be tried: ffa.c:3: err"),
        ("start", (search.UNTOLD, search.NOTHING_APPLIES), "start of the range, .* are skipped"),
        ("start", (search.UNTOLD, search.NOTHING_SELECTED), "-k anything: no test of the suite is"),
        ("end", (search.UNTOLD, "ffa.c:3: error: no"), "the end .* cannot be tried: ffa.c:3: err"),
    ],
)
def test_why_there_is_nothing_to_search_is_told(
    monkeypatch: pytest.MonkeyPatch, at: str, outcome: tuple[str, str], told: str
) -> None:
    as_wanted = {"before": (search.PASSED, ""), "0": (search.FAILED, "")}
    said = as_wanted | {{"start": "before", "end": "0"}[at]: outcome}
    monkeypatch.setattr(search._Searcher, "_outcome", lambda _, commit: said[commit])
    nothing = cast("History", None)
    test = search.Test("anything", None, {}, "cc")
    with pytest.raises(UsageError, match=f"(?s){told}"):
        search.first_bad(nothing, "before", [Entry("0", "", "", "", b"")], test, lambda _: None)


def test_a_commit_is_found_by_building_and_running_and_documentation_costs_nothing(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo.document("Begin to tell")
    repo.edit(MISTAKE, r"\1 + 1")
    bad = repo.commit("Make a mistake")
    repo.document("Tell of it")
    repo.document("Tell more")
    history = History(repo.path)
    before, entries = history.line("HEAD~4..")
    runs: list[Tree] = []
    run = search._Searcher._run

    def counted(self: search._Searcher, tree: Tree) -> tuple[str, str]:
        runs.append(tree)
        return run(self, tree)

    monkeypatch.setattr(search._Searcher, "_run", counted)
    test = search.Test("test_id_get and plus_one", None, {"FFA_VM_TO_VM": "n"}, "cc")
    probes: list[search.Probe] = []
    (first,) = search.first_bad(history, before, entries, test, probes.append)
    assert first.hash == bad
    assert len(runs) == 2
    assert {probe.outcome for probe in probes} == {search.PASSED, search.FAILED}
    assert Path(repo.path, FILE).exists()
