# SPDX-License-Identifier: GPL-2.0-only
"""FFA_PARTITION_INFO_GET_REGS: who is there, five at a time, in registers (FF-A 1.2, 13.9).

The claims are those of the series that brought it to Xen (xen-devel, "Add cached GET_REGS
support", v2 and its review).
"""

from collections import Counter
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest

from ffashim import FFA, FfaError, Machine, SecurePartition, Vm
from ffashim.defaults import CRYPTO, MAILBOX, UPDATE
from ffashim.defects.discovery import DROPS_64_PARTITIONS, LOSES_GUESTS, SEES_HALF_A_CHANGE
from ffashim.defects.versions import PUBLISHES_THE_VERSION_FIRST, SERVES_WITHOUT_VERSION
from ffashim.descriptors import PartitionInfo, PartitionInfoRegs
from ffashim.memory import PAGE
from ffashim.testing import (
    at_each_point,
    boot_with,
    described,
    listed,
    populate,
    secure_partitions,
    visible_to,
    walked,
    while_a_guest_enters,
)

pytestmark = pytest.mark.needs(abi=FFA.PARTITION_INFO_GET_REGS)
VM_TO_VM = pytest.mark.needs(abi=FFA.PARTITION_INFO_GET_REGS, vm_to_vm=True)
ALONE = pytest.mark.needs(abi=FFA.PARTITION_INFO_GET_REGS, vm_to_vm=False)

UNKNOWN = UUID(int=0xDEAD << 64 | 0xBEEF)
SIZES = [0, 1, 2, 4, 5, 6, 9, 10, 11, 62, 63]
"""Numbers of secure partitions round the edges of windows of five; Xen takes 63."""


@pytest.fixture
def caller(xen: Machine) -> Vm:
    return xen.create_vm("1.2")


def window(vm: Vm, start: int = 0, tag: int = 0, uuid: UUID | None = None) -> PartitionInfoRegs:
    return PartitionInfoRegs.decode(vm.partition_info_get_regs(uuid, start, tag), start)


# --- claim 1: who may call -------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_claim_1_guests_below_1_2_get_not_supported(xen: Machine, version: str) -> None:
    vm = xen.create_vm(version)
    assert vm.partition_info_get_regs().error is FfaError.NOT_SUPPORTED
    assert vm.smc(FFA.FEATURES, FFA.PARTITION_INFO_GET_REGS).error is FfaError.NOT_SUPPORTED


def test_claim_1_guests_of_1_2_may_call_and_ffa_features_agrees(caller: Vm) -> None:
    assert caller.smc(FFA.FEATURES, FFA.PARTITION_INFO_GET_REGS).ok
    assert caller.partition_info_get_regs().ok


def test_claim_1_a_32_bit_guest_gets_not_supported(xen: Machine) -> None:
    # There is no SMC32 function ID of it, and SMC64 ones do not exist for AArch32 (SMCCC 2.5).
    vm = xen.create_vm("1.2", bits=32)
    assert vm.partition_info_get_regs().unknown
    assert vm.smc(FFA.FEATURES, FFA.PARTITION_INFO_GET_REGS).error is FfaError.NOT_SUPPORTED


def test_claim_1_the_32_bit_function_id_does_not_exist(caller: Vm) -> None:
    number = FFA.PARTITION_INFO_GET_REGS & ~(1 << 30)
    assert caller.smc(number).error is FfaError.NOT_SUPPORTED


@SERVES_WITHOUT_VERSION.mark
def test_it_wants_a_version_first(xen: Machine) -> None:
    assert xen.create_vm().partition_info_get_regs().error is FfaError.NOT_SUPPORTED


# --- claim 2: arguments ------------------------------------------------------------------------


def test_claim_2_registers_that_should_be_zero_are_ignored(caller: Vm) -> None:
    # x3[63:32] and x4 to x17.
    ones = (1 << 64) - 1
    reply = caller.smc(FFA.PARTITION_INFO_GET_REGS, 0, 0, 0xFFFF_FFFF_0000_0000, *([ones] * 14))
    assert reply == caller.partition_info_get_regs()


@pytest.mark.parametrize("register", ["x1", "x2"])
@pytest.mark.parametrize("bit", [0, 31, 32, 63])
def test_claim_2_every_bit_of_the_uuid_counts(caller: Vm, register: str, bit: int) -> None:
    low, high = (int.from_bytes(MAILBOX.bytes[n : n + 8], "little") for n in (0, 8))
    registers = {"x1": low, "x2": high}
    assert caller.smc(FFA.PARTITION_INFO_GET_REGS, **registers).ok
    registers[register] ^= 1 << bit
    reply = caller.smc(FFA.PARTITION_INFO_GET_REGS, **registers)
    assert reply.error is FfaError.INVALID_PARAMETERS


