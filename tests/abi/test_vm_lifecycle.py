# SPDX-License-Identifier: GPL-2.0-only
"""The life of a guest: partitions are told of it, and nothing is left of it (FF-A 1.2, 18.3)."""

import pytest

from ffashim import FFA, DomainError, FfaError, Machine, SecurePartition, Spmc, Vm
from ffashim.defects.lifecycle import (
    BARS_GUESTS,
    FORGETS_FAILED_VM,
    FREES_WHAT_THE_TIMER_NEEDS,
    GIVES_UP_ON_RETRY,
    NEVER_RUNS_AGAIN,
)
from ffashim.defects.memory import KEEPS_SHARES
from ffashim.defects.notifications import KEEPS_BITMAP
from ffashim.ffa import MSG_FLAG_FRAMEWORK, FrameworkMessage, PartitionProperty
from ffashim.spmc import script
from ffashim.spmc.replies import Regs
from ffashim.testing import boot_with, boot_without
from ffashim.traffic import (
    SP,
    Footprint,
    bind,
    direct,
    footprint,
    guest,
    share,
    transaction,
)

CREATED, DESTROYED = FrameworkMessage.VM_CREATED, FrameworkMessage.VM_DESTROYED
BITS = 1 << 32 | 1
TOLD = PartitionProperty.NOTIF_CREATED | PartitionProperty.NOTIF_DESTROYED


def told(spmc: Spmc, kind: FrameworkMessage) -> list[tuple[int, int]]:
    """(partition, VM) of each message of this kind, in order."""
    return [
        (smc.x1 & 0xFFFF, smc.x5)
        for smc in spmc.calls(FFA.MSG_SEND_DIRECT_REQ_32)
        if smc.x2 == MSG_FLAG_FRAMEWORK | kind
    ]


def on(spmc: Spmc, kind: FrameworkMessage, sp: int = 0) -> script.On:
    """A rule for the messages of this kind, to one partition or all."""
    rule = spmc.on(FFA.MSG_SEND_DIRECT_REQ_32).framework(kind)
    return rule.when(lambda x: x[1] == sp) if sp else rule


def busy(xen: Machine) -> Vm:
    """A guest that has everything a guest can have: buffers, memory shared, notifications."""
    vm = guest(xen)
    assert share(vm, transaction(vm, (vm.memory.allocate(3), 3))).ok
    assert vm.partition_info_get().ok
    bind(vm, BITS)
    return vm


# --- being told --------------------------------------------------------------------------------


@pytest.mark.spmc(partitions=[SecurePartition(0x8001 + n, properties=n << 6) for n in range(4)])
def test_partitions_are_told_what_they_subscribed_to(xen: Machine, spmc: Spmc) -> None:
    # Bit 6 of the properties: of VMs created; bit 7: of VMs destroyed (Table 13.37).
    xen.create_vm(domid=9).destroy()
    assert told(spmc, CREATED) == [(0x8002, 10), (0x8004, 10)]
    assert told(spmc, DESTROYED) == [(0x8003, 10), (0x8004, 10)]


def test_they_are_told_before_the_guest_runs(xen: Machine, spmc: Spmc) -> None:
    assert not told(spmc, CREATED)
    xen.create_vm()
    assert told(spmc, CREATED)


def test_a_guest_without_the_mediator_is_nobodys_business(xen: Machine, spmc: Spmc) -> None:
    asked = len(spmc.log)
    xen.create_vm(tee=False).destroy()
    assert len(spmc.log) == asked


@pytest.mark.spmc(partitions=[])
def test_there_may_be_no_partition(xen: Machine) -> None:
    guest(xen).destroy()


TWO_SERVICES = SecurePartition(0x8001, ["0" * 31 + "1", "0" * 31 + "2"], properties=TOLD)


def tells_each_uuid(machine: Machine) -> bool:
    world = boot_with(machine, [TWO_SERVICES])
    machine.create_vm(domid=1)
    return len(told(world, CREATED)) == 2


@pytest.mark.known_defect(tells_each_uuid, "tells an SP once for each of its UUIDs")
@pytest.mark.spmc(partitions=[TWO_SERVICES])
def test_a_partition_of_two_services_is_told_once(xen: Machine, spmc: Spmc) -> None:
    xen.create_vm(domid=1).destroy()
    assert told(spmc, CREATED) == [(0x8001, 2)]
    assert told(spmc, DESTROYED) == [(0x8001, 2)]


