# SPDX-License-Identifier: GPL-2.0-only
"""Memory sharing: MEM_SHARE, MEM_FRAG_TX, MEM_RECLAIM, and what borrowers do with the memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from ffashim.descriptors import DescriptorError, MemoryTransaction
from ffashim.errors import UsageError
from ffashim.ffa import (
    FFA,
    ID_SECURE,
    MEM_ATTR_CACHE_MASK,
    MEM_ATTR_DEVICE,
    MEM_ATTR_NON_CACHEABLE,
    MEM_ATTR_NORMAL,
    MEM_ATTR_SHARE_MASK,
    MEM_ATTR_TYPE_MASK,
    MEM_ATTR_WRITE_BACK,
    MEM_FLAG_SHARE,
    MEM_FLAG_TIME_SLICE,
    MEM_PERM_DATA_MASK,
    MEM_PERM_RO,
    MEM_PERM_RW,
    PAGE_SIZE,
    RECLAIM_CLEAR,
    RECLAIM_TIME_SLICE,
    V1_0,
    V1_1,
    V1_2,
    FfaError,
    Version,
)
from ffashim.spmc.replies import OK, Regs, error, registers, success
from ffashim.spmc.state import Range, Share
from ffashim.spmc.topic import Abis, Topic

_INVALID = error(FfaError.INVALID_PARAMETERS)
_DENIED = error(FfaError.DENIED)


def faults(t: MemoryTransaction, length: int, version: Version) -> Iterator[str]:
    """What is wrong with a descriptor that a hypervisor sends for MEM_SHARE (10.9 to 10.11).

    length: bytes of the whole descriptor, as told in w1.
    """
    if not t.sender or t.sender & ID_SECURE:
        yield f"sender {t.sender:#06x} is no VM"
    if not _attributes_ok(t.attributes):
        yield f"attributes {t.attributes:#06x} (Table 10.18)"
    if t.flags & ~(MEM_FLAG_SHARE | MEM_FLAG_TIME_SLICE):
        yield f"flags {t.flags:#x} are not those of a share (10.11.4)"
    if t.handle:
        yield f"handle {t.handle:#x} must be zero (Table 10.20)"
    if t.reserved:
        yield "the reserved field is not zero (Table 10.20)"
    head, size = (48, t.access_size or 0) if version >= V1_1 else (32, 16)
    offset = head if t.access_offset is None else t.access_offset
    if offset < head or offset % 16:
        yield f"access descriptors at offset {offset} (Table 10.20)"
    if size not in ((16, 32) if version >= V1_2 else (16,)):
        yield f"access descriptors of {size} bytes in {version} (Table 10.20)"
    if not t.receivers:
        yield "no receiver"
    ids = [r.endpoint for r in t.receivers]
    if len(set(ids)) != len(ids):
        yield "a receiver is named twice (10.9.2)"
    end = offset + size * len(ids)
    for r in t.receivers:
        where = r.composite_offset or 0
        if r.permissions & MEM_PERM_DATA_MASK not in (MEM_PERM_RO, MEM_PERM_RW):
            yield f"permissions {r.permissions:#x} give no access to data (Table 10.15)"
        if r.permissions & ~MEM_PERM_DATA_MASK:
            yield f"permissions {r.permissions:#x}: a lender names data access only (10.10)"
        if r.flags & ~1 or r.reserved:
            yield "a reserved field of an access descriptor is not zero (Table 10.16)"
        if where < end or where % 8:
            yield f"composite region at offset {where} (Table 10.16)"
        if where != (t.receivers[0].composite_offset or 0):
            yield "receivers share different regions (10.9.2)"
    if t.composite is not None:
        yield from _region_faults(t, length)


def _region_faults(t: MemoryTransaction, length: int) -> Iterator[str]:
    """What is wrong with the composite region and its constituents (Tables 10.13, 10.14)."""
    region = t.composite
    assert region is not None
    ranges = [Range(c.address, c.page_count) for c in region.constituents]
    pages = sum(r.pages for r in ranges)
    if not ranges or not all(r.pages for r in ranges):
        yield "an empty range"
    if any(r.base % PAGE_SIZE for r in ranges):
        yield "an address that is not page aligned"
    if any(r.end > 1 << 64 for r in ranges):
        yield "a range that wraps around"
    if region.total_pages != pages:
        yield f"{region.total_pages} pages announced, {pages} listed"
    if region.reserved or any(c.reserved for c in region.constituents):
        yield "a reserved field of the region is not zero"
    end = (t.composite_offset or 0) + 16 + 16 * len(ranges)
    if length != end:
        yield f"total length {length}, the descriptor ends at {end}"


def _attributes_ok(attributes: int) -> bool:
    """Whether a sender may give these attributes (Table 10.18)."""
    kind, cache = attributes & MEM_ATTR_TYPE_MASK, attributes & MEM_ATTR_CACHE_MASK
    share = attributes & MEM_ATTR_SHARE_MASK
    if attributes & ~(MEM_ATTR_TYPE_MASK | MEM_ATTR_CACHE_MASK | MEM_ATTR_SHARE_MASK):
        return False  # Bit 6, NS, is for receivers; the rest is reserved.
    if kind == MEM_ATTR_NORMAL:
        return cache in (MEM_ATTR_NON_CACHEABLE, MEM_ATTR_WRITE_BACK) and share != 1
    return kind == MEM_ATTR_DEVICE and share == 0


class MemoryAbis(Topic):
    """Memory that VMs share with secure partitions (chapters 10 and 16)."""

    def abis(self) -> Abis:
        """The ABIs of this topic."""
        return {
            FFA.MEM_SHARE_32: (V1_0, self.mem_share),
            FFA.MEM_SHARE_64: (V1_0, self.mem_share),
            FFA.MEM_FRAG_TX: (V1_0, self.mem_frag_tx),
            FFA.MEM_RECLAIM: (V1_0, self.mem_reclaim),
        }

    @property
    def shares(self) -> dict[int, Share]:
        """What is shared now, by handle."""
        return self.state.shares

    def mem_share(self, x: Regs) -> Regs:
        """FFA_MEM_SHARE (16.3): the descriptor, or its first fragment, is in the TX buffer."""
        spmc, state = self.spmc, self.state
        total, length, pages = x[1] & 0xFFFFFFFF, x[2] & 0xFFFFFFFF, x[4] & 0xFFFFFFFF
        own = state.hypervisor
        if own is None:
            spmc.bookkeeping("mem-share", "MEM_SHARE: the hypervisor has no TX buffer (16.3)")
            return _INVALID
        if x[3] or pages:
            spmc.violation("mem-share", "MEM_SHARE: this SPMC takes no buffer but TX (16.3)")
            return error(FfaError.INVALID_PARAMETERS if not x[3] else FfaError.NOT_SUPPORTED)
        if not 0 < length <= min(total, own.tx[0].pages << 12):
            spmc.violation("mem-share", f"MEM_SHARE: fragment of {length}, total {total} (16.3)")
            return _INVALID
        data = spmc.host.read(own.tx[0].base, length)
        handle = state.next_handle
        state.next_handle += 1
        if length < total:
            state.fragments[handle] = total, data
            return self._next_fragment(handle, length)
        return self._share(handle, data)

    def mem_frag_tx(self, x: Regs) -> Regs:
        """FFA_MEM_FRAG_TX (chapter 16): the next fragment of a descriptor."""
        spmc, state = self.spmc, self.state
        handle, length = (x[2] & 0xFFFFFFFF) << 32 | x[1] & 0xFFFFFFFF, x[3] & 0xFFFFFFFF
        known, own = state.fragments.get(handle), state.hypervisor
        if known is None or own is None:
            spmc.bookkeeping("mem-frag", f"MEM_FRAG_TX: nobody waits for {handle:#x} (chapter 16)")
            return _INVALID
        total, data = known
        if not 0 < length <= min(total - len(data), own.tx[0].pages << 12):
            spmc.violation("mem-frag", f"MEM_FRAG_TX: {length} bytes after {len(data)} of {total}")
            return _INVALID
        data += spmc.host.read(own.tx[0].base, length)
        if len(data) < total:
            state.fragments[handle] = total, data
            return self._next_fragment(handle, len(data))
        del state.fragments[handle]
        return self._share(handle, data)

    @staticmethod
    def _next_fragment(handle: int, offset: int) -> Regs:
        """FFA_MEM_FRAG_RX: go on at this offset (chapter 16)."""
        return registers(FFA.MEM_FRAG_RX, handle & 0xFFFFFFFF, handle >> 32, offset)

    def _share(self, handle: int, data: bytes) -> Regs:
        """Check a whole descriptor, and remember what it shares."""
        spmc, state = self.spmc, self.state
        try:
            t = MemoryTransaction.decode(data, spmc.negotiated)
        except DescriptorError as bad:
            spmc.violation("mem-share", f"MEM_SHARE: {bad}")
            return _INVALID
        found = list(faults(t, len(data), spmc.negotiated))
        if found:
            for text in found:
                spmc.violation("mem-share", f"MEM_SHARE: {text}")
            return _INVALID
        if spmc.negotiated >= V1_2 and t.access_size == 16:
            spmc.note("mem-share", "MEM_SHARE: access descriptors as of 1.1 in 1.2 (Table 10.16)")
        assert t.composite is not None
        ranges = tuple(Range(c.address, c.page_count) for c in t.composite.constituents)
        if any(a.overlaps(b) for a, b in itertools.pairwise(sorted(ranges))):
            # A VM can write this, and FF-A does not say who on the way refuses it.
            spmc.note("mem-overlap", "MEM_SHARE: a page is listed twice (Table 10.13)")
            return _INVALID
        spmc.saw(t.sender)
        if any(r.endpoint not in state.by_id for r in t.receivers):
            return _INVALID
        own = state.hypervisor
        if own is not None and _overlap(ranges, (*own.rx, *own.tx)):
            spmc.violation("mem-own", "MEM_SHARE: the hypervisor's own RX/TX buffers (7.2.2)")
            return _DENIED
        # Memory that is in use already: the VM's mistake, and the SPMC's to refuse (chapter 10).
        taken = [s.ranges for s in state.shares.values()]
        taken += [(*b.rx, *b.tx) for b in state.buffers.values()]
        if any(_overlap(ranges, other) for other in taken):
            return _DENIED
        borrowers = tuple((r.endpoint, r.permissions) for r in t.receivers)
        impdef = tuple(r.impdef for r in t.receivers)
        state.shares[handle] = Share(handle, t.sender, borrowers, ranges, t.tag, impdef, data)
        return success(handle & 0xFFFFFFFF, handle >> 32)

    def mem_reclaim(self, x: Regs) -> Regs:
        """FFA_MEM_RECLAIM (16.7): w1 and w2 the handle, w3 flags."""
        spmc, state = self.spmc, self.state
        handle = (x[2] & 0xFFFFFFFF) << 32 | x[1] & 0xFFFFFFFF
        if x[3] & 0xFFFFFFFF & ~(RECLAIM_CLEAR | RECLAIM_TIME_SLICE):
            spmc.note("mbz", f"MEM_RECLAIM: flags {x[3]:#x} (16.7)")
            return _INVALID
        share = state.shares.get(handle)
        if share is None:
            spmc.bookkeeping("mem-reclaim", f"MEM_RECLAIM: there is no handle {handle:#x} (16.7)")
            return _INVALID
        if share.retrieved:
            return _DENIED
        if x[3] & RECLAIM_CLEAR:
            for r in share.ranges:
                spmc.host.write(r.base, bytes(r.pages << 12))
        del state.shares[handle]
        return OK

    def retrieve(self, sp_id: int, handle: int) -> Share:
        """An SP maps what was shared with it; reclaiming is then denied (16.4)."""
        share = self._borrowed(sp_id, handle)
        share = share._replace(retrieved=share.retrieved | {sp_id})
        self.state.shares[handle] = share
        return share

    def relinquish(self, sp_id: int, handle: int) -> None:
        """An SP gives back what it retrieved (16.6)."""
        share = self._borrowed(sp_id, handle)
        self.state.shares[handle] = share._replace(retrieved=share.retrieved - {sp_id})

    def read(self, handle: int) -> bytes:
        """The bytes that are shared, in the order of the ranges."""
        share = self.state.shares[handle]
        return b"".join(self.spmc.host.read(r.base, r.pages << 12) for r in share.ranges)

    def _borrowed(self, sp_id: int, handle: int) -> Share:
        share = self.state.shares.get(handle)
        if share is None or sp_id not in (b[0] for b in share.borrowers):
            raise UsageError(f"nothing with handle {handle:#x} is shared with SP {sp_id:#06x}")
        return share

    def residue(self, vm_id: int) -> list[str]:
        """Memory of a VM that is still shared."""
        return [
            f"VM {vm_id} still shares {sum(r.pages for r in s.ranges)} pages, handle {h:#x}"
            for h, s in self.state.shares.items()
            if s.sender == vm_id
        ]


def _overlap(some: tuple[Range, ...], others: tuple[Range, ...]) -> bool:
    return any(a.overlaps(b) for a in some for b in others)
