# SPDX-License-Identifier: GPL-2.0-only
"""FFA_MSG_SEND2: a guest sends an indirect message, from TX to RX (FF-A 1.1, 15.1 and 7.4)."""

from typing import Any
from uuid import UUID

import pytest

from ffashim import FFA, Fetch, FfaError, Machine, Spmc, Vm, fetches
from ffashim.alarms import AlarmKind
from ffashim.defaults import CRYPTO, MAILBOX
from ffashim.defects.buffers import HIDES_BUFFERS, KEEPS_FILLED_RX
from ffashim.defects.messages import (
    GUESTS_DEADLOCK,
    PASSES_ON_NOTHING,
    PASSES_ON_WHAT_WRAPS,
    READS_MISSING_TX,
    WRITES_TO_THE_DYING,
    send_to_the_dying,
)
from ffashim.defects.notifications import TELLS_AN_OFFLINE_VCPU
from ffashim.defects.versions import SERVES_WITHOUT_VERSION
from ffashim.descriptors import IndirectMessage
from ffashim.ffa import NOTIF_GET_HYP, NOTIF_GET_SP, NOTIF_GET_SPM, NOTIF_GET_VM, V1_1, V1_2
from ffashim.memory import PAGE
from ffashim.testing import at_each_point
from ffashim.traffic import (
    NO_SP,
    SP,
    footprint,
    guest,
    message,
    send2,
    soiled,
    version_of,
)

pytestmark = pytest.mark.needs(abi=FFA.MSG_SEND2)

NPI = 8
"""GUEST_FFA_NOTIF_PEND_INTR_ID of Xen's public headers."""
between_vms = pytest.mark.needs(vm_to_vm=True, abi=FFA.MSG_SEND2, messages=True)


def header_size(vm: Vm) -> int:
    return 40 if version_of(vm) >= V1_2 else 20


@pytest.fixture
def vm(vm: Vm) -> Vm:
    """A guest with RX/TX buffers."""
    vm.map_rxtx()
    return vm


@pytest.fixture
def peer(xen: Machine) -> Vm:
    """Another one."""
    return guest(xen)


def received(vm: Vm) -> IndirectMessage:
    """What is in a guest's RX, as the header of 1.1 and the offset in it say."""
    return IndirectMessage.decode(vm.rx.read(), V1_1)


# --- to secure partitions ----------------------------------------------------------------------


@HIDES_BUFFERS.mark
@pytest.mark.parametrize(
    "version",
    ["1.1", pytest.param("1.2", marks=pytest.mark.needs(version="1.2", abi=FFA.MSG_SEND2))],
)
def test_an_sp_gets_the_message(xen: Machine, spmc: Spmc, version: str) -> None:
    vm = xen.create_vm(version)
    vm.map_rxtx()
    assert send2(vm, SP, b"to the mailbox").ok
    (arrived,) = spmc.messages.delivered
    assert (arrived.sender, arrived.receiver) == (vm.id, SP)
    assert arrived.payload == b"to the mailbox"


@HIDES_BUFFERS.mark
def test_the_answer_is_a_plain_success(vm: Vm) -> None:
    reply = send2(vm, SP)
    assert reply.fid == FFA.SUCCESS_32
    assert not any(reply[1:8])


@HIDES_BUFFERS.mark
def test_a_32_bit_guest_sends_to_an_sp(xen: Machine, spmc: Spmc) -> None:
    assert send2(guest(xen, bits=32), SP, b"32").ok
    assert spmc.messages.delivered[0].payload == b"32"


@HIDES_BUFFERS.mark
def test_a_payload_up_to_the_end_of_the_page(vm: Vm, spmc: Spmc) -> None:
    payload = bytes(n & 0xFF for n in range(PAGE - header_size(vm)))
    assert send2(vm, SP, payload).ok
    assert spmc.messages.delivered[0].payload == payload


@HIDES_BUFFERS.mark
def test_the_last_byte_of_the_page_is_a_payload(vm: Vm, spmc: Spmc) -> None:
    assert send2(vm, SP, b"!", offset=PAGE - 1).ok
    assert spmc.messages.delivered[0].payload == b"!"


@HIDES_BUFFERS.mark
@pytest.mark.needs(version="1.2", abi=FFA.MSG_SEND2)
def test_a_service_is_named_by_its_uuid(vm: Vm, spmc: Spmc) -> None:
    assert send2(vm, SP, uuid=MAILBOX).ok
    assert spmc.messages.delivered[0].uuid == MAILBOX
    assert send2(vm, SP, uuid=CRYPTO).error is FfaError.INVALID_PARAMETERS


