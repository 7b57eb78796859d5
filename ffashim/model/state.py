# SPDX-License-Identifier: GPL-2.0-only
"""What a hypervisor has to remember of its guests: immutable, so that any moment can be kept."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ffashim.descriptors import PartitionInfo
from ffashim.ffa import PAGE_SIZE, PartitionProperty, Version
from ffashim.model.profile import Profile


@dataclass(frozen=True)
class Buffers:
    """A pair of RX/TX buffers (7.2.2)."""

    tx: int
    rx: int
    pages: int = 1
    owned: bool = False
    """The guest owns RX: it was filled, and has not been released (7.2.2.2)."""

    @property
    def addresses(self) -> frozenset[int]:
        """Every page of the two."""
        return frozenset(
            base + n * PAGE_SIZE for base in (self.tx, self.rx) for n in range(self.pages)
        )


@dataclass(frozen=True)
class Guest:
    """A guest with FF-A.

    ram: its first address, and the first one after it.
    version: what FFA_VERSION has selected. settled: another call has followed, so that it stays
        (13.2.1).
    """

    id: int
    bits: int
    ram: tuple[int, int]
    vcpus: int = 1
    version: Version | None = None
    settled: bool = False
    buffers: Buffers | None = None

    def has(self, address: int, pages: int) -> bool:
        """Whether these pages are all RAM of the guest's."""
        return self.ram[0] <= address and address + pages * PAGE_SIZE <= self.ram[1]


@dataclass(frozen=True)
class System:
    """Everything that the outcome of a call depends on.

    partitions: what the SPMC lists for the Nil UUID, one descriptor a UUID.
    tag: of the partition list in FFA_PARTITION_INFO_GET_REGS, None until a guest has seen it.
    retired: tags of lists that are no more.
    places: which guest was at which index of which guest's list: (caller, index, endpoint).
    """

    profile: Profile
    partitions: tuple[PartitionInfo, ...] = ()
    guests: tuple[Guest, ...] = ()
    tag: int | None = None
    retired: frozenset[int] = frozenset()
    places: frozenset[tuple[int, int, int]] = frozenset()

    def guest(self, endpoint: int) -> Guest:
        """Return the guest with this ID."""
        return next(each for each in self.guests if each.id == endpoint)

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
        left = replace(self, guests=tuple(each for each in self.guests if each is not gone))
        return left.relisted() if gone.settled else left

    def settled(self, guest: Guest) -> System:
        """Return the system after a guest's first call but FFA_VERSION: it is in the list now."""
        if guest.version is None or guest.settled:
            return self
        return self.having(replace(guest, settled=True)).relisted()

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
