# SPDX-License-Identifier: GPL-2.0-only
"""The SPMC's messages: direct, framework, indirect, and FFA_RUN."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

import pytest

from ffashim.descriptors import CompositeRegion, Constituent, EndpointRxTx, IndirectMessage
from ffashim.errors import UsageError
from ffashim.ffa import (
    FFA,
    MSG_FLAG_FRAMEWORK,
    NOTIF_GET_SPM,
    V1_1,
    V1_2,
    FfaError,
    FrameworkMessage,
    PartitionProperty,
    Version,
    error_code,
)
from ffashim.spmc import Delivered, DirectRequest, Regs, SecurePartition, Spmc, interrupt, yielded
from ffashim.spmc.flat import TX, FlatHost
from ffashim.spmc.partitions import DEFAULT_PROPERTIES

VM, SP, DEAF, OTHER = 3, 0x8001, 0x8002, 0x8003
NIL = UUID(int=0)
PAIR, REPLY = VM << 16 | SP, SP << 16 | VM
CREATED = MSG_FLAG_FRAMEWORK | FrameworkMessage.VM_CREATED
DESTROYED = MSG_FLAG_FRAMEWORK | FrameworkMessage.VM_DESTROYED
VM_TX, VM_RX = 0x5000, 0x6000


@pytest.fixture
def host() -> FlatHost:
    sps = [SecurePartition(SP, exec_contexts=2), SecurePartition(DEAF, properties=0)]
    host = FlatHost(Spmc("1.2", sps))
    host.boot()
    return host


def rules(host: FlatHost) -> list[str]:
    return [v.rule for v in host.spmc.violations]


def map_vm(host: FlatHost) -> None:
    rx, tx = (CompositeRegion((Constituent(a),)) for a in (VM_RX, VM_TX))
    host.write(TX, EndpointRxTx(VM, rx, tx).encode())
    assert host.smc(FFA.RXTX_MAP_64)[0] == FFA.SUCCESS_32


def test_a_direct_request_is_echoed_with_the_ids_swapped(host: FlatHost) -> None:
    reply = host.smc(FFA.MSG_SEND_DIRECT_REQ_64, PAIR, 0, 1 << 40, 2, 3, 4, 5)
    assert reply[:8] == (FFA.MSG_SEND_DIRECT_RESP_64, REPLY, 0, 1 << 40, 2, 3, 4, 5)


def test_a_32_bit_direct_request_carries_32_bits(host: FlatHost) -> None:
    reply = host.smc(FFA.MSG_SEND_DIRECT_REQ_32, PAIR, 0, 1 << 40 | 7)
    assert reply[:4] == (FFA.MSG_SEND_DIRECT_RESP_32, REPLY, 0, 7)


def test_a_direct_request_2_carries_fourteen_registers(host: FlatHost) -> None:
    payload = tuple(range(4, 18))
    reply = host.smc(FFA.MSG_SEND_DIRECT_REQ2, PAIR, 0, 0, *payload)
    assert reply == (FFA.MSG_SEND_DIRECT_RESP2, REPLY, 0, 0, *payload)
    assert not host.spmc.notes


def test_a_direct_request_2_names_a_uuid_of_its_receiver(host: FlatHost) -> None:
    uuid = host.spmc.state.by_id[SP].uuid
    lo, hi = (int.from_bytes(uuid.bytes[n : n + 8], "little") for n in (0, 8))
    assert host.smc(FFA.MSG_SEND_DIRECT_REQ2, PAIR, lo, hi)[0] == FFA.MSG_SEND_DIRECT_RESP2
    reply = host.smc(FFA.MSG_SEND_DIRECT_REQ2, PAIR, hi, lo)
    assert error_code(reply[2]) is FfaError.INVALID_PARAMETERS


@pytest.mark.parametrize("fid", [FFA.MSG_SEND_DIRECT_REQ_32, FFA.MSG_SEND_DIRECT_REQ2])
@pytest.mark.parametrize(
    ("receiver", "error"), [(0x80FF, FfaError.INVALID_PARAMETERS), (DEAF, FfaError.DENIED)]
)
def test_a_direct_request_to_who_cannot_have_it_is_refused(
    host: FlatHost, fid: FFA, receiver: int, error: FfaError
) -> None:
    assert error_code(host.smc(fid, VM << 16 | receiver)[2]) is error
    assert not rules(host)


@pytest.mark.parametrize("sender", [0, 0x8002])
def test_a_direct_request_of_who_is_no_vm_is_a_violation(host: FlatHost, sender: int) -> None:
    host.smc(FFA.MSG_SEND_DIRECT_REQ_64, sender << 16 | SP)
    assert rules(host) == ["vm-id"]


def test_an_sp_answers_as_its_handler_says_until_a_restore(host: FlatHost) -> None:
    before = host.spmc.snapshot()
    seen: list[DirectRequest] = []

    def handler(request: DirectRequest) -> Sequence[int]:
        seen.append(request)
        return [sum(request.payload)]

    host.spmc.messages.handle(SP, handler)
    assert host.smc(FFA.MSG_SEND_DIRECT_REQ_64, PAIR, 0, 1, 2, 3)[3] == 6
    assert (seen[0].sender, seen[0].receiver, seen[0].uuid) == (VM, SP, NIL)
    host.spmc.restore(before)
    assert host.smc(FFA.MSG_SEND_DIRECT_REQ_64, PAIR, 0, 1, 2, 3)[3] == 1
    with pytest.raises(UsageError, match="no secure partition 0x80ff"):
        host.spmc.messages.handle(0x80FF, handler)


def test_a_handler_that_says_too_much_is_told_so(host: FlatHost) -> None:
    host.spmc.messages.handle(SP, lambda request: range(6))
    with pytest.raises(UsageError, match="answered with 6 values"):
        host.smc(FFA.MSG_SEND_DIRECT_REQ_64, PAIR)


@pytest.mark.parametrize("suspend", [interrupt, yielded])
def test_a_suspended_sp_is_busy_until_it_is_run(
    host: FlatHost, suspend: Callable[[int], Regs]
) -> None:
    answers: list[Sequence[int]] = [suspend(SP), (42,)]
    host.spmc.messages.handle(SP, lambda request: answers.pop(0))
    first = host.smc(FFA.MSG_SEND_DIRECT_REQ_64, PAIR)
    assert first[:2] == suspend(SP)[:2]
    assert error_code(host.smc(FFA.MSG_SEND_DIRECT_REQ_64, PAIR)[2]) is FfaError.BUSY
    assert "still runs a direct request" in host.spmc.residue(VM)[0]
    assert host.smc(FFA.RUN, SP << 16)[:4] == (FFA.MSG_SEND_DIRECT_RESP_64, REPLY, 0, 42)
    assert host.smc(FFA.RUN, SP << 16)[0] == FFA.MSG_WAIT


def test_a_partition_of_several_vcpus_is_busy_on_the_cpu_that_it_was_preempted_on(
    host: FlatHost,
) -> None:
    host.spmc.on(FFA.MSG_SEND_DIRECT_REQ_64).preempt()
    assert host.smc(FFA.MSG_SEND_DIRECT_REQ_64, PAIR, 0, 7)[0] == FFA.INTERRUPT
    host.spmc.cpu = 1
    assert host.smc(FFA.MSG_SEND_DIRECT_REQ_64, PAIR, 0, 8)[3] == 8
    assert host.smc(FFA.RUN, SP << 16 | 1)[0] == FFA.MSG_WAIT
    host.spmc.cpu = 0
    assert error_code(host.smc(FFA.MSG_SEND_DIRECT_REQ_64, PAIR)[2]) is FfaError.BUSY
    assert host.smc(FFA.RUN, SP << 16)[3] == 7


@pytest.mark.parametrize("target", [0x80FF << 16, SP << 16 | 2])
def test_run_of_what_is_not_there_is_invalid(host: FlatHost, target: int) -> None:
    assert error_code(host.smc(FFA.RUN, target)[2]) is FfaError.INVALID_PARAMETERS


def framework(host: FlatHost, message: int, sp: int = SP, vm: int = VM) -> tuple[int, ...]:
    return host.smc(FFA.MSG_SEND_DIRECT_REQ_32, sp, message, 0, 0, vm)


def test_an_sp_is_told_of_a_vm_and_of_its_end(host: FlatHost) -> None:
    reply = framework(host, CREATED)
    assert reply[:4] == (FFA.MSG_SEND_DIRECT_RESP_32, SP << 16, CREATED + 1, 0)
    assert host.spmc.residue(VM) == [f"SP {SP:#06x} was not told that VM {VM} is destroyed"]
    assert framework(host, DESTROYED)[2] == DESTROYED + 1
    assert not host.spmc.residue(VM)
    framework(host, CREATED)
    assert host.spmc.residue(VM)
    assert not rules(host)


@pytest.mark.parametrize(
    ("regs", "rule"),
    [
        ((FFA.MSG_SEND_DIRECT_REQ_32, PAIR, CREATED, 0, 0, VM), "framework-from-vm"),
        ((FFA.MSG_SEND_DIRECT_REQ_64, SP, CREATED, 0, 0, VM), "framework"),
        ((FFA.MSG_SEND_DIRECT_REQ_32, SP, CREATED | 0x100, 0, 0, VM), "framework"),
        ((FFA.MSG_SEND_DIRECT_REQ_32, SP, CREATED + 1, 0, 0, VM), "framework"),
        ((FFA.MSG_SEND_DIRECT_REQ_32, 0x80FF, CREATED, 0, 0, VM), "framework"),
        ((FFA.MSG_SEND_DIRECT_REQ_32, SP, CREATED, 0, 0, 0), "vm-id"),
        ((FFA.MSG_SEND_DIRECT_REQ_32, SP, CREATED, 0, 0, 0x8002), "vm-id"),
        ((FFA.MSG_SEND_DIRECT_REQ_32, DEAF, CREATED, 0, 0, VM), "subscription"),
        ((FFA.MSG_SEND_DIRECT_REQ_32, DEAF, DESTROYED, 0, 0, VM), "subscription"),
        ((FFA.MSG_SEND_DIRECT_REQ_32, SP, DESTROYED, 0, 0, VM), "vm-unknown"),
    ],
)
def test_a_framework_message_that_should_not_be_is_a_violation(
    host: FlatHost, regs: tuple[int, ...], rule: str
) -> None:
    host.smc(*regs)
    assert rules(host) == [rule]


def test_telling_an_sp_the_same_twice_is_a_violation(host: FlatHost) -> None:
    framework(host, CREATED)
    framework(host, CREATED)
    framework(host, DESTROYED)
    framework(host, DESTROYED)
    assert rules(host) == ["vm-twice", "vm-twice"]


def test_a_vm_whose_creation_is_refused_is_another_one_each_time() -> None:
    only_end = DEFAULT_PROPERTIES & ~PartitionProperty.NOTIF_CREATED
    partitions = [SecurePartition(SP), SecurePartition(OTHER, properties=only_end)]
    host = FlatHost(Spmc("1.2", partitions))
    host.boot()
    host.spmc.on(FFA.MSG_SEND_DIRECT_REQ_32).framework(CREATED & 0xFF).status(FfaError.DENIED)
    for _ in range(2):
        framework(host, CREATED)
        framework(host, DESTROYED, OTHER)
    assert not rules(host)
    framework(host, DESTROYED, OTHER)
    assert rules(host) == ["vm-twice"]


def test_a_vm_that_a_script_lets_an_sp_accept_is_known_to_it(host: FlatHost) -> None:
    host.spmc.on(FFA.MSG_SEND_DIRECT_REQ_32).framework(CREATED & 0xFF).status(0)
    framework(host, CREATED)
    assert any("was not told" in each for each in host.spmc.residue(VM))
    framework(host, DESTROYED)
    assert not rules(host)
    assert not host.spmc.residue(VM)


def test_an_sp_with_two_uuids_may_be_told_for_each() -> None:
    both = [UUID(int=1), UUID(int=2)]
    host = FlatHost(Spmc("1.2", [SecurePartition(OTHER, both)]))
    host.boot()
    framework(host, CREATED, OTHER)
    framework(host, CREATED, OTHER)
    assert not rules(host)
    assert [n.rule for n in host.spmc.notes] == ["vm-twice"]


def test_an_sp_that_only_wants_to_know_of_the_end_is_owed_it() -> None:
    only_end = DEFAULT_PROPERTIES & ~PartitionProperty.NOTIF_CREATED
    host = FlatHost(Spmc("1.2", [SecurePartition(OTHER, properties=only_end)]))
    host.boot()
    assert not host.spmc.residue(VM)
    host.smc(FFA.NOTIFICATION_BITMAP_CREATE, VM, 1)
    host.smc(FFA.NOTIFICATION_BITMAP_DESTROY, VM)
    assert host.spmc.residue(VM) == [f"SP {OTHER:#06x} was not told that VM {VM} is destroyed"]
    framework(host, DESTROYED, OTHER)
    assert not host.spmc.residue(VM)
    assert not rules(host)


@pytest.mark.parametrize("version", [V1_1, V1_2])
def test_an_indirect_message_is_read_from_the_vms_tx(host: FlatHost, version: Version) -> None:
    map_vm(host)
    host.write(VM_TX, IndirectMessage(VM, SP, b"hello").encode(version))
    assert host.smc(FFA.MSG_SEND2, VM << 16)[0] == FFA.SUCCESS_32
    assert host.spmc.messages.delivered == (Delivered(VM, SP, b"hello", NIL),)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (IndirectMessage(VM + 1, SP, b"x"), FfaError.INVALID_PARAMETERS),
        (IndirectMessage(VM, 0x80FF, b"x"), FfaError.INVALID_PARAMETERS),
        (IndirectMessage(VM, DEAF, b"x"), FfaError.DENIED),
        (IndirectMessage(VM, SP, b""), FfaError.INVALID_PARAMETERS),
        (IndirectMessage(VM, SP, b"x", flags=1), FfaError.INVALID_PARAMETERS),
        (IndirectMessage(VM, SP, b"x", size=4096), FfaError.INVALID_PARAMETERS),
        (IndirectMessage(VM, SP, b"x", offset=8), FfaError.INVALID_PARAMETERS),
        (IndirectMessage(VM, SP, b"x", UUID(int=9)), FfaError.INVALID_PARAMETERS),
    ],
)
def test_an_indirect_message_that_is_not_well_formed_is_refused(
    host: FlatHost, message: IndirectMessage, error: FfaError
) -> None:
    map_vm(host)
    host.write(VM_TX, message.encode(V1_2))
    assert error_code(host.smc(FFA.MSG_SEND2, VM << 16)[2]) is error
    assert not host.spmc.messages.delivered
    assert not rules(host)


@pytest.mark.parametrize(("sender", "rule"), [(VM, "tx"), (0, "vm-id"), (SP, "vm-id")])
def test_an_indirect_message_of_who_has_no_buffers_is_a_violation(
    host: FlatHost, sender: int, rule: str
) -> None:
    host.smc(FFA.MSG_SEND2, sender << 16)
    assert rules(host) == [rule]


def test_an_sp_sends_to_a_vm_and_the_vm_is_notified(host: FlatHost) -> None:
    map_vm(host)
    host.smc(FFA.NOTIFICATION_BITMAP_CREATE, VM, 1)
    send = host.spmc.messages.send
    assert send(SP, VM, b"news") is None
    assert IndirectMessage.decode(host.read(VM_RX, 4096), V1_2).payload == b"news"
    assert host.irqs == [(8, 0)]
    assert host.smc(FFA.NOTIFICATION_GET, VM, NOTIF_GET_SPM)[6] == 1
    assert send(SP, VM, b"more") is FfaError.BUSY
    host.smc(FFA.RX_RELEASE, VM)
    assert send(SP, VM, bytes(4096)) is FfaError.NO_MEMORY
    assert send(SP, VM + 1, b"") is FfaError.INVALID_PARAMETERS
    assert not rules(host)