@HIDES_BUFFERS.mark
def test_an_sp_that_does_not_exist(vm: Vm) -> None:
    assert send2(vm, NO_SP).error is FfaError.INVALID_PARAMETERS


@HIDES_BUFFERS.mark
def test_every_message_is_delivered_once(vm: Vm, spmc: Spmc) -> None:
    for n in range(3):
        assert send2(vm, SP, bytes([n])).ok
    assert [m.payload for m in spmc.messages.delivered] == [b"\0", b"\1", b"\2"]


def test_the_spmc_is_told_who_sends_and_nothing_else(vm: Vm, spmc: Spmc) -> None:
    # 15.1: w1[31:16] is the sender; the SPMC finds the message in its TX.
    spmc.on(FFA.MSG_SEND2).reply(FFA.SUCCESS_32)
    reply = send2(vm, SP)
    assert (reply.fid, *reply[1:8]) == (FFA.SUCCESS_32, *(0,) * 7)
    assert spmc.calls(FFA.MSG_SEND2)[-1].request[1:] == (vm.id << 16, *(0,) * 16)


@pytest.mark.parametrize("error", [FfaError.BUSY, FfaError.DENIED, FfaError.NO_MEMORY])
def test_the_spmcs_error_is_the_guests(vm: Vm, spmc: Spmc, error: FfaError) -> None:
    spmc.on(FFA.MSG_SEND2).error(error)
    assert send2(vm, SP).error is error


@pytest.mark.needs(vm_to_vm=False, abi=FFA.MSG_SEND2)
@pytest.mark.spmc(features_off=[FFA.MSG_SEND2])
def test_what_the_spmc_lacks_is_not_supported(vm: Vm, spmc: Spmc) -> None:
    assert send2(vm, SP).error is FfaError.NOT_SUPPORTED
    assert not spmc.calls(FFA.MSG_SEND2)


def test_of_two_vcpus_that_send_at_once_one_may_find_tx_busy(xen: Machine, spmc: Spmc) -> None:
    vm = xen.create_vm("1.1", vcpus=2)
    vm.map_rxtx()
    spmc.on(FFA.MSG_SEND2).reply(FFA.SUCCESS_32)
    vm.tx.write(message(vm, SP, b"hello"))
    errors = []
    for first, second in at_each_point(
        xen, lambda: vm.smc(FFA.MSG_SEND2), lambda: vm.vcpus[1].smc(FFA.MSG_SEND2)
    ):
        assert first.ok
        errors += [] if second.ok else [second.error]
    assert set(errors) == {FfaError.BUSY}


# --- the header --------------------------------------------------------------------------------

BAD_HEADERS: dict[str, dict[str, Any]] = {
    "an empty message": {"size": 0},
    "a payload that begins in the header": {"offset": 19},
    "a payload that begins at the start": {"offset": 0},
    "a payload that begins behind the page": {"offset": PAGE, "size": 1},
    "a payload that begins far behind it": {"offset": 0x7FFF_FFFF},
    "a payload that ends behind the page": {"size": PAGE},
    "a payload that is one byte too long": {"offset": PAGE - 5, "size": 6},
    "a size that wraps around": {"size": 0xFFFF_FFFF},
    "an offset that wraps around": {"offset": 0xFFFF_FFF0, "size": 0x20},
}


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(
            fields,
            id=name,
            marks=[
                defect.mark
                for key, defect in (("empty", PASSES_ON_NOTHING), ("wrap", PASSES_ON_WHAT_WRAPS))
                if key in name
            ],
        )
        for name, fields in BAD_HEADERS.items()
    ],
)
def test_a_bad_header_stays_with_xen(vm: Vm, spmc: Spmc, fields: dict[str, Any]) -> None:
    # The SPMC is not to be handed what cannot be a message (Table 7.1).
    spmc.on(FFA.MSG_SEND2).reply(FFA.SUCCESS_32)
    assert send2(vm, SP, **fields).error is FfaError.INVALID_PARAMETERS
    assert not spmc.calls(FFA.MSG_SEND2)


@HIDES_BUFFERS.mark
@pytest.mark.needs(version="1.2", abi=FFA.MSG_SEND2)
def test_in_1_2_the_header_has_a_uuid(xen: Machine) -> None:
    vm = xen.create_vm("1.2")
    vm.map_rxtx()
    assert send2(vm, SP, offset=39).error is FfaError.INVALID_PARAMETERS
    assert send2(vm, SP, offset=40).ok


