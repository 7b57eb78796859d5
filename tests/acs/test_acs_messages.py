# SPDX-License-Identifier: GPL-2.0-only
"""ACS messages: cases of Arm's FF-A ACS, by their identifiers (see docs/acs.md)."""

from uuid import UUID

import pytest

from ffashim import FFA, FfaError, Machine, SecurePartition, Spmc, Vm
from ffashim.defaults import CRYPTO, MAILBOX
from ffashim.defects.buffers import HIDES_BUFFERS
from ffashim.defects.messages import ABORTS_IDLE, ABORTS_INTERRUPTED
from ffashim.ffa import PartitionProperty
from ffashim.spmc.replies import interrupt
from ffashim.testing import boot_with
from ffashim.traffic import NO_SP, SP, direct, guest, send2

KINDS = {
    "ffa_direct_message_32": (FFA.MSG_SEND_DIRECT_REQ_32, FFA.MSG_SEND_DIRECT_RESP_32, 32),
    "ffa_direct_message_64": (FFA.MSG_SEND_DIRECT_REQ_64, FFA.MSG_SEND_DIRECT_RESP_64, 64),
}


def exchanged(vm: Vm, case: str) -> None:
    request, response, bits = KINDS[case]
    values = [(n << bits - 8) | n for n in range(1, 6)]
    reply = direct(vm, *values, fid=request)
    assert reply.fid == response
    assert list(reply[3:8]) == values


def swapped(vm: Vm, case: str) -> None:
    reply = vm.smc(KINDS[case][0], SP << 16 | vm.id)
    assert reply.error is FfaError.INVALID_PARAMETERS


def to_oneself(vm: Vm, case: str) -> None:
    assert direct(vm, receiver=vm.id, fid=KINDS[case][0]).error is FfaError.INVALID_PARAMETERS


def supports_only_others(machine: Machine) -> bool:
    vm = guest(machine)
    return direct(vm, receiver=vm.id).error is FfaError.NOT_SUPPORTED


TO_ONESELF = pytest.mark.known_defect(
    supports_only_others,
    "NOT_SUPPORTED for a request to oneself, where FF-A ACS wants INVALID_PARAMETERS",
)


def reserved(vm: Vm, spmc: Spmc, case: str) -> None:
    # w2 must be zero. Xen may leave that to the SPMC, as long as this gets to see it.
    reply = vm.smc(KINDS[case][0], vm.id << 16 | SP, 0xFFFF)
    asked = [smc.x2 for smc in spmc.calls(KINDS[case][0])]
    assert reply.error is FfaError.INVALID_PARAMETERS or asked[-1] == 0xFFFF


def no_response_to_give(vm: Vm, case: str) -> None:
    # Nobody has asked the guest anything.
    reply = vm.smc(KINDS[case][1], vm.id << 16 | SP)
    assert reply.error or reply.unknown


def test_ffa_direct_message_32__values(vm: Vm) -> None:
    exchanged(vm, "ffa_direct_message_32")


def test_ffa_direct_message_32__swapped_ids(vm: Vm) -> None:
    swapped(vm, "ffa_direct_message_32")


@TO_ONESELF
def test_ffa_direct_message_32__to_oneself(vm: Vm) -> None:
    to_oneself(vm, "ffa_direct_message_32")


def test_ffa_direct_message_32__reserved(vm: Vm, spmc: Spmc) -> None:
    reserved(vm, spmc, "ffa_direct_message_32")


def test_ffa_direct_message_32__response(vm: Vm) -> None:
    no_response_to_give(vm, "ffa_direct_message_32")


def test_ffa_direct_message_64__values(vm: Vm) -> None:
    exchanged(vm, "ffa_direct_message_64")


def test_ffa_direct_message_64__swapped_ids(vm: Vm) -> None:
    swapped(vm, "ffa_direct_message_64")


@TO_ONESELF
def test_ffa_direct_message_64__to_oneself(vm: Vm) -> None:
    to_oneself(vm, "ffa_direct_message_64")


def test_ffa_direct_message_64__reserved(vm: Vm, spmc: Spmc) -> None:
    reserved(vm, spmc, "ffa_direct_message_64")


def test_ffa_direct_message_64__response(vm: Vm) -> None:
    no_response_to_give(vm, "ffa_direct_message_64")


def request2(vm: Vm, uuid: UUID, *values: int, ids: int | None = None) -> tuple[int, ...]:
    low, high = (int.from_bytes(uuid.bytes[n : n + 8], "little") for n in (0, 8))
    return vm.smc(
        FFA.MSG_SEND_DIRECT_REQ2, vm.id << 16 | SP if ids is None else ids, low, high, *values
    )


@pytest.mark.needs(abi=FFA.MSG_SEND_DIRECT_REQ2)
def test_ffa_direct_message2__values(vm: Vm) -> None:
    values = tuple(n << 60 | n for n in range(14))
    reply = request2(vm, MAILBOX, *values)
    assert reply[0] == FFA.MSG_SEND_DIRECT_RESP2
    assert reply[4:] == values


@pytest.mark.needs(abi=FFA.MSG_SEND_DIRECT_REQ2)
@pytest.mark.parametrize("uuid", [MAILBOX, CRYPTO])
def test_ffa_direct_message2__invalid(vm: Vm, uuid: UUID) -> None:
    # Swapped IDs, and a UUID that the partition does not have.
    ids = SP << 16 | vm.id if uuid == MAILBOX else None
    reply = request2(vm, uuid, ids=ids)
    assert reply[0] == FFA.ERROR
    assert reply[2] & 0xFFFF_FFFF == FfaError.INVALID_PARAMETERS.w


