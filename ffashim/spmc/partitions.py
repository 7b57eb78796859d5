# SPDX-License-Identifier: GPL-2.0-only
"""Secure partitions: what a test says about them."""

from __future__ import annotations

import uuid as uuid_module
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ffashim.descriptors import PartitionInfo
from ffashim.errors import UsageError
from ffashim.ffa import PartitionProperty
from ffashim.spmc.replies import Regs

Uuid = str | uuid_module.UUID

DEFAULT_PROPERTIES = (
    PartitionProperty.DIRECT_REQ_RECV
    | PartitionProperty.DIRECT_REQ_SEND
    | PartitionProperty.INDIRECT_MSGS
    | PartitionProperty.RECV_NOTIF
    | PartitionProperty.NOTIF_CREATED
    | PartitionProperty.NOTIF_DESTROYED
    | PartitionProperty.AARCH64_STATE
    | PartitionProperty.DIRECT_REQ2_RECV
)


@dataclass(frozen=True)
class DirectRequest:
    """A direct message as its receiver sees it (15.2, 15.4).

    `payload` are registers x3 to x7, or x4 to x17 of FFA_MSG_SEND_DIRECT_REQ2; `uuid` is Nil
    for the first two ABIs.
    """

    fid: int
    sender: int
    receiver: int
    payload: tuple[int, ...]
    uuid: uuid_module.UUID
    registers: Regs


DirectHandler = Callable[[DirectRequest], Sequence[int]]
"""What an SP does with a direct request.

Returns the payload of its response, or all 18 registers of another answer: see `interrupt`,
`yielded` and `error` in `ffashim.spmc.replies`.
"""


def echo(request: DirectRequest) -> Sequence[int]:
    """Answer with what was asked: what SPs do unless told otherwise."""
    return request.payload


def to_uuid(value: Uuid) -> uuid_module.UUID:
    """From text or a UUID. Raises UsageError if it is neither."""
    return value if isinstance(value, uuid_module.UUID) else uuid_module.UUID(value)


@dataclass(frozen=True)
class SecurePartition:
    """A secure partition.

    id: endpoint ID, 16 bits; bit 15 is set by convention, and a test may break it.
    uuids: one or several protocols; each has a descriptor of its own from FF-A 1.1 on.
    properties: see `PartitionProperty`; any 32-bit number is taken.
    exec_contexts: how many execution contexts (vCPUs) it has.
    on_direct: what it does with direct requests.
    descriptors: what FFA_PARTITION_INFO_GET says of each of its UUIDs (Table 13.37, 24 bytes).
    """

    id: int
    uuids: Sequence[Uuid] = ()
    properties: int = DEFAULT_PROPERTIES
    exec_contexts: int = 1
    on_direct: DirectHandler = field(default=echo, repr=False)
    descriptors: Mapping[uuid_module.UUID, bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the ranges, and give it a UUID of its own if it has none."""
        for name, bits in (("id", 16), ("exec_contexts", 16), ("properties", 32)):
            if not 0 <= getattr(self, name) < 1 << bits:
                raise UsageError(f"SecurePartition.{name}={getattr(self, name):#x}: {bits} bits")
        given = (self.uuids,) if isinstance(self.uuids, (str, uuid_module.UUID)) else self.uuids
        own = tuple(to_uuid(u) for u in given) or (
            uuid_module.UUID(int=0x5EC0_0000_0000_4000_8000_0000_0000_0000 | self.id),
        )
        object.__setattr__(self, "uuids", own)
        known = {u: PartitionInfo(self.id, self.exec_contexts, self.properties, u) for u in own}
        object.__setattr__(self, "descriptors", {u: info.encode() for u, info in known.items()})

    @property
    def uuid(self) -> uuid_module.UUID:
        """Its first UUID."""
        return to_uuid(self.uuids[0])

    def has(self, wanted: PartitionProperty) -> bool:
        """Whether it has this property."""
        return bool(self.properties & wanted)
