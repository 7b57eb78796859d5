# SPDX-License-Identifier: GPL-2.0-only
"""OP-TEE: its driver in Linux, and OP-TEE as the secure partition that it talks to."""

import errno
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from ffashim import FFA, FfaError, Machine
from ffashim.clients import ClientError
from ffashim.clients.linux import LINUX_2023, LINUX_2025, LINUX_2026, ArmFfa, State
from ffashim.clients.optee import Optee, Rpc, Shm, ShmType
from ffashim.clients.optee_os import Ask, OpteeOs, Work, echo
from ffashim.defects.discovery import TELLS_NO_SIZE
from ffashim.defects.messages import ABORTS_INTERRUPTED
from ffashim.defects.notifications import SWAPS_HALVES
from ffashim.ffa import MEM_ATTR_NORMAL_WB_ISH, MEM_PERM_RW
from ffashim.memory import PAGE
from ffashim.spmc.replies import interrupt
from ffashim.testing import boot_with, secure_partitions
from ffashim.traffic import footprint, references

# Linux takes whatever is no FFA_ERROR for a yes: where FFA_FEATURES is unknown, all is there.
pytestmark = pytest.mark.needs(abi=FFA.FEATURES)

# A list in RX without a size is one that only a driver of 1.0 can read.
LATER = [pytest.param(each, marks=TELLS_NO_SIZE.mark) for each in (LINUX_2025, LINUX_2026)]
states = pytest.mark.parametrize("state", [LINUX_2023, *LATER], ids=str)
later = pytest.mark.parametrize("state", LATER, ids=str)
widths = pytest.mark.parametrize("bits", [64, 32])
App = Callable[[OpteeOs, Sequence[int]], Work]


def secure_os(machine: Machine, app: App = echo, **options: Any) -> OpteeOs:
    """Boot with OP-TEE among other secure partitions."""
    system = OpteeOs(app, partition=0x8010, **options)
    system.attach(boot_with(machine, [*secure_partitions(2), system.partition]))
    return system


def driver(machine: Machine, state: State = LINUX_2023, bits: int = 64, **options: Any) -> Optee:
    """Its driver, in a guest of its own.

    Unless a test is about versions Linux is of 1.0: that one gets along with every tree.
    """
    vm = machine.create_vm(bits=bits, ram_pages=options.pop("ram_pages", 256))
    return Optee(ArmFfa(vm, state).probe(), **options).probe()


# --- probing -----------------------------------------------------------------------------------


@states
@widths
def test_the_driver_finds_op_tee(xen: Machine, state: State, bits: int) -> None:
    secure_os(xen)
    optee = driver(xen, state, bits)
    assert (optee.partition, optee.os_version, optee.rpc_params) == (0x8010, (4, 8), 4)


@states
def test_without_op_tee_there_is_no_device(xen: Machine, state: State) -> None:
    boot_with(xen, secure_partitions(2))
    with pytest.raises(ClientError) as caught:
        driver(xen, state)
    assert caught.value.errno in (errno.ENODEV, errno.EINVAL)


# --- shared memory -----------------------------------------------------------------------------


@states
@widths
def test_registered_memory_is_shared_as_op_tee_wants_it(
    xen: Machine, state: State, bits: int
) -> None:
    secure_os(xen)
    optee = driver(xen, state, bits)
    memory = optee.vm.memory
    pages = [memory.allocate(2) for _ in range(3)]
    shm = optee.register(*((page, 1) for page in pages))
    share = xen.spmc.memory.shares[shm.handle]
    assert share.sender == optee.vm.id
    assert share.borrowers == ((0x8010, MEM_PERM_RW),)
    assert [each.base for each in share.ranges] == [memory.machine_address(p) for p in pages]
    sent = share.descriptor
    assert int.from_bytes(sent[2:4], "little") == MEM_ATTR_NORMAL_WB_ISH
    assert not any(sent[4:24])  # flags, handle, tag


@states
@widths
def test_unregistered_memory_is_the_guests_again(xen: Machine, state: State, bits: int) -> None:
    secure_os(xen)
    optee = driver(xen, state, bits)
    page = optee.vm.memory.allocate()
    before = footprint(xen)
    shm = optee.register((page, 1))
    assert references(optee.vm, page) != [0]
    optee.unregister(shm)
    assert not xen.spmc.memory.shares
    assert references(optee.vm, page) == [0]
    assert footprint(xen) == before


