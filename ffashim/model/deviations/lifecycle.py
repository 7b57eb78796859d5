# SPDX-License-Identifier: GPL-2.0-only
"""Guests that come and go."""

from __future__ import annotations

from ffashim.model.deviation import Deviation
from ffashim.traffic import forgets_failed_vm

DEVIATIONS = [
    Deviation(
        "frees the context of a guest before its teardown: SPs are not told, the bitmaps stay",
        forgets_failed_vm,
        abandons="notification bitmap|was not told|Xen's heap",
    ),
]
