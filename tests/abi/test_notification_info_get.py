# SPDX-License-Identifier: GPL-2.0-only
"""FFA_NOTIFICATION_INFO_GET: a guest learns who has notifications pending (FF-A 1.1, 17.7).

And what comes before: the schedule receiver interrupt of the SPMC, Xen's question to it, and the
notification pending interrupt that Xen injects (chapter 9).
"""

import pytest

from ffashim import FFA, FfaError, Machine, Spmc, Vm
from ffashim.defects import crashes
from ffashim.defects.notifications import ANSWERS_IN_64_BITS
from ffashim.defects.versions import SERVES_WITHOUT_VERSION
from ffashim.faults import XenAssertion
from ffashim.ffa import NOTIF_GET_SP, NOTIF_GET_SPM, NOTIFICATIONS
from ffashim.testing import boot_without
from ffashim.traffic import SP, bind, guest, soiled

pytestmark = pytest.mark.needs(abi=FFA.NOTIFICATION_INFO_GET_64)

NPI = 8
"""GUEST_FFA_NOTIF_PEND_INTR_ID of Xen's public headers."""
EDGE_RISING = 1
"""IRQ_TYPE_EDGE_RISING of Xen's device_tree.h."""
BITS = 1 << 32 | 1
GET = FFA.NOTIFICATION_INFO_GET_64


@pytest.fixture
def vm(vm: Vm) -> Vm:
    """A guest that an SP may notify."""
    assert bind(vm, BITS).ok
    return vm


def interrupts(xen: Machine) -> list[tuple[int, int, int]]:
    return [(i.domain, i.vcpu, i.intid) for i in xen.virqs]


# --- what the guest is told --------------------------------------------------------------------


def test_a_pending_notification_names_the_guest(vm: Vm, spmc: Spmc) -> None:
    spmc.notifications.notify(SP, vm.id, BITS)
    reply = vm.smc(GET)
    assert reply.fid == FFA.SUCCESS_64
    # One list, of the endpoint's ID alone: its notifications are global (Table 17.29).
    assert reply[1:8] == (0, 1 << 7, vm.id, 0, 0, 0, 0)


def test_it_is_told_once(vm: Vm, spmc: Spmc) -> None:
    spmc.notifications.notify(SP, vm.id, BITS)
    assert vm.smc(GET).ok
    assert vm.smc(GET).error is FfaError.NO_DATA
    spmc.notifications.notify(SP, vm.id, BITS)
    assert vm.smc(GET).ok


def test_nothing_is_pending_at_first(vm: Vm) -> None:
    assert vm.smc(GET).error is FfaError.NO_DATA


def test_what_was_collected_is_pending_no_longer(vm: Vm, spmc: Spmc) -> None:
    spmc.notifications.notify(SP, vm.id, BITS)
    assert vm.smc(FFA.NOTIFICATION_GET, vm.id, 0b101).ok
    assert vm.smc(GET).error is FfaError.NO_DATA


def test_what_was_not_collected_is_still_pending(vm: Vm, spmc: Spmc) -> None:
    # The SPM's own "RX is full" is collected by another flag than what SPs set (17.6).
    spmc.notifications.notify(SP, vm.id, BITS, delay=True)
    spmc.notifications.rx_full(vm.id)
    assert vm.smc(FFA.NOTIFICATION_GET, vm.id, NOTIF_GET_SP).ok
    assert vm.smc(GET).ok


def test_what_sps_set_is_pending_though_the_spms_was_collected(vm: Vm, spmc: Spmc) -> None:
    spmc.notifications.notify(SP, vm.id, BITS)
    assert vm.smc(FFA.NOTIFICATION_GET, vm.id, NOTIF_GET_SPM).ok
    assert vm.smc(GET).ok


def test_guests_are_told_of_themselves(xen: Machine, vm: Vm, spmc: Spmc) -> None:
    other = guest(xen, buffers=False)
    spmc.notifications.notify(SP, vm.id, BITS)
    assert other.smc(GET).error is FfaError.NO_DATA
    assert vm.smc(GET).ok


