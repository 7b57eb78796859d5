# SPDX-License-Identifier: GPL-2.0-only
"""ACS setup and discovery: cases of Arm's FF-A ACS, by their identifiers (see docs/acs.md)."""

from uuid import UUID

import pytest

from ffashim import FFA, FfaError, Machine, SecurePartition, Spmc, Vm
from ffashim.capabilities import highest_version
from ffashim.defaults import MAILBOX
from ffashim.defects.buffers import HIDES_BUFFERS, TAKES_NO_PAGES, TAKES_UNALIGNED
from ffashim.defects.discovery import COUNT_HAS_A_SIZE, DENIES_WHERE_BUSY, TELLS_NO_SIZE
from ffashim.defects.features import HIDES_INTERRUPT
from ffashim.defects.versions import ANSWERS_A_CHANGE
from ffashim.descriptors import PartitionInfo, decode_partition_infos
from ffashim.ffa import Feature, Version
from ffashim.testing import boot_with, secure_partitions, visible_to, walked
from ffashim.traffic import SP, direct

UNKNOWN = UUID(fields=(1, 0, 0, 0, 0, 0))
MANDATORY = [
    FFA.ERROR,
    FFA.SUCCESS_32,
    FFA.INTERRUPT,
    FFA.VERSION,
    FFA.FEATURES,
    FFA.RX_RELEASE,
    FFA.PARTITION_INFO_GET,
    FFA.ID_GET,
    FFA.RXTX_UNMAP,
]
OPTIONAL = [
    FFA.SUCCESS_64,
    FFA.RUN,
    FFA.MSG_WAIT,
    FFA.MSG_YIELD,
    FFA.MSG_SEND2,
    FFA.MSG_SEND_DIRECT_REQ_32,
    FFA.MSG_SEND_DIRECT_REQ_64,
    FFA.MSG_SEND_DIRECT_REQ2,
    FFA.MEM_RETRIEVE_REQ_32,
    FFA.MEM_RELINQUISH,
    FFA.MEM_RECLAIM,
    FFA.MEM_LEND_64,
    FFA.MEM_DONATE_64,
    FFA.PARTITION_INFO_GET_REGS,
    FFA.SPM_ID_GET,
    FFA.CONSOLE_LOG_64,
    FFA.NOTIFICATION_BIND,
    FFA.NOTIFICATION_UNBIND,
    FFA.NOTIFICATION_SET,
    FFA.NOTIFICATION_GET,
    FFA.NOTIFICATION_INFO_GET_32,
    FFA.NOTIFICATION_INFO_GET_64,
    FFA.NOTIFICATION_BITMAP_CREATE,
    FFA.NOTIFICATION_BITMAP_DESTROY,
]
FEATURES = pytest.mark.needs(abi=FFA.FEATURES)


# --- features ----------------------------------------------------------------------------------


@FEATURES
@pytest.mark.parametrize(
    "fid",
    [
        pytest.param(f, marks=[HIDES_INTERRUPT.mark] if f is FFA.INTERRUPT else [])
        for f in MANDATORY
    ],
    ids=lambda fid: fid.name,
)
def test_ffa_features__mandatory(vm: Vm, fid: FFA) -> None:
    reply = vm.smc(FFA.FEATURES, fid)
    assert reply.ok
    assert not any(reply[2:8])


@FEATURES
@pytest.mark.parametrize("fid", OPTIONAL, ids=lambda fid: fid.name)
def test_ffa_features__optional(vm: Vm, fid: FFA) -> None:
    reply = vm.smc(FFA.FEATURES, fid)
    if reply.ok:
        assert not any(reply[2:8])
    else:
        assert reply.error is FfaError.NOT_SUPPORTED


@FEATURES
@pytest.mark.parametrize("fid", [FFA.RXTX_MAP_32, FFA.RXTX_MAP_64], ids=lambda fid: fid.name)
def test_ffa_features__rxtx_map(xen: Machine, vm: Vm, fid: FFA) -> None:
    reply = vm.smc(FFA.FEATURES, fid)
    assert reply.ok
    assert reply.w(2) & 3 in (0, 1, 2)
    assert reply.w(2) >> 2 & 0x3FFF == 0
    if highest_version(xen) < Version(1, 2):
        assert reply.w(2) >> 16 == 0
    assert not any(reply[3:8])


