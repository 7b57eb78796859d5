# SPDX-License-Identifier: GPL-2.0-only
"""Exploring: the course first, then conversations by the thousand until time is up, in rounds of a
seed each.

Three efforts: `quick` is the same every time, as a test has to be; `ci` draws other conversations
each time; `night` goes on where it has stopped the last time, and does not stop at what it finds.
"""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
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
from ffashim.model.course import Lesson, World, lessons, taught
from ffashim.model.deviation import Deviation
from ffashim.model.pair import Disagreement
from ffashim.model.reduce import reduced


@dataclass(frozen=True)
class Effort:
    """How much is explored.

    examples: conversations of a round. steps: of a conversation, at most.
    seconds: lessons and rounds are begun until then, None is the course and one round.
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
    "quick": Effort(60, 30, again=True),
    "ci": Effort(50, 40, seconds=600),
    "night": Effort(200, 50, seconds=8 * 3600, resumes=True, goes_on=True),
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
    report: Callable[[Disagreement], None] = lambda _found: None,
    part: tuple[int, int] = (0, 1),
) -> Explored:
    """Explore. What is found is shrunk, reported at once, and is in the result.

    part: which part of the course is given here, and in how many it is.
    """
    result = Explored(first_seed)
    started = time.monotonic()

    def has(found: Disagreement | None) -> bool:
        """Report it, if it is one. Whether that is the end."""
        result.seconds = time.monotonic() - started
        if found is not None and not any(found.kind == each.kind for each in result.found):
            # A profile that does not shrink wants to know only that there is something.
            if Phase.shrink in settings().phases:
                found = reduced(machine, deviations, found)
            result.found.append(found)
            report(found)
        return bool(result.found) and not effort.goes_on

    shard, of = part
    for world, lesson in itertools.islice(lessons(), shard, None, of):
        if _is_over(effort, started):
            return result
        if has(_lesson(machine, deviations, world, lesson, result)):
            return result
    for n in _rounds(effort, started):
        found = _round(machine, deviations, effort, first_seed + n, database, result)
        result.rounds += 1
        if has(found):
            break
    return result


def _rounds(effort: Effort, started: float) -> Iterator[int]:
    n = 0
    while n == 0 or (effort.seconds is not None and not _is_over(effort, started)):
        yield n
        n += 1


def _is_over(effort: Effort, started: float) -> bool:
    return effort.seconds is not None and time.monotonic() - started >= effort.seconds


class _Counted(Conversations):
    """One that is counted when it is over. ``result`` is a class's own."""

    result: Explored

    def teardown(self) -> None:
        if hasattr(self, "pair"):  # it has booted
            self.result.conversations += 1
            self.result.calls += self.pair.calls
            self.result.known |= self.pair.known


def _lesson(
    machine: Machine,
    deviations: Sequence[Deviation],
    world: World,
    lesson: Lesson,
    result: Explored,
) -> Disagreement | None:
    conversation = _Counted(machine, deviations)
    conversation.result = result
    try:
        taught(conversation, world, lesson)
    except Disagreement as found:
        return found
    finally:
        conversation.teardown()
    return None


def _round(
    machine: Machine,
    deviations: Sequence[Deviation],
    effort: Effort,
    number: int,
    database: ExampleDatabase | None,
    result: Explored,
) -> Disagreement | None:
    class Round(_Counted):
        def __init__(self) -> None:
            super().__init__(machine, deviations)

    Round.result = result
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
                # What is found is made short step by step, which is faster: `reduced()`. What was
                # found in this run is not to be found over and over.
                phases=[Phase.generate] if result.found else [Phase.reuse, Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
    except Disagreement as found:
        return found
    return None


SHARD = 1 << 24
"""So many seeds are one process's; the next ones are another's."""


class Seeds:
    """Which seeds a process tries.

    given: by the user, None if none was. key: names tree and configuration, for who resumes.
    Where a night has stopped is kept in the cache; it is no loss if that is removed.
    """

    def __init__(self, effort: Effort, given: int | None, key: str, shard: int) -> None:
        self._file = paths.cache_dir() / "explore" / f"{key}-{shard}.json"
        self._resumes = effort.resumes and given is None
        if given is not None:
            first = given
        elif effort.again:
            first = 0
        else:
            first = self._next() if self._resumes else random.SystemRandom().getrandbits(20)
        self.first = first + shard * SHARD

    def _next(self) -> int:
        try:
            return int(json.loads(self._file.read_text())["next"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def done(self, rounds: int) -> None:
        """Remember where to go on, after so many rounds."""
        if not self._resumes:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps({"next": self.first % SHARD + rounds}) + "\n")
        new.replace(self._file)


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
            f"--database {where}: the redis package is missing: pip install redis"
        ) from error
    server: Any = redis.Redis.from_url(where)
    try:
        server.ping()
    except redis.RedisError as error:
        raise UsageError(f"--database {where}: no answer: {error}") from error
    return RedisExampleDatabase(server)