@ANSWERS_IN_64_BITS.mark
@pytest.mark.parametrize("bits", [32, 64])
def test_the_32_bit_call_has_a_32_bit_answer(xen: Machine, spmc: Spmc, bits: int) -> None:
    # Linux on a 32-bit guest takes nothing else for a success.
    vm = guest(xen, buffers=False, bits=bits)
    assert bind(vm, BITS).ok
    spmc.notifications.notify(SP, vm.id, BITS)
    reply = vm.smc(FFA.NOTIFICATION_INFO_GET_32)
    assert reply.fid == FFA.SUCCESS_32
    assert (reply.w(2), reply.w(3)) == (1 << 7, vm.id)


# --- the interrupts ----------------------------------------------------------------------------


def test_xen_takes_the_schedule_receiver_interrupt_on_every_cpu(xen: Machine, spmc: Spmc) -> None:
    assert [xen.irq_requested(spmc.sri, cpu) for cpu in range(xen.cpus)] == [True] * xen.cpus


def takes_a_private_one_once(machine: Machine) -> bool:
    machine.boot(Spmc(sri=25))
    return not machine.irq_requested(25, machine.cpus - 1)


@pytest.mark.known_defect(
    takes_a_private_one_once,
    "takes a PPI for the schedule receiver interrupt on the CPU that boots only",
)
@pytest.mark.spmc(sri=25)
def test_the_interrupt_may_be_a_private_one(xen: Machine, vm: Vm, spmc: Spmc) -> None:
    assert [xen.irq_requested(25, cpu) for cpu in range(xen.cpus)] == [True] * xen.cpus
    spmc.notifications.notify(SP, vm.id, BITS, cpu=xen.cpus - 1)
    assert interrupts(xen) == [(vm.domid, 0, NPI)]


@pytest.mark.spmc(sri=77)
def test_the_interrupt_may_be_shared_by_all_cpus(xen: Machine, vm: Vm, spmc: Spmc) -> None:
    # Once, although each CPU comes up: what has a handler cannot be had again.
    assert xen.irq_requested(77)
    assert not [line for line in xen.console if "request_irq" in line.text]
    assert xen.irq_type(77) == EDGE_RISING
    spmc.notifications.notify(SP, vm.id, BITS)
    assert interrupts(xen) == [(vm.domid, 0, NPI)]


def test_who_has_no_notifications_takes_no_interrupt(xen: Machine) -> None:
    boot_without(xen, *NOTIFICATIONS)
    taken = [(irq, cpu) for irq in range(1020) for cpu in range(xen.cpus)
             if xen.irq_requested(irq, cpu)]  # fmt: skip
    assert not taken


def test_the_guest_gets_an_interrupt(xen: Machine, vm: Vm, spmc: Spmc) -> None:
    spmc.notifications.notify(SP, vm.id, BITS)
    assert interrupts(xen) == [(vm.domid, 0, NPI)]
    assert vm.smc(FFA.FEATURES, 1).w(2) == NPI


@pytest.mark.parametrize("cpu", range(4))
def test_the_interrupt_may_come_on_any_cpu(xen: Machine, vm: Vm, spmc: Spmc, cpu: int) -> None:
    spmc.notifications.notify(SP, vm.id, BITS, cpu=cpu % xen.cpus)
    assert interrupts(xen) == [(vm.domid, 0, NPI)]


def test_without_the_interrupt_nobody_asks(xen: Machine, vm: Vm, spmc: Spmc) -> None:
    spmc.notifications.notify(SP, vm.id, BITS, delay=True)
    assert not spmc.calls(GET)
    assert not xen.virqs


def test_the_first_vcpu_that_is_online_gets_it(xen: Machine, spmc: Spmc) -> None:
    vm = xen.create_vm("1.1", vcpus=4)
    assert bind(vm, BITS).ok
    for vcpu in vm.vcpus[:2]:
        vcpu.offline()
    spmc.notifications.notify(SP, vm.id, BITS)
    assert interrupts(xen) == [(vm.domid, 2, NPI)]


