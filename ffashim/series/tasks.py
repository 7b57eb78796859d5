# SPDX-License-Identifier: GPL-2.0-only
"""Tasks: done in processes of their own on the cores there are, and remembered by what they are
about, so that a run that was interrupted goes on, and a commit that stayed as it was costs nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ffashim import paths
from ffashim.processes import last_words, run_parallel
from ffashim.series import content

Result = Mapping[str, Any]
"""What a task has found, as JSON; ``failed`` alone, with the reason, if it came to no end."""

RESULTS = "series"
"""Where in the cache; `ffashim.cache` prunes there."""
_SECONDS = 1800.0
"""Ends a task that hangs."""


@dataclass(frozen=True)
class Task:
    """Something to be done.

    kind: the function of `work` that does it. what: its arguments. means: what the result depends
    on, beside ourselves: where trees lie is not among it. about: the number of the commit.
    """

    kind: str
    what: Mapping[str, Any]
    means: Sequence[Any]
    about: int = 0

    @property
    def key(self) -> str:
        """The name of the result in the cache."""
        asked = json.dumps([self.kind, self.means, content.ourselves()], sort_keys=True)
        return hashlib.sha256(asked.encode()).hexdigest()[:40]

    @property
    def file(self) -> Path:
        """Where the result is kept: in a directory of its own, and what comes with it there too."""
        return paths.cache_dir() / RESULTS / self.key / "result.json"

    def known(self) -> Result | None:
        """Return the result if it is there."""
        try:
            found: Result = json.loads(self.file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if any(not Path(name).exists() for name in found.get("files", ())):
            return None
        os.utime(self.file)  # `ffashim.cache` looks
        return found


def run(
    tasks: Sequence[Task], jobs: int, done: Callable[[Task, Result, bool], None]
) -> dict[str, Result]:
    """Do tasks, ``jobs`` at a time, but those whose results are known. Return results by key.

    done: told each as it ends, with whether it was known before.
    """
    results: dict[str, Result] = {}
    left: dict[str, list[Task]] = {}
    for task in tasks:
        if task.key in left:
            left[task.key].append(task)
        elif (found := task.known()) is not None:
            results[task.key] = found
            done(task, found, True)
        else:
            left[task.key] = [task]
    todo = [same[0] for same in left.values()]
    commands = [[sys.executable, "-m", "ffashim.series.worker", task.kind] for task in todo]
    told = [json.dumps(task.what) for task in todo]
    with closing(run_parallel(commands, jobs, _SECONDS, told)) as finished:
        for index, (status, output, errors) in finished:
            task = todo[index]
            result = _result(status, output, errors)
            if "failed" not in result:
                keep(task.file, result)
            results[task.key] = result
            for same in left[task.key]:
                done(same, result, False)
    return results


def _result(status: int, output: str, errors: str) -> Result:
    try:
        found: Result = json.loads(output.rpartition("\n\0")[2])
    except ValueError:
        end = f"signal {-status}" if status < 0 else f"status {status}"
        return {"failed": f"the process ended with {end}: {last_words(errors)}"}
    return found


def keep(file: Path, found: Mapping[str, Any]) -> None:
    """Write JSON to a file of the cache, whole or not at all."""
    new = file.with_suffix(f".{os.getpid()}.new")
    with contextlib.suppress(FileNotFoundError):  # somebody prunes the cache just now
        file.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(json.dumps(found), encoding="utf-8")
        new.replace(file)
