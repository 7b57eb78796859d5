# SPDX-License-Identifier: GPL-2.0-only
"""What guests say: registers at four levels, from noise to calls that make sense (Hypothesis)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from uuid import UUID

from hypothesis import strategies as st

from ffashim.defaults import CRYPTO, MAILBOX, UPDATE
from ffashim.descriptors import NIL
from ffashim.ffa import FFA, MSG_FLAG_FRAMEWORK, PAGE_SIZE
from ffashim.machine import RAM_BASE
from ffashim.model.pair import RAM_PAGES, WATCHED

Words = list[int]
SILICON_PROVIDER = 2
"""An SMCCC owner whose calls go to platform code, never to a mediator."""

PAGES = [RAM_BASE + n * PAGE_SIZE for n in WATCHED]
ADDRESSES = [*PAGES, 0, RAM_BASE - PAGE_SIZE, RAM_BASE + RAM_PAGES * PAGE_SIZE, 1 << 40, 1 << 63]
VERSIONS = [0x1_0000, 0x1_0001, 0x1_0002, 0x1_0003, 0x1_FFFF, 0x2_0000, 0x9, 0, 1 << 31 | 0x1_0001]
UUIDS = [NIL, NIL, NIL, MAILBOX, CRYPTO, UPDATE, UUID(int=1 << 64 | 77), UUID(int=0xDEAD << 64)]
ENDPOINTS = [0, 1, 2, 3, 4, 0x8001, 0x8002, 0xFFFF]

numbers = st.one_of(
    st.integers(0, 8),
    st.sampled_from(ENDPOINTS),
    st.sampled_from(ENDPOINTS).map(lambda endpoint: endpoint << 16),
    st.sampled_from(ADDRESSES),
    st.sampled_from(VERSIONS),
    st.sampled_from([int(fid) for fid in FFA]),
    st.integers(0, 63).map(lambda bit: 1 << bit),
    st.integers(0, 63).map(lambda bits: (1 << 64) - (1 << bits)),
    st.integers(0, (1 << 64) - 1),
)
functions = st.one_of(
    st.builds(lambda n, wide: 0x8400_0000 | wide << 30 | n, st.integers(0x60, 0xEF), st.booleans()),
    st.integers(0, (1 << 64) - 1).filter(lambda fid: fid >> 24 & 0x3F != SILICON_PROVIDER),
)
noise = st.builds(lambda fid, rest: [fid, *rest], functions, st.lists(numbers, max_size=17))
"""Level 1: any registers."""


def words(uuid: UUID) -> Words:
    """Return a UUID as w1 to w4 hold it (13.8)."""
    return list(struct.unpack("<4I", uuid.bytes))


def doublewords(uuid: UUID) -> Words:
    """Return a UUID as x1 and x2 hold it (13.9)."""
    return list(struct.unpack("<2Q", uuid.bytes))


uuids = st.sampled_from(UUIDS)
starts = st.just(0) | st.integers(0, 12) | st.sampled_from([0xFFFB, 0xFFFC, 0xFFFF])
flags = st.sampled_from([0, 0, 0, 1, 1, 2, 3])
pages = st.sampled_from(PAGES)
counts = st.sampled_from([1, 1, 1, 1, 1, 1, 1, 1, 2, 0, 0x3F, 0x40, 0x41])
Sensible = dict[FFA, st.SearchStrategy[Words]]


SELF = 0xCA11
"""Stands for the caller's own ID in arguments: `addressed()` puts it in."""
partitions = st.sampled_from([0x8001, 0x8001, 0x8001, 0x8002, 0x8003, 0x8004, 0x80FF, 2])
vcpus = st.sampled_from([0, 0, 0, 1, 7])
pairs = st.builds(
    lambda sender, receiver: sender << 16 | receiver,
    st.sampled_from([SELF] * 12 + [0, 2, 3, 0x8001]),
    partitions,
)
"""Sender and receiver of what a guest sends."""
notifications = st.one_of(
    st.sampled_from([1, 1, 2, 3, 1 << 32, 1 << 63, 0, (1 << 64) - 1]), st.integers(0, (1 << 64) - 1)
)


def halves(bits: int) -> Words:
    """Return 64 bits as two registers hold them."""
    return [bits & 0xFFFF_FFFF, bits >> 32]


