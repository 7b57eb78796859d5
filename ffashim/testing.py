# SPDX-License-Identifier: GPL-2.0-only
"""What tests of several ABIs have in common, beyond what a guest does all day (see `Vm`)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar
from uuid import UUID

import pytest

from ffashim.defaults import default_spmc
from ffashim.descriptors import (
    DescriptorError,
    PartitionInfo,
    PartitionInfoRegs,
    decode_partition_infos,
)
from ffashim.faults import XenDeadlock, XenFault
from ffashim.ffa import FFA, ID_SECURE, V1_2, PartitionProperty
from ffashim.machine import Machine, Point
from ffashim.reply import Reply
from ffashim.spmc import SecurePartition, Spmc
from ffashim.vm import Call, UnexpectedReply, Vm

# --- partitions --------------------------------------------------------------------------------


def secure_partitions(count: int) -> list[SecurePartition]:
    """Return partitions that differ in every field of their descriptors."""
    return [
        SecurePartition(0x8001 + n, [UUID(int=(n + 1) << 64 | n + 77)], 0x101 + (n % 3), n + 1)
        for n in range(count)
    ]


def boot_with(machine: Machine, partitions: Iterable[SecurePartition], **options: Any) -> Spmc:
    """Boot on an SPMC of the version that the tree works with, and these partitions."""
    options.setdefault("version", default_spmc(machine.extension).version)
    world = Spmc(partitions=partitions, **options)
    machine.boot(world)
    return world


def boot_without(machine: Machine, *fids: int) -> Spmc:
    """Boot on the default secure world without some functions, or skip the test.

    Some trees use no SPMC that does not have all they know of.
    """
    whole = default_spmc(machine.extension)
    world = Spmc(whole.version, whole.state.partitions, features_off=fids)
    machine.boot(world)
    if not machine.mediator:
        names = ", ".join(f"FFA_{FFA(fid).name}" for fid in fids)
        pytest.skip(f"this tree uses no SPMC without {names}")
    return world


def populate(machine: Machine, partitions: int, guests: int) -> Vm:
    """Boot with so many secure partitions, and create so many guests. Returns the last one.

    It is of the highest version and has room for buffers; the others are of 1.1 and have none.
    """
    boot_with(machine, secure_partitions(partitions))
    for _ in range(guests - 1):
        machine.create_vm("1.1", ram_pages=1)
    return machine.create_vm("1.2", ram_pages=4)


def described(vm: Vm) -> PartitionInfo:
    """Return what other endpoints are told of a guest.

    It has no UUID; it sends direct messages, and receives none.
    """
    properties = (
        PartitionProperty.DIRECT_REQ_SEND
        | PartitionProperty.INDIRECT_MSGS
        | PartitionProperty.RECV_NOTIF
    )
    if vm.bits == 64:
        properties |= PartitionProperty.AARCH64_STATE
    return PartitionInfo(vm.id, len(vm.vcpus), int(properties))


def visible_to(vm: Vm) -> list[PartitionInfo]:
    """Return what a guest may learn of with the Nil UUID, in order: every UUID of every secure
    partition, itself if it is of 1.2, and with VM to VM the other guests that speak FF-A.

    Xen leaves the caller out below 1.2, as Linux did not expect to find itself in the list then.
    """
    machine = vm.machine
    found = [
        PartitionInfo.decode(descriptor)
        for partition in machine.spmc.state.partitions
        for descriptor in partition.descriptors.values()
        if partition.id & ID_SECURE
    ]
    if vm.version is not None and vm.version >= V1_2:
        found.append(described(vm))
    if machine.extension.enabled("FFA_VM_TO_VM"):
        others = [each for each in machine.vms.values() if each is not vm and each.version]
        found += map(described, others)
    return found


def listed(vm: Vm, uuid: UUID | None = None) -> list[PartitionInfo]:
    """Return what FFA_PARTITION_INFO_GET puts into a guest's RX buffer, and release it."""
    reply = vm.partition_info_get(uuid)
    if not reply.ok:
        raise UnexpectedReply("FFA_PARTITION_INFO_GET", reply)
    found = decode_partition_infos(vm.rx.read(), reply.w(2), reply.w(3))
    vm.smc(FFA.RX_RELEASE)
    return found


def walked(vm: Vm, uuid: UUID | None = None) -> list[PartitionInfo]:
    """Return what FFA_PARTITION_INFO_GET_REGS tells, index by index, echoing the tag as Linux does.

    Raises DescriptorError if a window is not one (R7).
    """
    found: list[PartitionInfo] = []
    tag = 0
    while True:
        start = len(found)
        window = PartitionInfoRegs.decode(vm.partition_info_get_regs(uuid, start, tag), start)
        if not start <= window.current <= window.last:
            raise DescriptorError(f"indices {start} to {window.current} of {window.last}")
        found += window.partitions
        tag = window.tag
        if window.current == window.last:
            return found


# --- interleavings -----------------------------------------------------------------------------

T = TypeVar("T")
U = TypeVar("U")


def at_each_point(
    machine: Machine, call: Callable[[], T], intrude: Callable[[], U]
) -> Iterator[tuple[T, U]]:
    """Make a call again and again, each time with another one in its middle: at its first switch
    point, then at its second, and so on. Yields both results; the machine stands as it was before.
    """
    start = machine.snapshot()
    for wanted in itertools.count():
        machine.restore(start)
        results: list[U] = []

        def reached(_point: Point, results: list[U] = results) -> None:
            results.append(intrude())

        with machine.at_points(reached, only=wanted):
            answer = call()
        if not results:
            machine.restore(start)
            return
        yield answer, results[0]


def lock_up(calls: Iterable[Call]) -> bool:
    """Run calls that have been started to their ends. Tell whether they deadlock.

    What else may go wrong then is not looked at.
    """
    try:
        for call in calls:
            call.reply()
    except XenDeadlock:
        return True
    except XenFault:
        pass
    return False


def while_a_guest_enters(machine: Machine) -> tuple[Reply, list[Reply]]:
    """What FFA_PARTITION_INFO_GET_REGS answers a guest's second vCPU once the first has made the
    version final, and what at each point of the call that does so.
    """
    boot_with(machine, secure_partitions(2))
    machine.create_vm("1.2")
    vm = machine.create_vm(vcpus=2)
    vm.smc(FFA.VERSION, 0x1_0002)

    def enter() -> Reply:
        return vm.smc(FFA.ID_GET)

    def ask() -> Reply:
        return vm.vcpus[1].smc(FFA.PARTITION_INFO_GET_REGS)

    found = [reply for _, reply in at_each_point(machine, enter, ask)]
    enter()
    return ask(), found
