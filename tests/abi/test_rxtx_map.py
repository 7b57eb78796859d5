# SPDX-License-Identifier: GPL-2.0-only
"""FFA_RXTX_MAP: a guest registers its RX and TX buffers (FF-A 1.2, 13.6)."""

import itertools
from collections.abc import Callable

import pytest

from ffashim import FFA, FfaError, Machine, P2m, Points, Reply, Spmc, Vm
from ffashim.alarms import AlarmKind
from ffashim.defects.buffers import (
    BLAMES_THE_GUEST,
    HIDES_BUFFERS,
    LEAVES_LOCKS,
    TAKES_NO_PAGES,
    TAKES_ONE_PAGE_TWICE,
    TAKES_UNALIGNED,
    TRIPS_OVER_RX,
)
from ffashim.defects.versions import SERVES_WITHOUT_VERSION
from ffashim.spmc.state import Range
from ffashim.testing import (
    at_each_point,
    lock_up,
)
from ffashim.traffic import share

UPPER = 0xDEAD_BEEF << 32
FAR = 0xFFFF_FFFF_FFFF_F000


@pytest.fixture
def pages(vm: Vm) -> tuple[int, int]:
    """Two pages of the guest's, for TX and RX."""
    return vm.memory.allocate(), vm.memory.allocate()


@pytest.fixture
def nothing_held(xen: Machine, vm: Vm, pages: tuple[int, int]) -> Callable[[], None]:
    """Check that Xen has kept nothing of the pages, nor the SPMC, and that a correct call works."""
    before = xen.mappings

    def check() -> None:
        assert [vm.memory.references(page) for page in pages] == [0, 0]
        assert xen.mappings == before
        assert vm.id not in xen.spmc.state.buffers
        assert vm.map_rxtx().ok

    return check


def rxtx_map(vm: Vm, tx: int, rx: int, count: int = 1) -> Reply:
    return vm.smc(FFA.RXTX_MAP_64, tx, rx, count)


def test_a_guest_can_map_its_buffers(xen: Machine, vm: Vm, pages: tuple[int, int]) -> None:
    reply = rxtx_map(vm, *pages)
    assert reply.ok
    assert not any(reply[1:8])
    assert [vm.memory.references(page) for page in pages] == [1, 1]
    mapped = [vm.memory.machine_address(page) >> 12 for page in pages]
    assert set(mapped) <= set(xen.mappings)


def test_xen_writes_to_rx_and_leaves_tx_alone(vm: Vm) -> None:
    vm.map_rxtx()
    vm.tx.write(b"\xa5" * 4096)
    vm.rx.write(b"\xa5" * 4096)
    assert vm.partition_info_get().ok
    assert vm.rx.read() != b"\xa5" * 4096
    assert vm.tx.read() == b"\xa5" * 4096


def test_rx_belongs_to_xen_at_first(vm: Vm) -> None:
    vm.map_rxtx()
    assert vm.smc(FFA.RX_RELEASE).error is FfaError.DENIED


# --- arguments ---------------------------------------------------------------------------------


@TAKES_NO_PAGES.mark
def test_a_buffer_has_pages(
    vm: Vm, pages: tuple[int, int], nothing_held: Callable[[], None]
) -> None:
    # FF-A ACS ffa_rxtx_map_and_unmap.
    assert rxtx_map(vm, *pages, 0).error is FfaError.INVALID_PARAMETERS
    nothing_held()


@pytest.mark.parametrize("count", [2, 0x3F, 0x40, 0x41, 0xFFFF_FFFF])
def test_more_pages_than_xen_takes_are_refused(
    vm: Vm, pages: tuple[int, int], nothing_held: Callable[[], None], count: int
) -> None:
    # Bits 5:0 are the count, the rest must be zero. Xen takes one page.
    assert rxtx_map(vm, *pages, count).error is FfaError.INVALID_PARAMETERS
    nothing_held()


def test_the_upper_half_of_the_count_is_ignored(vm: Vm, pages: tuple[int, int]) -> None:
    assert rxtx_map(vm, *pages, UPPER | 1).ok


