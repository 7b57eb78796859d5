# SPDX-License-Identifier: GPL-2.0-only
"""ACS memory: cases of Arm's FF-A ACS, by their identifiers (see docs/acs.md)."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ffashim import FFA, FfaError, Machine, P2m, Spmc, Vm
from ffashim.defects.memory import DROPS_TAG, IGNORES_SHARE_FLAG, TAKES_MORE_THAN_TX
from ffashim.descriptors import MemoryTransaction
from ffashim.ffa import (
    MEM_ATTR_DEVICE,
    MEM_ATTR_NORMAL_WB_ISH,
    MEM_ATTR_NS,
    MEM_FLAG_CLEAR,
    MEM_PERM_NX,
    MEM_PERM_RO,
    MEM_PERM_RW,
)
from ffashim.memory import PAGE
from ffashim.traffic import (
    NO_SP,
    SP,
    guest,
    handle_of,
    reclaim,
    region,
    share,
    transaction,
    version_of,
)

Change = Callable[[MemoryTransaction], MemoryTransaction]
SHARES = [FFA.MEM_SHARE_32, FFA.MEM_SHARE_64]
both = pytest.mark.parametrize("fid", SHARES, ids=lambda fid: fid.name)


@pytest.fixture
def vm(vm: Vm) -> Vm:
    """A guest with RX/TX buffers."""
    vm.map_rxtx()
    return vm


@both
def test_ffa_mem_share(vm: Vm, spmc: Spmc, fid: FFA) -> None:
    page = vm.memory.allocate()
    reply = share(vm, transaction(vm, (page, 1)), fid)
    handle = handle_of(reply)
    assert not any(reply[4:8])
    vm.tx.write(bytes(PAGE))  # what comes of it is no longer the guest's
    spmc.memory.retrieve(SP, handle)
    (where,) = spmc.memory.shares[handle].ranges
    for value in (1, 2):
        spmc.host.write(where.base, bytes([value]) * PAGE)
        assert vm.memory.read(page, PAGE) == bytes([value]) * PAGE
    spmc.memory.relinquish(SP, handle)
    assert reclaim(vm, handle).ok
    assert vm.memory.read(page, PAGE) == bytes([2]) * PAGE


@DROPS_TAG.mark
@both
def test_share_invalid_handle_tag(vm: Vm, spmc: Spmc, fid: FFA) -> None:
    # The relayer compares the receiver's tag with the sender's: it has to know that one.
    handle = handle_of(share(vm, transaction(vm, tag=0x1122_3344), fid))
    assert spmc.memory.shares[handle].tag == 0x1122_3344
    assert reclaim(vm, handle).ok


@both
def test_share_state_machine_5(vm: Vm, spmc: Spmc, fid: FFA) -> None:
    pages = vm.memory.allocate(2)
    handle = handle_of(share(vm, transaction(vm, (pages, 2)), fid))
    spmc.memory.retrieve(SP, handle)
    for part in ((pages, 2), (pages + PAGE, 1)):
        assert share(vm, transaction(vm, part, receiver=0x8002), fid).error
    spmc.memory.relinquish(SP, handle)
    assert reclaim(vm, handle).ok


def test_share_lower_upper_boundary_32_vmsp(vm: Vm, spmc: Spmc) -> None:
    boundary(vm, spmc, FFA.MEM_SHARE_32)


def test_share_lower_upper_boundary_64_vmsp(vm: Vm, spmc: Spmc) -> None:
    boundary(vm, spmc, FFA.MEM_SHARE_64)


def boundary(vm: Vm, spmc: Spmc, fid: FFA) -> None:
    """Of three pages the second is shared, and no byte before it or behind."""
    pages = vm.memory.allocate(3)
    vm.memory.write(pages, bytes([1]) * PAGE + bytes([2]) * PAGE + bytes([3]) * PAGE)
    handle = handle_of(share(vm, transaction(vm, (pages + PAGE, 1)), fid))
    spmc.memory.retrieve(SP, handle)
    assert spmc.memory.read(handle) == bytes([2]) * PAGE


def refuses_read_only(machine: Machine) -> bool:
    vm = guest(machine)
    what = transaction(vm, permissions=MEM_PERM_RO)
    return share(vm, what).error is FfaError.NOT_SUPPORTED


READ_ONLY = pytest.mark.known_defect(
    refuses_read_only, "memory cannot be shared read-only, a limit that ffa.c does not list"
)


@READ_ONLY
def test_share_ro_retrieve_rw_32_vmsp(vm: Vm, spmc: Spmc) -> None:
    read_only(vm, spmc, FFA.MEM_SHARE_32)


@READ_ONLY
def test_share_ro_retrieve_rw_64_vmsp(vm: Vm, spmc: Spmc) -> None:
    read_only(vm, spmc, FFA.MEM_SHARE_64)


def read_only(vm: Vm, spmc: Spmc, fid: FFA) -> None:
    """The SPMC is told, and would refuse a borrower that wants to write."""
    handle = handle_of(share(vm, transaction(vm, permissions=MEM_PERM_RO), fid))
    assert spmc.memory.shares[handle].borrowers == ((SP, MEM_PERM_RO),)


# --- input errors ------------------------------------------------------------------------------


def borrower(**fields: Any) -> Change:
    return lambda t: replace(t, receivers=(replace(t.receivers[0], **fields),))


# The suite wants one of several errors that are all true, and Xen has another one.


def another_error(change: Change, error: FfaError) -> Callable[[Machine], bool]:
    """Make a probe: is a bent description refused with another error than this one?"""

    def probe(machine: Machine) -> bool:
        vm = guest(machine)
        reply = share(vm, change(transaction(vm)))
        return reply.error not in (None, error)

    return probe


def to_oneself(t: MemoryTransaction) -> MemoryTransaction:
    return borrower(endpoint=t.sender)(t)


def unexecutable(t: MemoryTransaction) -> MemoryTransaction:
    return borrower(permissions=MEM_PERM_RW | MEM_PERM_NX)(t)


def of_another(t: MemoryTransaction) -> MemoryTransaction:
    return replace(t, sender=SP)


def of_ns_memory(t: MemoryTransaction) -> MemoryTransaction:
    return replace(t, attributes=MEM_ATTR_NORMAL_WB_ISH | MEM_ATTR_NS)


def denies_what_is_too_long(machine: Machine) -> bool:
    return guest(machine).smc(FFA.MEM_SHARE_64, PAGE + 1, PAGE + 1).error is FfaError.DENIED


def refusal(vm: Vm, spmc: Spmc, fid: FFA, change: Change) -> FfaError | None:
    """Share a bent description of two pages; see that nothing is shared, and return why."""
    pages = vm.memory.allocate(2)
    what = transaction(vm, (pages, 1), (pages + PAGE, 1))
    reply = share(vm, change(what), fid)
    assert not spmc.memory.shares
    return reply.error


@both
def test_share_input_error_checks__receiver_id(vm: Vm, spmc: Spmc, fid: FFA) -> None:
    why = refusal(vm, spmc, fid, borrower(endpoint=NO_SP))
    assert why is FfaError.INVALID_PARAMETERS


@pytest.mark.known_defect(
    another_error(to_oneself, FfaError.INVALID_PARAMETERS),
    "NOT_SUPPORTED for a share with oneself, where FF-A ACS wants INVALID_PARAMETERS",
)
@both
def test_share_input_error_checks__to_oneself(vm: Vm, spmc: Spmc, fid: FFA) -> None:
    assert refusal(vm, spmc, fid, to_oneself) is FfaError.INVALID_PARAMETERS


@IGNORES_SHARE_FLAG[MEM_FLAG_CLEAR].mark
@both
def test_share_input_error_checks__zero_flag(vm: Vm, spmc: Spmc, fid: FFA) -> None:
    why = refusal(vm, spmc, fid, lambda t: replace(t, flags=MEM_FLAG_CLEAR))
    assert why is FfaError.INVALID_PARAMETERS


@pytest.mark.known_defect(
    another_error(unexecutable, FfaError.INVALID_PARAMETERS),
    "NOT_SUPPORTED for a lender that names instruction access, where FF-A ACS wants"
    " INVALID_PARAMETERS",
)
@both
def test_share_input_error_checks__instruction_permission(vm: Vm, spmc: Spmc, fid: FFA) -> None:
    assert refusal(vm, spmc, fid, unexecutable) is FfaError.INVALID_PARAMETERS


@both
def test_share_input_error_checks__mmio(vm: Vm, spmc: Spmc, fid: FFA) -> None:
    assert refusal(vm, spmc, fid, lambda t: replace(t, attributes=MEM_ATTR_DEVICE))


@both
def test_share_input_error_checks1__total_page_count(vm: Vm, spmc: Spmc, fid: FFA) -> None:
    def change(t: MemoryTransaction) -> MemoryTransaction:
        assert t.composite is not None
        return replace(t, composite=replace(t.composite, total_pages=5))

    assert refusal(vm, spmc, fid, change)


@both
def test_share_input_error_checks1__overlap(vm: Vm, spmc: Spmc, fid: FFA) -> None:
    page = vm.memory.allocate()
    assert refusal(vm, spmc, fid, lambda t: replace(t, composite=region((page, 1), (page, 1))))


@pytest.mark.known_defect(
    another_error(of_another, FfaError.DENIED),
    "INVALID_PARAMETERS for another sender than the caller, where FF-A ACS wants DENIED",
)
@both
def test_share_input_error_checks1__sender_id(vm: Vm, spmc: Spmc, fid: FFA) -> None:
    assert refusal(vm, spmc, fid, of_another) is FfaError.DENIED


@pytest.mark.known_defect(
    denies_what_is_too_long,
    "DENIED for a descriptor longer than TX, where FF-A ACS wants INVALID_PARAMETERS",
)
@TAKES_MORE_THAN_TX.mark
@both
def test_share_input_error_checks1__total_length(vm: Vm, spmc: Spmc, fid: FFA) -> None:
    data = transaction(vm).encode(version_of(vm))
    vm.tx.write(data)
    assert vm.smc(fid, PAGE + 1, PAGE + 1).error is FfaError.INVALID_PARAMETERS
    assert not spmc.memory.shares


@both
def test_share_input_error_checks1__endpoint_count(vm: Vm, spmc: Spmc, fid: FFA) -> None:
    assert refusal(vm, spmc, fid, lambda t: replace(t, access_count=0))


@both
def test_share_input_error_checks1__composite_offset(vm: Vm, spmc: Spmc, fid: FFA) -> None:
    assert refusal(vm, spmc, fid, borrower(composite_offset=0))


@both
def test_share_input_error_checks2(vm: Vm, spmc: Spmc, fid: FFA) -> None:
    page = vm.memory.allocate()
    vm.memory.set_type(page, P2m.RAM_RO)
    why = refusal(vm, spmc, fid, lambda t: replace(t, composite=region((page, 1))))
    assert why is FfaError.DENIED


@pytest.mark.known_defect(
    another_error(of_ns_memory, FfaError.INVALID_PARAMETERS),
    "NOT_SUPPORTED for memory that the lender calls non-secure, where FF-A ACS wants"
    " INVALID_PARAMETERS",
)
def test_mem_security_state_ns_bit_share_invalid(vm: Vm, spmc: Spmc) -> None:
    why = refusal(vm, spmc, FFA.MEM_SHARE_32, of_ns_memory)
    assert why is FfaError.INVALID_PARAMETERS


# --- reclaim, permissions ----------------------------------------------------------------------


@both
def test_reclaim_input_error_checks(vm: Vm, spmc: Spmc, fid: FFA) -> None:
    page = vm.memory.allocate()
    vm.memory.write(page, bytes([7]) * PAGE)
    handle = handle_of(share(vm, transaction(vm, (page, 1)), fid))
    assert reclaim(vm, handle + (0x10 << 32)).error is FfaError.INVALID_PARAMETERS
    spmc.memory.retrieve(SP, handle)
    assert reclaim(vm, handle).error is FfaError.DENIED
    spmc.memory.relinquish(SP, handle)
    assert reclaim(vm, handle, 1).ok
    assert not any(vm.memory.read(page, PAGE))


@pytest.mark.parametrize("fid", [FFA.MEM_PERM_GET_32, FFA.MEM_PERM_GET_64])
def test_ffa_mem_perm_get(vm: Vm, fid: FFA) -> None:
    assert not_for_guests(vm, fid, vm.memory.allocate(), 1)


@pytest.mark.parametrize("fid", [FFA.MEM_PERM_SET_32, FFA.MEM_PERM_SET_64])
def test_ffa_mem_perm_set(vm: Vm, fid: FFA) -> None:
    assert not_for_guests(vm, fid, vm.memory.allocate(), 1, 0x7)


def not_for_guests(vm: Vm, fid: FFA, *args: int) -> bool:
    """Whether a call is refused, as one that only a partition in S-EL0 may make."""
    # What Xen has never heard of is no FF-A to it: SMCCC's own NOT_SUPPORTED.
    reply = vm.smc(fid, *args)
    return reply.unknown or reply.error is FfaError.NOT_SUPPORTED
