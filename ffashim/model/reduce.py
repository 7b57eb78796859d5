# SPDX-License-Identifier: GPL-2.0-only
"""Making a conversation short: what is not needed for Xen and the model to differ is left out.

Steps are taken again without the strategies that they were drawn by, which is many times faster
than Hypothesis' own shrinking.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
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
    best = found
    until = time.monotonic() + seconds

    def still(script: Script) -> Script | None:
        nonlocal best
        other = replayed(machine, deviations, script)
        if other is None or other.kind != found.kind:
            return None
        best = other
        return other.script

    shortened(found.script, still, lambda: time.monotonic() < until)
    return best


def shortened(
    script: Script, still: Callable[[Script], Script | None], goes_on: Callable[[], bool]
) -> Script:
    """Return a script with fewer steps and smaller arguments that still does something.

    still: returns as much of a script as does it, None if it does not. goes_on: whether another
    one is to be tried; the script is right at any time, if longer than need be.
    """
    best = script
    again = True
    while again and goes_on():
        again = False
        for size in _sizes(best):
            place = 0
            while place < len(best.steps) and goes_on():
                unwanted = range(place, min(len(best.steps), place + size))
                found = still(best.without(unwanted))
                if found is None:
                    place += size
                else:
                    best, again = found, True
        for other in _smaller(best):
            if not goes_on():
                break
            if (found := still(other)) is not None:
                best, again = found, True
                break
    return best


def _sizes(script: Script) -> Iterator[int]:
    """Yield how many steps to leave out at once: half of them, a quarter, down to one."""
    size = len(script.steps) // 2
    while size:
        yield size
        size //= 2


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


def _smaller(script: Script) -> Iterator[Script]:
    """Yield scripts in which an argument of a call is zero, or an option is not given."""
    for name in script.options:
        fewer = {key: value for key, value in script.options.items() if key != name}
        yield replace(script, options=fewer)
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
