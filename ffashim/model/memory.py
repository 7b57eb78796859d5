# SPDX-License-Identifier: GPL-2.0-only
"""FFA_MEM_SHARE and FFA_MEM_RECLAIM (FF-A 1.1, 16.3 and 16.7, chapter 10).

What a guest has put into TX decides. The hypervisor sends a descriptor of its own to the SPMC,
with machine addresses in place of the guest's (10.9).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from ffashim.descriptors import CompositeRegion, DescriptorError, MemoryAccess, MemoryTransaction
from ffashim.ffa import (
    FFA,
    ID_SECURE,
    MEM_ATTR_NS,
    MEM_FLAG_SHARE,
    PAGE_SIZE,
    RECLAIM_CLEAR,
    RECLAIM_TIME_SLICE,
    V1_1,
    FfaError,
    Version,
)
from ffashim.model.exchange import Answer, Frame, Plan, Sent, Smc, relayed, request
from ffashim.model.outcome import error, success
from ffashim.model.registers import LOW, Allowed, Call, exactly
from ffashim.model.rules import rule
from ffashim.model.state import Guest, Region, System

INVALID, DENIED = FfaError.INVALID_PARAMETERS, FfaError.DENIED
NOT_SUPPORTED, NO_MEMORY = FfaError.NOT_SUPPORTED, FfaError.NO_MEMORY
REFUSED = (INVALID, NOT_SUPPORTED, DENIED)
"""Of what a relayer need not support, FF-A does not say how it says so."""
RECLAIM_FLAGS = RECLAIM_CLEAR | RECLAIM_TIME_SLICE


@dataclass
class Verdict:
    """What a hypervisor may say of a descriptor.

    errors: codes of what it must refuse, whichever it finds first. doubts: codes of what it may
    refuse or ignore: reserved fields that are MBZ, and limits that it need not have.
    """

    errors: set[FfaError] = field(default_factory=set)
    doubts: set[FfaError] = field(default_factory=set)

    def must(self, wrong: object, *codes: FfaError) -> None:
        """It must refuse this if it is so."""
        if wrong:
            self.errors.update(codes)

    def may(self, odd: object, *codes: FfaError) -> None:
        """It may refuse this if it is so."""
        if odd:
            self.doubts.update(codes)


@rule(FFA.MEM_SHARE_32, FFA.MEM_SHARE_64)
def mem_share(system: System, guest: Guest, call: Call) -> Iterator[Plan]:
    """w1 length of all, w2 of this fragment, x3 a buffer and w4 its pages, or zero for TX."""
    total, length, address, pages = call.w(1), call.w(2), call.argument(3), call.w(4)
    verdict = Verdict()
    # Xen documents: "with the memory transaction descriptor in the RX/TX buffer".
    verdict.must(address, NOT_SUPPORTED, INVALID)
    verdict.may(pages, INVALID)
    verdict.must(length > total, INVALID)
    # Fragments are a relayer's choice: there is no FFA_MEM_FRAG_TX.
    verdict.must(length < total, *REFUSED)
    verdict.must(guest.buffers is None, DENIED, INVALID)
    room = guest.buffers.pages * PAGE_SIZE if guest.buffers else 0
    verdict.must(length > room, *REFUSED, NO_MEMORY)
    verdict.must(len(guest.shares) >= system.profile.shared_regions, NO_MEMORY)
    verdict.may(call.scarce, NO_MEMORY)
    transaction = _read(system, guest, call.tx[:length], verdict)
    if verdict.errors:
        yield error(system, call, "16.3", *verdict.errors, *verdict.doubts)
        return
    if verdict.doubts:
        yield error(system, call, "16.3: it may be refused", *verdict.doubts)
    assert transaction is not None
    yield _shared(system, guest, call, transaction)


def _pages(region: CompositeRegion) -> Iterator[int]:
    """Yield the address of each page of a region."""
    for each in region.constituents:
        for n in range(each.page_count):
            yield each.address + n * PAGE_SIZE


def _read(system: System, guest: Guest, data: bytes, verdict: Verdict) -> MemoryTransaction | None:
    """Read what a guest sends, and say what is wrong with it (Tables 10.13 to 10.20)."""
    assert guest.version is not None
    try:
        head = _head(data, guest.version)
        _judge_head(head, system, guest, len(data), verdict)
        count = head.access_count or 0
        if not 1 <= count <= system.profile.borrowers:
            return None
        size, offset = head.access_size or 0, head.access_offset or 0
        accesses = [MemoryAccess.decode(data, offset + n * size, size) for n in range(count)]
        for access in accesses:
            _judge_access(access, system, head, guest.version, verdict)
        regions = {access.composite_offset or 0 for access in accesses}
        # Borrowers of one transaction are lent the same memory (10.9.2), each once.
        verdict.must(len(regions) > 1, INVALID)
        verdict.must(len({access.endpoint for access in accesses}) < count, INVALID)
        where = min(regions)
        verdict.must(len(data) < where + 16, *REFUSED)
        told, count = (int.from_bytes(data[where + n : where + n + 4], "little") for n in (0, 4))
        verdict.must(not told or where + 16 + 16 * count > len(data), INVALID)
        # More ranges than its own TX takes are too many, too.
        verdict.may(told > system.profile.shared_pages, NO_MEMORY, NOT_SUPPORTED)
        region = CompositeRegion.decode(data, where)
    except DescriptorError:
        # Something lies beyond what was sent.
        verdict.must(True, *REFUSED)
        return None
    _judge_region(region, system, guest, verdict)
    return replace(head, receivers=tuple(accesses), composite=region)


def _head(data: bytes, version: Version) -> MemoryTransaction:
    """Read the transaction descriptor alone (Table 10.20, in 1.0 Table 5.19).

    Raises DescriptorError if it is not all there.
    """
    new = version >= V1_1
    if len(data) < (48 if new else 32):
        raise DescriptorError("there is no transaction descriptor")
    word = {n: int.from_bytes(data[n : n + 4], "little") for n in (24, 28, 32)}
    plain = bytearray(data[:48] if new else data[:32])
    plain[28:32] = bytes(4)  # no access descriptors: they are read one by one
    if new:
        plain[24:28], plain[32:36] = (16).to_bytes(4, "little"), (48).to_bytes(4, "little")
    head = MemoryTransaction.decode(bytes(plain), version)
    size, offset = (word[24], word[32]) if new else (16, 32)
    return replace(head, access_size=size, access_count=word[28], access_offset=offset)


def _judge_head(
    head: MemoryTransaction, system: System, guest: Guest, length: int, verdict: Verdict
) -> None:
    assert guest.version is not None
    least = 48 if guest.version >= V1_1 else 32
    count, size, offset = head.access_count or 0, head.access_size or 0, head.access_offset or 0
    verdict.must(head.sender != guest.id, INVALID, DENIED)
    # NS is a receiver's field (Table 10.18).
    attributes = head.attributes
    if guest.version < V1_1:  # of 8 bits then; the others are reserved
        verdict.may(attributes >> 8, INVALID)
        attributes &= 0xFF
    verdict.must(attributes not in system.profile.shared_attributes, NOT_SUPPORTED, INVALID)
    verdict.must(attributes & MEM_ATTR_NS, INVALID)
    # Zeroing, time slicing, another kind of transaction (10.11.4).
    verdict.must(head.flags & ~MEM_FLAG_SHARE, *REFUSED)
    verdict.may(head.handle or head.reserved, INVALID)
    verdict.must(not 1 <= count <= system.profile.borrowers, NOT_SUPPORTED, INVALID)
    verdict.must(size < 16 or offset % 16 or offset + size * count > length, *REFUSED)
    # A later version may have longer ones (10.9.2).
    verdict.may(offset < least or size not in (16, 32), INVALID)


def _judge_access(
    access: MemoryAccess,
    system: System,
    head: MemoryTransaction,
    version: Version,
    verdict: Verdict,
) -> None:
    # Xen documents: "from a VM to an SP".
    verdict.must(not access.endpoint & ID_SECURE, *REFUSED)
    known = any(each.id == access.endpoint for each in system.secure.partitions)
    verdict.may(not known, INVALID, DENIED)
    verdict.must(access.permissions not in system.profile.shared_permissions, *REFUSED)
    verdict.may(access.flags or access.reserved, INVALID)
    least = 48 if version >= V1_1 else 32
    end = max(head.access_offset or 0, least) + (head.access_size or 0) * (head.access_count or 0)
    offset = access.composite_offset or 0
    verdict.may(offset < end or offset % 8, INVALID)


def _judge_region(region: CompositeRegion, system: System, guest: Guest, verdict: Verdict) -> None:
    """Look at the memory itself (Tables 10.13 and 10.14)."""
    listed = sum(each.page_count for each in region.constituents)
    most = system.profile.shared_pages
    verdict.must(region.total_pages != listed or not listed, INVALID)
    verdict.may(listed > most, NO_MEMORY, NOT_SUPPORTED)
    verdict.may(region.reserved, INVALID)
    for each in region.constituents:
        start, end = each.address, each.address + each.page_count * PAGE_SIZE
        verdict.must(start % PAGE_SIZE or end > 1 << 64, INVALID)
        verdict.must(each.page_count and not guest.has(start & -PAGE_SIZE, each.page_count),
                     DENIED, INVALID)  # fmt: skip
        verdict.may(each.reserved or not each.page_count, INVALID)
    if not verdict.errors:
        verdict.may(len(set(_pages(region))) < listed, INVALID, DENIED)


def _shared(system: System, guest: Guest, call: Call, transaction: MemoryTransaction) -> Plan:
    assert transaction.composite is not None
    pages = tuple(_pages(transaction.composite))

    def done(answer: Answer) -> Iterator[Plan]:
        handle = (answer[3] & LOW) << 32 | answer[2] & LOW
        told = (exactly(answer[n] & LOW, "handle") for n in (2, 3))
        shares = guest.shares | {Region(handle, pages)}
        after = system.having(replace(guest, shares=shares))
        yield success(system, call, "16.3", *told, after=after)

    length = Allowed(None, "length", note="that of the descriptor")
    registers = request(FFA.MEM_SHARE_64, length, length)
    return relayed(system, call, "16.3", registers, done, _sent(system, guest, transaction, pages))


def _sent(
    system: System, guest: Guest, transaction: MemoryTransaction, pages: tuple[int, ...]
) -> Sent:
    """What the SPMC is sent is what the guest shares, with machine addresses."""
    version = system.secure.version or V1_1
    lent = [(access.endpoint, access.permissions) for access in transaction.receivers]
    data = [access.impdef for access in transaction.receivers]
    # Before 1.1 there were 8 bits of them; the others are reserved.
    assert guest.version is not None
    attributes = transaction.attributes & (0xFFFF if guest.version >= V1_1 else 0xFF)

    def sent(smc: Smc, frame: Frame) -> Iterator[str]:
        length = smc.request[1]
        try:
            found = MemoryTransaction.decode(smc.tx[:length], version)
        except DescriptorError as wrong:
            yield f"the SPMC was sent no memory transaction: {wrong}"
            return
        if not found.receivers or found.composite is None:
            yield f"the SPMC was sent {len(found.receivers)} receivers, or no region"
            return
        first = found.receivers[0]
        end = (first.composite_offset or 0) + 16 + 16 * len(found.composite.constituents)
        long = (found.access_size or 16) >= 32
        for name, seen, wanted in (
            ("a length of all of", length, end),
            ("a length of this part of", smc.request[2], end),
            ("sender", found.sender, guest.id),
            ("attributes", found.attributes, attributes),
            ("tag", found.tag, transaction.tag),
            ("handle", found.handle, 0),
            ("total pages", found.composite.total_pages or 0, len(pages)),
        ):
            if seen != wanted:
                yield f"the SPMC was sent {name} {seen:#x}, not {wanted:#x}"
        given = [(access.endpoint, access.permissions) for access in found.receivers]
        if given != lent:
            yield f"the SPMC was sent receivers, with permissions, {given}, not {lent}"
        impdef = data if long else [bytes(16)] * len(data)
        if [access.impdef for access in found.receivers] != impdef:
            yield "the SPMC was sent other implementation defined data than the guest gave"
        if list(_pages(found.composite)) != [frame(guest.id, page) for page in pages]:
            yield "the SPMC was sent other pages than the guest gave"

    return sent


@rule(FFA.MEM_RECLAIM)
def mem_reclaim(system: System, guest: Guest, call: Call) -> Iterator[Plan]:
    """w1 and w2 handle, w3 flags; what is another's stays so (16.7)."""
    handle = call.w(2) << 32 | call.w(1)
    region = next((each for each in guest.shares if each.handle == handle), None)
    if region is None:
        yield error(system, call, "16.7: no such handle", INVALID)
        return
    if call.w(3) & ~RECLAIM_FLAGS:
        yield error(system, call, "16.7: flags that must be zero", INVALID)
    after = system.having(replace(guest, shares=guest.shares - {region}))
    arguments = (exactly(call.w(1), "handle"), exactly(call.w(2), "handle"))
    registers = request(FFA.MEM_RECLAIM, *arguments, exactly(call.w(3), "flags"))
    done = success(system, call, "16.7", after=after)
    if call.w(3) & RECLAIM_CLEAR:
        done = replace(done, cleared=frozenset(region.pages))
    yield relayed(system, call, "16.7", registers, lambda _: [done])
