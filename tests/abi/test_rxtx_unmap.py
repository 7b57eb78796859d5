# SPDX-License-Identifier: GPL-2.0-only
"""FFA_RXTX_UNMAP: a guest takes its buffers back (FF-A 1.2, 13.7)."""

from collections.abc import Callable

import pytest

from ffashim import FFA, FfaError, Machine, Spmc, Vm
from ffashim.defects import crashes
from ffashim.defects.buffers import HIDES_BUFFERS, UNMAPS_OWNED_RX
from ffashim.defects.versions import SERVES_WITHOUT_VERSION
from ffashim.testing import at_each_point


@pytest.fixture
def mapped(vm: Vm) -> Vm:
    """A guest with buffers."""
    vm.map_rxtx()
    return vm


def test_the_buffers_are_given_back(xen: Machine, vm: Vm) -> None:
    before = xen.mappings
    vm.map_rxtx()
    reply = vm.smc(FFA.RXTX_UNMAP)
    assert reply.ok
    assert not any(reply[1:8])
    assert vm.memory.references(vm.tx.address) == 0
    assert vm.memory.references(vm.rx.address) == 0
    assert xen.mappings == before


def test_other_buffers_can_be_mapped_afterwards(mapped: Vm) -> None:
    mapped.smc(FFA.RXTX_UNMAP)
    assert mapped.map_rxtx().ok
    assert mapped.partition_info_get().ok


def test_there_is_nothing_to_unmap_before_a_map(vm: Vm) -> None:
    # FF-A ACS ffa_rxtx_map_and_unmap.
    assert vm.smc(FFA.RXTX_UNMAP).error is FfaError.INVALID_PARAMETERS


def test_there_is_nothing_to_unmap_twice(mapped: Vm) -> None:
    mapped.smc(FFA.RXTX_UNMAP)
    assert mapped.smc(FFA.RXTX_UNMAP).error is FfaError.INVALID_PARAMETERS


def test_rx_can_no_longer_be_filled(mapped: Vm) -> None:
    # Without buffers Hafnium says BUSY, Xen DENIED; 13.8 has both.
    mapped.smc(FFA.RXTX_UNMAP)
    assert mapped.partition_info_get().error is FfaError.DENIED


def test_a_guest_may_name_itself(mapped: Vm) -> None:
    # w1 must be zero at a virtual instance, yet FF-A ACS passes its own ID.
    assert mapped.smc(FFA.RXTX_UNMAP, mapped.id << 16).ok


def test_the_buffers_of_another_guest_stay(xen: Machine, mapped: Vm) -> None:
    other = xen.create_vm("1.1")
    other.smc(FFA.RXTX_UNMAP, mapped.id << 16)
    assert mapped.memory.references(mapped.rx.address) == 1
    assert mapped.partition_info_get().ok


def test_a_32_bit_guest_can_unmap(xen: Machine) -> None:
    vm = xen.create_vm("1.1", bits=32)
    vm.map_rxtx()
    assert vm.smc(FFA.RXTX_UNMAP).ok


@UNMAPS_OWNED_RX.mark
def test_rx_that_the_guest_owns_is_not_unmapped(mapped: Vm) -> None:
    # 7.2.2.4: the buffers are unmapped once neither holds a message. Xen chose DENIED for it.
    mapped.partition_info_get()
    assert mapped.smc(FFA.RXTX_UNMAP).error is FfaError.DENIED
    assert mapped.smc(FFA.RX_RELEASE).ok
    assert mapped.smc(FFA.RXTX_UNMAP).ok


# --- another vCPU is in the middle of a call -----------------------------------------------------


def take_rx_away(xen: Machine, *calls: FFA) -> int:
    """Make these calls on a second vCPU, at every point of the first one's PARTITION_INFO_GET.

    Returns how many points there were. Xen may refuse what it likes, but it may not write to a
    buffer that it has let go.
    """
    vm = xen.create_vm("1.1", vcpus=2)
    vm.map_rxtx()

    def take() -> None:
        for fid in calls:
            vm.vcpus[1].smc(fid)

    return sum(1 for _ in at_each_point(xen, vm.partition_info_get, take))


