# SPDX-License-Identifier: GPL-2.0-only
"""What Xen has taken and is to give back, for which guest, in which call, and where in its source.

What is still there once the guest is gone has leaked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from ffashim.alarms import Alarm, AlarmKind
from ffashim.told import call_name

if TYPE_CHECKING:
    from ffashim.machine import Machine

MOST = 4096
"""How many of them are looked at."""


class HoldingKind(Enum):
    """What can be held, by enum ffashim_holding_kind of stubs/."""

    BLOCK = "block of the heap"
    PAGES = "run of Xen's own pages"
    PAGE_REF = "reference to a page"
    MAPPING = "mapping of a page"
    DOMAIN_REF = "reference to a domain"


@dataclass(frozen=True)
class Holding:
    """Something that Xen has taken."""

    kind: HoldingKind
    call: str
    """In which call, such as "FFA_MEM_SHARE_64"."""
    where: str
    """By which code."""
    count: int
    """How many references, else 1."""
    size: int
    """Bytes of a block or of pages, else 0."""

    def __str__(self) -> str:
        count = f"{self.count} times a" if self.count > 1 else "a"
        size = f" ({self.size} bytes)" if self.size else ""
        return f"{count} {self.kind.value}{size}, taken by {self.where} in {self.call}"


def holdings(machine: Machine, owner: int = 0) -> list[Holding]:
    """Return what Xen holds for a guest, or (0) for all and itself; what is alike is one entry."""
    lib = machine.lib
    raw = machine.ffi.new("ffashim_holding[]", MOST)
    found: Counter[Holding] = Counter()
    for n in range(min(MOST, lib.ffashim_holdings(owner, raw, MOST))):
        kind = tuple(HoldingKind)[raw[n].kind]
        size = int(raw[n].what) if kind in (HoldingKind.BLOCK, HoldingKind.PAGES) else 0
        where = str(machine.told.site(raw[n].caller, raw[n].outer))
        one = Holding(kind, call_name(raw[n].call), where, 1, size)
        found[one] += int(raw[n].count)
    return [replace(one, count=count) for one, count in found.items()]


def leaks(machine: Machine, owner: int, who: str) -> Iterator[Alarm]:
    """Yield an alarm if something is held for an owner that is gone."""
    if not machine.lib.ffashim_holdings(owner, machine.ffi.NULL, 0):
        return
    ways = tuple(map(str, holdings(machine, owner)))
    yield Alarm(AlarmKind.LEAK, f"{who} is gone, and Xen still holds for it", ways)