def test_in_1_1_the_header_has_none(xen: Machine, spmc: Spmc) -> None:
    vm = xen.create_vm("1.1")
    vm.map_rxtx()
    spmc.on(FFA.MSG_SEND2).reply(FFA.SUCCESS_32)
    assert send2(vm, SP, offset=19).error is FfaError.INVALID_PARAMETERS
    assert send2(vm, SP, offset=20).ok


@pytest.mark.parametrize("sender", [0, 1, SP, 0xFFFF])
def test_nobody_sends_in_anothers_name(vm: Vm, spmc: Spmc, sender: int) -> None:
    data = IndirectMessage(sender, SP, b"x").encode(version_of(vm))
    vm.tx.write(data)
    assert vm.smc(FFA.MSG_SEND2).error is FfaError.INVALID_PARAMETERS
    assert not spmc.calls(FFA.MSG_SEND2)


def test_a_guest_cannot_send_to_itself(vm: Vm) -> None:
    assert send2(vm, vm.id).error is FfaError.INVALID_PARAMETERS


def test_the_hypervisor_takes_no_messages(vm: Vm) -> None:
    assert send2(vm, 0).error is FfaError.INVALID_PARAMETERS


@pytest.mark.needs(vm_to_vm=False, abi=FFA.MSG_SEND2)
def test_guests_are_unknown_to_each_other_without_vm_to_vm(vm: Vm, peer: Vm) -> None:
    assert send2(vm, peer.id).error is FfaError.INVALID_PARAMETERS


# --- from secure partitions --------------------------------------------------------------------


@HIDES_BUFFERS.mark
@KEEPS_FILLED_RX.mark
def test_a_message_of_an_sp_can_be_read_and_released(vm: Vm, spmc: Spmc) -> None:
    # The receiver owns RX from then on, until it releases it (7.2.2.4, 13.5).
    assert spmc.messages.send(SP, vm.id, b"hello") is None
    assert received(vm).payload == b"hello"
    assert vm.smc(FFA.RX_RELEASE).ok
    assert spmc.messages.send(SP, vm.id, b"again") is None


# --- from guest to guest -----------------------------------------------------------------------


@between_vms
def test_a_guest_gets_the_message(xen: Machine, vm: Vm, peer: Vm) -> None:
    assert send2(vm, peer.id, b"hello, peer").ok
    got = received(peer)
    assert (got.sender, got.receiver) == (vm.id, peer.id)
    assert got.payload == b"hello, peer"
    assert (got.flags, got.reserved) == (0, 0)


@between_vms
def test_the_receiver_gets_an_interrupt_and_a_notification(xen: Machine, vm: Vm, peer: Vm) -> None:
    assert send2(vm, peer.id).ok
    assert [(i.domain, i.intid) for i in xen.virqs] == [(peer.domid, NPI)]
    info = peer.smc(FFA.NOTIFICATION_INFO_GET_64)
    assert info.ok
    assert info.x3 & 0xFFFF == peer.id
    # RX buffer full, of the hypervisor (9.4.2).
    assert peer.smc(FFA.NOTIFICATION_GET, peer.id, NOTIF_GET_HYP).w(7) == 1
    assert peer.smc(FFA.NOTIFICATION_GET, peer.id, NOTIF_GET_HYP).w(7) == 0


@between_vms
def test_a_full_rx_stays_pending_until_the_hypervisors_bitmap_is_asked_for(
    vm: Vm, peer: Vm
) -> None:
    assert send2(vm, peer.id).ok
    for flags in (NOTIF_GET_SP, NOTIF_GET_SPM, NOTIF_GET_VM):
        assert peer.smc(FFA.NOTIFICATION_GET, peer.id, flags).w(7) == 0
    assert peer.smc(FFA.NOTIFICATION_GET, peer.id, NOTIF_GET_HYP).w(7) == 1


@between_vms
def test_rx_belongs_to_the_receiver_until_it_is_released(vm: Vm, peer: Vm) -> None:
    assert send2(vm, peer.id, b"one").ok
    assert send2(vm, peer.id, b"two").error is FfaError.BUSY
    assert received(peer).payload == b"one"
    assert peer.smc(FFA.RX_RELEASE).ok
    assert send2(vm, peer.id, b"two").ok
    assert received(peer).payload == b"two"


