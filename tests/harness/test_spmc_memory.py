# SPDX-License-Identifier: GPL-2.0-only
"""The SPMC's memory sharing: strict about what a hypervisor may send."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ffashim.descriptors import CompositeRegion, Constituent, MemoryAccess, MemoryTransaction
from ffashim.errors import UsageError
from ffashim.ffa import FFA, V1_0, V1_1, V1_2, FfaError, Version, error_code
from ffashim.spmc import Range, SecurePartition, Spmc
from ffashim.spmc.flat import TX, FlatHost

VM, SP, SP2 = 3, 0x8001, 0x8002
RANGES = (Constituent(0x10000, 2), Constituent(0x20000))
SHARE = MemoryTransaction(VM, (MemoryAccess(SP),), CompositeRegion(RANGES), tag=5)


def booted(version: str = "1.2") -> FlatHost:
    host = FlatHost(Spmc(version, [SecurePartition(SP), SecurePartition(SP2)]))
    host.boot(version)
    return host


def rules(host: FlatHost) -> list[str]:
    return sorted({v.rule for v in host.spmc.violations})


def send(host: FlatHost, data: bytes) -> tuple[int, ...]:
    host.write(TX, data)
    return host.smc(FFA.MEM_SHARE_64, len(data), len(data))


def shared(host: FlatHost, t: MemoryTransaction = SHARE, version: Version = V1_2) -> int:
    reply = send(host, t.encode(version))
    assert reply[0] == FFA.SUCCESS_32, error_code(reply[2])
    return reply[3] << 32 | reply[2]


@pytest.mark.parametrize(
    ("version", "layout"), [("1.0", V1_0), ("1.1", V1_1), ("1.2", V1_2), ("1.3", V1_2)]
)
def test_memory_is_shared_and_reclaimed(version: str, layout: Version) -> None:
    host = booted(version)
    handle = shared(host, SHARE, layout)
    share = host.spmc.memory.shares[handle]
    assert share.ranges == (Range(0x10000, 2), Range(0x20000, 1))
    assert (share.sender, share.borrowers, share.tag) == (VM, ((SP, 2),), 5)
    assert host.spmc.residue(VM)[0] == f"VM {VM} still shares 3 pages, handle {handle:#x}"
    reply = host.smc(FFA.MEM_RECLAIM, handle & 0xFFFFFFFF, handle >> 32)
    assert reply[0] == FFA.SUCCESS_32
    assert not host.spmc.memory.shares
    assert not rules(host)


def test_handles_use_both_halves_and_are_not_used_again() -> None:
    host = booted()
    first = shared(host)
    assert first >> 32
    assert first & 0xFFFFFFFF
    assert not first >> 63
    host.smc(FFA.MEM_RECLAIM, first & 0xFFFFFFFF, first >> 32)
    assert shared(host) != first


def test_implementation_defined_bytes_arrive() -> None:
    host = booted()
    handle = shared(host, replace(SHARE, receivers=(MemoryAccess(SP, impdef=bytes(range(16))),)))
    assert host.spmc.memory.shares[handle].impdef == (bytes(range(16)),)


def test_1_1_access_descriptors_are_taken_in_1_2_and_noted() -> None:
    host = booted()
    shared(host, replace(SHARE, access_size=16))
    assert not rules(host)
    assert [n.rule for n in host.spmc.notes] == ["mem-share"]


TWO = (MemoryAccess(SP), MemoryAccess(SP2))
BENT = {
    "sender 0": replace(SHARE, sender=0),
    "sender is an SP": replace(SHARE, sender=SP),
    "NS attribute": replace(SHARE, attributes=0x6F),
    "reserved attribute": replace(SHARE, attributes=0x12F),
    "no memory type": replace(SHARE, attributes=0x0F),
    "reserved shareability": replace(SHARE, attributes=0x2D),
    "clear flag": replace(SHARE, flags=1),
    "lend flag": replace(SHARE, flags=2 << 3),
    "handle": replace(SHARE, handle=1),
    "reserved": replace(SHARE, reserved=1),
    "no receiver": replace(SHARE, access_count=0),
    "unaligned receivers": replace(SHARE, access_offset=56),
    "receivers in the header": replace(SHARE, access_offset=32),
    "size of receivers": replace(SHARE, access_size=24),
    "tiny receivers": replace(SHARE, access_size=8),
    "too many receivers": replace(SHARE, access_count=500),
    "receiver twice": replace(SHARE, receivers=(MemoryAccess(SP), MemoryAccess(SP))),
    "no access": replace(SHARE, receivers=(MemoryAccess(SP, 0),)),
    "executable": replace(SHARE, receivers=(MemoryAccess(SP, 0xA),)),
    "access flags": replace(SHARE, receivers=(MemoryAccess(SP, flags=2),)),
    "access reserved": replace(SHARE, receivers=(MemoryAccess(SP, reserved=1),)),
    "region unaligned": replace(SHARE, composite_offset=84),
    "region in the header": replace(SHARE, receivers=(MemoryAccess(SP, composite_offset=8),)),
    "region outside": replace(SHARE, receivers=(MemoryAccess(SP, composite_offset=4096),)),
    "no ranges": replace(SHARE, composite=CompositeRegion(())),
    "empty range": replace(SHARE, composite=CompositeRegion((Constituent(0x10000, 0),))),
    "unaligned range": replace(SHARE, composite=CompositeRegion((Constituent(0x10800),))),
    "wrapping range": replace(SHARE, composite=CompositeRegion((Constituent(2**64 - 4096, 2),))),
    "wrong total": replace(SHARE, composite=CompositeRegion(RANGES, total_pages=4)),
    "region reserved": replace(SHARE, composite=CompositeRegion(RANGES, reserved=1)),
    "range reserved": replace(SHARE, composite=CompositeRegion((Constituent(0x10000, 1, 1),))),
    "range count": replace(SHARE, composite=CompositeRegion(RANGES, range_count=9)),
}


@pytest.mark.parametrize("bent", BENT.values(), ids=BENT.keys())
def test_a_descriptor_that_the_specification_forbids_is_a_violation(
    bent: MemoryTransaction,
) -> None:
    host = booted()
    assert error_code(send(host, bent.encode(V1_2))[2]) is FfaError.INVALID_PARAMETERS
    assert rules(host) == ["mem-share"]
    assert not host.spmc.memory.shares


def test_bytes_behind_the_descriptor_are_a_violation() -> None:
    host = booted()
    send(host, SHARE.encode(V1_2) + bytes(16))
    assert rules(host) == ["mem-share"]


def test_receivers_of_different_regions_are_a_violation() -> None:
    host = booted()
    two = (MemoryAccess(SP), MemoryAccess(SP2, composite_offset=128))
    send(host, replace(SHARE, receivers=two).encode(V1_2))
    assert rules(host) == ["mem-share"]


def test_several_receivers_can_borrow() -> None:
    host = booted()
    handle = shared(host, replace(SHARE, receivers=TWO))
    assert [b[0] for b in host.spmc.memory.shares[handle].borrowers] == [SP, SP2]


def test_a_page_that_is_listed_twice_is_refused_and_noted() -> None:
    host = booted()
    twice = CompositeRegion((Constituent(0x10000, 2), Constituent(0x11000)))
    reply = send(host, replace(SHARE, composite=twice).encode(V1_2))
    assert error_code(reply[2]) is FfaError.INVALID_PARAMETERS
    assert [note.rule for note in host.spmc.notes] == ["mem-overlap"]


def test_the_hypervisors_own_buffers_are_not_for_sharing() -> None:
    host = booted()
    own = CompositeRegion((Constituent(TX),))
    reply = send(host, replace(SHARE, composite=own).encode(V1_2))
    assert error_code(reply[2]) is FfaError.DENIED
    assert rules(host) == ["mem-own"]


def test_memory_that_is_shared_already_is_denied_without_blaming_the_hypervisor() -> None:
    host = booted()
    shared(host)
    assert error_code(send(host, SHARE.encode(V1_2))[2]) is FfaError.DENIED
    assert not rules(host)


def test_an_unknown_receiver_is_refused_without_blaming_the_hypervisor() -> None:
    host = booted()
    reply = send(host, replace(SHARE, receivers=(MemoryAccess(0x80FF),)).encode(V1_2))
    assert error_code(reply[2]) is FfaError.INVALID_PARAMETERS
    assert not rules(host)


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ((128, 128, 0x8000, 1), FfaError.NOT_SUPPORTED),
        ((128, 128, 0, 1), FfaError.INVALID_PARAMETERS),
        ((128, 0), FfaError.INVALID_PARAMETERS),
        ((128, 256), FfaError.INVALID_PARAMETERS),
        ((8192, 8192), FfaError.INVALID_PARAMETERS),
    ],
)
def test_lengths_and_buffers_that_do_not_fit_are_a_violation(
    args: tuple[int, ...], error: FfaError
) -> None:
    host = booted()
    assert error_code(host.smc(FFA.MEM_SHARE_64, *args)[2]) is error
    assert rules(host) == ["mem-share"]


def test_a_descriptor_may_come_in_fragments() -> None:
    host = booted()
    data = SHARE.encode(V1_2)
    host.write(TX, data[:50])
    reply = host.smc(FFA.MEM_SHARE_64, len(data), 50)
    assert (reply[0], reply[3]) == (FFA.MEM_FRAG_RX, 50)
    host.write(TX, data[50:100])
    again = host.smc(FFA.MEM_FRAG_TX, reply[1], reply[2], 50)
    assert again[:4] == (FFA.MEM_FRAG_RX, reply[1], reply[2], 100)
    host.write(TX, data[100:])
    done = host.smc(FFA.MEM_FRAG_TX, reply[1], reply[2], len(data) - 100)
    assert done[:4] == (FFA.SUCCESS_32, 0, reply[1], reply[2])
    assert not rules(host)
    host.smc(FFA.MEM_FRAG_TX, reply[1], reply[2], 1)
    assert rules(host) == ["mem-frag"]


def test_reclaiming_what_is_not_shared_is_a_violation() -> None:
    host = booted()
    assert error_code(host.smc(FFA.MEM_RECLAIM, 1, 2)[2]) is FfaError.INVALID_PARAMETERS
    assert rules(host) == ["mem-reclaim"]


def test_reclaim_flags_that_are_reserved_are_refused_and_noted() -> None:
    host = booted()
    handle = shared(host)
    reply = host.smc(FFA.MEM_RECLAIM, handle & 0xFFFFFFFF, handle >> 32, 4)
    assert error_code(reply[2]) is FfaError.INVALID_PARAMETERS
    assert not rules(host)


def test_what_an_sp_has_retrieved_cannot_be_reclaimed() -> None:
    host = booted()
    handle = shared(host)
    host.write(0x11000, b"data")
    assert host.spmc.memory.read(handle)[0x1000:0x1004] == b"data"
    host.spmc.memory.retrieve(SP, handle)
    args = FFA.MEM_RECLAIM, handle & 0xFFFFFFFF, handle >> 32, 1
    assert error_code(host.smc(*args)[2]) is FfaError.DENIED
    host.spmc.memory.relinquish(SP, handle)
    assert host.smc(*args)[0] == FFA.SUCCESS_32
    assert host.read(0x11000, 4) == bytes(4)
    with pytest.raises(UsageError, match="is shared with SP 0x8001"):
        host.spmc.memory.retrieve(SP, handle)
