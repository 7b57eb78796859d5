# SPDX-License-Identifier: GPL-2.0-only
"""The commands on a real tree: the one that this run of the tests was given, or the default."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest
from planted import plant

from ffashim import cli
from ffashim.cli.defects import spans
from ffashim.cli.matrix import Commit
from ffashim.source import Tree

Command = Callable[..., "subprocess.CompletedProcess[str]"]

# The command, with another suite in the place of the conformance suite.
WITH_SUITE = """
import sys
from pathlib import Path
from ffashim import cli, paths
paths.SUITE = (Path(sys.argv[1]),)
cli.main(sys.argv[2:])
"""


@pytest.fixture(scope="session")
def trees(request: pytest.FixtureRequest) -> list[str]:
    """The option that names the first tree under test, if one was named."""
    return [f"--xen={tree}" for tree in request.config.getoption("--xen")[:1]]


def execute(*command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture
def ffashim(trees: list[str]) -> Command:
    def run(command: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return execute("-m", "ffashim", command, *trees, *arguments, stdin=stdin)

    return run


@pytest.fixture
def check(trees: list[str], tmp_path: Path) -> Command:
    """`ffashim check` with a suite of one file, of this text."""

    def run(suite: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        directory = tmp_path / "suite"
        directory.mkdir()
        (directory / "test_id_get.py").write_text(f'"""FFA_ID_GET: its ID."""\n{suite}')
        return execute("-c", WITH_SUITE, str(directory), "check", *trees, *arguments)

    return run


def test_source_tells_where_the_tree_lies(ffashim: Command) -> None:
    done = ffashim("source")
    assert done.returncode == 0, done.stderr
    facts = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert (Path(facts["path"]) / "xen" / "arch" / "arm" / "tee" / "ffa.c").is_file()
    assert {"tree", "origin", "version", "commit"} <= facts.keys()
    if "sha256" in facts:
        assert len(facts["sha256"]) == 64
        assert facts["sha256"] not in facts["origin"]


def test_build_prints_the_extension_and_its_record(ffashim: Command) -> None:
    done = ffashim("build")
    assert done.returncode == 0, done.stderr
    path, _, record = done.stdout.partition("\n")
    assert Path(path).is_file()
    assert "xen/arch/arm/tee/ffa.c" in json.loads(record)["files"]


def test_run_shows_each_call_then_the_conformance_then_a_walk_that_agrees_with_the_list_in_rx(
    ffashim: Command, request: pytest.FixtureRequest
) -> None:
    done = ffashim("run")
    # The conformance of the tree under test is its own business: see tests/abi.
    assert done.returncode in (0, 1), done.stderr
    assert "FFA_VERSION x1=" in done.stdout
    assert "FFA_ID_GET -> FFA_SUCCESS_32 x2=0x3" in done.stdout
    assert "partition 0x8001" in done.stdout
    assert "Conformance of Xen " in done.stdout
    *_, end = done.stdout.splitlines()
    if request.config.getoption("--xen") and "has no" in end:
        pytest.skip(end)
    assert end.endswith("FFA_PARTITION_INFO_GET_REGS agree on 7 partitions.")


def test_shell_has_a_booted_machine(ffashim: Command) -> None:
    done = ffashim("shell", stdin="print(vm.smc(FFA.ID_GET).ok, xen.spmc is spmc)\n")
    assert done.returncode == 0, done.stderr
    assert "True True" in done.stdout


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("1/0", "ZeroDivisionError"),
        ("1/", "SyntaxError"),
        ("vm.smc(FFA.ID_GET, -1)", "UsageError: x1=-0x1: a register holds"),
    ],
)
def test_a_piped_shell_tells_by_its_status_that_a_statement_raised(
    ffashim: Command, statement: str, told: str
) -> None:
    done = ffashim("shell", stdin=f"{statement}\nprint('went', 'on')\n")
    assert done.returncode == 1
    assert told in done.stderr
    assert "went on" in done.stdout
    assert ("Traceback" in done.stderr) == (told == "ZeroDivisionError")
    assert "code.py" not in done.stderr


@pytest.mark.parametrize("statement", ["x = (1", "x = '''1"])
def test_a_piped_shell_whose_input_is_cut_off_fails(ffashim: Command, statement: str) -> None:
    done = ffashim("shell", stdin=f"{statement}\n")
    assert done.returncode == 1
    assert "SyntaxError: the input ends in the middle of " in done.stderr


def test_a_piped_shell_shows_values_and_no_prompts(ffashim: Command) -> None:
    done = ffashim("shell", stdin="6 * 7\nfor n in (1, 2):\n    print(n)")
    assert (done.returncode, done.stdout) == (0, "42\n1\n2\n")
    assert "xen is the booted machine" in done.stderr


def test_check_leaves_nothing_where_it_is_run(
    trees: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "suite").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "suite" / "test_id_get.py").write_text(
        "from hypothesis import given, strategies as st\n\n"
        "@given(st.integers())\ndef test_fails(n):\n    assert n < 1000\n"
    )
    monkeypatch.chdir(tmp_path / "here")
    done = execute("-c", WITH_SUITE, str(tmp_path / "suite"), "check", *trees)
    assert done.returncode == 1, done.stderr
    assert not list((tmp_path / "here").iterdir())


def test_a_command_on_one_tree_refuses_two(tmp_path: Path) -> None:
    done = execute("-m", "ffashim", "shell", f"--xen={tmp_path}", f"--xen={tmp_path}")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "--xen once" in done.stderr


@pytest.mark.parametrize("command", ["check", "run", "shell", "build"])
@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("--cc=no-such-compiler", "no-such-compiler"),
        ("--config=NO_SUCH_SYMBOL=y", "NO_SUCH_SYMBOL"),
        ("--patch=no-such-file.patch", "no-such-file.patch"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(
    trees: list[str],
    command: str,
    option: str,
    expected: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([command, *trees, option])
    assert end.value.code == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ")
    assert expected in errors


def test_check_reports_as_table_json_and_junit(check: Command, tmp_path: Path) -> None:
    suite = "def test_it_has_one(vm):\n    assert vm.smc(0x84000069).ok\n"
    files = {name: tmp_path / f"report.{name}" for name in ("json", "junit")}
    done = check(suite, *(f"--{name}={file}" for name, file in files.items()))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FFA_ID_GET" in done.stdout
    report = json.loads(files["json"].read_text())
    assert report["status"] == "passed"
    for tree in report["trees"]:
        assert tree["tree"] in done.stdout
        assert tree["totals"]["passed"] == 1
        assert "xen/arch/arm/tee/ffa.c" in tree["build"]["files"]
    assert len(ET.parse(files["junit"]).findall(".//testcase")) == len(report["trees"])


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "in two processes"])
def test_check_fails_if_a_test_does(check: Command, workers: tuple[str, ...]) -> None:
    done = check("def test_fails(vm):\n    assert vm.smc(0x84000069).x2 == 77\n", *workers)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "failed: FFA_ID_GET: test_fails" in done.stdout


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "in two processes"])
def test_a_fault_in_many_tests_is_shown_once(
    check: Command, tree: Tree, tmp_path: Path, workers: tuple[str, ...]
) -> None:
    suite = """
