# SPDX-License-Identifier: GPL-2.0-only
"""What README.md shows works.

Each line of its `sh` blocks is run, unless it names something of the reader's (`~/src/xen`), and
each of its `python` blocks is a test file that passes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import shown
from planted import plant
from shown import TOP

from ffashim.source import Tree

README = TOP / "README.md"
EXAMPLES = [block.text for block in shown.blocks(README, "python")]
LINES = [line for block in shown.blocks(README, "sh") for line in block.lines]
DRY = ("make test", "make bench", "make docs", "make mutants")
COMMANDS = [line for line in LINES if "~/" not in line and "FILE" not in line]


def test_the_readme_names_the_two_commands_and_an_example() -> None:
    assert {"make run", "make test"} <= set(COMMANDS)
    assert EXAMPLES


@pytest.mark.parametrize("command", COMMANDS)
def test_command_of_the_readme_works(command: str) -> None:
    if not (TOP / ".venv" / "installed").exists():
        pytest.skip("this tree was not set up by make, and setting it up takes a network")
    # `make test` is what runs this, the benchmarks want the machine to themselves, mutants take
    # minutes, and the site takes a network at first: test_docs.py builds it.
    dry = " --dry-run" if command.startswith(DRY) else ""
    shown.assert_works(["sh", "-ec", command + dry], TOP)


@pytest.mark.parametrize(
    "command", [line for line in LINES if ".venv/bin/pytest " in line and "FILE" in line]
)
def test_command_for_a_test_of_ones_own_works(command: str, tree: Tree, tmp_path: Path) -> None:
    file = tmp_path / "test_own.py"
    file.write_text(EXAMPLES[0])
    patch = str(plant(tree, tmp_path))
    values = {"~/src/xen": str(tree.root), "my.patch": patch, "FILE": str(file)}
    program, *words = command.split()
    assert program == ".venv/bin/pytest"
    arguments = [values.get(word, word) for word in words]
    shown.assert_works([sys.executable, "-m", "pytest", *arguments], tmp_path)


@pytest.mark.parametrize("example", EXAMPLES)
def test_example_of_the_readme_passes(example: str, tmp_path: Path) -> None:
    (tmp_path / "test_example.py").write_text(example)
    shown.assert_works([sys.executable, "-m", "pytest", "-q", "test_example.py"], tmp_path)
