# SPDX-License-Identifier: GPL-2.0-only
"""Each check of every call and every test catches a planted mistake, and passes its fixed twin."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from planted import Plant, plant
from planted_checks import Slip

from ffashim import FFA, FfaError, Machine, Points, ending, faults
from ffashim.alarms import Alarm, AlarmKind
from ffashim.defects.messages import GUESTS_DEADLOCK
from ffashim.ffa import PAGE_SIZE
from ffashim.known_alarms import KNOWN
from ffashim.machine import Point
from ffashim.model import Disagreement, Pair, known_of
from ffashim.source import Tree
from ffashim.vm import Vm

pytest_plugins = ["pytester"]

PAGE = {Slip.PAGE, Slip.MAPPING, Slip.HEAP_IN_PAGE, Slip.GUEST_IN_PAGE}
"""Slips that need a page of the guest's, in x2."""
IRQ = 77
"""An interrupt that nobody else has, for LOCK_IN_IRQ."""


def make(vm: Vm, slip: Slip, *, fixed: bool, x2: int = 0) -> None:
    """Let a guest's call make a mistake, or do the same well."""
    if slip in PAGE:
        x2 = vm.memory.allocate()
    vm.smc(FFA.ID_GET, slip, x2, 0, int(fixed))


@pytest.fixture
def guest(planted: Machine) -> Vm:
    """A guest of a machine that has seen nothing go wrong yet."""
    planted.forget_alarms()
    return planted.create_vm("1.1")


def ends(machine: Machine) -> list[Alarm]:
    """Return what is wrong at the end of a test."""
    return ending.of_test(machine)


# --- what ends the call ------------------------------------------------------------------------

FAULTS = [
    (Slip.LOCK_UNWRITTEN, faults.XenMemory, "&s->lock is taken before spin_lock_init()"),
    (Slip.LOCK_FREED, faults.XenMemory, "&s->lock is taken after its memory was freed"),
    (Slip.RWLOCK_FREED, faults.XenMemory, "&s->rwlock is taken after its memory was freed"),
    (Slip.UPGRADE, faults.XenDeadlock, "&slip_rw is written inside of a section that reads it"),
    (Slip.READ_TWICE, faults.XenDeadlock, "&slip_rw is read inside of a section that reads it"),
    (Slip.RCU_UNLOCK, faults.XenUnlock, "rcu_read_unlock() outside of a read section"),
    (Slip.TIMER_FREED, faults.XenMemory, "a timer is still queued in the block"),
    (Slip.TASKLET_FREED, faults.XenMemory, "a tasklet is still queued in the block"),
    (Slip.CALLBACK_FREED, faults.XenMemory, "an RCU callback is still queued in the block"),
]


@pytest.mark.parametrize(("slip", "kind", "text"), FAULTS, ids=[each[0].name for each in FAULTS])
def test_a_slip_ends_the_call_and_its_twin_passes(
    planted: Machine, guest: Vm, slip: Slip, kind: type[faults.XenFault], text: str
) -> None:
    start = planted.snapshot()
    with pytest.raises(faults.XenFault, match=re.escape(text)) as caught:
        make(guest, slip, fixed=False)
    assert type(caught.value) is kind
    assert caught.value.report.where.startswith("xen/arch/arm/tee/ffa.c:")
    planted.restore(start)
    make(guest, slip, fixed=True)
    assert not ends(planted)


def test_an_rcu_section_that_stays_open_is_named_by_where_it_was_entered(planted: Machine) -> None:
    with pytest.raises(faults.XenHeld, match="an RCU read section") as caught:
        planted.create_vm("1.1").smc(FFA.ID_GET, 10)  # Plant.RCU_HELD
    assert caught.value.report.where.startswith("xen/arch/arm/tee/ffa.c:")


@pytest.mark.parametrize("fixed", [False, True])
def test_a_domain_is_not_touched_after_the_section_that_protected_it(
    planted: Machine, guest: Vm, fixed: bool
) -> None:
    peer = planted.create_vm("1.1")

    def kill(_point: Point) -> None:
        if not peer.dead:
            peer.destroy()

    with planted.at_points(kill, Points.RELAX):
        if fixed:
            make(guest, Slip.USED_AFTER_SECTION, fixed=True, x2=peer.domid)
        else:
            with pytest.raises(faults.XenAccess, match="freed"):
                make(guest, Slip.USED_AFTER_SECTION, fixed=False, x2=peer.domid)
    assert peer.dead
    if fixed:
        assert not peer.exists
        assert not ends(planted)


