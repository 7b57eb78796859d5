# SPDX-License-Identifier: GPL-2.0-only
"""FFA_MEM_RECLAIM: a guest takes back what it shared (FF-A 1.1, 16.7)."""

import pytest

from ffashim import FFA, FfaError, Machine, Spmc, Vm
from ffashim.defects.versions import SERVES_WITHOUT_VERSION
from ffashim.memory import PAGE
from ffashim.testing import at_each_point, boot_without
from ffashim.traffic import (
    SP,
    footprint,
    guest,
    handle_of,
    reclaim,
    references,
    share,
    soiled,
    transaction,
)

CLEAR, TIME_SLICE = 1, 2


@pytest.fixture
def vm(vm: Vm) -> Vm:
    """A guest with RX/TX buffers."""
    vm.map_rxtx()
    return vm


def test_nothing_is_left_of_what_was_shared(xen: Machine, vm: Vm, spmc: Spmc) -> None:
    page = vm.memory.allocate(3)
    before = footprint(xen)
    handle = handle_of(share(vm, transaction(vm, (page, 3))))
    assert reclaim(vm, handle).ok
    assert not spmc.memory.shares
    assert footprint(xen) == before
    assert references(vm, page, 3) == [0, 0, 0]


def test_the_answer_is_a_plain_success(vm: Vm) -> None:
    reply = reclaim(vm, handle_of(share(vm)))
    assert reply.fid == FFA.SUCCESS_32
    assert not any(reply[1:8])


def test_a_32_bit_guest_takes_its_memory_back(xen: Machine) -> None:
    vm = guest(xen, bits=32)
    assert reclaim(vm, handle_of(share(vm))).ok


def test_the_rest_stays_shared(vm: Vm, spmc: Spmc) -> None:
    handles = [handle_of(share(vm)) for _ in range(4)]
    for handle in (handles[2], handles[0]):
        assert reclaim(vm, handle).ok
    assert sorted(spmc.memory.shares) == [handles[1], handles[3]]


def test_of_two_vcpus_that_reclaim_the_same_one_does(xen: Machine, spmc: Spmc) -> None:
    vm = xen.create_vm("1.1", vcpus=2)
    vm.map_rxtx()
    page = vm.memory.allocate()
    handle = handle_of(share(vm, transaction(vm, (page, 1))))
    both = at_each_point(xen, lambda: reclaim(vm, handle), lambda: reclaim(vm.vcpus[1], handle))
    for first, second in both:
        assert sorted((first.ok, second.ok)) == [False, True]
        assert not spmc.memory.shares
        assert references(vm, page) == [0]


def test_memory_can_be_shared_again(vm: Vm) -> None:
    page = vm.memory.allocate()
    handle = handle_of(share(vm, transaction(vm, (page, 1))))
    assert reclaim(vm, handle).ok
    assert share(vm, transaction(vm, (page, 1))).ok


def test_memory_is_zeroed_if_the_owner_says_so(vm: Vm) -> None:
    page = vm.memory.allocate()
    vm.memory.write(page, b"secret")
    assert reclaim(vm, handle_of(share(vm, transaction(vm, (page, 1)))), CLEAR).ok
    assert vm.memory.read(page, PAGE) == bytes(PAGE)


def test_memory_keeps_its_contents_otherwise(vm: Vm) -> None:
    page = vm.memory.allocate()
    vm.memory.write(page, b"data")
    assert reclaim(vm, handle_of(share(vm, transaction(vm, (page, 1)))), TIME_SLICE).ok
    assert vm.memory.read(page, 4) == b"data"


# --- refusals ----------------------------------------------------------------------------------


def test_a_handle_that_does_not_exist(vm: Vm, spmc: Spmc) -> None:
    handle = handle_of(share(vm))
    for other in (0, handle + 1, handle | 1 << 63, (1 << 64) - 1, handle & 0xFFFFFFFF):
        assert reclaim(vm, other).error is FfaError.INVALID_PARAMETERS
    # It is for Xen to know whose handle is whose: the SPMC sees only the hypervisor.
    assert not spmc.calls(FFA.MEM_RECLAIM)


