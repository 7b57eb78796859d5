# SPDX-License-Identifier: GPL-2.0-only
"""`make`: what it says of a machine that lacks something, and that it does nothing twice.

Each test has a copy of the Makefile, and a PATH on which there is a stand-in for Python and little
else. `test_readme.py` runs the real targets.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]

# Answers what the Makefile asks of a Python, and records what it is told to do.
STANDIN = """#!/bin/sh
case "$*" in
*'print('*) echo {version} ;;
*'sys.exit('*) exit {too_old} ;;
*'import ensurepip'*) exit {no_venv} ;;
*'-m venv'*)
    for directory; do :; done
    mkdir -p "$directory/bin"
    cp "$0" "$directory/bin/python" ;;
*'-m pip'*) echo pip >>"$RECORD"; exit {no_network} ;;
*) echo "$*" >>"$RECORD" ;;
esac
"""


class Machine:
    """A bare machine with a fresh clone."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.tree = base / "a tree"
        self.programs = base / "bin"
        self.tree.mkdir()
        self.programs.mkdir()
        for name in ("Makefile", "pyproject.toml"):
            shutil.copy(TOP / name, self.tree)
        for name in ("sh", "make", "touch", "mkdir", "cp", "sed"):
            (self.programs / name).symlink_to(str(shutil.which(name)))

    def install(self, name: str, script: str = "#!/bin/sh\n") -> None:
        program = self.programs / name
        program.write_text(script)
        program.chmod(0o755)

    def install_python(self, name: str = "python3", version: str = "3.12", **faults: int) -> None:
        state = {"too_old": 0, "no_venv": 0, "no_network": 0, **faults}
        self.install(name, STANDIN.format(version=version, **state))

    def make(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        own = {"PATH": str(self.programs), "HOME": "/home/u", "RECORD": str(self.base / "record")}
        return subprocess.run(
            ["make", *arguments],
            cwd=self.tree,
            env=own | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def made(self) -> list[str]:
        """What was done since this was last asked."""
        record = self.base / "record"
        lines = record.read_text().splitlines() if record.exists() else []
        record.unlink(missing_ok=True)
        return lines


@pytest.fixture
def bare(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def machine(bare: Machine) -> Machine:
    bare.install("cc")
    bare.install_python()
    return bare


def test_first_run_sets_everything_up_and_runs(machine: Machine) -> None:
    done = machine.make("run")
    assert done.returncode == 0, done.stderr
    assert machine.made() == ["pip", "-m ffashim source", "-m ffashim run"]


def test_second_run_sets_nothing_up_again(machine: Machine) -> None:
    machine.make("run")
    machine.made()
    machine.make("run")
    assert machine.made() == ["-m ffashim run"]


def test_a_changed_pyproject_is_installed(machine: Machine) -> None:
    machine.make("setup")
    machine.made()
    later = (machine.tree / ".venv" / "installed").stat().st_mtime + 10
    os.utime(machine.tree / "pyproject.toml", (later, later))
    machine.make("setup")
    assert machine.made()[0] == "pip"


def test_a_tree_that_was_moved_is_set_up_again(machine: Machine) -> None:
    machine.make("setup")
    machine.made()
    machine.tree = machine.tree.rename(machine.base / "elsewhere")
    machine.make("setup")
    assert "pip" in machine.made()


def test_a_setup_that_failed_is_tried_again(machine: Machine) -> None:
    machine.install_python(no_network=1)
    assert machine.make("setup").returncode != 0
    machine.install_python()
    assert machine.make("setup").returncode == 0


@pytest.mark.parametrize("tree", ["/src/my xen", "~/src/xen", "../it's@stable-4.20", "debian:sid"])
def test_a_tree_of_ones_own_is_passed_on_and_no_other_is_fetched(
    machine: Machine, tree: str
) -> None:
    done = machine.make("run", f"XEN={tree}")
    assert done.returncode == 0, done.stderr
    assert machine.made() == ["pip", f"-m ffashim run --xen={tree}"]


def test_the_tests_run_in_parallel_on_the_tree_named(machine: Machine) -> None:
    machine.make("test", "XEN=/src/xen")
    command = machine.made()[-1]
    assert command.startswith("-m pytest")
    assert "-n auto" in command
    assert "--xen=/src/xen" in command


def test_more_arguments_reach_the_command(machine: Machine) -> None:
    machine.make("test", "ARGS=-k 'rxtx or version'")
    assert machine.made()[-1].endswith("-k rxtx or version")


def test_no_python_is_said(bare: Machine) -> None:
    bare.install("cc")
    done = bare.make("run")
    assert done.returncode != 0
    assert "error: Python 3.10 or later is needed: install it" in done.stderr


def test_an_old_python_is_named(bare: Machine) -> None:
    bare.install("cc")
    bare.install_python(version="3.9", too_old=1)
    done = bare.make("run")
    assert done.returncode != 0
    assert "is needed, but python3 is 3.9" in done.stderr


def test_a_newer_python_beside_an_old_one_is_found(bare: Machine) -> None:
    bare.install("cc")
    bare.install_python(version="3.9", too_old=1)
    bare.install_python("python3.11", version="3.11")
    done = bare.make("setup")
    assert done.returncode == 0, done.stderr
    assert "Python 3.11" in done.stdout


def test_a_python_that_does_not_start_is_passed_over(bare: Machine) -> None:
    bare.install("cc")
    bare.install("python3", "#!/bin/sh\nexit 127\n")
    bare.install_python("python3.10", version="3.10")
    assert bare.make("setup").returncode == 0


def test_a_python_without_venv_is_told_which_package_has_it(bare: Machine) -> None:
    bare.install("cc")
    bare.install_python(no_venv=1)
    done = bare.make("run")
    assert done.returncode != 0
    assert "apt install python3.12-venv" in done.stderr


def test_no_compiler_is_said_before_anything_is_installed(bare: Machine) -> None:
    bare.install_python()
    done = bare.make("run")
    assert done.returncode != 0
    assert "error: no C compiler (cc, gcc or clang) was found" in done.stderr
    assert bare.made() == []


@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_either_compiler_will_do(bare: Machine, name: str) -> None:
    bare.install_python()
    bare.install(name)
    assert bare.make("setup").returncode == 0


def test_packages_that_cannot_be_installed_are_explained(machine: Machine) -> None:
    machine.install_python(no_network=1)
    done = machine.make("run")
    assert done.returncode != 0
    assert "the first set-up needs a network" in done.stderr
    assert machine.made() == ["pip"]


def test_make_alone_lists_the_targets(machine: Machine) -> None:
    done = machine.make()
    for target in ("run", "test", "setup", "lint", "bench", "clean"):
        assert f"make {target} " in done.stdout
    assert machine.made() == []
