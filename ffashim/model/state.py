# SPDX-License-Identifier: GPL-2.0-only
"""What a hypervisor has to remember of its guests: immutable, so that any moment can be kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from ffashim.descriptors import PartitionInfo
from ffashim.ffa import FFA, PAGE_SIZE, PartitionProperty, Version
from ffashim.model.profile import Profile


class Source(Enum):
    """Who has notified a guest."""

    SECURE = "the secure world"
    HYPERVISOR = "the hypervisor"


@dataclass(frozen=True)
class Buffers:
    """A pair of RX/TX buffers (7.2.2)."""

    tx: int
    rx: int
    pages: int = 1
    owned: bool = False
    """The guest owns RX: it was filled, and has not been released (7.2.2.2)."""
    filled_below: bool = False
    """It was the SPMC that filled it: the hypervisor finds out when it asks (13.4)."""

    @property
    def addresses(self) -> tuple[int, ...]:
        """Every page of the two."""
        return tuple(base + n * PAGE_SIZE for base in (self.tx, self.rx) for n in range(self.pages))


@dataclass(frozen=True)
class Region:
    """Memory that a guest shares (chapter 10): the handle that it was told, and its pages."""

    handle: int
    pages: tuple[int, ...]


@dataclass(frozen=True)
class Guest:
    """A guest with FF-A.

    ram: its first address, and the first one after it. barred: pages within that are not its own
        memory to read and write.
    version: what FFA_VERSION has selected. settled: another call has followed, so that it stays
        (13.2.1).
    shares: what it shares with secure partitions.
    rx_full: the hypervisor's notification that RX is full is pending (9.7).
    news: whose notifications FFA_NOTIFICATION_INFO_GET has yet to tell it of (17.7).
    offline: vCPUs that cannot take an interrupt.
    """

    id: int
    bits: int
    ram: tuple[int, int]
    vcpus: int = 1
    version: Version | None = None
    settled: bool = False
    buffers: Buffers | None = None
    barred: frozenset[int] = frozenset()
    shares: frozenset[Region] = frozenset()
    rx_full: bool = False
    news: frozenset[Source] = frozenset()
    offline: frozenset[int] = frozenset()

    def has(self, address: int, pages: int) -> bool:
        """Whether these pages are all RAM of the guest's, to read and write."""
        end = address + pages * PAGE_SIZE
        if address < self.ram[0] or end > self.ram[1]:
            return False
        return not any(address < page + PAGE_SIZE and page < end for page in self.barred)

    @property
    def held(self) -> list[int]:
        """Its pages that others use: of buffers and of what it shares, once for each use."""
        pages = self.buffers.addresses if self.buffers else ()
        return [*pages, *(page for region in self.shares for page in region.pages)]


@dataclass(frozen=True)
class Secure:
    """The secure world, as far as a hypervisor has to know it. What it answers, nobody foresees.

    version: of FF-A between hypervisor and SPMC, None: there is no SPMC.
    calls: what the SPMC implements.
    partitions: what it lists for the Nil UUID, one descriptor a UUID.
    """

    version: Version | None = None
    calls: frozenset[FFA] = frozenset()
    partitions: tuple[PartitionInfo, ...] = ()

    @property
    def knows_buffers(self) -> bool:
        """Whether guests' buffers are the SPMC's business: it has FFA_RX_ACQUIRE (13.4, 7.2.2)."""
        return FFA.RX_ACQUIRE in self.calls


@dataclass(frozen=True)
class System:
    """Everything that the outcome of a call depends on.

    secure: what lies below.
    running: secure partitions that have not finished a request, and whose: (partition, caller).
    tag: of the partition list in FFA_PARTITION_INFO_GET_REGS, None until a guest has seen it.
    retired: tags of lists that are no more.
    places: which guest was at which index of which guest's list: (caller, index, endpoint).
    """

    profile: Profile
    secure: Secure = Secure()
    guests: tuple[Guest, ...] = ()
    running: frozenset[tuple[int, int]] = frozenset()
    tag: int | None = None
    retired: frozenset[int] = frozenset()
    places: frozenset[tuple[int, int, int]] = frozenset()

    def guest(self, endpoint: int) -> Guest:
        """Return the guest with this ID."""
        return next(each for each in self.guests if each.id == endpoint)

    def known(self, endpoint: int) -> Guest | None:
        """Return the guest with this ID, if others know of it."""
        found = (each for each in self.guests if each.id == endpoint and self.lists(each))
        return next(found, None)

    def having(self, guest: Guest) -> System:
        """Return the system with this guest, new or instead of the one with its ID."""
        known = any(each.id == guest.id for each in self.guests)
        if not known:
            return replace(self, guests=(*self.guests, guest))
        guests = tuple(guest if each.id == guest.id else each for each in self.guests)
        return replace(self, guests=guests)

    def without(self, endpoint: int) -> System:
        """Return the system after a guest has died."""
        gone = self.guest(endpoint)
        guests = tuple(each for each in self.guests if each is not gone)
        running = frozenset(pair for pair in self.running if pair[1] != endpoint)
        left = replace(self, guests=guests, running=running)
        return left.relisted() if self.lists(gone) else left

    def lists(self, guest: Guest) -> bool:
        """Whether a guest is in the lists of others, where guests see each other."""
        early = self.profile.lists_from_version_on and guest.version is not None
        return guest.settled or early

    def speaking(self, guest: Guest, version: Version) -> System:
        """Return the system after FFA_VERSION has selected a version for a guest."""
        return self._entered(guest, replace(guest, version=version))

    def settled(self, guest: Guest) -> System:
        """Return the system after a guest's first call but FFA_VERSION: it is in the list now."""
        if guest.version is None or guest.settled:
            return self
        return self._entered(guest, replace(guest, settled=True))

    def _entered(self, before: Guest, now: Guest) -> System:
        after = self.having(now)
        return after.relisted() if self.lists(now) and not self.lists(before) else after

    def relisted(self) -> System:
        """Return the system with another list of partitions, and so with another tag (13.9).

        Where guests do not see each other the list of each is always the same.
        """
        if not self.profile.vm_to_vm or self.tag is None:
            return self
        return replace(self, tag=None, retired=self.retired | {self.tag}, places=frozenset())

    def described(self, guest: Guest) -> PartitionInfo:
        """Return what endpoints are told of a guest, which has no UUID (Table 13.37)."""
        properties = self.profile.guest_properties
        if guest.bits == 64:
            properties |= PartitionProperty.AARCH64_STATE
        return PartitionInfo(guest.id, guest.vcpus, int(properties))
