# SPDX-License-Identifier: GPL-2.0-only
"""Known defects of Xen (see `ffashim.defects`), as deviations from the model, by topic."""

from __future__ import annotations

import contextlib

from ffashim import capabilities
from ffashim.machine import Machine
from ffashim.model.deviation import Deviation
from ffashim.model.deviations import (
    buffers,
    discovery,
    features,
    lifecycle,
    memory,
    messages,
    notifications,
    version,
)

DEVIATIONS: list[Deviation] = [
    *version.DEVIATIONS,
    *features.DEVIATIONS,
    *buffers.DEVIATIONS,
    *discovery.DEVIATIONS,
    *messages.DEVIATIONS,
    *memory.DEVIATIONS,
    *notifications.DEVIATIONS,
    *lifecycle.DEVIATIONS,
]
"""In the order in which they add up."""


def known_of(machine: Machine, baseline: Machine | None = None) -> list[Deviation]:
    """Return those that a machine's tree has; it must be booted afterwards.

    baseline: a machine of the tree as it was before a change. What that has not is no known defect
    of this tree, but one that the change has made.
    """
    return [
        each
        for each in DEVIATIONS
        if capabilities.probe(machine, each.defect.probe)
        and (baseline is None or _has(baseline, each))
    ]


def _has(baseline: Machine, deviation: Deviation) -> bool:
    """Whether a baseline has a defect; where it lacks what is asked about, it has not."""
    with contextlib.suppress(Exception):  # a probe takes what it asks about for granted
        return bool(capabilities.probe(baseline, deviation.defect.probe))
    return False
