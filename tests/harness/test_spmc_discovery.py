# SPDX-License-Identifier: GPL-2.0-only
"""The SPMC's setup and discovery ABIs."""

from __future__ import annotations

from uuid import UUID

import pytest

from ffashim.descriptors import PartitionInfo, PartitionInfoRegs, decode_partition_infos
from ffashim.errors import UsageError
from ffashim.ffa import FFA, Feature, FfaError, Version, error_code
from ffashim.spmc import SecurePartition, Spmc, registers
from ffashim.spmc.flat import RX, FlatHost

A, B, C = (UUID(int=n << 64 | n) for n in (0xA, 0xB, 0xC))
SPS = (SecurePartition(0x8001, [A, B], exec_contexts=4), SecurePartition(0x8002, [C]))
ALL_ONES = (1 << 64) - 1


def words(uuid: UUID) -> tuple[int, ...]:
    return tuple(int.from_bytes(uuid.bytes[n : n + 4], "little") for n in (0, 4, 8, 12))


def booted(version: str = "1.2", **settings: object) -> FlatHost:
    host = FlatHost(Spmc(version, SPS, **settings))  # type: ignore[arg-type]
    host.boot(version)
    return host


@pytest.mark.parametrize(
    ("own", "asked", "agreed"),
    [
        ("1.2", "1.2", "1.2"),
        ("1.1", "1.2", "1.1"),
        ("1.3", "1.2", "1.2"),
        ("1.0", "1.2", "1.0"),
        ("2.0", "1.2", None),
    ],
)
def test_version_answers_its_own_and_works_at_the_lower(
    own: str, asked: str, agreed: str | None
) -> None:
    host = FlatHost(Spmc(own))
    reply = host.smc(FFA.VERSION, Version.parse(asked).value)
    assert Version.parse(reply[0]) == Version.parse(own)
    assert host.spmc.state.negotiated == (None if agreed is None else Version.parse(agreed))
    assert not host.spmc.violations


def test_without_an_spmc_every_call_is_unknown_to_smccc() -> None:
    host = FlatHost(Spmc(None))
    assert host.smc(FFA.VERSION, 0x10002)[0] == ALL_ONES
    assert not host.spmc.violations
    assert host.smc(FFA.FEATURES, FFA.VERSION)[0] == ALL_ONES
    assert [v.rule for v in host.spmc.violations] == ["version"]


def test_a_call_before_the_version_is_agreed_on_is_a_violation() -> None:
    host = FlatHost(Spmc("2.0"))
    host.smc(FFA.VERSION, 0x10002)
    assert host.smc(FFA.ID_GET)[0] == ALL_ONES
    assert [v.rule for v in host.spmc.violations] == ["version"]


def test_a_version_with_bit_31_is_a_violation() -> None:
    host = FlatHost(Spmc())
    assert host.smc(FFA.VERSION, 0x80010002)[0] == ALL_ONES
    assert [v.rule for v in host.spmc.violations] == ["mbz"]


@pytest.mark.parametrize(
    ("version", "fid", "known"),
    [
        ("1.0", FFA.RX_ACQUIRE, False),
        ("1.1", FFA.RX_ACQUIRE, True),
        ("1.1", FFA.PARTITION_INFO_GET_REGS, False),
        ("1.2", FFA.PARTITION_INFO_GET_REGS, True),
        ("1.1", FFA.MSG_SEND_DIRECT_REQ2, False),
        ("1.2", FFA.MSG_SEND_DIRECT_REQ2, True),
        ("1.2", FFA.MEM_SHARE_32, True),
        ("1.2", FFA.MSG_POLL, False),
        ("1.2", 0x840000EF, False),
        ("1.0", FFA.INTERRUPT, True),
    ],
)
def test_features_follow_the_version(version: str, fid: int, known: bool) -> None:
    reply = booted(version).smc(FFA.FEATURES, fid)
    assert (reply[0] == FFA.SUCCESS_32) is known
    if not known:
        assert error_code(reply[2]) is FfaError.NOT_SUPPORTED


