# SPDX-License-Identifier: GPL-2.0-only
"""The conformance report: what pytest found, as a table and as JSON."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ffashim.report import Outcome, Result, abi_name, as_json, failed, print_tables

SUITE = {
    "test_id_get.py": '''
"""FFA_ID_GET: a guest learns its ID (FF-A 1.2, 13.10).

It does not change.
"""
import pytest

def test_passes():
    pass

def test_does_not_apply():
    pytest.skip("no VM to VM")

@pytest.mark.xfail(reason="Xen says 3")
def test_is_a_known_defect():
    assert False

def test_fails():
    assert 1 == 2, "x2 is wrong"
''',
    "test_rxtx.py": '''
"""FFA_RXTX_MAP, FFA_RXTX_UNMAP"""
import pytest

@pytest.fixture
def broken():
    yield
    raise RuntimeError("RX is still held")

def test_leaves_something_behind(broken):
    pass

@pytest.fixture(params=["4.20", "master"])
def tree(request):
    request.node.user_properties.append(("ffashim.tree", request.param))

def test_runs_on_each(tree):
    pass
''',
    "test_broken.py": "import nothing_of_that_name\n",
}
RUN = """
import json, sys, pytest
from pathlib import Path
from ffashim import report
recorder = report.Recorder(Path(sys.argv[1]))
pytest.main(["--disable-plugin-autoload", "-pxdist", "-pno:cacheprovider", "-c/dev/null",
             "--continue-on-collection-errors", *sys.argv[1:]], plugins=[recorder])
