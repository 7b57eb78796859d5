# SPDX-License-Identifier: GPL-2.0-only
"""FFA_PARTITION_INFO_GET: who is there, in the caller's RX buffer (FF-A 1.2, 13.8)."""

from collections import Counter
from uuid import UUID

import pytest

from ffashim import FFA, FfaError, Machine, Reply, SecurePartition, Spmc, Vm
from ffashim.capabilities import highest_version
from ffashim.defaults import CRYPTO, MAILBOX, UPDATE
from ffashim.defects.buffers import HIDES_BUFFERS
from ffashim.defects.discovery import (
    ADDS_GUESTS_TO_A_UUID,
    COUNT_HAS_A_SIZE,
    DENIES_WHERE_BUSY,
    FINDS_NOBODY_WITH_SUCCESS,
    READS_UPPER_HALVES,
    STRIDES_IN_LISTS,
    TELLS_1_0_A_SIZE,
    TELLS_NO_64_BIT_STATE,
    TELLS_NO_SIZE,
)
from ffashim.defects.versions import SERVES_WITHOUT_VERSION
from ffashim.descriptors import PartitionInfo, decode_partition_infos
from ffashim.ffa import V1_2
from ffashim.testing import (
    at_each_point,
    boot_with,
    described,
    listed,
    secure_partitions,
    visible_to,
)

UNKNOWN = UUID(int=0xDEAD << 64 | 0xBEEF)
COUNT = 1


def guest(xen: Machine, version: str = "1.1", bits: int = 64) -> Vm:
    """A guest with buffers. On a tree that does not know the version it gets the highest one."""
    if version == "1.2" and highest_version(xen) < V1_2:
        pytest.skip("needs a mediator of FF-A 1.2")
    vm = xen.create_vm(version, bits=bits)
    vm.map_rxtx()
    return vm


def without_uuid(partitions: list[PartitionInfo]) -> list[PartitionInfo]:
    """As seen in 1.0, or by a caller that named the UUID."""
    return [PartitionInfo(p.id, p.exec_contexts, p.properties) for p in partitions]


def in_rx(vm: Vm) -> list[PartitionInfo]:
    """What RX holds after a call, which trees that tell no size have there, too."""
    reply = vm.partition_info_get()
    return decode_partition_infos(vm.rx.read(), reply.w(2), 24)


# --- the list ----------------------------------------------------------------------------------


@TELLS_NO_SIZE.mark
@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_since_1_1_the_count_and_a_size_of_24_are_told(xen: Machine, version: str) -> None:
    # G1: Hafnium, FF-A ACS, Linux.
    vm = guest(xen, version)
    reply = vm.partition_info_get()
    assert reply.ok
    assert reply.w(2) == len(visible_to(vm))
    assert reply.w(3) == 24
    assert not any(reply[4:8])


@TELLS_NO_SIZE.mark
@TELLS_NO_64_BIT_STATE.mark
@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_with_the_nil_uuid_everybody_is_listed(xen: Machine, version: str) -> None:
    xen.create_vm("1.1", vcpus=3)
    xen.create_vm("1.0", bits=32)
    xen.create_vm()
    vm = guest(xen, version)
    assert Counter(listed(vm)) == Counter(visible_to(vm))


def test_1_0_has_descriptors_of_8_bytes(xen: Machine) -> None:
    vm = guest(xen, "1.0")
    vm.rx.write(b"\xa5" * 4096)
    reply = vm.partition_info_get()
    assert reply.ok
    found = decode_partition_infos(vm.rx.read(), reply.w(2), 8)
    assert Counter(found) == Counter(without_uuid(visible_to(vm)))
    # Nothing is written behind them.
    assert vm.rx.read()[reply.w(2) * 8 :].strip(b"\xa5") == b""


@TELLS_1_0_A_SIZE.mark
def test_1_0_has_descriptors_of_8_bytes_and_tells_no_size(xen: Machine) -> None:
    # G7. One of several UUIDs is a descriptor of its own, which 1.0 sees as the same ID again.
    vm = guest(xen, "1.0")
    reply = vm.partition_info_get()
    assert reply.w(3) == 0
    found = decode_partition_infos(vm.rx.read(), reply.w(2), 8)
    assert Counter(found) == Counter(without_uuid(visible_to(vm)))


