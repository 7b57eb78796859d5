# SPDX-License-Identifier: GPL-2.0-only
"""What is wrong with Xen although no call has ended of it: locks in two orders, something leaked.

The machine looks for these in every call and at the end of every guest, without being asked, and
keeps them in `Machine.alarms`; a test that uses the fixture `xen` fails of them at its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class AlarmKind(Enum):
    """What an alarm is about."""

    LOCK_ORDER = "lock order"
    """Locks are taken in two orders: CPUs that meet deadlock."""
    LOCK_IRQ = "lock and interrupt"
    """A lock is taken with interrupts on, and by an interrupt."""
    LOCK_INIT = "lock not initialised"
    """A lock is taken that was never initialised; being zero, it works by chance."""
    DISCLOSED = "disclosed"
    """What Xen or another guest left in memory reaches a guest or the SPMC."""
    REGISTERS = "registers"
    """A call changes registers of the guest's that it has no say in."""
    HEAP = "heap"
    """A block of the heap was written to that was too short for it, or freed."""
    LEAK = "leak"
    """A guest is gone, and Xen still holds what it took while it worked for it."""
    ZOMBIE = "zombie"
    """A guest is dead and is never freed."""
    TIMER = "timer"
    """A timer goes on for ever with nothing left to do."""
    SPMC = "SPMC"
    """A guest is gone, and the secure world still has something of it."""


FROM_C = (
    AlarmKind.LOCK_ORDER,
    AlarmKind.LOCK_IRQ,
    AlarmKind.LOCK_INIT,
    AlarmKind.DISCLOSED,
    AlarmKind.REGISTERS,
)
"""By enum ffashim_alarm_kind of stubs/."""


@dataclass(frozen=True)
class Alarm:
    """Something that is wrong."""

    kind: AlarmKind
    text: str
    """What, in a line."""
    ways: tuple[str, ...] = ()
    """How it came about: Xen's files and lines, a line or more each."""

    @property
    def summary(self) -> str:
        """One line."""
        return f"{self.kind.value}: {self.text}"

    def __str__(self) -> str:
        lines = [line for way in self.ways for line in way.split("\n")]
        return "\n".join([self.summary, *(f"  {line}" for line in lines)])

    __repr__ = __str__