@between_vms
def test_a_guest_that_does_not_read_stays_busy(vm: Vm, peer: Vm) -> None:
    # Xen tells its console of the first few only.
    assert send2(vm, peer.id, b"first").ok
    assert {send2(vm, peer.id, b"more").error for _ in range(30)} == {FfaError.BUSY}
    assert received(peer).payload == b"first"


@between_vms
def test_two_guests_write_to_each_other(vm: Vm, peer: Vm) -> None:
    assert send2(vm, peer.id, b"ping").ok
    assert send2(peer, vm.id, b"pong").ok
    assert (received(peer).payload, received(vm).payload) == (b"ping", b"pong")


@between_vms
@pytest.mark.parametrize("bits", [32, 64])
def test_guests_of_either_width_are_reached(xen: Machine, vm: Vm, bits: int) -> None:
    other = guest(xen, bits=bits)
    assert send2(vm, other.id, b"x").ok
    assert received(other).payload == b"x"


@between_vms
@pytest.mark.needs(vm_to_vm=True, version="1.2")
@pytest.mark.parametrize(("sender", "receiver"), [("1.1", "1.2"), ("1.2", "1.1"), ("1.2", "1.2")])
def test_each_reads_the_header_of_its_own_version(xen: Machine, sender: str, receiver: str) -> None:
    vm, peer = xen.create_vm(sender), xen.create_vm(receiver)
    vm.map_rxtx()
    peer.map_rxtx()
    uuid = UUID(int=0x1234 << 64 | 0x5678)
    sent = uuid if sender == "1.2" else UUID(int=0)
    assert send2(vm, peer.id, b"versions", uuid=sent).ok
    got = IndirectMessage.decode(peer.rx.read(), V1_2 if receiver == "1.2" else V1_1)
    assert got.payload == b"versions"
    if receiver == "1.2":
        assert got.uuid == sent


@between_vms
def test_the_last_bytes_of_the_page_reach_a_guest(vm: Vm, peer: Vm) -> None:
    assert send2(vm, peer.id, b"end", offset=PAGE - 3).ok
    assert received(peer).payload == b"end"


@between_vms
def test_a_message_as_long_as_the_page_is_delivered_or_has_no_room(vm: Vm, peer: Vm) -> None:
    # With headers of the same size there is room for what fits into TX.
    payload = b"\x5a" * (PAGE - 40)
    assert send2(vm, peer.id, payload).ok
    assert received(peer).payload == payload


@between_vms
@pytest.mark.needs(vm_to_vm=True, version="1.2")
@pytest.mark.parametrize("size", [PAGE - 39, PAGE - 20])
def test_a_message_that_does_not_fit_behind_the_receivers_header(
    xen: Machine, peer: Vm, size: int
) -> None:
    vm = xen.create_vm("1.1")
    vm.map_rxtx()
    # Xen says NO_MEMORY; FF-A does not foresee it.
    assert send2(vm, peer.id, bytes(size)).error
    assert send2(vm, peer.id, bytes(PAGE - 40)).ok


@between_vms
def test_a_guest_without_buffers_gets_nothing(xen: Machine, vm: Vm) -> None:
    # Its receiver has no RX: which error that is, the sender is not told (15.1).
    other = guest(xen, buffers=False)
    assert send2(vm, other.id).error
    assert not xen.virqs


@between_vms
def test_a_guest_that_speaks_no_ffa_yet_is_unknown(xen: Machine, vm: Vm) -> None:
    other = xen.create_vm()
    assert send2(vm, other.id).error is FfaError.INVALID_PARAMETERS


@between_vms
def test_a_guest_that_has_no_mediator_is_unknown(xen: Machine, vm: Vm) -> None:
    other = xen.create_vm(tee=False)
    assert send2(vm, other.id).error is FfaError.INVALID_PARAMETERS


@between_vms
def test_a_guest_that_is_gone_is_unknown(vm: Vm, peer: Vm) -> None:
    assert send2(vm, peer.id).ok
    peer.destroy()
    assert send2(vm, peer.id).error is FfaError.INVALID_PARAMETERS


@between_vms
def test_nothing_is_held_of_a_message(xen: Machine, vm: Vm, peer: Vm) -> None:
    before = footprint(xen)
    assert send2(vm, peer.id).ok
    assert peer.smc(FFA.RX_RELEASE).ok
    assert footprint(xen) == before