def test_a_32_bit_guest_sees_the_same_partitions(xen: Machine) -> None:
    vm = guest(xen, bits=32)
    reply = vm.partition_info_get()
    found = decode_partition_infos(vm.rx.read(), reply.w(2), 24)
    assert Counter(found) == Counter(visible_to(vm))


@pytest.mark.needs(version="1.2")
def test_a_32_bit_guest_of_1_2_finds_itself_in_aarch32_state(xen: Machine) -> None:
    vm = guest(xen, "1.2", bits=32)
    (own,) = (each for each in listed(vm) if each.id == vm.id)
    assert own == described(vm)
    assert not own.properties >> 8 & 1


@TELLS_NO_64_BIT_STATE.mark
@pytest.mark.needs(vm_to_vm=True)
def test_the_state_of_a_guest_is_told(xen: Machine) -> None:
    # Bit 8: AArch64. The 32-bit guest must not have it.
    vm = guest(xen)
    small, large = xen.create_vm("1.1", bits=32), xen.create_vm("1.1", bits=64)
    found = {each.id: each.properties >> 8 & 1 for each in listed(vm)}
    assert (found[small.id], found[large.id]) == (0, 1)


@pytest.mark.needs(vm_to_vm=True)
def test_guests_come_and_go(xen: Machine) -> None:
    vm = guest(xen)
    other = xen.create_vm("1.1")
    silent = xen.create_vm()
    ids = {each.id for each in listed(vm)}
    assert other.id in ids
    assert silent.id not in ids
    other.destroy()
    assert other.id not in {each.id for each in listed(vm)}


@pytest.mark.needs(vm_to_vm=False)
def test_without_vm_to_vm_no_other_guest_is_listed(xen: Machine) -> None:
    vm = guest(xen)
    other = xen.create_vm("1.1")
    assert other.id not in {each.id for each in in_rx(vm)}


@pytest.mark.parametrize(
    "size",
    [24, *(pytest.param(size, marks=STRIDES_IN_LISTS.mark) for size in (32, 40, 48))],
)
def test_descriptors_of_the_spmc_may_be_larger(xen: Machine, size: int) -> None:
    # The first 24 bytes count.
    boot_with(xen, secure_partitions(7), descriptor_size=size)
    vm = guest(xen)
    assert Counter(in_rx(vm)) == Counter(visible_to(vm))


@pytest.mark.spmc(partitions=[SecurePartition(0x8001), SecurePartition(0x4042)])
def test_a_partition_without_bit_15_is_listed_if_it_can_be_talked_to(xen: Machine) -> None:
    # The convention of 6.1, which Xen has come to rely on to tell secure endpoints from guests.
    vm = guest(xen)
    reply = vm.smc(FFA.MSG_SEND_DIRECT_REQ_32, vm.id << 16 | 0x4042)
    ids = [0x8001] if reply.error else [0x8001, 0x4042]
    assert [each.id for each in in_rx(vm)] == ids


@pytest.mark.parametrize("guests", [0, 1, 30])
@pytest.mark.parametrize("count", [0, 1, 5, 63])
def test_the_list_is_whole_whatever_its_length(xen: Machine, count: int, guests: int) -> None:
    boot_with(xen, secure_partitions(count))
    vm = guest(xen)
    for _ in range(guests):
        xen.create_vm("1.1", ram_pages=1)
    found = Counter(each.id for each in in_rx(vm))
    assert found == Counter(each.id for each in visible_to(vm))


@pytest.mark.needs(vm_to_vm=True)
@pytest.mark.parametrize(("version", "size"), [("1.0", 8), ("1.1", 24)])
def test_a_list_that_does_not_fit_is_no_memory(xen: Machine, version: str, size: int) -> None:
    # G8, the FF-A ACS checklist. RX has one page; it is not held afterwards.
    vm = guest(xen, version)
    room = 4096 // size - len(visible_to(vm))
    for _ in range(room):
        xen.create_vm("1.1", ram_pages=1)
    assert vm.partition_info_get().ok
    vm.smc(FFA.RX_RELEASE)
    last = xen.create_vm("1.1", ram_pages=1)
    assert vm.partition_info_get().error is FfaError.NO_MEMORY
    assert vm.smc(FFA.RX_RELEASE).error is FfaError.DENIED
    last.destroy()
    assert vm.partition_info_get().ok