@pytest.mark.parametrize("fid", [FFA.MSG_SEND_DIRECT_REQ_32, FFA.MSG_SEND_DIRECT_REQ_64])
def test_ffa_direct_message_error(xen: Machine, fid: FFA) -> None:
    boot_with(xen, [SecurePartition(0x8001, properties=PartitionProperty.DIRECT_REQ_SEND)])
    assert direct(guest(xen), fid=fid).error is FfaError.DENIED


@pytest.mark.parametrize("fid", [FFA.MSG_SEND_DIRECT_REQ_32, FFA.MSG_SEND_DIRECT_REQ_64])
def test_ffa_direct_message_error1(xen: Machine, fid: FFA) -> None:
    boot_with(xen, [SecurePartition(0x8001, properties=PartitionProperty.INDIRECT_MSGS)])
    assert direct(guest(xen), fid=fid).error is FfaError.DENIED


# --- indirect ----------------------------------------------------------------------------------

SEND2 = pytest.mark.needs(abi=FFA.MSG_SEND2)


@pytest.fixture
def sender(vm: Vm) -> Vm:
    """A guest with RX/TX buffers."""
    vm.map_rxtx()
    return vm


@SEND2
@HIDES_BUFFERS.mark
def test_ffa_msg_send2__delivered(sender: Vm, spmc: Spmc) -> None:
    assert send2(sender, SP, bytes(32)).ok
    assert [each.sender for each in spmc.messages.delivered] == [sender.id]


@SEND2
def test_ffa_msg_send2__to_oneself(sender: Vm) -> None:
    assert send2(sender, sender.id, bytes(32)).error is FfaError.INVALID_PARAMETERS


@SEND2
@HIDES_BUFFERS.mark
def test_ffa_msg_send2__invalid_receiver(sender: Vm) -> None:
    assert send2(sender, NO_SP, bytes(32)).error is FfaError.INVALID_PARAMETERS


@SEND2
@HIDES_BUFFERS.mark
def test_ffa_msg_send2__receiver_without_messages(sender: Vm, spmc: Spmc) -> None:
    assert send2(sender, SP, bytes(32)).ok
    spmc.add(SecurePartition(0x8009, properties=PartitionProperty.DIRECT_REQ_RECV))
    assert send2(sender, 0x8009, bytes(32)).error is FfaError.DENIED


@SEND2
def test_ffa_msg_send2__rx_full(sender: Vm, spmc: Spmc) -> None:
    spmc.on(FFA.MSG_SEND2).error(FfaError.BUSY)
    assert send2(sender, SP, bytes(32)).error is FfaError.BUSY


@pytest.mark.needs(abi=FFA.MSG_SEND2, version="1.2")
@HIDES_BUFFERS.mark
def test_ffa_msg_send2_uuid_check(sender: Vm, spmc: Spmc) -> None:
    wrong = UUID(fields=(0xA, 0, 0xB, 0, 0xC, 0xD))
    assert send2(sender, SP, bytes(32), uuid=wrong).error is FfaError.INVALID_PARAMETERS
    assert send2(sender, SP, bytes(32), uuid=MAILBOX).ok
    assert spmc.messages.delivered[0].uuid == MAILBOX


# --- FFA_RUN -----------------------------------------------------------------------------------


@pytest.mark.needs(abi=FFA.RUN)
def test_ffa_run(vm: Vm) -> None:
    # The suite also wants w2 to be zero, which since 1.1 it only should be.
    assert vm.smc(FFA.RUN, NO_SP << 16).error is FfaError.INVALID_PARAMETERS
    assert vm.smc(FFA.RUN, SP).error


@pytest.mark.needs(abi=FFA.RUN)
@ABORTS_IDLE.mark
def test_ffa_run_direct_req(vm: Vm) -> None:
    assert direct(vm, fid=FFA.MSG_SEND_DIRECT_REQ_64).fid == FFA.MSG_SEND_DIRECT_RESP_64
    assert vm.smc(FFA.RUN, SP << 16).fid == FFA.MSG_WAIT


def preempted(vm: Vm, spmc: Spmc, partition: int) -> None:
    """An interrupt of the normal world is signalled, and the partition resumed after it."""
    answers = iter([interrupt(partition), (7,)])
    spmc.messages.handle(partition, lambda _request: next(answers))
    reply = direct(vm, receiver=partition, fid=FFA.MSG_SEND_DIRECT_REQ_64)
    assert (reply.fid, reply.w(1)) == (FFA.INTERRUPT, partition << 16)
    reply = vm.smc(FFA.RUN, reply.x1)
    assert (reply.fid, reply.x3) == (FFA.MSG_SEND_DIRECT_RESP_64, 7)


@ABORTS_INTERRUPTED.mark
def test_vm_to_sp_preempt(vm: Vm, spmc: Spmc) -> None:
    preempted(vm, spmc, 0x8002)


@ABORTS_INTERRUPTED.mark
def test_vm_to_up_sp_preempt(vm: Vm, spmc: Spmc) -> None:
    preempted(vm, spmc, SP)
