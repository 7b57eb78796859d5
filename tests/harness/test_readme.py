# SPDX-License-Identifier: GPL-2.0-only
"""What README.md shows works: each fenced block whose first line ends in `runnable` is run.

In `sh` blocks each line is a command; `python` blocks are test files.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
README = (TOP / "README.md").read_text() if (TOP / "README.md").exists() else ""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language} runnable\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


COMMANDS = [
    line
    for block in blocks("sh")
    for line in block.splitlines()
    if line.strip() and not line.lstrip().startswith("#")
]


def run(*command: str, cwd: Path = TOP) -> None:
    # A make that this runs under is not to steer the one that is run here.
    inherited = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "ARGS")
    environment = {name: value for name, value in os.environ.items() if name not in inherited}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
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


def test_the_readme_has_something_to_run() -> None:
    assert any(line.startswith("make run") for line in COMMANDS)
    assert any(line.startswith("make test") for line in COMMANDS)
    assert blocks("python")


@pytest.mark.parametrize("command", COMMANDS)
def test_command_of_the_readme_works(command: str) -> None:
    if command.startswith("make "):
        if not (TOP / ".venv" / "installed").exists():
            pytest.skip("this tree was not set up by make, and setting it up takes a network")
        if command.startswith("make test"):  # which is what runs this
            command = f"{command} --dry-run"
    run("sh", "-ec", command)


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_example_of_the_readme_passes(number: int, tmp_path: Path) -> None:
    (tmp_path / "test_example.py").write_text(blocks("python")[number])
    run(sys.executable, "-m", "pytest", "-q", "test_example.py", cwd=tmp_path)
