# SPDX-License-Identifier: GPL-2.0-only
"""Linux: what its driver arm_ffa finds out and can do, as it was in 2023, 2025 and 2026."""

import errno
from collections import Counter
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from ffashim import FFA, FfaError, Machine, SecurePartition, Spmc
from ffashim.capabilities import highest_version
from ffashim.clients import ClientError
from ffashim.clients.linux import LINUX_2023, LINUX_2025, LINUX_2026, STATES, ArmFfa, State
from ffashim.defaults import CRYPTO, MAILBOX, STORAGE, UPDATE
from ffashim.defects.buffers import HIDES_BUFFERS, KEEPS_FILLED_RX
from ffashim.defects.discovery import LOSES_GUESTS, TELLS_NO_64_BIT_STATE, TELLS_NO_SIZE
from ffashim.defects.memory import DROPS_TAG
from ffashim.defects.messages import ABORTS_INTERRUPTED
from ffashim.defects.notifications import ANSWERS_IN_64_BITS
from ffashim.descriptors import PartitionInfo
from ffashim.ffa import V1_0, V1_2, PartitionProperty
from ffashim.memory import PAGE
from ffashim.spmc.replies import interrupt, yielded
from ffashim.testing import at_each_point, boot_with, described, secure_partitions, visible_to
from ffashim.traffic import SP, footprint, references

# Linux takes whatever is no FFA_ERROR for a yes: where FFA_FEATURES is unknown, all is there.
pytestmark = pytest.mark.needs(abi=FFA.FEATURES)

NPI = 8
"""GUEST_FFA_NOTIF_PEND_INTR_ID of Xen's public headers."""
states = pytest.mark.parametrize("state", STATES, ids=str)
later = pytest.mark.parametrize("state", [LINUX_2025, LINUX_2026], ids=str)
widths = pytest.mark.parametrize("bits", [64, 32])
reading = pytest.mark.parametrize(
    # A list in RX without a size is one that only a driver of 1.0 can read.
    "state",
    [
        LINUX_2023,
        *(pytest.param(each, marks=TELLS_NO_SIZE.mark) for each in (LINUX_2025, LINUX_2026)),
    ],
    ids=str,
)


def linux(machine: Machine, state: State = LINUX_2026, bits: int = 64, **options: Any) -> ArmFfa:
    """Linux in a guest of its own, its driver loaded."""
    return ArmFfa(machine.create_vm(bits=bits, **options), state).probe()


def known(driver: ArmFfa) -> list[PartitionInfo]:
    """What there is for this driver to find, as far as its version tells."""
    found = visible_to(driver.vm)
    if driver.version == V1_0:
        return [PartitionInfo(each.id, each.exec_contexts, each.properties) for each in found]
    return found


# --- loading -----------------------------------------------------------------------------------


@states
@widths
def test_the_driver_loads(xen: Machine, state: State, bits: int) -> None:
    driver = linux(xen, state, bits)
    assert driver.version == min(state.asks, highest_version(xen))
    assert (driver.id, driver.buffer_size) == (driver.vm.id, PAGE)
    assert driver.wide_memory


@pytest.mark.parametrize("page", [16 * 1024, 64 * 1024])
def test_linux_of_larger_pages_gets_its_buffers(xen: Machine, page: int) -> None:
    # Xen's limit is one page of 4 KiB. Since 2026 the driver asks for less where it must.
    vm = xen.create_vm()
    assert ArmFfa(vm, LINUX_2026, page).probe().buffer_size == PAGE


@later
@pytest.mark.needs(version="1.2", abi=FFA.MSG_SEND_DIRECT_REQ2)
def test_the_driver_learns_of_direct_req2(xen: Machine, state: State) -> None:
    assert linux(xen, state).direct_req2


@states
def test_the_driver_can_be_loaded_again(xen: Machine, state: State) -> None:
    driver = linux(xen, state)
    before = len(xen.mappings)
    driver.remove()
    again = ArmFfa(driver.vm, state).probe()
    assert again.partitions == driver.partitions
    assert len(xen.mappings) == before


@states
def test_a_guest_that_was_not_given_ff_a_has_none(xen: Machine, state: State) -> None:
    with pytest.raises(ClientError) as caught:
        linux(xen, state, tee=False)
    assert caught.value.errno == errno.EOPNOTSUPP


# --- who is there ------------------------------------------------------------------------------


@reading
@widths
@pytest.mark.parametrize("partitions", [1, 2, 4, 5, 6, 10, 11, 62, 63])
def test_every_partition_is_found(xen: Machine, state: State, bits: int, partitions: int) -> None:
    boot_with(xen, secure_partitions(partitions))
    driver = linux(xen, state, bits)
    assert Counter(driver.partitions) == Counter(known(driver))