def addressed(registers: Words, endpoint: int) -> Words:
    """Return registers with the caller's ID where `SELF` stands in x1."""
    if len(registers) < 2:
        return registers
    x1 = registers[1]
    for shift in (0, 16):
        if x1 >> shift & 0xFFFF == SELF:
            x1 = x1 & ~(0xFFFF << shift) | endpoint << shift
    return [registers[0], x1, *registers[2:]]


def _direct(fid: FFA) -> st.SearchStrategy[Words]:
    return st.builds(
        lambda pair, flag, message: [fid, pair, flag, *message],
        pairs,
        st.sampled_from([0] * 8 + [1, MSG_FLAG_FRAMEWORK, MSG_FLAG_FRAMEWORK | 4]),
        st.lists(numbers, max_size=5),
    )


def _share(fid: FFA) -> st.SearchStrategy[Words]:
    length = st.sampled_from([96, 112, 128, 80, 48, 4096, 4097, 0])
    return st.builds(lambda all_of_it: [fid, all_of_it, all_of_it], length)


def _notification(fid: FFA) -> st.SearchStrategy[Words]:
    return st.builds(
        lambda sender, receiver, flag, bits: [fid, sender << 16 | receiver, flag, *halves(bits)],
        partitions,
        st.sampled_from([SELF] * 8 + [2, 3, 0]),
        st.sampled_from([0] * 6 + [1, 2, 1 << 31]),
        notifications,
    )


def _map(fid: FFA) -> st.SearchStrategy[Words]:
    return st.builds(lambda tx, rx, count: [fid, tx, rx, count], pages, pages, counts)


SENSIBLE: Sensible = {
    FFA.VERSION: st.sampled_from(VERSIONS).map(lambda version: [FFA.VERSION, version]),
    FFA.FEATURES: st.one_of(st.sampled_from(list(FFA)), st.integers(0, 4)).map(
        lambda what: [FFA.FEATURES, what]
    ),
    FFA.ID_GET: st.just([FFA.ID_GET]),
    FFA.SPM_ID_GET: st.just([FFA.SPM_ID_GET]),
    FFA.RXTX_MAP_32: _map(FFA.RXTX_MAP_32),
    FFA.RXTX_MAP_64: _map(FFA.RXTX_MAP_64),
    FFA.RXTX_UNMAP: st.just([FFA.RXTX_UNMAP]),
    FFA.RX_RELEASE: st.just([FFA.RX_RELEASE]),
    FFA.PARTITION_INFO_GET: st.builds(
        lambda uuid, flag: [FFA.PARTITION_INFO_GET, *words(uuid), flag], uuids, flags
    ),
    FFA.PARTITION_INFO_GET_REGS: st.builds(
        lambda uuid, start: [FFA.PARTITION_INFO_GET_REGS, *doublewords(uuid), start],
        uuids,
        starts,
    ),
    FFA.MSG_SEND_DIRECT_REQ_32: _direct(FFA.MSG_SEND_DIRECT_REQ_32),
    FFA.MSG_SEND_DIRECT_REQ_64: _direct(FFA.MSG_SEND_DIRECT_REQ_64),
    FFA.MSG_SEND_DIRECT_REQ2: st.builds(
        lambda pair, uuid, message: [FFA.MSG_SEND_DIRECT_REQ2, pair, *doublewords(uuid), *message],
        pairs,
        uuids,
        st.lists(numbers, max_size=14),
    ),
    FFA.RUN: st.builds(lambda sp, vcpu: [FFA.RUN, sp << 16 | vcpu], partitions, vcpus),
    FFA.MSG_SEND2: st.sampled_from([0, 0, 0, 2]).map(lambda flag: [FFA.MSG_SEND2, 0, flag]),
    FFA.MEM_SHARE_32: _share(FFA.MEM_SHARE_32),
    FFA.MEM_SHARE_64: _share(FFA.MEM_SHARE_64),
    FFA.MEM_RECLAIM: st.builds(
        lambda handle, flag: [FFA.MEM_RECLAIM, handle & 0xFFFF_FFFF, handle >> 32, flag],
        st.sampled_from([0x12_0000_0001, 0x12_0000_0002, 0, (1 << 64) - 1]),
        flags,
    ),
    FFA.NOTIFICATION_BIND: _notification(FFA.NOTIFICATION_BIND),
    FFA.NOTIFICATION_UNBIND: _notification(FFA.NOTIFICATION_UNBIND),
    FFA.NOTIFICATION_SET: st.builds(
        lambda pair, flag, bits: [FFA.NOTIFICATION_SET, pair, flag, *halves(bits)],
        pairs,
        st.sampled_from([0, 0, 0, 1, 2, 1 << 16, 1 << 31]),
        notifications,
    ),
    FFA.NOTIFICATION_GET: st.builds(
        lambda vcpu, guest, flag: [FFA.NOTIFICATION_GET, vcpu << 16 | guest, flag],
        st.sampled_from([0, 0, 0, 0, 1, 5]),
        st.sampled_from([SELF, SELF, SELF, SELF, 2, 3]),
        st.sampled_from([0xF, 5, 1, 4, 8, 2, 0, 0x10, 0x8000_0000]),
    ),
    FFA.NOTIFICATION_INFO_GET_32: st.just([FFA.NOTIFICATION_INFO_GET_32]),
    FFA.NOTIFICATION_INFO_GET_64: st.just([FFA.NOTIFICATION_INFO_GET_64]),
}
"""Calls that the model knows, with arguments that can succeed in some state."""