def test_features_follow_the_version_agreed_on_rather_than_the_spmcs() -> None:
    host = FlatHost(Spmc("1.2", SPS))
    host.boot("1.1")
    assert host.smc(FFA.FEATURES, FFA.PARTITION_INFO_GET_REGS)[0] == FFA.ERROR
    assert host.smc(FFA.PARTITION_INFO_GET_REGS)[0] == FFA.ERROR


def test_a_feature_that_is_off_is_neither_reported_nor_there() -> None:
    host = booted(features_off={FFA.RX_ACQUIRE})
    assert host.smc(FFA.FEATURES, FFA.RX_ACQUIRE)[0] == FFA.ERROR
    assert error_code(host.smc(FFA.RX_ACQUIRE, 1)[2]) is FfaError.NOT_SUPPORTED
    assert not host.spmc.violations


def test_an_unreported_feature_is_there_all_the_same() -> None:
    host = booted(unreported={FFA.ID_GET})
    assert host.smc(FFA.FEATURES, FFA.ID_GET)[0] == FFA.ERROR
    assert host.smc(FFA.ID_GET)[:3] == (FFA.SUCCESS_32, 0, 0)


def test_features_tell_the_schedule_receiver_interrupt() -> None:
    assert booted(sri=40).smc(FFA.FEATURES, Feature.SCHEDULE_RECV_INTR)[2] == 40
    assert booted("1.0").smc(FFA.FEATURES, Feature.SCHEDULE_RECV_INTR)[0] == FFA.ERROR
    off = booted(features_off={Feature.SCHEDULE_RECV_INTR})
    assert off.smc(FFA.FEATURES, Feature.SCHEDULE_RECV_INTR)[0] == FFA.ERROR


def test_features_tell_the_largest_buffer_since_1_2() -> None:
    assert booted(max_rxtx_pages=4).smc(FFA.FEATURES, FFA.RXTX_MAP_64)[2] == 4 << 16
    assert booted("1.1", max_rxtx_pages=4).smc(FFA.FEATURES, FFA.RXTX_MAP_64)[2] == 0


def test_the_spmc_has_an_id() -> None:
    assert booted(spmc_id=0x8FFF).smc(FFA.SPM_ID_GET)[2] == 0x8FFF


@pytest.mark.parametrize("size", [24, 32, 40])
def test_partition_info_lists_a_descriptor_for_each_uuid(size: int) -> None:
    host = booted(descriptor_size=size)
    reply = host.smc(FFA.PARTITION_INFO_GET)
    assert reply[:4] == (FFA.SUCCESS_32, 0, 3, size)
    found = decode_partition_infos(host.read(RX, 4096), 3, size)
    props = int(SPS[0].properties)
    assert found == [
        PartitionInfo(0x8001, 4, props, A),
        PartitionInfo(0x8001, 4, props, B),
        PartitionInfo(0x8002, 1, props, C),
    ]
    assert host.read(RX + 24, size - 24) == b"\xa5" * (size - 24)


def test_partition_info_for_a_uuid_shows_no_uuid() -> None:
    host = booted()
    assert host.smc(FFA.PARTITION_INFO_GET, *words(B))[2:4] == (1, 24)
    info = PartitionInfo.decode(host.read(RX, 24))
    assert (info.id, info.uuid) == (0x8001, UUID(int=0))


def test_partition_info_of_an_unknown_uuid_is_invalid() -> None:
    host = booted()
    reply = host.smc(FFA.PARTITION_INFO_GET, *words(UUID(int=99)))
    assert error_code(reply[2]) is FfaError.INVALID_PARAMETERS
    assert error_code(host.smc(FFA.RX_RELEASE)[2]) is FfaError.DENIED


def test_partition_info_of_1_0_has_eight_bytes_and_each_partition_once() -> None:
    host = booted("1.0")
    assert host.smc(FFA.PARTITION_INFO_GET)[2:4] == (2, 0)
    found = decode_partition_infos(host.read(RX, 16), 2, 0)
    assert [info.id for info in found] == [0x8001, 0x8002]
    assert host.read(RX + 16, 8) == bytes(8)


def test_a_count_needs_no_buffer_and_has_no_size() -> None:
    host = FlatHost(Spmc("1.2", SPS))
    host.smc(FFA.VERSION, 0x10002)
    assert host.smc(FFA.PARTITION_INFO_GET, 0, 0, 0, 0, 1)[:4] == (FFA.SUCCESS_32, 0, 3, 0)
    assert not host.spmc.violations


