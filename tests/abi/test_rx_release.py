# SPDX-License-Identifier: GPL-2.0-only
"""FFA_RX_RELEASE: a guest gives its RX buffer back (FF-A 1.2, 13.5)."""

import pytest

from ffashim import FFA, FfaError, Machine, Spmc, Vm
from ffashim.defects.buffers import HIDES_BUFFERS
from ffashim.defects.versions import SERVES_WITHOUT_VERSION
from ffashim.testing import at_each_point


@pytest.fixture
def holder(vm: Vm) -> Vm:
    """A guest that owns its RX buffer."""
    vm.map_rxtx()
    assert vm.partition_info_get().ok
    return vm


def test_who_holds_rx_can_release_it(holder: Vm) -> None:
    reply = holder.smc(FFA.RX_RELEASE)
    assert reply.ok
    assert not any(reply[1:8])


def test_rx_can_be_filled_again_after_a_release(holder: Vm) -> None:
    holder.smc(FFA.RX_RELEASE)
    assert holder.partition_info_get().ok


def test_rx_can_be_released_once(holder: Vm) -> None:
    holder.smc(FFA.RX_RELEASE)
    assert holder.smc(FFA.RX_RELEASE).error is FfaError.DENIED


def test_rx_that_xen_owns_cannot_be_released(vm: Vm) -> None:
    vm.map_rxtx()
    assert vm.smc(FFA.RX_RELEASE).error is FfaError.DENIED


def test_rx_that_does_not_exist_cannot_be_released(vm: Vm) -> None:
    # FF-A ACS ffa_rx_release.
    assert vm.smc(FFA.RX_RELEASE).error is FfaError.DENIED


def test_rx_of_another_guest_is_not_released(xen: Machine, holder: Vm) -> None:
    # w1 names a VM at the physical instance only.
    other = xen.create_vm("1.1")
    other.map_rxtx()
    assert other.smc(FFA.RX_RELEASE, holder.id).error is FfaError.DENIED
    assert holder.smc(FFA.RX_RELEASE).ok


def test_arguments_are_ignored(holder: Vm) -> None:
    assert holder.smc(FFA.RX_RELEASE, *([0xA5A5] * 6)).ok


def test_a_32_bit_guest_can_release_rx(xen: Machine) -> None:
    vm = xen.create_vm("1.1", bits=32)
    vm.map_rxtx()
    assert vm.partition_info_get().ok
    assert vm.smc(FFA.RX_RELEASE).ok


# An SPMC that has FFA_RX_ACQUIRE keeps track of the guests' RX buffers, and must be told.


@HIDES_BUFFERS.mark
@pytest.mark.needs(abi=FFA.MSG_SEND2)
def test_the_spmc_is_told_of_the_release(spmc: Spmc, holder: Vm) -> None:
    assert spmc.state.buffers[holder.id].held
    holder.smc(FFA.RX_RELEASE)
    assert not spmc.state.buffers[holder.id].held
    assert spmc.calls(FFA.RX_RELEASE)[-1].x1 == holder.id


@HIDES_BUFFERS.mark
@pytest.mark.needs(abi=FFA.MSG_SEND2)
@pytest.mark.parametrize("error", [FfaError.DENIED, FfaError.INVALID_PARAMETERS])
def test_what_the_spmc_refuses_is_not_released(spmc: Spmc, holder: Vm, error: FfaError) -> None:
    spmc.on(FFA.RX_RELEASE).error(error, times=1)
    assert holder.smc(FFA.RX_RELEASE).error is error
    assert holder.partition_info_get().error is FfaError.BUSY
    assert holder.smc(FFA.RX_RELEASE).ok


@pytest.mark.needs(abi=FFA.MSG_SEND2)
@pytest.mark.spmc(features_off=[FFA.RX_ACQUIRE, FFA.MSG_SEND2])
def test_an_spmc_without_rx_acquire_is_not_told(spmc: Spmc, holder: Vm) -> None:
    before = len(spmc.log)
    assert holder.smc(FFA.RX_RELEASE).ok
    assert len(spmc.log) == before


@pytest.mark.parametrize(
    "told",
    [
        pytest.param(True, id="told"),
        # Without an SPMC that keeps track, Xen alone sees to it.
        pytest.param(
            False, id="untold", marks=pytest.mark.spmc(features_off=[FFA.RX_ACQUIRE, FFA.MSG_SEND2])
        ),
    ],
)
def test_only_one_of_two_vcpus_releases(xen: Machine, told: bool) -> None:
    vm = xen.create_vm("1.1", vcpus=2)
    vm.map_rxtx()
    vm.partition_info_get()
    turns = 0
    for first, second in at_each_point(
        xen, lambda: vm.smc(FFA.RX_RELEASE), lambda: vm.vcpus[1].smc(FFA.RX_RELEASE)
    ):
        turns += 1
        assert first.ok is not second.ok
        assert FfaError.DENIED in (first.error, second.error)
    assert turns


@SERVES_WITHOUT_VERSION.mark
def test_it_wants_a_version_first(xen: Machine) -> None:
    assert xen.create_vm().smc(FFA.RX_RELEASE).error is FfaError.NOT_SUPPORTED