def test_memory_that_op_tee_still_maps_is_not_reclaimed(xen: Machine) -> None:
    system = secure_os(xen)
    optee = driver(xen)
    shm = optee.allocate(PAGE)
    system.read(shm.handle, 0, 4)
    with pytest.raises(ClientError) as caught:
        optee.ffa.memory_reclaim(shm.handle)
    assert caught.value.errno == errno.EACCES
    optee.unregister(shm)


def test_half_a_megabyte_of_scattered_pages_is_registered(xen: Machine) -> None:
    system = secure_os(xen)
    optee = driver(xen, ram_pages=300)
    pages = [optee.vm.memory.allocate(2) for _ in range(128)]
    shm = optee.register(*((page, 1) for page in pages))
    for n, page in enumerate(pages):
        optee.vm.memory.write(page, bytes([n]))
    assert [system.read(shm.handle, n * PAGE, 1)[0] for n in range(128)] == list(range(128))
    optee.unregister(shm)
    assert not xen.spmc.memory.shares


def test_a_region_beyond_the_limit_is_refused_and_leaves_nothing(xen: Machine) -> None:
    most = int(xen.extension.record["constants"]["FFA_MAX_SHM_PAGE_COUNT"])
    secure_os(xen)
    optee = driver(xen, ram_pages=most + 10)
    start = optee.vm.memory.allocate(most + 1)
    before = footprint(xen)
    with pytest.raises(ClientError):
        optee.register((start, most + 1))
    assert footprint(xen) == before
    optee.unregister(optee.register((start, 1)))


def test_registrations_beyond_the_limit_fail_until_one_is_given_up(xen: Machine) -> None:
    secure_os(xen)
    optee = driver(xen)
    most = int(xen.extension.record["constants"]["FFA_MAX_SHM_COUNT"])
    regions = [optee.allocate(PAGE) for _ in range(most)]
    with pytest.raises(ClientError):
        optee.allocate(PAGE)
    optee.unregister(regions.pop())
    optee.allocate(PAGE)


def test_the_handles_of_regions_differ(xen: Machine) -> None:
    secure_os(xen)
    one, other = driver(xen), driver(xen)
    regions = [optee.allocate(PAGE) for optee in (one, other, one, other)]
    assert len({each.handle for each in regions}) == 4


def test_a_guest_cannot_take_back_what_another_one_shared(xen: Machine) -> None:
    secure_os(xen)
    one, other = driver(xen), driver(xen)
    shm = one.allocate(PAGE)
    with pytest.raises(ClientError) as caught:
        other.ffa.memory_reclaim(shm.handle)
    assert caught.value.errno == errno.EINVAL
    one.unregister(shm)


# --- calls -------------------------------------------------------------------------------------


@states
@widths
def test_a_call_reaches_op_tee_and_its_result_the_guest(
    xen: Machine, state: State, bits: int
) -> None:
    secure_os(xen)
    optee = driver(xen, state, bits)
    for value in (1, 0xFFFF_FFFF):
        assert optee.call(7, value, 2) == value
    assert not xen.spmc.memory.shares


def test_op_tee_knows_whose_memory_it_is(xen: Machine) -> None:
    secure_os(xen)
    one, other = driver(xen), driver(xen)
    shm = one.allocate(PAGE)
    stolen = Shm(shm.handle, ((other.vm.memory.allocate(), 1),))
    with pytest.raises(ClientError, match="OP-TEE answers"):
        other.call(7, 1, shm=stolen)
    assert one.call(7, 1, shm=shm) == 1


def borrows(system: OpteeOs, values: Sequence[int]) -> Work:
    """Ask for memory, use it, give it back. Returns what it read there."""
    handle = yield Ask(Rpc.SHM_ALLOC, values[0])
    system.write(handle, 0, b"from OP-TEE")
    found = system.read(handle, 0, 4)
    yield None
    status = yield Ask(Rpc.SHM_FREE, handle, ShmType(values[1]))
    return status or int.from_bytes(found, "little")


@states
@widths
@pytest.mark.parametrize("kind", list(ShmType))
def test_op_tee_borrows_memory_in_the_middle_of_a_call(
    xen: Machine, state: State, bits: int, kind: ShmType
) -> None:
    secure_os(xen, borrows)
    optee = driver(xen, state, bits)
    assert optee.call(1, 3 * PAGE, kind) == int.from_bytes(b"from", "little")
    assert not xen.spmc.memory.shares
    assert not optee.shared


