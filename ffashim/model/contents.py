# SPDX-License-Identifier: GPL-2.0-only
"""What lands in an RX buffer: a list of partitions, or another guest's message."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from ffashim.descriptors import (
    NIL,
    DescriptorError,
    IndirectMessage,
    PartitionInfo,
    decode_partition_infos,
)
from ffashim.ffa import V1_1, V1_2, Version

SIZE_1_0, SIZE = 8, 24
"""Bytes of a partition information descriptor, in 1.0 and since (Table 13.37)."""
HEADER_1_1, HEADER_1_2 = 20, 40
"""Bytes of the header of a message, in 1.1 and since (Table 7.1)."""


class Contents(Protocol):
    """What a page of RX holds after a call."""

    def wrong(self, before: bytes, after: bytes) -> list[str]:
        """Return what is not as it should be."""
        ...


def _kept(before: bytes, after: bytes, start: int, end: int, what: str) -> list[str]:
    """What nobody has to write is as it was, or zero: anything else would be somebody else's."""
    if start >= end or after[start:end] in (before[start:end], bytes(end - start)):
        return []
    return [f"RX {what}, from byte {start} on, is neither as it was nor zero"]


@dataclass(frozen=True)
class Listing:
    """These descriptors, in any order, from the start of RX on (13.8)."""

    partitions: tuple[PartitionInfo, ...]
    size: int

    def wrong(self, before: bytes, after: bytes) -> list[str]:
        """Return what is not as it should be."""
        end = len(self.partitions) * self.size
        found = Counter(decode_partition_infos(after[:end], len(self.partitions), self.size))
        wanted = Counter(self.partitions)
        lines = [f"RX lacks {each}" for each in (wanted - found).elements()]
        lines += [f"RX holds {each}" for each in (found - wanted).elements()]
        return lines + _kept(before, after, end, len(after), "behind the list")


@dataclass(frozen=True)
class Message:
    """An indirect message (7.3, Table 7.1).

    version: the receiver's, which says how long the header must be at least. uuid: the service
    that the sender has named; a sender below 1.2 names none.
    """

    sender: int
    receiver: int
    payload: bytes
    uuid: UUID
    version: Version

    def wrong(self, before: bytes, after: bytes) -> list[str]:
        """Return what is not as it should be."""
        try:
            found = IndirectMessage.decode(after, V1_1)
        except DescriptorError as error:
            return [f"RX holds no message: {error}"]
        start, least = found.offset or 0, HEADER_1_2 if self.version >= V1_2 else HEADER_1_1
        lines = [
            f"RX holds a message with {name} {seen:#x}, not {wanted:#x}"
            for name, seen, wanted in (
                ("flags", found.flags, 0),
                ("reserved bits", found.reserved, 0),
                ("sender", found.sender, self.sender),
                ("receiver", found.receiver, self.receiver),
                ("size", found.size or 0, len(self.payload)),
            )
            if seen != wanted
        ]
        if start < least:
            return [*lines, f"RX holds a payload at offset {start}, within the header"]
        if found.payload != self.payload:
            lines.append("RX holds another payload than was sent")
        header = HEADER_1_1
        if self.version >= V1_2:
            header = HEADER_1_2
            whole = IndirectMessage.decode(after, V1_2)
            if whole.uuid != self.uuid:
                lines.append(f"RX names the UUID {whole.uuid}, not {self.uuid}")
            if whole.reserved2:
                lines.append(f"RX holds a message with reserved bits {whole.reserved2:#x}")
        elif start >= HEADER_1_2:
            # A longer header than the receiver's version has: its fields are no secret.
            known = IndirectMessage.decode(after, V1_2)
            header = HEADER_1_2
            if known.uuid not in (self.uuid, NIL) or known.reserved2:
                lines.append("RX holds something between the header and the payload")
        lines += _kept(before, after, header, start, "between header and payload")
        return lines + _kept(before, after, start + len(self.payload), len(after), "behind it")
