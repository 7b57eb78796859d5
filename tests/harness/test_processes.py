# SPDX-License-Identifier: GPL-2.0-only
"""Processes that run a few at a time and end together with their parent."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from ffashim.processes import last_words, run_parallel


def python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


def alive(process: int) -> bool:
    """Tell whether the process still runs; one that waits to be reaped does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until_gone(process: int) -> None:
    deadline = time.monotonic() + 30
    while alive(process):
        assert time.monotonic() < deadline, f"process {process} still runs"
        time.sleep(0.01)


def test_every_result_comes_back_under_its_index() -> None:
    commands = [python("import sys; print(sys.argv[1]); sys.exit(3)", n) for n in range(4)]
    results = dict(run_parallel(commands, 2, 60))
    assert results == {n: (3, f"{n}\n", "") for n in range(4)}


def test_what_a_process_is_told_may_be_longer_than_an_argument() -> None:
    count = python("import sys; print(len(sys.stdin.read()))")
    long = "x" * 1_000_000
    results = dict(run_parallel([count, count, count], 2, 60, ["", long]))
    assert results == {0: (0, "0\n", ""), 1: (0, "1000000\n", ""), 2: (0, "0\n", "")}


def test_why_a_process_failed_is_its_exception_whatever_was_said_after_it() -> None:
    fail = "import sys\ntry:\n 1 / 0\nfinally:\n print('a()', file=sys.stderr)"
    ((_, (status, _, errors)),) = run_parallel([python(fail)], 1, 60)
    assert (status, last_words(errors)) == (1, "ZeroDivisionError: division by zero")
    assert last_words(errors + "\nFailing test case:\na()\n").startswith("ZeroDivisionError")
    assert last_words("one\nerror: two\n") == "error: two"
    assert last_words("") == "nothing was said"


def test_a_process_that_crashes_is_a_result() -> None:
    crash = python("import os; os.abort()")
    [(_, (status, _, _))] = run_parallel([crash], 1, 60)
    assert status == -signal.SIGABRT


def test_a_process_that_takes_too_long_is_killed() -> None:
    [(_, (status, _, errors))] = run_parallel([python("import time; time.sleep(600)")], 1, 0.2)
    assert status == -signal.SIGKILL
    assert "ended after 0.2 seconds" in errors


def test_nothing_is_left_running_when_the_caller_stops(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    # The sleeper has a child of its own, as a compiler driver does.
    sleeper = python(
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "open(sys.argv[1], 'w').write(str(child.pid))\n"
        "child.wait()\n",
        pipe,
    )
    # Its end tells that the sleeper's child is there.
    reader = python("import sys; print(open(sys.argv[1]).read())", pipe)
    never = python("import time; time.sleep(600)")
    running = run_parallel([sleeper, reader, never], 2, 60)
    index, (_, output, _) = next(running)
    assert index == 1
    running.close()
    wait_until_gone(int(output))
