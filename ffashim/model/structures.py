# SPDX-License-Identifier: GPL-2.0-only
"""What guests put into TX: descriptors and messages, right ones and ones with a bent field.

A structure is made for a guest when it is used, as the version decides on its layout and the ID
stands in it: a strategy here yields a function from (endpoint, version) to the structure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from ffashim.defaults import MAILBOX
from ffashim.descriptors import (
    NIL,
    CompositeRegion,
    Constituent,
    IndirectMessage,
    MemoryAccess,
    MemoryTransaction,
)
from ffashim.ffa import MEM_PERM_RO, PAGE_SIZE
from ffashim.machine import RAM_BASE
from ffashim.model.pair import RAM_PAGES

PARTITIONS = [0x8001, 0x8001, 0x8001, 0x8002, 0x8003, 0x8004]
ENDPOINTS = [*PARTITIONS, 0, 1, 2, 3, 0x8000, 0x80FF, 0xFFFF]
LENGTHS = [0, 1, 8, 15, 16, 17, 19, 20, 21, 24, 31, 32, 33, 39, 40, 41, 47, 48, 49, 63, 64, 80, 81,
           88, 96, 112, 255, 256, 2048, 4056, 4057, 4064, 4076, 4077, 4079, 4080, 4095, 4096, 4097,
           0xFFFF, 0x1_0000, 1 << 31, (1 << 32) - 16, (1 << 32) - 1]  # fmt: skip
"""Sizes, counts and offsets around those that FF-A's structures have."""

addresses = st.integers(2, RAM_PAGES - 1).map(lambda n: RAM_BASE + n * PAGE_SIZE)
ODD_ADDRESSES = [
    0, 1, RAM_BASE + 1, RAM_BASE + 0x2800, RAM_BASE - PAGE_SIZE, RAM_BASE + RAM_PAGES * PAGE_SIZE,
    (1 << 64) - PAGE_SIZE, 1 << 52, 1 << 63,
]  # fmt: skip
ranges = st.lists(
    st.builds(Constituent, addresses, st.sampled_from([1, 1, 1, 2, 3])), min_size=1, max_size=3
)
lengths = st.sampled_from(LENGTHS) | st.integers(0, (1 << 32) - 1)

Bends = Mapping[str, Sequence[Any]]
TRANSACTION: Bends = {
    "sender": ENDPOINTS,
    "attributes": [0, 0x6F, 0x2E, 0x2C, 0x10, 0x1F, 0x12F, 0xFFFF],
    "flags": [1, 2, 4, 8, 9, 0x10, 0x18, 0x20, 0x100, 1 << 31],
    "handle": [1, 1 << 63, (1 << 64) - 1],
    "tag": [1, 1 << 63, (1 << 64) - 1],
    "access_size": LENGTHS,
    "access_count": LENGTHS,
    "access_offset": LENGTHS,
    "reserved": [1, 1 << 31],
    "receivers.0.endpoint": ENDPOINTS,
    "receivers.0.permissions": [0, MEM_PERM_RO, 3, 6, 10, 0xFF],
    "receivers.0.flags": [1, 0xFF],
    "receivers.0.reserved": [1, 1 << 63],
    "receivers.0.composite_offset": LENGTHS,
    "receivers.0.impdef": [bytes(range(1, 17)), b"\xff" * 16],
    "composite.total_pages": LENGTHS,
    "composite.range_count": LENGTHS,
    "composite.reserved": [1, 1 << 63],
    "composite.constituents.0.address": ODD_ADDRESSES,
    "composite.constituents.0.page_count": LENGTHS,
    "composite.constituents.0.reserved": [1, 1 << 31],
    "composite_offset": [80, 88, 96, 112, 4048, 4064, 4072, 4080],
}
"""Fields of a memory transaction, and what they are bent to (Tables 10.13 to 10.20). Where that is
`LENGTHS`, it may be any number.
"""
MESSAGE: Bends = {
    "sender": ENDPOINTS,
    "receiver": ENDPOINTS,
    "flags": [1, 1 << 31],
    "reserved": [1, 1 << 31],
    "offset": LENGTHS,
    "size": LENGTHS,
    "uuid": [NIL, MAILBOX],
    "reserved2": [1, 1 << 31],
}
"""Fields of an indirect message (Table 7.1)."""


def bent(structure: Any, path: str, value: Any) -> Any:
    """Return a structure with one field changed, such as "composite.constituents.0.address"."""
    name, _, rest = path.partition(".")
    if not rest:
        return replace(structure, **{name: value})
    inner = getattr(structure, name)
    index, _, deeper = rest.partition(".")
    if index.isdigit():
        changed = bent(inner[int(index)], deeper, value)
        return replace(structure, **{name: (changed, *inner[1:])})
    return replace(structure, **{name: bent(inner, rest, value)})


def bends(table: Bends) -> st.SearchStrategy[list[tuple[str, Any]]]:
    """No field, one, or two of a table, with what they are bent to."""
    one = st.sampled_from(sorted(table)).flatmap(
        lambda name: st.tuples(st.just(name), _values(table[name]))
    )
    return st.lists(one, max_size=2, unique_by=lambda bend: bend[0])


def _values(values: Sequence[Any]) -> st.SearchStrategy[Any]:
    return lengths if values is LENGTHS else st.sampled_from(values)


def transaction(
    endpoint: int,
    receiver: int,
    constituents: Sequence[Constituent],
    changes: Sequence[tuple[str, Any]],
) -> MemoryTransaction:
    """Return what a guest sends to share memory, with fields changed."""
    access, region = MemoryAccess(receiver), CompositeRegion(tuple(constituents))
    made = MemoryTransaction(endpoint, (access,), region)
    for path, value in changes:
        made = bent(made, path, value)
    return made


Maker = Callable[[int], Any]
"""From a guest's endpoint ID to the structure that it sends."""

transactions: st.SearchStrategy[Maker] = st.builds(
    lambda receiver, memory, changes: (
        lambda endpoint: transaction(endpoint, receiver, memory, changes)
    ),
    st.sampled_from(PARTITIONS),
    ranges,
    bends(TRANSACTION) | st.just([]),
)
"""What FFA_MEM_SHARE takes."""
plain_transactions: st.SearchStrategy[Maker] = st.builds(
    lambda receiver, memory: lambda endpoint: transaction(endpoint, receiver, memory, ()),
    st.sampled_from(PARTITIONS),
    ranges,
)
"""What drivers share."""


def message(
    endpoint: int, receiver: int, payload: bytes, changes: Sequence[tuple[str, Any]]
) -> IndirectMessage:
    """Return what a guest sends as an indirect message, with fields changed."""
    made = IndirectMessage(endpoint, receiver, payload)
    for path, value in changes:
        made = bent(made, path, value)
    return made


payloads = st.sampled_from([b"x", b"hello", b"\xa5" * 100, bytes(4056), b"\x5a" * 4057])
messages: st.SearchStrategy[Maker] = st.builds(
    lambda receiver, payload, changes: (
        lambda endpoint: message(endpoint, receiver, payload, changes)
    ),
    st.sampled_from([*PARTITIONS, 2, 2, 3, 3, 4, 5]),
    payloads,
    bends(MESSAGE) | st.just([]),
)
"""What FFA_MSG_SEND2 takes."""
