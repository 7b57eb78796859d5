# SPDX-License-Identifier: GPL-2.0-only
"""FFA_MEM_SHARE."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from ffashim.defects.memory import (
    ASKS_FOR_A_GUEST,
    DROPS_TAG,
    IGNORES_SHARE_FLAGS,
    KEEPS_SHARES,
    READS_ALL_OF_X3,
    READS_AN_ODD_REGION,
    READS_BEHIND_TX,
    ROUNDS_RANGES,
    TAKES_MISALIGNED_ACCESS,
    TAKES_MORE_THAN_TX,
)
from ffashim.ffa import FFA, ID_SECURE, PAGE_SIZE, V1_1, FfaError
from ffashim.model.deviation import Deviation
from ffashim.model.deviations.changes import Seen, same, with_arguments
from ffashim.model.exchange import Plan, relayed, request
from ffashim.model.outcome import error, success
from ffashim.model.registers import ANYTHING, Call
from ffashim.model.rules import exists
from ffashim.model.state import Guest, System

SHARES = (FFA.MEM_SHARE_32, FFA.MEM_SHARE_64)
HEAD, ACCESS = 48, 16
"""Bytes of a transaction descriptor since 1.1 and of an access descriptor (10.20, 10.16)."""
READ = 8
"""So much of an access descriptor is looked at: the endpoint, permissions, where the region is."""


def _long(system: System, call: Call) -> Iterator[Plan]:
    caller = system.guest(call.caller)
    fits = call.w(1) == call.w(2) > PAGE_SIZE and not call.argument(3)
    if call.fid in SHARES and fits and caller.buffers and exists(system, caller, call.fid):
        yield success(system.settled(caller), call, "")


def _tag(system: System, call: Call) -> Seen:
    if call.fid in SHARES and any(call.tx[16:24]):
        yield system, replace(call, tx=call.tx[:16] + bytes(8) + call.tx[24:]), same


def _flags(system: System, call: Call) -> Seen:
    if call.fid in SHARES and any(call.tx[4:5]):
        yield system, replace(call, tx=call.tx[:4] + b"\0" + call.tx[5:]), same


def _x3(system: System, call: Call) -> Iterator[Plan]:
    caller = system.guest(call.caller)
    if (
        call.fid == FFA.MEM_SHARE_32
        and call.registers[3] >> 32
        and exists(system, caller, call.fid)
    ):
        yield error(system.settled(caller), call, "", FfaError.NOT_SUPPORTED)


def _access_offset(call: Call, caller: Guest) -> int:
    """Return where the first access descriptor is in TX."""
    if caller.version is None or caller.version < V1_1:
        return 32
    return int.from_bytes(call.tx[32:36], "little")


class _Head(NamedTuple):
    """Where the one access descriptor is that comes with a share."""

    size: int
    offset: int
    length: int


def _head(system: System, call: Call) -> _Head | None:
    """Return that of a share whose access descriptor is in TX, as it says itself."""
    caller = system.guest(call.caller)
    length = call.w(2)
    if call.fid not in SHARES or caller.version is None or caller.version < V1_1:
        return None
    if caller.buffers is None or not HEAD <= length == call.w(1) <= PAGE_SIZE:
        return None
    size, count, offset = struct.unpack_from("<24xIII", call.tx)
    fits = count == 1 and size <= 0xFF and offset + size <= length
    return _Head(size, offset, length) if fits else None


def _moved(call: Call, head: _Head) -> Call | None:
    """Return a share with its access descriptor at an offset, and of a size, that it may have."""
    access = call.tx[head.offset : head.offset + ACCESS]
    where = struct.unpack_from("<4xI", access)[0]
    ranges = struct.unpack_from("<4xI", call.tx, where)[0] if where + 16 <= head.length else 0
    end = where + 16 + 16 * ranges
    free = [n for n in range(HEAD, PAGE_SIZE, 16) if n + ACCESS <= where or n >= end]
    if len(access) < ACCESS or not free:
        return None
    at = free[0]
    tx = bytearray(call.tx)
    tx[at : at + ACCESS] = access
    struct.pack_into("<III", tx, 24, ACCESS, 1, at)
    length = max(head.length, at + ACCESS)
    return replace(with_arguments(call, x1=length, x2=length), tx=bytes(tx))


def _misaligned(system: System, call: Call) -> Seen:
    head = _head(system, call)
    if head and head.offset % 16 and head.size >= ACCESS and (moved := _moved(call, head)):
        yield system, moved, same


def _short(system: System, call: Call) -> Seen:
    """As long as it is read from TX, one of any size will do."""
    head = _head(system, call)
    if head and head.size < ACCESS and (moved := _moved(call, head)):
        yield system, moved, same


def _behind(system: System, call: Call) -> bool:
    head = _head(system, call)
    return head is not None and head.offset + READ > PAGE_SIZE


def _odd(system: System, call: Call) -> bool:
    caller = system.guest(call.caller)
    if call.fid not in SHARES or caller.version is None or not call.tx:
        return False
    access = _access_offset(call, caller)
    if access % 8 or access + ACCESS > PAGE_SIZE:
        return bool(access % 8)
    return bool(struct.unpack_from("<4xI", call.tx, access)[0] % 8)


def _rounded(system: System, call: Call) -> Seen:
    caller = system.guest(call.caller)
    if call.fid not in SHARES or caller.version is None or not call.tx:
        return
    access = _access_offset(call, caller)
    if access + ACCESS > PAGE_SIZE:
        return
    where = struct.unpack_from("<4xI", call.tx, access)[0]
    if where + 16 > PAGE_SIZE:
        return
    tx = bytearray(call.tx)
    count = struct.unpack_from("<4xI", tx, where)[0]
    for at in range(where + 16, min(where + 16 * count, PAGE_SIZE - 16) + 1, 16):
        tx[at : at + 2] = (int.from_bytes(tx[at : at + 2], "little") & -PAGE_SIZE).to_bytes(
            2, "little"
        )
    if tx != call.tx:
        yield system, replace(call, tx=bytes(tx)), same


def _any_borrower(system: System, call: Call) -> Iterator[Plan]:
    """The SPMC is asked, and does not know that borrower."""
    caller = system.guest(call.caller)
    if call.fid not in SHARES or not call.tx or not exists(system, caller, call.fid):
        return
    access = _access_offset(call, caller)
    if access + ACCESS <= PAGE_SIZE and not call.tx[access + 1] & ID_SECURE >> 8:
        now = system.settled(caller)
        registers = request(FFA.MEM_SHARE_64, ANYTHING, ANYTHING)
        yield relayed(now, call, "", registers, lambda _: [])


DEVIATIONS = [
    Deviation(KEEPS_SHARES, leaves=r"still shares|memory that Xen still holds"),
    Deviation(ASKS_FOR_A_GUEST, does=_any_borrower),
    Deviation(TAKES_MORE_THAN_TX, does=_long),
    Deviation(DROPS_TAG, sees=_tag),
    Deviation(IGNORES_SHARE_FLAGS, sees=_flags),
    Deviation(READS_ALL_OF_X3, does=_x3),
    Deviation(TAKES_MISALIGNED_ACCESS, sees=_misaligned),
    Deviation(READS_BEHIND_TX, sees=_short, ends=_behind),
    Deviation(READS_AN_ODD_REGION, ends=_odd),
    Deviation(ROUNDS_RANGES, sees=_rounded),
]
