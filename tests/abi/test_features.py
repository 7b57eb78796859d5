# SPDX-License-Identifier: GPL-2.0-only
"""FFA_FEATURES: a guest asks what there is (FF-A 1.2, 13.3)."""

import pytest

from ffashim import FFA, FfaError, Machine, Vm
from ffashim.capabilities import handled
from ffashim.defects.features import HIDES_INTERRUPT, MINDS_SBZ, PROMISES_SMC64, REPORTS_SET_IN_VAIN
from ffashim.defects.versions import SERVES_WITHOUT_VERSION
from ffashim.ffa import Feature

pytestmark = pytest.mark.needs(abi=FFA.FEATURES)

ANSWERS = {FFA.ERROR, FFA.SUCCESS_32, FFA.SUCCESS_64, FFA.INTERRUPT}
"""Reported, but not there to be called."""
SINCE_1_2 = {FFA.PARTITION_INFO_GET_REGS, FFA.MSG_SEND_DIRECT_REQ2}
MANDATORY = [
    FFA.ERROR,
    FFA.SUCCESS_32,
    FFA.SUCCESS_64,
    FFA.VERSION,
    FFA.FEATURES,
    FFA.ID_GET,
    FFA.RX_RELEASE,
    FFA.RXTX_UNMAP,
    FFA.PARTITION_INFO_GET,
]


def reports(vm: Vm, what: int) -> bool:
    reply = vm.smc(FFA.FEATURES, what)
    assert reply.ok or reply.error is FfaError.NOT_SUPPORTED
    return reply.ok


@pytest.mark.parametrize("fid", MANDATORY, ids=lambda fid: fid.name)
def test_what_every_guest_needs_is_there(vm: Vm, fid: FFA) -> None:
    # FF-A ACS ffa_features has the list.
    reply = vm.smc(FFA.FEATURES, fid)
    assert reply.ok
    assert not any(reply[1:8])


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_until_1_2_no_call_has_more_to_tell(xen: Machine, version: str) -> None:
    # Table 13.9: properties of MEM_SHARE are of dynamic buffers, which there are none of.
    vm = xen.create_vm(version)
    told = {fid.name: vm.smc(FFA.FEATURES, fid) for fid in FFA}
    assert not {name: each for name, each in told.items() if each.ok and any(each[1:8])}


@HIDES_INTERRUPT.mark
def test_ffa_interrupt_is_there(vm: Vm) -> None:
    assert reports(vm, FFA.INTERRUPT)


@REPORTS_SET_IN_VAIN.mark
def test_what_is_reported_can_be_called(xen: Machine, vm: Vm) -> None:
    there = handled(xen) | ANSWERS
    assert not [fid.name for fid in FFA if reports(vm, fid) and fid not in there]


def test_what_can_be_called_is_reported(xen: Machine, vm: Vm) -> None:
    assert not [fid.name for fid in sorted(handled(xen)) if not reports(vm, fid)]


@pytest.mark.parametrize(
    "fid",
    [FFA.RX_ACQUIRE, FFA.NOTIFICATION_BITMAP_CREATE, FFA.NOTIFICATION_BITMAP_DESTROY],
    ids=lambda fid: fid.name,
)
def test_what_a_hypervisor_asks_of_the_spmc_is_not_for_guests(vm: Vm, fid: FFA) -> None:
    assert not reports(vm, fid)


@pytest.mark.parametrize("what", [0, 4, 0x7F, 0x8400_005F, 0x8400_00EF, 0xC400_00FF, 0xFFFF_FFFF])
def test_what_does_not_exist_is_not_supported(vm: Vm, what: int) -> None:
    assert vm.smc(FFA.FEATURES, what).error is FfaError.NOT_SUPPORTED


@pytest.mark.parametrize("fid", sorted(SINCE_1_2), ids=lambda fid: fid.name)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_what_came_with_1_2_is_not_reported_to_older_guests(
    xen: Machine, version: str, fid: FFA
) -> None:
    assert not reports(xen.create_vm(version), fid)


@pytest.mark.needs(abi=FFA.FEATURES, version="1.2")
@pytest.mark.parametrize("fid", sorted(SINCE_1_2), ids=lambda fid: fid.name)
def test_what_came_with_1_2_is_reported_to_guests_of_1_2(xen: Machine, vm: Vm, fid: FFA) -> None:
    assert reports(vm, fid) == (fid in handled(xen))


@pytest.mark.parametrize("fid", [FFA.RXTX_MAP_32, FFA.RXTX_MAP_64], ids=lambda fid: fid.name)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_rx_and_tx_are_aligned_to_4_kib(xen: Machine, version: str, fid: FFA) -> None:
    # w2[1:0] is 0 for 4 KiB, the rest is reserved until 1.2.
    reply = xen.create_vm(version).smc(FFA.FEATURES, fid)
    assert reply.ok
    assert not any(reply[2:8])


