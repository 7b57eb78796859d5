# SPDX-License-Identifier: GPL-2.0-only
"""FF-A structures: what is encoded is decoded again, and lies where the specification puts it."""

from __future__ import annotations

import struct
from contextlib import suppress
from dataclasses import replace
from typing import Protocol
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffashim.descriptors import (
    CompositeRegion,
    Constituent,
    DescriptorError,
    EndpointRxTx,
    IndirectMessage,
    MemoryAccess,
    MemoryTransaction,
    PartitionInfo,
    PartitionInfoRegs,
    decode_partition_infos,
    encode_partition_info_regs,
)
from ffashim.ffa import V1_0, V1_1, V1_2, Version


class Encodable(Protocol):
    def encode(self) -> bytes: ...


u8, u16 = st.integers(0, 0xFF), st.integers(0, 0xFFFF)
u32, u64 = st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 64) - 1)
uuids = st.uuids()
infos = st.builds(PartitionInfo, u16, u16, u32, uuids)
constituents = st.builds(Constituent, u64, u32, u32)
regions = st.builds(
    CompositeRegion, st.lists(constituents, max_size=6).map(tuple), u32, st.none(), u64
)
accesses = st.builds(MemoryAccess, u16, u8, u8, st.none(), st.binary(min_size=16, max_size=16), u64)
transactions = st.builds(
    MemoryTransaction,
    sender=u16,
    receivers=st.lists(accesses, min_size=1, max_size=4).map(tuple),
    composite=regions,
    attributes=u16,
    flags=u32,
    handle=u64,
    tag=u64,
    reserved=u32,
)

SHARE = MemoryTransaction(
    0x11, (MemoryAccess(0x8001),), CompositeRegion((Constituent(0x40000000, 2),)), tag=0x99
)


@given(infos, st.integers(24, 64))
def test_partition_info_survives_whatever_the_size(info: PartitionInfo, size: int) -> None:
    data = info.encode(size)
    assert len(data) == size
    assert PartitionInfo.decode(data, 0, size) == info


@given(st.lists(infos, max_size=8), st.sampled_from([8, 24, 32]))
def test_a_list_of_partition_infos_is_read_with_its_size(
    infos: list[PartitionInfo], size: int
) -> None:
    data = b"".join(i.encode(size) for i in infos)
    read = decode_partition_infos(data, len(infos), 0 if size == 8 else size)
    want = [replace(i, uuid=UUID(int=0)) for i in infos] if size == 8 else infos
    assert read == want


def test_partition_info_has_the_layout_of_the_specification() -> None:
    uuid = UUID("00112233-4455-6677-8899-aabbccddeeff")
    assert PartitionInfo(0x8001, 4, 0x1CF, uuid).encode() == struct.pack(
        "<HHI", 0x8001, 4, 0x1CF
    ) + bytes.fromhex("00112233445566778899aabbccddeeff")


def test_a_list_longer_than_the_buffer_is_refused() -> None:
    with pytest.raises(DescriptorError, match="3 descriptors of 24 bytes do not fit in 48"):
        decode_partition_infos(bytes(48), 3)


@given(st.lists(infos, min_size=1, max_size=5), st.integers(0, 100), u16)
def test_a_get_regs_reply_survives(infos: list[PartitionInfo], start: int, tag: int) -> None:
    total = start + len(infos) + 3
    regs = encode_partition_info_regs(infos, start=start, total=total, tag=tag)
    assert len(regs) == 18
    reply = PartitionInfoRegs.decode(regs, start)
    assert reply == PartitionInfoRegs(total - 1, start + len(infos) - 1, tag, 24, tuple(infos))


@pytest.mark.parametrize(
    ("regs", "why"),
    [
        ((0x84000060, 0, 0xFFFFFFF9), "RETRY"),
        ((0x84000061,), "x0 = 0x84000061"),
        ((0xC4000061, 0, 24 << 48 | 5 << 16 | 9), "indices 0 to 5 are 6 descriptors"),
        ((0xC4000061, 0, 20 << 48), "descriptors of 20 bytes"),
    ],
)
def test_a_get_regs_reply_that_makes_no_sense_says_why(regs: tuple[int, ...], why: str) -> None:
    with pytest.raises(DescriptorError, match=why):
        PartitionInfoRegs.decode(regs + (0,) * (18 - len(regs)))


@given(u16, regions, regions, u16)
def test_an_endpoint_descriptor_survives(
    endpoint: int, rx: CompositeRegion, tx: CompositeRegion, reserved: int
) -> None:
    data = EndpointRxTx(endpoint, rx, tx, reserved=reserved).encode()
    back = EndpointRxTx.decode(data)
    assert (back.endpoint, back.reserved, back.rx_offset) == (endpoint, reserved, 16)
    assert back.rx.constituents == rx.constituents
    assert back.tx.constituents == tx.constituents
    assert back.encode() == data


def test_an_endpoint_descriptor_may_have_its_regions_anywhere() -> None:
    rx, tx = (CompositeRegion((Constituent(a),)) for a in (0x2000, 0x1000))
    data = EndpointRxTx(7, rx, tx, rx_offset=12, tx_offset=44).encode()
    assert data[:12] == struct.pack("<HHII", 7, 0, 12, 44)
    assert EndpointRxTx.decode(data).rx.constituents == rx.constituents