@reading
def test_each_service_of_a_partition_is_a_device(xen: Machine, state: State) -> None:
    driver = linux(xen, state)
    assert Counter(driver.partitions) == Counter(known(driver))
    assert [each.id for each in driver.partitions].count(0x8003) == 2


@reading
@pytest.mark.parametrize(
    ("uuid", "ids"), [(MAILBOX, [0x8001]), (CRYPTO, [0x8002]), (STORAGE, [0x8003])]
)
def test_a_service_is_found_by_its_uuid(
    xen: Machine, state: State, uuid: UUID, ids: list[int]
) -> None:
    driver = linux(xen, state)
    assert driver.matching(uuid) == ids


@states
def test_a_service_that_nobody_has_is_an_invalid_argument(xen: Machine, state: State) -> None:
    driver = linux(xen, state)
    with pytest.raises(ClientError) as caught:
        driver.discover(UUID(int=0xDEAD << 64 | 0xBEEF))
    assert caught.value.errno == errno.EINVAL


def test_without_partitions_linux_of_2023_has_no_devices(xen: Machine) -> None:
    boot_with(xen, [])
    assert linux(xen, LINUX_2023).partitions == []


@later
def test_without_partitions_the_guest_is_alone_or_the_driver_unloads(
    xen: Machine, state: State
) -> None:
    # Linux takes an empty list for a failure; a guest of 1.2 is in the list itself.
    boot_with(xen, [])
    vm = xen.create_vm()
    driver = ArmFfa(vm, state)
    if highest_version(xen) >= V1_2:
        assert driver.probe().partitions == [described(vm)]
        return
    with pytest.raises(ClientError, match="no partitions found"):
        driver.probe()
    assert not xen.spmc.state.buffers
    vm.map_rxtx()


@later
@pytest.mark.needs(version="1.2", abi=FFA.PARTITION_INFO_GET_REGS)
def test_the_guest_finds_itself_since_1_2(xen: Machine, state: State) -> None:
    vm = xen.create_vm(vcpus=3)
    found = [each for each in ArmFfa(vm, state).probe().partitions if each.id == vm.id]
    assert found == [described(vm)]


@later
@pytest.mark.needs(abi=FFA.PARTITION_INFO_GET_REGS)
def test_64_bit_linux_walks_by_registers_and_32_bit_linux_by_rx(xen: Machine, state: State) -> None:
    for bits in (64, 32):
        driver = linux(xen, state, bits)
        assert driver.partitions
        asked = [line for line in xen.history if f"d{driver.vm.domid}v0 FFA_PARTITION_INFO" in line]
        assert asked
        assert all(("GET_REGS" in line) is (bits == 64) for line in asked)


def crowds() -> Iterator[object]:
    """States of Linux, and how many other guests there are."""
    for state in STATES:
        for others in (1, 4, 5, 9):
            marks = [TELLS_NO_64_BIT_STATE.mark]
            if state.asks > V1_0:
                marks.append(TELLS_NO_SIZE.mark)
                # A window that is to hold guests, with one left over behind it.
                if others > 4:
                    marks.append(LOSES_GUESTS.mark)
            yield pytest.param(state, others, marks=marks, id=f"{state}-{others}")


@pytest.mark.needs(vm_to_vm=True)
@pytest.mark.parametrize("partitions", [0, 3])
@pytest.mark.parametrize(("state", "others"), list(crowds()))
def test_every_other_guest_is_found(
    xen: Machine, state: State, others: int, partitions: int
) -> None:
    boot_with(xen, secure_partitions(partitions))
    for n in range(others):
        xen.create_vm("1.1", bits=32 if n % 3 else 64, ram_pages=1)
    xen.create_vm(ram_pages=1)  # it speaks no FF-A
    driver = linux(xen, state)
    assert Counter(driver.partitions) == Counter(known(driver))


@pytest.mark.needs(vm_to_vm=True, abi=FFA.PARTITION_INFO_GET_REGS)
@pytest.mark.parametrize("partitions", [0, 4, 7])
def test_a_guest_that_comes_meanwhile_never_makes_linux_run_beyond_its_array(
    xen: Machine, partitions: int
) -> None:
    # Another try (EAGAIN, EINVAL), or a whole list: that of before or that of after.
    boot_with(xen, secure_partitions(partitions))
    other = xen.create_vm(ram_pages=1)
    driver = linux(xen)
    before = driver.discover()

    def walk() -> list[PartitionInfo] | int:
        try:
            return driver.discover()
        except ClientError as error:
            return error.errno or 0

    after = [*before, described(other)]
    results = [found for found, _ in at_each_point(xen, walk, lambda: other.negotiate("1.1"))]
    assert results
    for found in results:
        if isinstance(found, int):
            assert found in (errno.EAGAIN, errno.EINVAL)
        else:
            assert Counter(found) in (Counter(before), Counter(after))


