# SPDX-License-Identifier: GPL-2.0-only
"""What is said of a mutant, by small suites of our own and by the real one."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ffashim import loader, paths
from ffashim.loader import Extension
from ffashim.mutants import source
from ffashim.mutants.operators import OPERATORS
from ffashim.mutants.run import Fate, Job, Result, SuiteError, Worker, run
from ffashim.mutants.workshop import Workshop, files
from ffashim.source import Tree


@pytest.fixture(scope="session")
def original(tree: Tree) -> Extension:
    return loader.build(tree)


@pytest.fixture
def started() -> Iterator[list[Worker]]:
    workers: list[Worker] = []
    yield workers
    for worker in workers:
        worker.stop()


@pytest.fixture
def worker(
    started: list[Worker],
    request: pytest.FixtureRequest,
    tree: Tree,
    original: Extension,
    tmp_path: Path,
) -> Worker:
    """A worker whose suite is the docstring of the test."""
    suite = tmp_path / "test_small.py"
    suite.write_text(f"import os, time, pytest\n{inspect.cleandoc(request.function.__doc__)}\n")
    job = Job(tree, {}, [f"--xen={tree.spec}"], [suite])
    started.append(Worker(job, original, tmp_path / "log"))
    return started[-1]


def outcomes(answer: dict[str, list[tuple[int, str, float, str]]]) -> list[str]:
    return [each[1] for each in answer["outcomes"]]


def test_outcomes_are_told_one_by_one(worker: Worker, original: Extension) -> None:
    """
    def test_passes(extension): pass
    def test_fails(extension): assert 1 == 2
    def test_skips(extension): pytest.skip("why")
    @pytest.mark.known_defect(lambda machine: True, "a finding")
    def test_is_a_known_defect(xen): assert 0
    """
    answer = worker.ask(original.path, range(4), 60, whole=True)
    assert outcomes(answer) == ["passed", "failed", "skipped", "xfailed"]
    assert "assert 1 == 2" in answer["outcomes"][1][3]
    assert answer["end"] == "finished"


def test_nothing_runs_after_the_first_failure(worker: Worker, original: Extension) -> None:
    """
    def test_first(extension): assert 0
    def test_second(extension): pass
    """
    assert outcomes(worker.ask(original.path, [1, 0, 1], 60)) == ["passed", "failed"]


def test_a_test_that_ends_the_process_has_failed(worker: Worker, original: Extension) -> None:
    """
    def test_ends(extension): os.abort()
    def test_passes(extension): pass
    """
    answer = worker.ask(original.path, [1, 0], 60)
    assert outcomes(answer) == ["passed", "failed"]
    assert answer["end"] == "died"
    assert outcomes(worker.ask(original.path, [1], 60)) == ["passed"]  # it serves on


def test_a_test_that_does_not_end_has_failed(worker: Worker, original: Extension) -> None:
    """
    def test_waits(extension): time.sleep(600)
    def test_passes(extension): pass
    """
    assert worker.tests
    before = time.monotonic()
    answer = worker.ask(original.path, [1, 0], 1)
    assert time.monotonic() - before < 60
    assert (outcomes(answer), answer["end"]) == (["passed", "failed"], "time")


def test_what_a_test_leaves_behind_is_gone_for_the_next_run(
    worker: Worker, original: Extension
) -> None:
    """
    kept = []
    def test_keeps(extension): kept.append(1); assert len(kept) == 1
    """
    for _ in range(2):
        assert outcomes(worker.ask(original.path, [0], 60)) == ["passed"]


def test_a_suite_that_fails_as_it_is_proves_nothing(worker: Worker, original: Extension) -> None:
    """
    def test_fails(extension): assert 0, "it does"
    """
    with pytest.raises(SuiteError, match=r"test_fails.*it does"):
        worker.whole(original)


def test_what_does_not_apply_to_the_tree_can_notice_nothing(
    worker: Worker, original: Extension
) -> None:
    """
    def test_passes(extension): pass
    def test_skips(extension): pytest.skip("why")
    """
    assert [name.partition("::")[2][:12] for name in worker.whole(original)] == ["test_passes["]


def test_a_suite_that_cannot_be_collected_is_an_error_for_people(
    worker: Worker, original: Extension
) -> None:
    """
    import nothing_of_this_name
    """
    with pytest.raises(SuiteError, match="nothing_of_this_name"):
        worker.whole(original)


def test_a_known_defect_that_only_the_mutant_has_is_noticed(
    worker: Worker, original: Extension, tmp_path: Path
) -> None:
    """
    def has_it(machine): return machine.extension.path.parent.name == "mutant"
    @pytest.mark.known_defect(has_it, "a finding")
    def test_is_a_known_defect(xen): assert not has_it(xen)
    """
    mutant = tmp_path / "mutant" / original.path.name
    mutant.parent.mkdir()
    mutant.write_bytes(original.path.read_bytes())
    assert outcomes(worker.ask(original.path, [0], 60)) == ["passed"]
    assert outcomes(worker.ask(mutant, [0], 60)) == ["failed"]


# --- mutants of the tree under test ------------------------------------------------------------


def results(
    tree: Tree, directory: Path, suite: str, passing: dict[str, float] | None = None
) -> list[Result]:
    """What a file of the real suite says of the tree with a lock left locked."""
    workshop = Workshop(tree, {}, directory)
    (unlock,) = [each for each in OPERATORS if each.name == "unlock"]
    mutants = source.find("ffa_rxtx.c", files(tree)["ffa_rxtx.c"], [unlock])
    suites = [paths.TESTS / "abi" / suite]
    job = Job(tree, {}, [f"--xen={tree.spec}"], suites, name="it", passing=passing)
    return list(run(job, workshop, mutants, 2, {}))


def test_a_lock_that_is_left_locked_is_noticed_by_the_tests_of_its_calls(
    tree: Tree, tmp_path: Path
) -> None:
    found = results(tree, tmp_path, "test_rx_release.py")
    noticed = [each for each in found if each.fate is Fate.NOTICED]
    assert noticed
    assert "lock" in noticed[0].why
    assert noticed[0].test.startswith("abi/test_rx_release.py::")


def test_it_is_not_noticed_by_tests_of_other_calls(tree: Tree, tmp_path: Path) -> None:
    found = results(tree, tmp_path, "test_id_get.py")
    assert {each.fate for each in found} <= {Fate.SURVIVED, Fate.REFUSED, Fate.SAME}


def test_tests_that_are_known_to_pass_are_not_run_first(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Worker, "whole")
    name = "abi/test_rx_release.py::test_who_holds_rx_can_release_it[it]"
    found = results(tree, tmp_path, "test_rx_release.py", {name: 0.1})
    assert {each.test for each in found if each.fate is Fate.NOTICED} == {name}


def test_a_test_that_turns_out_to_fail_on_the_tree_as_it_is_proves_nothing(
    tree: Tree, tmp_path: Path
) -> None:
    suite = tmp_path / "test_it.py"
    suite.write_text("def test_fails(xen): assert 0\n")
    directory = tmp_path / "shop"
    directory.mkdir()
    found = results(tree, directory, str(suite), {"test_it.py::test_fails[it]": 0.1})
    assert {each.fate for each in found} <= {Fate.SURVIVED, Fate.SAME, Fate.DUPLICATE}
