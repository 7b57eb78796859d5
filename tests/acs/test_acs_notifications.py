# SPDX-License-Identifier: GPL-2.0-only
"""ACS notifications: cases of Arm's FF-A ACS, by their identifiers (see docs/acs.md)."""

import pytest

from ffashim import FFA, FfaError, Machine, Reply, Spmc, Vm
from ffashim.defects.features import REPORTS_SET_IN_VAIN
from ffashim.defects.notifications import SWAPS_HALVES
from ffashim.ffa import NOTIF_GET_SP, NOTIF_GET_VM, Feature
from ffashim.traffic import NO_SP, SP, bind

pytestmark = pytest.mark.needs(abi=FFA.NOTIFICATION_GET)
INVALID = 0xFFFF
"""Nobody's ID; secure, by its highest bit."""


def notification(
    vm: Vm, fid: FFA, ids: int, flags: int = 0, bits: int = 1 << 12
) -> FfaError | None:
    return vm.smc(fid, ids, flags, bits & 0xFFFF_FFFF, bits >> 32).error


def test_notification_bind(vm: Vm) -> None:
    bound(vm, FFA.NOTIFICATION_BIND)


def test_notification_unbind(vm: Vm) -> None:
    bound(vm, FFA.NOTIFICATION_UNBIND)
    assert (
        notification(vm, FFA.NOTIFICATION_UNBIND, SP << 16 | vm.id, bits=0)
        is FfaError.INVALID_PARAMETERS
    )


def bound(vm: Vm, fid: FFA) -> None:
    """The IDs of both sides, and flags that must be zero."""
    for ids in (INVALID << 16 | vm.id, NO_SP << 16 | vm.id, SP << 16 | INVALID):
        assert notification(vm, fid, ids) is FfaError.INVALID_PARAMETERS
    assert notification(vm, fid, SP << 16 | vm.id, flags=0x10)


def test_notification_get(vm: Vm) -> None:
    reply = vm.smc(FFA.NOTIFICATION_GET, INVALID, NOTIF_GET_VM)
    assert reply.error is FfaError.INVALID_PARAMETERS


@pytest.mark.parametrize("fid", [FFA.NOTIFICATION_INFO_GET_32, FFA.NOTIFICATION_INFO_GET_64])
def test_notification_info_get(vm: Vm, fid: FFA) -> None:
    assert vm.smc(FFA.NOTIFICATION_GET, vm.id, NOTIF_GET_SP | NOTIF_GET_VM).ok
    assert vm.smc(fid).error is FfaError.NO_DATA


def test_notification_comp(vm: Vm) -> None:
    # What only a hypervisor may call is left out.
    for fid in (
        FFA.NOTIFICATION_BIND,
        FFA.NOTIFICATION_UNBIND,
        FFA.NOTIFICATION_SET,
        FFA.NOTIFICATION_GET,
        FFA.NOTIFICATION_INFO_GET_64,
    ):
        assert vm.smc(FFA.FEATURES, fid).ok


# --- setting -----------------------------------------------------------------------------------


@pytest.fixture
def setter(vm: Vm, spmc: Spmc) -> Vm:
    """A guest that may set notification 12 of a partition, and 13 for each of its vCPUs."""
    spmc.notifications.listen(SP, vm.id, 1 << 12)
    spmc.notifications.listen(SP, vm.id, 1 << 13, per_vcpu=True)
    return vm


def setting(vm: Vm, receiver: int = SP, sender: int | None = None, **options: int) -> Reply:
    own = vm.id if sender is None else sender
    bits = options.get("bits", 1 << 12)
    return vm.smc(
        FFA.NOTIFICATION_SET,
        own << 16 | receiver,
        options.get("flags", 0),
        bits & 0xFFFF_FFFF,
        bits >> 32,
    )


@REPORTS_SET_IN_VAIN.mark
def test_notification_set__ids(setter: Vm) -> None:
    assert setting(setter, NO_SP).error is FfaError.INVALID_PARAMETERS
    assert setting(setter, sender=INVALID).error is FfaError.INVALID_PARAMETERS


@REPORTS_SET_IN_VAIN.mark
def test_notification_set__vcpu_of_a_global_one(setter: Vm) -> None:
    assert setting(setter, flags=2 << 16).error is FfaError.INVALID_PARAMETERS


@REPORTS_SET_IN_VAIN.mark
def test_notification_set__not_permitted(setter: Vm) -> None:
    assert setting(setter, bits=1 << 16).error is FfaError.DENIED


@REPORTS_SET_IN_VAIN.mark
def test_vm_to_sp_notification(xen: Machine, setter: Vm, spmc: Spmc) -> None:
    # Who schedules the partition then is not the guest: Xen does not tell guests of it.
    assert setting(setter).ok
    assert spmc.notifications.collect(SP) == 1 << 12


@SWAPS_HALVES.mark
def test_sp_signals_vm(xen: Machine, vm: Vm, spmc: Spmc) -> None:
    npi = vm.smc(FFA.FEATURES, Feature.NOTIF_PEND_INTR).w(2)
    assert bind(vm, 0b11).ok
    spmc.notifications.notify(SP, vm.id, 0b11)
    assert [(each.domain, each.intid) for each in xen.virqs] == [(vm.domid, npi)]
    assert vm.smc(FFA.NOTIFICATION_GET, vm.id, NOTIF_GET_SP).w(2) == 0b11
    unbound = vm.smc(FFA.NOTIFICATION_UNBIND, SP << 16 | vm.id, 0, 0b11)
    assert unbound.ok