# --- direct messages ---------------------------------------------------------------------------


@states
@widths
def test_a_partition_answers(xen: Machine, state: State, bits: int) -> None:
    driver = linux(xen, state, bits)
    top = 1 << bits - 4
    values = tuple(top | n for n in range(1, 6))
    assert driver.sync_send_receive(SP, values) == values
    assert driver.sync_send_receive(SP, (1, 2), narrow=True) == (1, 2, 0, 0, 0)


@states
def test_every_vcpu_asks(xen: Machine, state: State) -> None:
    driver = linux(xen, state, vcpus=3)
    for n, vcpu in enumerate(driver.vm.vcpus):
        assert driver.sync_send_receive(SP, (n,), vcpu=vcpu)[0] == n


@reading
def test_a_partition_in_aarch32_state_is_asked_in_32_bits(xen: Machine, state: State) -> None:
    properties = PartitionProperty.DIRECT_REQ_RECV
    boot_with(xen, [SecurePartition(0x8007, properties=properties)])
    driver = linux(xen, state)
    assert driver.narrow(driver.partitions[0]) is (state.asks > V1_0)
    assert driver.sync_send_receive(0x8007, (5,), narrow=True)[0] == 5


@states
@widths
@ABORTS_INTERRUPTED.mark
def test_a_preempted_partition_is_run_until_it_has_answered(
    xen: Machine, spmc: Spmc, state: State, bits: int
) -> None:
    driver = linux(xen, state, bits)
    answers = iter([interrupt(SP), interrupt(SP), (7,)])
    spmc.messages.handle(SP, lambda _request: next(answers))
    assert driver.sync_send_receive(SP, ())[0] == 7


@later
@ABORTS_INTERRUPTED.mark
def test_a_partition_that_yields_is_run_until_it_has_answered(
    xen: Machine, spmc: Spmc, state: State
) -> None:
    driver = linux(xen, state)
    answers = iter([yielded(SP), interrupt(SP), yielded(SP), (7,)])
    spmc.messages.handle(SP, lambda _request: next(answers))
    assert driver.sync_send_receive(SP, ())[0] == 7


@states
@pytest.mark.parametrize(
    ("status", "wanted"),
    [
        (FfaError.BUSY, errno.EBUSY),
        (FfaError.RETRY, errno.EAGAIN),
        (FfaError.DENIED, errno.EACCES),
        (FfaError.ABORTED, errno.ECANCELED),
        (FfaError.NO_MEMORY, errno.ENOMEM),
    ],
)
def test_a_drivers_caller_learns_why_a_partition_refuses(
    xen: Machine, spmc: Spmc, state: State, status: FfaError, wanted: int
) -> None:
    driver = linux(xen, state)
    spmc.on(FFA.MSG_SEND_DIRECT_REQ_64).error(status)
    with pytest.raises(ClientError) as caught:
        driver.sync_send_receive(SP, ())
    assert caught.value.errno == wanted


@later
@pytest.mark.needs(version="1.2", abi=FFA.MSG_SEND_DIRECT_REQ2)
def test_a_service_is_asked_with_fourteen_values(xen: Machine, state: State) -> None:
    driver = linux(xen, state)
    values = tuple(n << 60 | n for n in range(14))
    assert driver.sync_send_receive2(0x8003, UPDATE, values) == values


@pytest.mark.needs(version="1.2", abi=FFA.MSG_SEND_DIRECT_REQ2)
@ABORTS_INTERRUPTED.mark
def test_a_service_that_was_preempted_is_run(xen: Machine, spmc: Spmc) -> None:
    driver = linux(xen)
    answers = iter([interrupt(0x8003), (1, 2, 3)])
    spmc.messages.handle(0x8003, lambda _request: next(answers))
    assert driver.sync_send_receive2(0x8003, UPDATE, ())[:4] == (1, 2, 3, 0)


@pytest.mark.needs(abi=FFA.RUN)
def test_a_partition_is_given_cycles(xen: Machine, spmc: Spmc) -> None:
    driver = linux(xen)
    driver.vm.smc(FFA.MSG_SEND_DIRECT_REQ_64, driver.id << 16 | SP)
    answers = iter([interrupt(SP), interrupt(SP), (7,)])
    spmc.messages.handle(SP, lambda _request: next(answers))
    assert driver.vm.smc(FFA.MSG_SEND_DIRECT_REQ_64, driver.id << 16 | SP).fid == FFA.INTERRUPT
    driver.run(SP)
    assert (SP, 0) not in spmc.state.running


