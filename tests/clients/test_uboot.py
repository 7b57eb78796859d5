# SPDX-License-Identifier: GPL-2.0-only
"""U-Boot: what its FF-A bus finds out and can do, and what it leaves to Linux."""

import contextlib
import errno
from collections import Counter
from uuid import UUID

import pytest

from ffashim import FFA, FfaError, Machine, SecurePartition
from ffashim.clients import ClientError, NoFramework
from ffashim.clients.linux import LINUX_2023, LINUX_2025, LINUX_2026, ArmFfa, State
from ffashim.clients.uboot import UBoot
from ffashim.defaults import CRYPTO, MAILBOX, STORAGE, UPDATE
from ffashim.defects.discovery import TELLS_NO_64_BIT_STATE
from ffashim.defects.messages import ABORTS_INTERRUPTED
from ffashim.descriptors import PartitionInfo
from ffashim.ffa import PartitionProperty
from ffashim.spmc.replies import interrupt
from ffashim.testing import boot_with, secure_partitions, visible_to
from ffashim.traffic import footprint

pytestmark = pytest.mark.needs(abi=FFA.FEATURES)

MM = UUID("ed32d533-99e6-4209-9cc0-2d72cdd998a7")
"""The partition that keeps EFI variables (include/mm_communication.h)."""


def uboot(machine: Machine) -> UBoot:
    """U-Boot in a guest of its own, the bus probed."""
    return UBoot(machine.create_vm()).probe()


def known(driver: UBoot) -> list[PartitionInfo]:
    """Everybody, without UUIDs."""
    found = visible_to(driver.vm)
    return [PartitionInfo(each.id, each.exec_contexts, each.properties) for each in found]


def cached(driver: UBoot) -> list[PartitionInfo]:
    return [each.info for each in driver.partitions]


def test_the_bus_is_probed(xen: Machine) -> None:
    driver = uboot(xen)
    assert driver.version.major == 1
    assert (driver.id, driver.pages) == (driver.vm.id, 1)


def test_32_bit_calls_of_a_64_bit_guest_are_answered(xen: Machine) -> None:
    # Every success that U-Boot knows is FFA_SUCCESS_32, that of FFA_RXTX_MAP_64 too.
    uboot(xen).remove()


@pytest.mark.parametrize("partitions", [1, 2, 5, 6, 11, 63])
def test_every_partition_is_found(xen: Machine, partitions: int) -> None:
    boot_with(xen, secure_partitions(partitions))
    driver = uboot(xen)
    assert Counter(cached(driver)) == Counter(known(driver))


@pytest.mark.needs(vm_to_vm=True)
@TELLS_NO_64_BIT_STATE.mark
@pytest.mark.parametrize("guests", [1, 5, 8])
def test_other_guests_are_found(xen: Machine, guests: int) -> None:
    for _ in range(guests):
        xen.create_vm("1.1", ram_pages=1)
    driver = uboot(xen)
    assert Counter(cached(driver)) == Counter(known(driver))


def test_without_partitions_the_bus_is_there_all_the_same(xen: Machine) -> None:
    # RX holds nothing then, but is U-Boot's: it wants the release to succeed.
    boot_with(xen, [])
    driver = uboot(xen)
    assert driver.partitions == []
    with pytest.raises(ClientError, match="no partition installed"):
        driver.partition_info_get(MM)


@pytest.mark.parametrize(
    ("uuid", "partition"), [(MAILBOX, 0x8001), (CRYPTO, 0x8002), (STORAGE, 0x8003)]
)
def test_a_partition_is_found_by_its_uuid(xen: Machine, uuid: UUID, partition: int) -> None:
    driver = uboot(xen)
    for _ in range(2):  # asked for, then out of the cache
        assert [each.id for each in driver.partition_info_get(uuid)] == [partition]


def test_both_services_of_a_partition_lead_to_it(xen: Machine) -> None:
    # Of two entries with one ID the cache gives a UUID to the first, so the last one asked for.
    driver = uboot(xen)
    for uuid in (STORAGE, UPDATE, STORAGE):
        assert [each.id for each in driver.partition_info_get(uuid)] == [0x8003]