def test_memory_of_an_application_is_reclaimed_without_a_word_to_op_tee(xen: Machine) -> None:
    # The driver believes that OP-TEE has retired it: only FFA_MEM_RECLAIM is left to do.
    system = secure_os(xen, borrows)
    optee = driver(xen)
    optee.call(1, PAGE, ShmType.APPL)
    assert not system.mapped


def test_op_tee_lets_the_guest_have_its_cpu(xen: Machine) -> None:
    def patient(_system: OpteeOs, _values: Sequence[int]) -> Work:
        for _ in range(5):
            yield None
        return 5

    secure_os(xen, patient)
    assert driver(xen).call(1) == 5


@ABORTS_INTERRUPTED.mark
def test_an_interrupt_of_the_guest_preempts_op_tee(xen: Machine) -> None:
    system = secure_os(xen)
    optee = driver(xen)
    shm = optee.allocate(PAGE)
    preempted = iter([True, True, False])

    def answer(request: Any) -> Sequence[int]:
        if next(preempted, False):
            return interrupt(system.partition.id)
        return system.partition.on_direct(request)

    xen.spmc.messages.handle(system.partition.id, answer)
    assert optee.call(1, 9, shm=shm) == 9


def test_the_driver_waits_for_a_thread_of_op_tee(xen: Machine) -> None:
    # Two calls are under way, each within the other's remote procedure call.
    def holds(system: OpteeOs, values: Sequence[int]) -> Work:
        yield Ask(Rpc.SHM_ALLOC, PAGE)
        return values[0]

    secure_os(xen, holds, threads=1)
    waited: list[int] = []
    optee = driver(xen)
    other = driver(xen, wait=lambda: waited.append(optee.call(2, 22)))
    inner: list[int] = []
    serve = optee._serve

    def meanwhile(address: int) -> None:
        serve(address)
        if not inner:
            inner.append(0)
            with pytest.raises(ClientError, match="too long"):
                other.call(3, 33)

    def give_up() -> None:
        waited.append(1)
        if len(waited) == 3:
            raise ClientError("waited too long", errno.ETIMEDOUT)

    other._wait = give_up
    optee._serve = meanwhile  # type: ignore[method-assign]
    assert optee.call(1, 11) == 11
    assert len(waited) == 3
    other._wait = lambda: None
    assert other.call(3, 33) == 33


def test_two_guests_have_calls_under_way_at_once(xen: Machine) -> None:
    system = secure_os(xen, borrows)
    one, other = driver(xen), driver(xen)
    serve = one._serve
    results: list[int] = []

    def meanwhile(address: int) -> None:
        serve(address)
        results.append(other.call(2, PAGE, ShmType.KERNEL))

    one._serve = meanwhile  # type: ignore[method-assign]
    results.append(one.call(1, PAGE, ShmType.KERNEL))
    assert set(results) == {int.from_bytes(b"from", "little")}
    assert not xen.spmc.memory.shares
    assert not system.mapped


@pytest.mark.parametrize(
    ("status", "wanted"), [(FfaError.BUSY, errno.EBUSY), (FfaError.DENIED, errno.EACCES)]
)
def test_a_call_that_the_spmc_refuses_is_an_error(
    xen: Machine, status: FfaError, wanted: int
) -> None:
    secure_os(xen)
    optee = driver(xen)
    shm = optee.allocate(PAGE)
    rule = xen.spmc.on(FFA.MSG_SEND_DIRECT_REQ_32).error(status, times=1)
    with pytest.raises(ClientError) as caught:
        optee.call(1, 1, shm=shm)
    assert caught.value.errno == wanted
    assert rule.used == 1
    assert optee.call(1, 1, shm=shm) == 1


# --- notifications -----------------------------------------------------------------------------


@pytest.mark.needs(abi=FFA.NOTIFICATION_INFO_GET_64)
@later
@SWAPS_HALVES.mark
def test_op_tee_wakes_the_bottom_half(xen: Machine, state: State) -> None:
    system = secure_os(xen)
    optee = driver(xen, state)
    assert optee.bottom_half == 0
    system.notify(optee.vm.id)
    assert optee.ffa.notification_info() == [(optee.vm.id, None)]
    assert optee.ffa.notification_get().from_sps == 1 << optee.bottom_half


@pytest.mark.needs(abi=FFA.NOTIFICATION_INFO_GET_64)
@later
def test_a_number_that_another_driver_has_is_passed_over(xen: Machine, state: State) -> None:
    secure_os(xen)
    vm = xen.create_vm()
    ffa = ArmFfa(vm, state).probe()
    ffa.notify_request(0x8001, 0)
    assert Optee(ffa).probe().bottom_half == 1
