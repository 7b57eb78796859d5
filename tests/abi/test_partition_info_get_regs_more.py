# SPDX-License-Identifier: GPL-2.0-only
"""FFA_PARTITION_INFO_GET_REGS, in the middle of changes: what bent implementations got wrong
(FF-A 1.2, 13.9).
"""

from collections.abc import Callable

import pytest

from ffashim import FFA, FfaError, Machine, Vm
from ffashim.defects.versions import PUBLISHES_THE_VERSION_FIRST
from ffashim.machine import Point, Points
from ffashim.testing import (
    boot_with,
    secure_partitions,
    while_a_guest_enters,
)

pytestmark = pytest.mark.needs(abi=FFA.PARTITION_INFO_GET_REGS, vm_to_vm=True)


def enters(vm: Vm) -> None:
    vm.smc(FFA.ID_GET)


def leaves(vm: Vm) -> None:
    vm.destroy()


@pytest.mark.parametrize("change", [enters, leaves], ids=lambda change: change.__name__)
@pytest.mark.parametrize("partitions", [0, 5])
def test_claim_9_a_change_is_whole_once_a_lock_is_released(
    xen: Machine, change: Callable[[Vm], None], partitions: int
) -> None:
    # Count, list and tag change under one lock: whenever one has been released, all three are
    # as before, or all are new.
    boot_with(xen, secure_partitions(partitions))
    caller = xen.create_vm("1.2")
    xen.create_vm("1.1")
    other = xen.create_vm()
    other.smc(FFA.VERSION, 0x1_0001)
    if change is leaves:
        other.smc(FFA.ID_GET)
    seen = [caller.partition_info_get_regs()]

    def reached(_point: Point) -> None:
        seen.append(caller.partition_info_get_regs())

    with xen.at_points(reached, Points.UNLOCK):
        change(other)
    assert len(seen) > 1
    seen = [reply for reply in seen if reply.error is not FfaError.RETRY]
    assert {tuple(each) for each in seen} <= {
        tuple(seen[0]),
        tuple(caller.partition_info_get_regs()),
    }


@PUBLISHES_THE_VERSION_FIRST.mark
def test_claim_9_a_guest_that_enters_finds_everybody(xen: Machine) -> None:
    # It can ask only once it has entered, so there is one list that it can find.
    final, found = while_a_guest_enters(xen)
    assert final.ok
    assert found
    assert all(reply == final or reply.error is FfaError.RETRY for reply in found)
