# SPDX-License-Identifier: GPL-2.0-only
"""What Markdown pages show, taken out of them and run: for README.md and the pages of docs/.

A fenced block's language says what becomes of it:

``sh``       each line is a command that succeeds.
``console``  ``$ `` is before a command, its output follows. What is shown must be what comes; three
             dots stand for any text in a line and, alone, for any lines. A command of which nothing
             is shown succeeds.
``python``   a test file that passes; with ``title="FILE"`` it is written there, for a command of
             the page to use.
``diff``     with ``title="FILE"``, what that file of the checkout holds.

Anything else (``text``, ``yaml``) is not run: test_docs.py says of each why.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).parents[2]

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n"
    r"(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    title: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(TOP)}:{self.line}"

    @property
    def lines(self) -> list[str]:
        """The commands of a block of ``sh``, without comments."""
        found = (line.partition(" #")[0].rstrip() for line in self.text.splitlines())
        return [line for line in found if line.strip() and not line.lstrip().startswith("#")]

    @property
    def steps(self) -> list[tuple[str, str]]:
        """The commands of a block of ``console``, each with the output that is shown."""
        found = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", self.text, re.MULTILINE)
        assert found, f"{self}: no line begins with '$ '"
        return found


def blocks(page: Path, language: str = "") -> list[Block]:
    """Return the blocks of a page, all or those of a language."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, found.start()) + 1,
            found["language"],
            found["title"] or "",
            re.sub(f"^{found['indent']}", "", found["text"], flags=re.MULTILINE),
        )
        for found in _FENCE.finditer(text)
        if language in ("", found["language"])
    ]


def run(
    command: Sequence[str], cwd: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command; what it writes to stderr comes with its output."""
    # A make that this runs under is not to steer the one that is run here.
    inherited = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "ARGS", "PYTHON")
    inherits = {name: value for name, value in os.environ.items() if name not in inherited}
    return subprocess.run(
        command,
        cwd=cwd,
        env={**inherits, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )


def assert_works(
    command: Sequence[str], cwd: Path, environment: Mapping[str, str] | None = None
) -> None:
    """Run a command that must succeed."""
    done = run(command, cwd, environment)
    assert done.returncode == 0, done.stdout


def is_shown(output: str, shown: str) -> bool:
    """Tell whether output is what a page shows of it."""
    came = [line.rstrip() for line in output.splitlines()]
    runs: list[list[re.Pattern[str]]] = [[]]
    for line in map(str.rstrip, shown.splitlines()):
        if line.strip() == "...":
            runs.append([])
        else:
            runs[-1].append(re.compile(".*".join(map(re.escape, line.split("...")))))

    def is_at(run: list[re.Pattern[str]], start: int) -> bool:
        lines = came[start : start + len(run)] if start >= 0 else []
        return len(lines) == len(run) and all(map(re.Pattern.fullmatch, run, lines))

    first, *others = runs
    if not others:
        return len(came) == len(first) and is_at(first, 0)
    if not is_at(first, 0):
        return False
    position = len(first)
    *middle, last = others
    for run in middle:
        # The first place is as good as any: it leaves the most to what follows.
        found = (at for at in range(position, len(came) + 1) if is_at(run, at))
        start = next(found, None)
        if start is None:
            return False
        position = start + len(run)
    start = len(came) - len(last)
    return start >= position and is_at(last, start)
