# SPDX-License-Identifier: GPL-2.0-only
"""FFA_MSG_SEND2: a message in TX (FF-A 1.2, 15.1 and 7.3)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from uuid import UUID

from ffashim.descriptors import NIL
from ffashim.ffa import FFA, ID_SECURE, PAGE_SIZE, V1_2, FfaError
from ffashim.model.buffers import filling
from ffashim.model.contents import HEADER_1_1, HEADER_1_2, Message
from ffashim.model.exchange import Plan, relayed, request
from ffashim.model.outcome import error, success
from ffashim.model.registers import Call, either, exactly
from ffashim.model.rules import rule
from ffashim.model.state import Guest, Source, System

NOT_RELAYED = frozenset({FfaError.NOT_SUPPORTED, FfaError.INVALID_PARAMETERS, FfaError.DENIED})
"""Nobody is there whom a message can reach: FF-A has no one code for it."""


@rule(FFA.MSG_SEND2)
def msg_send2(system: System, guest: Guest, call: Call) -> Iterator[Plan]:
    """w1 is the hypervisor's to fill (SBZ here), w2 flags; who sends to whom is in TX (7.3)."""
    if guest.buffers is None:
        yield error(system, call, "15.1: no TX", FfaError.DENIED, FfaError.INVALID_PARAMETERS)
        return
    flags, reserved, offset, receiver, sender, size = struct.unpack_from("<IIIHHI", call.tx)
    room = guest.buffers.pages * PAGE_SIZE
    new = guest.version is not None and guest.version >= V1_2
    header = HEADER_1_2 if new else HEADER_1_1
    uuid = UUID(bytes=call.tx[24:40]) if new else NIL
    errors: set[FfaError] = set()
    if (
        sender != guest.id
        or receiver == guest.id
        or offset < header
        or size == 0
        or offset + size > room
    ):
        errors.add(FfaError.INVALID_PARAMETERS)
    # Reserved fields are MBZ: whoever finds that they are not may refuse, or ignore them.
    soft = flags or reserved or (new and struct.unpack_from("<I", call.tx, 20)[0])
    payload = call.tx[offset : offset + size]
    if receiver & ID_SECURE:
        known = any(each.id == receiver for each in system.secure.partitions)
        if FFA.MSG_SEND2 not in system.secure.calls or not system.secure.knows_buffers:
            errors |= NOT_RELAYED
        elif soft or not known:
            yield error(system, call, "15.1", FfaError.INVALID_PARAMETERS, *errors)
        if errors:
            yield error(system, call, "15.1", *errors)
            return
        # The SPMC reads the guest's TX itself (7.3).
        told = either({0, call.w(2)}, "flags")
        registers = request(FFA.MSG_SEND2, exactly(guest.id << 16, "sender"), told)
        yield relayed(system, call, "15.1", registers, lambda _: [success(system, call, "15.1")])
        return
    if not system.profile.messages:
        yield error(system, call, "15.1: guests send each other none", *NOT_RELAYED, *errors)
        return
    peer = system.known(receiver)
    if peer is None or peer.id == guest.id:
        errors.add(FfaError.INVALID_PARAMETERS)
    elif peer.buffers is None:
        # It cannot be reached now (7.2.2); Hafnium says DENIED of one without buffers.
        errors |= {FfaError.DENIED, FfaError.BUSY, FfaError.NOT_SUPPORTED}
    elif peer.buffers.owned:
        errors.add(FfaError.BUSY)
    if soft:
        yield error(system, call, "15.1", FfaError.INVALID_PARAMETERS, *errors)
    if errors:
        yield error(system, call, "15.1", *errors)
    if peer is None or peer.buffers is None or (errors - {FfaError.BUSY}):
        return
    yield from _delivered(system, call, peer, Message(guest.id, receiver, payload, uuid,
                                                     peer.version or V1_2))  # fmt: skip


def _delivered(system: System, call: Call, peer: Guest, message: Message) -> Iterator[Plan]:
    """It lands in the receiver's RX, and the receiver is notified that RX is full (9.7)."""
    assert peer.buffers is not None
    room = peer.buffers.pages * PAGE_SIZE
    least = HEADER_1_2 if message.version >= V1_2 else HEADER_1_1

    def fill(filled: System) -> Iterator[Plan]:
        if len(message.payload) > room - HEADER_1_2:
            # A hypervisor may write its own, longer header to everybody.
            yield error(system, call, "15.1: RX is too small", FfaError.NO_MEMORY)
        if len(message.payload) > room - least:
            return
        full = replace(filled.guest(peer.id), rx_full=True, news=peer.news | {Source.HYPERVISOR})
        done = success(system, call, "15.1", after=filled.having(full))
        told = frozenset({peer.id})
        deaf = len(peer.offline) == peer.vcpus
        looked = Source.HYPERVISOR not in peer.news and not deaf
        yield replace(
            done,
            rx=message,
            receiver=peer.id,
            interrupted=told if looked else frozenset(),
            reminded=frozenset() if looked or deaf else told,
        )

    yield from filling(system, call, "15.1", peer, fill)