# --- memory ------------------------------------------------------------------------------------


@states
@widths
def test_memory_is_shared_and_reclaimed(xen: Machine, spmc: Spmc, state: State, bits: int) -> None:
    driver = linux(xen, state, bits)
    memory = driver.vm.memory
    one, two = memory.allocate(), memory.allocate(3)
    before = footprint(xen)
    handle = driver.memory_share(SP, [(two, 3), (one, 1)])
    assert [(each.base, each.pages) for each in spmc.memory.shares[handle].ranges] == [
        (memory.machine_address(two), 3),
        (memory.machine_address(one), 1),
    ]
    driver.memory_reclaim(handle)
    assert not spmc.memory.shares
    assert references(driver.vm, one) == [0]
    assert footprint(xen) == before


@states
@DROPS_TAG.mark
def test_the_tag_of_a_share_reaches_the_partition(xen: Machine, spmc: Spmc, state: State) -> None:
    driver = linux(xen, state)
    handle = driver.memory_share(SP, [(driver.vm.memory.allocate(), 1)], tag=0xC0FFEE << 32)
    assert spmc.memory.shares[handle].tag == 0xC0FFEE << 32


@states
def test_memory_that_is_in_use_is_not_reclaimed(xen: Machine, spmc: Spmc, state: State) -> None:
    driver = linux(xen, state)
    handle = driver.memory_share(SP, [(driver.vm.memory.allocate(), 1)])
    spmc.memory.retrieve(SP, handle)
    with pytest.raises(ClientError) as caught:
        driver.memory_reclaim(handle)
    assert caught.value.errno == errno.EACCES
    spmc.memory.relinquish(SP, handle)
    driver.memory_reclaim(handle)


@states
def test_a_share_in_fragments_fails_and_leaves_nothing(
    xen: Machine, spmc: Spmc, state: State
) -> None:
    # Xen takes descriptors that fit into TX only, and says so.
    driver = linux(xen, state, ram_pages=600)
    memory = driver.vm.memory
    ranges = [(memory.allocate(2), 1) for _ in range(260)]
    before = footprint(xen)
    with pytest.raises(ClientError) as caught:
        driver.memory_share(SP, ranges)
    assert caught.value.errno == errno.ENXIO
    assert footprint(xen) == before
    assert not spmc.memory.shares
    assert not any(count for page, _ in ranges for count in references(driver.vm, page))


# --- indirect messages -------------------------------------------------------------------------

MESSAGES = pytest.mark.needs(abi=FFA.MSG_SEND2)
BETWEEN = pytest.mark.needs(vm_to_vm=True, abi=FFA.MSG_SEND2, messages=True)
reads_messages = pytest.mark.parametrize(
    # Linux of 2026 refuses what lies right behind the 20 bytes of the header of 1.1.
    "state",
    [LINUX_2025, pytest.param(LINUX_2026, marks=pytest.mark.needs(version="1.2"))],
    ids=str,
)


@later
@MESSAGES
@HIDES_BUFFERS.mark
def test_a_message_reaches_a_partition(xen: Machine, spmc: Spmc, state: State) -> None:
    driver = linux(xen, state)
    driver.indirect_send(SP, b"to the mailbox", MAILBOX)
    (arrived,) = spmc.messages.delivered
    assert (arrived.sender, arrived.payload) == (driver.id, b"to the mailbox")


@later
@MESSAGES
@HIDES_BUFFERS.mark
def test_what_fills_tx_is_sent_and_more_is_out_of_range(
    xen: Machine, spmc: Spmc, state: State
) -> None:
    driver = linux(xen, state)
    driver.indirect_send(SP, bytes(PAGE - 40))
    with pytest.raises(ClientError) as caught:
        driver.indirect_send(SP, bytes(PAGE - 39))
    assert caught.value.errno == errno.ERANGE
    assert len(spmc.messages.delivered) == 1


@reads_messages
@BETWEEN
def test_two_guests_exchange_messages(xen: Machine, state: State) -> None:
    one, other = linux(xen, state), linux(xen, state)
    for n in range(3):
        one.indirect_send(other.id, b"ping %d" % n)
        (asked,) = other.receive(other.notification_get())
        assert (asked.sender, asked.payload) == (one.id, b"ping %d" % n)
        other.indirect_send(one.id, b"pong %d" % n)
        (answered,) = one.receive(one.notification_get())
        assert (answered.sender, answered.payload) == (other.id, b"pong %d" % n)


