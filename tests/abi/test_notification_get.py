# SPDX-License-Identifier: GPL-2.0-only
"""FFA_NOTIFICATION_GET: a guest collects what is pending for it (FF-A 1.1, 17.6)."""

import pytest

from ffashim import FFA, FfaError, Machine, Reply, Spmc, Vm
from ffashim.defects.notifications import (
    FORGETS_WHAT_IT_HAS_NOT_COLLECTED,
    LOSES_AN_INTERRUPT,
    messages_while_asking,
)
from ffashim.defects.versions import SERVES_WITHOUT_VERSION
from ffashim.ffa import NOTIF_GET_HYP, NOTIF_GET_SP, NOTIF_GET_SPM, NOTIF_GET_VM
from ffashim.traffic import SP, bind, guest, one_bit_off, soiled

pytestmark = pytest.mark.needs(abi=FFA.NOTIFICATION_GET)

EVERYTHING = NOTIF_GET_SP | NOTIF_GET_VM | NOTIF_GET_SPM | NOTIF_GET_HYP
BITS = 0x8000_0001_8000_0001
"""Both halves alike: what 4.19 does to them is for test_notification_bind.py."""


def get(vm: Vm, flags: int = EVERYTHING, vcpu: int = 0) -> Reply:
    return vm.smc(FFA.NOTIFICATION_GET, vcpu << 16 | vm.id, flags)


@pytest.fixture
def vm(vm: Vm, spmc: Spmc) -> Vm:
    """A guest that has something pending from a secure partition."""
    assert bind(vm, BITS).ok
    spmc.notifications.notify(SP, vm.id, BITS)
    return vm


def test_what_sps_set_is_in_w2_and_w3(vm: Vm) -> None:
    reply = get(vm, NOTIF_GET_SP)
    assert reply.fid == FFA.SUCCESS_32
    assert reply[1:8] == (0, BITS & 0xFFFFFFFF, BITS >> 32, 0, 0, 0, 0)


def test_it_is_pending_no_longer(vm: Vm, spmc: Spmc) -> None:
    assert get(vm, NOTIF_GET_SP).w(2)
    assert not any(get(vm, NOTIF_GET_SP)[1:8])
    assert not spmc.state.bitmaps[vm.id].any_pending


def test_only_what_was_asked_for_is_collected(vm: Vm, spmc: Spmc) -> None:
    for flags in (NOTIF_GET_SPM, NOTIF_GET_VM, NOTIF_GET_HYP, NOTIF_GET_VM | NOTIF_GET_HYP):
        assert not any(get(vm, flags)[1:8])
    assert spmc.state.bitmaps[vm.id].pending == BITS
    assert get(vm).w(3) == BITS >> 32


def test_what_the_spm_says_is_in_w6(vm: Vm, spmc: Spmc) -> None:
    spmc.notifications.rx_full(vm.id)
    assert get(vm, NOTIF_GET_SP).w(6) == 0
    assert get(vm, NOTIF_GET_SPM).w(6) == 1


def test_the_spmc_is_asked_for_its_own_only(vm: Vm, spmc: Spmc) -> None:
    # VMs' and the hypervisor's notifications are not the SPMC's to know (9.1, 17.6).
    get(vm)
    assert spmc.calls(FFA.NOTIFICATION_GET)[-1].x2 == NOTIF_GET_SP | NOTIF_GET_SPM
    asked = len(spmc.calls(FFA.NOTIFICATION_GET))
    get(vm, NOTIF_GET_VM | NOTIF_GET_HYP)
    assert len(spmc.calls(FFA.NOTIFICATION_GET)) == asked


def test_any_vcpu_collects_global_notifications(xen: Machine, spmc: Spmc) -> None:
    vm = xen.create_vm("1.1", vcpus=3)
    assert bind(vm, BITS).ok
    spmc.notifications.notify(SP, vm.id, BITS)
    reply = vm.vcpus[2].smc(FFA.NOTIFICATION_GET, 2 << 16 | vm.id, NOTIF_GET_SP)
    assert reply.w(2) == BITS & 0xFFFFFFFF
    assert spmc.calls(FFA.NOTIFICATION_GET)[-1].x1 == 2 << 16 | vm.id


def test_a_32_bit_guest_collects(xen: Machine, spmc: Spmc) -> None:
    vm = guest(xen, buffers=False, bits=32)
    assert bind(vm, BITS).ok
    spmc.notifications.notify(SP, vm.id, BITS)
    assert get(vm).w(3) == BITS >> 32


def test_guests_get_their_own(xen: Machine, vm: Vm) -> None:
    other = guest(xen, buffers=False)
    assert not any(get(other)[1:8])
    assert get(vm).w(2)


# --- refusals ----------------------------------------------------------------------------------


def test_nobody_collects_for_another(vm: Vm, spmc: Spmc) -> None:
    for receiver in (0, 1, SP, 0xFFFF, *one_bit_off(vm)):
        reply = vm.smc(FFA.NOTIFICATION_GET, receiver, EVERYTHING)
        assert reply.error is FfaError.INVALID_PARAMETERS
    assert not spmc.calls(FFA.NOTIFICATION_GET)


def test_a_vcpu_that_does_not_exist(vm: Vm) -> None:
    assert get(vm, NOTIF_GET_SP, vcpu=1).error is FfaError.INVALID_PARAMETERS


@pytest.mark.parametrize("error", [FfaError.DENIED, FfaError.NO_DATA, FfaError.BUSY])
def test_the_spmcs_error_is_the_guests(vm: Vm, spmc: Spmc, error: FfaError) -> None:
    spmc.on(FFA.NOTIFICATION_GET).error(error, times=1)
    assert get(vm).error is error
    assert get(vm).w(2) == BITS & 0xFFFFFFFF


# --- who may call, and how ---------------------------------------------------------------------


def test_upper_register_halves_do_not_count(vm: Vm) -> None:
    assert vm.smc(FFA.NOTIFICATION_GET, *soiled(vm.id, NOTIF_GET_SP)).w(2) == BITS & 0xFFFFFFFF


@SERVES_WITHOUT_VERSION.mark
def test_before_version_negotiation_it_is_not_supported(xen: Machine) -> None:
    assert get(xen.create_vm()).error is FfaError.NOT_SUPPORTED


@FORGETS_WHAT_IT_HAS_NOT_COLLECTED.mark
def test_a_refusal_loses_nothing(vm: Vm, spmc: Spmc) -> None:
    spmc.on(FFA.NOTIFICATION_GET).error(FfaError.BUSY, times=1)
    assert get(vm).error is FfaError.BUSY
    assert vm.smc(FFA.NOTIFICATION_INFO_GET_64).ok
    assert get(vm).w(2) == BITS & 0xFFFFFFFF


@LOSES_AN_INTERRUPT.mark
@pytest.mark.needs(vm_to_vm=True, messages=True)
def test_who_asks_as_a_message_comes_has_it_in_the_answer_or_is_interrupted(xen: Machine) -> None:
    # 9.4.2: the receiver is notified of a full RX. One that is interrupted in vain does no harm.
    found = list(messages_while_asking(xen))
    assert found
    assert all(interrupted for interrupted, pending in found if pending)