def answered(vm: Vm, count: int, size: int) -> Reply | None:
    """The answer to a guest if the SPMC tells so many descriptors of such a size, None if the
    tree does not ask it."""
    rule = vm.machine.spmc.on(FFA.PARTITION_INFO_GET)
    rule = rule.garble(lambda _x, reply: (*reply[:2], count, size, *reply[4:]))
    reply = vm.partition_info_get()
    return reply if rule.used else None


def takes_small_descriptors(xen: Machine) -> bool:
    reply = answered(guest(xen), 3, 7)
    return reply is not None and reply.ok


SMALL = pytest.mark.known_defect(
    takes_small_descriptors,
    "hands on descriptors of the SPMC that are smaller than those of 1.0",
)


def takes_long_lists(xen: Machine) -> bool:
    reply = answered(guest(xen), 171, 24)
    return reply is not None and reply.ok


LONG = pytest.mark.known_defect(
    takes_long_lists, "hands on more descriptors of the SPMC than its RX holds"
)


@pytest.mark.parametrize(
    ("count", "size", "error"),
    [
        pytest.param(171, 24, FfaError.NO_MEMORY, marks=LONG),
        pytest.param(0xFFFF, 8, FfaError.NO_MEMORY, marks=LONG),
        pytest.param(3, 7, FfaError.NOT_SUPPORTED, marks=SMALL),
        pytest.param(3, 0, FfaError.NOT_SUPPORTED, marks=SMALL),
    ],
)
def test_a_list_of_the_spmc_that_cannot_be_is_not_handed_on(
    xen: Machine, count: int, size: int, error: FfaError
) -> None:
    # More than RX holds, or descriptors smaller than those of 1.0.
    vm = guest(xen)
    reply = answered(vm, count, size)
    if reply is None:  # This tree has read the list at boot, when it was as it should be.
        vm.smc(FFA.RX_RELEASE)
        assert {each.id for each in in_rx(vm)} == {each.id for each in visible_to(vm)}
        return
    assert reply.error is error
    assert vm.smc(FFA.RX_RELEASE).error is FfaError.DENIED
    own = xen.spmc.state.hypervisor
    assert own is not None
    assert not own.held


# --- UUIDs -------------------------------------------------------------------------------------


def expected(xen: Machine, uuid: UUID) -> list[PartitionInfo]:
    """The secure partitions that have this UUID."""
    found = [
        PartitionInfo.decode(each.descriptors[uuid])
        for each in xen.spmc.state.partitions
        if uuid in each.descriptors
    ]
    return without_uuid(found)


@ADDS_GUESTS_TO_A_UUID.mark
@pytest.mark.parametrize("uuid", [MAILBOX, CRYPTO, UPDATE], ids=["first", "second", "another"])
def test_claim_7_a_uuid_lists_its_partitions_and_the_uuid_field_is_zero(
    xen: Machine, uuid: UUID
) -> None:
    xen.create_vm("1.1")
    vm = guest(xen)
    reply = vm.partition_info_get(uuid)
    assert decode_partition_infos(vm.rx.read(), reply.w(2), 24) == expected(xen, uuid)


@ADDS_GUESTS_TO_A_UUID.mark
def test_partitions_that_share_a_uuid_are_all_listed(xen: Machine) -> None:
    boot_with(xen, [SecurePartition(0x8000 + n, [MAILBOX, UUID(int=n)]) for n in range(1, 4)])
    xen.create_vm("1.1")
    vm = guest(xen)
    reply = vm.partition_info_get(MAILBOX)
    assert reply.w(2) == 3
    assert decode_partition_infos(vm.rx.read(), 3, 24) == expected(xen, MAILBOX)


HALVES = [UUID(int=77), UUID(int=77 << 64)]
"""Of which one half is zero."""


@pytest.mark.parametrize("uuid", HALVES, ids=["second", "first"])
def test_a_uuid_half_of_which_is_zero_is_not_the_nil_uuid(xen: Machine, uuid: UUID) -> None:
    boot_with(xen, [SecurePartition(0x8001 + n, [each]) for n, each in enumerate(HALVES)])
    vm = guest(xen)
    assert vm.partition_info_get(uuid).ok
    (found,) = decode_partition_infos(vm.rx.read(), 1, 24)
    assert found.id == 0x8001 + HALVES.index(uuid)
    assert vm.partition_info_get(uuid, COUNT).w(2) == 1


