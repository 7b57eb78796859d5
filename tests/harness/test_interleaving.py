# SPDX-License-Identifier: GPL-2.0-only
"""Another CPU's call in the middle of the first one."""

from __future__ import annotations

import pytest
from planted import Plant

from ffashim import FFA, Machine, Points, Reply, faults
from ffashim.errors import UsageError
from ffashim.faults import Blocked
from ffashim.machine import Point


def test_a_call_can_be_left_at_each_lock_and_resumed(planted: Machine) -> None:
    vm = planted.create_vm("1.1")
    seen: list[Point] = []
    with planted.at_points(seen.append, Points.LOCK | Points.UNLOCK):
        assert vm.smc(FFA.ID_GET, Plant.ORDER_AB).ok
    kinds = [point.kind for point in seen]
    assert kinds == [Points.LOCK, Points.LOCK, Points.UNLOCK, Points.UNLOCK]
    assert seen[0].address == seen[3].address != seen[1].address == seen[2].address


@pytest.mark.parametrize("number", range(5))
def test_one_point_alone_can_be_asked_for(planted: Machine, number: int) -> None:
    vm = planted.create_vm("1.1")
    every: list[Point] = []
    one: list[Point] = []
    with planted.at_points(every.append, Points.LOCK | Points.UNLOCK):
        vm.smc(FFA.ID_GET, Plant.ORDER_AB)
    with planted.at_points(one.append, Points.LOCK | Points.UNLOCK, only=number):
        vm.smc(FFA.ID_GET, Plant.ORDER_AB)
    assert one == every[number : number + 1]


def test_another_guest_can_call_in_the_middle(planted: Machine) -> None:
    one, two = planted.create_vm("1.1"), planted.create_vm("1.1")
    inner: list[Reply] = []
    with planted.at_points(lambda point: inner.append(two.smc(FFA.ID_GET)), Points.LOCK):
        outer = one.smc(FFA.ID_GET, Plant.ORDER_AB)
    assert outer.w(2) == one.id
    assert [reply.w(2) for reply in inner] == [two.id, two.id]


def test_a_lock_of_the_interrupted_call_is_seen_as_held(planted: Machine) -> None:
    one, two = planted.create_vm("1.1"), planted.create_vm("1.1")
    refused: list[int] = []

    def look(point: Point) -> None:
        two.smc(FFA.ID_GET, Plant.TRYLOCK)  # warns if plant_a is taken
        refused.append(len(planted.warnings))

    with planted.at_points(look, Points.LOCK):
        one.smc(FFA.ID_GET, Plant.ORDER_AB)
    # Before plant_a is taken, and before plant_b is, with plant_a held.
    assert refused == [0, 1]


def test_a_call_that_waits_for_a_lock_lets_its_holder_finish(planted: Machine) -> None:
    one, two = planted.create_vm("1.1"), planted.create_vm("1.1")
    inner: list[Reply] = []

    def compete(point: Point) -> None:
        if not inner and planted.told.locks():
            inner.append(two.smc(FFA.ID_GET, Plant.ORDER_AB))

    with planted.at_points(compete, Points.LOCK):
        outer = one.smc(FFA.ID_GET, Plant.ORDER_AB)
    assert outer.w(2) == one.id
    assert inner[0].w(2) == two.id


def test_two_calls_that_wait_for_each_other_are_a_deadlock(planted: Machine) -> None:
    one, two = planted.create_vm("1.1"), planted.create_vm("1.1")
    first = one.start(FFA.ID_GET, Plant.ORDER_AB)
    second = two.start(FFA.ID_GET, Plant.ORDER_BA)
    with planted.at_points(lambda point: None, Points.LOCK):
        first.step()  # about to take a
        first.step()  # has a, about to take b
        second.step()
        second.step()  # has b, about to take a
        with pytest.raises(faults.XenDeadlock) as caught:
            first.reply()
    assert {lock.name for lock in caught.value.report.locks} == {"&plant_a", "&plant_b"}
    assert {lock.name for lock in caught.value.report.waits} == {"&plant_a", "&plant_b"}


def test_readers_share_and_a_writer_waits(planted: Machine) -> None:
    one, two, three = (planted.create_vm("1.1") for _ in range(3))
    reader = one.start(FFA.ID_GET, Plant.READ)
    with planted.at_points(lambda point: None, Points.LOCK | Points.UNLOCK):
        reader.step()  # before read_lock()
        reader.step()  # before the atomic or at read_unlock(), the lock is held
        assert two.smc(FFA.ID_GET, Plant.READ).ok
        writer = three.start(FFA.ID_GET, Plant.WRITE)
        writer.step()
        writer.step()
        assert not writer.done
        assert reader.reply().ok
        assert writer.reply().ok


