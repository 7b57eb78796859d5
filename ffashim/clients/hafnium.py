# SPDX-License-Identifier: GPL-2.0-only
"""Hafnium's test partitions: how its primary VM finds the secure partitions.

Its behaviour, as read in test/vmapi/common/ffa.c, test/vmapi/primary_only/primary_only.c and
test/vmapi/ffa_secure_partitions/setup_and_discovery.c at 21bfbdc1, August 2026. What is Hafnium's
own there is left out: its partitions by name, two descriptors a call where 1.3 has room for no
more, a size in w3 for a caller of 1.0.
"""

from __future__ import annotations

import struct
from uuid import UUID

from ffashim.clients.complaint import ClientError
from ffashim.descriptors import NIL, PartitionInfo, PartitionInfoRegs, decode_partition_infos
from ffashim.ffa import FFA, PARTITION_INFO_COUNT_ONLY, V1_0, FfaError, Version
from ffashim.reply import Reply
from ffashim.vm import Vm


class TestPartition:
    """The primary VM of Hafnium's tests, in a guest.

    version: what it is compiled for. Each method does what a test there does, and raises
    ClientError where that test would fail.
    """

    __test__ = False  # pytest: no class of tests

    def __init__(self, vm: Vm, version: Version) -> None:
        self.vm = vm
        self.version = version
        vm.version = version

    def negotiate(self, implemented: Version) -> None:
        """ffa_version: every version that is compatible is answered by the one implemented."""
        for asked in (V1_0, Version(1, 1), self.version):
            reply = self.vm.smc(FFA.VERSION, int(asked))
            if reply.fid != int(implemented):
                raise ClientError(f"FFA_VERSION {asked}", reply=reply)

    def set_up_mailbox(self) -> None:
        """One page for each buffer."""
        self.vm.map_rxtx()

    def tear_down(self) -> None:
        """Between tests RX must not be held: FFA_RX_RELEASE is to be DENIED."""
        reply = self.vm.smc(FFA.RX_RELEASE)
        if reply.error is not FfaError.DENIED:
            raise ClientError("RX is still held", reply=reply)

    def walk(self, uuid: UUID = NIL) -> list[PartitionInfo]:
        """ffa_partition_info_get_regs_uuid_null: index by index, with a tag of 0 each time."""
        low, high = struct.unpack("<2Q", uuid.bytes)
        found: list[PartitionInfo] = []
        last = 0
        while len(found) <= last:
            start = len(found)
            reply = self.vm.smc(FFA.PARTITION_INFO_GET_REGS, low, high, start)
            if reply.x0 != FFA.SUCCESS_64:
                raise ClientError(f"partition_info_get_regs from {start}", reply=reply)
            window = PartitionInfoRegs.decode(reply, start)
            if start and window.last != last:
                raise ClientError(f"the last index was {last}", reply=reply)
            if window.size != 24 or not window.partitions:
                raise ClientError(f"descriptors of {window.size} bytes", reply=reply)
            found += window.partitions
            last = window.last
        return found

    def count(self, uuid: UUID = NIL) -> int:
        """ffa_partition_info_get_count_flag: no buffer is needed, and w3 is zero."""
        reply = self._get(uuid, PARTITION_INFO_COUNT_ONLY)
        if reply.x0 != FFA.SUCCESS_32 or reply.w(3):
            raise ClientError("partition_info_get, count flag", reply=reply)
        return reply.w(2)

    def partitions(self, uuid: UUID = NIL) -> list[PartitionInfo]:
        """ffa_partition_info_get_uuid_null and _uuid_fixed: the list in RX, which is released."""
        reply = self._get(uuid, 0)
        size = 0 if self.version == V1_0 else 24
        if reply.x0 != FFA.SUCCESS_32 or reply.w(3) != size:
            raise ClientError("partition_info_get", reply=reply)
        found = decode_partition_infos(self.vm.rx.read(), reply.w(2), size)
        released = self.vm.smc(FFA.RX_RELEASE)
        if released.x0 != FFA.SUCCESS_32:
            raise ClientError("rx_release", reply=released)
        return found

    def refused(self, uuid: UUID = NIL, flags: int = 0) -> FfaError | None:
        """ffa_partition_info_get_uuid_unknown and _flags_mbz_fail: why there is no list."""
        reply = self._get(uuid, flags)
        if reply.x0 != FFA.ERROR:
            raise ClientError("partition_info_get should fail", reply=reply)
        return reply.error

    def _get(self, uuid: UUID, flags: int) -> Reply:
        words = struct.unpack("<4I", uuid.bytes)
        return self.vm.smc(FFA.PARTITION_INFO_GET, *words, flags)
