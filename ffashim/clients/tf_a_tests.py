# SPDX-License-Identifier: GPL-2.0-only
"""tf-a-tests: how its test framework finds secure partitions, maps its mailbox and talks.

Its behaviour, as read in tftf/tests/runtime_services/secure_service/ (spm_common.c,
test_ffa_setup_and_discovery.c, test_ffa_direct_messaging.c) at fdd0a97f, August 2026. It runs in
the place of a hypervisor; here it is a guest, so what only a hypervisor may do is left out.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from uuid import UUID

from ffashim.clients.complaint import ClientError
from ffashim.descriptors import (
    NIL,
    CompositeRegion,
    Constituent,
    MemoryAccess,
    MemoryTransaction,
    PartitionInfo,
)
from ffashim.ffa import FFA, MEM_PERM_RW, Version
from ffashim.reply import Reply
from ffashim.vm import Vm

_DESCRIPTOR = 24


class Tftf:
    """The test framework, in a guest. What fails there raises ClientError here."""

    def __init__(self, vm: Vm, version: Version) -> None:
        self.vm = vm
        self.version = version
        self._send, self._recv = (vm.memory.allocate() for _ in range(2))

    def negotiate(self) -> Version:
        """CHECK_SPMC_TESTING_SETUP: a version at least as high as the one it was compiled for."""
        reply = self.vm.smc(FFA.VERSION, int(self.version))
        found = Version.parse(reply.fid)
        if reply.fid >> 31 or found < self.version:
            raise ClientError(f"no FF-A {self.version}", reply=reply)
        self.vm.version = self.version
        return found

    # --- the mailbox ----------------------------------------------------------------------------

    def map(self) -> Reply:
        """CONFIGURE_AND_MAP_MAILBOX."""
        wide = self.vm.bits == 64
        fid = FFA.RXTX_MAP_64 if wide else FFA.RXTX_MAP_32
        return self.vm.smc(fid, self._send, self._recv, 1)

    def get_mailbox(self) -> None:
        """GET_TFTF_MAILBOX."""
        reply = self.map()
        if reply.x0 != FFA.SUCCESS_32:
            raise ClientError("cannot map RX/TX", reply=reply)

    def unmap(self) -> Reply:
        """reset_tftf_mailbox()."""
        return self.vm.smc(FFA.RXTX_UNMAP)

    def share_the_mailbox(self, receiver: int) -> Reply:
        """test_ffa_rxtx_map_memory_share_fail: the TX buffer itself is to be shared."""
        region = CompositeRegion((Constituent(self._send),))
        access = (MemoryAccess(receiver, MEM_PERM_RW),)
        data = MemoryTransaction(self.vm.id, access, region).encode(self.version)
        self.vm.memory.write(self._send, data)
        fid = FFA.MEM_SHARE_64 if self.vm.bits == 64 else FFA.MEM_SHARE_32
        return self.vm.smc(fid, len(data), len(data))

    # --- discovery ------------------------------------------------------------------------------

    def partition_info(self, expected: Sequence[PartitionInfo], uuid: UUID = NIL) -> None:
        """ffa_partition_info_helper(): exactly these are to be in RX, in this order.

        It releases RX whatever was answered, and wants that to succeed.
        """
        words = struct.unpack("<4I", uuid.bytes)
        reply = self.vm.smc(FFA.PARTITION_INFO_GET, *words)
        if reply.x0 == FFA.SUCCESS_32:
            if reply.w(2) != len(expected):
                raise ClientError("unexpected number of partitions", reply=reply)
            if reply.w(3) != _DESCRIPTOR:
                raise ClientError("unexpected partition info descriptor size", reply=reply)
            data = self.vm.memory.read(self._recv, len(expected) * _DESCRIPTOR)
            for n, each in enumerate(expected):
                self._compare(PartitionInfo.decode(data, n * _DESCRIPTOR), each, uuid)
        released = self.vm.smc(FFA.RX_RELEASE)
        if released.x0 == FFA.ERROR:
            raise ClientError("failed to release RX buffer", reply=released)

    def partition_info_regs(self, expected: Sequence[PartitionInfo], uuid: UUID = NIL) -> None:
        """ffa_partition_info_regs_helper(): one call, its first two entries, and the count."""
        low, high = struct.unpack("<2Q", uuid.bytes)
        reply = self.vm.smc(FFA.PARTITION_INFO_GET_REGS, low, high)
        if reply.x0 != FFA.SUCCESS_64:
            raise ClientError("partition_info_get_regs", reply=reply)
        if (reply.x2 & 0xFFFF) + 1 != len(expected):
            raise ClientError("unexpected number of partitions", reply=reply)
        if reply.x2 >> 48 != _DESCRIPTOR:
            raise ClientError("unexpected partition info descriptor size", reply=reply)
        for n, each in enumerate(expected[:2]):
            data = struct.pack("<3Q", *reply[3 + 3 * n : 6 + 3 * n])
            self._compare(PartitionInfo.decode(data), each, uuid)

    @staticmethod
    def _compare(found: PartitionInfo, expected: PartitionInfo, uuid: UUID) -> None:
        """ffa_compare_partition_info(): a UUID that was named does not come back."""
        wanted = expected
        if uuid != NIL:
            wanted = PartitionInfo(expected.id, expected.exec_contexts, expected.properties)
        if found != wanted:
            raise ClientError(f"expected {wanted}, got {found}")

    # --- messages -------------------------------------------------------------------------------

    def echo(self, partition: int, value: int, *, wide: bool = True) -> None:
        """cactus_echo_send_cmd(): the value is to come back from where it was sent to."""
        request, response = FFA.MSG_SEND_DIRECT_REQ_32, FFA.MSG_SEND_DIRECT_RESP_32
        if wide and self.vm.bits == 64:
            request, response = FFA.MSG_SEND_DIRECT_REQ_64, FFA.MSG_SEND_DIRECT_RESP_64
        reply = self.vm.smc(request, self.vm.id << 16 | partition, 0, value)
        while reply.x0 == FFA.INTERRUPT:
            reply = self.vm.smc(FFA.RUN, reply.x1)
        if reply.x0 != response or reply.w(1) != partition << 16 | self.vm.id:
            raise ClientError("no direct response", reply=reply)
        if reply.x3 != value:
            raise ClientError(f"{value:#x} did not come back", reply=reply)
