# SPDX-License-Identifier: GPL-2.0-only
"""Notifications: bitmaps, bindings, what is pending, and the schedule receiver interrupt."""

from __future__ import annotations

from ffashim.errors import UsageError
from ffashim.ffa import (
    FFA,
    ID_SECURE,
    NOTIF_GET_HYP,
    NOTIF_GET_SP,
    NOTIF_GET_SPM,
    NOTIF_GET_VM,
    NOTIF_INFO_COUNTS_SHIFT,
    NOTIF_INFO_LISTS_SHIFT,
    NOTIF_INFO_MORE,
    NOTIF_PER_VCPU,
    NOTIF_RX_BUFFER_FULL,
    NOTIF_SET_DELAY_SRI,
    V1_1,
    FfaError,
    PartitionProperty,
)
from ffashim.spmc.replies import OK, Regs, error, registers
from ffashim.spmc.state import Binding, Bitmaps
from ffashim.spmc.topic import Abis, Topic

_INVALID = error(FfaError.INVALID_PARAMETERS)
_DENIED = error(FfaError.DENIED)
_GET_FLAGS = NOTIF_GET_SP | NOTIF_GET_VM | NOTIF_GET_SPM | NOTIF_GET_HYP
_LOW = 0xFFFFFFFF


def _bits(x: Regs) -> int:
    """The 64 notifications in w3 (low) and w4 (high)."""
    return (x[4] & _LOW) << 32 | x[3] & _LOW


def _bound(maps: Bitmaps, sender: int, bits: int, per_vcpu: bool) -> bool:
    """Whether `sender` may set all of these."""
    mine = 0
    for b in maps.bindings:
        if b.sender == sender and b.per_vcpu == per_vcpu:
            mine |= b.bits
    return not bits & ~mine


def _set(maps: Bitmaps, bits: int, vcpu: int | None) -> Bitmaps:
    """Make notifications pending, global ones or those of one vCPU."""
    if vcpu is None:
        return maps._replace(pending=maps.pending | bits, reported=False, named=0)
    per = dict(maps.per_vcpu)
    per[vcpu] = per.get(vcpu, 0) | bits
    return maps._replace(per_vcpu=tuple(per.items()), reported=False, named=0)


