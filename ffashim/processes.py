# SPDX-License-Identifier: GPL-2.0-only
"""Many commands, a few at a time, that end together with us."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from itertools import zip_longest

Finished = tuple[int, str, str]
"""Exit status (negative: the signal that ended it), standard output, standard error output."""


class _Children:
    """The processes that run now, each with its own children in a process group of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = False

    def run(self, command: Sequence[str], told: str, seconds: float) -> Finished:
        with self._lock:
            if self._stopped:
                return -signal.SIGKILL, "", ""
            child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
            )
            self._running.add(child)
        try:
            output, errors = child.communicate(told, timeout=seconds)
        except subprocess.TimeoutExpired:
            _kill(child)
            output, errors = child.communicate()
            errors += f"\nit was ended after {seconds:g} seconds"
        finally:
            with self._lock:
                self._running.discard(child)
        return child.returncode, output, errors

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            for child in self._running:
                _kill(child)


def last_words(errors: str) -> str:
    """Return why a process has failed, in a line: its exception, or else what it said last."""
    lines = errors.strip().splitlines() or ["nothing was said"]
    frames = [n for n, line in enumerate(lines) if line.startswith('  File "')]
    after = lines[frames[-1] :] if frames else []
    return next((line for line in after if not line.startswith(" ")), lines[-1])


def run_parallel(
    commands: Sequence[Sequence[str]], jobs: int, seconds: float, told: Sequence[str] = ()
) -> Generator[tuple[int, Finished]]:
    """Run the commands, ``jobs`` at a time; yield each one's index and result as it ends.

    A command that takes longer than ``seconds`` is killed. All of them are, at once, when this is
    closed or KeyboardInterrupt ends it. told: what each reads from its standard input; an argument
    is no place for what may be long.
    """
    children = _Children()
    pool = ThreadPoolExecutor(jobs)
    try:
        futures = {
            pool.submit(children.run, command, text, seconds): index
            for index, (command, text) in enumerate(zip_longest(commands, told, fillvalue=""))
        }
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        children.stop()
        pool.shutdown(cancel_futures=True)


def _kill(child: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