@pytest.mark.needs(abi=FFA.FEATURES, version="1.2")
@pytest.mark.parametrize("fid", [FFA.RXTX_MAP_32, FFA.RXTX_MAP_64], ids=lambda fid: fid.name)
def test_since_1_2_the_largest_rx_and_tx_is_told_truthfully(vm: Vm, fid: FFA) -> None:
    word = vm.smc(FFA.FEATURES, fid).w(2)
    most = word >> 16
    assert word & 0xFFFF == 0
    buffers = vm.memory.allocate(2 * most + 2)
    tx, rx = buffers, buffers + (most + 1) * 4096
    assert vm.smc(fid, tx, rx, most + 1).error is FfaError.INVALID_PARAMETERS
    assert vm.smc(fid, tx, rx, most).ok


@pytest.mark.needs(abi=FFA.NOTIFICATION_GET)
@pytest.mark.parametrize(
    "feature", [Feature.NOTIF_PEND_INTR, Feature.SCHEDULE_RECV_INTR], ids=lambda f: f.name
)
def test_interrupts_of_notifications_are_private_to_a_vcpu(vm: Vm, feature: Feature) -> None:
    # SGIs or PPIs: each vCPU gets its own (FF-A 1.2, 10.4).
    reply = vm.smc(FFA.FEATURES, feature)
    assert reply.ok
    assert reply.w(2) < 32
    assert not any(reply[3:8])


@pytest.mark.needs(abi=FFA.NOTIFICATION_GET)
def test_the_two_interrupts_of_notifications_differ(vm: Vm) -> None:
    pending = vm.smc(FFA.FEATURES, Feature.NOTIF_PEND_INTR).w(2)
    assert pending != vm.smc(FFA.FEATURES, Feature.SCHEDULE_RECV_INTR).w(2)


@pytest.mark.needs(abi=FFA.NOTIFICATION_GET)
@pytest.mark.parametrize(
    ("feature", "intid"), [(Feature.NOTIF_PEND_INTR, 8), (Feature.SCHEDULE_RECV_INTR, 9)]
)
def test_interrupts_of_notifications_are_those_of_xens_public_headers(
    vm: Vm, feature: Feature, intid: int
) -> None:
    # GUEST_FFA_NOTIF_PEND_INTR_ID and GUEST_FFA_SCHEDULE_RECV_INTR_ID of public/arch-arm.h.
    assert vm.smc(FFA.FEATURES, feature).w(2) == intid


def test_there_is_no_managed_exit_for_guests(vm: Vm) -> None:
    assert not reports(vm, Feature.MANAGED_EXIT_INTR)


@MINDS_SBZ.mark
@pytest.mark.parametrize("fid", [FFA.ID_GET, FFA.RXTX_MAP_32], ids=lambda fid: fid.name)
def test_registers_that_should_be_zero_are_ignored(vm: Vm, fid: FFA) -> None:
    # w3 to w7 are SBZ; w2 has a meaning for other function IDs only.
    assert vm.smc(FFA.FEATURES, fid, *([0xA5A5] * 6)).ok


def test_upper_halves_are_ignored(vm: Vm) -> None:
    upper = 0xDEAD_BEEF << 32
    assert vm.smc(FFA.FEATURES, upper | FFA.ID_GET).ok
    assert not vm.smc(FFA.FEATURES, upper).ok


def test_the_spmc_is_not_asked(xen: Machine, vm: Vm) -> None:
    before = len(xen.spmc.log)
    for fid in FFA:
        reports(vm, fid)
    assert len(xen.spmc.log) == before


@PROMISES_SMC64.mark
def test_a_32_bit_guest_is_told_of_no_64_bit_function(xen: Machine) -> None:
    vm = xen.create_vm("1.1", bits=32)
    calls = [fid for fid in FFA if fid >> 30 & 1]
    assert not [fid.name for fid in calls if reports(vm, fid)]


def test_a_32_bit_guest_is_told_of_the_32_bit_functions(xen: Machine) -> None:
    small, large = xen.create_vm("1.1", bits=32), xen.create_vm("1.1")
    calls = [fid for fid in FFA if not fid >> 30 & 1]
    assert [reports(small, fid) for fid in calls] == [reports(large, fid) for fid in calls]


@SERVES_WITHOUT_VERSION.mark
def test_it_wants_a_version_first(xen: Machine) -> None:
    assert xen.create_vm().smc(FFA.FEATURES, FFA.VERSION).error is FfaError.NOT_SUPPORTED