import pytest
from ffashim import FFA

@pytest.mark.parametrize("n", range(20))
def test_asserts(vm, n):
    vm.smc(FFA.ID_GET, 1)

@pytest.fixture
def ready(vm):
    vm.smc(FFA.ID_GET, 1)

def test_asserts_in_a_fixture(ready):
    pass

def test_panics(vm):
    vm.smc(FFA.ID_GET, 3)

def test_is_wrong(vm):
    assert vm.smc(FFA.ID_GET).x2 == 77
"""
    done = check(suite, f"--patch={plant(tree, tmp_path)}", "--config=DEBUG=y", *workers)
    assert done.returncode == 1, done.stderr
    variants = done.stdout.count("Conformance of")
    shown, _, table = done.stdout.partition("Conformance of")
    assert shown.count("XenAssertion: ASSERT failed: addr == 42") == 1
    assert f"{20 * variants + variants - 1} more tests end in this fault" in shown
    assert shown.count("XenPanic: panic: planted 3") == 1
    assert shown.count("E       AssertionError") + shown.count("E       assert ") >= variants
    assert shown.count("\n") < 150 * variants
    assert "failed: ASSERT failed: addr == 42 at xen/arch/arm/tee/ffa.c:" in table
    assert "(21 tests of FFA_ID_GET)" in table
    assert "failed: FFA_ID_GET: test_panics" in table


def test_check_says_which_patches_change_nothing_here(
    check: Command, tree: Tree, tmp_path: Path
) -> None:
    docs = tmp_path / "docs.patch"
    docs.write_text("--- /dev/null\n+++ b/docs/ffa.md\n@@ -0,0 +1 @@\n+text\n")
    done = check("def test_it(vm): pass\n", f"--patch={docs}", f"--patch={plant(tree, tmp_path)}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "note: passed over: docs.patch changes only docs/ffa.md\n" in done.stderr


def test_check_fails_if_the_suite_cannot_be_read(check: Command) -> None:
    done = check("import nothing_of_that_name\n")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "nothing_of_that_name" in done.stdout


def test_check_refuses_to_find_nothing_before_anything_is_built(check: Command) -> None:
    done = check("def test_passes(vm):\n    pass\n", "-k", "nothing", "--cc=/nowhere/cc")
    assert done.returncode == 2
    assert "error: -k nothing: no test of the suite is selected.\n" in done.stderr


def test_check_refuses_an_expression_that_is_none(check: Command) -> None:
    done = check("def test_passes(vm):\n    pass\n", "-k", "a b")
    assert done.returncode == 2
    assert "error: -k a b: this is no expression of pytest's.\n" in done.stderr


def test_check_is_ended_by_ctrl_c(check: Command) -> None:
    interrupt = "os.kill(os.getpid(), signal.SIGINT)"
    done = check(f"import os, signal\ndef test_waits(vm):\n    {interrupt}\n")
    assert done.returncode == 130, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_check_is_not_steered_by_files_around_it(check: Command, tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    assert check("def test_passes(vm):\n    pass\n").returncode == 0


class History:
    """A git repository of the tree under test."""

    def __init__(self, tree: Tree, directory: Path) -> None:
        self.directory = directory
        self.ffa_c = directory / "xen" / "arch" / "arm" / "tee" / "ffa.c"
        directory.mkdir()
        self._git("init", "-q")
        subprocess.run(["cp", "-r", str(tree.xen), str(directory)], check=True)

    def commit(self, message: str) -> str:
        """Commit what there is, and return the commit's hash."""
        self._git("add", "--force", "xen")
        self._git("commit", "-q", "-m", message)
        return self._git("rev-parse", "HEAD").strip()

    def _git(self, *arguments: str) -> str:
        git = ["git", "-C", str(self.directory), "-c", "user.name=n", "-c", "user.email=e"]
        environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull}
        done = subprocess.run(
            [*git, *arguments], env=environment, check=True, capture_output=True, text=True
        )
        return done.stdout