def test_a_guest_that_is_all_offline_is_told_later(xen: Machine, spmc: Spmc) -> None:
    vm = xen.create_vm("1.1", vcpus=2)
    assert bind(vm, BITS).ok
    for vcpu in vm.vcpus:
        vcpu.offline()
    spmc.notifications.notify(SP, vm.id, BITS)
    assert not xen.virqs
    vm.vcpus[1].online()
    assert vm.vcpus[1].smc(GET).ok


def test_each_guest_with_something_pending_gets_one(xen: Machine, spmc: Spmc) -> None:
    vms = [guest(xen, buffers=False) for _ in range(3)]
    for vm in vms:
        assert bind(vm, BITS).ok
        spmc.notifications.notify(SP, vm.id, BITS, delay=True)
    xen.raise_irq(spmc.sri)
    assert interrupts(xen) == [(vm.domid, 0, NPI) for vm in vms]


def test_more_guests_than_one_answer_holds(xen: Machine, spmc: Spmc) -> None:
    # x3 to x7 hold 20 IDs; the flag "more pending" says to ask again (Table 17.29).
    vms = [guest(xen, buffers=False) for _ in range(23)]
    for vm in vms:
        assert bind(vm, BITS).ok
        spmc.notifications.notify(SP, vm.id, BITS, delay=True)
    xen.raise_irq(spmc.sri)
    assert sorted(i.domain for i in xen.virqs) == sorted(vm.domid for vm in vms)


def test_the_spmc_is_asked_again_only_if_more_is_pending(vm: Vm, spmc: Spmc) -> None:
    spmc.notifications.notify(SP, vm.id, BITS)
    assert len(spmc.calls(GET)) == 1


def test_a_spurious_interrupt_does_no_harm(xen: Machine, vm: Vm, spmc: Spmc) -> None:
    xen.raise_irq(spmc.sri)
    assert [smc.error for smc in spmc.calls(GET)] == [FfaError.NO_DATA]
    assert not xen.virqs


@pytest.mark.parametrize("count", [1, 2, 3])
def test_lists_with_vcpus_do_not_confuse_it(xen: Machine, vm: Vm, spmc: Spmc, count: int) -> None:
    # A list is an ID and up to three vCPUs; what follows it is the next one's.
    other = guest(xen, buffers=False)
    ids = [vm.id, *range(count), other.id]
    packed = sum(value << 16 * n for n, value in enumerate(ids))
    x3, x4 = packed & (1 << 64) - 1, packed >> 64
    spmc.on(GET).reply(FFA.SUCCESS_64, 0, 2 << 7 | count << 12, x3, x4, times=1)
    xen.raise_irq(spmc.sri)
    assert interrupts(xen) == [(vm.domid, 0, NPI), (other.domid, 0, NPI)]


def test_an_answer_of_the_32_bit_convention_holds_two_ids_a_register(
    xen: Machine, vm: Vm, spmc: Spmc
) -> None:
    others = [guest(xen, buffers=False) for _ in range(2)]
    first, second = others
    spmc.on(GET).reply(
        FFA.SUCCESS_32, 0, 3 << 7, vm.id | first.id << 16, second.id | 0xFFFF << 32, times=1
    )
    xen.raise_irq(spmc.sri)
    assert interrupts(xen) == [(each.domid, 0, NPI) for each in (vm, *others)]


def overfill(xen: Machine, lists: int, vcpus: int) -> None:
    """Answer with so many lists of so many vCPUs each: x3 to x7 hold 20 IDs in all."""
    sizes = sum(vcpus << 12 + 2 * n for n in range(min(lists, 26)))
    ones = (1 << 64) - 1
    xen.spmc.on(GET).reply(FFA.SUCCESS_64, 0, lists << 7 | sizes, *[ones] * 15, times=1)
    xen.raise_irq(xen.spmc.sri)


@pytest.mark.known_defect(
    crashes(lambda xen: overfill(xen, 31, 3), r"/ffa_notif\.c", XenAssertion),
    "fails an assertion if the SPMC's lists are longer than its registers",
)
def test_lists_beyond_the_registers_are_survived(xen: Machine) -> None:
    overfill(xen, 31, 3)
    assert not xen.virqs