@BETWEEN
def test_the_receivers_driver_is_interrupted(xen: Machine) -> None:
    one, other = linux(xen), linux(xen)
    one.indirect_send(other.id, b"hello")
    raised = [(each.domain, each.intid) for each in xen.virqs]
    assert raised == [(other.vm.domid, other.npi)]


@reads_messages
@BETWEEN
def test_a_full_rx_is_busy_until_linux_has_read_it(xen: Machine, state: State) -> None:
    one, other = linux(xen, state), linux(xen, state)
    one.indirect_send(other.id, b"first")
    with pytest.raises(ClientError) as caught:
        one.indirect_send(other.id, b"second")
    assert caught.value.errno == errno.EBUSY
    other.receive(other.notification_get())
    one.indirect_send(other.id, b"second")


@later
@pytest.mark.needs(version="1.2", abi=FFA.MSG_SEND2)
@HIDES_BUFFERS.mark
@KEEPS_FILLED_RX.mark
def test_a_message_of_a_partition_is_read_more_than_once(
    xen: Machine, spmc: Spmc, state: State
) -> None:
    driver = linux(xen, state)
    for n in range(2):
        assert spmc.messages.send(SP, driver.id, b"%d" % n, MAILBOX) is None
        (message,) = driver.receive(driver.notification_get())
        assert (message.sender, message.uuid, message.payload) == (SP, MAILBOX, b"%d" % n)


# --- notifications -----------------------------------------------------------------------------

NOTIFICATIONS = pytest.mark.needs(abi=FFA.NOTIFICATION_INFO_GET_64)


@later
@widths
@NOTIFICATIONS
def test_a_guest_has_an_interrupt_for_notifications(xen: Machine, state: State, bits: int) -> None:
    driver = linux(xen, state, bits)
    assert driver.npi == NPI
    assert driver.notifications
    # Its bitmap is the hypervisor's to make, once.
    made = [smc.x1 for smc in xen.spmc.calls(FFA.NOTIFICATION_BITMAP_CREATE)]
    assert made.count(driver.id) == 1


def told(xen: Machine, spmc: Spmc, driver: ArmFfa) -> list[tuple[int, int | None]]:
    """Let an SP notify, and ask who is to be scheduled."""
    driver.notify_request(SP, 0)
    driver.notify_request(SP, 32)
    spmc.notifications.notify(SP, driver.id, 1 << 32 | 1)
    assert (driver.vm.domid, driver.npi) in {(each.domain, each.intid) for each in xen.virqs}
    return driver.notification_info()


@later
@NOTIFICATIONS
def test_a_notification_of_a_partition_arrives(xen: Machine, spmc: Spmc, state: State) -> None:
    driver = linux(xen, state)
    assert told(xen, spmc, driver) == [(driver.id, None)]
    assert driver.notification_get().from_sps == 1 << 32 | 1
    assert driver.notification_info() == []


@later
@NOTIFICATIONS
@ANSWERS_IN_64_BITS.mark
def test_a_notification_of_a_partition_arrives_in_32_bit_linux(
    xen: Machine, spmc: Spmc, state: State
) -> None:
    driver = linux(xen, state, 32)
    assert told(xen, spmc, driver) == [(driver.id, None)]
    assert driver.notification_get().from_sps == 1 << 32 | 1


@later
@NOTIFICATIONS
def test_a_notification_is_taken_once_and_given_back(xen: Machine, state: State) -> None:
    driver = linux(xen, state)
    driver.notify_request(SP, 5)
    with pytest.raises(ClientError) as caught:
        driver.notify_request(SP, 5)
    assert caught.value.errno == errno.EACCES
    driver.notify_relinquish(SP, 5)
    driver.notify_request(0x8002, 5)


@later
@NOTIFICATIONS
def test_notifications_per_vcpu_are_refused(xen: Machine, state: State) -> None:
    # A limit that ffa.c documents.
    driver = linux(xen, state, vcpus=2)
    with pytest.raises(ClientError, match="FFA_NOTIFICATION_BIND"):
        driver.notify_request(SP, 5, per_vcpu=True)


@later
@pytest.mark.needs(abi=FFA.NOTIFICATION_SET)
def test_a_partition_is_notified(xen: Machine, spmc: Spmc, state: State) -> None:
    driver = linux(xen, state)
    spmc.notifications.listen(SP, driver.id, 1 << 40)
    driver.notify_send(SP, 40)
    assert spmc.notifications.collect(SP) == 1 << 40