@between_vms
@TELLS_AN_OFFLINE_VCPU.mark
def test_the_interrupt_goes_to_a_vcpu_that_is_online(xen: Machine, vm: Vm) -> None:
    peer = xen.create_vm("1.1", vcpus=2)
    peer.map_rxtx()
    peer.offline()
    assert send2(vm, peer.id).ok
    assert [i.vcpu for i in xen.virqs] == [1]


@between_vms
@WRITES_TO_THE_DYING.mark
def test_the_receiver_may_die_meanwhile(xen: Machine) -> None:
    assert send_to_the_dying(xen)


@between_vms
def test_each_message_is_announced(xen: Machine, vm: Vm, peer: Vm) -> None:
    for count in (1, 2, 3):
        assert send2(vm, peer.id).ok
        assert len(xen.virqs) == count
        pending = peer.smc(FFA.NOTIFICATION_GET, peer.id, NOTIF_GET_HYP)
        assert pending.w(7) == 1
        assert peer.smc(FFA.RX_RELEASE).ok


@between_vms
@pytest.mark.needs(version="1.2")
def test_what_is_reserved_in_the_header_is_zero_whatever_was_in_rx(xen: Machine, vm: Vm) -> None:
    peer = xen.create_vm("1.2")
    peer.map_rxtx()
    peer.rx.write(b"\xff" * PAGE)
    assert send2(vm, peer.id).ok
    header = peer.rx.read()[: header_size(peer)]
    # Flags and the reserved words of the header (7.4).
    assert not any(header[0:8])
    assert not any(header[20:24])


@between_vms
@GUESTS_DEADLOCK.mark
def test_guests_cannot_bring_about_a_deadlock(xen: Machine) -> None:
    assert not GUESTS_DEADLOCK.probe(xen)


@between_vms
@GUESTS_DEADLOCK.mark
def test_locks_have_one_order(xen: Machine, vm: Vm, peer: Vm) -> None:
    # One vCPU after the other: nothing waits here, and yet it shows.
    assert send2(vm, peer.id).ok
    assert vm.smc(FFA.RXTX_UNMAP).ok
    assert not [alarm for alarm in xen.alarms if alarm.kind is AlarmKind.LOCK_ORDER]


# --- who may call, and how ---------------------------------------------------------------------


@READS_MISSING_TX.mark
def test_a_guest_without_tx_cannot_send(xen: Machine) -> None:
    assert guest(xen, buffers=False).smc(FFA.MSG_SEND2).error is FfaError.DENIED


@SERVES_WITHOUT_VERSION.mark
def test_before_version_negotiation_it_is_not_supported(xen: Machine) -> None:
    assert xen.create_vm().smc(FFA.MSG_SEND2).error is FfaError.NOT_SUPPORTED


@HIDES_BUFFERS.mark
def test_registers_do_not_count(vm: Vm, spmc: Spmc) -> None:
    vm.tx.write(message(vm, SP, b"x"))
    assert vm.smc(FFA.MSG_SEND2, *soiled(0, 0, 0, 0, 0, 0, 0)).ok
    assert spmc.calls(FFA.MSG_SEND2)[-1].x1 == vm.id << 16


# --- what changes meanwhile --------------------------------------------------------------------


@pytest.mark.needs(sanitize="double-fetch", vm_to_vm=True, abi=FFA.MSG_SEND2, messages=True)
@pytest.mark.parametrize(
    "version",
    ["1.1", pytest.param("1.2", marks=pytest.mark.needs(version="1.2", abi=FFA.MSG_SEND2))],
)
def test_what_is_read_twice_of_a_message_is_payload(xen: Machine, peer: Vm, version: str) -> None:
    # A header of 1.2 is longer than one of 1.1, and Xen may copy it before it knows which it is.
    vm = xen.create_vm(version)
    vm.map_rxtx()
    changed = []

    def intrude(fetch: Fetch) -> None:
        if fetch.first:
            fetch.data[:] = bytes([0xFF]) * fetch.size
            changed.append(fetch)

    with xen.at_fetches(intrude):
        assert send2(vm, peer.id, b"hello").ok
    got = received(peer)
    assert got.offset is not None
    assert (got.sender, got.receiver) == (vm.id, peer.id)
    assert got.payload == (b"\xff" * 5 if changed else b"hello")
    assert not any(peer.rx.read(got.offset)[20:])  # no UUID was named
    assert all(fetches.reason(fetch) for fetch in changed)  # so that it is no error elsewhere