# --- claims 3, 4 and 8: start and tag ------------------------------------------------------------


@pytest.mark.parametrize("start", [0xFFFC, 0xFFFD, 0xFFFE, 0xFFFF])
def test_claim_3_a_start_without_room_for_five_is_an_invalid_parameter(
    caller: Vm, start: int
) -> None:
    # Whatever the tag: 0xfffb is the last start with room for five indices.
    tag = window(caller).tag
    for each in (0, tag, tag + 1):
        reply = caller.partition_info_get_regs(start=start, tag=each)
        assert reply.error is FfaError.INVALID_PARAMETERS


def test_claim_3_the_last_start_with_room_for_five_is_looked_at(caller: Vm) -> None:
    tag = window(caller).tag
    assert caller.partition_info_get_regs(start=0xFFFB, tag=tag + 1).error is FfaError.RETRY
    reply = caller.partition_info_get_regs(start=0xFFFB, tag=tag)
    assert reply.error is FfaError.INVALID_PARAMETERS  # claim 8


def test_claim_4_start_0_wants_tag_0(caller: Vm) -> None:
    # R5. Xen: INVALID_PARAMETERS, as the tag must be zero there; Hafnium and TF-A: RETRY.
    tag = window(caller).tag
    for each in (tag, tag + 1, 0xFFFF):
        assert caller.partition_info_get_regs(tag=each).error is FfaError.INVALID_PARAMETERS


def test_claim_4_a_later_start_wants_the_current_tag(caller: Vm) -> None:
    # R6: Linux echoes it. FF-A ACS and Hafnium send 0, and must be told to try again.
    tag = window(caller).tag
    assert caller.partition_info_get_regs(start=1, tag=tag).ok
    one_bit_off = {tag ^ 1 << bit for bit in range(16)}
    for wrong in {0, tag - 1, tag + 1, 0xFFFF, *one_bit_off} - {tag}:
        assert caller.partition_info_get_regs(start=1, tag=wrong).error is FfaError.RETRY


def test_claim_8_a_start_at_or_past_the_count_is_an_invalid_parameter(caller: Vm) -> None:
    # R4.
    first = window(caller)
    for start in (first.last + 1, first.last + 2, 0x7FFF):
        reply = caller.partition_info_get_regs(start=start, tag=first.tag)
        assert reply.error is FfaError.INVALID_PARAMETERS


def test_claim_8_with_a_uuid_the_count_is_of_its_partitions(caller: Vm) -> None:
    tag = window(caller, uuid=MAILBOX).tag
    reply = caller.partition_info_get_regs(MAILBOX, start=1, tag=tag)
    assert reply.error is FfaError.INVALID_PARAMETERS


# --- claims 5, 6 and 7: the answer -----------------------------------------------------------


def test_claim_5_the_answer_tells_last_and_current_index_tag_and_size(caller: Vm) -> None:
    # R1. The default SPMC has 5 descriptors, so the caller is the sixth.
    reply = caller.partition_info_get_regs()
    count = len(visible_to(caller))
    assert reply.x0 == FFA.SUCCESS_64
    assert reply.x1 == 0
    assert reply.x2 & 0xFFFF == count - 1
    assert reply.x2 >> 16 & 0xFFFF == min(5, count) - 1
    assert reply.x2 >> 48 == 24
    assert reply.x2 >> 32 & 0xFFFF == window(caller).tag


@pytest.mark.parametrize("partitions", [0, 1, 3])
def test_claim_5_registers_that_hold_no_descriptor_are_zero(xen: Machine, partitions: int) -> None:
    vm = populate(xen, partitions, 1)
    reply = vm.partition_info_get_regs()
    used = 3 + 3 * (partitions + 1)
    assert any(reply[3:used])
    assert not any(reply[used:])


@pytest.mark.parametrize("partitions", SIZES)
def test_claim_6_five_descriptors_at_most_secure_partitions_first(
    xen: Machine, partitions: int
) -> None:
    vm = populate(xen, partitions, 1)
    assert list(window(vm).partitions) == visible_to(vm)[:5]


