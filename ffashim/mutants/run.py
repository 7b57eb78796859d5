# SPDX-License-Identifier: GPL-2.0-only
"""Run the suite on mutants, a few at a time, and tell what became of each.

What counts as noticed is what ``ffashim check --xen MUTANT --baseline ORIGINAL`` would fail for: a
test that fails, or a known defect that the tree does not have without the mistake. A test that no
longer applies, or a defect that is gone, is not enough.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

from ffashim import paths
from ffashim.errors import BuildError, FfashimError
from ffashim.loader import Extension
from ffashim.mutants.source import Mutant
from ffashim.mutants.workshop import Bench, Workshop
from ffashim.source import Tree

EXAMPLES = "150"
"""Of what tests draw at random, unless FFASHIM_EXAMPLES says."""

_TIMES = 10
_SHOWN = 20
"""Lines of what a worker printed that an error repeats."""
_WHOLE = 900.0
"""Seconds that the suite may take on the tree as it is."""


class Fate(Enum):
    """What became of a mutant."""

    REFUSED = "refused"
    """It does not compile."""
    SAME = "same"
    """The compiler makes the same of it as of the original."""
    DUPLICATE = "duplicate"
    """The compiler makes the same of it as of another mutant."""
    NOTICED = "noticed"
    """A test fails."""
    SURVIVED = "survived"
    """None does."""


@dataclass(frozen=True)
class Result:
    """A mutant, and what became of it."""

    mutant: Mutant
    fate: Fate
    test: str = ""
    """The test that noticed it."""
    why: str = ""
    """What that test said, or the compiler; of a duplicate, the key of the other mutant."""


@dataclass(frozen=True)
class Job:
    """What to run, on what."""

    tree: Tree
    settings: Mapping[str, str]
    arguments: Sequence[str]
    """Of pytest, that name the same tree and settings."""
    suites: Sequence[Path]
    cc: str = "cc"
    seconds: float = 60.0
    """How long a mutant may take, or so many times what the tree as it is takes: a machine may be
    busy. One that takes longer is noticed, as somebody waits for it."""


class SuiteError(FfashimError):
    """The suite cannot be run on the tree as it is, so that a mutant would prove nothing."""


def run(
    job: Job, workshop: Workshop, mutants: Sequence[Mutant], jobs: int, killers: Mapping[str, str]
) -> Generator[Result]:
    """Build each mutant and run the suite on it; yield the results as they come.

    killers: names of tests that noticed mutants before, by the mutants' keys. They go first.
    Raises SuiteError if the suite does not run on the tree as it is.
    """
    workers = [
        Worker(job, workshop.extension, workshop.directory / f"worker-{number}.log")
        for number in range(min(jobs, len(mutants)))
    ]
    try:
        outcomes = workers[0].whole(workshop.extension)
        order = _Order(outcomes, killers)
        took = sum(seconds for _, seconds in outcomes.values())
        limit = max(job.seconds, _TIMES * took)
        spare: SimpleQueue[tuple[Bench, Worker]] = SimpleQueue()
        for number, worker in enumerate(workers):
            spare.put((workshop.bench(number), worker))
        known: dict[str, str] = {}
        stopped = threading.Event()

        def one(mutant: Mutant) -> Result | None:
            if stopped.is_set():
                return None
            bench, worker = spare.get()
            try:
                return _one(mutant, bench, worker, order, known, limit)
            finally:
                spare.put((bench, worker))

        with ThreadPoolExecutor(len(workers)) as pool:
            futures = [pool.submit(one, mutant) for mutant in mutants]
            try:
                for future in as_completed(futures):
                    if (result := future.result()) is not None:
                        yield result
            finally:
                stopped.set()
                for worker in workers:
                    worker.stop()
    finally:
        for worker in workers:
            worker.stop()


def _one(
    mutant: Mutant,
    bench: Bench,
    worker: Worker,
    order: _Order,
    known: dict[str, str],
    seconds: float,
) -> Result:
    try:
        made = bench.build(mutant)
    except BuildError as error:
        said = [line for line in str(error).splitlines() if "error:" in line or "warning:" in line]
        return Result(mutant, Fate.REFUSED, why=(said or [""])[0].rpartition(": ")[2])
    if made is None:
        return Result(mutant, Fate.SAME)
    extension, digest = made
    if (other := known.setdefault(digest, mutant.key)) != mutant.key:
        return Result(mutant, Fate.DUPLICATE, why=other)
    answer = worker.ask(extension, order.of(mutant), seconds)
    failed = [each for each in answer["outcomes"] if each[1] == "failed"]
    if not failed:
        return Result(mutant, Fate.SURVIVED)
    index, _, _, why = failed[-1]
    order.learn(mutant, index)
    return Result(mutant, Fate.NOTICED, worker.tests[index], why)


class _Order:
    """Which tests go first: those that noticed others of the same function, then of the same file,
    then of any, and of the rest the quick ones.
    """

    def __init__(
        self, outcomes: Mapping[str, tuple[int, float]], killers: Mapping[str, str]
    ) -> None:
        self._seconds = dict(outcomes.values())
        self._kills: dict[str, Counter[int]] = defaultdict(Counter)
        self._lock = threading.Lock()
        self._killer = {key: outcomes[name][0] for key, name in killers.items() if name in outcomes}
        for key, index in self._killer.items():
            self._kills[key.partition("/")[0]][index] += 1
            self._kills[""][index] += 1

    def of(self, mutant: Mutant) -> list[int]:
        with self._lock:
            kills = [Counter(self._kills[name]) for name in (mutant.function, mutant.file, "")]
        first = self._killer.get(mutant.key)

        def rank(index: int) -> tuple[float, ...]:
            return (index != first, *(-each[index] for each in kills), self._seconds[index])

        return sorted(self._seconds, key=rank)

    def learn(self, mutant: Mutant, index: int) -> None:
        with self._lock:
            for name in (mutant.function, mutant.file, ""):
                self._kills[name][index] += 1


class Worker:
    """A process of `ffashim.mutants.worker`; what it prints goes into a file."""

    def __init__(self, job: Job, original: Extension, log: Path) -> None:
        self._log = log
        with log.open("w") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ffashim.mutants.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                encoding="utf-8",
                env={
                    **os.environ,
                    "FFASHIM_EXAMPLES": os.environ.get("FFASHIM_EXAMPLES", EXAMPLES),
                    "HYPOTHESIS_STORAGE_DIRECTORY": str(paths.cache_dir() / "hypothesis"),
                },
                start_new_session=True,  # Ctrl-C is ours
            )
        request = {
            "pytest": [*_PYTEST, *job.arguments, *map(str, job.suites)],
            "extension": str(original.path),
            "record": dict(original.record),
        }
        self._say(request)
        self._tests: list[str] | None = None

    @property
    def tests(self) -> list[str]:
        """The names of the tests, once they are collected."""
        if self._tests is None:
            self._tests = self._hear()["tests"]
        return self._tests

    def ask(
        self, extension: Path, tests: Sequence[int], seconds: float, *, whole: bool = False
    ) -> dict[str, Any]:
        """Run tests, up to the first that fails unless all are wanted; return their outcomes."""
        assert self.tests
        self._say({"extension": str(extension), "tests": tests, "seconds": seconds, "all": whole})
        return self._hear()

    def whole(self, original: Extension) -> dict[str, tuple[int, float]]:
        """Run the suite on the tree as it is. Return the number and the seconds of each test that
        can notice something: those that pass, or fail of a known defect.

        Raises SuiteError.
        """
        if not self.tests:
            raise SuiteError("no test was selected that runs on a tree: see -k")
        answer = self.ask(original.path, range(len(self.tests)), _WHOLE, whole=True)
        failed = [each for each in answer["outcomes"] if each[1] == "failed"]
        if failed or answer["end"] != "finished":
            why = [f"{self.tests[index]}: {said}" for index, _, _, said in failed]
            listed = "\n  ".join(why) or f"it has {answer['end']}"
            raise SuiteError(
                f"the suite fails on the tree without any mutant; mend that first: {listed}"
            )
        return {
            self.tests[index]: (index, seconds)
            for index, outcome, seconds, _ in answer["outcomes"]
            if outcome != "skipped"
        }

    def stop(self) -> None:
        """End the process, and what it runs."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def _say(self, request: object) -> None:
        try:
            _stream(self._process.stdin).write(json.dumps(request, default=list) + "\n")
            _stream(self._process.stdin).flush()
        except BrokenPipeError as error:
            raise self._gone() from error

    def _hear(self) -> dict[str, Any]:
        line = _stream(self._process.stdout).readline()
        if not line:
            raise self._gone()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _gone(self) -> SuiteError:
        status = self._process.wait()
        said = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return SuiteError(
            f"the process that runs the suite has ended with {status}; does `ffashim check` run on "
            "the tree?\n" + "\n".join(said[-_SHOWN:])
        )


def _stream(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


_PYTEST = (
    f"--config-file={os.devnull}",
    f"--rootdir={paths.TESTS}",
    f"--confcutdir={paths.TESTS}",
    "--disable-plugin-autoload",
    "-pffashim",
    "-phypothesispytest",
    "-pno:cacheprovider",
    "-pno:unraisableexception",
    "-pno:threadexception",
    "-pno:faulthandler",
    "-Wignore::pytest.PytestAssertRewriteWarning",
    "--import-mode=importlib",
    "--strict-markers",
    "-oxfail_strict=true",
    "--tb=short",
    "-qq",
)