@pytest.mark.parametrize("status", [FfaError.RETRY, FfaError.INTERRUPTED])
def test_a_partition_that_is_not_ready_is_asked_again(
    xen: Machine, spmc: Spmc, status: FfaError
) -> None:
    on(spmc, CREATED, SP).status(status, times=3)
    xen.create_vm(domid=1)
    assert told(spmc, CREATED)[:4] == [(SP, 2)] * 4


@BARS_GUESTS.mark
def test_a_guest_comes_though_a_partition_is_at_work_for_another(xen: Machine, spmc: Spmc) -> None:
    # A partition that was preempted takes no other direct message (15.2), nor one of 18.3, until
    # the guest that it works for runs it again: which that guest need never do.
    busy = guest(xen, buffers=False)
    spmc.on(FFA.MSG_SEND_DIRECT_REQ_32).delay(1)
    direct(busy)
    assert (SP, 0) in spmc.state.running
    other = xen.create_vm("1.1")
    assert other.smc(FFA.ID_GET).ok


paused = pytest.mark.parametrize(
    ("times", "pause"),
    [(times, pause) for times in (1, 3) for pause in (FFA.INTERRUPT, FFA.MSG_YIELD)],
)
"""How a partition may leave the CPU before it has answered: whoever has asked runs it again."""


@NEVER_RUNS_AGAIN.mark
@paused
def test_a_guest_comes_though_a_partition_is_preempted_as_it_is_told(
    xen: Machine, spmc: Spmc, times: int, pause: FFA
) -> None:
    # A message of 18.3 is a direct one: an interrupt of the normal world may preempt its receiver
    # (chapter 8), and who has sent it calls FFA_RUN (14.5).
    on(spmc, CREATED, SP).preempt(times, pause)
    vm = xen.create_vm(domid=1)
    assert told(spmc, CREATED).count((SP, vm.id)) == 1
    assert not spmc.state.running


@NEVER_RUNS_AGAIN.mark
@paused
def test_a_partition_that_is_preempted_as_it_is_told_knows_of_the_end(
    xen: Machine, spmc: Spmc, times: int, pause: FFA
) -> None:
    vm = xen.create_vm(domid=1)
    on(spmc, DESTROYED, SP).preempt(times, pause)
    vm.destroy()
    assert not spmc.residue(vm.id)
    assert not spmc.state.running


# --- a domain that cannot be created -----------------------------------------------------------


@pytest.mark.parametrize("status", [FfaError.DENIED, FfaError.NO_MEMORY, FfaError.RETRY])
def test_a_guest_that_a_partition_refuses_is_not_created(
    xen: Machine, spmc: Spmc, status: FfaError
) -> None:
    on(spmc, CREATED, 0x8003).status(status)
    with pytest.raises(DomainError):
        xen.create_vm(domid=1)
    # Those before it in the list have been told, those behind it have not.
    assert {SP, 0x8003} <= {sp for sp, _ in told(spmc, CREATED)} <= {SP, 0x8002, 0x8003}


def test_of_a_guest_that_a_partition_refuses_the_rest_are_not_told(
    xen: Machine, spmc: Spmc
) -> None:
    on(spmc, CREATED, SP).status(FfaError.DENIED)
    with pytest.raises(DomainError):
        xen.create_vm(domid=1)
    assert {sp for sp, _ in told(spmc, CREATED)} == {SP}


@FORGETS_FAILED_VM.mark
@pytest.mark.parametrize("status", [FfaError.DENIED, FfaError.NO_MEMORY, FfaError.RETRY])
def test_a_partition_that_refuses_a_guest(xen: Machine, spmc: Spmc, status: FfaError) -> None:
    before = footprint(xen)
    on(spmc, CREATED, 0x8003).status(status)
    with pytest.raises(DomainError):
        xen.create_vm(domid=1)
    # Who was told of the guest is told that it is gone; who refused it never knew it.
    assert (SP, 2) in told(spmc, DESTROYED)
    assert (0x8003, 2) not in told(spmc, DESTROYED)
    assert (footprint(xen), spmc.residue(2)) == (before, [])


senseless = pytest.mark.parametrize(
    "answer",
    [
        pytest.param((FFA.SUCCESS_32,), id="no response"),
        pytest.param((FFA.MSG_SEND_DIRECT_RESP_32, 0, 0), id="no framework message"),
        pytest.param((FFA.MSG_SEND_DIRECT_RESP_32, 0, 1 << 31 | 7), id="another message's"),
    ],
)


@senseless
def test_a_guest_of_which_a_partition_makes_no_sense_is_not_created(
    xen: Machine, spmc: Spmc, answer: tuple[int, ...]
) -> None:
    on(spmc, CREATED, 0x8003).reply(*answer)
    with pytest.raises(DomainError):
        xen.create_vm(domid=1)


