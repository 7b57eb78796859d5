# SPDX-License-Identifier: GPL-2.0-only
"""FFA_ID_GET: an endpoint learns its own ID (FF-A 1.2, 13.10)."""

import pytest

from ffashim import FFA, FfaError, Machine, Vm
from ffashim.defects.versions import SERVES_WITHOUT_VERSION


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("domid", [1, 2, 77, 0x7FEE])
def test_a_guest_gets_its_domain_id_plus_one(xen: Machine, domid: int, bits: int) -> None:
    vm = xen.create_vm("1.1", domid=domid, bits=bits)
    assert vm.smc(FFA.ID_GET).w(2) == domid + 1


def test_the_rest_of_the_answer_is_zero(vm: Vm) -> None:
    reply = vm.smc(FFA.ID_GET, *([0xA5A5] * 17))
    assert reply.ok
    assert reply[1] == 0
    assert not any(reply[3:8])


def test_arguments_are_ignored(vm: Vm) -> None:
    # w1 to w7 are SBZ.
    assert vm.smc(FFA.ID_GET, *([(1 << 64) - 1] * 17))[:8] == vm.smc(FFA.ID_GET)[:8]


def test_the_spmc_is_not_asked(xen: Machine, vm: Vm) -> None:
    before = len(xen.spmc.log)
    assert vm.smc(FFA.ID_GET).ok
    assert len(xen.spmc.log) == before


@SERVES_WITHOUT_VERSION.mark
def test_it_wants_a_version_first(xen: Machine) -> None:
    assert xen.create_vm().smc(FFA.ID_GET).error is FfaError.NOT_SUPPORTED