print("\\n" + json.dumps(report.as_json(recorder.results, {})))
"""


def record(suite: Path, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(suite), f"--rootdir={suite}", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    for name, text in SUITE.items():
        (tmp_path / name).write_text(text.lstrip())
    return tmp_path


def outcomes_of(report: dict[str, Any], abi: str, tree: str = "") -> dict[str, tuple[str, str]]:
    [found] = [
        item
        for of_tree in report["trees"]
        if of_tree["tree"] == tree
        for item in of_tree["abis"]
        if item["abi"] == abi
    ]
    return {test["name"]: (test["outcome"], test["reason"]) for test in found["tests"]}


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "in two processes"])
def test_each_outcome_is_recorded_under_its_abi(suite: Path, workers: tuple[str, ...]) -> None:
    report = record(suite, *workers)
    assert report["status"] == "failed"
    outcomes = outcomes_of(report, "FFA_ID_GET")
    failure = outcomes.pop("test_fails")
    assert failure[0] == "failed"
    assert "x2 is wrong" in failure[1]
    assert outcomes == {
        "test_passes": ("passed", ""),
        "test_does_not_apply": ("not_applicable", "no VM to VM"),
        "test_is_a_known_defect": ("known_defect", "Xen says 3"),
    }


def test_a_test_whose_teardown_fails_has_failed(suite: Path) -> None:
    outcomes = outcomes_of(record(suite), "FFA_RXTX_MAP, FFA_RXTX_UNMAP")
    assert outcomes["test_leaves_something_behind"] == (
        "failed",
        "RuntimeError: RX is still held",
    )


def test_a_file_that_cannot_be_imported_is_a_failure(suite: Path) -> None:
    [(outcome, reason)] = outcomes_of(record(suite), "broken").values()
    assert outcome == "failed"
    assert "nothing_of_that_name" in reason


def test_each_tree_has_a_report_of_its_own(suite: Path) -> None:
    report = record(suite)
    assert [of_tree["tree"] for of_tree in report["trees"]] == ["", "4.20", "master"]
    for tree in ("4.20", "master"):
        outcomes = outcomes_of(report, "FFA_RXTX_MAP, FFA_RXTX_UNMAP", tree)
        assert outcomes == {f"test_runs_on_each[{tree}]": ("passed", "")}


def test_an_abi_is_named_by_its_files_docstring(tmp_path: Path) -> None:
    file = tmp_path / "test_spm_id_get.py"
    file.write_text('"""FFA_SPM_ID_GET.\n\nMore."""\n')
    assert abi_name(file) == "FFA_SPM_ID_GET"
    assert abi_name(tmp_path / "test_run.py") == "run"


RESULTS = [
    Result("4.20", "FFA_ID_GET", "test_id_get.py", "test_a", Outcome.PASSED, 0.25),
    Result("4.20", "FFA_ID_GET", "test_id_get.py", "test_b[x]", Outcome.PASSED, 0.5),
    Result("4.20", "FFA_RUN", "test_run.py", "test_c", Outcome.KNOWN_DEFECT, 0, "[why]"),
    Result("4.20", "FFA_RUN", "test_run.py", "test_d", Outcome.NOT_APPLICABLE, 0, "no"),
]


def test_json_has_the_documented_shape() -> None:
    report = as_json(RESULTS, {"4.20": {"cc": "gcc"}})
    totals = {"passed": 2, "failed": 0, "known_defect": 0, "not_applicable": 0}
    nothing: dict[str, object] = {"reason": "", "new": [], "mended": []}
    assert {key: report[key] for key in ("format", "status")} == {"format": 1, "status": "passed"}
    [tree] = report["trees"]
    assert tree["tree"] == "4.20"
    assert tree["build"] == {"cc": "gcc"}
    assert tree["totals"] == {**totals, "known_defect": 1, "not_applicable": 1}
    assert tree["abis"][0] == {
        "abi": "FFA_ID_GET",
        "file": "test_id_get.py",
        "totals": totals,
        "tests": [
            {"name": "test_a", "outcome": "passed", "seconds": 0.25, **nothing},
            {"name": "test_b[x]", "outcome": "passed", "seconds": 0.5, **nothing},
        ],
    }


def test_the_parts_of_the_suite_follow_each_other(tmp_path: Path) -> None:
    for name, title in (("abi/test_run", "FFA_RUN"), ("clients/test_linux", "A Linux")):
        file = tmp_path / f"{name}.py"
        file.parent.mkdir()
        file.write_text(f'"""{title}: what it does."""\ndef test_passes():\n    pass\n')
    [tree] = record(tmp_path)["trees"]
    assert [(item["abi"], item["file"]) for item in tree["abis"]] == [
        ("FFA_RUN", "abi/test_run.py"),
        ("A Linux", "clients/test_linux.py"),
    ]


def test_a_line_stands_between_the_parts_of_the_suite() -> None:
    found = [
        Result("", abi, file, "test_a", Outcome.PASSED, 0)
        for abi, file in (
            ("FFA_ID_GET", "abi/a.py"),
            ("FFA_RUN", "abi/b.py"),
            ("X", "clients/c.py"),
        )
    ]
    console = Console(file=io.StringIO(), width=100)
    print_tables(found, console)
    assert isinstance(console.file, io.StringIO)
    kinds = [line.strip()[:2] for line in console.file.getvalue().splitlines()]
    assert kinds[kinds.index("┡━") + 1 : -1] == ["│ ", "│ ", "├─", "│ ", "├─", "│ "]


def test_a_known_defect_is_no_failure() -> None:
    assert not failed(RESULTS)
    assert failed([*RESULTS, Result("", "", "", "", Outcome.FAILED, 0)])


def test_the_table_counts_each_abi_and_explains_the_defects() -> None:
    console = Console(file=io.StringIO(), width=100)
    print_tables(RESULTS, console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    cells = {
        words[0]: words[1:]
        for line in text.splitlines()
        if (words := line.replace("│", " ").replace("┃", " ").split())
    }
    assert cells["FFA_ID_GET"] == ["2"]
    assert cells["FFA_RUN"] == ["1", "1"]
    assert cells["all"] == ["2", "0", "1", "1"]
    assert "Conformance of 4.20" in text
    assert "known defect: [why] (1 test of FFA_RUN)" in text


def test_a_defect_is_explained_once_and_each_failure_by_name() -> None:
    found = [
        Result("", abi, "", f"test_{n}", outcome, 0, "it is wrong")
        for outcome in (Outcome.KNOWN_DEFECT, Outcome.FAILED)
        for n, abi in enumerate(("FFA_RUN", "FFA_RUN", "FFA_YIELD"))
    ]
    console = Console(file=io.StringIO(), width=100)
    print_tables(found, console)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert "known defect: it is wrong (3 tests of FFA_RUN, FFA_YIELD)" in lines
    assert [line for line in lines if line.startswith("failed")] == [
        "failed: FFA_RUN: test_0: it is wrong",
        "failed: FFA_RUN: test_1: it is wrong",
        "failed: FFA_YIELD: test_2: it is wrong",
    ]


def test_what_fails_many_tests_alike_is_told_once() -> None:
    found = [
        Result("", abi, "", f"test_{n}", Outcome.FAILED, 0, "a fault", fault=True)
        for n, abi in enumerate(["FFA_RUN"] * 5 + ["FFA_YIELD"])
    ]
    console = Console(file=io.StringIO(), width=100)
    print_tables(found, console)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert [line for line in lines if line.startswith("failed")] == [
        "failed: a fault (6 tests of FFA_RUN, FFA_YIELD)"
    ]


def test_faults_at_the_same_place_of_xen_are_one_line_whatever_values_they_tell() -> None:
    results = [
        Result("", "FFA_RUN", "", f"test_{n}", Outcome.FAILED, 0,
               f"undefined behaviour: shift by {n} at xen/f.c:{line}", fault=True)
        for n, line in enumerate((7, 7, 9))
    ]  # fmt: skip
    out = io.StringIO()
    print_tables(results, Console(file=out, width=200))
    assert out.getvalue().splitlines()[-2:] == [
        "failed: undefined behaviour: shift by 0 at xen/f.c:7 (2 tests of FFA_RUN)",
        "failed: FFA_RUN: test_2: undefined behaviour: shift by 2 at xen/f.c:9",
    ]


def test_asserts_that_fail_alike_keep_a_line_each() -> None:
    found = [
        Result("", "FFA_RUN", "", f"test_{n}", Outcome.FAILED, 0, "assert False") for n in range(9)
    ]
    assert [line for line in shown(found) if line.startswith("failed")] == [
        f"failed: FFA_RUN: test_{n}: assert False" for n in range(9)
    ]


def test_failures_are_told_last() -> None:
    found = [
        Result("", "FFA_RUN", "", "test_a", Outcome.FAILED, 0, "a fault", fault=True),
        Result("", "FFA_RUN", "", "test_b", Outcome.FAILED, 0, "assert 1 == 2", new=("it leaks",)),
        Result("", "FFA_RUN", "", "test_c", Outcome.PASSED, 0, mended=("it was deaf",)),
        Result("", "FFA_RUN", "", "test_d", Outcome.KNOWN_DEFECT, 0, "it forgets"),
    ]
    assert shown(found)[-4:] == [
        "known defect: it forgets (1 test of FFA_RUN)",
        "mended: it was deaf (1 test of FFA_RUN)",
        "failed: FFA_RUN: test_a: a fault",
        "failed: FFA_RUN: test_b: new defect: it leaks",
    ]


def shown(results: list[Result], width: int = 100) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    print_tables(results, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_table_of_80_columns_cuts_nothing() -> None:
    name = "FFA_PARTITION_INFO_GET_REGS against the list in RX, and more"
    found = [Result("", name, "", "", outcome, 0) for outcome in Outcome for _ in range(1234)]
    text = "\n".join(shown(found, 80)).partition("└")[0]
    for title in ("ABI", "passed", "failed", "known defect", "n/a"):
        assert f" {title} " in text
    assert text.count("1234") == 8
    assert "…" not in text
    for word in name.split():
        assert word in text
