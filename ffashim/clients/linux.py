# SPDX-License-Identifier: GPL-2.0-only
"""Linux: the driver arm_ffa, through which every other driver of Linux speaks FF-A.

Its behaviour, as read in drivers/firmware/arm_ffa/driver.c in three states (see `State`); names of
functions in the docstrings are that file's. What goes on between CPUs and drivers inside Linux is
left out, what passes between Linux and its hypervisor is not.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from ffashim.clients.complaint import ClientError, NoFramework, Overrun, errno_of
from ffashim.descriptors import (
    NIL,
    CompositeRegion,
    Constituent,
    MemoryAccess,
    MemoryTransaction,
    PartitionInfo,
)
from ffashim.ffa import (
    FFA,
    MEM_PERM_RW,
    NOTIF_GET_HYP,
    NOTIF_GET_SP,
    NOTIF_GET_SPM,
    NOTIF_GET_VM,
    NOTIF_INFO_COUNTS_SHIFT,
    NOTIF_INFO_LISTS_MASK,
    NOTIF_INFO_LISTS_SHIFT,
    NOTIF_INFO_MORE,
    NOTIF_PER_VCPU,
    NOTIF_RX_BUFFER_FULL,
    PAGE_SIZE,
    PARTITION_INFO_COUNT_ONLY,
    V1_0,
    V1_2,
    Feature,
    PartitionProperty,
    Version,
)
from ffashim.reply import Reply
from ffashim.vm import Vcpu, Vm

_LOW = 0xFFFF_FFFF
_DESCRIPTOR = 24
"""Bytes of Linux's own partition information descriptor."""
_HEADER = 40
"""Bytes of its header of indirect messages: that of 1.2, whatever version was agreed on."""
_UUID_OFFSET = 24
"""Where the UUID lies in it; the one lower offset of a payload that the driver of 2026 takes.

The header of 1.1 has 20 bytes: what a sender of 1.1 puts right behind it is refused.
"""


@dataclass(frozen=True)
class State:
    """A state of the driver.

    asks: the version that it names to FFA_VERSION. hardened: since 2026 it checks the indices of
    GET_REGS before it copies, and the sizes that FFA_FEATURES tells of RX/TX buffers.
    """

    year: int
    asks: Version
    hardened: bool

    def __str__(self) -> str:
        """As the name of a test's parameter."""
        return f"linux-{self.year}"


LINUX_2023 = State(2023, V1_0, hardened=False)
"""torvalds/linux at 0184450b8b1e: asks for 1.0, has one page for each buffer and no GET_REGS."""
LINUX_2025 = State(2025, V1_2, hardened=False)
"""Just before commit 3974ea193840 ("Bound PARTITION_INFO_GET_REGS copies")."""
LINUX_2026 = State(2026, V1_2, hardened=True)
"""The maintainer's tree at 212e4a4861f6, August 2026."""
STATES = (LINUX_2023, LINUX_2025, LINUX_2026)


@dataclass(frozen=True)
class Notifications:
    """What FFA_NOTIFICATION_GET returned: bitmaps of 64, and of 32 bits from SPM and hypervisor."""

    from_sps: int
    from_vms: int
    from_spm: int
    from_hypervisor: int


@dataclass(frozen=True)
class Received:
    """An indirect message that RX held."""

    sender: int
    uuid: UUID
    payload: bytes


