# SPDX-License-Identifier: GPL-2.0-only
"""What would have hung or killed the hypervisor, raised as exceptions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ffashim.errors import FfashimError


@dataclass(frozen=True)
class Lock:
    """A lock that a CPU holds or waits for."""

    name: str
    """The expression in Xen's source, or its address."""
    mode: str
    """spin, read or write."""
    where: str
    """File and line at which it was taken or is waited for."""
    cpu: int

    def __str__(self) -> str:
        return f"CPU {self.cpu}: {self.name} ({self.mode}), {self.where}"


@dataclass(frozen=True)
class Report:
    """All that is known about how a call ended."""

    text: str
    """What is wrong."""
    where: str = ""
    """Xen's file and line."""
    backtrace: tuple[str, ...] = ()
    """Innermost first: function, file and line."""
    memory: tuple[str, ...] = ()
    """Who has allocated, and freed, the memory that was misused, where that is known."""
    earlier: tuple[str, ...] = ()
    """Where the bytes that are read twice were read first, and who called that."""
    locks: tuple[Lock, ...] = ()
    """Locks held at that moment, by any CPU."""
    waits: tuple[Lock, ...] = ()
    """Locks waited for."""
    console: tuple[str, ...] = ()
    """The end of Xen's console."""
    calls: tuple[str, ...] = field(default=())
    """The guest calls that led to it, oldest first, the one that ended last."""


class XenFault(FfashimError):
    """A call of Xen's ended in a way that no guest may bring about.

    The machine is stopped then: reset it, or restore a snapshot, before it is used again.
    """

    headline = "Xen failed"

    def __init__(self, report: Report) -> None:
        super().__init__(report)
        self.report = report

    @property
    def summary(self) -> str:
        """One line: what is wrong, and where in Xen."""
        at = f" at {self.report.where}" if self.report.where else ""
        return f"{self.headline}: {self.report.text}{at}"

    def __str__(self) -> str:
        report = self.report
        at = f"\n  at {report.where}" if report.where else ""
        sections: Sequence[tuple[str, Sequence[object]]] = (
            ("called from", report.backtrace),
            ("the memory was", report.memory),
            ("earlier", report.earlier),
            ("locks held", report.locks),
            ("waiting for", report.waits),
            ("console", report.console),
            ("guest calls", report.calls),
        )
        body = "".join(
            f"\n  {title}:" + "".join(f"\n    {line}" for line in lines)
            for title, lines in sections
            if lines
        )
        return f"{self.headline}: {report.text}{at}{body}"


def alike(summary: str) -> str:
    """Return what summaries of the same kind at the same place of Xen have in common; what they say
    may hold values that differ from test to test.
    """
    headline, colon, rest = summary.partition(": ")
    where = rest.rpartition(" at ")[2]
    return f"{headline} at {where}" if colon and _PLACE.fullmatch(where) else summary


_PLACE = re.compile(r"\S+:\d+")


class XenAssertion(XenFault):
    """ASSERT() failed."""

    headline = "ASSERT failed"


class XenBug(XenFault):
    """BUG() or BUG_ON() was reached."""

    headline = "BUG"


class XenPanic(XenFault):
    """panic() was called."""

    headline = "panic"


class XenDeadlock(XenFault):
    """A lock is waited for that will never be released."""

    headline = "deadlock"


class XenUnlock(XenFault):
    """A lock was released by a CPU that does not hold it."""

    headline = "unlock without lock"


class XenHeld(XenFault):
    """A call returned with a lock, an RCU section or interrupts not put back."""

    headline = "held at return"


class XenAccess(XenFault):
    """A NULL or wild pointer, a mapping that is gone, a write past the end of a page."""

    headline = "bad access"


class XenHang(XenFault):
    """A call does not end."""

    headline = "endless loop"


class XenMemory(XenFault):
    """The heap, a page reference or a mapping was misused."""

    headline = "memory misuse"


class XenUnmodelled(XenFault):
    """Xen called a part of itself that this machine does not have."""

    headline = "not modelled"


class XenUndefined(XenFault):
    """C gives no meaning to what was done: a shift too far, an index out of its array.

    Only seen in a build with --sanitize=undefined.
    """

    headline = "undefined behaviour"


class XenDoubleFetch(XenFault):
    """Memory that a guest shares was read twice in one call, and may have changed in between.

    Only seen in a build with --sanitize=double-fetch.
    """

    headline = "double fetch"


class Blocked(FfashimError):
    """A call waits for a lock whose holder cannot go on before this returns.

    That happens inside an SPMC script, whose answer the holder waits for. Start the call with
    `Vcpu.start()` there, and fetch its reply once the script has returned.
    """