def test_several_partitions_may_have_one_uuid(xen: Machine) -> None:
    boot_with(xen, [SecurePartition(0x8001 + n, [MM]) for n in range(3)])
    found = uboot(xen).partition_info_get(MM)
    assert [each.id for each in found] == [0x8001, 0x8002, 0x8003]


def test_a_partition_that_is_not_there_is_no_crash(xen: Machine) -> None:
    driver = uboot(xen)
    with pytest.raises(ClientError) as caught:
        driver.partition_info_get(MM)
    assert caught.value.errno in (errno.EINVAL, errno.ENODATA)
    # RX is free for the next one.
    assert [each.id for each in driver.partition_info_get(MAILBOX)] == [0x8001]


# --- EFI variables -----------------------------------------------------------------------------


@pytest.fixture
def variables(xen: Machine) -> UBoot:
    """U-Boot beside the partition that keeps EFI variables, which answers 0 and what was asked."""
    properties = PartitionProperty.DIRECT_REQ_RECV | PartitionProperty.AARCH64_STATE
    keeper = SecurePartition(
        0x8005, [MM], properties, on_direct=lambda request: (0, request.payload[0])
    )
    boot_with(xen, [*secure_partitions(2), keeper])
    return uboot(xen)


def test_the_keeper_of_variables_is_asked(variables: UBoot) -> None:
    (keeper,) = variables.partition_info_get(MM)
    assert variables.sync_send_receive(keeper.id, [0x10])[:2] == (0, 0x10)


@ABORTS_INTERRUPTED.mark
def test_a_preempted_keeper_is_run_until_it_has_answered(xen: Machine, variables: UBoot) -> None:
    answers = iter([interrupt(0x8005), interrupt(0x8005), (0, 7)])
    xen.spmc.messages.handle(0x8005, lambda _request: next(answers))
    assert variables.sync_send_receive(0x8005, [])[:2] == (0, 7)


@pytest.mark.parametrize(
    ("status", "wanted"), [(FfaError.BUSY, errno.EBUSY), (FfaError.ABORTED, errno.ECANCELED)]
)
def test_a_keeper_that_fails_is_an_error(
    xen: Machine, variables: UBoot, status: FfaError, wanted: int
) -> None:
    xen.spmc.on(FFA.MSG_SEND_DIRECT_REQ_64).error(status)
    with pytest.raises(ClientError) as caught:
        variables.sync_send_receive(0x8005, [])
    assert caught.value.errno == wanted


# --- and then Linux ----------------------------------------------------------------------------


def test_nothing_is_left_when_u_boot_hands_over(xen: Machine) -> None:
    vm = xen.create_vm()
    vm.smc(FFA.ID_GET)
    before = footprint(xen)
    driver = UBoot(vm).probe()
    driver.partition_info_get(MAILBOX)
    driver.remove()
    assert footprint(xen) == before


def test_linux_of_1_0_takes_over(xen: Machine) -> None:
    driver = uboot(xen)
    driver.remove()
    assert ArmFfa(driver.vm, LINUX_2023).probe().partitions == cached(driver)


def stays_with_1_0(machine: Machine) -> bool:
    vm = machine.create_vm("1.0")
    later = vm.smc(FFA.VERSION, 0x1_0001)
    return not later.unknown and not vm.smc(FFA.PARTITION_INFO_GET, x5=1).ok


@pytest.mark.known_defect(
    stays_with_1_0,
    "seems to agree to a later version, and stays with the first: Linux after U-Boot finds nobody",
)
@pytest.mark.parametrize("state", [LINUX_2025, LINUX_2026], ids=str)
def test_linux_of_1_2_takes_over_or_is_told_that_it_cannot(xen: Machine, state: State) -> None:
    # 13.2.1: NOT_SUPPORTED for another version, once other calls were made.
    driver = uboot(xen)
    driver.remove()
    linux = ArmFfa(driver.vm, state)
    with contextlib.suppress(NoFramework):
        assert Counter(linux.probe().partitions) == Counter(visible_to(driver.vm))