@VM_TO_VM
def test_claim_6_the_caller_comes_before_other_guests(xen: Machine) -> None:
    boot_with(xen, secure_partitions(1))
    first, vm, last = (xen.create_vm("1.2", vcpus=n) for n in (1, 2, 3))
    expected = [described(each) for each in (vm, first, last)]
    assert list(window(vm).partitions)[1:] == expected


@pytest.mark.parametrize("uuid", [MAILBOX, CRYPTO, UPDATE], ids=["first", "second", "another"])
def test_claim_7_a_uuid_lists_its_partitions_and_the_uuid_field_is_zero(
    xen: Machine, caller: Vm, uuid: UUID
) -> None:
    # R2.
    xen.create_vm("1.2")
    found = window(caller, uuid=uuid)
    (wanted,) = (
        PartitionInfo(each.id, each.exec_contexts, int(each.properties))
        for each in xen.spmc.state.partitions
        if uuid in each.descriptors
    )
    assert (found.last, found.current, found.partitions) == (0, 0, (wanted,))


def test_claim_7_a_uuid_that_nobody_has_is_an_invalid_parameter(xen: Machine, caller: Vm) -> None:
    # R3.
    xen.create_vm("1.2")
    assert caller.partition_info_get_regs(UNKNOWN).error is FfaError.INVALID_PARAMETERS


@pytest.mark.parametrize("shared", [1, 4, 5, 6, 11])
def test_claim_7_partitions_that_share_a_uuid_are_walked(xen: Machine, shared: int) -> None:
    others = secure_partitions(3)
    boot_with(xen, [*others, *(SecurePartition(0x8100 + n, [MAILBOX]) for n in range(shared))])
    vm = xen.create_vm("1.2")
    found = walked(vm, MAILBOX)
    assert [each.id for each in found] == [0x8100 + n for n in range(shared)]
    assert not any(each.uuid.int for each in found)


# --- claims 9 and 10: change -------------------------------------------------------------------


@VM_TO_VM
def test_claim_9_the_tag_moves_when_a_guest_enters_or_leaves(xen: Machine, caller: Vm) -> None:
    tags = [window(caller).tag]
    other = xen.create_vm("1.1")
    tags.append(window(caller).tag)
    other.destroy()
    tags.append(window(caller).tag)
    assert len(set(tags)) == 3


@VM_TO_VM
def test_claim_9_the_tag_stays_while_nobody_comes_or_goes(xen: Machine, caller: Vm) -> None:
    tag = window(caller).tag
    silent = xen.create_vm()  # Created, but it has not negotiated.
    silent.smc(FFA.VERSION, 0x1_0002)
    assert window(caller).tag == tag
    silent.destroy()
    caller.map_rxtx()
    caller.partition_info_get()
    assert window(caller).tag == tag


@VM_TO_VM
def test_claim_9_an_old_tag_is_told_to_retry(xen: Machine, caller: Vm) -> None:
    tag = window(caller).tag
    xen.create_vm("1.1")
    assert caller.partition_info_get_regs(start=1, tag=tag).error is FfaError.RETRY


def enters(vm: Vm) -> None:
    vm.smc(FFA.ID_GET)


def leaves(vm: Vm) -> None:
    vm.destroy()


def changing(xen: Machine, partitions: int, change: Callable[[Vm], None]) -> tuple[Vm, Vm]:
    """A caller, and a guest that is about to enter or leave the list."""
    caller = populate(xen, partitions, 2)
    other = xen.create_vm()
    other.smc(FFA.VERSION, 0x1_0001)
    if change is leaves:
        other.smc(FFA.ID_GET)
    return caller, other


def pictures(xen: Machine, caller: Vm, change: Callable[[], None]) -> set[tuple[int, ...]]:
    """The answers before and after a change."""
    before = caller.partition_info_get_regs()
    snapshot = xen.snapshot()
    change()
    after = caller.partition_info_get_regs()
    xen.restore(snapshot)
    return {tuple(before), tuple(after)}


CHANGES = pytest.mark.parametrize("change", [enters, leaves], ids=lambda change: change.__name__)


@SEES_HALF_A_CHANGE.mark
@VM_TO_VM
@CHANGES
def test_claim_9_count_list_and_tag_never_disagree(
    xen: Machine, change: Callable[[Vm], None]
) -> None:
    # Another guest calls at every point of the change: it sees the list as it was, or as it is.
    # A first window full of secure partitions is answered without ffa_ctx_list_rwlock.
    caller, other = changing(xen, 5, change)
    known = pictures(xen, caller, lambda: change(other))
    seen = [
        reply
        for _, reply in at_each_point(xen, lambda: change(other), caller.partition_info_get_regs)
    ]
    assert seen
    assert all(tuple(reply) in known or reply.error is FfaError.RETRY for reply in seen)


