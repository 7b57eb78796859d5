# SPDX-License-Identifier: GPL-2.0-only
"""Guests that come and go."""

from __future__ import annotations

from ffashim.defects.lifecycle import (
    FORGETS_FAILED_VM,
    GIVES_UP_ON_RETRY,
    NEVER_RUNS_AGAIN,
)
from ffashim.model.deviation import Deviation

DEVIATIONS = [
    Deviation(
        FORGETS_FAILED_VM, abandons="notification bitmap|was not told|^1 blocks of Xen's heap"
    ),
    Deviation(GIVES_UP_ON_RETRY, gives_up="was not told"),
    Deviation(NEVER_RUNS_AGAIN, forsakes="no guest|still works|was not told"),
]
