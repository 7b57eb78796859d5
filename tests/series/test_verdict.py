# SPDX-License-Identifier: GPL-2.0-only
"""The verdict: what is wrong with which commit, judged against the one before it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ffashim.series import output
from ffashim.series.commits import Commit, Series
from ffashim.series.findings import ERROR, NOTE, WARNING, Finding, Verdict
from ffashim.series.plan import Plan, Results
from ffashim.series.verdict import judge
from ffashim.source import Tree

TEST = "abi/test_id_get.py::test_it"


def tree(number: int) -> Tree:
    return Tree(f"tree {number}", Path(f"/nowhere/{number}"), f"tree {number}", "4.20")


def series(*messages: str) -> Series:
    commits = [
        Commit(n, f"{n:04d}.patch", f"Change {n}", "A <a@example.org>", message, b"",
               tree(n - 1), tree(n), None)
        for n, message in enumerate(messages, 1)
    ]  # fmt: skip
    return Series("Changes", tree(0), "which a test has made", commits)


def ran(outcome: str, reason: str = "", error: str = "") -> dict[str, Any]:
    test = {"abi": "FFA_ID_GET", "outcome": outcome, "reason": reason, "said": "said"}
    return {"error": error, "tests": {} if error else {TEST: test}}


def verdict(
    found: Results,
    *messages: str,
    compilers: Sequence[str] = ("gcc",),
    settings: Sequence[dict[str, str]] = ({},),
) -> Verdict:
    """Judge a series of such commit messages, in these configurations, by these results."""
    changes = series(*(messages or ("", "", "")))
    plan = SimpleNamespace(
        series=changes,
        trees=changes.trees,
        compilers=compilers,
        owners={},
        notes=[],
        variants=lambda tree: list(settings),
    )
    return judge(cast("Plan", plan), found)


def of_tests(*results: dict[str, Any]) -> Results:
    return Results(conformance={(n, "default"): result for n, result in enumerate(results)})


def findings(judged: Verdict) -> list[tuple[int, str, str, int]]:
    return [(j.commit.number, f.rule, f.level, f.mended) for j in judged.judgements
            for f in j.findings]  # fmt: skip


def test_a_commit_that_breaks_what_a_later_one_mends_is_named() -> None:
    judged = verdict(of_tests(*map(ran, ("passed", "failed", "failed", "passed"))))
    assert findings(judged) == [(1, "test", ERROR, 3), (3, "fixed", NOTE, 0)]
    assert not judged.sound
    ((judgement, (finding,)),) = judged.stumbles
    assert judgement.commit.number == 1
    assert "FFA_ID_GET: it" in finding.title


def test_what_one_commit_breaks_and_one_mends_is_one_reason_not_to_bisect() -> None:
    two = {TEST, TEST.replace("it", "that")}
    results = [ran(each) for each in ("passed", "failed", "failed", "passed")]
    for result in results:
        result["tests"] = dict.fromkeys(sorted(two), result["tests"][TEST])
    ((judgement, broken),) = verdict(of_tests(*results)).stumbles
    assert len(broken) == 2
    assert output.stumble(judgement, broken).endswith("; and 1 more")


def test_what_keeps_no_one_from_building_keeps_no_one_from_bisecting() -> None:
    said = {"kind": "warning", "file": "f.c", "line": 1, "text": "new [-Wshadow]", "in": []}
    sides: list[dict[str, Any]] = [{"said": []}, {"said": [said]}, {"said": []}]
    judged = verdict(Results(compiles={(n, "gcc"): side for n, side in enumerate(sides)}), "", "")
    assert findings(judged) == [(1, "warning", WARNING, 2)]
    assert not judged.stumbles


def test_what_failed_before_the_series_is_no_fault_of_it() -> None:
    judged = verdict(of_tests(*map(ran, ("failed", "failed", "failed", "failed"))))
    assert judged.sound
    assert findings(judged) == []


def test_a_tree_that_does_not_build_is_blamed_once_and_tests_are_not_compared_with_it() -> None:
    broken = ran("", error="xen/arch/arm/tee/ffa.c:1: error: no such thing")
    judged = verdict(of_tests(ran("passed"), broken, broken, ran("passed")))
    assert findings(judged) == [(1, "build", ERROR, 3)]
    assert "no such thing" in judged.judgements[0].findings[0].title


def test_what_breaks_while_nothing_builds_is_blamed_on_the_commit_that_builds_again() -> None:
    broken = ran("", error="xen/arch/arm/tee/ffa.c:1: error: no such thing")
    judged = verdict(of_tests(ran("passed"), broken, ran("failed"), ran("failed")))
    assert findings(judged) == [(1, "build", ERROR, 2), (2, "test", ERROR, 0)]


def test_a_commit_that_does_not_build_since_an_earlier_one_does_not_build_either() -> None:
    broken = ran("", error="xen/arch/arm/tee/ffa.c:1: error: no such thing")
    judged = verdict(of_tests(ran("passed"), broken, broken, ran("passed")))
    assert [each.broken for each in judged.judgements] == [True, True, False]


def test_a_base_that_could_not_be_tested_is_said() -> None:
    judged = verdict(of_tests(ran("", error="f.c:1: error: no"), *map(ran, ["passed"] * 3)))
    assert "the base could not be tested" in judged.notes[0]


def test_what_is_compared_with_nothing_is_not_sound() -> None:
    judged = verdict(of_tests({"failed": "signal 9"}, *map(ran, ["failed"] * 3)))
    assert findings(judged) == [(1, "unknown", ERROR, 0)]
    assert not judged.sound


def test_a_known_defect_that_takes_anothers_place_comes_in() -> None:
    harmless, harmful = ran("known_defect", "forgets"), ran("known_defect", "crashes")
    judged = verdict(of_tests(harmless, harmful, harmful, harmful))
    assert findings(judged) == [(1, "defect", ERROR, 0)]


def test_a_claim_that_could_not_be_tried_is_not_sound() -> None:
    untried = Results(compares={(1, "default"): {"failed": "signal 9"}})
    assert findings(verdict(untried, "No functional change.")) == [(1, "unknown", ERROR, 0)]
    assert findings(verdict(untried, "Change it.")) == [(1, "unknown", WARNING, 0)]


def test_a_known_defect_that_comes_in_is_an_error_and_one_that_goes_is_told() -> None:
    outcomes = [ran("passed"), ran("known_defect", "forgets"), ran("known_defect", "forgets"),
                ran("passed")]  # fmt: skip
    judged = verdict(of_tests(*outcomes))
    assert findings(judged) == [(1, "defect", ERROR, 3), (3, "fixed", NOTE, 0)]


def test_a_known_defect_that_more_tests_can_see_now_does_not_come_in() -> None:
    def outcomes(of_another: str) -> dict[str, Any]:
        other = {"abi": "FFA_RUN", "outcome": of_another, "reason": "forgets", "said": "said"}
        return {"error": "", "tests": {**known["tests"], "abi/test_run.py::test_it": other}}

    known = ran("known_defect", "forgets")
    later = outcomes("known_defect")
    assert findings(verdict(of_tests(outcomes("not_applicable"), later, later, later))) == []
    came = verdict(of_tests(outcomes("passed"), later, later, later))
    assert findings(came) == [(1, "defect", ERROR, 0)]


@pytest.mark.parametrize(
    ("reason", "rules"),
    [
        ("needs FFA_RUN, which this tree's mediator does not handle", ["lost"]),
        ("needs FFA_VM_TO_VM=n", []),
    ],
)
def test_what_a_tree_can_no_longer_do_is_lost_but_for_another_configuration(
    reason: str, rules: list[str]
) -> None:
    gone = ran("not_applicable", reason)
    judged = verdict(of_tests(ran("passed"), gone, gone, gone))
    assert [rule for _, rule, _, _ in findings(judged)] == rules


def test_only_a_warning_that_was_not_there_counts_wherever_its_line_has_gone() -> None:
    def said(*texts: str, line: int = 1) -> dict[str, Any]:
        return {"said": [{"kind": "warning", "file": "xen/f.c", "line": line, "text": text,
                          "in": ["DEBUG=y"]} for text in texts]}  # fmt: skip

    results = [said("old"), said("old", line=9), said("old", "new"), said("old", "old", "new")]
    found = Results(compiles={(n, "gcc"): result for n, result in enumerate(results)})
    judged = verdict(found)
    told = [(number, f.title) for number, j in enumerate(judged.judgements, 1) for f in j.findings]
    assert told == [(2, "gcc warns: new"), (3, "gcc warns: old")]


def test_what_two_compilers_refuse_is_one_finding_with_all_that_they_say() -> None:
    def said(*texts: str) -> dict[str, Any]:
        return {"said": [{"kind": "error", "file": "xen/f.c", "line": n, "text": text,
                          "in": ["DEBUG=y"]} for n, text in enumerate(texts, 7)]}  # fmt: skip

    broken = ran("", error="xen/f.c:7: error: no such field")
    found = of_tests(ran("passed"), broken, broken, ran("passed"))
    for number, refused in enumerate((False, True, True, False)):
        found.compiles[number, "gcc"] = said("no such field", "nor this") if refused else said()
        found.compiles[number, "clang"] = said("no field of that name") if refused else said()
    judged = verdict(found, compilers=("gcc", "clang"))
    assert findings(judged) == [(1, "build", ERROR, 3)]
    (finding,) = judged.judgements[0].findings
    assert finding.title == "does not build: xen/f.c:7: no such field"
    assert finding.where == ("gcc", "DEBUG=y", "clang")
    assert finding.detail.splitlines() == [
        "xen/f.c:7: error: no such field",
        "xen/f.c:8: error: nor this",
        "xen/f.c:7: error: no field of that name",
    ]
    assert len(judged.stumbles) == 1


def test_what_no_configuration_builds_for_the_same_reason_is_one_finding() -> None:
    def broken(configuration: str) -> dict[str, Any]:
        words = f"/{configuration}/xen/arch/f.c:7:9: error: unused variable 'x'"
        return ran("", error=f"f.c does not compile:\n{words}")

    found = Results(conformance={(0, "a=n"): ran("passed"), (0, "a=y"): ran("passed"),
                                 (1, "a=n"): broken("n"), (1, "a=y"): broken("y")})  # fmt: skip
    for cc in ("gcc", "clang"):
        said = {"kind": "warning", "file": "xen/arch/f.c", "line": 7, "text": "unused [-Wunused]"}
        found.compiles[0, cc], found.compiles[1, cc] = {"said": []}, {"said": [{**said, "in": []}]}
    changes = verdict(found, "", compilers=("gcc", "clang"), settings=[{"a": "n"}, {"a": "y"}])
    (finding,) = changes.judgements[0].findings
    assert finding.title == "does not build: arch/f.c:7:9: error: unused variable 'x'"
    assert finding.where == ("a=n", "a=y")


def test_without_a_word_on_the_tree_before_no_warning_is_new() -> None:
    said = {"said": [{"kind": "warning", "file": "f.c", "line": 1, "text": "old", "in": []}]}
    found = Results(compiles={(0, "gcc"): {"failed": "signal 9"}, (1, "gcc"): said})
    assert findings(verdict(found, "")) == []


def difference(kind: str) -> dict[str, Any]:
    each = {"subject": "FFA_FEATURES", "what": "FFA_SUCCESS_32, was FFA_ERROR", "kind": kind,
            "before": ["reply FFA_ERROR"], "after": ["reply FFA_SUCCESS_32"],
            "test": "def test"}  # fmt: skip
    return {"differences": [each]}


@pytest.mark.parametrize(
    ("message", "kind", "rule", "level"),
    [
        ("", "seen", "behaviour", NOTE),
        ("No functional change.", "seen", "claim", ERROR),
        ("", "order", "order", NOTE),
        ("No functional change.", "timing", "timing", WARNING),
        ("No functional change.", "order", "order", WARNING),
    ],
)
def test_a_claim_is_held_against_what_can_be_seen(
    message: str, kind: str, rule: str, level: str
) -> None:
    judged = verdict(Results(compares={(1, "default"): difference(kind)}), message)
    assert findings(judged) == [(1, rule, level, 0)]
    finding: Finding = judged.judgements[0].findings[0]
    assert "before: reply FFA_ERROR" in finding.detail
    assert judged.sound is (level != ERROR)


def test_tests_that_end_at_the_same_place_of_xen_are_one_finding() -> None:
    def ended(name: str, value: int, line: int) -> dict[str, Any]:
        where = f"undefined behaviour: shift by {value} at xen/f.c:{line}"
        return {name: {"abi": "FFA_RUN", "outcome": "failed", "reason": where, "fault": True,
                       "said": "said"}}  # fmt: skip

    fine = {"abi": "FFA_RUN", "outcome": "passed", "reason": "", "fault": False, "said": ""}
    names = [f"abi/test_run.py::test_{n}" for n in range(3)]
    before = {"error": "", "tests": dict.fromkeys(names, fine)}
    places = [(64, 7), (65, 7), (64, 9)]
    after = [ended(name, *place) for name, place in zip(names, places, strict=True)]
    broken = {"error": "", "tests": {name: each for one in after for name, each in one.items()}}
    judged = verdict(of_tests(before, broken), "")
    shift = "undefined behaviour: shift by 64 at xen/f.c"
    assert [each.title for each in judged.judgements[0].findings] == [
        f"{shift}:7 (2 tests of FFA_RUN, the first by -k test_0)",
        f"FFA_RUN: 2 fails: {shift}:9 (-k test_2)",
    ]


def test_a_process_that_died_is_an_error_and_not_silence() -> None:
    judged = verdict(of_tests(ran("passed"), {"failed": "signal 11"}, ran("passed"), ran("passed")))
    assert findings(judged) == [(1, "unknown", ERROR, 0)]