@VM_TO_VM
@CHANGES
@pytest.mark.parametrize("partitions", [0, 2, 4])
def test_claim_10_a_change_while_a_reply_is_built_gives_retry(
    xen: Machine, change: Callable[[Vm], None], partitions: int
) -> None:
    # The change happens at every point of the call: a whole list, before it or after it, or RETRY.
    # Windows that hold guests take ffa_ctx_list_rwlock, which is where a change can come between.
    caller, other = changing(xen, partitions, change)
    known = pictures(xen, caller, lambda: change(other))
    replies = [
        reply
        for reply, _ in at_each_point(xen, caller.partition_info_get_regs, lambda: change(other))
    ]
    assert all(tuple(reply) in known or reply.error is FfaError.RETRY for reply in replies)
    assert any(reply.error is FfaError.RETRY for reply in replies)


@VM_TO_VM
@PUBLISHES_THE_VERSION_FIRST.mark
def test_claim_9_a_guest_that_enters_sees_a_window_of_its_list(xen: Machine) -> None:
    # R7: Linux, since 2026, takes start <= current < count for granted.
    _, found = while_a_guest_enters(xen)
    replies = [reply for reply in found if reply.ok]
    assert replies
    assert all(reply.x2 >> 16 & 0xFFFF <= reply.x2 & 0xFFFF for reply in replies)


# --- claims 11 and 12: what comes from the SPMC --------------------------------------------------


@pytest.mark.parametrize("size", [24, 32, 40, 48, 64])
def test_claim_11_descriptors_of_the_spmc_may_be_larger(xen: Machine, size: int) -> None:
    boot_with(xen, secure_partitions(7), descriptor_size=size)
    vm = xen.create_vm("1.2")
    assert window(vm).size == 24
    assert Counter(walked(vm)) == Counter(visible_to(vm))


def test_claim_12_the_secure_partitions_are_read_once(xen: Machine, caller: Vm) -> None:
    before = len(xen.spmc.log)
    expected = visible_to(caller)
    xen.spmc.add(SecurePartition(0x8099))
    assert Counter(walked(caller)) == Counter(expected)
    assert len(xen.spmc.log) == before


@ALONE
def test_claim_12_without_vm_to_vm_the_caller_is_the_only_guest(xen: Machine, caller: Vm) -> None:
    xen.create_vm("1.2")
    assert [each.id for each in walked(caller) if each.id < 0x8000] == [caller.id]


@ALONE
def test_claim_12_without_vm_to_vm_the_tag_is_constant(xen: Machine, caller: Vm) -> None:
    tag = window(caller).tag
    other = xen.create_vm("1.2")
    assert window(caller).tag == window(other).tag == tag
    other.destroy()
    assert window(caller).tag == tag


# --- claim 13: the walk --------------------------------------------------------------------------


def sizes() -> Iterator[object]:
    for partitions in SIZES:
        for guests in (1, 2, 4, 5, 6, 7, 11, 30):
            # A window that is to hold guests, with one left over behind it.
            lost = guests > 5
            marks = [LOSES_GUESTS.mark] if lost else []
            yield pytest.param(partitions, guests, marks=marks, id=f"{partitions}+{guests}")


@pytest.mark.parametrize(("partitions", "guests"), list(sizes()))
def test_claim_13_the_walk_finds_every_partition_once_as_partition_info_get_does(
    xen: Machine, partitions: int, guests: int
) -> None:
    vm = populate(xen, partitions, guests)
    found = walked(vm)
    assert Counter(found) == Counter(visible_to(vm))
    assert len({(each.id, each.uuid) for each in found}) == len(found)
    vm.map_rxtx()
    assert Counter(found) == Counter(listed(vm))


def test_claim_13_any_number_of_partitions_is_walked(xen: Machine) -> None:
    for partitions in range(64):
        vm = populate(xen, partitions, 1)
        assert Counter(walked(vm)) == Counter(visible_to(vm)), f"{partitions} partitions"


@DROPS_64_PARTITIONS.mark
def test_claim_13_sixty_four_partitions_are_walked(xen: Machine) -> None:
    vm = populate(xen, 64, 1)
    found = walked(vm)
    assert len(found) == 65
    assert Counter(found) == Counter(visible_to(vm))


