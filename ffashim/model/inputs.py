# SPDX-License-Identifier: GPL-2.0-only
"""What guests say: registers at four levels, from noise to calls that make sense (Hypothesis)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from uuid import UUID

from hypothesis import strategies as st

from ffashim.defaults import CRYPTO, MAILBOX, UPDATE
from ffashim.descriptors import NIL
from ffashim.ffa import FFA, PAGE_SIZE
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
}
"""Calls that the model knows, with arguments that can succeed in some state."""

RICH = [FFA.RXTX_MAP_32, FFA.RXTX_MAP_64, FFA.PARTITION_INFO_GET, FFA.PARTITION_INFO_GET_REGS]
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


def _bend(registers: Words, n: int, bend: Callable[[int], int]) -> Words:
    whole = [*registers, *(0,) * 18][:18]
    whole[n] = bend(whole[n])
    return whole


def _in_use(registers: Words) -> st.SearchStrategy[int]:
    """A field that the call has, now and then one that it should leave zero."""
    used = range(1, len(registers))
    return st.sampled_from([*used, *used, *used, *used, 0, 3, 6, 7, 8, 17])


def _soil(registers: Words, upper: int) -> Words:
    return [registers[0], *(value & 0xFFFF_FFFF | upper << 32 for value in registers[1:])]


bent_once = sensible.flatmap(
    lambda registers: st.builds(
        _bend, st.just(registers), _in_use(registers), st.sampled_from(BENDS)
    )
)
soiled = st.builds(_soil, sensible, st.sampled_from([1, 0xDEAD_BEEF]))
bent = bent_once | bent_once | soiled
"""Level 3: arguments that make sense, with one field bent or all upper halves set."""