@TELLS_1_0_A_SIZE.mark
def test_a_guest_of_1_0_may_name_a_uuid(xen: Machine) -> None:
    vm = guest(xen, "1.0")
    reply = vm.partition_info_get(MAILBOX)
    assert (reply.w(2), reply.w(3)) == (1, 0)
    assert decode_partition_infos(vm.rx.read(), 1, 8) == expected(xen, MAILBOX)


@pytest.mark.parametrize("flags", [0, COUNT])
def test_a_uuid_that_nobody_has_is_an_invalid_parameter(xen: Machine, flags: int) -> None:
    # R3 and the FF-A ACS checklist, rule 5. RX is not held afterwards.
    vm = guest(xen)
    assert vm.partition_info_get(UNKNOWN, flags).error is FfaError.INVALID_PARAMETERS
    assert vm.smc(FFA.RX_RELEASE).error is FfaError.DENIED


@pytest.mark.parametrize("word", [1, 2, 3, 4])
def test_every_word_of_the_uuid_counts(xen: Machine, word: int) -> None:
    vm = guest(xen)
    registers = dict(zip(("x1", "x2", "x3", "x4"), words(MAILBOX), strict=True))
    registers[f"x{word}"] ^= 1 << 31
    reply = vm.smc(FFA.PARTITION_INFO_GET, **registers)
    assert reply.error is FfaError.INVALID_PARAMETERS


def words(uuid: UUID) -> list[int]:
    return [int.from_bytes(uuid.bytes[n : n + 4], "little") for n in range(0, 16, 4)]


@READS_UPPER_HALVES.mark
def test_upper_halves_are_ignored(xen: Machine) -> None:
    vm = guest(xen)
    upper = 0xDEAD_BEEF << 32
    reply = vm.smc(FFA.PARTITION_INFO_GET, upper, upper, upper, upper, upper, upper, upper)
    assert reply.ok
    assert reply.w(2) == len(visible_to(vm))
    vm.smc(FFA.RX_RELEASE)
    assert vm.smc(FFA.PARTITION_INFO_GET, *(upper | each for each in words(MAILBOX))).w(2) == 1


# --- counting ----------------------------------------------------------------------------------


@COUNT_HAS_A_SIZE.mark
@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_a_count_comes_without_a_size(xen: Machine, version: str) -> None:
    # G2: Hafnium, FF-A ACS, Linux.
    vm = guest(xen, version)
    reply = vm.partition_info_get(flags=COUNT)
    assert reply.ok
    assert not any(reply[3:8])


@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_the_count_is_the_length_of_the_list(xen: Machine, version: str) -> None:
    xen.create_vm("1.1")
    xen.create_vm("1.1")
    vm = guest(xen, version)
    assert vm.partition_info_get(flags=COUNT).w(2) == len(visible_to(vm))


@ADDS_GUESTS_TO_A_UUID.mark
def test_a_uuid_is_counted(xen: Machine) -> None:
    xen.create_vm("1.1")
    vm = guest(xen)
    assert vm.partition_info_get(CRYPTO, COUNT).w(2) == 1


def test_a_count_needs_no_buffers_and_leaves_them_alone(xen: Machine) -> None:
    vm = xen.create_vm("1.1")
    assert vm.partition_info_get(flags=COUNT).ok
    vm.map_rxtx()
    assert vm.partition_info_get(flags=COUNT).ok
    assert vm.smc(FFA.RX_RELEASE).error is FfaError.DENIED
    assert vm.partition_info_get().ok
    assert vm.partition_info_get(flags=COUNT).ok


@pytest.mark.parametrize("flags", [2, 3, 0x10, 1 << 31])
@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_other_flags_must_be_zero(xen: Machine, version: str, flags: int) -> None:
    # G3.
    vm = guest(xen, version)
    assert vm.partition_info_get(flags=flags).error is FfaError.INVALID_PARAMETERS


def test_1_0_has_no_flags(xen: Machine) -> None:
    # G3: w5 must be zero in 1.0.
    vm = guest(xen, "1.0")
    assert vm.partition_info_get(flags=COUNT).error is FfaError.INVALID_PARAMETERS