@LOSES_GUESTS.mark
@VM_TO_VM
@pytest.mark.parametrize("partitions", [0, 3])
def test_claim_13_any_number_of_guests_is_walked(xen: Machine, partitions: int) -> None:
    vm = populate(xen, partitions, 1)
    vm.map_rxtx()
    for guests in range(1, 201):
        found = walked(vm)
        assert Counter(found) == Counter(visible_to(vm)), f"{guests} guests"
        if len(found) <= PAGE // 24:
            assert Counter(found) == Counter(listed(vm)), f"{guests} guests"
        xen.create_vm("1.1", ram_pages=1)


@LOSES_GUESTS.mark
@VM_TO_VM
@pytest.mark.parametrize(("partitions", "guests"), [(0, 200), (63, 106), (63, 107), (63, 200)])
def test_claim_13_hundreds_of_guests_are_walked(xen: Machine, partitions: int, guests: int) -> None:
    vm = populate(xen, partitions, guests)
    found = walked(vm)
    assert len(found) == partitions + guests
    assert Counter(found) == Counter(visible_to(vm))
    # 170 descriptors fit into the one page of RX, and no part of a list may pass for all of it.
    vm.map_rxtx()
    reply = vm.partition_info_get()
    if len(found) > PAGE // 24:
        assert reply.error is FfaError.NO_MEMORY
    else:
        assert reply.w(2) == len(found)


@pytest.mark.parametrize("services", [2, 5, 6, 11])
def test_claim_13_each_service_of_a_partition_has_an_entry(xen: Machine, services: int) -> None:
    uuids = [UUID(int=n << 96 | n) for n in range(1, services + 1)]
    boot_with(xen, [*secure_partitions(1), SecurePartition(0x8100, uuids)])
    vm = xen.create_vm("1.2")
    assert [each.uuid for each in walked(vm) if each.id == 0x8100] == uuids
    assert [each.id for uuid in uuids for each in walked(vm, uuid)] == [0x8100] * services


@VM_TO_VM
@pytest.mark.slow
def test_claim_9_the_tag_wraps_without_touching_its_neighbours(xen: Machine, caller: Vm) -> None:
    seen = set()
    for _ in range((1 << 16) // 2 + 1):
        xen.create_vm("1.1", domid=7, ram_pages=0).destroy()
        reply = caller.partition_info_get_regs()
        assert reply.x2 >> 48 == 24
        seen.add(reply.x2 >> 32 & 0xFFFF)
    # It moves by as much each time, so it has been everywhere that it goes.
    assert len(seen) > 1 << 14
    assert walked(caller) == visible_to(caller)


@VM_TO_VM
@pytest.mark.parametrize(
    ("partitions", "guests"),
    # With more than five, a window ends with a guest left over behind it.
    [
        pytest.param(
            partitions, guests, marks=[LOSES_GUESTS.mark] if partitions + guests > 5 else []
        )
        for partitions in (0, 3, 4, 5, 8)
        for guests in (2, 3, 5)
    ],
)
def test_claim_13_every_window_is_of_five_and_zero_behind_its_end(
    xen: Machine, partitions: int, guests: int
) -> None:
    vm = populate(xen, partitions, guests)
    count = partitions + guests
    tag = window(vm).tag
    for start in range(count):
        held = min(5, count - start)
        reply = vm.partition_info_get_regs(start=start, tag=tag if start else 0)
        assert reply.x2 & 0xFFFF == count - 1
        assert reply.x2 >> 16 & 0xFFFF == start + held - 1
        assert all(reply[3 + 3 * n] for n in range(held))
        assert not any(reply[3 + 3 * held :])


@pytest.mark.parametrize("partitions", [4, 6, 11])
def test_claim_13_a_window_can_start_anywhere(xen: Machine, partitions: int) -> None:
    vm = populate(xen, partitions, 4)
    everybody = walked(vm)
    assert Counter(everybody) == Counter(visible_to(vm))
    tag = window(vm).tag
    for start in range(1, len(everybody)):
        part = window(vm, start, tag)
        assert part.last == len(everybody) - 1
        assert list(part.partitions) == everybody[start : part.current + 1]


@VM_TO_VM
@pytest.mark.spmc(version=None, partitions=[])
def test_without_an_spmc_the_walk_finds_the_guests(xen: Machine) -> None:
    others = [xen.create_vm("1.1") for _ in range(3)]
    vm = xen.create_vm("1.2")
    assert Counter(walked(vm)) == Counter(described(each) for each in (vm, *others))
    assert vm.partition_info_get_regs(UNKNOWN).error is FfaError.INVALID_PARAMETERS