# --- what is seen though the call returns --------------------------------------------------------

ALARMS = [
    (Slip.LOCK_ZERO, AlarmKind.LOCK_INIT, "&s->lock is taken before spin_lock_init()"),
    (Slip.ORDER, AlarmKind.LOCK_ORDER, "&slip_a is taken inside of &slip_b"),
    (Slip.ORDER_OF_THREE, AlarmKind.LOCK_ORDER, "&slip_a is taken inside of &slip_c"),
    (Slip.ORDER_IN_A_CLASS, AlarmKind.LOCK_ORDER, "two of &s->lock are taken"),
    (Slip.WRITTEN_WHEN_FREE, AlarmKind.HEAP, "was written to after it was freed"),
    (Slip.BLOCK, AlarmKind.LEAK, "is gone, and Xen still holds for it"),
    (Slip.MAPPING, AlarmKind.LEAK, "is gone, and Xen still holds for it"),
    (Slip.PAGE, AlarmKind.ZOMBIE, "is dead and is never freed"),
    (Slip.DOMAIN_REF, AlarmKind.ZOMBIE, "is dead and is never freed"),
    (Slip.TIMER_FOR_EVER, AlarmKind.TIMER, "slip_tick()"),
    (Slip.STACK_IN_REPLY, AlarmKind.DISCLOSED, "what Xen has left on its stack"),
    (Slip.HEAP_IN_REPLY, AlarmKind.DISCLOSED, "x3 of the reply is 0x9595959595959595"),
    (Slip.HEAP_IN_PAGE, AlarmKind.DISCLOSED, "a guest's page is given 0x95959595"),
    (Slip.STACK_IN_SMC, AlarmKind.DISCLOSED, "of an SMC tells the SPMC"),
    (Slip.REGISTER, AlarmKind.REGISTERS, "x9 is 0x1234 after the call"),
    (Slip.ONE_REGISTER_MORE, AlarmKind.REGISTERS, "x18 is 0 after the call"),
    (Slip.UPPER_HALF, AlarmKind.REGISTERS, "x2 is 0x100000001 in an answer of 32 bits"),
    (Slip.NO_TEARDOWN, AlarmKind.SPMC, "was not told that VM"),
]
PLACELESS = {Slip.REGISTER, Slip.ONE_REGISTER_MORE, Slip.UPPER_HALF, Slip.NO_TEARDOWN}
"""What is wrong is what was not done, or is found in registers: no line of Xen's did it."""


@pytest.mark.parametrize(("slip", "kind", "text"), ALARMS, ids=[each[0].name for each in ALARMS])
def test_a_slip_is_an_alarm_and_its_twin_is_none(
    planted: Machine, guest: Vm, slip: Slip, kind: AlarmKind, text: str
) -> None:
    start = planted.snapshot()
    make(guest, slip, fixed=True)
    assert not ends(planted)
    planted.restore(start)
    planted.forget_alarms()
    make(guest, slip, fixed=False)
    found = [alarm for alarm in ends(planted) if alarm.kind is kind]
    assert any(text in alarm.text for alarm in found), found
    if slip not in PLACELESS:
        assert any("xen/arch/arm/tee/ffa.c:" in str(alarm) for alarm in found)


@pytest.mark.parametrize("answers", [False, True])
def test_a_script_hides_nothing_that_xen_leaks(planted: Machine, guest: Vm, answers: bool) -> None:
    rule = planted.spmc.on(FFA.MSG_SEND_DIRECT_REQ_32)
    rule.error(FfaError.DENIED) if answers else rule.call(lambda _x: None)
    guest.smc(FFA.MSG_SEND_DIRECT_REQ_32, guest.id << 16 | 0x8001)
    make(guest, Slip.BLOCK, fixed=False)
    assert AlarmKind.LEAK in [alarm.kind for alarm in ends(planted)]