@pytest.fixture
def empty_history(tree: Tree, tmp_path: Path) -> History:
    """A repository without a commit."""
    return History(tree, tmp_path / "history")


@pytest.fixture
def history(empty_history: History) -> Path:
    """A git repository of the tree whose second commit breaks the mediator."""
    empty_history.commit("works")
    with empty_history.ffa_c.open("a") as file:
        file.write("\nthis is no C;\n")
    empty_history.commit("does not compile")
    return empty_history.directory


def test_matrix_tells_which_commits_boot(history: Path) -> None:
    done = execute("-m", "ffashim", "matrix", str(history))
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "1/2 commits build and boot"
    assert "this is no C" in done.stdout or "ffa.c" in done.stdout

    done = execute("-m", "ffashim", "matrix", str(history), "--rev=HEAD~1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "1/1 commits build and boot"


MARKED = """
import pytest

def odd(machine):
    return any("odd FF-A Mediator" in line.text for line in machine.console)

@pytest.mark.known_defect(odd, "says odd things")
def test_console(vm):
    raise AssertionError("only the probes are asked")

@pytest.mark.known_defect(lambda machine: 1 / 0, "cannot be known")
def test_unknown(vm):
    pass

@pytest.mark.needs(version="99.0")
@pytest.mark.known_defect(lambda machine: True, "is for later versions")
def test_later(vm):
    pass
"""


@pytest.fixture
def defects(tmp_path: Path, empty_history: History) -> Command:
    """`ffashim defects` of the history, with the suite MARKED."""
    directory = tmp_path / "suite"
    directory.mkdir()
    (directory / "test_version.py").write_text(f'"""FFA_VERSION: its version."""\n{MARKED}')

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        where = str(empty_history.directory)
        return execute("-c", WITH_SUITE, str(directory), "defects", where, *arguments)

    return run


def test_defects_tells_since_when_and_until_when(
    defects: Command, empty_history: History, tmp_path: Path
) -> None:
    hashes = []
    text = empty_history.ffa_c.read_text()
    assert "ARM FF-A Mediator" in text
    for kind in "ARM", "odd", "good":
        empty_history.ffa_c.write_text(text.replace("ARM FF-A", f"{kind} FF-A"))
        hashes.append(empty_history.commit(kind))

    done = defects(f"--json={tmp_path / 'found.json'}")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    at = lines.index("says odd things")
    assert lines[at + 1] == "  test_version.py::test_console"
    assert lines[at + 2].startswith(f"  since {hashes[1][:12]} ")
    assert lines[at + 3].startswith(f"  until {hashes[2][:12]} ")
    assert f"  not known at {hashes[0][:12]}: division by zero" in lines
    assert lines[lines.index("is for later versions") + 2] == "  in no commit"
    assert lines[-1] == "3 known defects, 3/3 commits"
    found = json.loads((tmp_path / "found.json").read_text())
    assert [commit["hash"] for commit in found["commits"]] == hashes
    answers = [commit["answers"]["n"]["says odd things"] for commit in found["commits"]]
    assert answers == [False, True, False]

    done = defects("--rev=HEAD~1", "-k", "console")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "until" not in done.stdout
    assert done.stdout.splitlines()[-1] == "1 known defects, 2/2 commits"


def test_defects_goes_on_past_a_commit_that_does_not_compile(
    defects: Command, history: Path
) -> None:
    done = defects("-k", "later")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "could not be asked: " in done.stdout
    assert done.stdout.splitlines()[-1] == "1 known defects, 1/2 commits"


def test_defects_refuses_to_select_nothing(defects: Command, empty_history: History) -> None:
    empty_history.commit("works")
    done = defects("-k", "nothing")
    assert done.returncode == 2
    assert "error: no known defect" in done.stderr


def test_a_commit_at_which_a_probe_fails_ends_nothing() -> None:
    history = [Commit(str(n) * 40, "2026-01-01", "does something") for n in range(5)]
    found = [False, True, "a probe failed", True, False]
    answers = {n: {"n": {"odd": answer}} for n, answer in enumerate(found)}
    lines = spans(history, answers, "odd")
    assert lines[0] == f"not known at {'2' * 12}: a probe failed"
    assert lines[1].split() == [
        *("since", "1" * 12, "2026-01-01", "does", "something"),
        *("until", "4" * 12, "2026-01-01", "does", "something"),
    ]