@FORGETS_FAILED_VM.mark
@senseless
def test_a_partition_that_answers_nonsense(
    xen: Machine, spmc: Spmc, answer: tuple[int, ...]
) -> None:
    before = footprint(xen)
    on(spmc, CREATED, 0x8003).reply(*answer)
    with pytest.raises(DomainError):
        xen.create_vm(domid=1)
    assert (footprint(xen), spmc.residue(2)) == (before, [])


@FORGETS_FAILED_VM.mark
def test_creation_that_fails_after_the_mediator_leaves_nothing(xen: Machine, spmc: Spmc) -> None:
    before = footprint(xen)
    with pytest.raises(DomainError):
        xen.create_vm(domid=1, fail_late=True)
    assert (footprint(xen), spmc.residue(2)) == (before, [])


@FORGETS_FAILED_VM.mark
def test_its_id_can_be_used_again(xen: Machine, spmc: Spmc) -> None:
    with pytest.raises(DomainError):
        xen.create_vm(domid=1, fail_late=True)
    assert not spmc.residue(2)
    xen.create_vm(domid=1)


def _without_memory(machine: Machine, start: object, nth: int) -> tuple[bool, Footprint, list[str]]:
    machine.restore(start)
    machine.fail_allocation(nth)
    try:
        machine.create_vm(domid=1)
    except DomainError:
        return True, footprint(machine), machine.spmc.residue(2)
    return False, footprint(machine), []


def test_no_memory_at_any_point_leaves_nothing(xen: Machine) -> None:
    # Allocations come before anybody is told; each of them in turn fails.
    start, clean = xen.snapshot(), footprint(xen)
    for nth in range(1, 9):
        failed, left, residue = _without_memory(xen, start, nth)
        if not failed:
            assert nth > 1
            return
        assert (left, residue) == (clean, [])
    pytest.fail("every allocation of a domain_create() failed, and it went on allocating")


@pytest.mark.needs(abi=FFA.NOTIFICATION_BIND)
def test_a_guest_for_whose_bitmap_the_spmc_has_no_room_is_not_created(
    xen: Machine, spmc: Spmc
) -> None:
    spmc.on(FFA.NOTIFICATION_BITMAP_CREATE).error(FfaError.NO_MEMORY)
    with pytest.raises(DomainError):
        xen.create_vm(domid=1)


@pytest.mark.needs(abi=FFA.NOTIFICATION_BIND)
@FORGETS_FAILED_VM.mark
def test_an_spmc_without_room_for_a_bitmap(xen: Machine, spmc: Spmc) -> None:
    before = footprint(xen)
    spmc.on(FFA.NOTIFICATION_BITMAP_CREATE).error(FfaError.NO_MEMORY)
    with pytest.raises(DomainError):
        xen.create_vm(domid=1)
    assert (footprint(xen), spmc.residue(2)) == (before, [])


def test_the_highest_domain_id_of_a_guest_is_served(xen: Machine) -> None:
    vm = xen.create_vm("1.1", domid=0x7FEF)
    assert vm.smc(FFA.ID_GET).w(2) == 0x7FF0


def test_ids_beyond_those_of_guests_are_refused(xen: Machine, spmc: Spmc) -> None:
    # DOMID_FIRST_RESERVED is 0x7ff0. A tree may leave these to the toolstack, but then all of them.
    refused = [refuses(xen, domid) for domid in (0x7FF0, 0x7FF1, 0x7FF4)]
    assert all(refused) or not any(refused)
    assert refuses(xen, 0x7FFF)
    assert refuses(xen, 0xFFFF)
    assert not told(spmc, CREATED)


def refuses(machine: Machine, domid: int) -> bool:
    start = machine.snapshot()
    try:
        machine.create_vm(domid=domid)
    except DomainError:
        return True
    finally:
        machine.restore(start)
    return False


# --- death -------------------------------------------------------------------------------------


@KEEPS_SHARES.mark
def test_nothing_is_left_of_a_guest(xen: Machine, spmc: Spmc) -> None:
    before = footprint(xen)
    vm = busy(xen)
    assert vm.destroy()
    assert not vm.exists
    assert (footprint(xen), spmc.residue(vm.id)) == (before, [])


@pytest.mark.parametrize("version", [None, "1.0", "1.1"])
def test_a_guest_that_did_little_dies(xen: Machine, spmc: Spmc, version: str | None) -> None:
    before = footprint(xen)
    vm = xen.create_vm(version)
    assert vm.destroy()
    assert (footprint(xen), spmc.residue(vm.id)) == (before, [])


