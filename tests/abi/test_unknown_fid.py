# SPDX-License-Identifier: GPL-2.0-only
"""Calls that no mediator serves: FF-A's own that are not for guests, and what is not FF-A's."""

import pytest

from ffashim import FFA, FfaError, Machine, Reply, Spmc, Vm
from ffashim.capabilities import handled
from ffashim.defects.versions import SERVES_WITHOUT_VERSION
from ffashim.ffa import FNUM_MAX, FNUM_MIN, is_64bit
from ffashim.traffic import footprint, guest

PHYSICAL = [FFA.NOTIFICATION_BITMAP_CREATE, FFA.NOTIFICATION_BITMAP_DESTROY, FFA.RX_ACQUIRE]
"""For the physical instance only: a hypervisor's, never a guest's (13.4, 17.1, 17.2)."""
RESULTS = [FFA.ERROR, FFA.SUCCESS_32, FFA.SUCCESS_64, FFA.INTERRUPT]
"""What calls return; FFA_ERROR and the like are no requests at the virtual instance."""
UNSUPPORTED = [
    FFA.MSG_POLL, FFA.MSG_SEND, FFA.MSG_WAIT, FFA.MSG_YIELD,
    FFA.MSG_SEND_DIRECT_RESP_32, FFA.MSG_SEND_DIRECT_RESP_64, FFA.MSG_SEND_DIRECT_RESP2,
    FFA.MEM_DONATE_32, FFA.MEM_DONATE_64, FFA.MEM_LEND_32, FFA.MEM_LEND_64,
    FFA.MEM_RETRIEVE_REQ_32, FFA.MEM_RETRIEVE_REQ_64, FFA.MEM_RETRIEVE_RESP, FFA.MEM_RELINQUISH,
    FFA.MEM_OP_PAUSE, FFA.MEM_OP_RESUME, FFA.MEM_FRAG_RX, FFA.MEM_FRAG_TX,
    FFA.NORMAL_WORLD_RESUME, FFA.SECONDARY_EP_REGISTER_32, FFA.SECONDARY_EP_REGISTER_64,
    FFA.MEM_PERM_GET_32, FFA.MEM_PERM_GET_64, FFA.MEM_PERM_SET_32, FFA.MEM_PERM_SET_64,
    FFA.EL3_INTR_HANDLE,
]  # fmt: skip
"""What ffa.c says that it has not, and what is for secure partitions only."""
RESERVED = [
    number | convention
    for number in (0x8400_0060 + n for n in range(FNUM_MAX - FNUM_MIN + 1))
    for convention in (0, 1 << 30)
    if (number | convention) not in list(FFA)
]
"""Numbers in FF-A's range that have no meaning yet, or not in this convention."""


def refused(reply: Reply) -> bool:
    """Whether the call does not exist, as FF-A or as SMCCC says it.

    SMCCC's -1 is for a function of which nobody has heard, FFA_ERROR for FF-A's own (12, Table
    12.1): 4.18 has only the first.
    """
    return reply.unknown or reply.error is FfaError.NOT_SUPPORTED


@pytest.mark.parametrize("fid", [*PHYSICAL, *RESULTS, *UNSUPPORTED], ids=lambda f: f.name)
def test_what_is_not_for_guests_is_not_supported(vm: Vm, spmc: Spmc, fid: FFA) -> None:
    asked = len(spmc.log)
    assert refused(vm.smc(fid, vm.id, 1, 1))
    assert len(spmc.log) == asked, "the SPMC was asked"


@pytest.mark.parametrize("fid", PHYSICAL, ids=lambda f: f.name)
def test_features_agrees_that_it_is_not_for_guests(vm: Vm, fid: FFA) -> None:
    assert refused(vm.smc(FFA.FEATURES, fid))


def test_no_reserved_number_is_served(vm: Vm, spmc: Spmc) -> None:
    asked = len(spmc.log)
    assert [fid for fid in RESERVED if not refused(vm.smc(fid))] == []
    assert len(spmc.log) == asked


def test_nothing_is_held(xen: Machine, vm: Vm) -> None:
    before = footprint(xen)
    for fid in (*RESERVED, *UNSUPPORTED):
        vm.smc(fid, *[(1 << 64) - 1] * 17)
    assert footprint(xen) == before


@pytest.mark.parametrize(
    "fid",
    [
        0x8400_005F,  # before FF-A's range
        0x8400_00F0,  # behind it
        0x0400_0063,  # FFA_VERSION's number as a yielding call
        0x8500_0063,  # another owner
        0x8400_0163,  # bits that must be zero
        0xB200_0063,  # a trusted OS
        0xC400_0063,  # no 64-bit convention
    ],
    ids=hex,
)
def test_what_is_not_ffas_is_unknown(vm: Vm, spmc: Spmc, fid: int) -> None:
    asked = len(spmc.log)
    reply = vm.smc(fid, 0x1_0001)
    assert refused(reply)
    assert len(spmc.log) == asked


def test_the_upper_half_of_the_function_does_not_count(vm: Vm) -> None:
    # SMCCC: a function ID is in w0.
    assert vm.smc(0xDEAD_BEEF_0000_0000 | FFA.ID_GET).w(2) == vm.id


def test_a_32_bit_guest_has_no_64_bit_calls(xen: Machine) -> None:
    # SMCCC, 2.5: the 64-bit convention is for AArch64, whatever the function.
    vm = guest(xen, bits=32)
    wide = [fid for fid in FFA if is_64bit(fid)]
    assert [fid.name for fid in wide if not vm.smc(fid).unknown] == []


def test_a_guest_without_the_mediator_has_no_ffa(xen: Machine) -> None:
    vm = xen.create_vm(tee=False)
    assert [fid.name for fid in FFA if not vm.smc(fid).unknown] == []


@pytest.mark.spmc(version=None)
@pytest.mark.needs(vm_to_vm=False)
def test_without_an_spmc_there_is_no_ffa(xen: Machine) -> None:
    assert not xen.mediator
    vm = xen.create_vm(tee=False)
    assert [fid.name for fid in FFA if not vm.smc(fid).unknown] == []


@SERVES_WITHOUT_VERSION.mark
def test_before_version_negotiation_nothing_is_supported(xen: Machine) -> None:
    vm = xen.create_vm()
    served = [fid for fid in FFA if fid is not FFA.VERSION and not refused(vm.smc(fid))]
    assert served == []


def test_the_rest_is_served(xen: Machine) -> None:
    # A guard for this file: if nothing were served, nothing above would mean anything.
    assert {FFA.VERSION, FFA.ID_GET, FFA.RX_RELEASE, FFA.MEM_SHARE_32} <= handled(xen)