class NotificationAbis(Topic):
    """Notifications (chapters 9 and 17)."""

    def abis(self) -> Abis:
        """The ABIs of this topic."""
        return {
            FFA.NOTIFICATION_BITMAP_CREATE: (V1_1, self.bitmap_create),
            FFA.NOTIFICATION_BITMAP_DESTROY: (V1_1, self.bitmap_destroy),
            FFA.NOTIFICATION_BIND: (V1_1, self.bind),
            FFA.NOTIFICATION_UNBIND: (V1_1, self.unbind),
            FFA.NOTIFICATION_SET: (V1_1, self.set),
            FFA.NOTIFICATION_GET: (V1_1, self.get),
            FFA.NOTIFICATION_INFO_GET_32: (V1_1, self.info_get),
            FFA.NOTIFICATION_INFO_GET_64: (V1_1, self.info_get),
        }

    # What the hypervisor calls.

    def bitmap_create(self, x: Regs) -> Regs:
        """FFA_NOTIFICATION_BITMAP_CREATE (17.1): w1 the VM, w2 how many vCPUs it has."""
        spmc, vm_id, vcpus = self.spmc, x[1] & _LOW, x[2] & _LOW
        if not vm_id or vm_id >= ID_SECURE:
            spmc.violation("vm-id", f"BITMAP_CREATE for ID {vm_id:#x}, which is no VM's (17.1)")
            return _INVALID
        if not vcpus:
            spmc.violation("bitmap", "BITMAP_CREATE: a VM without vCPUs (17.1)")
            return _INVALID
        if vm_id in self.state.bitmaps:
            spmc.bookkeeping("bitmap", f"BITMAP_CREATE: VM {vm_id} has one (17.1)")
            return _DENIED
        spmc.saw(vm_id)
        self.state.bitmaps[vm_id] = Bitmaps(vcpus)
        self.state.ended -= {("bitmap", vm_id)}
        return OK

    def bitmap_destroy(self, x: Regs) -> Regs:
        """FFA_NOTIFICATION_BITMAP_DESTROY (17.2): w1 the VM. Denied while something is pending."""
        spmc, vm_id = self.spmc, x[1] & _LOW
        maps = self.state.bitmaps.get(vm_id)
        if maps is None:
            # Xen destroys without looking whether creation succeeded.
            say = spmc.bookkeeping if ("bitmap", vm_id) in self.state.ended else spmc.note
            say("bitmap", f"BITMAP_DESTROY: VM {vm_id} has none (17.2)")
            return _DENIED
        if maps.any_pending:
            spmc.note("bitmap", f"BITMAP_DESTROY: VM {vm_id} has notifications pending (17.2)")
            return _DENIED
        del self.state.bitmaps[vm_id]
        self.state.ended |= {("bitmap", vm_id)}
        return OK

    def bind(self, x: Regs) -> Regs:
        """FFA_NOTIFICATION_BIND (17.3): w1 the SP that may set, and the VM that will get."""
        sender, receiver, bits = x[1] >> 16 & 0xFFFF, x[1] & 0xFFFF, _bits(x)
        maps = self._of(receiver, "BIND")
        if maps is None:
            return _DENIED
        if sender not in self.state.by_id or not bits or x[2] & _LOW & ~NOTIF_PER_VCPU:
            return _INVALID
        if any(b.bits & bits for b in maps.bindings):
            return _DENIED
        new = Binding(sender, bits, bool(x[2] & NOTIF_PER_VCPU))
        self.state.bitmaps[receiver] = maps._replace(bindings=(*maps.bindings, new))
        return OK

    def unbind(self, x: Regs) -> Regs:
        """FFA_NOTIFICATION_UNBIND (17.4): as bind. Denied for what is pending."""
        sender, receiver, bits = x[1] >> 16 & 0xFFFF, x[1] & 0xFFFF, _bits(x)
        maps = self._of(receiver, "UNBIND")
        if maps is None:
            return _DENIED
        if sender not in self.state.by_id or not bits:
            return _INVALID
        mine = 0
        for b in maps.bindings:
            mine |= b.bits if b.sender == sender else 0
        pending = maps.pending
        for _, one in maps.per_vcpu:
            pending |= one
        if bits & ~mine or bits & pending:
            return _DENIED
        kept = (b._replace(bits=b.bits & ~bits) for b in maps.bindings)
        self.state.bitmaps[receiver] = maps._replace(bindings=tuple(b for b in kept if b.bits))
        return OK

    def set(self, x: Regs) -> Regs:
        """FFA_NOTIFICATION_SET (17.5): w1 the VM that sets, and the SP that will get."""
        state = self.state
        sender, receiver, bits = x[1] >> 16 & 0xFFFF, x[1] & 0xFFFF, _bits(x)
        flags = x[2] & _LOW
        per_vcpu, vcpu = bool(flags & NOTIF_PER_VCPU), flags >> 16
        partition = state.by_id.get(receiver)
        if partition is None or not bits or flags & 0xFFFC or (vcpu and not per_vcpu):
            return _INVALID
        if not partition.has(PartitionProperty.RECV_NOTIF) or vcpu >= partition.exec_contexts:
            return _INVALID
        maps = state.sp_bitmaps.get(receiver)
        if maps is None or not _bound(maps, sender, bits, per_vcpu):
            return _DENIED
        state.sp_bitmaps[receiver] = _set(maps, bits, vcpu if per_vcpu else None)
        if not flags & NOTIF_SET_DELAY_SRI:
            self.spmc.host.raise_irq(self.spmc.sri)
        return OK

    def get(self, x: Regs) -> Regs:
        """FFA_NOTIFICATION_GET (17.6): w1 the VM and its vCPU, w2 whose notifications."""
        receiver, vcpu, flags = x[1] & 0xFFFF, x[1] >> 16 & 0xFFFF, x[2] & _LOW
        maps = self._of(receiver, "GET")
        if maps is None or vcpu >= maps.vcpus or not flags or flags & ~_GET_FLAGS:
            return _INVALID
        from_sp = from_vms = from_spm = 0
        if flags & NOTIF_GET_SP:
            per = dict(maps.per_vcpu)
            from_sp = maps.pending | per.pop(vcpu, 0)
            maps = maps._replace(pending=0, per_vcpu=tuple(per.items()), named=0)
        if flags & NOTIF_GET_VM:
            from_vms, maps = maps.from_vms, maps._replace(from_vms=0)
        if flags & NOTIF_GET_SPM:
            from_spm, maps = maps.from_spm, maps._replace(from_spm=0)
        self.state.bitmaps[receiver] = maps
        return registers(
            FFA.SUCCESS_32, 0, from_sp & _LOW, from_sp >> 32, from_vms & _LOW, from_vms >> 32,
            from_spm & _LOW,
        )  # fmt: skip

    def info_get(self, x: Regs) -> Regs:
        """FFA_NOTIFICATION_INFO_GET (17.7): who has something pending, each told once.

        A list for each endpoint: its ID, then up to three vCPUs with pending notifications.
        """
        state = self.state
        wide = x[0] & 0x40000000
        room, per_reg, bits = (20, 4, 16) if wide else (10, 2, 16)
        ids: list[int] = []
        counts: list[int] = []
        more = False
        tables = (state.bitmaps, state.sp_bitmaps)
        for table, endpoint, maps in [(t, *each) for t in tables for each in t.items()]:
            if maps.reported or not maps.any_pending:
                continue
            vcpus, named = [v for v, _ in maps.per_vcpu], maps.named
            for n in range(named, len(vcpus) or 1, 3):
                one = vcpus[n : n + 3]
                if more := len(ids) + 1 + len(one) > room:
                    break
                ids += [endpoint, *one]
                counts.append(len(one))
                named += len(one)
            table[endpoint] = maps._replace(reported=not more, named=named)
            if more:
                break
        if not ids:
            return error(FfaError.NO_DATA)
        w2 = NOTIF_INFO_MORE * more | len(counts) << NOTIF_INFO_LISTS_SHIFT
        for n, count in enumerate(counts):
            w2 |= count << NOTIF_INFO_COUNTS_SHIFT + 2 * n
        regs = [0] * 5
        for n, one_id in enumerate(ids):
            regs[n // per_reg] |= one_id << n % per_reg * bits
        return registers(FFA.SUCCESS_64 if wide else FFA.SUCCESS_32, 0, w2, *regs)

    def _of(self, vm_id: int, what: str) -> Bitmaps | None:
        """A VM's bitmaps; None, and a finding, if the hypervisor did not create them."""
        maps = self.state.bitmaps.get(vm_id)
        if maps is None:
            self.spmc.bookkeeping("bitmap", f"NOTIFICATION_{what}: VM {vm_id} has no bitmap (17.1)")
        return maps

    # What the secure world does.

    def notify(
        self,
        sp_id: int,
        vm_id: int,
        bits: int,
        *,
        vcpu: int | None = None,
        delay: bool = False,
        cpu: int = 0,
    ) -> None:
        """An SP sets notifications of a VM: they are pending, and the interrupt is raised.

        bits: 64, all bound to this SP. vcpu: for notifications bound per vCPU. delay: raise no
        interrupt yet. cpu: the physical CPU that the interrupt goes to.
        Raises UsageError if the VM did not bind them.
        """
        maps = self.state.bitmaps.get(vm_id)
        if maps is None or not _bound(maps, sp_id, bits, vcpu is not None):
            raise UsageError(
                f"VM {vm_id} has not bound notifications {bits:#x} to SP {sp_id:#06x}:"
                " FFA_NOTIFICATION_BIND comes first"
            )
        self.state.bitmaps[vm_id] = _set(maps, bits, vcpu)
        if not delay:
            self.spmc.host.raise_irq(self.spmc.sri, cpu)

    def listen(self, sp_id: int, vm_id: int, bits: int, *, per_vcpu: bool = False) -> None:
        """An SP binds notifications that a VM may set (FFA_NOTIFICATION_BIND of the SP)."""
        partition = self.state.by_id[sp_id]
        maps = self.state.sp_bitmaps.get(sp_id) or Bitmaps(partition.exec_contexts)
        new = Binding(vm_id, bits, per_vcpu)
        self.state.sp_bitmaps[sp_id] = maps._replace(bindings=(*maps.bindings, new))

    def collect(self, sp_id: int) -> int:
        """An SP takes its global notifications (FFA_NOTIFICATION_GET of the SP): 64 bits."""
        maps = self.state.sp_bitmaps.get(sp_id)
        if maps is None:
            return 0
        self.state.sp_bitmaps[sp_id] = maps._replace(pending=0)
        return maps.pending

    def rx_full(self, vm_id: int) -> None:
        """Tell a VM that its RX buffer holds a message (chapter 9)."""
        maps = self.state.bitmaps.get(vm_id)
        if maps is not None:
            self.state.bitmaps[vm_id] = maps._replace(
                from_spm=maps.from_spm | NOTIF_RX_BUFFER_FULL, reported=False, named=0
            )
            self.spmc.host.raise_irq(self.spmc.sri)

    def residue(self, vm_id: int) -> list[str]:
        """Bitmaps of a VM that were not destroyed, and bindings of SPs to it."""
        maps = self.state.bitmaps.get(vm_id)
        if maps is None:
            return []
        why = ": something is pending" if maps.any_pending else ""
        return [f"notification bitmap of VM {vm_id} was not destroyed{why}"]