@KEEPS_SHARES.mark
def test_the_other_guest_lives_on(xen: Machine, spmc: Spmc) -> None:
    first, second = busy(xen), busy(xen)
    assert first.destroy()
    assert not spmc.residue(first.id)
    assert [s.sender for s in spmc.memory.shares.values()] == [second.id]
    assert second.smc(FFA.RX_RELEASE).ok
    assert second.partition_info_get().ok
    assert share(second).ok


@KEEPS_SHARES.mark
def test_a_new_guest_of_the_same_id_starts_afresh(xen: Machine, spmc: Spmc) -> None:
    busy(xen).destroy()
    vm = busy(xen)
    assert vm.domid == 1
    assert len(spmc.memory.shares) == 1


@pytest.mark.needs(abi=FFA.NOTIFICATION_BIND)
@KEEPS_BITMAP.mark
def test_a_guest_may_die_with_notifications_pending(xen: Machine, spmc: Spmc) -> None:
    # The SPMC denies the end of a bitmap in which something is pending (17.2, Hafnium).
    vm = guest(xen, buffers=False)
    assert bind(vm, BITS).ok
    spmc.notifications.notify(SP, vm.id, BITS)
    vm.destroy()
    assert not spmc.residue(vm.id)
    assert xen.create_vm(domid=vm.domid)


@pytest.mark.needs(abi=FFA.NOTIFICATION_BIND)
@KEEPS_BITMAP.mark
def test_a_guest_may_die_while_a_partition_goes_on_notifying(xen: Machine, spmc: Spmc) -> None:
    vm = guest(xen, buffers=False)
    assert bind(vm, BITS).ok

    def notify(_x: Regs) -> None:
        spmc.notifications.notify(SP, vm.id, BITS, delay=True)

    spmc.on(FFA.NOTIFICATION_BITMAP_DESTROY).call(notify, times=3)
    vm.destroy()
    assert not spmc.residue(vm.id)


def test_a_dead_guest_is_not_interrupted(xen: Machine, spmc: Spmc) -> None:
    vm = guest(xen, buffers=False)
    vm.destroy()
    spmc.on(FFA.NOTIFICATION_INFO_GET_64).reply(FFA.SUCCESS_64, 0, 1 << 7, vm.id, times=1)
    xen.raise_irq(spmc.sri)
    assert not xen.virqs


# --- a secure world that is not ready ----------------------------------------------------------


@GIVES_UP_ON_RETRY.mark
@pytest.mark.parametrize("status", [FfaError.RETRY, FfaError.INTERRUPTED])
def test_a_guest_stays_until_an_sp_that_is_not_ready_has_been_told(
    xen: Machine, spmc: Spmc, status: FfaError
) -> None:
    start = xen.snapshot()
    vm = xen.create_vm("1.1")
    on(spmc, DESTROYED, SP).status(status)
    vm.destroy()
    assert told(spmc, DESTROYED).count((SP, vm.id)) > 1
    assert told(spmc, DESTROYED).count((0x8004, vm.id)) == 1  # another one, which was ready
    assert xen.timers == 1
    xen.restore(start)  # how it goes on is the next test's question


@GIVES_UP_ON_RETRY.mark
@FREES_WHAT_THE_TIMER_NEEDS.mark
@pytest.mark.parametrize("status", [FfaError.RETRY, FfaError.INTERRUPTED])
def test_an_sp_that_is_not_ready_is_told_later(xen: Machine, spmc: Spmc, status: FfaError) -> None:
    # The hypervisor must send the message again (18.3). Xen: eleven times, then each second.
    before = footprint(xen)
    vm = xen.create_vm("1.1")
    on(spmc, DESTROYED, SP).status(status, times=25)
    vm.destroy()
    assert spmc.residue(vm.id) == [f"SP {SP:#06x} was not told that VM {vm.id} is destroyed"]
    xen.advance(3.5)
    assert (footprint(xen), spmc.residue(vm.id)) == (before, [])
    assert not vm.exists


@GIVES_UP_ON_RETRY.mark
@FREES_WHAT_THE_TIMER_NEEDS.mark
def test_two_guests_wait_for_an_sp(xen: Machine, spmc: Spmc) -> None:
    before = footprint(xen)
    vms = [xen.create_vm("1.1") for _ in range(2)]
    on(spmc, DESTROYED, SP).status(FfaError.RETRY, times=40)
    for vm in vms:
        vm.destroy()
    xen.advance(10)
    assert [spmc.residue(vm.id) for vm in vms] == [[], []]
    assert footprint(xen) == before


