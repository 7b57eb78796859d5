# SPDX-License-Identifier: GPL-2.0-only
"""FFA_PARTITION_INFO_GET and FFA_PARTITION_INFO_GET_REGS."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from uuid import UUID

from ffashim.defects.discovery import (
    ADDS_GUESTS_TO_A_UUID,
    COUNT_HAS_A_SIZE,
    DENIES_WHERE_BUSY,
    FINDS_NOBODY_WITH_SUCCESS,
    LOSES_GUESTS,
    READS_UPPER_HALVES,
    TELLS_1_0_A_SIZE,
    TELLS_NO_64_BIT_STATE,
    TELLS_NO_SIZE,
)
from ffashim.defects.versions import SERVES_WITHOUT_VERSION
from ffashim.descriptors import NIL
from ffashim.ffa import FFA, V1_0, FfaError, PartitionProperty
from ffashim.ffa import PARTITION_INFO_COUNT_ONLY as COUNT
from ffashim.model.contents import SIZE, Listing
from ffashim.model.deviation import Deviation
from ffashim.model.deviations.changes import (
    Seen,
    same,
    succeeds,
    with_arguments,
    with_register,
)
from ffashim.model.outcome import Outcome, error, success
from ffashim.model.partitions import guests, secure
from ffashim.model.registers import LOW, ZERO, Allowed, Call, either, exactly, status
from ffashim.model.rules import exists
from ffashim.model.state import System


def _gets(call: Call) -> bool:
    return call.fid == FFA.PARTITION_INFO_GET


def _no_size(_system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
    if _gets(call) and outcome.rx:
        yield with_register(outcome, 3, ZERO)


def _size_in_1_0(_system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
    if _gets(call) and isinstance(outcome.rx, Listing) and outcome.rx.size != SIZE:
        yield with_register(outcome, 3, either({outcome.rx.size, SIZE}, "descriptor size"))


def _count_size(_system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
    if _gets(call) and call.w(5) == COUNT and FFA.SUCCESS_32 in outcome.registers[0]:
        yield with_register(outcome, 3, exactly(SIZE, "descriptor size"))


def _no_state(_system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
    if isinstance(outcome.rx, Listing):
        known = {each.id for each in outcome.after.guests}
        plain = tuple(
            replace(each, properties=each.properties & ~int(PartitionProperty.AARCH64_STATE))
            if each.id in known
            else each
            for each in outcome.rx.partitions
        )
        yield replace(outcome, rx=Listing(plain, outcome.rx.size))


def _all_guests(system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
    """Guests are listed, whatever the UUID; with none but them it is a success too."""
    uuid = UUID(bytes=struct.pack("<4I", *(call.w(n) for n in range(1, 5))))
    if not _gets(call) or uuid == NIL:
        return
    system = outcome.after
    guest = system.guest(call.caller)
    others = [each for each in system.guests if system.lists(each) and each.id != guest.id]
    found = (*secure(system, uuid), *map(system.described, others))
    if call.w(5) == COUNT and guest.version != V1_0:
        yield success(system, call, "", exactly(len(found), "count"))
    elif call.w(5) == 0 and guest.buffers and (not guest.buffers.owned or outcome.rx):
        size = 8 if guest.version == V1_0 else SIZE
        listing = Listing(tuple(replace(each, uuid=NIL) for each in found), size)
        after = system.having(replace(guest, buffers=replace(guest.buffers, owned=True)))
        told = exactly(SIZE, "descriptor size") if size == SIZE else ZERO
        yield success(system, call, "", exactly(len(found)), told, after=after, rx=listing)


def _nobody(system: System, call: Call) -> Iterator[Outcome]:
    """Without an SPMC there is nobody with a UUID, and that is a success."""
    uuid = UUID(bytes=struct.pack("<4I", *(call.w(n) for n in range(1, 5))))
    caller = system.guest(call.caller)
    if not _gets(call) or system.secure.version is not None or uuid == NIL:
        return
    if not exists(system, caller, call.fid):
        return
    now = system.settled(caller)
    if call.w(5) == COUNT and caller.version != V1_0:
        yield success(now, call, "", ZERO)
    elif call.w(5) == 0 and caller.buffers and not caller.buffers.owned:
        guest = now.guest(caller.id)
        filled = now.having(replace(guest, buffers=replace(caller.buffers, owned=True)))
        told = ZERO if caller.version == V1_0 else exactly(SIZE, "descriptor size")
        yield success(filled, call, "", ZERO, told, rx=Listing((), SIZE))


def _upper(system: System, call: Call) -> Seen:
    """The UUID is another one then, which nobody has; or the flags are others."""
    if _gets(call) and any(value >> 32 for value in call.registers[1:6]):
        yield system, with_arguments(call, x1=0xDEAD_DEAD), same


def _busy(_system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
    if _gets(call) and FfaError.BUSY.w in outcome.registers[2]:
        yield with_register(outcome, 2, status(FfaError.DENIED))


def _lost(_system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
    """Guests in a window with one more behind it are there, and do not count."""
    if call.fid != FFA.PARTITION_INFO_GET_REGS or FFA.SUCCESS_64 not in outcome.registers[0]:
        return
    uuid = UUID(bytes=struct.pack("<2Q", *call.registers[1:3]))
    start = call.registers[3] & 0xFFFF
    after = outcome.after
    partitions = len(secure(after, uuid))
    total = partitions + len(guests(after, after.guest(call.caller), uuid))
    held = after.profile.descriptors_in_registers
    if not start + held > partitions or total <= start + held:
        return
    if start >= partitions:
        yield error(after, call, "", FfaError.INVALID_PARAMETERS)
    else:
        told = outcome.registers[2]
        indices = total - 1 | partitions - 1 << 16 | SIZE << 48
        known = after.tag << 32 if after.tag is not None else 0
        yield with_register(outcome, 2, Allowed(frozenset({indices | known}), told.name, told.mask))


def _uncounted(system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
    """Not counted itself, it is taken from the count all the same."""
    counted = outcome.registers[2].values
    unsaid = system.guest(call.caller).version is None
    if unsaid and system.profile.vm_to_vm and _gets(call) and counted and succeeds(outcome):
        yield with_register(outcome, 2, either({(each - 1) & LOW for each in counted}, "count"))


DEVIATIONS = [
    Deviation(READS_UPPER_HALVES, sees=_upper),
    Deviation(ADDS_GUESTS_TO_A_UUID, says=_all_guests),
    Deviation(FINDS_NOBODY_WITH_SUCCESS, does=_nobody),
    Deviation(TELLS_NO_64_BIT_STATE, says=_no_state),
    Deviation(TELLS_NO_SIZE, says=_no_size),
    Deviation(TELLS_1_0_A_SIZE, says=_size_in_1_0),
    Deviation(COUNT_HAS_A_SIZE, says=_count_size),
    Deviation(LOSES_GUESTS, says=_lost),
    Deviation(SERVES_WITHOUT_VERSION, says=_uncounted),
    Deviation(DENIES_WHERE_BUSY, says=_busy),
]
