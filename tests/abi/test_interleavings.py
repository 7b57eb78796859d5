# SPDX-License-Identifier: GPL-2.0-only
"""Calls in the middle of calls: what comes of both is what comes of one order of them.

See `ffashim.interleavings`: each call is left at each of its switch points, and another vCPU makes
each call there.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ffashim import FFA, Machine, capabilities
from ffashim.defects import Defect
from ffashim.defects.buffers import UNLOCKED
from ffashim.defects.discovery import SEES_HALF_A_CHANGE
from ffashim.defects.messages import WRITES_TO_THE_DYING
from ffashim.defects.notifications import LOSES_AN_INTERRUPT
from ffashim.interleavings import BUSY, COMES, FAILS, OUTERS, SITUATIONS, Clash, Scene, clashes
from ffashim.testing import at_each_point
from ffashim.traffic import guest, transaction, version_of

BUFFERS = {
    FFA.RXTX_MAP_64, FFA.RXTX_UNMAP, FFA.MEM_SHARE_64, FFA.PARTITION_INFO_GET, FFA.MSG_SEND2,
}  # fmt: skip
KNOWN: dict[Defect, Callable[[Clash], bool]] = {
    UNLOCKED: lambda clash: {clash.outer.fid, clash.inner.fid} <= BUFFERS,
    SEES_HALF_A_CHANGE: lambda clash: clash.inner.fid == FFA.PARTITION_INFO_GET_REGS,
    LOSES_AN_INTERRUPT: lambda clash: (
        (clash.outer.fid, clash.inner.fid) == (FFA.NOTIFICATION_GET, FFA.MSG_SEND2)
    ),
    WRITES_TO_THE_DYING: lambda clash: clash.outer.fid == FFA.MSG_SEND2 and clash.inner.ends,
}
"""What meetings a known defect spoils, which has a test of its own."""


QUICK = ("RX held", "a share", "a message was read")
"""Situations that are tried by who has no time for all."""


@pytest.mark.parametrize(
    ("situation", "call"),
    [
        pytest.param(how, call, marks=() if how in QUICK else pytest.mark.slow)
        for how in SITUATIONS
        for call in OUTERS
        if not (how == BUSY and call in (COMES, FAILS))
    ],
)
def test_a_call_in_the_middle_of_another_is_as_if_before_or_after_it(
    xen: Machine, situation: str, call: str
) -> None:
    there = [covers for defect, covers in KNOWN.items() if capabilities.probe(xen, defect.probe)]
    xen.boot()
    scene = Scene(xen, situation)
    found = [
        each
        for each in clashes(scene, scene.outer(call))
        if not any(covers(each) for covers in there)
    ]
    assert not found, "\n".join(map(str, found))


@UNLOCKED.mark
def test_buffers_are_unmapped_once(xen: Machine) -> None:
    vm = guest(xen, vcpus=2)
    for first, second in at_each_point(
        xen, lambda: vm.smc(FFA.RXTX_UNMAP), lambda: vm.vcpus[1].smc(FFA.RXTX_UNMAP)
    ):
        assert {first.ok, second.ok} == {True, False}


@UNLOCKED.mark
def test_tx_is_not_unmapped_while_a_share_is_read(xen: Machine) -> None:
    vm = guest(xen, vcpus=2)
    data = transaction(vm).encode(version_of(vm))
    vm.tx.write(data)
    for shared, unmapped in at_each_point(
        xen,
        lambda: vm.smc(FFA.MEM_SHARE_64, len(data), len(data)),
        lambda: vm.vcpus[1].smc(FFA.RXTX_UNMAP),
    ):
        assert shared.ok or unmapped.ok
