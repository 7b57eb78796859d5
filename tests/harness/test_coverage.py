# SPDX-License-Identifier: GPL-2.0-only
"""--coverage: what it counts is what was executed, and people get to see it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from planted import Plant, plant
from trees import need

from ffashim import FFA, Machine, XenFault, loader
from ffashim.coverage import gcov, union, unreached
from ffashim.coverage.changes import changed_lines
from ffashim.coverage.gcov import Document
from ffashim.errors import CoverageError
from ffashim.holdings import holdings
from ffashim.source import Tree, resolve

pytest_plugins = ["pytester"]

FFA_C = "xen/arch/arm/tee/ffa.c"
RXTX_C = "xen/arch/arm/tee/ffa_rxtx.c"

# --- counters -------------------------------------------------------------------------------------


class Counted:
    """A machine with the mistakes of planted.py in it, whose ffa.c is counted."""

    def __init__(self, tree: Tree, data: Path) -> None:
        self.root, self._data = tree.root, data
        self._extension = loader.build(tree, cc="gcc", coverage=True)
        self._text = (tree.root / FFA_C).read_text().splitlines()
        self.machine = Machine(self._extension).boot()
        self.vm = self.machine.create_vm("1.1")
        self.counts()

    def call(self, mistake: Plant) -> None:
        """Have FFA_ID_GET make a mistake."""
        self.vm.smc(FFA.ID_GET, mistake)

    def counts(self, tool: str | None = None) -> dict[int, int]:
        """Return how often each line was reached since the last time. tool: gcov's command."""
        self._data.mkdir(exist_ok=True)
        for file in self._data.glob("*.gcda"):
            file.unlink()
        self.machine.lib.ffashim_write_counters(str(self._data).encode())
        found = gcov.read(
            self._data, self._extension.notes, self.root, [FFA_C], tool or gcov.tool("gcc")
        )
        return {number: line["count"] for (_, number, _), line in union.lines(found)}

    def line(self, text: str, behind: int = 0) -> int:
        """Return the number of the one line that starts so, or of one behind it."""
        (index,) = (n for n, line in enumerate(self._text) if line.lstrip().startswith(text))
        return index + 1 + behind


@pytest.fixture
def counted(tree: Tree, tmp_path: Path) -> Counted:
    """Such a machine; its counters are zero."""
    need("gcc")
    return Counted(resolve(tree.spec, [plant(tree, tmp_path)]), tmp_path / "data")


def test_counters_survive_a_reset(counted: Counted) -> None:
    start = counted.machine.snapshot()
    for _ in range(3):
        counted.call(Plant.WARN)
        counted.machine.restore(start)
    assert counted.counts()[counted.line("case 20:")] == 3


def test_who_took_memory_is_no_inline_function_of_a_header(counted: Counted) -> None:
    takers = [each.where for each in holdings(counted.machine, counted.vm.owner)]
    assert [each for each in takers if each.startswith("ffa_partinfo_domain_init()")], takers
    assert not [each for each in takers if ".h:" in each]


def test_writing_the_counters_starts_them_anew(counted: Counted) -> None:
    counted.call(Plant.WARN)
    assert counted.counts()[counted.line("case 20:")] == 1
    assert counted.counts()[counted.line("case 20:")] == 0


def test_what_probes_call_does_not_count(counted: Counted) -> None:
    with counted.machine.uncounted():
        counted.call(Plant.WARN)
    assert counted.counts()[counted.line("case 20:")] == 0


def test_an_assertion_that_fails_counts_up_to_where_it_is(counted: Counted) -> None:
    with pytest.raises(XenFault):
        counted.call(Plant.ASSERT)
    counts = counted.counts()
    assert counts[counted.line("case 1:")] == 1
    assert counts[counted.line("plant(regs, d);")] == 1
    assert counts[counted.line("plant(regs, d);", behind=1)] == 0


def test_gcov_leaves_its_files_by_the_counters_and_not_in_the_tree(
    counted: Counted, tmp_path: Path
) -> None:
    log, tool = tmp_path / "log", tmp_path / "gcov"
    tool.write_text(f'#!/bin/sh\npwd >>"{log}"\nexec {gcov.tool("gcc")} "$@"\n')
    tool.chmod(0o755)
    assert counted.counts(str(tool))
    assert set(log.read_text().split()) == {str(tmp_path / "data")}


@pytest.mark.parametrize("mistake", [Plant.NULL, Plant.LOOP], ids=lambda each: str(each.name))
def test_a_call_that_breaks_off_does_not_count(counted: Counted, mistake: Plant) -> None:
    counted.call(Plant.WARN)
    with counted.machine.hang_limit(100), pytest.raises(XenFault):
        counted.call(mistake)
    counts = counted.counts()
    assert counts[counted.line("plant(regs, d);")] == 1
    assert counts[counted.line("plant(regs, d);", behind=1)] == 1


