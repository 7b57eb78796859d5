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
    name: str | None = None
    """What the tree is called in the names of tests; by default what it always is."""
    passing: Mapping[str, float] | None = None
    """What the suite was seen to do on the tree as it is: the seconds of each test that can notice
    something, by name. By default, it is run first."""


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
        if job.passing is None:
            order = _Order(workers[0].whole(workshop.extension), killers)
        else:
            order = _Order(workers[0].numbered(job.passing), killers, seen_elsewhere=True)
        limit = max(job.seconds, _TIMES * order.seconds)
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
                return _one(mutant, bench, worker, order, known, limit, workshop.extension)
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
    original: Extension,
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
    while failed := _failed(worker.ask(extension, order.of(mutant), seconds)):
        index, _, _, why = failed[-1]
        if not order.trusts(index) and _failed(worker.ask(original.path, [index], seconds)):
            order.drop(index)  # it proves nothing
            continue
        order.learn(mutant, index)
        return Result(mutant, Fate.NOTICED, worker.tests[index], why)
    return Result(mutant, Fate.SURVIVED)


def _failed(answer: Mapping[str, Any]) -> list[Any]:
    return [each for each in answer["outcomes"] if each[1] == "failed"]


class _Order:
    """Which tests go first: those that noticed others of the same function, then of the same file,
    then of any, and of the rest the quick ones.

    outcomes: number and seconds of each test, by name. seen_elsewhere: that it passes here is not
    known before it is tried.
    """

    def __init__(
        self,
        outcomes: Mapping[str, tuple[int, float]],
        killers: Mapping[str, str],
        *,
        seen_elsewhere: bool = False,
    ) -> None:
        self._seconds = dict(outcomes.values())
        self.seconds = sum(self._seconds.values())
        """That all of them take."""
        self._trusted = set() if seen_elsewhere else set(self._seconds)
        self._kills: dict[str, Counter[int]] = defaultdict(Counter)
        self._lock = threading.Lock()
        self._killer = {key: outcomes[name][0] for key, name in killers.items() if name in outcomes}
        for key, index in self._killer.items():
            self._kills[key.partition("/")[0]][index] += 1
            self._kills[""][index] += 1

    def of(self, mutant: Mutant) -> list[int]:
        """Return the numbers of the tests in the order for a mutant."""
        with self._lock:
            kills = [Counter(self._kills[name]) for name in (mutant.function, mutant.file, "")]
            seconds = dict(self._seconds)
        first = self._killer.get(mutant.key)

        def rank(index: int) -> tuple[float, ...]:
            return (index != first, *(-each[index] for each in kills), seconds[index])

        return sorted(seconds, key=rank)

    def trusts(self, index: int) -> bool:
        """Tell whether a test is known to pass on the tree as it is."""
        return index in self._trusted

    def drop(self, index: int) -> None:
        """Leave a test out from now on."""
        with self._lock:
            self._seconds.pop(index, None)

    def learn(self, mutant: Mutant, index: int) -> None:
        """Remember that a test, which passes on the tree as it is, has noticed a mutant."""
        with self._lock:
            self._trusted.add(index)
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
            "name": job.name,
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
        self._require_tests()
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

    def numbered(self, passing: Mapping[str, float]) -> dict[str, tuple[int, float]]:
        """Return what `whole` would, of tests that are known to pass. Raises SuiteError."""
        self._require_tests()
        return {
            name: (index, passing[name]) for index, name in enumerate(self.tests) if name in passing
        }

    def _require_tests(self) -> None:
        if not self.tests:
            raise SuiteError("no test was selected that runs on a tree: see -k")

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