@GIVES_UP_ON_RETRY.mark
@FREES_WHAT_THE_TIMER_NEEDS.mark
def test_guests_come_and_go_while_one_waits(xen: Machine, spmc: Spmc) -> None:
    waiting = xen.create_vm("1.1")
    on(spmc, DESTROYED, SP).when(lambda x: x[5] == waiting.id).status(FfaError.RETRY, times=15)
    waiting.destroy()
    other = xen.create_vm("1.1", domid=50)
    xen.advance(1.5)
    other.destroy()
    assert not spmc.residue(waiting.id)
    assert not spmc.residue(other.id)


def test_an_sp_that_fails_for_good_is_left_alone(xen: Machine, spmc: Spmc) -> None:
    before = footprint(xen)
    vm = xen.create_vm("1.1")
    on(spmc, DESTROYED, SP).status(FfaError.DENIED)
    assert vm.destroy()
    assert told(spmc, DESTROYED).count((SP, vm.id)) == 1
    assert footprint(xen) == before


def test_guests_that_an_sp_has_no_use_for_all_die(xen: Machine, spmc: Spmc) -> None:
    # Xen tells its console of the first few only.
    on(spmc, DESTROYED, SP).status(FfaError.DENIED)
    assert all(xen.create_vm(domid=n).destroy() for n in range(1, 31))


@KEEPS_SHARES.mark
def test_memory_that_an_sp_still_maps_is_reclaimed_later(xen: Machine, spmc: Spmc) -> None:
    before = footprint(xen)
    vm = guest(xen)
    assert share(vm).ok
    (handle,) = spmc.memory.shares
    spmc.memory.retrieve(SP, handle)
    assert not vm.destroy()
    assert [vm.exists] == [True]
    xen.advance(2.5)
    assert list(spmc.memory.shares) == [handle]
    spmc.memory.relinquish(SP, handle)
    xen.advance(1)
    assert not spmc.memory.shares
    assert [vm.exists] == [False]
    assert footprint(xen) == before


@KEEPS_SHARES.mark
def test_two_guests_wait_for_their_memory(xen: Machine, spmc: Spmc) -> None:
    before = footprint(xen)
    vms = [guest(xen), guest(xen)]
    for vm in vms:
        assert share(vm).ok
        assert share(vm).ok
    for handle in list(spmc.memory.shares):
        spmc.memory.retrieve(SP, handle)
    assert [vm.destroy() for vm in vms] == [False, False]
    first, *rest = spmc.memory.shares
    spmc.memory.relinquish(SP, first)
    xen.advance(5)
    assert list(spmc.memory.shares) == rest
    assert [vm.exists for vm in vms] == [True, True]
    for handle in rest:
        spmc.memory.relinquish(SP, handle)
    xen.advance(5)
    assert [vm.exists for vm in vms] == [False, False]
    assert footprint(xen) == before


def retries_for_ever(machine: Machine) -> bool:
    if KEEPS_SHARES.probe(machine):
        return False
    machine.spmc.on(FFA.MEM_RECLAIM).error(FfaError.ABORTED)
    vm = guest(machine)
    share(vm)
    vm.destroy()
    return machine.advance(20) > 5


@pytest.mark.known_defect(
    retries_for_ever, "looks for ever, each second, for memory that it has given up"
)
def test_memory_that_is_lost_for_good_is_given_up(xen: Machine, spmc: Spmc) -> None:
    # The domain stays, as its pages do; there is nothing to be done about it any more.
    vm = guest(xen)
    assert share(vm).ok
    spmc.on(FFA.MEM_RECLAIM).error(FfaError.ABORTED)
    vm.destroy()
    assert vm.exists
    assert xen.advance(20) <= 1
    assert xen.timers == 0


def test_memory_that_the_spmc_cannot_give_back_outlives_its_owner(xen: Machine) -> None:
    # An SP may have it mapped for ever: it must not become another guest's.
    spmc = boot_without(xen, FFA.MEM_RECLAIM)
    vm = guest(xen)
    assert share(vm).ok
    assert not vm.destroy()
    assert vm.exists
    assert not spmc.calls(FFA.MEM_RECLAIM), "what the SPMC does not report it is not asked for"


def test_buffers_that_the_spmc_keeps_do_not_stop_it(xen: Machine, spmc: Spmc) -> None:
    vm = guest(xen)
    spmc.on(FFA.RXTX_UNMAP).error(FfaError.INVALID_PARAMETERS)
    vm.destroy()
    assert (SP, vm.id) in told(spmc, DESTROYED)
