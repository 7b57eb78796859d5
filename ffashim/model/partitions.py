# SPDX-License-Identifier: GPL-2.0-only
"""FFA_PARTITION_INFO_GET and FFA_PARTITION_INFO_GET_REGS (FF-A 1.2, 13.8 and 13.9)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from uuid import UUID

from ffashim.descriptors import NIL, PartitionInfo
from ffashim.ffa import FFA, PAGE_SIZE, PARTITION_INFO_COUNT_ONLY, V1_0, FfaError
from ffashim.model.buffers import filling
from ffashim.model.contents import SIZE, SIZE_1_0, Listing
from ffashim.model.exchange import Answer, Ask, Plan, refused, request, succeeded
from ffashim.model.outcome import Outcome, error, success
from ffashim.model.registers import ALL, ZERO, Allowed, Call, either, exactly, function
from ffashim.model.rules import rule
from ffashim.model.state import Guest, System

INDICES = 1 << 16
"""Indices are of 16 bits (Table 13.44)."""


def secure(system: System, uuid: UUID) -> tuple[PartitionInfo, ...]:
    """Return the secure partitions with a UUID; it is not repeated to who has named it (13.8)."""
    if uuid == NIL:
        return system.secure.partitions
    named = (each for each in system.secure.partitions if each.uuid == uuid)
    return tuple(replace(each, uuid=NIL) for each in named)


def guests(system: System, caller: Guest, uuid: UUID) -> tuple[Guest, ...]:
    """Return the guests that a guest may learn of: none has a UUID. The caller is first."""
    if uuid != NIL:
        return ()
    assert caller.version is not None
    own = (caller,) if caller.version >= system.profile.lists_caller_since else ()
    if not system.profile.vm_to_vm:
        return own
    return (*own, *(each for each in system.guests if system.lists(each) and each.id != caller.id))


def listed(system: System, caller: Guest, uuid: UUID) -> tuple[PartitionInfo, ...]:
    """Return all that a guest may learn of."""
    others = (system.described(each) for each in guests(system, caller, uuid))
    return (*secure(system, uuid), *others)


@rule(FFA.PARTITION_INFO_GET)
def partition_info_get(system: System, guest: Guest, call: Call) -> Iterator[Plan]:
    """w1 to w4 UUID, w5 flags; bit 0, since 1.1, asks for the count alone (Table 13.34)."""
    words = [call.w(n) for n in range(1, 5)]
    uuid = UUID(bytes=struct.pack("<4I", *words))
    flags = call.w(5)
    count_only = bool(flags & PARTITION_INFO_COUNT_ONLY)
    found = listed(system, guest, uuid)
    errors = set()
    if flags & ~PARTITION_INFO_COUNT_ONLY or (flags and guest.version == V1_0):
        errors.add(FfaError.INVALID_PARAMETERS)  # G3: Hafnium; w5 is MBZ in 1.0
    if uuid != NIL and not found:
        errors.add(FfaError.INVALID_PARAMETERS)  # R3
    fills = not count_only or guest.version == V1_0
    if fills and guest.buffers is None:
        errors |= {FfaError.DENIED, FfaError.BUSY}  # G5: Xen and Hafnium differ
    elif fills and guest.buffers is not None and guest.buffers.owned:
        errors.add(FfaError.BUSY)  # G4: FF-A ACS checklist, rule 6
    if errors:
        failed = error(system, call, "13.8", *errors)
        yield from _perhaps_asking(system, call, words, [failed])
        if fills and guest.buffers is not None:
            # It may have taken RX before it found out.
            yield from filling(
                system, call, "13.8", guest,
                lambda _: _perhaps_asking(system, call, words, [failed]),
            )  # fmt: skip
        return
    if count_only:
        counted = success(system, call, "13.8: the count alone", exactly(len(found), "count"))
        yield from _perhaps_asking(system, call, words, [counted])
        return

    def fill(filled: System) -> Iterator[Plan]:
        yield from _perhaps_asking(system, call, words, list(_filled(system, filled, call, found)))

    yield from filling(system, call, "13.8", guest, fill)


def _filled(
    system: System, filled: System, call: Call, found: Sequence[PartitionInfo]
) -> Iterator[Outcome]:
    guest = filled.guest(call.caller)
    assert guest.buffers is not None
    for listing in listings(system, guest, found):
        count = len(listing.partitions)
        if count * listing.size > guest.buffers.pages * PAGE_SIZE:
            yield error(system, call, "13.8: RX is too small", FfaError.NO_MEMORY)  # G8
            continue
        told = ZERO if listing.size == SIZE_1_0 else exactly(SIZE, "descriptor size")
        yield success(filled, call, "13.8", exactly(count, "count"), told, rx=listing)


def _perhaps_asking(
    system: System, call: Call, words: Sequence[int], plans: Sequence[Plan]
) -> Iterator[Plan]:
    """Whether a hypervisor has kept the list, or asks the SPMC each time, is its own business."""
    yield from plans
    if FFA.PARTITION_INFO_GET not in system.secure.calls:
        return

    def told(answer: Answer) -> Iterator[Plan]:
        if not succeeded(answer):
            yield refused(system, call, "13.8: the SPMC refuses", answer)
            yield from plans  # it may know better: guests are not the SPMC's business
        elif answer[3]:
            # The list is in the hypervisor's own RX, which it gives back (13.5).
            yield Ask(request(FFA.RX_RELEASE), lambda _: plans, "13.5")
        else:
            yield from plans

    asked = (either({word, 0}, "UUID") for word in words)
    flags = either({0, PARTITION_INFO_COUNT_ONLY}, "flags")
    yield Ask(request(FFA.PARTITION_INFO_GET, *asked, flags), told, "13.8: asking the SPMC")


def listings(system: System, guest: Guest, found: Sequence[PartitionInfo]) -> Iterator[Listing]:
    """What RX may hold. 1.0 has 8 bytes a partition, without a UUID (1.0, Table 8.25)."""
    if guest.version != V1_0:
        yield Listing(tuple(found), SIZE)
        return
    plain = tuple(replace(each, uuid=NIL) for each in found)
    yield Listing(tuple(dict.fromkeys(plain)), SIZE_1_0)
    if system.profile.repeats_ids_in_1_0 and len(set(plain)) < len(plain):
        yield Listing(plain, SIZE_1_0)


@rule(FFA.PARTITION_INFO_GET_REGS)
def partition_info_get_regs(system: System, guest: Guest, call: Call) -> Iterator[Plan]:
    """x1, x2 UUID, x3[15:0] start index, x3[31:16] tag; the rest is SBZ (Table 13.41)."""
    uuid = UUID(bytes=struct.pack("<2Q", *call.registers[1:3]))
    start, tag = call.registers[3] & 0xFFFF, call.registers[3] >> 16 & 0xFFFF
    total = len(listed(system, guest, uuid))
    errors = set()
    if start + system.profile.descriptors_in_registers > INDICES:
        errors.add(FfaError.INVALID_PARAMETERS)  # claim 3
    if start >= total:
        errors.add(FfaError.INVALID_PARAMETERS)  # claim 8, R3 and R4
    if start == 0:
        if tag:  # 13.9: MBZ at start 0. Hafnium and TF-A say RETRY (R5)
            errors |= {FfaError.INVALID_PARAMETERS, FfaError.RETRY}
        if errors:
            yield error(system, call, "13.9", *errors)
        else:
            yield _window(system, guest, uuid, start)
        return
    if system.tag is None and tag not in system.retired:
        # Nobody has seen the tag yet: it may be this one.
        yield error(system, call, "13.9: another tag", FfaError.RETRY, *errors)
        system = replace(system, tag=tag)
    elif tag != system.tag:
        yield error(system, call, "13.9: another tag", FfaError.RETRY, *errors)  # claim 4
        return
    if errors:
        yield error(system, call, "13.9", *errors)
    else:
        yield _window(system, guest, uuid, start)


def _window(system: System, guest: Guest, uuid: UUID, start: int) -> Outcome:
    """Descriptors from an index on, three registers each (Table 13.43).

    Secure partitions come first, then the caller, then other guests in an order of the callee's.
    """
    others = guests(system, guest, uuid)
    first = [*secure(system, uuid), *map(system.described, others[:1])]
    rest = {system.described(each) for each in others[1:]}
    total = len(first) + len(rest)
    end = min(total, start + system.profile.descriptors_in_registers)
    slots = [first[index : index + 1] or rest for index in range(start, end)]
    held = [register for slot in slots for register in _registers([each.encode() for each in slot])]
    indices = total - 1 | end - 1 << 16 | SIZE << 48
    note = f"{indices:#x}, and any tag in bits 47:32"
    told = Allowed(frozenset({indices}), "last, current, tag, size", ALL ^ 0xFFFF << 32, note)
    if system.tag is not None:
        told = exactly(indices | system.tag << 32, told.name)
    registers = (function(FFA.SUCCESS_64), ZERO, told, *held, *(ZERO,) * (15 - len(held)))

    def learn(after: System, seen: Sequence[int]) -> System | str:
        tag = seen[2] >> 32 & 0xFFFF
        if tag in after.retired:
            return f"the tag {tag:#x} is that of another list"
        data = struct.pack("<15Q", *seen[3:18])
        places = set(after.places)
        for index in range(max(start, len(first)), end):
            part = PartitionInfo.decode(data, (index - start) * SIZE)
            if part not in rest:
                return f"index {index} mixes descriptors of two guests"
            places.add((guest.id, index, part.id))
        mine = [place for place in places if place[0] == guest.id]
        if len({index for _, index, _ in mine}) < len(mine):
            return "an index of this list held another guest before"
        if len({endpoint for _, _, endpoint in mine}) < len(mine):
            return "a guest comes twice in this list"
        return replace(after, tag=tag, places=frozenset(places))

    return Outcome(registers, system, "13.9", learn=learn)


def _registers(choices: Sequence[bytes]) -> Iterator[Allowed]:
    for n, what in enumerate(("descriptor", "descriptor's UUID", "descriptor's UUID")):
        yield either((struct.unpack_from("<Q", each, n * 8)[0] for each in choices), what)
