# SPDX-License-Identifier: GPL-2.0-only
"""What FF-A leaves to a hypervisor, and what this one has said of itself."""

from __future__ import annotations

from dataclasses import dataclass

from ffashim.ffa import (
    FFA,
    MEM_ATTR_NORMAL_WB_ISH,
    MEM_PERM_RW,
    V1_2,
    FfaError,
    PartitionProperty,
    Version,
)


@dataclass(frozen=True)
class Profile:
    """A hypervisor's own choices.

    name: for people.
    version: the FF-A version that it implements.
    calls: the ABIs that it implements; most are optional at a virtual instance (Table 13.1, 4.7).
    vm_to_vm: whether guests see each other. messages: whether they can send each other some.
    notification_interrupt: the interrupt by which guests are told of notifications.
    """

    name: str
    version: Version
    calls: frozenset[FFA]
    vm_to_vm: bool = False
    messages: bool = False
    notification_interrupt: int = 8
    withheld_from_1_0: frozenset[FFA] = frozenset()
    """ABIs of FF-A 1.1 that a guest of 1.0 does not have, though one of 1.1 does. FF-A says
    what a version has, and not what its guests must not be given of a later one."""
    rxtx_pages: int = 1
    """The largest RX and TX. Xen documents: "Maps only one 4k page as RX and TX buffers"."""
    repeats_ids_in_1_0: bool = True
    """Xen documents: "v1.0 guests may see duplicate SP IDs when firmware provides UUIDs"."""
    lists_caller_since: Version = V1_2
    """A caller of this version finds itself in the list. FF-A 1.2, 13.8, has it there; before, a
    hypervisor had the choice, and drivers for older versions do not expect themselves."""
    lists_from_version_on: bool = False
    """A guest is in others' lists once FFA_VERSION has succeeded, not only with the call after it,
    which makes the version final (13.2.1). FF-A does not say when a VM can be discovered."""
    unmap_of_held_rx: frozenset[FfaError] = frozenset({FfaError.DENIED})
    """FFA_RXTX_UNMAP while the caller owns RX. 7.2.2.4 has it wait, 13.7 names no code."""
    guest_properties: PartitionProperty = (
        PartitionProperty.DIRECT_REQ_SEND
        | PartitionProperty.INDIRECT_MSGS
        | PartitionProperty.RECV_NOTIF
    )
    """What guests are told that guests can do, beside their width (Table 13.37)."""
    descriptors_in_registers: int = 5
    """As many as x3 to x17 hold: it fills them (13.9)."""
    borrowers: int = 1
    """Of one share. Xen documents: "with one borrower"."""
    shared_attributes: frozenset[int] = frozenset({MEM_ATTR_NORMAL_WB_ISH})
    """Kinds of memory that can be shared (Table 10.18). Xen documents: "normal memory"."""
    shared_permissions: frozenset[int] = frozenset({MEM_PERM_RW})
    """What borrowers can be given (Table 10.15). Xen's own limit, which it does not document: see
    findings/debatable.md."""
    shared_pages: int = 128
    """Xen documents: "at most 512 kB large memory regions"."""
    shared_regions: int = 32
    """Xen documents: "at most 32 shared memory regions per guest"."""
