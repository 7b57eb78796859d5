# SPDX-License-Identifier: GPL-2.0-only
"""What the report says of results, and what it says why mutants survive."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from ffashim import Machine
from ffashim.defects import Defect
from ffashim.errors import UsageError
from ffashim.mutants.operators import Edit
from ffashim.mutants.reasons import REASONS, Reason, find, reasons_on
from ffashim.mutants.report import Report, read_json
from ffashim.mutants.run import Fate, Result
from ffashim.mutants.source import Mutant


def result(fate: Fate, key: str = "f/swap/1", **more: str) -> Result:
    mutant = Mutant("f.c", 7, "f", "swap", Edit(0, 1, "b"), "g(a[0], b);", "g(b, a[0]);", key)
    return Result(mutant, fate, **more)


def printed(report: Report) -> str:
    console = Console(file=StringIO(), width=100)
    report.print_tables(console)
    for each in report.results:
        report.print_survivor(each, console)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_only_what_could_be_noticed_counts() -> None:
    fates = [Fate.NOTICED, Fate.NOTICED, Fate.NOTICED, Fate.SURVIVED]
    others = [Fate.REFUSED, Fate.SAME, Fate.DUPLICATE]
    report = Report([], [result(fate) for fate in fates + others])
    assert report.score == 75
    assert "3 of 4 mutants noticed: 75.0 in 100" in printed(report)


def test_an_equivalent_mutant_does_not_count_and_its_reason_is_given() -> None:
    report = Report([Reason("nobody could tell", ("f/swap/*",))])
    report.results = [result(Fate.NOTICED, "g/swap/2"), result(Fate.SURVIVED)]
    assert report.score == 100
    assert "nobody could tell" in printed(report)
    assert report.as_json({})["totals"]["equivalent"] == 1


def test_a_survivor_with_another_reason_counts() -> None:
    report = Report([Reason("costs too much", ("f/swap/1",), equivalent=False)])
    report.results = [result(Fate.NOTICED, "g/swap/2"), result(Fate.SURVIVED)]
    assert report.score == 50
    assert "costs too much" in printed(report)


def test_a_mutant_that_is_noticed_is_not_equivalent_whatever_is_known_of_it() -> None:
    report = Report([Reason("nobody could tell", ("f/swap/1",))], [result(Fate.NOTICED)])
    assert report.fates() == {"noticed": 1}


def test_a_survivor_is_shown_by_its_lines_with_their_brackets() -> None:
    shown = printed(Report([], [result(Fate.SURVIVED)]))
    assert "f.c:7, f()" in shown
    assert "- g(a[0], b);" in shown
    assert "+ g(b, a[0]);" in shown


def test_a_report_is_read_back(tmp_path: Path) -> None:
    report = Report([], [result(Fate.NOTICED, test="test_x", why="it failed")])
    file = tmp_path / "report.json"
    file.write_text(json.dumps(report.as_json({"commit": "abc"})))
    assert read_json(file)["f/swap/1"]["test"] == "test_x"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"mutants": [{}]}', "\x00"])
def test_what_is_no_report_is_an_error_for_people(tmp_path: Path, text: str) -> None:
    file = tmp_path / "report.json"
    file.write_text(text)
    with pytest.raises(UsageError, match="is no report"):
        read_json(file)


# --- reasons -----------------------------------------------------------------------------------


def test_a_reason_holds_only_where_its_defect_is(xen: Machine) -> None:
    there, absent = (
        Reason("behind a defect", ("f/*",), defect=Defect("it is there", lambda machine: True)),
        Reason("behind another", ("f/*",), defect=Defect("it is not", lambda machine: False)),
    )
    assert reasons_on(xen, [absent, there]) == [there]


def test_reasons_are_sentences_and_name_something() -> None:
    for reason in REASONS:
        assert reason.keys or reason.within, reason.why
        assert len(reason.why) > 20


def test_no_mutant_has_two_reasons() -> None:
    keys = [key for reason in REASONS for key in (*reason.keys, *reason.within)]
    assert len(set(keys)) == len(keys)


def named(key: str, *within: str) -> Mutant:
    return replace(result(Fate.SURVIVED, key).mutant, within=within)


def test_a_key_is_matched_whole() -> None:
    reasons = [Reason("why", ("f/swap/1",))]
    assert find(named("f/swap/1"), reasons)
    assert not find(named("f/swap/1.2"), reasons)
    assert not find(named("af/swap/1"), reasons)


def test_a_condition_names_all_that_depends_on_it() -> None:
    reasons = [Reason("why", within=("aaaa",))]
    assert find(named("f/swap/1", "bbbb", "aaaa"), reasons)
    assert not find(named("f/swap/1", "bbbb"), reasons)
