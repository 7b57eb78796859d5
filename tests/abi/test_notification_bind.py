# SPDX-License-Identifier: GPL-2.0-only
"""FFA_NOTIFICATION_BIND: a guest says who may notify it of what (FF-A 1.1, 17.3)."""

import pytest

from ffashim import FFA, FfaError, Machine, Spmc, Vm
from ffashim.defects.features import CALLS_IN_VAIN
from ffashim.defects.notifications import SWAPS_HALVES
from ffashim.defects.versions import SERVES_WITHOUT_VERSION
from ffashim.ffa import NOTIF_PER_VCPU
from ffashim.spmc.state import Binding
from ffashim.testing import boot_with, secure_partitions
from ffashim.traffic import NO_SP, SP, bind, guest, one_bit_off, soiled

pytestmark = pytest.mark.needs(abi=FFA.NOTIFICATION_BIND)

NEEDED = [
    FFA.NOTIFICATION_BITMAP_CREATE,
    FFA.NOTIFICATION_BITMAP_DESTROY,
    FFA.NOTIFICATION_GET,
    FFA.NOTIFICATION_INFO_GET_64,
]
"""What Xen calls of its own accord."""


def bindings(spmc: Spmc, vm: Vm) -> tuple[Binding, ...]:
    return spmc.state.bitmaps[vm.id].bindings


@SWAPS_HALVES.mark
@pytest.mark.parametrize("bits", [1, 1 << 31, 1 << 32, 1 << 63, 0xF0F0_F0F0_1234_5678])
def test_the_sp_may_set_what_was_bound(vm: Vm, spmc: Spmc, bits: int) -> None:
    reply = bind(vm, bits)
    assert reply.fid == FFA.SUCCESS_32
    assert not any(reply[1:8])
    assert bindings(spmc, vm) == (Binding(SP, bits, per_vcpu=False),)


def test_each_sp_has_its_own(vm: Vm, spmc: Spmc) -> None:
    assert bind(vm, 1 << 32 | 1).ok
    assert bind(vm, 1 << 33 | 2, 0x8002).ok
    assert [b.sender for b in bindings(spmc, vm)] == [SP, 0x8002]


def test_guests_do_not_share_bindings(xen: Machine, vm: Vm, spmc: Spmc) -> None:
    other = guest(xen, buffers=False)
    assert bind(vm, 1).ok
    assert bind(other, 1, 0x8002).ok
    assert [b.sender for one in (vm, other) for b in bindings(spmc, one)] == [SP, 0x8002]


def test_a_32_bit_guest_binds(xen: Machine, spmc: Spmc) -> None:
    vm = guest(xen, buffers=False, bits=32)
    assert bind(vm, 1 << 32 | 1).ok
    assert len(bindings(spmc, vm)) == 1


# --- refusals ----------------------------------------------------------------------------------


def test_nobody_binds_for_another(vm: Vm, spmc: Spmc) -> None:
    for receiver in (0, 1, SP, 0xFFFF, *one_bit_off(vm)):
        reply = vm.smc(FFA.NOTIFICATION_BIND, SP << 16 | receiver, 0, 1)
        assert reply.error is FfaError.INVALID_PARAMETERS
    assert not spmc.calls(FFA.NOTIFICATION_BIND)


def test_an_sp_that_does_not_exist(vm: Vm) -> None:
    assert bind(vm, 1, NO_SP).error is FfaError.INVALID_PARAMETERS


def test_no_notification_at_all(vm: Vm) -> None:
    assert bind(vm, 0).error is FfaError.INVALID_PARAMETERS


def test_what_another_sp_was_given(vm: Vm, spmc: Spmc) -> None:
    assert bind(vm, 0b011).ok
    assert bind(vm, 0b110, 0x8002).error is FfaError.DENIED
    assert len(bindings(spmc, vm)) == 1


def test_per_vcpu_notifications(vm: Vm, spmc: Spmc) -> None:
    # They are optional, and Xen has none (ffa.c); which error that is, is not said.
    assert vm.smc(FFA.NOTIFICATION_BIND, SP << 16 | vm.id, NOTIF_PER_VCPU, 1).error
    assert not bindings(spmc, vm)


def test_another_guest_cannot_be_bound(xen: Machine, vm: Vm, spmc: Spmc) -> None:
    # A limit; older trees leave it to the SPMC, which knows no such SP.
    assert bind(vm, 1, guest(xen, buffers=False).id).error
    assert not bindings(spmc, vm)


@pytest.mark.parametrize("error", [FfaError.DENIED, FfaError.NO_MEMORY, FfaError.BUSY])
def test_the_spmcs_error_is_the_guests(vm: Vm, spmc: Spmc, error: FfaError) -> None:
    spmc.on(FFA.NOTIFICATION_BIND).error(error)
    assert bind(vm, 1).error is error


# --- who may call, and how ---------------------------------------------------------------------


@SWAPS_HALVES.mark
def test_upper_register_halves_do_not_count(vm: Vm, spmc: Spmc) -> None:
    assert vm.smc(FFA.NOTIFICATION_BIND, *soiled(SP << 16 | vm.id, 0, 3, 4)).ok
    assert [b.bits for b in bindings(spmc, vm)] == [4 << 32 | 3]


@SERVES_WITHOUT_VERSION.mark
def test_before_version_negotiation_it_is_not_supported(xen: Machine) -> None:
    assert bind(xen.create_vm(), 1).error is FfaError.NOT_SUPPORTED


def binds_on_a_part(machine: Machine) -> bool:
    boot_with(machine, secure_partitions(1), features_off=[FFA.NOTIFICATION_INFO_GET_64])
    return bind(guest(machine, buffers=False), 1).ok


@pytest.mark.known_defect(binds_on_a_part, CALLS_IN_VAIN)
@pytest.mark.parametrize("abi", NEEDED, ids=lambda abi: abi.name)
def test_an_spmc_that_has_a_part_of_notifications_only_has_none(xen: Machine, abi: FFA) -> None:
    # One without the other is of no use to a hypervisor (FF-A 1.2, Table 10.28).
    world = boot_with(xen, secure_partitions(1), features_off=[abi])
    vm = guest(xen, buffers=False)
    assert bind(vm, 1).error is FfaError.NOT_SUPPORTED
    assert vm.destroy()
    assert not world.calls(FFA.NOTIFICATION_BIND, *NEEDED)


@pytest.mark.spmc(features_off=[2])
def test_without_the_schedule_receiver_interrupt_it_is_not_supported(vm: Vm, spmc: Spmc) -> None:
    assert bind(vm, 1).error is FfaError.NOT_SUPPORTED
    assert not spmc.calls(FFA.NOTIFICATION_BIND)
