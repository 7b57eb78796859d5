# SPDX-License-Identifier: GPL-2.0-only
"""A guest's memory: its RAM as the guest sees it, and what its frames are to Xen."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import TYPE_CHECKING

from ffashim.errors import UsageError

if TYPE_CHECKING:
    from ffashim.vm import Vm

PAGE = 4096


class P2m(Enum):
    """What a guest frame is to Xen: the p2m types of arch/arm, as far as FF-A can meet them."""

    RAM_RW = 0
    RAM_RO = 1
    UNMAPPED = 2
    MMIO = 3
    FOREIGN = 4
    """A page of another guest."""
    GRANT = 5
    """A page that another guest granted."""


def spread(parts: Iterable[memoryview], data: bytes) -> None:
    """Write bytes to parts of memory, one behind the other."""
    at = 0
    for part in parts:
        part[:] = data[at : at + len(part)]
        at += len(part)


class GuestMemory:
    """Intermediate physical addresses of one guest."""

    def __init__(self, vm: Vm, base: int, pages: int) -> None:
        self._vm = vm
        self.base = base
        """Where RAM starts."""
        self.pages = pages
        """How many pages of RAM there are, 4 KiB each."""

    @property
    def end(self) -> int:
        """The first address after RAM."""
        return self.base + self.pages * PAGE

    def allocate(self, pages: int = 1) -> int:
        """Return the address of pages in a row that nobody has asked for before."""
        machine = self._vm.machine
        used = machine._next_page.get(self._vm.slot, 0)
        if used + pages > self.pages:
            raise UsageError(
                f"{self._vm!r} has {self.pages} pages of RAM, {used} of them allocated: there are "
                f"no {pages} more. Create it with ram_pages={used + pages} or more."
            )
        machine._next_page[self._vm.slot] = used + pages
        return self.base + used * PAGE

    def read(self, address: int, size: int) -> bytes:
        """Read as the guest would. Raises UsageError where it has no memory."""
        return b"".join(bytes(part) for part in self._parts(address, size))

    def write(self, address: int, data: bytes) -> None:
        """Write as the guest would."""
        spread(self._parts(address, len(data)), data)

    def page(self, address: int) -> memoryview:
        """Return the page that holds an address: 4096 bytes, shared with Xen, until a reset."""
        machine = self._vm.machine
        pointer = machine.lib.ffashim_guest_page(self._vm.slot, address // PAGE)
        if pointer == machine.ffi.NULL:
            raise UsageError(f"{self._vm!r} has no memory at {address:#x}")
        return memoryview(machine.ffi.buffer(pointer, PAGE))

    def _parts(self, address: int, size: int) -> list[memoryview]:
        parts = []
        while size > 0:
            offset = address % PAGE
            length = min(PAGE - offset, size)
            parts.append(self.page(address)[offset : offset + length])
            address += length
            size -= length
        return parts

    def type(self, address: int) -> P2m:
        """Return what the frame at an address is to Xen."""
        return P2m(self._entry(address)[1])

    def set_type(self, address: int, kind: P2m) -> None:
        """Change what the frame at an address is to Xen; the page behind it stays."""
        mfn, _ = self._entry(address)
        self._set(address, kind, mfn)

    def map(self, address: int, other: GuestMemory, at: int, kind: P2m = P2m.FOREIGN) -> None:
        """Map another guest's page, or another one of this guest's, at an address."""
        mfn, _ = other._entry(at)
        self._set(address, kind, mfn)

    def machine_address(self, address: int) -> int:
        """Return the physical address behind a guest's."""
        mfn, _ = self._entry(address)
        return mfn * PAGE + address % PAGE

    def references(self, address: int) -> int:
        """Return how many references Xen itself has taken to the page and not given back."""
        machine = self._vm.machine
        return int(machine.lib.ffashim_page_refs(self._vm.slot, address // PAGE))

    def _entry(self, address: int) -> tuple[int, int]:
        machine = self._vm.machine
        kind = machine.ffi.new("uint32_t *")
        mfn = machine.lib.ffashim_p2m_get(self._vm.slot, address // PAGE, kind)
        return int(mfn), int(kind[0])

    def _set(self, address: int, kind: P2m, mfn: int) -> None:
        if address % PAGE:
            raise UsageError(f"{address:#x} is not the address of a page: no multiple of 4096")
        _require_type(kind)
        machine = self._vm.machine
        machine.lib.ffashim_p2m_set(self._vm.slot, address // PAGE, kind.value, mfn)


def _require_type(kind: object) -> None:
    if not isinstance(kind, P2m):
        values = ", ".join(f"P2m.{each.name}" for each in P2m)
        raise UsageError(f"{kind!r} is no type of a frame: want one of {values}")


class Buffer:
    """One page of a guest's that is its RX or TX buffer."""

    def __init__(self, memory: GuestMemory, address: int) -> None:
        self.memory = memory
        self.address = address

    def read(self, size: int = PAGE, offset: int = 0) -> bytes:
        """Read from it. Raises UsageError beyond its end."""
        self._require_inside(offset, size)
        return self.memory.read(self.address + offset, size)

    def write(self, data: bytes, offset: int = 0) -> None:
        """Write to it. Raises UsageError beyond its end."""
        self._require_inside(offset, len(data))
        self.memory.write(self.address + offset, data)

    def _require_inside(self, offset: int, size: int) -> None:
        if offset < 0 or size < 0 or offset + size > PAGE:
            raise UsageError(
                f"{size} bytes at offset {offset} of a buffer of {PAGE}: what lies beyond it is "
                "for GuestMemory.read() and write()"
            )
