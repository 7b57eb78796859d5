# SPDX-License-Identifier: GPL-2.0-only
"""A verdict as JSON.

It has this shape::

{"format": 1,
"sound": false,
"series": {"title": "...", "base": "...", "found": "how the base was found", "notes": [...]},
"commits": [{"number": 1,
"name": "0001-....patch",             # as users call it
"subject": "...", "author": "...",
"compiled": true,                     # whether it changes what is compiled here
"builds": true,                       # in all configurations
"claim": "No functional change",      # or null
"level": "error",                     # the worst of the findings, or ""
"tests": {"passed": 9, ...},          # in all configurations
"conversations": 80,                  # that were compared
"coverage": {"reached": 4, "partly": 1, "missed": 1},
"mutants": {"noticed": 3, "survived": 1},
"findings": [{"rule": "test",         # one of findings.RULES
"level": "error",       # error, warning or note
"title": "...",
"where": ["FFA_VM_TO_VM=y"],
"detail": "...", "test": "...",
"file": "...", "line": 0,
"mended": 3}]}]}        # by that commit; 0 if by none
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from ffashim.series.findings import Judgement, Verdict


def of(verdict: Verdict) -> dict[str, Any]:
    """Return all that is known of a series."""
    series = verdict.series
    return {
        "format": 1,
        "sound": verdict.sound,
        "series": {
            "title": series.title,
            "base": series.base.origin,
            "found": series.found,
            "notes": [*series.notes, *verdict.notes],
        },
        "commits": [_commit(each) for each in verdict.judgements],
    }


def _commit(judgement: Judgement) -> dict[str, Any]:
    commit = judgement.commit
    return {
        "number": commit.number,
        "name": commit.name,
        "subject": commit.subject,
        "author": commit.author,
        "compiled": commit.compiled,
        "builds": not judgement.broken,
        "claim": commit.claim,
        "level": judgement.level,
        "tests": dict(judgement.outcomes),
        "conversations": judgement.conversations,
        "coverage": dict(marks(judgement)),
        "mutants": dict(judgement.mutants),
        "findings": [{**asdict(each), "where": list(each.where)} for each in judgement.findings],
    }


def marks(judgement: Judgement) -> Counter[str]:
    """Return how many lines of a commit were reached, partly, or not."""
    return Counter(mark for of_file in judgement.margin.values() for mark in of_file.values())
