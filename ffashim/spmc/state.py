# SPDX-License-Identifier: GPL-2.0-only
"""All of the secure world that changes: one small object, so that a snapshot is one shallow copy.

Values inside the containers are immutable and replaced when they change; a copy of the containers
is therefore a copy of everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from ffashim.ffa import FFA, HYPERVISOR_ID, Version
from ffashim.spmc.replies import Regs

if TYPE_CHECKING:
    from ffashim.spmc.partitions import DirectHandler, SecurePartition
    from ffashim.spmc.script import Rule


Handler = Callable[[Regs], Regs]
"""What an SPMC does about a function ID: registers in, registers out."""


class Range(NamedTuple):
    """A run of physical memory: base address in bytes, length in 4 KiB pages."""

    base: int
    pages: int

    @property
    def end(self) -> int:
        """First address after it."""
        return self.base + (self.pages << 12)

    def overlaps(self, other: Range) -> bool:
        """Whether the two have a byte in common."""
        return self.base < other.end and other.base < self.end


class Buffers(NamedTuple):
    """One RX/TX pair as registered with the SPMC (7.2.2).

    `held`: its owner may read RX. `acquired`: the hypervisor has taken RX to fill it (13.4).
    """

    tx: tuple[Range, ...]
    rx: tuple[Range, ...]
    held: bool = False
    acquired: bool = False


class Share(NamedTuple):
    """A memory region that an endpoint shared, until it is reclaimed (chapter 10).

    `borrowers` maps are (endpoint ID, permissions) pairs; `retrieved` are those that map it now.
    """

    handle: int
    sender: int
    borrowers: tuple[tuple[int, int], ...]
    ranges: tuple[Range, ...]
    tag: int
    impdef: tuple[bytes, ...]
    descriptor: bytes
    retrieved: frozenset[int] = frozenset()


class Delivered(NamedTuple):
    """An indirect message that reached a secure partition (15.1)."""

    sender: int
    receiver: int
    payload: bytes
    uuid: UUID


class Binding(NamedTuple):
    """Notifications of `receiver` that `sender` may set (chapter 9)."""

    sender: int
    bits: int
    per_vcpu: bool


class Bitmaps(NamedTuple):
    """The notifications of one endpoint (chapter 9): bindings, and what is pending from whom.

    `reported`: FFA_NOTIFICATION_INFO_GET has already named it since the last change; `named`: so
    many of its vCPUs with something pending, if there was no room for more.
    """

    vcpus: int
    bindings: tuple[Binding, ...] = ()
    pending: int = 0
    per_vcpu: tuple[tuple[int, int], ...] = ()
    from_vms: int = 0
    from_spm: int = 0
    reported: bool = False
    named: int = 0

    @property
    def any_pending(self) -> bool:
        """Whether the endpoint has something to collect."""
        return bool(self.pending or self.per_vcpu or self.from_vms or self.from_spm)


class Running(NamedTuple):
    """A direct request that an SP has not finished: it was preempted, or it yielded.

    `pauses`: how often FFA_RUN will find it so once more. `pause`: FFA_INTERRUPT or FFA_MSG_YIELD.
    """

    request: Regs
    pauses: int = 0
    pause: FFA = FFA.INTERRUPT


OWN_BUFFERS, OWN_RX = ("buffers", HYPERVISOR_ID), ("RX", HYPERVISOR_ID)
"""What of the hypervisor's can have ended: see `State.ended`."""


@dataclass(slots=True)
class State:
    """What an SPMC remembers between two SMCs.

    `ended`: what the hypervisor has given up, and not got since, by kind and endpoint. Giving it up
    again is an error, whereas it need not remember what it never got.
    """

    negotiated: Version | None
    abis: Mapping[int, Handler]
    partitions: tuple[SecurePartition, ...]
    by_id: dict[int, SecurePartition]
    handlers: dict[int, DirectHandler]
    hypervisor: Buffers | None
    buffers: dict[int, Buffers]
    shares: dict[int, Share]
    fragments: dict[int, tuple[int, bytes]]
    next_handle: int
    delivered: tuple[Delivered, ...]
    bitmaps: dict[int, Bitmaps]
    sp_bitmaps: dict[int, Bitmaps]
    running: dict[tuple[int, int], Running]
    created: frozenset[tuple[int, int]]
    destroyed: frozenset[tuple[int, int]]
    seen: frozenset[int]
    ended: frozenset[tuple[str, int]]
    tag: int
    rules: dict[int, tuple[Rule, ...]]
    overridden: bool
    scripted: bool

    def copy(self) -> State:
        """A copy that shares nothing mutable with this one."""
        new: State = object.__new__(State)
        for name in _PLAIN:
            setattr(new, name, getattr(self, name))
        for name in _DICTS:
            setattr(new, name, getattr(self, name).copy())
        rules = self.rules
        new.rules = {f: tuple(r.copy() for r in rs) for f, rs in rules.items()} if rules else {}
        return new


_DICTS = (
    "by_id", "handlers", "buffers", "shares", "fragments", "bitmaps", "sp_bitmaps", "running",
)  # fmt: skip
_PLAIN = tuple(f.name for f in fields(State) if f.name not in (*_DICTS, "rules"))
