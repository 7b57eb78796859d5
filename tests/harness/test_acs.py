# SPDX-License-Identifier: GPL-2.0-only
"""docs/acs.md and tests/acs: every case of Arm's FF-A ACS has its place, and no other has."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from ffashim.clients.acs import APPLIES, EXCLUDED, document, identifier, outcomes

TOP = Path(__file__).parents[2]
DOCUMENT = TOP / "docs" / "acs.md"
FINDINGS = "\n".join(" ".join(f.read_text().split()) for f in TOP.glob("findings/*.md"))


def with_a_test() -> dict[str, str]:
    """The cases that have a test, and the file that it is in."""
    return {
        identifier(node.name): file.stem
        for file in (TOP / "tests" / "acs").glob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def report(*tests: tuple[str, str, str], file: str = "acs/test_acs_memory.py") -> dict[str, object]:
    """What `ffashim check` writes of these tests: name, outcome, reason."""
    listed = [{"name": n, "outcome": o, "reason": r} for n, o, r in tests]
    return {"trees": [{"abis": [{"file": file, "tests": listed}]}]}


def test_every_case_that_applies_has_a_test_and_no_other() -> None:
    assert sorted(with_a_test()) == sorted(case for cases in APPLIES.values() for case in cases)


def test_no_case_is_listed_twice() -> None:
    cases = [case for group in (APPLIES, EXCLUDED) for cases in group.values() for case in cases]
    assert len(set(cases)) == len(cases)


def test_the_document_says_of_each_case_what_the_lists_say() -> None:
    text = DOCUMENT.read_text()
    rows = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert rows == [case for cases in APPLIES.values() for case in cases]
    columns = re.findall(r"^\| case \| (.+) \|$", text, re.MULTILINE)
    assert columns
    for reason, cases in EXCLUDED.items():
        assert f"| {reason} | {', '.join(f'`{case}`' for case in sorted(cases))} |" in text


def test_the_document_knows_of_every_failure() -> None:
    for row in re.findall(r"^\| `\w+` \|.+\|$", DOCUMENT.read_text(), re.MULTILINE):
        for cell in row.split(" | ")[1:]:
            _, failed, reasons = cell.strip(" |").partition("failed: ")
            for reason in reasons.split("; ") if failed else []:
                assert reason in FINDINGS


def test_a_case_is_as_good_as_its_worst_part() -> None:
    found = outcomes(
        report(
            ("test_ffa_run[master]", "passed", ""),
            ("test_ffa_mem_share__one[master-64]", "passed", ""),
            ("test_ffa_mem_share__two[master-64]", "known_defect", "it is late"),
            ("test_ffa_mem_share__two[master-32]", "not_applicable", "no such call"),
            ("test_ffa_id_get", "not_applicable", "no such call"),
        )
    )
    assert found == {
        "ffa_run": ("passed", set()),
        "ffa_mem_share": ("known_defect", {"it is late"}),
        "ffa_id_get": ("not_applicable", {"no such call"}),
    }


def test_tests_of_other_parts_of_the_suite_are_no_cases() -> None:
    assert not outcomes(report(("test_ffa_run", "passed", ""), file="abi/test_run.py"))


def test_a_failure_is_told_with_its_reason() -> None:
    tests = [(f"test_{case}", "passed", "") for cases in APPLIES.values() for case in cases]
    tests[0] = (tests[0][0], "known_defect", "it is late")
    tests[1] = (tests[1][0], "failed", "it never came")
    lines = list(document({"master": report(*tests)}))
    assert f"| `{APPLIES['setup and discovery'][0]}` | failed: it is late |" in lines
    assert f"| `{APPLIES['setup and discovery'][1]}` | failed: it never came |" in lines
    assert f"| `{APPLIES['setup and discovery'][2]}` | passed |" in lines