@given(transactions, st.sampled_from([V1_0, V1_1, V1_2]))
def test_a_memory_transaction_survives_in_each_layout(
    t: MemoryTransaction, version: Version
) -> None:
    data = t.encode(version)
    back = MemoryTransaction.decode(data, version)
    assert back.encode(version) == data
    assert (back.sender, back.attributes, back.flags, back.handle, back.tag, back.reserved) == (
        t.sender, t.attributes, t.flags, t.handle, t.tag, t.reserved,
    )  # fmt: skip
    assert [r.endpoint for r in back.receivers] == [r.endpoint for r in t.receivers]
    assert back.composite is not None
    assert t.composite is not None
    assert back.composite.constituents == t.composite.constituents
    if version >= V1_2:
        assert [r.impdef for r in back.receivers] == [r.impdef for r in t.receivers]


@pytest.mark.parametrize(
    ("version", "access_at", "access_size"), [(V1_0, 32, 16), (V1_1, 48, 16), (V1_2, 48, 32)]
)
def test_a_memory_transaction_has_the_layout_of_its_version(
    version: Version, access_at: int, access_size: int
) -> None:
    data = SHARE.encode(version)
    region_at = access_at + access_size
    assert len(data) == region_at + 16 + 16
    assert struct.unpack_from("<HHIQQ", data) == (0x11, 0x2F, 0, 0, 0x99)
    assert struct.unpack_from("<HBBI", data, access_at) == (0x8001, 2, 0, region_at)
    assert struct.unpack_from("<IIQQII", data, region_at) == (2, 1, 0, 0x40000000, 2, 0)
    if version >= V1_1:
        assert struct.unpack_from("<III", data, 24) == (access_size, 1, 48)
    else:
        assert struct.unpack_from("<II", data, 24) == (0, 1)


@pytest.mark.parametrize(
    ("field", "value", "at", "form"),
    [
        ("attributes", 0x16F, 2, "<H"),
        ("access_size", 12, 24, "<I"),
        ("access_count", 3, 28, "<I"),
        ("handle", 0xDEAD, 8, "<Q"),
    ],
)
def test_bending_one_field_of_a_transaction_changes_that_field(
    field: str, value: int, at: int, form: str
) -> None:
    good, bent = SHARE.encode(), replace(SHARE, **{field: value}).encode()  # type: ignore[arg-type]
    assert struct.unpack_from(form, bent, at) == (value,)
    assert struct.unpack_from(form, good, at) != (value,)


def test_a_huge_offset_bends_the_field_and_not_the_memory() -> None:
    assert len(replace(SHARE, access_offset=0xFFFFFFF0).encode()) < 1 << 16
    assert len(replace(SHARE, composite_offset=0x7FFFFFF0).encode()) < 1 << 16


@given(u16, u16, st.binary(max_size=64), uuids, u32, u32, u32)
def test_an_indirect_message_survives(
    sender: int, receiver: int, payload: bytes, uuid: UUID, flags: int, r1: int, r2: int
) -> None:
    new = IndirectMessage(sender, receiver, payload, uuid, flags, None, None, r1, r2)
    back = IndirectMessage.decode(new.encode(V1_2), V1_2)
    assert back == replace(new, offset=40, size=len(payload))
    old = IndirectMessage.decode(new.encode(V1_1), V1_1)
    assert (old.offset, old.payload, old.uuid) == (20, payload, UUID(int=0))


def test_a_message_beyond_its_buffer_is_refused() -> None:
    data = IndirectMessage(1, 2, b"abc", size=4).encode()
    with pytest.raises(DescriptorError, match="4 bytes at offset 20 do not fit in 23"):
        IndirectMessage.decode(data)


@pytest.mark.parametrize(
    ("bad", "name"),
    [
        (PartitionInfo(0x10000), r"PartitionInfo.id = 0x10000: the field has 16 bits"),
        (Constituent(0, -1), r"Constituent.page_count"),
        (CompositeRegion((), reserved=1 << 64), r"CompositeRegion.reserved"),
        (MemoryAccess(1, permissions=256), r"MemoryAccess.permissions"),
        (MemoryAccess(1, impdef=b""), r"MemoryAccess.impdef"),
        (replace(SHARE, flags=1 << 32), r"MemoryTransaction.flags"),
        (replace(SHARE, reserved=1 << 96), r"MemoryTransaction.reserved"),
        (IndirectMessage(0x10000, 1, b""), r"IndirectMessage.sender"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_the_name_of_its_field(
    bad: Encodable, name: str
) -> None:
    with pytest.raises(DescriptorError, match=name):
        bad.encode()


@given(st.binary(max_size=200), st.sampled_from([V1_0, V1_1, V1_2]))
def test_arbitrary_bytes_are_decoded_or_refused(data: bytes, version: Version) -> None:
    for decode in (
        lambda: MemoryTransaction.decode(data, version),
        lambda: EndpointRxTx.decode(data),
        lambda: IndirectMessage.decode(data, version),
        lambda: CompositeRegion.decode(data),
    ):
        with suppress(DescriptorError):
            decode()


def test_the_pages_of_a_region_are_counted_as_its_field_counts() -> None:
    region = CompositeRegion((Constituent(0x40000000, 0xFFFF_FFFF), Constituent(0x40000000, 3)))
    assert CompositeRegion.decode(region.encode()).total_pages == 2
