# SPDX-License-Identifier: GPL-2.0-only
"""`ffashim mutants`: what it lists, what it refuses, and the report that it writes."""

from __future__ import annotations

import json
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import pytest

from ffashim import cli
from ffashim.source import Tree


class Done(NamedTuple):
    status: int | str | None
    output: str
    errors: str


def mutants(tree: Tree, *arguments: str) -> Done:
    """Run the command in this process."""
    with (
        redirect_stdout(StringIO()) as output,
        redirect_stderr(StringIO()) as errors,
        pytest.raises(SystemExit) as end,
    ):
        cli.main(["mutants", "--xen", tree.spec, *arguments])
    return Done(end.value.code, output.getvalue(), errors.getvalue())


def places(done: Done) -> list[str]:
    """Return file and line of each mutant of a list."""
    assert done.status == 0, done.errors
    *listed, _ = done.output.splitlines()
    return [line.partition(" ")[0] for line in listed]


def test_the_list_can_be_narrowed_to_lines_of_a_file(tree: Tree) -> None:
    everywhere = places(mutants(tree, "--list", "--file", "ffa_rxtx.c"))
    name, _, line = everywhere[len(everywhere) // 2].partition(":")
    here = places(mutants(tree, "--list", "--lines", f"{name}:{line}"))
    assert f"{name}:{line}" in here
    assert len(here) < len(everywhere)


def test_a_sample_is_the_same_each_time_and_another_with_another_seed(tree: Tree) -> None:
    first, again, other = (
        places(mutants(tree, "--list", "--sample", "30", "--seed", seed)) for seed in "112"
    )
    assert len(first) == 30
    assert first == again != other


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--operator", "nonsense"], "name one of comparison"),
        (["--file", "ffa_nothing.c"], "ffa_nothing.c is no file of this tree's mediator"),
        (["--lines", "ffa.c"], "not NAME:A-B,C"),
        (["--lines", "ffa.c:one"], "not NAME:A-B,C"),
        (["--lines", "ffa.c:1"], "no mutant was selected"),
        (["--lines", "ffa.c:5,500-100"], "500-100 ends before it begins"),
        (["--again", "/nowhere/report.json"], "cannot be read"),
        (["--json", "/nowhere/report.json"], "cannot be written"),
    ],
)
def test_what_makes_no_sense_is_refused(tree: Tree, arguments: list[str], told: str) -> None:
    done = mutants(tree, *arguments)
    assert done.status == 2
    assert done.errors.startswith("error: ")
    assert told in done.errors


def test_survivors_are_told_and_can_be_run_again(tree: Tree, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    some = ["--file", "ffa_msg.c", "--operator", "unlock"]
    # Tests of another call notice none of it.
    done = mutants(tree, *some, "-k", "test_id_get", "--json", str(report))
    assert done.status == 1
    assert "0 of" in done.output
    found = json.loads(report.read_text())
    assert found["score"] == 0
    survived = [each["key"] for each in found["mutants"] if each["fate"] == "survived"]
    assert survived
    assert all(key in done.output for key in survived)

    once_more = mutants(tree, "--again", str(report), "-k", "test_msg_send2", "--least", "1")
    assert once_more.status == 0, once_more.output
    assert f"{len(survived)} mutants of" in once_more.output
