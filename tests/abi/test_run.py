# SPDX-License-Identifier: GPL-2.0-only
"""FFA_RUN: a guest gives cycles to a secure partition that has not finished (FF-A 1.1, ch. 14)."""

import pytest

from ffashim import FFA, FfaError, Machine, Reply, Spmc, Vm
from ffashim.defects.messages import ABORTS_IDLE, TELLS_ANYBODY
from ffashim.spmc.replies import interrupt, yielded
from ffashim.traffic import NO_SP, SP, direct, guest, soiled

pytestmark = pytest.mark.needs(abi=FFA.RUN)


def run(vm: Vm, sp: int = SP, vcpu: int = 0) -> Reply:
    return vm.smc(FFA.RUN, sp << 16 | vcpu)


def suspended(vm: Vm, spmc: Spmc, *payload: int, times: int = 1) -> None:
    """Ask an SP that is preempted, `times` times, before it has finished."""
    spmc.on(FFA.MSG_SEND_DIRECT_REQ_64).delay(times)
    assert direct(vm, *payload, fid=FFA.MSG_SEND_DIRECT_REQ_64).fid == FFA.INTERRUPT


def test_a_preempted_sp_goes_on_and_answers(vm: Vm, spmc: Spmc) -> None:
    suspended(vm, spmc, 1 << 40, 2)
    reply = run(vm)
    assert reply.fid == FFA.MSG_SEND_DIRECT_RESP_64
    assert reply[1:5] == (SP << 16 | vm.id, 0, 1 << 40, 2)


def test_an_sp_may_be_preempted_again(vm: Vm, spmc: Spmc) -> None:
    suspended(vm, spmc, times=4)
    assert [run(vm).fid for _ in range(4)] == [
        *[FFA.INTERRUPT] * 3,
        FFA.MSG_SEND_DIRECT_RESP_64,
    ]


def test_an_sp_that_yielded_goes_on(vm: Vm, spmc: Spmc) -> None:
    answers = iter([yielded(SP), (5,)])
    spmc.messages.handle(SP, lambda _request: next(answers))
    assert direct(vm).fid == FFA.MSG_YIELD
    assert run(vm).w(3) == 5


def test_a_request_of_any_kind_can_be_resumed(vm: Vm, spmc: Spmc) -> None:
    answers = iter([interrupt(0x8002), (6,)])
    spmc.messages.handle(0x8002, lambda _request: next(answers))
    assert direct(vm, receiver=0x8002).fid == FFA.INTERRUPT
    reply = run(vm, 0x8002)
    assert (reply.fid, reply.w(3)) == (FFA.MSG_SEND_DIRECT_RESP_32, 6)


def test_once_it_has_finished_the_sp_takes_requests_again(vm: Vm, spmc: Spmc) -> None:
    suspended(vm, spmc)
    assert direct(vm).error is FfaError.BUSY
    run(vm)
    assert direct(vm, 3).w(3) == 3


def test_a_32_bit_guest_resumes_an_sp(xen: Machine, spmc: Spmc) -> None:
    vm = guest(xen, bits=32)
    answers = iter([interrupt(SP), (9,)])
    spmc.messages.handle(SP, lambda _request: next(answers))
    assert direct(vm).fid == FFA.INTERRUPT
    assert run(vm).w(3) == 9


def test_the_vcpu_reaches_the_spmc(vm: Vm, spmc: Spmc) -> None:
    run(vm, 0x8002, 3)
    assert spmc.calls(FFA.RUN)[-1].x1 == 0x8002_0003


@ABORTS_IDLE.mark
def test_an_sp_that_has_nothing_to_do_waits(vm: Vm) -> None:
    # FFA_MSG_WAIT is one of the ways in which FFA_RUN completes (14.4, Figure 8.1).
    assert run(vm).fid == FFA.MSG_WAIT


# --- refusals ----------------------------------------------------------------------------------


def test_an_sp_that_does_not_exist(vm: Vm) -> None:
    assert run(vm, NO_SP).error is FfaError.INVALID_PARAMETERS


def test_a_vcpu_that_does_not_exist(vm: Vm) -> None:
    assert run(vm, SP, 1).error is FfaError.INVALID_PARAMETERS


@pytest.mark.parametrize("target", [0, 1])
def test_what_is_no_sp_cannot_be_run(vm: Vm, target: int) -> None:
    # Not supported by Xen, or invalid: which error it is, is not said, nor who finds it out.
    assert run(vm, target).error


def test_a_guest_cannot_run_another_guest(xen: Machine, vm: Vm) -> None:
    assert run(vm, guest(xen).id).error


@TELLS_ANYBODY.mark
def test_another_guests_answer_stays_secret(xen: Machine, vm: Vm, spmc: Spmc) -> None:
    # The response names its receiver; it is for the hypervisor, the SPMC's only caller, to see
    # that no other endpoint gets it (15.3).
    suspended(vm, spmc, 0x5EC_2E7)
    reply = run(guest(xen))
    assert reply.w(1) & 0xFFFF != vm.id
    assert 0x5EC_2E7 not in reply


@pytest.mark.parametrize("error", list(FfaError))
def test_the_spmcs_error_is_the_guests(vm: Vm, spmc: Spmc, error: FfaError) -> None:
    spmc.on(FFA.RUN).error(error)
    assert run(vm).error is error


# --- who may call, and how ---------------------------------------------------------------------


def test_upper_register_halves_do_not_count(vm: Vm, spmc: Spmc) -> None:
    suspended(vm, spmc, 8)
    assert vm.smc(FFA.RUN, *soiled(SP << 16)).w(3) == 8
    assert spmc.calls(FFA.RUN)[-1].x1 == SP << 16


def test_before_version_negotiation_it_is_not_supported(xen: Machine) -> None:
    assert run(xen.create_vm()).error is FfaError.NOT_SUPPORTED


@pytest.mark.spmc(features_off=[FFA.RUN])
def test_what_the_spmc_lacks_is_not_supported(vm: Vm, spmc: Spmc) -> None:
    assert run(vm).error is FfaError.NOT_SUPPORTED
    assert not spmc.calls(FFA.RUN)