class ArmFfa:
    """The driver, in one guest. `probe()` comes first.

    page: the kernel's page size in bytes: 4096, 16384 or 65536.

    After `probe()`: version, id (its own endpoint ID), buffer_size (bytes of RX and of TX),
    partitions (as discovered, in order), wide_memory (uses the SMC64 forms of memory calls),
    direct_req2, sri and npi (interrupt IDs, 0 if there is none).
    """

    def __init__(self, vm: Vm, state: State = LINUX_2026, page: int = PAGE_SIZE) -> None:
        self.vm = vm
        self.state = state
        self.page = page
        self.version = V1_0
        self.id = 0
        self.buffer_size = 0
        self.partitions: list[PartitionInfo] = []
        self.wide_memory = False
        self.direct_req2 = False
        self.sri = 0
        self.npi = 0
        self._tx = self._rx = 0

    # --- registers ------------------------------------------------------------------------------

    def _native(self, narrow: FFA, wide: FFA) -> FFA:
        return wide if self.vm.bits == 64 else narrow

    def _call(self, what: str, fid: int, *args: int, vcpu: Vcpu | None = None) -> Reply:
        """Make a call and refuse FFA_ERROR, which is all that most of the driver looks for."""
        reply = (vcpu or self.vm).smc(fid, *args)
        if reply.x0 == FFA.ERROR:
            raise ClientError(what, errno_of(reply), reply)
        return reply

    def _features(self, what: int) -> tuple[int, int] | None:
        """ffa_features(): the two words of properties, or None if it is not there."""
        reply = self.vm.smc(FFA.FEATURES, what)
        return None if reply.x0 == FFA.ERROR else (reply.w(2), reply.w(3))

    # --- probing --------------------------------------------------------------------------------

    def probe(self) -> ArmFfa:
        """ffa_probe(), ffa_init() before it was a platform driver: find out all, keep it.

        Raises ClientError if the driver would not have loaded; then the buffers are given back.
        """
        self.version = self._negotiate()
        try:
            self.id = self._call("failed to obtain VM id for self", FFA.ID_GET).w(2) & 0xFFFF
        except ClientError as error:
            raise ClientError(str(error), errno.ENODEV, error.reply) from error
        self._set_up_buffers()
        try:
            if self.state.asks == V1_0:
                self._set_up_partitions()
                self._set_up_memory()
                self._set_up_notifications()
            else:
                self._set_up_memory()
                self._set_up_notifications()
                self._set_up_partitions()
        except ClientError:
            self.remove()
            raise
        return self

    def _negotiate(self) -> Version:
        """ffa_version_check() and ffa_compatible_version_find()."""
        asked = self.state.asks
        reply = self.vm.smc(FFA.VERSION, int(asked))
        # The older driver compares all 64 bits, as SMCCC has it for an AArch64 caller.
        all_ones = (1 << self.vm.bits) - 1 if asked == V1_0 else _LOW
        if reply.x0 & all_ones == all_ones:
            raise NoFramework("FFA_VERSION returned not supported", errno.EOPNOTSUPP, reply)
        found = Version.parse(reply.fid)
        if asked > V1_0 and found.major > asked.major:
            raise NoFramework("incompatible, latest supported is lower", errno.EINVAL, reply)
        if found < V1_0:
            raise NoFramework("incompatible, earliest supported is 1.0", errno.EINVAL, reply)
        self.vm.version = min(found, asked)
        return self.vm.version

    def _set_up_buffers(self) -> None:
        """As large as FFA_FEATURES wants them, since the driver asks, and as the pages allow."""
        least, most = PAGE_SIZE, 0
        told = None
        if self.state.asks > V1_0:
            told = self._features(self._native(FFA.RXTX_MAP_32, FFA.RXTX_MAP_64))
        if told is not None:
            least = {1: 16 * PAGE_SIZE, 2: 4 * PAGE_SIZE}.get(told[0] & 3, PAGE_SIZE)
            most = (told[0] >> 16) * PAGE_SIZE
        aligned = max(least, self.page) if self.state.asks > V1_0 else least
        if not self.state.hardened:
            self._map(aligned)
            return
        if most:
            most = max(most, least)
        try:
            self._map(min(aligned, most or aligned))
        except ClientError as error:
            if error.errno != errno.EINVAL or most or aligned == least:
                raise
            self._map(least)

    def _map(self, size: int) -> None:
        """ffa_rxtx_map()."""
        pages = -(-max(size, self.page) // PAGE_SIZE)
        if not self._tx:
            self._tx, self._rx = (self.vm.memory.allocate(pages) for _ in range(2))
        fid = self._native(FFA.RXTX_MAP_32, FFA.RXTX_MAP_64)
        what = "failed to register FFA RxTx buffers"
        self._call(what, fid, self._tx, self._rx, size // PAGE_SIZE)
        self.buffer_size = size

    def _set_up_memory(self) -> None:
        """ffa_drvinfo_flags_init()."""
        lend = self._native(FFA.MEM_LEND_32, FFA.MEM_LEND_64)
        share = self._native(FFA.MEM_SHARE_32, FFA.MEM_SHARE_64)
        self.wide_memory = self._features(lend) is not None or self._features(share) is not None
        if self.state.asks >= V1_2:
            both = (FFA.MSG_SEND_DIRECT_REQ2, FFA.MSG_SEND_DIRECT_RESP2)
            self.direct_req2 = any(self._features(each) is not None for each in both)

    def _set_up_notifications(self) -> None:
        """ffa_notifications_setup(): a guest has its bitmap from the hypervisor, and the NPI."""
        if self._features(FFA.NOTIFICATION_BITMAP_CREATE) is not None:
            vcpus = len(self.vm.vcpus)
            self._call("bitmap create error", FFA.NOTIFICATION_BITMAP_CREATE, self.id, vcpus)
        elif self.state.asks == V1_0:
            return
        self.sri = (self._features(Feature.SCHEDULE_RECV_INTR) or (0,))[0]
        if self.state.asks > V1_0:
            self.npi = (self._features(Feature.NOTIF_PEND_INTR) or (0,))[0]

    @property
    def notifications(self) -> bool:
        """Whether drivers may use notifications."""
        return bool(self.sri or self.npi)

    def _set_up_partitions(self) -> None:
        """ffa_setup_partitions(): whoever is found becomes a device, the guest itself included."""
        try:
            self.partitions = self.discover()
        except ClientError:
            if self.state.asks > V1_0:
                raise
        if not self.partitions and self.state.asks > V1_0:
            raise ClientError("no partitions found", errno.EINVAL)

    def remove(self) -> None:
        """ffa_remove(): the buffers go. Raises ClientError if they cannot, which Linux ignores."""
        own = 0 if self.state.hardened else self.id << 16
        self._call("ffa_rxtx_unmap", FFA.RXTX_UNMAP, own)
        self._tx = self._rx = 0

    # --- discovery ------------------------------------------------------------------------------

    def discover(self, uuid: UUID = NIL) -> list[PartitionInfo]:
        """ffa_partition_probe(): first the count, then the list, by GET_REGS where it is there."""
        ask: Callable[[UUID, int], tuple[int, list[PartitionInfo]]] = self._by_buffer
        if self.state.asks > V1_0 and self._features(FFA.PARTITION_INFO_GET_REGS) is not None:
            ask = self._by_registers
        count, _ = ask(uuid, 0)
        if count <= 0:
            return []
        again, found = ask(uuid, count)
        if again > count:
            raise Overrun(f"{again} partitions, in an array for the {count} of a moment before")
        return found

    def matching(self, uuid: UUID) -> list[int]:
        """ffa_device_match_uuid(): which of the known partitions have this UUID, for 1.0."""
        known = {each.id for each in self.partitions}
        return [each.id for each in self.discover(uuid) if each.id in known]

    def _by_buffer(self, uuid: UUID, room: int) -> tuple[int, list[PartitionInfo]]:
        """__ffa_partition_info_get(); with no room it is about the count alone."""
        count_only = self.version > V1_0 and not room
        words = struct.unpack("<4I", uuid.bytes)
        flags = PARTITION_INFO_COUNT_ONLY if count_only else 0
        reply = self._call("partition_info_get", FFA.PARTITION_INFO_GET, *words, flags)
        count, size = reply.w(2), reply.w(3) if self.version > V1_0 else 8
        found = []
        if room and count <= room:
            found = [self._descriptor(n * size, min(size, _DESCRIPTOR)) for n in range(count)]
        if not count_only or self.state.asks == V1_0:
            self.vm.smc(FFA.RX_RELEASE)  # whatever comes of it
        return count, found

    def _descriptor(self, offset: int, size: int) -> PartitionInfo:
        """One descriptor out of RX: `size` bytes count, and what does not is zero."""
        if offset + size > self.buffer_size:
            raise Overrun(f"a descriptor at offset {offset} of RX, which has {self.buffer_size}")
        # Since 2026 field by field, before it was as many bytes as the size says.
        length = max(size, 8) if self.state.hardened else size
        data = self.vm.memory.read(self._rx + offset, length).ljust(_DESCRIPTOR, b"\0")
        return PartitionInfo.decode(data)

    def _by_registers(self, uuid: UUID, room: int) -> tuple[int, list[PartitionInfo]]:
        """__ffa_partition_info_get_regs(): echoes the tag, until the last index has come."""
        low, high = struct.unpack("<2Q", uuid.bytes)
        found: list[PartitionInfo] = []
        start = tag = count = 0
        while True:
            reply = self._call(
                "partition_info_get_regs", FFA.PARTITION_INFO_GET_REGS, low, high, start | tag << 16
            )
            count = count or (reply.x2 & 0xFFFF) + 1
            if not room:
                return count, []
            current, tag, size = (reply.x2 >> shift & 0xFFFF for shift in (16, 32, 48))
            step = 3
            if self.state.hardened:
                step = self._checked(reply, start, count, size, room - len(found))
            for n in range(current - start + 1):
                if len(found) == room or 3 + n * step + 3 > len(reply):
                    raise Overrun(f"entry {n} of {reply}, in an array for {room}")
                words = reply[3 + n * step : 6 + n * step]
                found.append(PartitionInfo.decode(struct.pack("<3Q", *words)))
            if current >= count - 1:
                return count, found
            # Before 2026 an index of 0 counted as none, and the walk began anew.
            start = current + 1 if self.state.hardened or current else 0

    @staticmethod
    def _checked(reply: Reply, start: int, count: int, size: int, room: int) -> int:
        """The bounds of 2026: registers from one descriptor to the next. Raises ClientError."""
        current = reply.x2 >> 16 & 0xFFFF
        step = size // 8
        held = current - start + 1
        sane = start <= current < count and size % 8 == 0 and step >= 3
        if not sane or held > 15 // step or held > room:
            raise ClientError(f"entries {start} to {current} of {count}", errno.EINVAL, reply)
        return step

    # --- messages -------------------------------------------------------------------------------

    def narrow(self, partition: PartitionInfo) -> bool:
        """Whether direct messages to it are of 32 bits, as it is said to run in AArch32."""
        aarch64 = bool(partition.properties & PartitionProperty.AARCH64_STATE)
        return self.version > V1_0 and not aarch64

    def sync_send_receive(
        self,
        partition: int,
        payload: Sequence[int],
        *,
        narrow: bool = False,
        vcpu: Vcpu | None = None,
    ) -> tuple[int, ...]:
        """ffa_msg_send_direct_req(): five values there, five values back.

        An SP that was preempted, or that yielded, is run until it has answered.
        """
        request, response = FFA.MSG_SEND_DIRECT_REQ_32, FFA.MSG_SEND_DIRECT_RESP_32
        if not narrow and self.vm.bits == 64:
            request, response = FFA.MSG_SEND_DIRECT_REQ_64, FFA.MSG_SEND_DIRECT_RESP_64
        values = (*payload, *(0,) * (5 - len(payload)))
        reply = (vcpu or self.vm).smc(request, self.id << 16 | partition, 0, *values)
        return self._answer(reply, response, vcpu)[3:8]

    def sync_send_receive2(
        self, partition: int, uuid: UUID, payload: Sequence[int], vcpu: Vcpu | None = None
    ) -> tuple[int, ...]:
        """ffa_msg_send_direct_req2(): up to fourteen values, for the service with this UUID."""
        if not self.direct_req2:
            raise ClientError("sync_send_receive2", errno.EOPNOTSUPP)
        head = (self.id << 16 | partition, *struct.unpack("<2Q", uuid.bytes))
        values = (*payload, *(0,) * (14 - len(payload)))
        reply = (vcpu or self.vm).smc(FFA.MSG_SEND_DIRECT_REQ2, *head, *values)
        return self._answer(reply, FFA.MSG_SEND_DIRECT_RESP2, vcpu)[4:]

    def _answer(self, reply: Reply, wanted: FFA, vcpu: Vcpu | None) -> Reply:
        """ffa_msg_send_wait_for_completion(), and what is made of the answer then."""
        resumed = {int(FFA.INTERRUPT)}
        if self.state.asks > V1_0:
            resumed.add(int(FFA.MSG_YIELD))
        while reply.x0 in resumed:
            reply = (vcpu or self.vm).smc(FFA.RUN, reply.x1)
        if reply.x0 == FFA.ERROR:
            raise ClientError("direct request", errno_of(reply), reply)
        if reply.x0 != wanted:
            raise ClientError("direct request, answered by something else", errno.EINVAL, reply)
        return reply

    def run(self, partition: int, vcpu: int = 0) -> None:
        """ffa_run(): give cycles to an SP, until it needs no more."""
        reply = self.vm.smc(FFA.RUN, partition << 16 | vcpu)
        while reply.x0 == FFA.INTERRUPT:
            reply = self.vm.smc(FFA.RUN, reply.x1)
        if reply.x0 == FFA.ERROR:
            raise ClientError("ffa_run", errno_of(reply), reply)

    def indirect_send(self, partition: int, payload: bytes, uuid: UUID = NIL) -> None:
        """ffa_msg_send2(): the 1.2 header whatever the version; a reserved word is left as it was.

        Raises ClientError, ERANGE for what does not fit into TX.
        """
        if len(payload) > self.buffer_size - _HEADER:
            raise ClientError("ffa_msg_send2", errno.ERANGE)
        ids = self.id << 16 | partition
        head = struct.pack("<5I", 0, 0, _HEADER, ids, len(payload))
        self.vm.memory.write(self._tx, head)
        self.vm.memory.write(self._tx + _UUID_OFFSET, uuid.bytes + payload)
        self._call("ffa_msg_send2", FFA.MSG_SEND2)

    # --- memory ---------------------------------------------------------------------------------

    def memory_share(
        self,
        borrower: int,
        ranges: Sequence[tuple[int, int]],
        *,
        permissions: int = MEM_PERM_RW,
        flags: int = 0,
        tag: int = 0,
    ) -> int:
        """ffa_memory_share(): (address, pages) ranges for one SP, out of TX. Returns the handle.

        A descriptor that is longer than TX goes in fragments (ffa_setup_and_transmit()); where one
        of them fails there, ENXIO is all that is left of the reason.
        """
        region = CompositeRegion(tuple(Constituent(*each) for each in ranges))
        access = (MemoryAccess(borrower, permissions),)
        transaction = MemoryTransaction(self.id, access, region, flags=flags, tag=tag)
        data = transaction.encode(self.version)
        wide = self.wide_memory and self.vm.bits == 64
        fid = FFA.MEM_SHARE_64 if wide else FFA.MEM_SHARE_32
        parts = [data[n : n + self.buffer_size] for n in range(0, len(data), self.buffer_size)]
        handle = 0
        for n, part in enumerate(parts):
            self.vm.memory.write(self._tx, part)
            try:
                if n:
                    self._next_fragment(handle, len(part))
                else:
                    handle = self._first_fragment(fid, len(part), len(data))
            except ClientError as error:
                if n == len(parts) - 1:
                    raise
                raise ClientError(str(error), errno.ENXIO, error.reply) from error
        return handle

    def _first_fragment(self, fid: FFA, length: int, total: int) -> int:
        """ffa_mem_first_frag(): the handle of the share, whole or begun."""
        reply = self._call("memory_share", fid, total, length)
        if reply.x0 == FFA.SUCCESS_32:
            return reply.w(3) << 32 | reply.w(2)
        if reply.x0 == FFA.MEM_FRAG_RX:
            return reply.w(2) << 32 | reply.w(1)
        raise ClientError("memory_share", errno.EOPNOTSUPP, reply)

    def _next_fragment(self, handle: int, length: int) -> None:
        """ffa_mem_next_frag()."""
        halves = handle & _LOW, handle >> 32
        reply = self._call("memory_share, next fragment", FFA.MEM_FRAG_TX, *halves, length)
        if reply.x0 not in (FFA.MEM_FRAG_RX, FFA.SUCCESS_32):
            raise ClientError("memory_share, next fragment", errno.EOPNOTSUPP, reply)

    def memory_reclaim(self, handle: int, flags: int = 0) -> None:
        """ffa_memory_reclaim()."""
        self._call("memory_reclaim", FFA.MEM_RECLAIM, handle & _LOW, handle >> 32, flags)

    # --- notifications --------------------------------------------------------------------------

    def notify_request(self, partition: int, number: int, per_vcpu: bool = False) -> None:
        """ffa_notify_request(): take notification `number`, 0 to 63, of a partition."""
        self._notification(FFA.NOTIFICATION_BIND, partition, 1 << number, int(per_vcpu))

    def notify_relinquish(self, partition: int, number: int) -> None:
        """ffa_notify_relinquish(): take it no more."""
        self._notification(FFA.NOTIFICATION_UNBIND, partition, 1 << number, 0)

    def notify_send(self, partition: int, number: int, vcpu: int | None = None) -> None:
        """ffa_notify_send(): notify a partition, or one of its vCPUs."""
        flags = 0 if vcpu is None else NOTIF_PER_VCPU | vcpu << 16
        self._notification(FFA.NOTIFICATION_SET, partition, 1 << number, flags, own_first=True)

    def _notification(
        self, fid: FFA, partition: int, bitmap: int, flags: int, own_first: bool = False
    ) -> None:
        if not self.notifications:
            raise ClientError(f"FFA_{fid.name}, with notifications disabled", errno.EOPNOTSUPP)
        # The sender stands first: of BIND that is the other one.
        ids = self.id << 16 | partition if own_first else partition << 16 | self.id
        reply = self._call(f"FFA_{fid.name}", fid, ids, flags, bitmap & _LOW, bitmap >> 32)
        if reply.x0 != FFA.SUCCESS_32:
            raise ClientError(f"FFA_{fid.name}", errno.EINVAL, reply)

    def notification_get(self, vcpu: int = 0) -> Notifications:
        """ffa_notification_get(): all four kinds at once, as a guest asks."""
        flags = NOTIF_GET_SP | NOTIF_GET_VM | NOTIF_GET_SPM | NOTIF_GET_HYP
        caller = self.vm.vcpus[vcpu]
        what = "failed to retrieve notifications"
        ids = vcpu << 16 | self.id
        reply = self._call(what, FFA.NOTIFICATION_GET, ids, flags, vcpu=caller)
        if reply.x0 != FFA.SUCCESS_32:
            raise ClientError(what, errno.EINVAL, reply)
        sps, vms = (reply.w(n) | reply.w(n + 1) << 32 for n in (2, 4))
        return Notifications(sps, vms, reply.w(6), reply.w(7))

    def notification_info(self) -> list[tuple[int, int | None]]:
        """ffa_notification_info_get(): who is to be scheduled, with a vCPU or with none.

        Raises ClientError for what Linux logs as a failed fetch.
        """
        found: list[tuple[int, int | None]] = []
        native = self._native(FFA.NOTIFICATION_INFO_GET_32, FFA.NOTIFICATION_INFO_GET_64)
        success = self._native(FFA.SUCCESS_32, FFA.SUCCESS_64)
        while True:
            reply = self.vm.smc(native)
            if reply.x0 not in (success, FFA.SUCCESS_32):
                if errno_of(reply) != errno.ENODATA:
                    raise ClientError("Notification Info fetch failed", errno_of(reply), reply)
                return found
            found += self._lists(reply, success)
            if not reply.x2 & NOTIF_INFO_MORE:
                return found

    def _lists(self, reply: Reply, native: FFA) -> list[tuple[int, int | None]]:
        """The lists of IDs in an answer: an endpoint, and up to three of its vCPUs."""
        wide = reply.x0 == FFA.SUCCESS_64
        # Before 2026 the registers of a 32-bit answer were taken for full ones by 64-bit Linux.
        whole = reply.x0 == native or not self.state.hardened
        form = "<4H" if self.vm.bits == 64 and whole else "<2H"
        size = struct.calcsize(form)
        ids = [
            number
            for register in reply[3:8]
            for number in struct.unpack(form, register.to_bytes(8, "little")[:size])
        ]
        room = 20 if wide else 10
        lists = reply.x2 >> NOTIF_INFO_LISTS_SHIFT & NOTIF_INFO_LISTS_MASK
        counts = reply.x2 >> NOTIF_INFO_COUNTS_SHIFT & ((1 << 40 if wide else 1 << 20) - 1)
        found: list[tuple[int, int | None]] = []
        at = 0
        for n in range(lists):
            if at >= room - 1:
                break
            endpoint, at = ids[at], at + 1
            vcpus = counts >> 2 * n & 3
            if not vcpus:
                found.append((endpoint, None))
            for _ in range(vcpus):
                if at >= room - 1:
                    break
                found.append((endpoint, ids[at]))
                at += 1
        return found

    def receive(self, what: Notifications) -> list[Received]:
        """handle_fwk_notif_callbacks(): the message in RX, for each full buffer that was told.

        Raises ClientError for a header that Linux calls invalid; RX is given back all the same.
        """
        told = (what.from_spm, what.from_hypervisor)
        return [self._message() for each in told if each & NOTIF_RX_BUFFER_FULL]

    def _message(self) -> Received:
        head = self.vm.memory.read(self._rx, _HEADER)
        _, _, offset, ids, size = struct.unpack_from("<5I", head)
        end = offset + size
        bad = not size or (offset < _HEADER and offset != _UUID_OFFSET) or end > self.buffer_size
        if self.state.hardened and bad:
            self.vm.smc(FFA.RX_RELEASE)
            raise ClientError("invalid framework notification message", errno.EINVAL)
        if end > self.buffer_size:
            raise Overrun(f"a message of {size} bytes at offset {offset} of RX")
        payload = self.vm.memory.read(self._rx + offset, size)
        uuid = UUID(bytes=head[24:40]) if offset >= _HEADER else NIL
        self.vm.smc(FFA.RX_RELEASE)
        return Received(ids >> 16, uuid, payload)
