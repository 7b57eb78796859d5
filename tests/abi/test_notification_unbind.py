# SPDX-License-Identifier: GPL-2.0-only
"""FFA_NOTIFICATION_UNBIND: a guest takes back what it has bound (FF-A 1.1, 17.4)."""

import pytest

from ffashim import FFA, FfaError, Machine, Reply, Spmc, Vm
from ffashim.defects.notifications import SWAPS_HALVES
from ffashim.defects.versions import SERVES_WITHOUT_VERSION
from ffashim.traffic import NO_SP, SP, bind, guest, one_bit_off, soiled

pytestmark = pytest.mark.needs(abi=FFA.NOTIFICATION_UNBIND)


def unbind(vm: Vm, bits: int, sender: int = SP) -> Reply:
    low, high = bits & 0xFFFFFFFF, bits >> 32
    return vm.smc(FFA.NOTIFICATION_UNBIND, sender << 16 | vm.id, 0, low, high)


def bound(spmc: Spmc, vm: Vm) -> list[int]:
    return [b.bits for b in spmc.state.bitmaps[vm.id].bindings]


@pytest.mark.parametrize("bits", [1, 1 << 31, 1 << 32, 1 << 63, 0xF0F0_F0F0_1234_5678])
def test_nothing_is_left_bound(vm: Vm, spmc: Spmc, bits: int) -> None:
    assert bind(vm, bits).ok
    reply = unbind(vm, bits)
    assert reply.fid == FFA.SUCCESS_32
    assert not any(reply[1:8])
    assert bound(spmc, vm) == []


@SWAPS_HALVES.mark
def test_the_rest_stays_bound(vm: Vm, spmc: Spmc) -> None:
    assert bind(vm, 1 << 40 | 0b111).ok
    assert unbind(vm, 0b010).ok
    assert bound(spmc, vm) == [1 << 40 | 0b101]


def test_what_is_free_can_be_bound_to_another(vm: Vm) -> None:
    assert bind(vm, 1).ok
    assert unbind(vm, 1).ok
    assert bind(vm, 1, 0x8002).ok


def test_a_32_bit_guest_unbinds(xen: Machine) -> None:
    vm = guest(xen, buffers=False, bits=32)
    assert bind(vm, 1).ok
    assert unbind(vm, 1).ok


# --- refusals ----------------------------------------------------------------------------------


def test_nobody_unbinds_for_another(vm: Vm, spmc: Spmc) -> None:
    for receiver in (0, 1, SP, 0xFFFF, *one_bit_off(vm)):
        reply = vm.smc(FFA.NOTIFICATION_UNBIND, SP << 16 | receiver, 0, 1)
        assert reply.error is FfaError.INVALID_PARAMETERS
    assert not spmc.calls(FFA.NOTIFICATION_UNBIND)


def test_another_guests_bindings_stay(xen: Machine, vm: Vm, spmc: Spmc) -> None:
    assert bind(vm, 1).ok
    assert unbind(guest(xen, buffers=False), 1).error is FfaError.DENIED
    assert len(bound(spmc, vm)) == 1


def test_an_sp_that_does_not_exist(vm: Vm) -> None:
    assert unbind(vm, 1, NO_SP).error is FfaError.INVALID_PARAMETERS


def test_what_another_guest_would_send(xen: Machine, vm: Vm) -> None:
    # Xen documents that there are no notifications between guests; an SPMC knows of none, either.
    other = guest(xen, buffers=False)
    assert unbind(vm, 1, other.id).error in (FfaError.NOT_SUPPORTED, FfaError.INVALID_PARAMETERS)


def test_no_notification_at_all(vm: Vm) -> None:
    assert unbind(vm, 0).error is FfaError.INVALID_PARAMETERS


def test_what_another_sp_was_given(vm: Vm, spmc: Spmc) -> None:
    assert bind(vm, 1).ok
    assert unbind(vm, 1, 0x8002).error is FfaError.DENIED
    assert len(bound(spmc, vm)) == 1


@SWAPS_HALVES.mark
def test_what_is_pending(vm: Vm, spmc: Spmc) -> None:
    assert bind(vm, 3).ok
    spmc.notifications.notify(SP, vm.id, 1, delay=True)
    assert unbind(vm, 3).error is FfaError.DENIED
    assert unbind(vm, 2).ok


@pytest.mark.parametrize("error", [FfaError.DENIED, FfaError.NO_MEMORY, FfaError.BUSY])
def test_the_spmcs_error_is_the_guests(vm: Vm, spmc: Spmc, error: FfaError) -> None:
    spmc.on(FFA.NOTIFICATION_UNBIND).error(error)
    assert unbind(vm, 1).error is error


# --- who may call, and how ---------------------------------------------------------------------


def test_upper_register_halves_do_not_count(vm: Vm, spmc: Spmc) -> None:
    assert bind(vm, 4 << 32 | 3).ok
    assert vm.smc(FFA.NOTIFICATION_UNBIND, *soiled(SP << 16 | vm.id, 0, 3, 4)).ok
    assert bound(spmc, vm) == []


@SERVES_WITHOUT_VERSION.mark
def test_before_version_negotiation_it_is_not_supported(xen: Machine) -> None:
    assert unbind(xen.create_vm(), 1).error is FfaError.NOT_SUPPORTED


@pytest.mark.spmc(features_off=[2])
def test_without_the_schedule_receiver_interrupt_it_is_not_supported(vm: Vm, spmc: Spmc) -> None:
    assert unbind(vm, 1).error is FfaError.NOT_SUPPORTED
    assert not spmc.calls(FFA.NOTIFICATION_UNBIND)
