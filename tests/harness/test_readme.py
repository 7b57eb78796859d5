# SPDX-License-Identifier: GPL-2.0-only
"""What README.md shows works.

Each line of its `sh` blocks is run, unless it names something of the reader's (`~/src/xen`), and
each of its `python` blocks is a test file that passes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from planted import plant

from ffashim.source import Tree

TOP = Path(__file__).parents[2]
README = (TOP / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


LINES = [
    line.partition(" #")[0].rstrip()
    for block in blocks("sh")
    for line in block.splitlines()
    if line.strip() and not line.lstrip().startswith("#")
]
DRY = ("make test", "make bench", "make mutants")
COMMANDS = [line for line in LINES if "~/" not in line and "FILE" not in line]


def run(*command: str, cwd: Path = TOP) -> None:
    # A make that this runs under is not to steer the one that is run here.
    inherited = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "ARGS", "PYTHON")
    environment = {name: value for name, value in os.environ.items() if name not in inherited}
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_names_the_two_commands_and_an_example() -> None:
    assert {"make run", "make test"} <= set(COMMANDS)
    assert blocks("python")


@pytest.mark.parametrize("command", COMMANDS)
def test_command_of_the_readme_works(command: str) -> None:
    if not (TOP / ".venv" / "installed").exists():
        pytest.skip("this tree was not set up by make, and setting it up takes a network")
    # `make test` is what runs this, the benchmarks want the machine to themselves, and mutants
    # take minutes.
    dry = " --dry-run" if command.startswith(DRY) else ""
    run("sh", "-ec", command + dry)


@pytest.mark.parametrize(
    "command", [line for line in LINES if ".venv/bin/pytest " in line and "FILE" in line]
)
def test_command_for_a_test_of_ones_own_works(command: str, tree: Tree, tmp_path: Path) -> None:
    file = tmp_path / "test_own.py"
    file.write_text(blocks("python")[0])
    patch = str(plant(tree, tmp_path))
    values = {"~/src/xen": str(tree.root), "my.patch": patch, "FILE": str(file)}
    program, *words = command.split()
    assert program == ".venv/bin/pytest"
    run(sys.executable, "-m", "pytest", *(values.get(word, word) for word in words), cwd=tmp_path)


@pytest.mark.parametrize("example", blocks("python"))
def test_example_of_the_readme_passes(example: str, tmp_path: Path) -> None:
    (tmp_path / "test_example.py").write_text(example)
    run(sys.executable, "-m", "pytest", "-q", "test_example.py", cwd=tmp_path)
