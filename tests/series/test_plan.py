# SPDX-License-Identifier: GPL-2.0-only
"""A series judged for real: a mistake that a later commit mends, and documentation."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from repositories import Repo

from ffashim.series import commits, killers, lines, output, plan, tasks, work
from ffashim.series.findings import Verdict
from ffashim.series.plan import Effort, Plan
from ffashim.series.tasks import Result, Task
from ffashim.series.verdict import judge
from ffashim.source import Tree

if TYPE_CHECKING:
    from ffashim.mutants.source import Mutant

MISTAKE = r"(case FFA_ID_GET:\n.*success\(regs, \w+\(d\))"
SMALL = Effort(1, "not slow", 4, 10, 8, 60, 0)


@pytest.fixture
def judged(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> tuple[Verdict, Plan]:
    """Three commits: FFA_ID_GET is off by one, is right again, and is written about."""
    monkeypatch.setattr(lines, "not_counted", lambda cc: "a test has no time")
    repo.edit(MISTAKE, r"\1 + 1")
    repo.commit("Tidy up", "No functional change.")
    repo.edit(MISTAKE + r" \+ 1", r"\1")
    repo.commit("Mend it")
    repo.document("Tell of it")
    series = commits.load(f"{repo.path}@HEAD~3..", None, None, lambda line: None)
    work = Plan(series, {"FFA_VM_TO_VM": "n"}, "cc", ["cc"], SMALL, "test_id_get")
    return judge(work, work.run(2, lambda task, result, known: None)), work


def passes(test: str, tree: Tree, settings: Mapping[str, str], file: Path) -> bool:
    file.write_text(test)
    options = [f"--config={name}={value}" for name, value in settings.items()]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", f"--xen={tree.root}"]
    done = subprocess.run(
        [*command, *options, str(file)], cwd=file.parent, capture_output=True, check=False
    )
    assert done.returncode in (0, 1), done.stdout
    return done.returncode == 0


def test_a_mistake_is_named_with_the_commit_that_mends_it_and_shown_by_a_test(
    judged: tuple[Verdict, Plan], tmp_path: Path
) -> None:
    verdict, work = judged
    first, second, third = verdict.judgements
    assert [each.level for each in verdict.judgements] == ["error", "", ""]
    assert {(each.rule, each.mended) for each in first.of("test")} == {("test", 2)}
    assert not third.commit.compiled
    assert second.of("fixed")
    claim = next(each for each in first.of("claim") if each.title.startswith("FFA_ID_GET: "))
    assert "No functional change" in claim.title
    before, after, *_ = verdict.series.trees
    (settings,) = work.variants(before)
    assert passes(claim.test, before, settings, tmp_path / "test_it.py")
    assert not passes(claim.test, after, settings, tmp_path / "test_it.py")
    assert "coverage was not counted: a test has no time" in verdict.notes
    assert "not sound: see 1" in output.summary(verdict)


def test_what_is_known_is_not_done_again(judged: tuple[Verdict, Plan]) -> None:
    _, work = judged
    again: list[tuple[str, bool]] = []

    def done(task: Task, result: Result, known: bool) -> None:
        again.append((task.kind, known))

    fresh = Plan(work.series, {"FFA_VM_TO_VM": "n"}, "cc", ["cc"], SMALL, "test_id_get")
    fresh.run(2, done)
    kinds = {"selects", "conversations", "conformance", "compiles", "compares"}
    assert {kind for kind, _ in again} == kinds
    assert all(known for _, known in again)


def test_a_result_whose_file_is_gone_is_not_known(tmp_path: Path) -> None:
    task = Task("some kind", {}, ["a test", str(tmp_path)])
    file = tmp_path / "scripts"
    tasks.keep(task.file, {"files": [str(file)]})
    assert task.known() is None
    file.touch()
    assert task.known() == {"files": [str(file)]}


def test_a_task_that_dies_is_told_and_not_remembered() -> None:
    task = Task("no such kind", {}, ["a test"])
    told: list[Result] = []
    results = tasks.run([task], 1, lambda task, result, known: told.append(result))
    assert results[task.key] == told[0]
    assert "KeyError" in told[0]["failed"]
    assert task.known() is None


def test_a_series_of_documentation_takes_no_work(repo: Repo) -> None:
    repo.document("Tell of it")
    series = commits.load(f"{repo.path}@HEAD~1..", None, None, lambda line: None)
    work = Plan(series, {}, "cc", ["cc"], plan.EFFORTS["quick"])
    found: list[Task] = []
    verdict = judge(work, work.run(1, lambda task, result, known: found.append(task)))
    assert not found
    assert verdict.sound


def test_lines_are_followed_to_the_end_of_the_series(repo: Repo) -> None:
    start = r"(?m)^(static bool ffa_handle_call\()"
    repo.edit(start, r"/* one */\n/* two */\n\1")
    repo.commit("Add two lines")
    repo.edit(r"/\* two \*/\n", "/* three */\n")
    repo.edit(r"(#include [^\n]*\n)", r"\1/* above */\n")
    repo.commit("Change one of them, and add one above")
    series = commits.load(f"{repo.path}@HEAD~2..", None, None, lambda line: None)
    text = (series.trees[2].root / "xen/arch/arm/tee/ffa.c").read_text().splitlines()
    (owned,) = lines.owners(series).values()
    assert {text[n - 1]: owner for n, owner in owned.items()} == {
        "/* one */": 1,
        "/* three */": 2,
        "/* above */": 2,
    }
    (places,) = lines.at_the_end(series, 1).values()
    before = (series.trees[1].root / "xen/arch/arm/tee/ffa.c").read_text().splitlines()
    assert all(before[n - 1] == text[there - 1] for n, there in places.items())
    assert before.index("/* two */") + 1 not in places


# --- the lines that a series adds, as far as tests reach them -------------------------------------


def planned(repo: Repo, commits_nr: int, *sanitize: str) -> Plan:
    series = commits.load(f"{repo.path}@HEAD~{commits_nr}..", None, None, lambda line: None)
    return Plan(series, {"FFA_VM_TO_VM": "n"}, "cc", ["cc"], SMALL, "test_id_get", sanitize)


def test_the_suites_run_on_the_last_tree_counts_what_it_reaches(repo: Repo) -> None:
    repo.edit(MISTAKE, r"\1 + 0")
    repo.commit("Add a line that is reached")
    repo.edit(
        r"(case FFA_RX_RELEASE:\n)",
        r"\1        if ( get_user_reg(regs, 7) == 1 )\n            break;\n",
    )
    repo.commit("And one that is not")
    work = planned(repo, 2)
    ran: list[str] = []
    found = work.run(2, lambda task, result, known: ran.append(task.kind)).coverage["lines"]
    assert ran.count("conformance") == 3
    (of_file,) = found.values()
    text = (work.trees[-1].root / "xen/arch/arm/tee/ffa.c").read_text().splitlines()
    lines_of = {line.strip(): number for number, line in enumerate(text, 1)}
    reached, *_ = of_file[next(n for line, n in lines_of.items() if "(d) + 0" in line)]
    assert reached
    assert of_file[lines_of["if ( get_user_reg(regs, 7) == 1 )"]] == (False, 2, 2)


def test_builds_with_sanitizers_are_not_the_ones_that_count(repo: Repo) -> None:
    repo.edit(MISTAKE, r"\1 + 0")
    repo.commit("Add a line")
    work = planned(repo, 1, "undefined")
    (count,) = work.counts()
    assert (count.what["sanitize"], count.what["counted"]) == ([], ["xen/arch/arm/tee/ffa.c"])
    tested = [task for task in work.of_trees() if task.kind == "conformance"]
    assert [task.what["sanitize"] for task in tested] == [["undefined"]] * 2
    assert not any(task.what["counted"] for task in tested)


def test_a_last_commit_of_documentation_leaves_one_tree_to_be_counted(repo: Repo) -> None:
    repo.edit(MISTAKE, r"\1 + 0")
    repo.commit("Add a line")
    repo.document("Tell of it")
    tested = [task for task in planned(repo, 2).of_trees() if task.kind == "conformance"]
    assert [bool(task.what["counted"]) for task in tested] == [False, True, True]
    assert tested[1].key == tested[2].key


def test_what_one_configuration_reaches_is_reached() -> None:
    def document(*counts: int) -> dict[str, Any]:
        line = {"line_number": 1, "function_name": "f", "count": max(counts)}
        branches = [{"count": count, "branchno": n, "source_block_id": 0}
                    for n, count in enumerate(counts)]  # fmt: skip
        return {"files": [{"file": "a.c", "lines": [{**line, "branches": branches}]}]}

    assert lines.reached([document(0, 0), document(3, 0)]) == {"a.c": {1: (True, 1, 2)}}
    assert lines.reached([document(0, 2), document(3, 0)]) == {"a.c": {1: (True, 0, 2)}}
    assert lines.reached([document(0, 0)]) == {"a.c": {1: (False, 2, 2)}}
    # Decided by one of them: those branches count that are open in the other.
    assert lines.reached([document(1), document(0, 5)]) == {"a.c": {1: (True, 1, 2)}}


def test_the_test_that_noticed_a_mutant_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FFASHIM_CACHE", str(tmp_path))
    assert killers.known() == {}
    killers.remember([{"key": "f/bound/1", "test": "one"}, {"key": "f/bound/2", "test": ""}])
    killers.remember([{"key": "f/bound/3", "test": "two"}])
    assert killers.known() == {"f/bound/1": "one", "f/bound/3": "two"}
    for file in (tmp_path / "series/killers").iterdir():
        file.write_text("no JSON")
    assert killers.known() == {}


def test_a_line_more_draws_the_same_mutants_but_one() -> None:
    def drawn(count: int, seed: int = 1) -> set[str]:
        mutants = [cast("Mutant", SimpleNamespace(key=f"f/bound/{n}")) for n in range(count)]
        found = [each.key for each in work._sample(mutants, 16, seed)]
        assert len(found) == min(count, 16)
        return set(found)

    for count in range(8, 200):
        assert len(drawn(count + 1) - drawn(count)) <= 1
    assert drawn(200) != drawn(200, seed=2)
