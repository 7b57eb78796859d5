# SPDX-License-Identifier: GPL-2.0-only
"""What guests say in tests of memory sharing, messages and notifications, and in probes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from ffashim import capabilities
from ffashim.descriptors import (
    NIL,
    CompositeRegion,
    Constituent,
    IndirectMessage,
    MemoryAccess,
    MemoryTransaction,
)
from ffashim.ffa import FFA, MEM_PERM_RW, V1_1, Version
from ffashim.machine import Machine
from ffashim.memory import PAGE
from ffashim.reply import Reply
from ffashim.vm import Vcpu, Vm

SP = 0x8001
"""The first of the default partitions: it takes every kind of message."""
NO_SP = 0x80FF
"""A secure endpoint that does not exist."""
UPPER = 0xA5A5_A5A5_0000_0000
"""What a guest may leave in the upper half of a register that a call of 32 bits uses."""


def guest(machine: Machine, *, buffers: bool = True, bits: int = 64, vcpus: int = 1) -> Vm:
    """A guest of the highest version."""
    vm = machine.create_vm(bits=bits, vcpus=vcpus)
    vm.negotiate(str(capabilities.highest_version(machine)))
    if buffers:
        vm.map_rxtx()
    return vm


def one_bit_off(vm: Vm) -> list[int]:
    """Endpoint IDs that a guest's own is taken for if a bit of it is not looked at."""
    return [vm.id ^ 1 << bit for bit in range(16)]


def soiled(*registers: int) -> tuple[int, ...]:
    """Arguments of a 32-bit call in registers whose upper halves hold something."""
    return tuple(value | UPPER for value in registers)


def version_of(vm: Vm) -> Version:
    """The layout of the structures that this guest uses: 1.0 until it has negotiated."""
    return vm.version or Version(1, 0)


# --- what is held ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Footprint:
    """What Xen holds at a moment: allocations, mappings of guest pages, timers."""

    heap: tuple[int, ...]
    mappings: tuple[int, ...]
    timers: int


def footprint(machine: Machine) -> Footprint:
    """Return what Xen holds now, to be compared with what it holds later."""
    blocks = tuple(sorted(block.serial for block in machine.heap))
    return Footprint(blocks, tuple(sorted(machine.mappings)), machine.timers)


def references(vm: Vm, address: int, pages: int = 1) -> list[int]:
    """How many references Xen holds to each of these pages."""
    return [vm.memory.references(address + n * PAGE) for n in range(pages)]


# --- memory ------------------------------------------------------------------------------------


def region(*ranges: tuple[int, int]) -> CompositeRegion:
    """A composite region of (address, pages) ranges."""
    return CompositeRegion(tuple(Constituent(*each) for each in ranges))


def transaction(
    vm: Vm,
    *ranges: tuple[int, int],
    receiver: int = SP,
    permissions: int = MEM_PERM_RW,
    **fields: Any,
) -> MemoryTransaction:
    """What a guest sends to share memory: these ranges, or one new page of its RAM."""
    memory = region(*(ranges or [(vm.memory.allocate(), 1)]))
    return MemoryTransaction(vm.id, (MemoryAccess(receiver, permissions),), memory, **fields)


def share(vm: Vm, what: MemoryTransaction | bytes | None = None, fid: int | None = None) -> Reply:
    """Put a descriptor into TX, in the guest's version, and call FFA_MEM_SHARE.

    Of one that is longer than TX, Xen is told the length, and the buffer has what fits.
    """
    if what is None:
        what = transaction(vm)
    data = what if isinstance(what, bytes) else what.encode(version_of(vm))
    vm.tx.write(data[:PAGE])
    if fid is None:
        fid = FFA.MEM_SHARE_64 if vm.bits == 64 else FFA.MEM_SHARE_32
    return vm.smc(fid, len(data), len(data))


def handle_of(reply: Reply) -> int:
    """The handle that FFA_MEM_SHARE returned."""
    assert reply.ok, reply
    return reply.w(3) << 32 | reply.w(2)


def reclaim(vm: Vcpu, handle: int, flags: int = 0) -> Reply:
    """Call FFA_MEM_RECLAIM."""
    return vm.smc(FFA.MEM_RECLAIM, handle & 0xFFFFFFFF, handle >> 32, flags)


# --- messages ----------------------------------------------------------------------------------


def message(vm: Vm, receiver: int, payload: bytes, uuid: UUID = NIL, **fields: Any) -> bytes:
    """An indirect message with the header of the guest's version."""
    version = max(version_of(vm), V1_1)
    return IndirectMessage(vm.id, receiver, payload, uuid, **fields).encode(version)


def send2(vm: Vm, receiver: int, payload: bytes = b"hello", **fields: Any) -> Reply:
    """Put a message, as much of it as there is room for, into TX and call FFA_MSG_SEND2."""
    vm.tx.write(message(vm, receiver, payload, **fields)[:PAGE])
    return vm.smc(FFA.MSG_SEND2)


def direct(
    vcpu: Vcpu, *payload: int, receiver: int = SP, fid: int = FFA.MSG_SEND_DIRECT_REQ_32
) -> Reply:
    """Send a direct request; the payload goes into x3 and on."""
    return vcpu.smc(fid, vcpu.vm.id << 16 | receiver, 0, *payload)


# --- notifications -----------------------------------------------------------------------------


def bind(vm: Vm, bits: int, sender: int = SP) -> Reply:
    """Bind global notifications of a secure partition."""
    return vm.smc(FFA.NOTIFICATION_BIND, sender << 16 | vm.id, 0, bits & 0xFFFFFFFF, bits >> 32)
