# SPDX-License-Identifier: GPL-2.0-only
"""Exploring: conversations by the thousand, in rounds of a seed each, until time is up.

Three efforts: `quick` is the same every time, as a test has to be; `ci` draws other conversations
each time; `night` goes on where it has stopped the last time, and does not stop at what it finds.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.database import DirectoryBasedExampleDatabase, ExampleDatabase
from hypothesis.stateful import run_state_machine_as_test

from ffashim import paths
from ffashim.errors import UsageError
from ffashim.machine import Machine
from ffashim.model.conversations import Conversations
from ffashim.model.deviation import Deviation
from ffashim.model.pair import Disagreement


@dataclass(frozen=True)
class Effort:
    """How much is explored.

    examples: conversations of a round. steps: of a conversation, at most.
    seconds: rounds are begun until then, None is one round.
    again: the same conversations each time. resumes: goes on where it has stopped.
    goes_on: looks for more once it has found something.
    """

    examples: int
    steps: int
    seconds: float | None = None
    again: bool = False
    resumes: bool = False
    goes_on: bool = False


EFFORTS = {
    "quick": Effort(150, 30, again=True),
    "ci": Effort(300, 40, seconds=600),
    "night": Effort(1000, 50, seconds=8 * 3600, resumes=True, goes_on=True),
}


@dataclass
class Explored:
    """What was done, and what was found."""

    seed: int
    rounds: int = 0
    conversations: int = 0
    calls: int = 0
    seconds: float = 0.0
    known: set[str] = field(default_factory=set)
    """Known defects that have shown."""
    found: list[Disagreement] = field(default_factory=list)

    def __str__(self) -> str:
        speed = self.calls / self.seconds if self.seconds else 0.0
        return (
            f"{self.conversations} conversations, {self.calls} calls, {speed:.0f} a second,"
            f" in {self.rounds} rounds from seed {self.seed}"
        )


def explore(
    machine: Machine,
    deviations: Sequence[Deviation],
    effort: Effort,
    first_seed: int,
    database: ExampleDatabase | None = None,
) -> Explored:
    """Explore. What is found is shrunk, and is in the result."""
    result = Explored(first_seed)
    started = time.monotonic()
    headlines = set()
    for n in _rounds(effort, started):
        before = len(result.found)
        _round(machine, deviations, effort, first_seed + n, database, result)
        result.rounds += 1
        result.seconds = time.monotonic() - started
        for each in result.found[before:]:
            headline = str(each).split("\n\n", 1)[0]
            if headline in headlines:
                result.found.remove(each)
            headlines.add(headline)
        if result.found and not effort.goes_on:
            break
    return result


def _rounds(effort: Effort, started: float) -> Iterator[int]:
    n = 0
    while n == 0 or (effort.seconds is not None and time.monotonic() - started < effort.seconds):
        yield n
        n += 1


def _round(
    machine: Machine,
    deviations: Sequence[Deviation],
    effort: Effort,
    number: int,
    database: ExampleDatabase | None,
    result: Explored,
) -> None:
    class Round(Conversations):
        def __init__(self) -> None:
            super().__init__(machine, deviations)

        def teardown(self) -> None:
            if hasattr(self, "pair"):  # it has booted
                result.conversations += 1
                result.calls += self.pair.calls
                result.known |= self.pair.known

    try:
        run_state_machine_as_test(
            seed(number)(Round),
            settings=settings(
                max_examples=effort.examples,
                stateful_step_count=effort.steps,
                deadline=None,
                database=database,
                print_blob=False,
                report_multiple_bugs=False,
                phases=[phase for phase in Phase if phase is not Phase.explain],
                suppress_health_check=list(HealthCheck),
            ),
        )
    except Disagreement as disagreement:
        result.found.append(disagreement)


class Progress:
    """Where a night has stopped, kept in the cache: it is no loss if that is removed."""

    def __init__(self, key: str) -> None:
        self._file = paths.cache_dir() / "explore" / f"{key}.json"

    def read(self) -> int:
        """Return the first seed that was not tried."""
        try:
            return int(json.loads(self._file.read_text())["next"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def write(self, following: int) -> None:
        """Remember the first seed that was not tried."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps({"next": following}) + "\n")
        new.replace(self._file)


def random_seed() -> int:
    """Return a seed that nobody has chosen."""
    return random.SystemRandom().getrandbits(32)


def open_database(where: str | None) -> ExampleDatabase:
    """Open the database that keeps failing examples: a directory, or redis://HOST[:PORT][/DB].

    None is one in the cache. Several machines may share one. Raises UsageError.
    """
    if where is None:
        return DirectoryBasedExampleDatabase(paths.cache_dir() / "hypothesis" / "examples")
    if not where.startswith(("redis://", "rediss://", "unix://")):
        return DirectoryBasedExampleDatabase(Path(where).expanduser())
    try:
        import redis  # type: ignore[import-not-found,unused-ignore]
        from hypothesis.extra.redis import RedisExampleDatabase
    except ImportError as error:
        raise UsageError(
            f"--example-database {where}: the redis package is missing: pip install redis"
        ) from error
    server: Any = redis.Redis.from_url(where)
    try:
        server.ping()
    except redis.RedisError as error:
        raise UsageError(f"--example-database {where}: no answer: {error}") from error
    return RedisExampleDatabase(server)