def test_a_handle_works_once(vm: Vm) -> None:
    handle = handle_of(share(vm))
    assert reclaim(vm, handle).ok
    assert reclaim(vm, handle).error is FfaError.INVALID_PARAMETERS


def test_a_handle_of_another_guest(xen: Machine, vm: Vm, spmc: Spmc) -> None:
    handle = handle_of(share(vm))
    assert reclaim(guest(xen), handle).error is FfaError.INVALID_PARAMETERS
    assert list(spmc.memory.shares) == [handle]
    assert not spmc.calls(FFA.MEM_RECLAIM)


def test_memory_that_an_sp_still_maps(vm: Vm, spmc: Spmc) -> None:
    page = vm.memory.allocate()
    handle = handle_of(share(vm, transaction(vm, (page, 1))))
    spmc.memory.retrieve(SP, handle)
    assert reclaim(vm, handle).error is FfaError.DENIED
    assert references(vm, page) == [1]
    spmc.memory.relinquish(SP, handle)
    assert reclaim(vm, handle).ok
    assert references(vm, page) == [0]


def test_reserved_flags(vm: Vm, spmc: Spmc) -> None:
    handle = handle_of(share(vm))
    assert reclaim(vm, handle, 4).error is FfaError.INVALID_PARAMETERS
    assert list(spmc.memory.shares) == [handle]


@pytest.mark.parametrize("error", [FfaError.DENIED, FfaError.NO_MEMORY, FfaError.ABORTED])
def test_what_the_spmc_keeps_stays_shared(vm: Vm, spmc: Spmc, error: FfaError) -> None:
    page = vm.memory.allocate()
    handle = handle_of(share(vm, transaction(vm, (page, 1))))
    spmc.on(FFA.MEM_RECLAIM).error(error, times=1)
    assert reclaim(vm, handle).error is error
    assert references(vm, page) == [1]
    assert reclaim(vm, handle).ok


def test_what_the_spmc_cannot_give_back_stays_shared(xen: Machine) -> None:
    spmc = boot_without(xen, FFA.MEM_RECLAIM)
    vm = guest(xen)
    page = vm.memory.allocate()
    handle = handle_of(share(vm, transaction(vm, (page, 1))))
    assert reclaim(vm, handle).error is FfaError.NOT_SUPPORTED
    assert references(vm, page) == [1]
    assert list(spmc.memory.shares) == [handle]
    assert not spmc.calls(FFA.MEM_RECLAIM), "what the SPMC does not report it is not asked for"


@pytest.mark.parametrize("answer", [FFA.MSG_WAIT, FFA.MEM_FRAG_RX, 0])
def test_memory_stays_shared_on_an_answer_of_the_spmc_that_is_none(
    vm: Vm, spmc: Spmc, answer: int
) -> None:
    page = vm.memory.allocate()
    handle = handle_of(share(vm, transaction(vm, (page, 1))))
    spmc.on(FFA.MEM_RECLAIM).reply(answer, times=1)
    assert reclaim(vm, handle).error
    assert references(vm, page) == [1]
    assert reclaim(vm, handle).ok


# --- who may call, and how ---------------------------------------------------------------------


@SERVES_WITHOUT_VERSION.mark
def test_before_version_negotiation_it_is_not_supported(xen: Machine) -> None:
    assert reclaim(xen.create_vm(), 1).error is FfaError.NOT_SUPPORTED


def test_upper_register_halves_do_not_count(vm: Vm, spmc: Spmc) -> None:
    handle = handle_of(share(vm))
    low, high = handle & 0xFFFFFFFF, handle >> 32
    assert vm.smc(FFA.MEM_RECLAIM, *soiled(low, high, 0)).ok
    assert not spmc.memory.shares


def test_no_buffers_are_needed(vm: Vm) -> None:
    handle = handle_of(share(vm))
    assert vm.smc(FFA.RXTX_UNMAP).ok
    assert reclaim(vm, handle).ok