@TAKES_UNALIGNED.mark
@pytest.mark.parametrize("fid", [FFA.RXTX_MAP_32, FFA.RXTX_MAP_64], ids=lambda fid: fid.name)
@pytest.mark.parametrize(
    ("tx_off", "rx_off"), [(0x100, 0), (0, 0x100), (1, 0), (0, 1), (0x800, 0), (0, 0xFFF)]
)
def test_a_buffer_is_page_aligned(
    vm: Vm,
    pages: tuple[int, int],
    nothing_held: Callable[[], None],
    tx_off: int,
    rx_off: int,
    fid: FFA,
) -> None:
    # FF-A ACS ffa_rxtx_map_and_unmap.
    reply = vm.smc(fid, pages[0] + tx_off, pages[1] + rx_off, 1)
    assert reply.error is FfaError.INVALID_PARAMETERS
    nothing_held()


@TAKES_ONE_PAGE_TWICE.mark
@pytest.mark.spmc(features_off=[FFA.RX_ACQUIRE, FFA.MSG_SEND2])
def test_rx_and_tx_do_not_overlap(
    vm: Vm, pages: tuple[int, int], nothing_held: Callable[[], None]
) -> None:
    # Hafnium: INVALID_PARAMETERS. An SPMC that knows guests' buffers would refuse it, too.
    assert rxtx_map(vm, pages[0], pages[0]).error is FfaError.INVALID_PARAMETERS
    nothing_held()


NOT_OURS = [kind for kind in P2m if kind is not P2m.RAM_RW]


@pytest.mark.parametrize("kind", NOT_OURS, ids=lambda kind: kind.name)
def test_tx_is_ram_that_the_guest_owns(
    vm: Vm, pages: tuple[int, int], nothing_held: Callable[[], None], kind: P2m
) -> None:
    vm.memory.set_type(pages[0], kind)
    assert rxtx_map(vm, *pages).error is FfaError.INVALID_PARAMETERS
    nothing_held()


@pytest.mark.parametrize(
    "kind",
    # Behind MMIO there is no page of RAM, either.
    [
        pytest.param(each, marks=[TRIPS_OVER_RX.mark] if each in (P2m.UNMAPPED, P2m.MMIO) else [])
        for each in NOT_OURS
    ],
    ids=lambda kind: kind.name,
)
def test_rx_is_ram_that_the_guest_owns(
    vm: Vm, pages: tuple[int, int], nothing_held: Callable[[], None], kind: P2m
) -> None:
    vm.memory.set_type(pages[1], kind)
    assert rxtx_map(vm, *pages).error is FfaError.INVALID_PARAMETERS
    nothing_held()


@pytest.mark.parametrize("address", [0, 1 << 40, FAR], ids=hex)
def test_there_is_memory_behind_tx(
    vm: Vm, pages: tuple[int, int], nothing_held: Callable[[], None], address: int
) -> None:
    assert rxtx_map(vm, address, pages[1]).error is FfaError.INVALID_PARAMETERS
    nothing_held()


@TRIPS_OVER_RX.mark
@pytest.mark.parametrize("address", [0, 1 << 40, FAR], ids=hex)
def test_there_is_memory_behind_rx(
    vm: Vm, pages: tuple[int, int], nothing_held: Callable[[], None], address: int
) -> None:
    assert rxtx_map(vm, pages[0], address).error is FfaError.INVALID_PARAMETERS
    nothing_held()


def test_the_32_bit_call_ignores_upper_halves(vm: Vm, pages: tuple[int, int]) -> None:
    tx, rx = pages
    assert vm.smc(FFA.RXTX_MAP_32, UPPER | tx, UPPER | rx, UPPER | 1).ok
    assert vm.memory.references(rx) == 1


def test_the_64_bit_call_does_not_ignore_upper_halves(
    vm: Vm, pages: tuple[int, int], nothing_held: Callable[[], None]
) -> None:
    assert rxtx_map(vm, UPPER | pages[0], pages[1]).error is FfaError.INVALID_PARAMETERS
    nothing_held()


