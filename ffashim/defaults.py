# SPDX-License-Identifier: GPL-2.0-only
"""The secure world of a machine that was given none."""

from __future__ import annotations

from functools import cache
from uuid import UUID

from ffashim.ffa import PartitionProperty as Property
from ffashim.ffa import Version
from ffashim.loader import Extension
from ffashim.spmc import SecurePartition, Spmc

MAILBOX = UUID("0d6a7c12-52f1-4b0e-9c57-1f4a6f0c8e01")
"""Of `partitions()[0]`, which takes every kind of message."""
CRYPTO = UUID("3b1e6a90-77c4-4d2b-8a13-5d2c9e7f0b02")
STORAGE = UUID("7f20c8d4-1a9b-4c66-b0e5-8c4d3a2f1e03")
UPDATE = UUID("c4e95b37-08d2-4f71-a6bc-2e9f7d6c5a04")


def partitions() -> list[SecurePartition]:
    """Return four secure partitions that differ in what can be asked of them.

    The second is told of no VM, the third serves two protocols, the fourth of VMs that die only.
    """
    return list(_partitions())


@cache
def _partitions() -> tuple[SecurePartition, ...]:
    messages = (
        Property.DIRECT_REQ_RECV
        | Property.DIRECT_REQ_SEND
        | Property.INDIRECT_MSGS
        | Property.RECV_NOTIF
        | Property.AARCH64_STATE
        | Property.DIRECT_REQ2_RECV
    )
    return (
        SecurePartition(
            0x8001, [MAILBOX], messages | Property.NOTIF_CREATED | Property.NOTIF_DESTROYED
        ),
        SecurePartition(0x8002, [CRYPTO], messages, exec_contexts=4),
        SecurePartition(
            0x8003,
            [STORAGE, UPDATE],
            messages | Property.NOTIF_CREATED | Property.NOTIF_DESTROYED,
            exec_contexts=2,
        ),
        SecurePartition(0x8004, [UUID(int=0x8004 << 96 | 4)], messages | Property.NOTIF_DESTROYED),
    )


def default_spmc(extension: Extension) -> Spmc:
    """Return an SPMC of the highest version that the tree accepts, with `partitions()`.

    A mediator refuses a version above its own before it learned of 1.2, so the version is what
    the tree calls FFA_MY_VERSION.
    """
    own = extension.record["constants"].get("FFA_MY_VERSION")
    version = str(Version(own >> 16, own & 0xFFFF)) if own else "1.1"
    return Spmc(version, partitions())
