# SPDX-License-Identifier: GPL-2.0-only
"""Hafnium's test partitions: what their primary VM finds out, as a guest of Xen."""

from collections import Counter
from uuid import UUID

import pytest

from ffashim import FFA, FfaError, Machine
from ffashim.capabilities import highest_version
from ffashim.clients import ClientError
from ffashim.clients.hafnium import TestPartition
from ffashim.defaults import CRYPTO, MAILBOX, STORAGE
from ffashim.defects.discovery import (
    COUNT_HAS_A_SIZE,
    LOSES_GUESTS,
    TELLS_1_0_A_SIZE,
    TELLS_NO_64_BIT_STATE,
    TELLS_NO_SIZE,
)
from ffashim.defects.versions import ECHOES_THE_VERSION
from ffashim.descriptors import PartitionInfo
from ffashim.ffa import V1_0, V1_1, Version
from ffashim.testing import boot_with, populate, secure_partitions, visible_to

UNKNOWN = UUID(fields=(1, 0, 1, 0, 1, 0x000000000001))
REGS = pytest.mark.needs(abi=FFA.PARTITION_INFO_GET_REGS)
BETWEEN = pytest.mark.needs(abi=FFA.PARTITION_INFO_GET_REGS, vm_to_vm=True)
widths = pytest.mark.parametrize("bits", [64, 32])


def primary(machine: Machine, version: Version | None = None, bits: int = 64) -> TestPartition:
    """Hafnium's primary VM, of the highest version by default, with a mailbox."""
    vm = machine.create_vm(bits=bits)
    partition = TestPartition(vm, version or highest_version(machine))
    vm.smc(FFA.VERSION, int(partition.version))
    partition.set_up_mailbox()
    return partition


@ECHOES_THE_VERSION.mark
def test_every_compatible_version_is_answered_by_the_one_implemented(xen: Machine) -> None:
    TestPartition(xen.create_vm(), highest_version(xen)).negotiate(highest_version(xen))


@TELLS_NO_SIZE.mark
@widths
@pytest.mark.parametrize("partitions", [0, 1, 2, 3, 5, 6, 63])
def test_the_list_in_rx_is_complete_and_rx_not_held_after_it(
    xen: Machine, partitions: int, bits: int
) -> None:
    boot_with(xen, secure_partitions(partitions))
    hafnium = primary(xen, bits=bits)
    assert Counter(hafnium.partitions()) == Counter(visible_to(hafnium.vm))
    hafnium.tear_down()


@TELLS_1_0_A_SIZE.mark
def test_1_0_has_descriptors_of_its_own(xen: Machine) -> None:
    hafnium = primary(xen, V1_0)
    expected = [
        PartitionInfo(each.id, each.exec_contexts, each.properties)
        for each in visible_to(hafnium.vm)
    ]
    assert Counter(hafnium.partitions()) == Counter(expected)
    hafnium.tear_down()


@COUNT_HAS_A_SIZE.mark
@pytest.mark.parametrize("partitions", [0, 1, 6, 63])
def test_the_count_is_that_of_the_list(xen: Machine, partitions: int) -> None:
    boot_with(xen, secure_partitions(partitions))
    hafnium = primary(xen)
    assert hafnium.count() == len(visible_to(hafnium.vm))
    hafnium.tear_down()


@TELLS_NO_SIZE.mark
@COUNT_HAS_A_SIZE.mark
@pytest.mark.parametrize(
    ("uuid", "partition"), [(MAILBOX, 0x8001), (CRYPTO, 0x8002), (STORAGE, 0x8003)]
)
def test_a_known_uuid_finds_its_partition_without_a_uuid(
    xen: Machine, uuid: UUID, partition: int
) -> None:
    hafnium = primary(xen)
    assert hafnium.count(uuid) == 1
    (found,) = hafnium.partitions(uuid)
    assert (found.id, found.uuid.int) == (partition, 0)
    hafnium.tear_down()


def test_an_unknown_uuid_finds_nobody(xen: Machine) -> None:
    hafnium = primary(xen)
    assert hafnium.refused(UNKNOWN) is FfaError.INVALID_PARAMETERS
    hafnium.tear_down()


def test_flags_that_must_be_zero_are_looked_at(xen: Machine) -> None:
    hafnium = primary(xen)
    assert hafnium.refused(flags=0xFFFF) is FfaError.INVALID_PARAMETERS


# --- by registers ------------------------------------------------------------------------------


def a_walk(machine: Machine, partitions: int, guests: int) -> None:
    """R6: the tag that Hafnium sends, 0, is a stale one behind the first window."""
    vm = populate(machine, partitions, guests)
    hafnium = TestPartition(vm, highest_version(machine))
    if partitions + guests <= 5:
        assert Counter(hafnium.walk()) == Counter(visible_to(vm))
        return
    with pytest.raises(ClientError, match=r"from 5, after FFA_ERROR RETRY"):
        hafnium.walk()


@REGS
@pytest.mark.parametrize("partitions", [0, 1, 2, 3, 4, 5, 9, 10, 63])
def test_a_walk_with_a_tag_of_0_is_whole_or_to_be_tried_again(
    xen: Machine, partitions: int
) -> None:
    a_walk(xen, partitions, 1)


@BETWEEN
@pytest.mark.parametrize(
    ("partitions", "guests"),
    [
        # A window that is to hold guests, with one left over behind it.
        pytest.param(*each, marks=[LOSES_GUESTS.mark] if each[0] < 5 < sum(each) else [])
        for each in ((0, 3), (0, 5), (0, 6), (2, 3), (2, 6), (4, 3), (5, 3), (7, 6))
    ],
)
def test_a_walk_over_guests_is_whole_or_to_be_tried_again(
    xen: Machine, partitions: int, guests: int
) -> None:
    a_walk(xen, partitions, guests)


@REGS
@pytest.mark.parametrize("uuid", [MAILBOX, CRYPTO, STORAGE])
def test_a_known_uuid_is_one_window_of_one(xen: Machine, uuid: UUID) -> None:
    # R2.
    (found,) = primary(xen).walk(uuid)
    assert found.uuid.int == 0


@BETWEEN
@TELLS_NO_64_BIT_STATE.mark
def test_both_ways_find_the_same_guests(xen: Machine) -> None:
    for _ in range(2):
        xen.create_vm(str(V1_1), ram_pages=1)
    boot = primary(xen)
    assert Counter(boot.partitions()) == Counter(visible_to(boot.vm))
    boot.tear_down()