def test_who_only_watches_does_not_answer_for_the_spmc(planted: Machine, guest: Vm) -> None:
    planted.spmc.on(FFA.MSG_SEND_DIRECT_REQ_32).call(lambda _x: None)
    guest.smc(FFA.MSG_SEND_DIRECT_REQ_32, guest.id << 16 | 0x8001)
    make(guest, Slip.NO_TEARDOWN, fixed=False)
    assert AlarmKind.SPMC in [alarm.kind for alarm in ends(planted)]


def test_the_model_differs_where_a_guest_leaves_a_leak(planted: Machine) -> None:
    pair = Pair(planted, deviations=known_of(planted))
    vm = pair.guest()
    vm.smc(FFA.VERSION, 0x1_0001)
    make(vm, Slip.BLOCK, fixed=False)  # past the model
    with pytest.raises(Disagreement, match="is gone, and Xen still holds for it"):
        pair.destroy(vm)


def test_only_the_deadlock_that_is_known_is_excused() -> None:
    def order(*takers: str) -> Alarm:
        ways = tuple(f"FFA_X: &ctx->rx_lock\n  {taker}() xen/f.c:1" for taker in takers)
        return Alarm(AlarmKind.LOCK_ORDER, "&ctx->rx_lock inside of &ctx->tx_lock", ways)

    (known,) = (each for each in KNOWN if each.defect is GUESTS_DEADLOCK)
    assert known.covers(order("ffa_rx_acquire", "rxtx_unmap"))
    assert not known.covers(order("ffa_msg_send2_vm", "rxtx_unmap"))


OF_GUESTS = [
    (Slip.GUEST_IN_REPLY, "x3 of the reply is"),
    (Slip.GUEST_IN_PAGE, "a guest's page is given"),
    (Slip.GUEST_IN_SMC, "x3 of an SMC tells the SPMC"),
]


@pytest.mark.parametrize(("slip", "text"), OF_GUESTS, ids=[each[0].name for each in OF_GUESTS])
def test_a_guest_is_told_nothing_of_anothers_memory(
    planted: Machine, guest: Vm, slip: Slip, text: str
) -> None:
    peer = planted.create_vm("1.1")
    page = peer.memory.allocate()
    peer.smc(FFA.ID_GET, Slip.STASH, page)
    start = planted.snapshot()
    peer.smc(FFA.ID_GET, slip, page)  # its own
    assert not planted.alarms
    planted.restore(start)
    make(guest, slip, fixed=True)
    assert not planted.alarms
    planted.restore(start)
    make(guest, slip, fixed=False)
    (alarm,) = planted.alarms
    assert alarm.kind is AlarmKind.DISCLOSED
    assert alarm.text.startswith(text)
    assert alarm.text.endswith(f": memory of domain {peer.domid}")
    assert "xen/arch/arm/tee/ffa.c:" in str(alarm)


def test_a_guest_may_be_told_whatever_its_own_memory_holds(planted: Machine, guest: Vm) -> None:
    page = guest.memory.allocate(2)
    # A byte in a word of the pattern, which then looks like another guest's.
    guest.memory.write(page, b"o")
    guest.smc(FFA.ID_GET, Slip.OWN_PAGES, page)
    assert guest.memory.read(page, 64) == guest.memory.read(page + PAGE_SIZE, 64)
    assert not planted.alarms


@pytest.mark.parametrize("fixed", [False, True])
def test_a_lock_of_an_interrupt_is_taken_with_interrupts_off(
    planted: Machine, guest: Vm, fixed: bool
) -> None:
    make(guest, Slip.LOCK_IN_IRQ, fixed=fixed, x2=IRQ)
    planted.raise_irq(IRQ)
    assert [alarm.kind for alarm in planted.alarms] == ([] if fixed else [AlarmKind.LOCK_IRQ])
    assert fixed or "slip_handler()" in str(planted.alarms[0])


