# SPDX-License-Identifier: GPL-2.0-only
"""FFA_MSG_SEND_DIRECT_REQ: a guest asks a secure partition for something (FF-A 1.1, 15.2)."""

import pytest

from ffashim import FFA, FfaError, Machine, SecurePartition, Spmc, Vm
from ffashim.defects.messages import (
    ABORTS_INTERRUPTED,
    ANSWERS_AS_WIDE_AS_ASKED,
    ECHOES_W1,
    PASSES_ON_FRAMEWORK_MESSAGES,
)
from ffashim.defects.versions import SERVES_WITHOUT_VERSION
from ffashim.ffa import PartitionProperty
from ffashim.spmc.replies import interrupt, yielded
from ffashim.traffic import NO_SP, SP, direct, guest, soiled

REQUESTS = [FFA.MSG_SEND_DIRECT_REQ_32, FFA.MSG_SEND_DIRECT_REQ_64]
RESPONSE = {
    FFA.MSG_SEND_DIRECT_REQ_32: FFA.MSG_SEND_DIRECT_RESP_32,
    FFA.MSG_SEND_DIRECT_REQ_64: FFA.MSG_SEND_DIRECT_RESP_64,
}
DEAF = SecurePartition(0x8009, properties=PartitionProperty.DIRECT_REQ_SEND)

both = pytest.mark.parametrize("fid", REQUESTS, ids=["SMC32", "SMC64"])


@both
def test_the_sp_answers(vm: Vm, fid: FFA) -> None:
    reply = direct(vm, 1, 2, 3, 4, 5, fid=fid)
    assert reply.fid == RESPONSE[fid]
    assert reply.w(1) == SP << 16 | vm.id
    assert reply[2:8] == (0, 1, 2, 3, 4, 5)


@both
def test_the_sp_knows_who_asks(vm: Vm, spmc: Spmc, fid: FFA) -> None:
    spmc.messages.handle(0x8002, lambda request: (request.sender, request.receiver))
    assert direct(vm, receiver=0x8002, fid=fid)[3:5] == (vm.id, 0x8002)


def test_all_64_bits_of_the_64_bit_call_go_through(vm: Vm) -> None:
    values = [n << 60 | n << 32 | n for n in range(1, 6)]
    assert list(direct(vm, *values, fid=FFA.MSG_SEND_DIRECT_REQ_64)[3:8]) == values


def test_the_32_bit_call_carries_32_bits_each_way(vm: Vm, spmc: Spmc) -> None:
    # SMCCC: upper halves of an SMC32 call's registers do not count, on either side.
    spmc.on(FFA.MSG_SEND_DIRECT_REQ_32).garble(
        lambda _request, reply: (reply[0], *soiled(*reply[1:8]), *reply[8:])
    )
    values = [1 << 31 | n for n in range(1, 6)]
    reply = vm.smc(FFA.MSG_SEND_DIRECT_REQ_32, *soiled(vm.id << 16 | SP, 0, *values))
    assert reply[1:8] == (SP << 16 | vm.id, 0, *values)
    assert max(spmc.calls(FFA.MSG_SEND_DIRECT_REQ_32)[-1].request[1:8]) < 1 << 32


def test_a_32_bit_guest_asks(xen: Machine) -> None:
    assert direct(guest(xen, bits=32), 7).w(3) == 7


def test_every_vcpu_may_ask(xen: Machine) -> None:
    vm = xen.create_vm("1.1", vcpus=3)
    assert [direct(vcpu, n).w(3) for n, vcpu in enumerate(vm.vcpus)] == [0, 1, 2]


def test_no_buffers_are_needed_and_nothing_is_held(xen: Machine, vm: Vm) -> None:
    before = len(xen.heap)
    direct(vm)
    assert len(xen.heap) == before
    assert not xen.mappings


# --- refusals ----------------------------------------------------------------------------------


def asked(spmc: Spmc) -> int:
    """How many requests of guests reached the SPMC."""
    return sum(1 for smc in spmc.calls(*REQUESTS) if smc.x1 >> 16)


@both
@pytest.mark.parametrize("sender", [0, 1, 0x7FFF, SP, 0xFFFF])
def test_nobody_asks_in_anothers_name(vm: Vm, spmc: Spmc, fid: FFA, sender: int) -> None:
    reply = vm.smc(fid, sender << 16 | SP)
    assert reply.error is FfaError.INVALID_PARAMETERS
    assert not asked(spmc)


@both
def test_an_sp_that_does_not_exist(vm: Vm, fid: FFA) -> None:
    assert direct(vm, receiver=NO_SP, fid=fid).error is FfaError.INVALID_PARAMETERS


@both
def test_an_sp_that_takes_no_requests(vm: Vm, spmc: Spmc, fid: FFA) -> None:
    spmc.add(DEAF)
    assert direct(vm, receiver=DEAF.id, fid=fid).error is FfaError.DENIED


@both
def test_another_guest_cannot_be_asked(xen: Machine, vm: Vm, fid: FFA) -> None:
    # A limit that ffa.c documents; which error it is, is not said, and 4.18 asks the SPMC.
    assert direct(vm, receiver=guest(xen).id, fid=fid).error


