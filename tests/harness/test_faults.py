# SPDX-License-Identifier: GPL-2.0-only
"""What would hang or kill a hypervisor ends the call, is named, and harms nobody else."""

from __future__ import annotations

import pytest
from planted import Plant

from ffashim import FFA, Machine, P2m, Points, faults
from ffashim.errors import UsageError
from ffashim.machine import Point


def commit(machine: Machine, mistake: Plant, x2: int = 0) -> faults.XenFault:
    """Make a mistake, return what it was caught as, and prove that the machine can go on."""
    snapshot = machine.snapshot()
    vm = machine.create_vm("1.1")
    if not x2:
        x2 = vm.memory.allocate() if mistake in NEEDS_PAGE else 0
    with pytest.raises(faults.XenFault) as caught:
        vm.smc(FFA.ID_GET, mistake, x2)
    with pytest.raises(UsageError, match="has stopped"):
        vm.smc(FFA.ID_GET)
    machine.restore(snapshot)
    assert machine.create_vm("1.1").smc(FFA.ID_GET).ok
    return caught.value


NEEDS_PAGE = {
    Plant.STALE_MAPPING,
    Plant.PAGE_OVERRUN,
    Plant.PAGE_LEAK,
    Plant.PUT_TOO_MANY,
    Plant.PUT_WHILE_MAPPED,
}

CAUGHT = [
    (Plant.ASSERT, faults.XenAssertion, "addr == 42"),
    (Plant.BUG, faults.XenBug, "BUG() or BUG_ON() in plant()"),
    (Plant.PANIC, faults.XenPanic, "planted 3"),
    (Plant.LOCK_TWICE, faults.XenDeadlock, "&plant_a is taken twice"),
    (Plant.WRITE_TWICE, faults.XenDeadlock, "&plant_rw is taken twice"),
    (Plant.LOCK_HELD, faults.XenHeld, "&plant_a is still held"),
    (Plant.READ_HELD, faults.XenHeld, "&plant_rw is still held"),
    (Plant.WRITE_HELD, faults.XenHeld, "&plant_rw is still held"),
    (Plant.UNLOCK, faults.XenUnlock, "does not hold"),
    (Plant.NULL, faults.XenAccess, "NULL pointer"),
    (Plant.WILD, faults.XenAccess, "wild pointer"),
    (Plant.STACK, faults.XenAccess, "the end of Xen's stack"),
    (Plant.RCU_HELD, faults.XenHeld, "RCU"),
    (Plant.IRQS_OFF, faults.XenHeld, "interrupts"),
    (Plant.DOUBLE_FREE, faults.XenMemory, "free already"),
    (Plant.HEAP_OVERRUN, faults.XenMemory, "written past its end"),
    (Plant.USE_AFTER_FREE, faults.XenMemory, "written after it was freed"),
    (Plant.STALE_MAPPING, faults.XenAccess, "a mapping that is gone"),
    (Plant.PUT_WHILE_MAPPED, faults.XenAccess, "guest page"),
    (Plant.PAGE_OVERRUN, faults.XenAccess, "1 bytes past the end of the mapped guest page"),
    (Plant.PUT_TOO_MANY, faults.XenMemory, "no reference left"),
    (Plant.HEAP_OVERRUN_ODD, faults.XenMemory, "written past its end"),
    (Plant.XEN_PAGE_OVERRUN, faults.XenAccess, "1 bytes past the end of Xen's own page"),
    (Plant.XEN_PAGE_UNDERRUN, faults.XenAccess, "Xen's own page"),
]


@pytest.mark.parametrize(
    ("mistake", "kind", "text"), CAUGHT, ids=[mistake.name.lower() for mistake, _, _ in CAUGHT]
)
def test_a_planted_mistake_is_caught_and_named(
    planted: Machine, mistake: Plant, kind: type[faults.XenFault], text: str
) -> None:
    fault = commit(planted, mistake)
    assert type(fault) is kind
    assert text in fault.report.text