@pytest.mark.parametrize(("lists", "vcpus"), [(0, 0), (1, 3), (5, 3), (20, 0)])
def test_lists_that_fill_the_registers_are_read(xen: Machine, lists: int, vcpus: int) -> None:
    overfill(xen, lists, vcpus)
    assert not xen.virqs


@pytest.mark.parametrize("vm_id", [0, 99, 0x7FFF, SP])
def test_an_id_that_is_no_guests_is_passed_over(xen: Machine, spmc: Spmc, vm_id: int) -> None:
    spmc.on(GET).reply(FFA.SUCCESS_64, 0, 1 << 7, vm_id, times=1)
    xen.raise_irq(spmc.sri)
    assert not xen.virqs


def test_a_guest_without_a_mediator_is_passed_over(xen: Machine, spmc: Spmc) -> None:
    vm = xen.create_vm(tee=False)
    spmc.on(GET).reply(FFA.SUCCESS_64, 0, 1 << 7, vm.id, times=1)
    xen.raise_irq(spmc.sri)
    assert not xen.virqs


@pytest.mark.parametrize("error", [FfaError.BUSY, FfaError.NOT_SUPPORTED])
def test_an_error_of_the_spmc_ends_it(xen: Machine, spmc: Spmc, error: FfaError) -> None:
    spmc.on(GET).error(error)
    xen.raise_irq(spmc.sri)
    assert len(spmc.calls(GET)) == 1


def test_an_spmc_that_fails_each_time_is_asked_each_time(xen: Machine, spmc: Spmc) -> None:
    # Xen tells its console of the first few only.
    spmc.on(GET).error(FfaError.BUSY)
    for _ in range(30):
        xen.raise_irq(spmc.sri)
    assert len(spmc.calls(GET)) == 30


def test_a_guest_that_stays_offline_is_never_interrupted(xen: Machine, spmc: Spmc) -> None:
    vm = xen.create_vm("1.1")
    vm.vcpus[0].offline()
    for _ in range(30):
        spmc.on(GET).reply(FFA.SUCCESS_64, 0, 1 << 7, vm.id, times=1)
        xen.raise_irq(spmc.sri)
    assert not xen.virqs


def test_what_is_pending_for_an_sp_is_no_guests(xen: Machine, vm: Vm, spmc: Spmc) -> None:
    # What is set for an SP raises the same interrupt; it is no guest's business (9.4).
    spmc.on(GET).reply(FFA.SUCCESS_64, 0, 1 << 7, SP, times=1)
    xen.raise_irq(spmc.sri)
    assert not xen.virqs
    assert vm.smc(GET).error is FfaError.NO_DATA


# --- who may call, and how ---------------------------------------------------------------------


def test_registers_do_not_count(vm: Vm, spmc: Spmc) -> None:
    spmc.notifications.notify(SP, vm.id, BITS)
    assert vm.smc(GET, *soiled(1, 2, 3, 4, 5, 6, 7)).ok


@SERVES_WITHOUT_VERSION.mark
def test_before_version_negotiation_it_is_not_supported(xen: Machine) -> None:
    assert xen.create_vm().smc(GET).error is FfaError.NOT_SUPPORTED


def test_a_32_bit_guest_cannot_make_the_64_bit_call(xen: Machine) -> None:
    assert guest(xen, buffers=False, bits=32).smc(GET).unknown


@pytest.mark.needs(abi=FFA.NOTIFICATION_INFO_GET_64, vm_to_vm=False)
@pytest.mark.spmc(features_off=[2])
def test_without_the_schedule_receiver_interrupt_it_is_not_supported(vm_plain: Vm) -> None:
    assert vm_plain.smc(GET).error is FfaError.NOT_SUPPORTED


@pytest.fixture
def vm_plain(xen: Machine) -> Vm:
    """A guest that nobody may notify."""
    return guest(xen, buffers=False)