def test_memory_above_4_gib_can_be_mapped(xen: Machine) -> None:
    assert xen.create_vm("1.1", ram_base=0x2_0000_0000).map_rxtx().ok


# --- state -------------------------------------------------------------------------------------


def test_a_second_pair_is_denied_and_the_first_stays(vm: Vm) -> None:
    # FF-A ACS ffa_rxtx_map_and_unmap.
    vm.map_rxtx()
    tx, rx = vm.memory.allocate(), vm.memory.allocate()
    assert rxtx_map(vm, tx, rx).error is FfaError.DENIED
    assert vm.memory.references(tx) == vm.memory.references(rx) == 0
    assert vm.partition_info_get().ok


def races(xen: Machine) -> bool:
    return any(first.ok and second.ok for first, second, _ in two_at_once(xen))


def two_at_once(xen: Machine) -> list[tuple[Reply, Reply, int]]:
    """Both answers, and how many references Xen then holds, for each point of the first call."""
    vm = xen.create_vm("1.1", vcpus=2)
    page = vm.memory.allocate(4)
    found = []
    for first, second in at_each_point(
        xen,
        lambda: vm.smc(FFA.RXTX_MAP_64, page, page + 4096, 1),
        lambda: vm.vcpus[1].smc(FFA.RXTX_MAP_64, page + 8192, page + 12288, 1),
    ):
        held = sum(vm.memory.references(page + n * 4096) for n in range(4))
        found.append((first, second, held))
    return found


@pytest.mark.known_defect(races, "two vCPUs can map a pair each: the first pair is never let go")
def test_of_two_vcpus_that_map_at_once_one_is_denied(xen: Machine) -> None:
    results = two_at_once(xen)
    assert results
    for first, second, held in results:
        assert {first.ok, second.ok} == {True, False}
        assert FfaError.DENIED in (first.error, second.error)
        assert held == 2


@BLAMES_THE_GUEST.mark
@pytest.mark.parametrize("nth", [1, 2])
def test_no_room_to_map_is_no_memory(
    xen: Machine, vm: Vm, pages: tuple[int, int], nth: int
) -> None:
    xen.fail_mapping(nth)
    assert rxtx_map(vm, *pages).error is FfaError.NO_MEMORY


@pytest.mark.parametrize("nth", [1, 2])
def test_buffers_that_could_not_be_mapped_leave_nothing(
    xen: Machine, vm: Vm, pages: tuple[int, int], nothing_held: Callable[[], None], nth: int
) -> None:
    xen.fail_mapping(nth)
    assert rxtx_map(vm, *pages).error
    nothing_held()


def test_the_buffers_go_with_the_guest(xen: Machine, vm: Vm) -> None:
    before = xen.mappings
    vm.map_rxtx()
    assert vm.destroy()
    assert xen.mappings == before
    assert not xen.spmc.residue(vm.id)


def test_buffers_that_the_guest_owns_go_with_it(xen: Machine, vm: Vm) -> None:
    vm.map_rxtx()
    vm.partition_info_get()
    assert vm.destroy()
    assert not xen.spmc.residue(vm.id)


# --- the SPMC ----------------------------------------------------------------------------------


@HIDES_BUFFERS.mark
@pytest.mark.needs(abi=FFA.MSG_SEND2)
def test_the_spmc_is_told_of_the_buffers(spmc: Spmc, vm: Vm) -> None:
    vm.map_rxtx()
    tx, rx = (vm.memory.machine_address(each.address) for each in (vm.tx, vm.rx))
    known = spmc.state.buffers[vm.id]
    assert (known.tx, known.rx, known.held) == ((Range(tx, 1),), (Range(rx, 1),), False)
    call = spmc.calls(FFA.RXTX_MAP_64)[-1]
    assert not any(call.request[1:])


@pytest.mark.needs(abi=FFA.MSG_SEND2)
@pytest.mark.spmc(features_off=[FFA.RX_ACQUIRE, FFA.MSG_SEND2])
def test_an_spmc_without_rx_acquire_is_not_told(spmc: Spmc, vm: Vm) -> None:
    before = len(spmc.log)
    vm.map_rxtx()
    assert len(spmc.log) == before


