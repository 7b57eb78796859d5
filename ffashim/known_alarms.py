# SPDX-License-Identifier: GPL-2.0-only
"""Alarms that a known defect of Xen raises in tests which are about something else.

The defect has a test of its own, and a probe that tells whether a tree has it. There its alarms
count for nothing elsewhere; on a tree that does not have it they fail the test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ffashim import capabilities
from ffashim.alarms import Alarm, AlarmKind
from ffashim.defects import Defect
from ffashim.defects.buffers import LEAVES_LOCKS
from ffashim.defects.lifecycle import FORGETS_FAILED_VM, FREES_WHAT_THE_TIMER_NEEDS
from ffashim.defects.messages import ANSWERS_AS_WIDE_AS_ASKED, GUESTS_DEADLOCK
from ffashim.defects.notifications import KEEPS_BITMAP
from ffashim.errors import FfashimError
from ffashim.machine import Machine


@dataclass(frozen=True)
class Known:
    """A known defect, and what its alarms look like."""

    defect: Defect
    covers: Callable[[Alarm], bool]

    def on(self, machine: Machine) -> bool:
        """Tell whether a tree has the defect. The machine must be booted afterwards."""
        try:
            return bool(capabilities.probe(machine, self.defect.probe))
        except FfashimError:  # one that does not get as far does not have it
            return False


def _names(alarm: Alarm, kind: AlarmKind, *parts: str) -> bool:
    text = str(alarm)
    return alarm.kind is kind and all(part in text for part in parts)


def _between(alarm: Alarm, *functions: str) -> bool:
    """Tell whether these functions take the locks, and no other."""
    if alarm.kind is not AlarmKind.LOCK_ORDER:
        return False
    takers = (f"{way}\n".split("\n")[1].strip() for way in alarm.ways)
    return {taker.partition("(")[0] for taker in takers} <= set(functions)


def _only_of(alarm: Alarm, function: str) -> bool:
    """Tell whether it is one block that is leaked, of this function's."""
    return alarm.kind is AlarmKind.LEAK and [f" by {function}() " in way for way in alarm.ways] == [
        True
    ]


KNOWN = (
    Known(LEAVES_LOCKS, lambda alarm: _names(alarm, AlarmKind.LOCK_INIT, "ctx->")),
    Known(
        GUESTS_DEADLOCK,
        lambda alarm: _between(alarm, "ffa_rx_acquire", "ffa_handle_rxtx_map", "rxtx_unmap"),
    ),
    Known(KEEPS_BITMAP, lambda alarm: _names(alarm, AlarmKind.SPMC, "something is pending")),
    Known(
        ANSWERS_AS_WIDE_AS_ASKED,
        lambda alarm: _names(alarm, AlarmKind.REGISTERS, "in an answer of 32 bits, 0x84000060"),
    ),
    # What the timer goes on with.
    Known(
        FREES_WHAT_THE_TIMER_NEEDS,
        lambda alarm: _only_of(alarm, "ffa_partinfo_domain_init"),
    ),
    Known(
        FORGETS_FAILED_VM,
        lambda alarm: "never created" in alarm.text and _only_of(alarm, "ffa_partinfo_domain_init"),
    ),
)
