# SPDX-License-Identifier: GPL-2.0-only
"""What Xen reads of memory that a guest shares with it, in a build for ``--sanitize=double-fetch``.

Another vCPU of the guest may write to that memory at any time. What Xen has checked and then reads
again need not be what it has checked: the second read of a byte in one call is an error, unless it
is among :data:`HARMLESS`. docs/double-fetch.md tells how the reads are seen.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ffashim.ffa import FFA, V1_1, V1_2, Version
from ffashim.memory import PAGE
from ffashim.symbols import Place, of_xen

if TYPE_CHECKING:
    from ffashim.machine import Machine
    from ffashim.vm import Vm

SANITIZER = "double-fetch"
"""How the sanitizers' names start that make a build in which fetches are seen."""


class Access:
    """A read, or a write, of Xen's to memory that a guest shares with it."""

    def __init__(self, machine: Machine, raw: Any) -> None:
        self.machine = machine
        self._frames = [int(raw.frame[n]) for n in range(raw.frames)]
        self.fid = int(raw.fid)
        """The function that the guest has called, see `FFA`; 0 for what no guest has."""
        self.machine_address = int(raw.ma)
        """The physical address of the first byte."""
        self.size = int(raw.size)
        """Bytes. An access does not leave its page."""
        self.write = bool(raw.write)

    @property
    def vm(self) -> Vm | None:
        """The guest in whose RAM the bytes lie; None if it is no more."""
        return self._owner()[0]

    @property
    def address(self) -> int:
        """Where that guest has the first byte, an intermediate physical address."""
        return self._owner()[1]

    @property
    def offset(self) -> int:
        """The same in its page."""
        return self.machine_address % PAGE

    @property
    def chain(self) -> tuple[Place, ...]:
        """Where Xen makes the access, and who called that, innermost first."""
        return tuple(of_xen(self.machine.told.places(self._frames)))

    @property
    def place(self) -> Place:
        """Where Xen makes the access."""
        return self.chain[0]

    @property
    def page(self) -> memoryview:
        """The whole page, shared with Xen."""
        machine = self.machine
        page = machine.lib.ffashim_ram_page(self.machine_address)
        return memoryview(machine.ffi.buffer(page, PAGE))

    @property
    def data(self) -> memoryview:
        """The bytes, shared with Xen: what is assigned to them is what it reads next."""
        return self.page[self.offset : self.offset + self.size]

    def _owner(self) -> tuple[Vm | None, int]:
        for vm in self.machine.vms.values():
            into = self.machine_address - vm.memory.machine_address(vm.memory.base)
            if 0 <= into < vm.memory.pages * PAGE:
                return vm, vm.memory.base + into
        return None, self.machine_address

    def __str__(self) -> str:
        vm, address = self._owner()
        whose = f"domain {vm.domid}'s" if vm else "a guest's"
        verb = "write" if self.write else "read"
        return f"{verb} of {self.size} bytes of {whose} {address:#x} in {self.place}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self}>"


class Fetch(Access):
    """A read that Xen is about to make."""

    def __init__(self, machine: Machine, cpu: int, raw: Any, before: Any) -> None:
        super().__init__(machine, raw)
        self.cpu = cpu
        self.first = Access(machine, before) if before else None
        """The first read of one of these bytes in the same call; if there is none, the last write
        of Xen's own to one of them; or None."""


def fetch_of(machine: Machine, cpu: int) -> Fetch:
    """Return the read that a CPU has stopped at."""
    all_of_them = machine.ffi.new("const ffashim_access **")
    count = machine.lib.ffashim_accesses(cpu, all_of_them)
    before = machine.lib.ffashim_accessed_before(cpu)
    return Fetch(machine, cpu, all_of_them[0][count - 1], before)


# --- what is no error -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Harmless:
    """Second reads that have been looked at, and why nothing can come of them."""

    calls: tuple[FFA, ...]
    """In which they are made."""
    applies: Callable[[Fetch, Access], bool]
    """Told the second read and the first; looks at what is read, whatever the tree."""
    why: str


def _version(fetch: Fetch) -> Version:
    vm = fetch.vm
    return (vm.version if vm else None) or Version(1, 0)


_HEADER, _HEADER_1_2 = 20, 40
"""Bytes before a message's payload."""


def _compared_only(fetch: Fetch, first: Access) -> bool:
    header = fetch.offset + fetch.size <= _HEADER_1_2
    return header and not fetch.machine.extension.enabled("FFA_VM_TO_VM")


def _payload_behind_a_short_header(fetch: Fetch, first: Access) -> bool:
    copied = (first.offset, first.size) == (0, _HEADER_1_2)
    return copied and _version(fetch) < V1_2 and _HEADER <= fetch.offset < _HEADER_1_2


def _parts_overlap(fetch: Fetch, first: Access) -> bool:
    header, size, access = 32, 16, 32
    if _version(fetch) >= V1_1:
        header = 48
        size, _, access = struct.unpack_from("<III", fetch.page, 24)
    if access + 8 > PAGE:
        return False
    (region,) = struct.unpack_from("<I", fetch.page, access + 4)
    return bool(access < header or region < access + size)


HARMLESS = (
    Harmless(
        (FFA.MSG_SEND2,),
        _compared_only,
        "without messages between guests Xen only compares what it reads: the SPMC reads the "
        "message itself, and has to check it as well",
    ),
    Harmless(
        (FFA.MSG_SEND2,),
        _payload_behind_a_short_header,
        "the header of a guest below 1.2 is copied as if it were one of 1.2; the bytes that are "
        "its payload are not used in that copy",
    ),
    Harmless(
        (FFA.MEM_SHARE_32, FFA.MEM_SHARE_64),
        _parts_overlap,
        "the guest has laid parts of the descriptor over each other; Xen checks each part for "
        "what it is, and reads it once as that",
    ),
)


def reason(fetch: Fetch) -> str | None:
    """Return why a second read is no error, None if it is one."""
    first = fetch.first
    assert first is not None
    # What Xen has written is another matter: none of the reasons is about that.
    if first.write:
        return None
    for entry in HARMLESS:
        if fetch.fid in entry.calls and entry.applies(fetch, first):
            return entry.why
    return None
