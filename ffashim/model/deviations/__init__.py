# SPDX-License-Identifier: GPL-2.0-only
"""The defects of Xen that are known, as deviations from the model, by topic.

Each has a test of its own in tests/abi, with the specification's words; a probe here asks the
same question as the one there.
"""

from ffashim.model.deviation import Deviation
from ffashim.model.deviations import (
    buffers,
    discovery,
    features,
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
]
"""In the order in which they add up."""
