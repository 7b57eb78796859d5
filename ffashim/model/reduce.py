# SPDX-License-Identifier: GPL-2.0-only
"""Making a conversation short: what is not needed for Xen and the model to differ is left out.

Steps are taken again without the strategies that they were drawn by, which is many times faster
than Hypothesis' own shrinking.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ffashim.errors import FfashimError
from ffashim.machine import Machine
from ffashim.model.deviation import Deviation
from ffashim.model.pair import Disagreement, Pair
from ffashim.model.script import Script, Step

SECONDS = 60.0
"""How long a conversation is worked on; it is right at any time, if longer than need be."""


def reduced(
    machine: Machine, deviations: Sequence[Deviation], found: Disagreement, seconds: float = SECONDS
) -> Disagreement:
    """Return a disagreement of the same kind after fewer steps, with smaller arguments."""
    until = time.monotonic() + seconds
    best = found
    again = True
    while again and time.monotonic() < until:
        again = False
        for script in (*_shorter(best.script), *_smaller(best.script)):
            if time.monotonic() > until:
                break
            other = replayed(machine, deviations, script)
            if other is not None and other.kind == found.kind:
                best, again = other, True
                break
    return best


def replayed(
    machine: Machine, deviations: Sequence[Deviation], script: Script
) -> Disagreement | None:
    """Take the steps of a script: how Xen and the model differ then, None if they do not."""
    pair = Pair(machine, deviations=deviations, **script.options)
    try:
        for step in script.steps:
            pair.take(step)
    except Disagreement as found:
        return found
    except (FfashimError, LookupError):
        return None  # a step makes no sense without those that are gone
    return None


def _shorter(script: Script) -> Iterator[Script]:
    """Yield scripts without some of the steps: half of them, a quarter, down to one."""
    count = len(script.steps)
    size = count // 2
    while size:
        for start in range(0, count, size):
            yield script.without(range(start, min(count, start + size)))
        size //= 2


def _smaller(script: Script) -> Iterator[Script]:
    """Yield scripts in which an argument of a call is zero, or an option is not given."""
    for n, step in enumerate(script.steps):
        for other in _simpler(step):
            yield replace(script, steps=(*script.steps[:n], other, *script.steps[n + 1 :]))


def _simpler(step: Step) -> Iterator[Step]:
    if step.method != "call":
        return
    for name in step.options:
        if step.options[name]:
            yield replace(step, options={**step.options, name: 0})
    arguments = step.arguments
    for n in range(2, len(arguments)):
        if arguments[n]:
            fewer = (*arguments[:n], 0, *arguments[n + 1 :])
            while fewer[-1] == 0 and len(fewer) > 2:
                fewer = fewer[:-1]
            yield replace(step, arguments=fewer)
