# SPDX-License-Identifier: GPL-2.0-only
"""FFA_ID_GET: an endpoint learns its own ID (FF-A 1.2, 13.10)."""

from ffashim import FFA, Machine, Vm


def test_a_guest_gets_its_domain_id_plus_one(xen: Machine) -> None:
    for domid in (1, 2, 77):
        vm = xen.create_vm("1.1", domid=domid)
        assert vm.smc(FFA.ID_GET).w(2) == domid + 1


def test_the_rest_of_the_answer_is_zero(vm: Vm) -> None:
    reply = vm.smc(FFA.ID_GET)
    assert reply.ok
    assert reply[1] == 0 and not any(reply[3:8])