def test_a_page_is_put_that_was_never_taken(planted: Machine) -> None:
    vm = planted.create_vm("1.1")
    page = vm.memory.machine_address(vm.memory.allocate())
    with pytest.raises(faults.XenMemory, match="no reference left"):
        vm.smc(FFA.ID_GET, Plant.PUT_NOT_TAKEN, page)


@pytest.mark.parametrize("late", [False, True])
def test_a_batch_ends_with_the_call_that_keeps_a_lock(planted: Machine, late: bool) -> None:
    vm = planted.create_vm("1.1")
    frames = [(FFA.ID_GET, Plant.LOCK_HELD), (FFA.ID_GET, Plant.PANIC)]
    with pytest.raises(faults.XenHeld, match="&plant_a is still held"):
        vm.batch([(FFA.ID_GET,), *frames] if late else frames)


@pytest.mark.parametrize("mistake", [Plant.IRQ_TYPE, Plant.IRQ])
def test_an_interrupt_that_cannot_be_is_seen(planted: Machine, mistake: Plant) -> None:
    vm = planted.create_vm("1.1")
    for intid in (31, 32, 1019):
        assert vm.smc(FFA.ID_GET, mistake, intid).ok
    assert not planted.warnings
    if mistake is Plant.IRQ_TYPE:
        with pytest.raises(faults.XenAccess, match="descriptors end at interrupt 1023"):
            vm.smc(FFA.ID_GET, mistake, 1024)
        return
    assert vm.smc(FFA.ID_GET, mistake, 1024).ok
    assert vm.smc(FFA.ID_GET, mistake, 32).ok
    assert len(planted.warnings) == 2
    with pytest.raises(faults.XenAssertion):
        vm.smc(FFA.ID_GET, mistake, 1020)


def test_nothing_is_allocated_in_an_interrupt_or_with_interrupts_off(planted: Machine) -> None:
    vm = planted.create_vm("1.1")
    start = planted.snapshot()
    with pytest.raises(faults.XenAssertion, match="in_irq"):
        vm.smc(FFA.ID_GET, Plant.ALLOCATE_IRQS_OFF)
    planted.restore(start)
    vm.smc(FFA.ID_GET, Plant.ALLOCATE_IN_IRQ, 77)
    with pytest.raises(faults.XenAssertion, match="in_irq"):
        planted.raise_irq(77)


def test_xens_own_sgis_reach_no_handler(planted: Machine) -> None:
    # gic_interrupt() of Xen's gic.c serves these itself, whoever has asked for them.
    vm = planted.create_vm("1.1")
    for intid in range(4):
        vm.smc(FFA.ID_GET, Plant.ALLOCATE_IN_IRQ, intid)
        assert planted.irq_requested(intid)
    for intid in range(3):
        planted.raise_irq(intid)
    with pytest.raises(faults.XenAssertion, match="in_irq"):
        planted.raise_irq(3)


def test_only_the_stage_of_a_teardown_that_asks_for_it_is_done_again(planted: Machine) -> None:
    planted.create_vm("1.1", domid=1).destroy()
    told = [m for m in planted.spmc.state.destroyed if m[1] == 2]
    assert len(told) == len(set(told)) > 0
    assert not planted.spmc.violations


def test_what_is_deferred_runs_in_its_order(planted: Machine) -> None:
    vm = planted.create_vm("1.1")
    vm.smc(FFA.ID_GET, Plant.DEFER)
    said = [line.text for line in planted.console[-6:]]
    assert said == [f"{what} {n}" for what in ("tasklet", "callback") for n in range(3)]
    vm.smc(FFA.ID_GET, Plant.DEFER, 1)
    assert [line.text for line in planted.console[-5:-3]] == ["tasklet 1", "tasklet 2"]


def test_a_loop_that_waits_lets_another_cpu_run(planted: Machine) -> None:
    vm, other = planted.create_vm("1.1"), planted.create_vm("1.1")
    points = []

    def release(point: Point) -> None:
        points.append(point)
        if len(points) == 3:
            other.smc(FFA.ID_GET, Plant.RELEASE)

    with planted.at_points(release, Points.RELAX):
        assert vm.smc(FFA.ID_GET, Plant.SPIN).ok
    assert len(points) == 3


