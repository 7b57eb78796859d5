# SPDX-License-Identifier: GPL-2.0-only
"""FFA_MSG_SEND_DIRECT_REQ2: a guest asks a service, by its UUID, with 14 registers (FF-A 1.2,
15.4)."""

import struct
from uuid import UUID

import pytest

from ffashim import FFA, FfaError, Machine, Reply, SecurePartition, Spmc, Vm
from ffashim.defaults import CRYPTO, MAILBOX, STORAGE, UPDATE
from ffashim.ffa import PartitionProperty
from ffashim.spmc.replies import interrupt
from ffashim.traffic import NO_SP, SP, guest

pytestmark = pytest.mark.needs(abi=FFA.MSG_SEND_DIRECT_REQ2)

PAYLOAD = tuple(n << 56 | n << 32 | n for n in range(4, 18))
"""x4 to x17, each different, in both halves."""
OLD = SecurePartition(0x8009, properties=PartitionProperty.DIRECT_REQ_RECV)


def request(vm: Vm, *payload: int, receiver: int = SP, uuid: UUID = MAILBOX) -> Reply:
    low, high = struct.unpack("<2Q", uuid.bytes)
    x1 = vm.id << 16 | receiver
    return vm.smc(FFA.MSG_SEND_DIRECT_REQ2, x1, low, high, *payload)


def test_all_fourteen_registers_go_both_ways(vm: Vm) -> None:
    reply = request(vm, *PAYLOAD)
    assert reply.fid == FFA.MSG_SEND_DIRECT_RESP2
    assert reply.w(1) == SP << 16 | vm.id
    assert reply[4:] == PAYLOAD


def test_the_rest_of_a_short_answer_is_zero(vm: Vm, spmc: Spmc) -> None:
    spmc.messages.handle(SP, lambda _request: (1, 2))
    assert request(vm, *PAYLOAD)[2:] == (0, 0, 1, 2, *(0,) * 12)


@pytest.mark.parametrize("uuid", [STORAGE, UPDATE])
def test_the_sp_learns_which_of_its_services_is_meant(vm: Vm, spmc: Spmc, uuid: UUID) -> None:
    seen = []

    def service(request: object) -> tuple[int, ...]:
        seen.append(getattr(request, "uuid", None))
        return ()

    spmc.messages.handle(0x8003, service)
    assert request(vm, receiver=0x8003, uuid=uuid).fid == FFA.MSG_SEND_DIRECT_RESP2
    assert seen == [uuid]


def test_the_nil_uuid_means_the_sp_itself(vm: Vm) -> None:
    assert request(vm, uuid=UUID(int=0)).fid == FFA.MSG_SEND_DIRECT_RESP2


def test_nothing_of_an_error_is_left_in_the_registers(vm: Vm) -> None:
    reply = request(vm, *PAYLOAD, receiver=NO_SP)
    assert reply.error is FfaError.INVALID_PARAMETERS
    assert reply[1] == 0
    assert not any(reply[3:8])


# --- refusals ----------------------------------------------------------------------------------


def test_a_service_that_the_sp_does_not_have(vm: Vm) -> None:
    assert request(vm, uuid=CRYPTO).error is FfaError.INVALID_PARAMETERS


@pytest.mark.parametrize("sender", [0, 1, SP, 0xFFFF])
def test_nobody_asks_in_anothers_name(vm: Vm, spmc: Spmc, sender: int) -> None:
    reply = vm.smc(FFA.MSG_SEND_DIRECT_REQ2, sender << 16 | SP)
    assert reply.error is FfaError.INVALID_PARAMETERS
    assert not spmc.calls(FFA.MSG_SEND_DIRECT_REQ2)


def test_an_sp_that_takes_the_older_requests_only(vm: Vm, spmc: Spmc) -> None:
    spmc.add(OLD)
    assert request(vm, receiver=OLD.id, uuid=OLD.uuid).error is FfaError.DENIED


def test_another_guest_cannot_be_asked(xen: Machine, vm: Vm) -> None:
    # A limit that ffa.c documents.
    assert request(vm, receiver=guest(xen).id).error is FfaError.NOT_SUPPORTED


def test_a_guest_cannot_ask_itself(vm: Vm) -> None:
    assert request(vm, receiver=vm.id).error is FfaError.INVALID_PARAMETERS


@pytest.mark.parametrize("error", list(FfaError))
def test_the_spmcs_error_is_the_guests(vm: Vm, spmc: Spmc, error: FfaError) -> None:
    spmc.on(FFA.MSG_SEND_DIRECT_REQ2).error(error)
    assert request(vm).error is error


def test_an_answer_that_is_none_is_an_abort(vm: Vm, spmc: Spmc) -> None:
    spmc.on(FFA.MSG_SEND_DIRECT_REQ2).reply(FFA.RX_RELEASE, 0x1234)
    assert request(vm).error is FfaError.ABORTED


def test_a_preempted_sp_is_an_interrupt_to_the_guest(vm: Vm, spmc: Spmc) -> None:
    spmc.messages.handle(SP, lambda _request: interrupt(SP))
    reply = request(vm)
    assert (reply.fid, reply.w(1)) == (FFA.INTERRUPT, SP << 16)


# --- who may call, and how ---------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_below_1_2_it_is_not_supported(xen: Machine, spmc: Spmc, version: str) -> None:
    assert request(xen.create_vm(version)).error is FfaError.NOT_SUPPORTED
    assert not spmc.calls(FFA.MSG_SEND_DIRECT_REQ2)


def test_before_version_negotiation_it_is_not_supported(xen: Machine) -> None:
    assert request(xen.create_vm()).error is FfaError.NOT_SUPPORTED


def test_a_32_bit_guest_cannot_make_it(xen: Machine) -> None:
    assert request(guest(xen, bits=32)).unknown


@pytest.mark.spmc(version="1.1")
def test_an_spmc_of_1_1_has_it_not(vm: Vm, spmc: Spmc) -> None:
    assert request(vm).error is FfaError.NOT_SUPPORTED
    assert not spmc.calls(FFA.MSG_SEND_DIRECT_REQ2)