@FEATURES
@pytest.mark.parametrize("fid", [FFA.MEM_SHARE_32, FFA.MEM_SHARE_64], ids=lambda fid: fid.name)
def test_ffa_features__mem_share(vm: Vm, fid: FFA) -> None:
    reply = vm.smc(FFA.FEATURES, fid)
    assert reply.ok
    assert reply.w(2) >> 1 == 0
    assert not any(reply[3:8])
    assert vm.smc(FFA.FEATURES, FFA.MEM_RECLAIM).ok


@FEATURES
def test_ffa_features__unknown(vm: Vm) -> None:
    assert vm.smc(FFA.FEATURES, 0x8FFF_FFFF).error is FfaError.NOT_SUPPORTED


@pytest.mark.needs(abi=FFA.NOTIFICATION_GET)
def test_ffa_features_intr(vm: Vm) -> None:
    # A guest is the receiver of notifications, and may schedule receivers: it has both.
    for feature in (Feature.SCHEDULE_RECV_INTR, Feature.NOTIF_PEND_INTR):
        assert vm.smc(FFA.FEATURES, feature).ok
    assert vm.smc(FFA.FEATURES, Feature.MANAGED_EXIT_INTR).error is FfaError.NOT_SUPPORTED


# --- version and ID ----------------------------------------------------------------------------


def test_ffa_version(xen: Machine) -> None:
    own = highest_version(xen)
    reply = xen.create_vm().smc(FFA.VERSION, int(own))
    assert reply.fid == int(own)
    assert not any(reply[1:8])


@pytest.mark.needs(version="1.1")
@ANSWERS_A_CHANGE.mark
def test_ffa_version_negotiation(xen: Machine, vm: Vm) -> None:
    own = highest_version(xen)
    assert vm.smc(FFA.VERSION, int(own) - 1).fid == FfaError.NOT_SUPPORTED.w
    assert vm.smc(FFA.VERSION, int(own)).fid == int(own)


def test_ffa_id_get(vm: Vm) -> None:
    reply = vm.smc(FFA.ID_GET)
    assert reply.fid == FFA.SUCCESS_32
    assert reply[2] == vm.id
    assert not any(reply[3:8])


# --- partitions --------------------------------------------------------------------------------


@TELLS_NO_SIZE.mark
def test_ffa_partition_info_get__by_uuid_and_all(vm: Vm) -> None:
    vm.map_rxtx()
    for uuid in (MAILBOX, None):
        reply = vm.partition_info_get(uuid)
        assert reply.ok
        assert not any(reply[4:8])
        found = decode_partition_infos(vm.rx.read(), reply.w(2), reply.w(3))
        expected = {each.id: each for each in visible_to(vm) if uuid in (None, each.uuid)}
        for each in found:
            wanted = expected.pop(each.id, each)
            assert (each.exec_contexts, each.properties) == (
                wanted.exec_contexts,
                wanted.properties,
            )
        assert not expected
        assert vm.smc(FFA.RX_RELEASE).ok


@COUNT_HAS_A_SIZE.mark
def test_ffa_partition_info_get__count(vm: Vm) -> None:
    reply = vm.partition_info_get(flags=1)
    assert reply.w(2) == len(visible_to(vm))
    assert not any(reply[3:8])


def test_ffa_partition_info_get__invalid_uuid(vm: Vm) -> None:
    vm.map_rxtx()
    assert vm.partition_info_get(UNKNOWN).error is FfaError.INVALID_PARAMETERS


@DENIES_WHERE_BUSY.mark
def test_ffa_partition_info_get__busy(vm: Vm) -> None:
    vm.map_rxtx()
    assert vm.partition_info_get().ok
    assert vm.partition_info_get().error is FfaError.BUSY
    assert vm.smc(FFA.RX_RELEASE).ok