@HIDES_BUFFERS.mark
@pytest.mark.needs(abi=FFA.MSG_SEND2)
@pytest.mark.parametrize(
    "error", [FfaError.NO_MEMORY, FfaError.DENIED, FfaError.INVALID_PARAMETERS, FfaError.BUSY]
)
def test_what_the_spmc_refuses_is_not_mapped(
    spmc: Spmc,
    vm: Vm,
    pages: tuple[int, int],
    nothing_held: Callable[[], None],
    error: FfaError,
) -> None:
    spmc.on(FFA.RXTX_MAP_64).error(error, times=1)
    assert rxtx_map(vm, *pages).error is error
    assert vm.partition_info_get().error is FfaError.DENIED
    nothing_held()


@HIDES_BUFFERS.mark
@pytest.mark.needs(abi=FFA.MSG_SEND2)
def test_rx_that_a_dying_guest_owns_is_given_back_before_it_is_unmapped(spmc: Spmc, vm: Vm) -> None:
    vm.map_rxtx()
    vm.partition_info_get()
    assert spmc.state.buffers[vm.id].held
    held: list[bool] = []
    spmc.on(FFA.RXTX_UNMAP).call(lambda _x: held.append(spmc.state.buffers[vm.id].held))
    assert vm.destroy()
    assert held == [False]


# --- who may call ------------------------------------------------------------------------------


def test_a_32_bit_guest_maps_with_the_32_bit_call(xen: Machine) -> None:
    vm = xen.create_vm("1.1", bits=32)
    vm.map_rxtx()
    assert vm.partition_info_get().ok


def test_a_32_bit_guest_cannot_use_the_64_bit_call(xen: Machine) -> None:
    vm = xen.create_vm("1.1", bits=32)
    tx, rx = vm.memory.allocate(), vm.memory.allocate()
    assert rxtx_map(vm, tx, rx).unknown  # SMC64 does not exist for AArch32 (SMCCC 2.5).
    assert vm.memory.references(rx) == 0


@SERVES_WITHOUT_VERSION.mark
@pytest.mark.parametrize("fid", [FFA.RXTX_MAP_32, FFA.RXTX_MAP_64], ids=lambda fid: fid.name)
def test_it_wants_a_version_first(xen: Machine, fid: FFA) -> None:
    vm = xen.create_vm()
    tx, rx = vm.memory.allocate(), vm.memory.allocate()
    assert vm.smc(fid, tx, rx, 1).error is FfaError.NOT_SUPPORTED
    assert vm.memory.references(rx) == 0


def deadlocks(machine: Machine) -> bool:
    """Tell whether a guest that maps on one vCPU and unmaps on another locks up two CPUs.

    The calls stop between any two locks before both go on. What else may go wrong then is not
    looked at.
    """
    vm = machine.create_vm("1.1", vcpus=2)
    buffers = vm.memory.allocate(), vm.memory.allocate()
    start = machine.snapshot()
    for mapped, *steps in itertools.product((False, True), range(6), range(6)):
        machine.restore(start)
        if mapped:
            rxtx_map(vm, *buffers)
        with machine.at_points(lambda _point: None, Points.LOCK | Points.UNLOCK):
            calls = [vm.start(FFA.RXTX_MAP_64, *buffers, 1), vm.vcpus[1].start(FFA.RXTX_UNMAP)]
            for call, count in zip(calls, steps, strict=True):
                for _ in range(count):
                    call.step()
        if lock_up(calls):
            return True
    return False


def test_mapping_and_unmapping_cannot_deadlock(xen: Machine) -> None:
    assert not deadlocks(xen)


@LEAVES_LOCKS.mark
def test_locks_of_a_guest_are_initialised(xen: Machine) -> None:
    vm = xen.create_vm("1.1")
    vm.map_rxtx()
    vm.partition_info_get()
    share(vm)
    assert not [alarm for alarm in xen.alarms if alarm.kind is AlarmKind.LOCK_INIT]
