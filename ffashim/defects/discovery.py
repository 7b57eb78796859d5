# SPDX-License-Identifier: GPL-2.0-only
"""Defects of FFA_PARTITION_INFO_GET and FFA_PARTITION_INFO_GET_REGS."""

from __future__ import annotations

from uuid import UUID

from ffashim.defaults import MAILBOX
from ffashim.defects import Defect
from ffashim.descriptors import decode_partition_infos
from ffashim.ffa import FFA, PARTITION_INFO_COUNT_ONLY, V1_0, V1_1, FfaError, Version
from ffashim.machine import DomainError, Machine
from ffashim.spmc import SecurePartition, Spmc
from ffashim.testing import at_each_point, boot_with, described, populate, secure_partitions
from ffashim.vm import Vm


def _guest(machine: Machine, version: Version = V1_1) -> Vm:
    vm = machine.create_vm(str(version))
    vm.map_rxtx()
    return vm


# --- who comes and goes meanwhile ---------------------------------------------------------------


def _sees_half_a_change(machine: Machine) -> bool:
    caller, other = populate(machine, 5, 2), machine.create_vm("1.1")
    ask = caller.partition_info_get_regs
    start, before = machine.snapshot(), ask()
    other.destroy()
    after = ask()
    machine.restore(start)
    return any(
        seen not in (before, after) and seen.error is not FfaError.RETRY
        for _, seen in at_each_point(machine, other.destroy, ask)
    )


SEES_HALF_A_CHANGE = Defect(
    "count and tag are read without the lock: a new count comes with the old tag",
    _sees_half_a_change,
)


# --- the answer ----------------------------------------------------------------------------------

TELLS_NO_SIZE = Defect(
    "w3 does not tell the size of a descriptor: a caller cannot read its RX buffer",
    lambda machine: _guest(machine).partition_info_get().w(3) == 0,
)

TELLS_1_0_A_SIZE = Defect(
    "w3 is not zero for a guest of 1.0",
    lambda machine: _guest(machine, V1_0).partition_info_get().w(3) != 0,
)

COUNT_HAS_A_SIZE = Defect(
    "w3 is not zero where only a count is asked",
    lambda machine: _guest(machine).partition_info_get(flags=PARTITION_INFO_COUNT_ONLY).w(3) != 0,
)


def _denies_where_busy(machine: Machine) -> bool:
    vm = _guest(machine)
    vm.partition_info_get()
    return vm.partition_info_get().error is FfaError.DENIED


DENIES_WHERE_BUSY = Defect(
    "DENIED, not BUSY, while the guest owns its RX buffer", _denies_where_busy
)

READS_UPPER_HALVES = Defect(
    "upper halves of registers, which SMC32 has no use for, are not ignored",
    lambda machine: not _guest(machine).smc(FFA.PARTITION_INFO_GET, *[0xDEAD << 32] * 7).ok,
)


# --- who is listed -------------------------------------------------------------------------------


def _tells_no_64_bit_state(machine: Machine) -> bool:
    if not machine.extension.enabled("FFA_VM_TO_VM"):
        return False
    vm, other = _guest(machine), machine.create_vm("1.1")
    count = vm.partition_info_get().w(2)
    # Of 24 bytes each, also where a tree does not tell.
    return described(other) not in decode_partition_infos(vm.rx.read(), count, 24)


TELLS_NO_64_BIT_STATE = Defect(
    "a 64-bit guest is described as one in AArch32 state", _tells_no_64_bit_state
)


def _adds_guests_to_a_uuid(machine: Machine) -> bool:
    machine.create_vm("1.1")
    return _guest(machine).partition_info_get(MAILBOX).w(2) != 1


ADDS_GUESTS_TO_A_UUID = Defect(
    "guests, which have no UUID, are listed and counted for any UUID", _adds_guests_to_a_uuid
)


def _finds_nobody_with_success(machine: Machine) -> bool:
    if not machine.extension.enabled("FFA_VM_TO_VM"):
        return False  # it has no FF-A then
    machine.boot(Spmc(None))
    return machine.create_vm("1.1").partition_info_get(UUID(int=77), PARTITION_INFO_COUNT_ONLY).ok


FINDS_NOBODY_WITH_SUCCESS = Defect(
    "without an SPMC an unknown UUID is found, zero times", _finds_nobody_with_success
)


def _loses_guests(machine: Machine) -> bool:
    if not machine.extension.enabled("FFA_VM_TO_VM"):
        return False
    vm = populate(machine, 0, 6)
    return vm.partition_info_get_regs().error is FfaError.INVALID_PARAMETERS


LOSES_GUESTS = Defect(
    "guests do not count once another one is left over: INVALID_PARAMETERS for six", _loses_guests
)


# --- the SPMC's list -----------------------------------------------------------------------------


def _drops_64_partitions(machine: Machine) -> bool:
    boot_with(machine, secure_partitions(64))
    try:
        vm = machine.create_vm("1.1")
    except DomainError:  # no firmware, hence no FF-A
        return True
    return vm.smc(FFA.PARTITION_INFO_GET, x5=PARTITION_INFO_COUNT_ONLY).w(2) < 64


DROPS_64_PARTITIONS = Defect(
    "64 partitions, the maximum by its own words, and Xen has no firmware", _drops_64_partitions
)

_STRIDE = "takes the SPMC's descriptors for 24 bytes each"


def _strides_at_boot(machine: Machine) -> bool:
    both = [SecurePartition(0x8001), SecurePartition(0x8002)]  # they want to be told of guests
    world = boot_with(machine, both, descriptor_size=32)
    vm = machine.create_vm()
    return (0x8002, vm.id) not in world.state.created


def _strides_in_lists(machine: Machine) -> bool:
    boot_with(machine, secure_partitions(2), descriptor_size=32)
    vm = _guest(machine)
    count = vm.partition_info_get().w(2)
    return decode_partition_infos(vm.rx.read(), count, 24)[1].id != 0x8002


STRIDES_AT_BOOT = Defect(_STRIDE, _strides_at_boot)
STRIDES_IN_LISTS = Defect(_STRIDE, _strides_in_lists)
