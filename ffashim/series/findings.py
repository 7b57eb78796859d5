# SPDX-License-Identifier: GPL-2.0-only
"""What there is to say of a commit and of a series: levels, rules, findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from ffashim.series.commits import Commit, Series

ERROR, WARNING, NOTE = "error", "warning", "note"
"""Levels: an error is a reason not to send the series, a warning one to look, a note is none."""

RULES = {
    "build": "a commit does not build",
    "warning": "a compiler warns where it did not",
    "test": "a test fails that did not",
    "defect": "a known defect comes in",
    "lost": "a test no longer applies: the tree can no longer do what it is about",
    "claim": "guests or the SPMC see a change that the commit says there is not",
    "behaviour": "guests or the SPMC see a change",
    "order": "the SPMC sees the same requests in another order",
    "timing": "the SPMC sees the same requests at other times",
    "fixed": "a test passes that did not, or a known defect is gone",
    "coverage": "a line that the series adds is reached by no test",
    "mutant": "a mistake in a line that the series adds is noticed by no test",
    "unknown": "something could not be found out",
}
"""What findings are about."""


@dataclass(frozen=True)
class Finding:
    """Something about a commit."""

    rule: str
    level: str
    title: str
    """One line."""
    where: tuple[str, ...] = ()
    """The configurations, or the compilers, that show it."""
    detail: str = ""
    """What a tool said, as it said it."""
    test: str = ""
    """A test that shows it, as Python."""
    file: str = ""
    line: int = 0
    mended: int = 0
    """The number of the later commit that mends it; 0 if none does."""


@dataclass
class Judgement:
    """All that is known of a commit."""

    commit: Commit
    findings: list[Finding] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    """Of tests, in all configurations."""
    conversations: int = 0
    """So many were compared."""
    margin: dict[str, dict[int, str]] = field(default_factory=dict)
    """By file and line of the tree that it leaves: reached, partly, missed or later."""
    mutants: Counter[str] = field(default_factory=Counter)
    """What became of those of its lines."""
    broken: bool = False
    """It does not build, in some configuration or by some compiler, whoever has broken it."""

    def of(self, *rules: str) -> list[Finding]:
        """Return the findings of some rules."""
        return [each for each in self.findings if each.rule in rules]

    @property
    def level(self) -> str:
        """The worst there is."""
        levels = {each.level for each in self.findings}
        return next((level for level in (ERROR, WARNING) if level in levels), "")


@dataclass(frozen=True)
class Verdict:
    """What is to be said of a series."""

    series: Series
    judgements: Sequence[Judgement]
    base: Counter[str]
    """What became of the tests on the base."""
    notes: Sequence[str] = ()

    @property
    def sound(self) -> bool:
        """Whether there is no error."""
        return not any(judgement.level == ERROR for judgement in self.judgements)

    @property
    def stumbles(self) -> list[tuple[Judgement, list[Finding]]]:
        """What a commit breaks and one later commit mends: there nobody can bisect."""
        found: dict[tuple[int, int], tuple[Judgement, list[Finding]]] = {}
        for judgement in self.judgements:
            for each in judgement.findings:
                if each.mended and each.level == ERROR:
                    key = judgement.commit.number, each.mended
                    found.setdefault(key, (judgement, []))[1].append(each)
        return list(found.values())
