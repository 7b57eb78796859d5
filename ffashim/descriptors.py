# SPDX-License-Identifier: GPL-2.0-only
"""FF-A's data structures in memory and registers: typed, encoded, decoded.

Everything is little-endian. A field takes any value that its width holds, whether or not the
specification allows it; sizes and offsets that normally follow from the rest can be set, too.
So a test writes a correct structure and bends the one field it is about:

    replace(share, memory_access_offset=49).encode()

What does not fit its width raises `DescriptorError` with the field's name, and so does data that
is too short to be decoded.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from ffashim.errors import UsageError
from ffashim.ffa import (
    FFA,
    MEM_ATTR_NORMAL_WB_ISH,
    MEM_PERM_RW,
    V1_1,
    V1_2,
    FfaError,
    Version,
    error_code,
)

NIL = UUID(int=0)
_FAR = 1 << 20
"""An offset beyond this was bent by a test: nothing is put there."""


class DescriptorError(UsageError, ValueError):
    """A field that does not fit, or data that is no such structure."""


def _pack(form: str, names: str, *values: int | bytes) -> bytes:
    """struct.pack that names the field that does not fit."""
    try:
        return struct.pack("<" + form, *values)
    except struct.error:
        widths = {"B": 8, "H": 16, "I": 32, "Q": 64}
        codes = [c for c in form if c in widths or c == "s"]
        for name, code, value in zip(names.split(), codes, values, strict=True):
            if isinstance(value, int) and not 0 <= value < 1 << widths.get(code, 0):
                raise DescriptorError(
                    f"{name} = {value:#x}: the field has {widths[code]} bits, unsigned"
                ) from None
        raise


def _unpack(form: str, what: str, data: bytes, offset: int = 0) -> tuple[int, ...]:
    """struct.unpack_from that says what was too short."""
    form = "<" + form
    if offset < 0 or offset + struct.calcsize(form) > len(data):
        raise DescriptorError(
            f"{what}: {struct.calcsize(form)} bytes at offset {offset} do not fit in {len(data)}"
        )
    return struct.unpack_from(form, data, offset)


@dataclass(frozen=True)
class PartitionInfo:
    """Partition information descriptor (13.8, Table 13.37).

    id and exec_contexts have 16 bits, properties 32. In 1.0 there is no UUID.
    """

    id: int
    exec_contexts: int = 1
    properties: int = 0
    uuid: UUID = NIL

    def encode(self, size: int = 24, fill: int = 0xA5) -> bytes:
        """In `size` bytes: 8 is FF-A 1.0, 24 is 1.1; what is beyond is filled."""
        data = _pack(
            "HHI16s",
            "PartitionInfo.id PartitionInfo.exec_contexts PartitionInfo.properties uuid",
            self.id, self.exec_contexts, self.properties, self.uuid.bytes,
        )  # fmt: skip
        return data[:size] + bytes([fill]) * (size - len(data))

    @classmethod
    def decode(cls, data: bytes, offset: int = 0, size: int = 24) -> PartitionInfo:
        """From `size` bytes at `offset`; fewer than 24: there is no UUID."""
        part = data[offset : offset + size]
        ident, contexts, properties = _unpack("HHI", "PartitionInfo", part)
        uuid = UUID(bytes=bytes(part[8:24])) if len(part) >= 24 else NIL
        return cls(ident, contexts, properties, uuid)


def decode_partition_infos(data: bytes, count: int, size: int = 24) -> list[PartitionInfo]:
    """`count` descriptors of `size` bytes each: what PARTITION_INFO_GET leaves in RX.

    size 0 is what a 1.0 caller is told (8 bytes each).
    """
    size = size or 8
    if count * size > len(data):
        raise DescriptorError(f"{count} descriptors of {size} bytes do not fit in {len(data)}")
    return [PartitionInfo.decode(data, n * size, size) for n in range(count)]


@dataclass(frozen=True)
class PartitionInfoRegs:
    """A reply of FFA_PARTITION_INFO_GET_REGS (1.2, 13.9).

    start is not in the reply: it is what was asked for. last and current are indices, tag the
    list's, size that of a descriptor in bytes.
    """

    last: int
    current: int
    tag: int
    size: int
    partitions: tuple[PartitionInfo, ...]

    @classmethod
    def decode(cls, regs: Sequence[int], start: int = 0) -> PartitionInfoRegs:
        """From registers x0 to x17 of a success. Raises DescriptorError for anything else."""
        if regs[0] != FFA.SUCCESS_64:
            why = error_code(regs[2]) if regs[0] == FFA.ERROR else f"x0 = {regs[0]:#x}"
            name = why.name if isinstance(why, FfaError) else why
            raise DescriptorError(f"PARTITION_INFO_GET_REGS: no FFA_SUCCESS_64 but {name}")
        last, current = regs[2] & 0xFFFF, regs[2] >> 16 & 0xFFFF
        tag, size = regs[2] >> 32 & 0xFFFF, regs[2] >> 48
        if size % 8 or size < 24:
            raise DescriptorError(f"PARTITION_INFO_GET_REGS: descriptors of {size} bytes")
        count = current - start + 1
        data = struct.pack("<15Q", *regs[3:18])
        if count < 0 or count * size > len(data):
            raise DescriptorError(
                f"PARTITION_INFO_GET_REGS: indices {start} to {current} are {count} descriptors"
                f" of {size} bytes, x3 to x17 hold {len(data)}"
            )
        return cls(last, current, tag, size, tuple(decode_partition_infos(data, count, size)))


def encode_partition_info_regs(
    partitions: Sequence[PartitionInfo], *, start: int, total: int, tag: int
) -> tuple[int, ...]:
    """Registers x0 to x17 of a success: descriptors `start` and on, of `total`."""
    data = b"".join(p.encode() for p in partitions).ljust(120, b"\0")
    if len(data) > 120:
        raise DescriptorError(f"{len(partitions)} descriptors: x3 to x17 hold 5")
    indices = total - 1 | start + len(partitions) - 1 << 16 | tag << 32 | 24 << 48
    return (int(FFA.SUCCESS_64), 0, indices, *struct.unpack("<15Q", data))


@dataclass(frozen=True)
class Constituent:
    """Constituent memory region descriptor: a run of pages (Table 10.14), 16 bytes."""

    address: int
    page_count: int = 1
    reserved: int = 0

    def encode(self) -> bytes:
        """16 bytes."""
        return _pack(
            "QII",
            "Constituent.address Constituent.page_count Constituent.reserved",
            self.address, self.page_count, self.reserved,
        )  # fmt: skip


@dataclass(frozen=True)
class CompositeRegion:
    """Composite memory region descriptor (Table 10.13): 16 bytes, then the constituents.

    total_pages and range_count follow from the constituents when None, modulo 2^32.
    """

    constituents: tuple[Constituent, ...]
    total_pages: int | None = None
    range_count: int | None = None
    reserved: int = 0

    def encode(self) -> bytes:
        """16 bytes and 16 for each constituent."""
        total = self.total_pages
        if total is None:
            total = sum(c.page_count for c in self.constituents) & 0xFFFF_FFFF
        count = len(self.constituents) if self.range_count is None else self.range_count
        head = _pack(
            "IIQ",
            "CompositeRegion.total_pages CompositeRegion.range_count CompositeRegion.reserved",
            total, count, self.reserved,
        )  # fmt: skip
        return head + b"".join(c.encode() for c in self.constituents)

    @classmethod
    def decode(cls, data: bytes, offset: int = 0) -> CompositeRegion:
        """From `offset` on."""
        total, count, reserved = _unpack("IIQ", "CompositeRegion", data, offset)
        offset += 16
        if offset + count * 16 > len(data):
            raise DescriptorError(
                f"CompositeRegion: {count} constituents at offset {offset} do not fit in"
                f" {len(data)} bytes"
            )
        parts = tuple(
            Constituent(*struct.unpack_from("<QII", data, offset + n * 16)) for n in range(count)
        )
        return cls(parts, total, count, reserved)


@dataclass(frozen=True)
class EndpointRxTx:
    """Endpoint RX/TX descriptor (13.6, Table 13.27): a VM's buffers, told by the hypervisor.

    1.1 and later: a header of 16 bytes and offsets to the two composite regions; None: right
    behind the header, RX first. (The header's last four bytes are padding.)
    """

    endpoint: int
    rx: CompositeRegion
    tx: CompositeRegion
    rx_offset: int | None = None
    tx_offset: int | None = None
    reserved: int = 0

    def encode(self) -> bytes:
        """The 1.1 layout."""
        rx, tx = self.rx.encode(), self.tx.encode()
        rx_at = 16 if self.rx_offset is None else self.rx_offset
        tx_at = rx_at + len(rx) if self.tx_offset is None else self.tx_offset
        head = _pack(
            "HHII",
            "EndpointRxTx.endpoint EndpointRxTx.reserved EndpointRxTx.rx_offset"
            " EndpointRxTx.tx_offset",
            self.endpoint, self.reserved, rx_at, tx_at,
        )  # fmt: skip
        return _place(head, (rx_at, rx), (tx_at, tx))

    @classmethod
    def decode(cls, data: bytes) -> EndpointRxTx:
        """From the start of a buffer."""
        endpoint, reserved, rx_at, tx_at = _unpack("HHII", "EndpointRxTx", data)
        for name, at in (("rx_offset", rx_at), ("tx_offset", tx_at)):
            if at < 12:
                raise DescriptorError(f"EndpointRxTx.{name} = {at}: inside the header")
        rx, tx = CompositeRegion.decode(data, rx_at), CompositeRegion.decode(data, tx_at)
        return cls(endpoint, rx, tx, rx_at, tx_at, reserved)


@dataclass(frozen=True)
class MemoryAccess:
    """Endpoint memory access descriptor (10.9.2, Tables 10.15 and 10.16): one receiver.

    permissions and flags have 8 bits. composite_offset, in bytes from the start of the
    transaction descriptor: None is where the composite region lies. impdef (1.2): 16 bytes,
    there only if the descriptor has 32. reserved: the last 8 bytes.
    """

    endpoint: int
    permissions: int = MEM_PERM_RW
    flags: int = 0
    composite_offset: int | None = None
    impdef: bytes = bytes(16)
    reserved: int = 0

    def encode(self, size: int = 16, composite_offset: int = 0) -> bytes:
        """In `size` bytes: 16 until 1.1, 32 since 1.2, anything for a test."""
        offset = composite_offset if self.composite_offset is None else self.composite_offset
        head = _pack(
            "HBBI",
            "MemoryAccess.endpoint MemoryAccess.permissions MemoryAccess.flags"
            " MemoryAccess.composite_offset",
            self.endpoint, self.permissions, self.flags, offset,
        )  # fmt: skip
        if len(self.impdef) != 16:
            raise DescriptorError(f"MemoryAccess.impdef: {len(self.impdef)} bytes, it has 16")
        tail = _pack("Q", "MemoryAccess.reserved", self.reserved)
        data = head + (self.impdef if size >= 32 else b"") + tail
        return data[:size].ljust(size, b"\0")

    @classmethod
    def decode(cls, data: bytes, offset: int = 0, size: int = 16) -> MemoryAccess:
        """From `size` bytes at `offset`, 16 at least."""
        if size < 16:
            raise DescriptorError(f"MemoryAccess: {size} bytes, it has at least 16")
        ident, permissions, flags, composite = _unpack("HBBI", "MemoryAccess", data, offset)
        impdef = bytes(16)
        at = offset + 8
        if size >= 32:
            impdef, at = bytes(data[at : at + 16]), at + 16
        (reserved,) = _unpack("Q", "MemoryAccess", data, at)
        return cls(ident, permissions, flags, composite, impdef, reserved)


@dataclass(frozen=True)
class MemoryTransaction:
    """Memory transaction descriptor: what MEM_SHARE, LEND and DONATE take (Table 10.20).

    sender: endpoint ID. receivers: one access descriptor each. composite: the memory; None where
    there is none, as in a retrieve request. attributes: 16 bits (in 1.0 the upper 8 are reserved).
    handle and tag: 64 bits. access_size, access_count, access_offset, in bytes and descriptors:
    follow from the rest when None; 1.0 has neither size nor offset. composite_offset: where the
    region is put; None: behind the access descriptors. reserved: the last field, 32 bits in 1.0
    (in front of the count), 96 since 1.1.
    """

    sender: int
    receivers: tuple[MemoryAccess, ...]
    composite: CompositeRegion | None
    attributes: int = MEM_ATTR_NORMAL_WB_ISH
    flags: int = 0
    handle: int = 0
    tag: int = 0
    access_size: int | None = None
    access_count: int | None = None
    access_offset: int | None = None
    composite_offset: int | None = None
    reserved: int = 0

    def encode(self, version: Version = V1_1) -> bytes:
        """The layout of this version: 1.0, 1.1, or 1.2 and later.

        Sizes and offsets that are set decide where things lie, unless nothing could lie there:
        then only the field has that value.
        """
        usual_size, usual_offset = 32 if version >= V1_2 else 16, 48 if version >= V1_1 else 32
        size, offset = self.access_size, self.access_offset
        if size is None or version < V1_1:
            size = usual_size
        if offset is None or version < V1_1:
            offset = usual_offset
        count = len(self.receivers) if self.access_count is None else self.access_count
        step = size if 16 <= size <= 256 else usual_size
        start = offset if offset <= _FAR else usual_offset
        at = self.composite_offset
        if at is None:
            at = start + len(self.receivers) * step
        if version < V1_1:
            head = _pack(
                "HHIQQII", _names("sender attributes flags handle tag reserved access_count"),
                self.sender, self.attributes, self.flags, self.handle, self.tag, self.reserved,
                count,
            )  # fmt: skip
        else:
            head = _pack(
                "HHIQQIII",
                _names("sender attributes flags handle tag access_size access_count access_offset"),
                self.sender, self.attributes, self.flags, self.handle, self.tag, size, count,
                offset,
            )  # fmt: skip
            if not 0 <= self.reserved < 1 << 96:
                raise DescriptorError(
                    f"MemoryTransaction.reserved = {self.reserved:#x}: the field has 96 bits"
                )
            head += self.reserved.to_bytes(12, "little")
        parts = [(start + n * step, r.encode(step, at)) for n, r in enumerate(self.receivers)]
        if self.composite is not None:
            parts.append((at, self.composite.encode()))
        return _place(head, *parts)

    @classmethod
    def decode(cls, data: bytes, version: Version = V1_1) -> MemoryTransaction:
        """From the start of `data`, in the layout of this version; every field as it stands."""
        size: int | None = None
        offset: int | None = None
        if version < V1_1:
            sender, attributes, flags, handle, tag, reserved, count = _unpack(
                "HHIQQII", "MemoryTransaction", data
            )
            step, at = 16, 32
        else:
            sender, attributes, flags, handle, tag, size, count, offset = _unpack(
                "HHIQQIII", "MemoryTransaction", data
            )
            _unpack("12x", "MemoryTransaction", data, 36)
            reserved = int.from_bytes(data[36:48], "little")
            step, at = size, offset
        if step < 16:
            raise DescriptorError(f"MemoryTransaction.access_size = {step}: at least 16")
        if at + count * step > len(data):
            raise DescriptorError(
                f"MemoryTransaction: {count} access descriptors of {step} bytes at offset {at}"
                f" do not fit in {len(data)}"
            )
        receivers = tuple(MemoryAccess.decode(data, at + n * step, step) for n in range(count))
        where = receivers[0].composite_offset if receivers else None
        composite = CompositeRegion.decode(data, where) if where else None
        return cls(
            sender, receivers, composite, attributes, flags, handle, tag,
            size, count, offset, where or None, reserved,
        )  # fmt: skip


def _names(fields: str) -> str:
    return " ".join(f"MemoryTransaction.{name}" for name in fields.split())


@dataclass(frozen=True)
class IndirectMessage:
    """A message in a TX or RX buffer: FFA_MSG_SEND2's header and payload (chapter 7).

    The header has 20 bytes in 1.1, and 40 since 1.2, with a UUID. offset and size, in bytes:
    follow from the rest when None.
    """

    sender: int
    receiver: int
    payload: bytes
    uuid: UUID = NIL
    flags: int = 0
    offset: int | None = None
    size: int | None = None
    reserved: int = 0
    reserved2: int = 0

    def encode(self, version: Version = V1_1) -> bytes:
        """Header in the layout of this version, then the payload at its offset."""
        length = 40 if version >= V1_2 else 20
        offset = length if self.offset is None else self.offset
        size = len(self.payload) if self.size is None else self.size
        head = _pack(
            "IIIHHI",
            "IndirectMessage.flags IndirectMessage.reserved IndirectMessage.offset"
            " IndirectMessage.receiver IndirectMessage.sender IndirectMessage.size",
            self.flags, self.reserved, offset, self.receiver, self.sender, size,
        )  # fmt: skip
        if version >= V1_2:
            head += _pack("I", "IndirectMessage.reserved2", self.reserved2) + self.uuid.bytes
        return _place(head, (offset, self.payload))

    @classmethod
    def decode(cls, data: bytes, version: Version = V1_1) -> IndirectMessage:
        """From a buffer. Raises DescriptorError if the payload is not within it."""
        flags, reserved, offset, receiver, sender, size = _unpack("IIIHHI", "IndirectMessage", data)
        uuid, reserved2 = NIL, 0
        if version >= V1_2:
            (reserved2,) = _unpack("I16x", "IndirectMessage", data, 20)
            uuid = UUID(bytes=bytes(data[24:40]))
        if offset + size > len(data):
            raise DescriptorError(
                f"IndirectMessage: {size} bytes at offset {offset} do not fit in {len(data)}"
            )
        payload = bytes(data[offset : offset + size])
        return cls(sender, receiver, payload, uuid, flags, offset, size, reserved, reserved2)


def _place(head: bytes, *parts: tuple[int, bytes]) -> bytes:
    """Put parts at their offsets; what lies between is zero.

    The header wins over what was put into it, so that it says what the test wants it to.
    """
    data = bytearray(head)
    for offset, part in parts:
        if offset > _FAR:
            continue
        end = offset + len(part)
        if len(data) < end:
            data.extend(bytes(end - len(data)))
        data[offset:end] = part
    data[: len(head)] = head
    return bytes(data)