@pytest.mark.needs(abi=FFA.PARTITION_INFO_GET_REGS)
@pytest.mark.parametrize("partitions", [1, 3])
def test_ffa_partition_info_get_regs(xen: Machine, partitions: int) -> None:
    # The suite sends a tag of 0 and the index that it has, plus one, until it has all.
    boot_with(xen, secure_partitions(partitions))
    vm = xen.create_vm("1.2")
    assert vm.partition_info_get_regs(UNKNOWN).error is FfaError.INVALID_PARAMETERS
    assert vm.partition_info_get_regs().ok
    for each in visible_to(vm)[:partitions]:
        assert walked(vm, each.uuid) == [
            PartitionInfo(each.id, each.exec_contexts, each.properties)
        ]
    assert walked(vm) == visible_to(vm)


# --- RX and TX ---------------------------------------------------------------------------------


def test_ffa_rx_release(vm: Vm) -> None:
    assert vm.smc(FFA.RX_RELEASE).error is FfaError.DENIED


@TAKES_UNALIGNED.mark
@pytest.mark.parametrize("offsets", [(0x100, 0), (0, 0x100)])
def test_ffa_rxtx_map_and_unmap__unaligned(vm: Vm, offsets: tuple[int, int]) -> None:
    tx, rx = (vm.memory.allocate() + offset for offset in offsets)
    assert vm.smc(FFA.RXTX_MAP_64, tx, rx, 1).error is FfaError.INVALID_PARAMETERS


@TAKES_NO_PAGES.mark
def test_ffa_rxtx_map_and_unmap__no_pages(vm: Vm) -> None:
    tx, rx = vm.memory.allocate(), vm.memory.allocate()
    assert vm.smc(FFA.RXTX_MAP_64, tx, rx, 0).error is FfaError.INVALID_PARAMETERS


def test_ffa_rxtx_map_and_unmap__twice(vm: Vm) -> None:
    vm.map_rxtx()
    again = vm.smc(FFA.RXTX_MAP_64, vm.tx.address, vm.rx.address, 1)
    assert again.error is FfaError.DENIED
    assert vm.smc(FFA.RXTX_UNMAP).ok


def test_ffa_rxtx_map_and_unmap__unmap_before_map(vm: Vm) -> None:
    reply = vm.smc(FFA.RXTX_UNMAP, vm.id << 16)
    assert reply.error is FfaError.INVALID_PARAMETERS


@pytest.mark.needs(abi=FFA.MSG_SEND2)
@HIDES_BUFFERS.mark
def test_rxtx_exclusive_access(vm: Vm, spmc: Spmc) -> None:
    # A partition that tries to map the guest's buffers is refused by an SPMC that knows of them.
    vm.map_rxtx()
    known = spmc.state.buffers[vm.id]
    for buffer, ranges in ((vm.tx, known.tx), (vm.rx, known.rx)):
        assert [tuple(each) for each in ranges] == [(vm.memory.machine_address(buffer.address), 1)]
    assert vm.smc(FFA.RXTX_UNMAP).ok
    assert vm.id not in spmc.state.buffers


# --- execution contexts ------------------------------------------------------------------------


def test_mp_execution_contexts(xen: Machine) -> None:
    boot_with(xen, [SecurePartition(0x8002, exec_contexts=4)])
    vm = xen.create_vm("1.1", vcpus=4)
    for n, vcpu in enumerate(vm.vcpus):
        reply = direct(vcpu, n + 1, receiver=0x8002, fid=FFA.MSG_SEND_DIRECT_REQ_64)
        assert (reply.fid, reply.x3) == (FFA.MSG_SEND_DIRECT_RESP_64, n + 1)


def test_up_migrate_capable(xen: Machine) -> None:
    vm = xen.create_vm("1.1", vcpus=2)
    for vcpu in vm.vcpus:
        assert direct(vcpu, receiver=SP).fid == FFA.MSG_SEND_DIRECT_RESP_32