def test_a_call_from_inside_an_smc_script_runs_on_another_cpu(planted: Machine) -> None:
    one, two = planted.create_vm("1.1"), planted.create_vm("1.1")
    inner: list[Reply] = []

    def script(regs: tuple[int, ...]) -> tuple[int, ...]:
        inner.append(two.smc(FFA.ID_GET))
        return regs

    planted.spmc.on(FFA.ID_GET).call(script)
    assert one.smc(FFA.ID_GET, Plant.LOCK_AND_SMC).ok
    assert inner[0].w(2) == two.id


def test_a_call_that_needs_a_lock_held_across_the_smc_is_told_apart(planted: Machine) -> None:
    one, two = planted.create_vm("1.1"), planted.create_vm("1.1")
    pending = []

    def script(regs: tuple[int, ...]) -> tuple[int, ...]:
        call = two.start(FFA.ID_GET, Plant.ORDER_AB)
        with pytest.raises(Blocked, match="plant_a"):
            call.reply()
        pending.append(call)
        return regs

    planted.spmc.on(FFA.ID_GET).call(script)
    assert one.smc(FFA.ID_GET, Plant.LOCK_AND_SMC).ok
    assert pending[0].reply().w(2) == two.id


def test_an_interrupt_can_be_taken_in_the_middle(planted: Machine) -> None:
    vm = planted.create_vm("1.1")
    vm.smc(FFA.ID_GET, Plant.IRQ, 40)
    with planted.at_points(lambda point: planted.take_irq(40), Points.LOCK):
        assert vm.smc(FFA.ID_GET, Plant.ORDER_AB).ok
    assert [line.text for line in planted.console].count("tasklet 40") == 2


def test_a_tasklet_does_not_run_on_two_cpus_at_once(planted: Machine) -> None:
    planted.create_vm("1.1").smc(FFA.ID_GET, Plant.DEFER_IN_IRQ, 40)
    taken: list[Point] = []

    def again(point: Point) -> None:
        if not taken:
            taken.append(point)
            planted.take_irq(40)

    with planted.at_points(again, Points.LOCK):
        planted.take_irq(40)
    lines = [line.text for line in planted.console if line.text in ("in", "out")]
    assert taken
    assert lines == ["in", "out"] * 2


def test_nothing_is_switched_outside_of_at_points(planted: Machine) -> None:
    vm = planted.create_vm("1.1")
    seen: list[Point] = []
    with planted.at_points(seen.append):
        pass
    vm.smc(FFA.ID_GET, Plant.ORDER_AB)
    assert not seen


# --- a vCPU makes one call at a time -------------------------------------------------------------


@pytest.mark.parametrize("how", ["smc", "start", "batch"])
def test_a_vcpu_cannot_call_in_the_middle_of_its_call(planted: Machine, how: str) -> None:
    vm = planted.create_vm("1.1", vcpus=2)
    told: list[str] = []

    def intrude(_point: Point) -> None:
        with pytest.raises(UsageError) as caught:
            vm.batch([(FFA.ID_GET,)]) if how == "batch" else getattr(vm, how)(FFA.ID_GET)
        told.append(str(caught.value))
        assert vm.vcpus[1].smc(FFA.ID_GET).ok

    with planted.at_points(intrude, Points.LOCK):
        assert vm.smc(FFA.ID_GET, Plant.ORDER_AB).ok
    busy = f"vCPU 0 of domain {vm.domid} is in the middle of a call; use another: vm.vcpus[1]"
    assert told == [busy, busy]
    assert vm.smc(FFA.ID_GET).ok


def test_nor_can_it_in_a_script_of_the_secure_world(planted: Machine) -> None:
    vm = planted.create_vm("1.1")

    def script(regs: tuple[int, ...]) -> tuple[int, ...]:
        with pytest.raises(UsageError, match=r"middle of a call: create it with vcpus=2"):
            vm.smc(FFA.ID_GET)
        return regs

    planted.spmc.on(FFA.ID_GET).call(script)
    assert vm.smc(FFA.ID_GET, Plant.LOCK_AND_SMC).ok
    assert vm.smc(FFA.ID_GET).ok


def test_nor_while_a_call_that_it_started_is_under_way(planted: Machine) -> None:
    one, two = planted.create_vm("1.1"), planted.create_vm("1.1")
    calls = [one.start(FFA.ID_GET), two.start(FFA.ID_GET)]
    for vm in (one, two):  # on CPU 0, which smc() takes, and on another
        with pytest.raises(UsageError, match="in the middle of a call"):
            vm.smc(FFA.ID_GET)
    assert calls[0].reply().ok
    with pytest.raises(UsageError, match="in the middle of a call"):
        two.smc(FFA.ID_GET)  # with CPU 0 idle, too
    with pytest.raises(UsageError, match="in the middle of a call"):
        two.start(FFA.ID_GET)
    assert calls[1].reply().ok
    assert one.smc(FFA.ID_GET).ok
    assert two.smc(FFA.ID_GET).ok


def test_a_point_is_shown_as_people_read_addresses() -> None:
    assert repr(Point(2, Points.LOCK, 0xABC0)) == "<Point LOCK of 0xabc0, CPU 2>"
