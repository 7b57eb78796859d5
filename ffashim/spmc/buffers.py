# SPDX-License-Identifier: GPL-2.0-only
"""RX/TX buffers: RXTX_MAP, RXTX_UNMAP, RX_ACQUIRE, RX_RELEASE, for the hypervisor and for VMs."""

from __future__ import annotations

from ffashim.descriptors import CompositeRegion, DescriptorError, EndpointRxTx
from ffashim.ffa import FFA, HYPERVISOR_ID, ID_SECURE, PAGE_SIZE, V1_0, V1_1, FfaError
from ffashim.spmc.replies import OK, Regs, error
from ffashim.spmc.state import OWN_BUFFERS, OWN_RX, Buffers, Range
from ffashim.spmc.topic import Abis, Topic

_INVALID = error(FfaError.INVALID_PARAMETERS)
_DENIED = error(FfaError.DENIED)


class BufferAbis(Topic):
    """RX/TX buffers and who owns them (7.2)."""

    def abis(self) -> Abis:
        """The ABIs of this topic."""
        return {
            FFA.RXTX_MAP_32: (V1_0, self.rxtx_map),
            FFA.RXTX_MAP_64: (V1_0, self.rxtx_map),
            FFA.RXTX_UNMAP: (V1_0, self.rxtx_unmap),
            FFA.RX_ACQUIRE: (V1_1, self.rx_acquire),
            FFA.RX_RELEASE: (V1_0, self.rx_release),
        }

    def rxtx_map(self, x: Regs) -> Regs:
        """FFA_RXTX_MAP (13.6): the hypervisor's own, or with all arguments zero, a VM's."""
        if not (x[1] or x[2] or x[3]):
            return self._map_for_vm()
        spmc, state = self.spmc, self.state
        mask = 0xFFFFFFFF if x[0] == FFA.RXTX_MAP_32 else ~0
        tx, rx, pages = x[1] & mask, x[2] & mask, x[3] & 0x3F
        if x[3] & 0xFFFFFFFF & ~0x3F:
            spmc.violation("mbz", "RXTX_MAP: bits 31:6 of w3 must be zero (13.6)")
        elif not pages:
            spmc.violation("rxtx-map", "RXTX_MAP: no pages (13.6)")
        elif tx % PAGE_SIZE or rx % PAGE_SIZE:
            spmc.violation("rxtx-map", "RXTX_MAP: an address is not page aligned (13.6)")
        elif Range(tx, pages).overlaps(Range(rx, pages)):
            spmc.violation("rxtx-map", "RXTX_MAP: TX and RX overlap (13.6)")
        elif state.hypervisor is not None:
            spmc.bookkeeping("rxtx-map", "RXTX_MAP: the hypervisor's buffers are mapped (13.6)")
            return _DENIED
        else:
            state.hypervisor = Buffers((Range(tx, pages),), (Range(rx, pages),))
            state.ended -= {OWN_BUFFERS}
            return OK
        return _INVALID

    def _map_for_vm(self) -> Regs:
        """A VM's buffers, described in the hypervisor's TX buffer (13.6, Table 13.27)."""
        spmc, state = self.spmc, self.state
        own = state.hypervisor
        if own is None:
            spmc.bookkeeping("rxtx-map", "RXTX_MAP for a VM, but the hypervisor has no TX (13.6)")
            return _INVALID
        try:
            desc = EndpointRxTx.decode(spmc.host.read(own.tx[0].base, own.tx[0].pages << 12))
        except DescriptorError as bad:
            spmc.violation("rxtx-map", f"RXTX_MAP: {bad}")
            return _INVALID
        vm_id = desc.endpoint
        if vm_id == HYPERVISOR_ID or vm_id & ID_SECURE:
            spmc.violation("vm-id", f"RXTX_MAP for ID {vm_id:#06x}, which is no VM's (13.6)")
            return _INVALID
        spmc.saw(vm_id)
        if desc.reserved:
            spmc.violation("mbz", "RXTX_MAP: the descriptor's reserved field (Table 13.27)")
            return _INVALID
        if (desc.rx_offset or 0) % 8 or (desc.tx_offset or 0) % 8:
            # Served all the same: Xen before "Fix RX/TX map layout and errors" sent 12.
            spmc.violation("alignment", "RXTX_MAP: regions not 8-byte aligned (Table 13.27)")
        tx, rx = self._ranges(desc.tx, "TX"), self._ranges(desc.rx, "RX")
        if tx is None or rx is None:
            return _INVALID
        if any(t.overlaps(r) for t in tx for r in rx):
            spmc.note("rxtx-overlap", "RXTX_MAP: the VM's TX and RX overlap (13.6)")
            return _INVALID
        if vm_id in state.buffers:
            spmc.bookkeeping("rxtx-map", f"RXTX_MAP: VM {vm_id}'s buffers are mapped (13.6)")
            return _DENIED
        state.buffers[vm_id] = Buffers(tx, rx)
        return OK

    def _ranges(self, region: CompositeRegion, name: str) -> tuple[Range, ...] | None:
        """A composite region as ranges, or None after saying what is wrong with it."""
        spmc = self.spmc
        ranges = tuple(Range(c.address, c.page_count) for c in region.constituents)
        wrong = ""
        if not ranges:
            wrong = "has no range"
        elif any(r.base % PAGE_SIZE for r in ranges):
            wrong = "is not page aligned"
        elif any(not r.pages for r in ranges):
            wrong = "has an empty range"
        elif sum(r.pages for r in ranges) != region.total_pages:
            wrong = f"says {region.total_pages} pages, has {sum(r.pages for r in ranges)}"
        elif region.reserved or any(c.reserved for c in region.constituents):
            wrong = "has a reserved field that is not zero"
        if wrong:
            spmc.violation("rxtx-map", f"RXTX_MAP: the {name} region {wrong} (13.6)")
            return None
        return ranges

    def rxtx_unmap(self, x: Regs) -> Regs:
        """FFA_RXTX_UNMAP (13.7): w1[31:16] is the VM, or 0 for the hypervisor itself."""
        spmc, state = self.spmc, self.state
        vm_id = x[1] >> 16 & 0xFFFF
        if x[1] & 0xFFFF:
            spmc.note("sbz", "RXTX_UNMAP: bits 15:0 of w1 (13.7)")
        if vm_id == HYPERVISOR_ID:
            if state.hypervisor is None:
                # Xen unmaps after a failed RXTX_MAP, too.
                say = spmc.bookkeeping if OWN_BUFFERS in state.ended else spmc.note
                say("rxtx-unmap", "RXTX_UNMAP: the hypervisor has no buffers (13.7)")
                return _INVALID
            state.hypervisor = None
            state.ended |= {OWN_BUFFERS}
            return OK
        if vm_id not in state.buffers:
            spmc.bookkeeping("rxtx-unmap", f"RXTX_UNMAP: VM {vm_id} has no buffers (13.7)")
            return _INVALID
        if state.buffers[vm_id].held:
            spmc.note("rx", f"RXTX_UNMAP: VM {vm_id} still holds its RX buffer (7.2.2)")
        del state.buffers[vm_id]
        return OK

    def rx_acquire(self, x: Regs) -> Regs:
        """FFA_RX_ACQUIRE (13.4): the hypervisor wants to write to a VM's RX buffer."""
        spmc, state = self.spmc, self.state
        vm_id = x[1] & 0xFFFF
        buffers = state.buffers.get(vm_id)
        if buffers is None:
            spmc.bookkeeping("rx", f"RX_ACQUIRE: VM {vm_id} has no buffers (13.4)")
            return _INVALID
        if buffers.held:
            # Not the hypervisor's fault if it was the SPMC that filled it.
            if buffers.acquired:
                spmc.bookkeeping("rx", f"RX_ACQUIRE: VM {vm_id}'s RX was acquired before (13.4)")
            return _DENIED
        state.buffers[vm_id] = Buffers(buffers.tx, buffers.rx, held=True, acquired=True)
        return OK

    def rx_release(self, x: Regs) -> Regs:
        """FFA_RX_RELEASE (13.5): w1[15:0] is the VM, or 0 for the hypervisor itself."""
        spmc, state = self.spmc, self.state
        vm_id = x[1] & 0xFFFF
        if vm_id == HYPERVISOR_ID:
            own = state.hypervisor
            if own is None or not own.held:
                # Nor need it know whether a request that failed has filled RX.
                say = spmc.bookkeeping if OWN_RX in state.ended else spmc.note
                say("rx", "RX_RELEASE: the hypervisor does not hold its RX (13.5)")
                return _DENIED
            state.hypervisor = Buffers(own.tx, own.rx)
            state.ended |= {OWN_RX}
            return OK
        buffers = state.buffers.get(vm_id)
        if buffers is None:
            spmc.bookkeeping("rx", f"RX_RELEASE: VM {vm_id} has no buffers (13.5)")
            return _INVALID
        if not buffers.held:
            # A hypervisor may leave it to the SPMC to refuse what a guest asks: Hafnium's does.
            spmc.note("rx", f"RX_RELEASE: VM {vm_id} does not hold its RX (13.5)")
            return _DENIED
        state.buffers[vm_id] = Buffers(buffers.tx, buffers.rx)
        return OK

    def residue(self, vm_id: int) -> list[str]:
        """Buffers of a VM that are still mapped."""
        if vm_id not in self.state.buffers:
            return []
        held = ", RX held" if self.state.buffers[vm_id].held else ""
        return [f"RX/TX buffers of VM {vm_id} are still mapped{held}"]