@both
def test_a_guest_cannot_ask_itself(vm: Vm, fid: FFA) -> None:
    # Invalid, and a guest as well: newer trees say the first, older ones the second.
    assert direct(vm, receiver=vm.id, fid=fid).error


@both
def test_the_hypervisor_cannot_be_asked(vm: Vm, fid: FFA) -> None:
    assert direct(vm, receiver=0, fid=fid).error


@both
@pytest.mark.parametrize("error", list(FfaError))
def test_the_spmcs_error_is_the_guests(vm: Vm, spmc: Spmc, fid: FFA, error: FfaError) -> None:
    spmc.on(fid).error(error)
    assert direct(vm, fid=fid).error is error


@both
def test_an_answer_that_is_none_is_an_abort(vm: Vm, spmc: Spmc, fid: FFA) -> None:
    spmc.on(fid).reply(FFA.RX_RELEASE, 0x1234)
    reply = direct(vm, fid=fid)
    assert reply.error is FfaError.ABORTED
    assert not any(reply[3:8])


@both
@ECHOES_W1.mark
def test_an_abort_names_no_target(vm: Vm, spmc: Spmc, fid: FFA) -> None:
    # Of an error that is Xen's own there is no endpoint to name in w1 (chapter 12).
    spmc.on(fid).reply(FFA.RX_RELEASE)
    assert direct(vm, fid=fid).x1 == 0


@ANSWERS_AS_WIDE_AS_ASKED.mark
def test_an_error_code_has_32_bits(vm: Vm) -> None:
    # FFA_ERROR is a function of 32 bits, whatever it answers: the code is w2 (chapter 12).
    reply = vm.smc(FFA.MSG_SEND_DIRECT_REQ_64, SP)  # in the name of endpoint 0
    assert reply.error
    assert reply.x2 >> 32 == 0


@ANSWERS_AS_WIDE_AS_ASKED.mark
def test_a_32_bit_answer_has_32_bits(vm: Vm, spmc: Spmc) -> None:
    response = FFA.MSG_SEND_DIRECT_RESP_32, SP << 16 | vm.id, 0
    spmc.on(FFA.MSG_SEND_DIRECT_REQ_64).reply(*response, *soiled(1))
    assert direct(vm, fid=FFA.MSG_SEND_DIRECT_REQ_64).x3 in (1, 0)  # passed on, or none


@PASSES_ON_FRAMEWORK_MESSAGES.mark
@pytest.mark.parametrize("kind", [0x0, 0x4, 0x6, 0xFF])
def test_a_guest_cannot_send_framework_messages(vm: Vm, spmc: Spmc, kind: int) -> None:
    # Power management and the life of VMs are the SPMC's and the hypervisor's to tell (ch. 18).
    # Which error a guest gets for trying is not said.
    x1 = vm.id << 16 | SP
    assert vm.smc(FFA.MSG_SEND_DIRECT_REQ_32, x1, 1 << 31 | kind, 0, 0, 1).error
    assert not asked(spmc)


# --- an SP that does not finish ----------------------------------------------------------------


@both
@ABORTS_INTERRUPTED.mark
def test_a_preempted_sp_is_an_interrupt_to_the_guest(vm: Vm, spmc: Spmc, fid: FFA) -> None:
    spmc.messages.handle(SP, lambda _request: interrupt(SP))
    reply = direct(vm, fid=fid)
    assert reply.fid == FFA.INTERRUPT
    assert reply.w(1) == SP << 16


@both
@ABORTS_INTERRUPTED.mark
def test_an_sp_may_yield(vm: Vm, spmc: Spmc, fid: FFA) -> None:
    spmc.messages.handle(SP, lambda _request: yielded(SP))
    assert direct(vm, fid=fid).fid == FFA.MSG_YIELD


@both
def test_an_sp_that_has_not_finished_is_busy(vm: Vm, spmc: Spmc, fid: FFA) -> None:
    spmc.messages.handle(SP, lambda _request: interrupt(SP))
    direct(vm, fid=fid)
    assert direct(vm, fid=fid).error is FfaError.BUSY


# --- who may call, and how ---------------------------------------------------------------------


@SERVES_WITHOUT_VERSION.mark
@both
def test_before_version_negotiation_it_is_not_supported(xen: Machine, fid: FFA) -> None:
    assert direct(xen.create_vm(), fid=fid).error is FfaError.NOT_SUPPORTED


def test_a_32_bit_guest_cannot_make_the_64_bit_call(xen: Machine) -> None:
    assert direct(guest(xen, bits=32), fid=FFA.MSG_SEND_DIRECT_REQ_64).unknown


@pytest.mark.spmc(features_off=[FFA.MSG_SEND_DIRECT_REQ_64])
def test_what_the_spmc_lacks_is_not_supported(vm: Vm) -> None:
    assert direct(vm, fid=FFA.MSG_SEND_DIRECT_REQ_64).error is FfaError.NOT_SUPPORTED
    assert direct(vm).fid == FFA.MSG_SEND_DIRECT_RESP_32