def writes_on(*calls: FFA) -> Callable[[Machine], bool]:
    """Make a probe: does Xen write to RX that is gone?"""
    return crashes(lambda machine: take_rx_away(machine, *calls), r"/ffa_partinfo\.c|/ffa\.c")


@pytest.mark.known_defect(
    writes_on(FFA.RXTX_UNMAP), "unmaps RX that Xen is writing to for another vCPU: a crash or worse"
)
def test_rx_is_not_unmapped_while_xen_fills_it(xen: Machine) -> None:
    assert take_rx_away(xen, FFA.RXTX_UNMAP)


@pytest.mark.known_defect(
    writes_on(FFA.RX_RELEASE, FFA.RXTX_UNMAP),
    "a guest can release, then unmap RX that Xen is writing to for another vCPU: a crash or worse",
)
def test_rx_is_not_released_and_unmapped_while_xen_fills_it(xen: Machine) -> None:
    # rx_is_free is all that tells who owns RX; the guest counts as owner before Xen is done.
    assert take_rx_away(xen, FFA.RX_RELEASE, FFA.RXTX_UNMAP)


# --- the SPMC ----------------------------------------------------------------------------------

# An SPMC that has FFA_RX_ACQUIRE knows the guests' buffers.


@HIDES_BUFFERS.mark
@pytest.mark.needs(abi=FFA.MSG_SEND2)
def test_the_spmc_is_told_which_guests_buffers_go(spmc: Spmc, mapped: Vm) -> None:
    mapped.smc(FFA.RXTX_UNMAP)
    assert spmc.calls(FFA.RXTX_UNMAP)[-1].x1 == mapped.id << 16
    assert mapped.id not in spmc.state.buffers


def keeps_dead_guests(xen: Machine) -> bool:
    vm = xen.create_vm("1.1")
    vm.map_rxtx()
    xen.spmc.on(FFA.RXTX_UNMAP).error(FfaError.INVALID_PARAMETERS)
    return not vm.destroy()


@pytest.mark.known_defect(
    keeps_dead_guests,
    "a dead guest stays for ever, and nothing is said of it, if the SPMC does not know its buffers",
)
def test_buffers_that_the_spmc_does_not_know_go_with_the_guest(spmc: Spmc, mapped: Vm) -> None:
    # INVALID_PARAMETERS: it has no buffers of this guest (13.7), so nothing holds their pages.
    spmc.on(FFA.RXTX_UNMAP).error(FfaError.INVALID_PARAMETERS)
    assert mapped.destroy()


@HIDES_BUFFERS.mark
@pytest.mark.needs(abi=FFA.MSG_SEND2)
@pytest.mark.parametrize("error", [FfaError.DENIED, FfaError.INVALID_PARAMETERS])
def test_what_the_spmc_keeps_mapped_stays_a_pair_of_buffers(
    spmc: Spmc, mapped: Vm, error: FfaError
) -> None:
    spmc.on(FFA.RXTX_UNMAP).error(error, times=1)
    assert mapped.smc(FFA.RXTX_UNMAP).error is error
    assert mapped.memory.references(mapped.rx.address) == 1
    assert mapped.partition_info_get().ok
    assert mapped.smc(FFA.RX_RELEASE).ok
    assert mapped.smc(FFA.RXTX_UNMAP).ok


@pytest.mark.needs(abi=FFA.MSG_SEND2)
@pytest.mark.spmc(features_off=[FFA.RX_ACQUIRE, FFA.MSG_SEND2])
def test_an_spmc_without_rx_acquire_is_not_told(spmc: Spmc, mapped: Vm) -> None:
    before = len(spmc.log)
    assert mapped.smc(FFA.RXTX_UNMAP).ok
    assert len(spmc.log) == before


@SERVES_WITHOUT_VERSION.mark
def test_it_wants_a_version_first(xen: Machine) -> None:
    assert xen.create_vm().smc(FFA.RXTX_UNMAP).error is FfaError.NOT_SUPPORTED
