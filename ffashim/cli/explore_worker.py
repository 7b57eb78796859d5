# SPDX-License-Identifier: GPL-2.0-only
"""One process of ``ffashim explore``: a crash there is a result here.

``python -m ffashim.cli.explore_worker`` reads a task, a JSON object, and prints another one. Each
finding is put into a file as soon as it is found.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from ffashim import Machine
from ffashim.baseline import machine_of
from ffashim.loader import Extension
from ffashim.model import Disagreement, known_of
from ffashim.model.explore import Effort, Seeds, explore, open_database


def work(task: dict[str, Any]) -> dict[str, Any]:
    """Explore, and return what was done and found."""
    effort = Effort(**task["effort"])
    machine = _machine(task["path"], task["record"])
    before = task["baseline"] and _machine(*task["baseline"])
    seeds = Seeds(effort, task["seed"], Path(task["path"]).parent.name, task["part"][0])
    # What is the same each time is not to depend on what was found before.
    again = effort.again or task["seed"] is not None
    database = None if again else open_database(task["database"])

    def keep(found: Disagreement) -> None:
        text = as_file(machine.extension.describe(), found)
        name = hashlib.sha256(found.what.encode()).hexdigest()[:12]
        (Path(task["output"]) / f"test_found_{name}.py").write_text(text, encoding="utf-8")

    known = known_of(machine, before)
    result = explore(machine, known, effort, seeds.first, database, keep, task["part"])
    seeds.done(result.rounds)
    return {
        "seed": result.seed,
        "rounds": result.rounds,
        "conversations": result.conversations,
        "calls": result.calls,
        "seconds": result.seconds,
        "known": sorted(result.known),
        "found": [str(each) for each in result.found],
    }


def _machine(path: str, record: dict[str, Any]) -> Machine:
    return machine_of(Extension(Path(path), record))


def as_file(tree: str, found: Disagreement) -> str:
    """Return a finding as a file of its own: what is wrong as comments, then the test."""
    lines = [f"# {line}".rstrip() for line in (tree, "", *found.what.splitlines())]
    return "\n".join([*lines, "", str(found.script), ""])


if __name__ == "__main__":
    print(json.dumps(work(json.load(sys.stdin))))