requests = st.builds(
    lambda fid, sp, head, message: [fid, SELF << 16 | sp, *head, *message][:18],
    st.sampled_from(
        [FFA.MSG_SEND_DIRECT_REQ_32, FFA.MSG_SEND_DIRECT_REQ_64, FFA.MSG_SEND_DIRECT_REQ2]
    ),
    st.sampled_from([0x8001, 0x8002, 0x8003, 0x8004]),
    st.sampled_from([(0, 0), (0, 0), (0, 7), tuple(doublewords(MAILBOX))]),
    st.lists(numbers, max_size=14),
)
"""Direct requests that a partition may answer: what would be flags or a UUID is zero, mostly."""

RICH = [
    FFA.RXTX_MAP_32, FFA.RXTX_MAP_64, FFA.PARTITION_INFO_GET, FFA.PARTITION_INFO_GET_REGS,
    FFA.MSG_SEND_DIRECT_REQ_32, FFA.NOTIFICATION_BIND, FFA.NOTIFICATION_GET,
]  # fmt: skip
"""Calls with many arguments: more of them."""
sensible = st.sampled_from([*SENSIBLE, *RICH]).flatmap(SENSIBLE.__getitem__)

random_arguments = st.builds(
    lambda fid, rest: [int(fid), *rest],
    st.sampled_from(list(SENSIBLE)),
    st.lists(numbers, max_size=17),
)
"""Level 2: a function with any arguments."""

BENDS: list[Callable[[int], int]] = [
    lambda value: value + 1 & (1 << 64) - 1,
    lambda value: value - 1 & (1 << 64) - 1,
    lambda value: value ^ 1 << 16,
    lambda value: value ^ 1 << 31,
    lambda value: value ^ 1 << 32,
    lambda value: value ^ 1 << 63,
    lambda value: value ^ 1,
    lambda value: value + PAGE_SIZE & (1 << 64) - 1,
    lambda value: value | 0xDEAD_BEEF << 32,
    lambda value: value | 0xFFFF << 16,
    lambda _value: (1 << 64) - 1,
    lambda _value: 0,
]
"""What is done to a field: off by one, a bit, one page more, the upper half set, all ones."""


def bend(registers: Words, n: int, how: Callable[[int], int]) -> Words:
    """Return x0 to x17 of a call with one of them bent."""
    whole = [*registers, *(0,) * 18][:18]
    whole[n] = how(whole[n])
    return whole


def _in_use(registers: Words) -> st.SearchStrategy[int]:
    """A field that the call has, now and then one that it should leave zero."""
    used = range(1, len(registers))
    return st.sampled_from([*used, *used, *used, *used, 0, 3, 6, 7, 8, 17])


def _soil(registers: Words, upper: int) -> Words:
    return [registers[0], *(value & 0xFFFF_FFFF | upper << 32 for value in registers[1:])]


bent_once = sensible.flatmap(
    lambda registers: st.builds(
        bend, st.just(registers), _in_use(registers), st.sampled_from(BENDS)
    )
)
soiled = st.builds(_soil, sensible, st.sampled_from([1, 0xDEAD_BEEF]))
bent = bent_once | bent_once | soiled
"""Level 3: arguments that make sense, with one field bent or all upper halves set."""