@pytest.mark.parametrize(("version", "flags"), [("1.2", 2), ("1.2", 3), ("1.0", 1)])
def test_reserved_partition_info_flags_are_a_violation(version: str, flags: int) -> None:
    host = booted(version)
    reply = host.smc(FFA.PARTITION_INFO_GET, 0, 0, 0, 0, flags)
    assert error_code(reply[2]) is FfaError.INVALID_PARAMETERS
    assert [v.rule for v in host.spmc.violations] == ["mbz"]


def test_partition_info_while_rx_is_held_is_busy_and_a_violation() -> None:
    host = booted()
    host.smc(FFA.PARTITION_INFO_GET)
    assert error_code(host.smc(FFA.PARTITION_INFO_GET)[2]) is FfaError.BUSY
    assert [v.rule for v in host.spmc.violations] == ["rx"]
    assert host.smc(FFA.RX_RELEASE)[0] == FFA.SUCCESS_32
    assert host.smc(FFA.PARTITION_INFO_GET)[0] == FFA.SUCCESS_32


def test_partition_info_that_does_not_fit_is_no_memory() -> None:
    host = FlatHost(Spmc("1.2", [SecurePartition(0x8001 + n) for n in range(171)]))
    host.boot()
    assert error_code(host.smc(FFA.PARTITION_INFO_GET)[2]) is FfaError.NO_MEMORY


def test_get_regs_walks_the_list_five_at_a_time() -> None:
    sps = [SecurePartition(0x8001 + n) for n in range(12)]
    host = FlatHost(Spmc("1.2", sps, tag=7))
    host.boot()
    seen: list[int] = []
    while len(seen) < 12:
        start = len(seen)
        regs = host.smc(FFA.PARTITION_INFO_GET_REGS, 0, 0, (7 if start else 0) << 16 | start)
        reply = PartitionInfoRegs.decode(regs, start)
        assert (reply.last, reply.tag, reply.size) == (11, 7, 24)
        assert len(reply.partitions) == min(5, 12 - start)
        seen += [info.id for info in reply.partitions]
    assert seen == [sp.id for sp in sps]


@pytest.mark.parametrize(
    ("x3", "error"),
    [
        (1 << 16, FfaError.RETRY),
        (9 << 16 | 1, FfaError.RETRY),
        (7 << 16 | 3, FfaError.INVALID_PARAMETERS),
    ],
)
def test_get_regs_refuses_stale_tags_and_indices_past_the_end(x3: int, error: FfaError) -> None:
    assert error_code(booted(tag=7).smc(FFA.PARTITION_INFO_GET_REGS, 0, 0, x3)[2]) is error


def test_partitions_can_come_and_go() -> None:
    host = booted()
    host.spmc.remove(0x8001)
    host.spmc.add(SecurePartition(0x8003))
    assert host.smc(FFA.PARTITION_INFO_GET)[2] == 2
    assert decode_partition_infos(host.read(RX, 48), 2)[1].id == 0x8003
    with pytest.raises(UsageError, match="two secure partitions with ID 0x8003"):
        host.spmc.add(SecurePartition(0x8003))


def test_what_cannot_be_a_partition_is_refused_by_field() -> None:
    with pytest.raises(UsageError, match=r"SecurePartition\.id=0x10000: 16 bits"):
        SecurePartition(0x10000)
    with pytest.raises(UsageError, match=r"descriptor_size=8"):
        Spmc(descriptor_size=8)


def test_registers_that_a_call_does_not_use_are_only_noted() -> None:
    host = booted()
    host.smc(FFA.ID_GET, *(0,) * 7, 1)
    host.smc(FFA.ID_GET, 1 << 32)
    assert [n.rule for n in host.spmc.notes] == ["sbz", "sbz"]
    assert not host.spmc.violations


def test_registers_are_checked() -> None:
    with pytest.raises(UsageError, match="19 registers"):
        registers(*range(19))
    with pytest.raises(UsageError, match="x1 = -0x1"):
        registers(0, -1)