# --- RX ----------------------------------------------------------------------------------------


@DENIES_WHERE_BUSY.mark
def test_rx_that_is_not_free_is_busy(xen: Machine) -> None:
    # G4: the FF-A ACS checklist, rule 6.
    vm = guest(xen)
    vm.partition_info_get()
    assert vm.partition_info_get().error is FfaError.BUSY
    vm.smc(FFA.RX_RELEASE)
    assert vm.partition_info_get().ok


@DENIES_WHERE_BUSY.mark
def test_of_two_vcpus_that_ask_at_once_one_finds_rx_busy(xen: Machine) -> None:
    vm = xen.create_vm("1.1", vcpus=2)
    vm.map_rxtx()
    turns = 0
    for first, second in at_each_point(
        xen, vm.partition_info_get, lambda: vm.vcpus[1].smc(FFA.PARTITION_INFO_GET)
    ):
        turns += 1
        assert first.ok is not second.ok
        assert FfaError.BUSY in (first.error, second.error)
    assert turns


def test_rx_that_is_never_released_stays_busy(xen: Machine) -> None:
    # Xen tells its console of the first few only.
    vm = guest(xen)
    vm.partition_info_get()
    errors = {vm.partition_info_get().error for _ in range(30)}
    assert errors <= {FfaError.BUSY, FfaError.DENIED}


def believes_any_size(xen: Machine) -> bool:
    # An SPMC that is asked once, at boot, is not asked now.
    xen.spmc.on(FFA.PARTITION_INFO_GET).garble(lambda _x, reply: (*reply[:3], 4, *reply[4:]))
    vm = guest(xen)
    reply = vm.partition_info_get()
    if not reply.ok:
        return False
    return Counter(decode_partition_infos(vm.rx.read(), reply.w(2), 24)) != Counter(visible_to(vm))


@pytest.mark.known_defect(
    believes_any_size, "takes descriptors apart by a size of the SPMC's that no version has"
)
def test_a_size_too_small_for_any_version_is_not_believed(xen: Machine) -> None:
    assert not believes_any_size(xen)


def test_without_buffers_there_is_no_list(xen: Machine) -> None:
    # G5: 13.8 has DENIED for a callee in no state to answer, BUSY for RX not being free. Hafnium
    # says BUSY.
    error = xen.create_vm("1.1").partition_info_get().error
    assert error in (FfaError.DENIED, FfaError.BUSY)


@HIDES_BUFFERS.mark
@pytest.mark.needs(abi=FFA.MSG_SEND2, version="1.2")
@pytest.mark.parametrize("error", [FfaError.DENIED, FfaError.INVALID_PARAMETERS])
def test_rx_that_the_spmc_does_not_let_go_is_not_written(
    xen: Machine, spmc: Spmc, error: FfaError
) -> None:
    vm = guest(xen)
    vm.rx.write(b"\xa5" * 4096)
    spmc.on(FFA.RX_ACQUIRE).error(error, times=1)
    assert vm.partition_info_get().error is error
    assert vm.rx.read() == b"\xa5" * 4096
    assert vm.partition_info_get().ok


@SERVES_WITHOUT_VERSION.mark
def test_it_wants_a_version_first(xen: Machine) -> None:
    assert xen.create_vm().partition_info_get().error is FfaError.NOT_SUPPORTED


# --- without an SPMC ---------------------------------------------------------------------------


@pytest.mark.needs(vm_to_vm=True)
@FINDS_NOBODY_WITH_SUCCESS.mark
@pytest.mark.spmc(version=None)
@pytest.mark.parametrize("flags", [0, COUNT])
def test_without_an_spmc_a_uuid_that_nobody_has_is_an_invalid_parameter(
    xen: Machine, flags: int
) -> None:
    vm = guest(xen)
    assert vm.partition_info_get(UNKNOWN, flags).error is FfaError.INVALID_PARAMETERS


@pytest.mark.needs(vm_to_vm=True)
@pytest.mark.spmc(version=None, partitions=[])
@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_without_an_spmc_guests_see_each_other(xen: Machine, version: str) -> None:
    other = xen.create_vm("1.1")
    vm = guest(xen, version)
    ids = {each.id for each in in_rx(vm)}
    assert ids == {each.id for each in visible_to(vm)}
    assert other.id in ids