def test_an_endless_loop_ends(planted: Machine) -> None:
    with planted.hang_limit(200):
        fault = commit(planted, Plant.LOOP)
    assert type(fault) is faults.XenHang


def test_an_endless_loop_of_smcs_ends_too(planted: Machine) -> None:
    fault = commit(planted, Plant.SMC_LOOP)
    assert type(fault) is faults.XenHang
    assert "SMCs" in fault.report.text


@pytest.mark.parametrize("mistake", [Plant.ASSERT, Plant.NULL, Plant.LOCK_TWICE, Plant.BUG])
def test_the_report_names_the_file_and_line_of_the_mistake(
    planted: Machine, tree: object, mistake: Plant
) -> None:
    where = commit(planted, mistake).report.where
    file, _, line = where.partition(":")
    assert file == "xen/arch/arm/tee/ffa.c"
    source = planted.extension.record["patches"]
    assert source, "the planted tree records its patch"
    assert int(line) > 1


def test_an_overrun_inside_of_a_copy_names_who_copied(planted: Machine) -> None:
    vm = planted.create_vm("1.1")
    with pytest.raises(faults.XenAccess, match="past the end of the mapped guest page") as caught:
        vm.smc(FFA.ID_GET, Plant.COPY_OVERRUN, vm.memory.allocate(), 16)
    assert caught.value.report.where.startswith("xen/arch/arm/tee/ffa.c:")
    assert caught.value.report.backtrace[-1].startswith("do_trap_smc")


def test_the_report_lists_the_way_there_the_locks_and_the_calls(planted: Machine) -> None:
    report = commit(planted, Plant.LOCK_TWICE).report
    assert any("ffa_handle_call" in place or "plant" in place for place in report.backtrace)
    assert [lock.name for lock in report.locks] == ["&plant_a"]
    assert "FFA_ID_GET" in report.calls[-1]
    assert "x1=0x4" in report.calls[-1]


def test_the_report_carries_the_end_of_the_console(planted: Machine) -> None:
    assert any("planted 3" in line for line in commit(planted, Plant.PANIC).report.console)


def test_a_warning_is_recorded_and_does_not_end_the_call(planted: Machine) -> None:
    vm = planted.create_vm("1.1")
    assert vm.smc(FFA.ID_GET, Plant.WARN).ok
    assert planted.warnings[0].startswith("xen/arch/arm/tee/ffa.c:")


def test_a_leaked_block_stays_on_the_heap_with_its_allocation_site(planted: Machine) -> None:
    vm = planted.create_vm("1.1")
    before = {block.serial for block in planted.heap}
    vm.smc(FFA.ID_GET, Plant.HEAP_LEAK)
    (leak,) = [block for block in planted.heap if block.serial not in before]
    assert leak.size == 40
    assert "ffa" in leak.where


def test_a_leaked_page_keeps_the_dead_guest_as_a_zombie(planted: Machine) -> None:
    vm = planted.create_vm("1.1")
    page = vm.memory.allocate()
    vm.smc(FFA.ID_GET, Plant.PAGE_LEAK, page)
    assert vm.memory.references(page) == 1
    assert len(planted.mappings) == 1
    assert not vm.destroy()
    assert vm.exists


def test_a_page_that_is_not_ram_cannot_be_mapped(planted: Machine) -> None:
    vm = planted.create_vm("1.1")
    page = vm.memory.allocate()
    vm.memory.set_type(page, P2m.UNMAPPED)
    with pytest.raises(faults.XenAccess, match="NULL"):
        vm.smc(FFA.ID_GET, Plant.PAGE_OVERRUN, page)


def test_a_thousand_faults_leave_no_trace(planted: Machine) -> None:
    snapshot = planted.snapshot()
    for _ in range(1000):
        vm = planted.create_vm("1.1")
        with pytest.raises(faults.XenAccess):
            vm.smc(FFA.ID_GET, Plant.NULL)
        planted.restore(snapshot)
    assert planted.create_vm("1.1").smc(FFA.ID_GET).ok
