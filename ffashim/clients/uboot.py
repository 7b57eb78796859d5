# SPDX-License-Identifier: GPL-2.0-only
"""U-Boot: its FF-A bus, by which EFI variables reach the secure world.

Its behaviour, as read in drivers/firmware/arm-ffa/arm-ffa-uclass.c and lib/efi_loader/
efi_variable_tee.c at 6073c36b2c8, August 2026; names of functions in the docstrings are those of
the first. It is a client of FF-A 1.0, of 64 bits only, and tells a success by FFA_SUCCESS_32.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from ffashim.clients.complaint import ClientError, NoFramework, Overrun, errno_of
from ffashim.descriptors import NIL, PartitionInfo
from ffashim.ffa import FFA, PAGE_SIZE, V1_0, Version
from ffashim.reply import Reply
from ffashim.vm import Vm

_DESCRIPTOR = 8
"""Bytes of a partition information descriptor in 1.0."""
_PAGES = {0: 1, 2: 4, 1: 16}
"""Pages of a buffer, by what FFA_FEATURES tells of FFA_RXTX_MAP."""


@dataclass
class Partition:
    """A partition as it is cached: its UUID is known only once it was looked for."""

    info: PartitionInfo
    uuid: UUID = NIL


class UBoot:
    """The FF-A bus of U-Boot, in one guest. `probe()` comes first.

    After `probe()`: version (the hypervisor's), id (its own endpoint ID), pages (of RX and of TX),
    partitions (the cache).
    """

    def __init__(self, vm: Vm) -> None:
        self.vm = vm
        self.version = V1_0
        self.id = 0
        self.pages = 0
        self.partitions: list[Partition] = []
        self._tx = self._rx = 0

    def _call(self, what: str, fid: int, *args: int) -> Reply:
        reply = self.vm.smc(fid, *args)
        if reply.x0 != FFA.SUCCESS_32:
            raise ClientError(what, errno_of(reply), reply)
        return reply

    def probe(self) -> UBoot:
        """ffa_do_probe(): version, own ID, buffers, and all partitions into the cache.

        Raises ClientError if there is no FF-A device then.
        """
        self.version = self._negotiate()
        self.id = self._call("ffa_get_endpoint_id", FFA.ID_GET).w(2) & 0xFFFF
        told = self._call("FFA_RXTX_MAP features", FFA.FEATURES, FFA.RXTX_MAP_64)
        if told.w(2) not in _PAGES:
            raise ClientError("RX/TX buffer size not supported", errno.EINVAL, told)
        self.pages = _PAGES[told.w(2)]
        self._rx, self._tx = (self.vm.memory.allocate(self.pages) for _ in range(2))
        what = "ffa_map_rxtx_buffers"
        self._call(what, FFA.RXTX_MAP_64, self._tx, self._rx, self.pages)
        try:
            self._query(NIL)
        except ClientError:
            self.remove()
            raise
        return self

    def _negotiate(self) -> Version:
        """ffa_get_version_hdlr(): 1.0, or what is compatible with it."""
        reply = self.vm.smc(FFA.VERSION, int(V1_0))
        if reply.fid >> 31:
            raise NoFramework("no FF-A framework", errno.EOPNOTSUPP, reply)
        found = Version.parse(reply.fid)
        if found.major != V1_0.major:
            raise NoFramework("versions are incompatible", errno.EPROTONOSUPPORT, reply)
        self.vm.version = V1_0
        return found

    def _query(self, uuid: UUID) -> int:
        """ffa_query_partitions_info(): fill the cache, or give its entries a UUID. Returns how many
        there are.
        """
        what = "ffa_query_partitions_info"
        reply = self._call(what, FFA.PARTITION_INFO_GET, *struct.unpack("<4I", uuid.bytes))
        count = reply.w(2)
        if count:
            try:
                self._read(uuid, count)
            except ClientError as error:
                self._release()
                raise ClientError("failed reading SP data", errno.EINVAL, reply) from error
        self._release()
        return count

    def _release(self) -> None:
        """ffa_release_rx_buffer_hdlr(): unlike Linux, it wants this to succeed."""
        self._call("ffa_release_rx_buffer", FFA.RX_RELEASE)

    def _read(self, uuid: UUID, count: int) -> None:
        """ffa_read_partitions_info()."""
        room = self.pages * PAGE_SIZE
        if count * _DESCRIPTOR > room:
            if uuid != NIL:
                raise Overrun(f"{count} descriptors of {_DESCRIPTOR} bytes in RX of {room}")
            raise ClientError("partitions data size exceeds the RX buffer size", errno.ENOMEM)
        data = self.vm.memory.read(self._rx, count * _DESCRIPTOR)
        found = [PartitionInfo.decode(data, n * _DESCRIPTOR, _DESCRIPTOR) for n in range(count)]
        if uuid == NIL:
            self.partitions = [Partition(each) for each in found]
            return
        for each in found:
            for known in self.partitions:
                if known.info.id == each.id:
                    known.uuid = uuid
                    break
            else:
                raise ClientError(f"partition {each.id:#x} was not there before", errno.ENODATA)

    def partition_info_get(self, uuid: UUID) -> list[PartitionInfo]:
        """ffa_get_partitions_info_hdlr(): who has this UUID, out of the cache if that knows.

        Raises ClientError, ENODATA if it is nobody, EINVAL where the hypervisor says so.
        """
        if not self.partitions:
            raise ClientError("no partition installed", errno.EINVAL)
        cached = self._cached(uuid)
        if not cached:
            if not self._query(uuid):
                raise ClientError("ffa_get_partitions_info", errno.ENODATA)
            cached = self._cached(uuid)
        return cached

    def _cached(self, uuid: UUID) -> list[PartitionInfo]:
        return [each.info for each in self.partitions if each.uuid == uuid]

    def sync_send_receive(
        self, partition: int, payload: Sequence[int], *, wide: bool = True
    ) -> tuple[int, ...]:
        """ffa_msg_send_direct_req_hdlr(): five values there, five values back.

        A partition that was preempted is run until it has answered; FFA_SUCCESS is an answer
        without values. EFI variables use the 64-bit call.
        """
        if not self.partitions:
            raise ClientError("no partition installed", errno.ENODEV)
        request, response = FFA.MSG_SEND_DIRECT_REQ_32, FFA.MSG_SEND_DIRECT_RESP_32
        if wide:
            request, response = FFA.MSG_SEND_DIRECT_REQ_64, FFA.MSG_SEND_DIRECT_RESP_64
        values = (*payload, *(0,) * (5 - len(payload)))
        reply = self.vm.smc(request, self.id << 16 | partition, 0, *values)
        while reply.x0 == FFA.INTERRUPT:
            reply = self.vm.smc(FFA.RUN, reply.x1)
        if reply.x0 == FFA.SUCCESS_32:
            return values
        if reply.x0 != response:
            raise ClientError("ffa_msg_send_direct_req", errno_of(reply), reply)
        return reply[3:8]

    def remove(self) -> None:
        """ffa_unmap_rxtx_buffers_hdlr(): before it hands over to an operating system."""
        self._call("ffa_unmap_rxtx_buffers", FFA.RXTX_UNMAP, self.id << 16)