def test_an_alarm_about_locks_shows_both_ways_with_files_and_lines(
    planted: Machine, guest: Vm
) -> None:
    make(guest, Slip.ORDER, fixed=False)
    (alarm,) = planted.alarms
    assert len(alarm.ways) == 2
    place = r"xen/arch/arm/tee/ffa\.c:\d+"
    for way, inner, outer in zip(alarm.ways, "ab", "ba", strict=True):
        first, *frames = way.split("\n")
        assert re.fullmatch(
            rf"FFA_ID_GET: &slip_{inner} \(spin\) is taken at {place}, inside of "
            rf"&slip_{outer} \(spin\), taken at {place}",
            first,
        )
        assert any("ffa_handle_call() xen/arch/arm/tee/ffa.c:" in frame for frame in frames)


def test_the_order_of_locks_is_that_of_the_whole_test(planted: Machine, guest: Vm) -> None:
    # As a Hypothesis test has it: each example from the same snapshot.
    start = planted.snapshot()
    guest.smc(FFA.ID_GET, 21)  # Plant.ORDER_AB
    planted.restore(start)
    assert not planted.alarms
    guest.smc(FFA.ID_GET, 22)  # Plant.ORDER_BA
    (alarm,) = planted.alarms
    assert alarm.kind is AlarmKind.LOCK_ORDER
    planted.forget_alarms()
    guest.smc(FFA.ID_GET, 21)
    assert not planted.alarms


def test_what_a_dead_guest_leaves_is_told_by_call_and_place(planted: Machine, guest: Vm) -> None:
    make(guest, Slip.BLOCK, fixed=False)
    assert guest.destroy()
    (alarm,) = planted.alarms
    assert alarm.text.startswith(f"domain {guest.domid} is gone")
    (way,) = alarm.ways
    assert re.fullmatch(
        r"a block of the heap \(40 bytes\), taken by \w+\(\) xen/arch/arm/tee/ffa\.c:\d+ in "
        r"FFA_ID_GET",
        way,
    )


def test_what_a_guest_or_the_spmc_brings_is_not_disclosed(planted: Machine, guest: Vm) -> None:
    marks = [0x9595_9595_9595_9595, 0xC9C9_C9C9, 0xDFDF_DFDF]
    guest.smc(FFA.MSG_SEND_DIRECT_REQ_32, guest.id << 16 | 0x8001, 0, *marks)
    planted.spmc.on(FFA.MSG_SEND_DIRECT_REQ_32).reply(
        FFA.MSG_SEND_DIRECT_RESP_32, 0x8001 << 16 | guest.id, 0, *marks
    )
    assert guest.smc(FFA.MSG_SEND_DIRECT_REQ_32, guest.id << 16 | 0x8001).x4 == marks[1]
    assert not planted.alarms


def test_what_one_call_was_told_does_not_excuse_another(planted: Machine, guest: Vm) -> None:
    mark, other = 0x9595_9595_9595_9595, planted.create_vm("1.1")
    planted.spmc.on(FFA.ID_GET).call(lambda regs: (regs[0], mark, *regs[2:]))
    with planted.at_points(
        lambda point: make(guest, Slip.HEAP_IN_REPLY, fixed=False), Points.UNLOCK
    ):
        other.smc(FFA.ID_GET, Plant.LOCK_AND_SMC)  # at the unlock, the SPMC has answered
    assert [alarm.kind for alarm in planted.alarms] == [AlarmKind.DISCLOSED]


def test_a_test_fails_of_what_it_did_not_ask_for(
    pytester: pytest.Pytester, tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "")
    pytester.makepyfile(
        f"""
        from ffashim import FFA

        def test_leaks(xen):
            xen.create_vm("1.1").smc(FFA.ID_GET, {Slip.BLOCK:d})

        def test_does_not(xen):
            xen.create_vm("1.1").smc(FFA.ID_GET, {Slip.BLOCK:d}, x4=1)
        """
    )
    options = ("--xen", str(tree.root), "--patch", str(plant(tree, tmp_path)))
    result = pytester.runpytest_subprocess(*options)
    outcomes = result.parseoutcomes()  # of one variant or two
    assert outcomes["passed"] == 2 * outcomes["errors"] > 0
    result.stdout.fnmatch_lines(["leak: domain 1 is gone*", "*taken by *ffa.c:* in FFA_ID_GET"])