def test_a_build_that_does_not_count_has_no_counters(xen: Machine) -> None:
    size = xen.ffi.new("uint64_t *")
    xen.lib.ffashim_counters(size)
    assert bool(size[0]) == xen.extension.notes.is_dir()


# --- the union of several builds ------------------------------------------------------------------


def document(*lines: tuple[int, list[int]]) -> Document:
    """Return what gcovr says of a file, in which lines have so many branches, taken so often."""
    place = 10 * len(lines)  # as the compiler numbers blocks: it depends on all that is there
    return {
        "files": [
            {
                "file": "a.c",
                "lines": [
                    {
                        "line_number": number,
                        "function_name": "f",
                        "count": 1,
                        "branches": [
                            {"branchno": n % 2, "source_block_id": place + n // 2, "count": count}
                            for n, count in enumerate(taken)
                        ],
                    }
                    for number, taken in lines
                ],
            }
        ]
    }


def branches(document: Document) -> list[list[tuple[int, int, int]]]:
    """Return number, block and count of the branches, line by line."""
    return [
        [(each["branchno"], each["source_block_id"], each["count"]) for each in line["branches"]]
        for _, line in union.lines(document)
    ]


def test_branches_have_the_same_numbers_in_each_build() -> None:
    one, other = document((1, [3, 0, 0, 3])), document((1, [0, 2, 1, 1]), (2, [1, 0]))
    union.align([one, other])
    assert branches(one) == [[(0, 0, 3), (1, 0, 0), (2, 0, 0), (3, 0, 3)]]
    assert branches(other) == [[(0, 0, 0), (1, 0, 2), (2, 0, 1), (3, 0, 1)], [(0, 0, 1), (1, 0, 0)]]


def test_a_condition_that_one_configuration_decides_is_counted_in_the_other() -> None:
    one, other = document((1, [3, 0])), document((1, [0, 2, 1, 1]))
    union.align([one, other])
    assert branches(one) == [[]]
    assert len(branches(other)[0]) == 4


def test_only_changed_lines_are_kept_outside_of_the_mediator() -> None:
    found = document((1, [1]), (2, [1]))
    union.keep(found, "xen/arch/arm/tee/", {"a.c": {2}})
    assert [number for (_, number, _), _ in union.lines(found)] == [2]
    union.keep(found, "xen/arch/arm/tee/", {})
    assert found["files"] == []


def test_what_is_known_of_code_that_is_not_reached_is_told() -> None:
    found = document((7, [0, 2]), (8, []), (9, []))
    for _, line in union.lines(found):
        line["function_name"] = "ffa_set_regs"
    found["files"][0]["lines"][1]["count"] = found["files"][0]["lines"][2]["count"] = 0
    text = unreached.as_markdown(found, "Title", None)
    assert text.startswith("# Title\n")
    assert "\n- `ffa_set_regs`: lines 8-9; branches of line 7 (1 of 2)\n  - Who is " in text


# --- changes --------------------------------------------------------------------------------------


def test_changed_lines_are_those_that_the_older_tree_does_not_have(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    for tree, files in (
        (before, {"same.c": "a\n", "gone.c": "a\n", "new lines.c": "a\nb\nc\n"}),
        (after, {"same.c": "a\n", "added.h": "a\nb\n", "new lines.c": "a\nB\nc\nd\n"}),
    ):
        (tree / "xen/arch").mkdir(parents=True)
        for name, text in files.items():
            (tree / "xen/arch" / name).write_text(text)
    assert changed_lines(before, after) == {
        "xen/arch/added.h": {1, 2},
        "xen/arch/new lines.c": {2, 4},
    }


# --- the command line -----------------------------------------------------------------------------


OWN_TESTS = """
from ffashim import FFA

def test_release(xen):
    xen.create_vm("1.1").smc(FFA.RX_RELEASE)

def test_mistake(xen):
    xen.create_vm("1.1").smc(FFA.ID_GET, 20)
"""


@pytest.fixture(scope="module")
def reported(tree: Tree, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What is said of a patch by two processes that run the same two tests, and the reports."""
    need("gcc")
    home = tmp_path_factory.mktemp("coverage")
    (home / "test_own.py").write_text(OWN_TESTS)
    patch = plant(tree, home)
    options = [f"--xen={tree.root}", f"--patch={patch}", "--cc=gcc", "--config=DEBUG=y"]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", *options, "--coverage-dir=out"),
            *("--dist=each", "--tx=2*popen", "--rootdir=.", "test_own.py"),
        ],
        cwd=home,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 4 passed" in done.stdout or " 8 passed" in done.stdout  # with VM to VM and without
    (directory,) = (home / "out").iterdir()
    return done.stdout, directory


def test_reports_are_written_and_summed_up(reported: tuple[str, Path]) -> None:
    text, directory = reported
    assert "\nCoverage of Xen " in text
    line = re.search(rf"^  {RXTX_C} +lines .*%.*\((\d+)/(\d+)\)  branches .*%", text, re.M)
    assert line
    assert 0 < int(line[1]) < int(line[2])
    assert f"\nreports: {directory}/index.html, lcov.info, cobertura.xml, unreached.md\n" in text
    lcov = (directory / "lcov.info").read_text().partition(f"/{RXTX_C}\n")[2]
    assert f"LH:{line[1]}\n" in lcov.partition("end_of_record")[0]
    assert RXTX_C in (directory / "cobertura.xml").read_text()
    assert "ffa_rxtx.c" in (directory / "index.html").read_text()
    assert f"## {RXTX_C}\n" in (directory / "unreached.md").read_text()


def test_what_several_processes_count_is_added_up(reported: tuple[str, Path]) -> None:
    text, directory = reported
    found = gcov.load(directory / "coverage.json")
    (file,) = (each for each in found["files"] if each["file"] == FFA_C)
    (planted,) = (each for each in file["functions"] if each["name"] == "plant")
    # FFA_ID_GET is called by each process three times in each variant: two guests ask for their ID.
    assert planted["execution_count"] == 2 * 3 * (1 if " 4 passed" in text else 2)


def test_a_patch_is_told_which_of_its_lines_no_test_reaches(reported: tuple[str, Path]) -> None:
    text, directory = reported
    found = re.search(r"changed lines: (\d+) of (\d+) reached, \d+ of \d+ branches\n", text)
    assert found
    assert 3 <= int(found[1]) < int(found[2])
    told = re.search(rf"^  (- not reached in {FFA_C}: lines .*)$", text, re.M)
    assert told
    list_of_all = (directory / "unreached.md").read_text()
    assert told[1] in list_of_all.partition("## Changed lines")[2]


def test_check_counts_coverage(tree: Tree, tmp_path: Path) -> None:
    need("gcc")
    command = [sys.executable, "-m", "ffashim", "check", "--xen", str(tree.root), "--cc=gcc"]
    done = subprocess.run(
        [*command, "-k", "id_get", "--coverage-dir", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\nCoverage of Xen " in done.stdout
    assert "Conformance of Xen" in done.stdout
    assert list((tmp_path / "out").glob("*/index.html"))


# --- mistakes -------------------------------------------------------------------------------------


def test_another_compiler_than_gcc_is_refused() -> None:
    need("clang")
    with pytest.raises(CoverageError, match="clang is not gcc, which --coverage needs"):
        gcov.tool("clang")


def test_a_compiler_that_is_not_there_is_named() -> None:
    with pytest.raises(CoverageError, match="'no-such-cc' cannot be run"):
        gcov.tool("no-such-cc")


def test_gcov_is_found_beside_the_compiler() -> None:
    need("gcc")
    assert gcov.tool("gcc") == "gcov"


def test_a_missing_gcov_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("gcc")
    (tmp_path / "gcc").symlink_to(str(shutil.which("gcc")))
    (tmp_path / "gcov").write_text("#!/bin/sh\necho 'gcov (somebody) 4.2.1'\n")
    (tmp_path / "gcov").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CoverageError, match=r"there is no gcov that reads what gcc \d+ counts"):
        gcov.tool("gcc")


def test_a_missing_gcovr_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcovr", None)
    with pytest.raises(CoverageError, match=r"gcovr, which is not installed:\n.*pip install"):
        gcov.tool("gcc")


def test_a_tool_that_is_missing_ends_the_run_with_a_sentence(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(xen): pass")
    result = pytester.runpytest_subprocess("--coverage", "--cc=no-such-cc")
    result.stderr.fnmatch_lines(["ERROR: the C compiler 'no-such-cc' cannot be run*"])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_a_report_that_fails_is_told_and_fails_the_run(
    pytester: pytest.Pytester, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("gcc")
    broken = pytester.mkdir("gcovr")
    (broken / "__init__.py").touch()
    (broken / "__main__.py").write_text("import sys\nsys.exit('(ERROR) it is broken')\n")
    monkeypatch.setenv("PYTHONPATH", str(pytester.path))
    pytester.makepyfile("def test_it(xen): pass")
    result = pytester.runpytest_subprocess(f"--xen={tree.root}", "--cc=gcc", "--coverage-dir=out")
    result.stdout.fnmatch_lines(
        ["error: gcovr cannot tell what was reached:", "(ERROR) it is broken"]
    )
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR


def test_nothing_is_written_into_a_tree(pytester: pytest.Pytester) -> None:
    (pytester.path / "xen").mkdir()
    directory = pytester.path / "xen" / "out"
    result = pytester.runpytest_subprocess("--xen=xen", f"--coverage-dir={directory}")
    result.stderr.fnmatch_lines(["ERROR: --coverage-dir *lies in xen, and nothing is *"])
    assert not directory.exists()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
