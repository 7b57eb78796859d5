# SPDX-License-Identifier: GPL-2.0-only
"""FFA_NOTIFICATION_SET: a guest notifies a secure partition (FF-A 1.1, 17.5)."""

import pytest

from ffashim import FFA, FfaError, Machine, Reply, Spmc, Vm
from ffashim.defects.versions import SERVES_WITHOUT_VERSION
from ffashim.ffa import NOTIF_PER_VCPU
from ffashim.traffic import NO_SP, SP, guest, one_bit_off, soiled

pytestmark = pytest.mark.needs(abi=FFA.NOTIFICATION_BIND)


def takes_the_sender_for_the_receiver(machine: Machine) -> bool:
    vm = guest(machine, buffers=False)
    machine.spmc.notifications.listen(SP, vm.id, 1)
    return notify(vm, 1).error is FfaError.NOT_SUPPORTED


REFUSED = pytest.mark.known_defect(
    takes_the_sender_for_the_receiver, "asks whether the sender is secure: no guest can notify"
)


def notify(vm: Vm, bits: int, receiver: int = SP, flags: int = 0) -> Reply:
    low, high = bits & 0xFFFFFFFF, bits >> 32
    return vm.smc(FFA.NOTIFICATION_SET, vm.id << 16 | receiver, flags, low, high)


@REFUSED
@pytest.mark.parametrize("bits", [1, 1 << 31, 1 << 32, 1 << 63, 0xF0F0_F0F0_1234_5678])
def test_the_sp_collects_it(vm: Vm, spmc: Spmc, bits: int) -> None:
    spmc.notifications.listen(SP, vm.id, bits)
    reply = notify(vm, bits)
    assert reply.fid == FFA.SUCCESS_32
    assert not any(reply[1:8])
    assert spmc.notifications.collect(SP) == bits


@REFUSED
def test_notifications_add_up(vm: Vm, spmc: Spmc) -> None:
    spmc.notifications.listen(SP, vm.id, 7)
    assert notify(vm, 1).ok
    assert notify(vm, 4).ok
    assert spmc.notifications.collect(SP) == 5


@REFUSED
def test_a_vcpu_of_the_sp_can_be_named(vm: Vm, spmc: Spmc) -> None:
    spmc.notifications.listen(0x8002, vm.id, 1, per_vcpu=True)
    assert notify(vm, 1, 0x8002, 3 << 16 | NOTIF_PER_VCPU).ok
    assert spmc.state.sp_bitmaps[0x8002].per_vcpu == ((3, 1),)


@REFUSED
def test_a_32_bit_guest_notifies(xen: Machine, spmc: Spmc) -> None:
    vm = guest(xen, buffers=False, bits=32)
    spmc.notifications.listen(SP, vm.id, 1)
    assert notify(vm, 1).ok


@REFUSED
def test_the_guest_gets_no_interrupt_for_it(xen: Machine, vm: Vm, spmc: Spmc) -> None:
    # The schedule receiver interrupt is for the SP's sake; there is nothing for the guest.
    spmc.notifications.listen(SP, vm.id, 1)
    assert notify(vm, 1).ok
    assert not xen.virqs


# --- refusals ----------------------------------------------------------------------------------


def test_nobody_notifies_in_anothers_name(vm: Vm, spmc: Spmc) -> None:
    for sender in (0, 1, SP, 0xFFFF, *one_bit_off(vm)):
        reply = vm.smc(FFA.NOTIFICATION_SET, sender << 16 | SP, 0, 1)
        assert reply.error is FfaError.INVALID_PARAMETERS
    assert not spmc.calls(FFA.NOTIFICATION_SET)


@REFUSED
def test_an_sp_that_does_not_exist(vm: Vm) -> None:
    assert notify(vm, 1, NO_SP).error is FfaError.INVALID_PARAMETERS


@REFUSED
def test_no_notification_at_all(vm: Vm, spmc: Spmc) -> None:
    spmc.notifications.listen(SP, vm.id, 1)
    assert notify(vm, 0).error is FfaError.INVALID_PARAMETERS


@REFUSED
def test_what_the_sp_did_not_bind(vm: Vm, spmc: Spmc) -> None:
    spmc.notifications.listen(SP, vm.id, 1)
    assert notify(vm, 3).error is FfaError.DENIED
    assert spmc.notifications.collect(SP) == 0


@REFUSED
def test_what_the_sp_bound_to_another_guest(xen: Machine, vm: Vm, spmc: Spmc) -> None:
    spmc.notifications.listen(SP, vm.id, 1)
    assert notify(guest(xen, buffers=False), 1).error is FfaError.DENIED


def test_another_guest_cannot_be_notified(xen: Machine, vm: Vm) -> None:
    # A limit; older trees leave it to the SPMC, which knows no such SP.
    assert notify(vm, 1, guest(xen, buffers=False).id).error


@REFUSED
@pytest.mark.parametrize("error", [FfaError.DENIED, FfaError.NO_MEMORY, FfaError.BUSY])
def test_the_spmcs_error_is_the_guests(vm: Vm, spmc: Spmc, error: FfaError) -> None:
    spmc.on(FFA.NOTIFICATION_SET).error(error)
    assert notify(vm, 1).error is error


# --- who may call, and how ---------------------------------------------------------------------


@REFUSED
def test_upper_register_halves_do_not_count(vm: Vm, spmc: Spmc) -> None:
    spmc.notifications.listen(SP, vm.id, 4 << 32 | 3)
    assert vm.smc(FFA.NOTIFICATION_SET, *soiled(vm.id << 16 | SP, 0, 3, 4)).ok
    assert spmc.notifications.collect(SP) == 4 << 32 | 3


# Where nothing is supported, this is right by accident.
@pytest.mark.known_defect(
    lambda machine: (
        SERVES_WITHOUT_VERSION.probe(machine) and not takes_the_sender_for_the_receiver(machine)
    ),
    SERVES_WITHOUT_VERSION.finding,
)
def test_before_version_negotiation_it_is_not_supported(xen: Machine) -> None:
    assert notify(xen.create_vm(), 1).error is FfaError.NOT_SUPPORTED


@pytest.mark.spmc(features_off=[2])
def test_without_the_schedule_receiver_interrupt_it_is_not_supported(vm: Vm, spmc: Spmc) -> None:
    assert notify(vm, 1).error is FfaError.NOT_SUPPORTED
    assert not spmc.calls(FFA.NOTIFICATION_SET)
