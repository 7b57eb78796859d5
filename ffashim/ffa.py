# SPDX-License-Identifier: GPL-2.0-only
"""FF-A numbers: function IDs, error codes, versions, flags.

This module is their only home in Python. Sources, where not said otherwise:
Arm DEN0077A, Firmware Framework for Arm A-profile, 1.0 REL, 1.1 REL0, 1.2 REL0. Section and table
numbers are those of 1.1 REL0 (1.2 moved memory management, chapter 16, to DEN0140, and made
notifications chapter 16); "1.2" and "1.3" mark what came later.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from ffashim.errors import UsageError

PAGE_SIZE = 4096
"""Bytes. Every page count in FF-A is in 4 KiB pages, whatever the translation granule."""

NREGS = 18
"""Registers x0 to x17 that SMCCC 1.2 passes both ways."""


class FFA(enum.IntEnum):
    """Function IDs; beside each the section or chapter that describes the ABI.

    A name ends in `_32` or `_64` where both conventions exist. IDs that no mediator
    handles are here too: they are what a test sends to see them refused.
    """

    ERROR = 0x84000060  # 12
    SUCCESS_32 = 0x84000061  # 12
    SUCCESS_64 = 0xC4000061
    INTERRUPT = 0x84000062  # 12
    VERSION = 0x84000063  # 13.2
    FEATURES = 0x84000064  # 13.3
    RX_RELEASE = 0x84000065  # 13.5
    RXTX_MAP_32 = 0x84000066  # 13.6
    RXTX_MAP_64 = 0xC4000066
    RXTX_UNMAP = 0x84000067  # 13.7
    PARTITION_INFO_GET = 0x84000068  # 13.8
    ID_GET = 0x84000069  # 13.10
    MSG_POLL = 0x8400006A  # 1.0 only
    MSG_WAIT = 0x8400006B  # 14
    MSG_YIELD = 0x8400006C  # 14
    RUN = 0x8400006D  # 14
    MSG_SEND = 0x8400006E  # 1.0 only
    MSG_SEND_DIRECT_REQ_32 = 0x8400006F  # 15.2
    MSG_SEND_DIRECT_REQ_64 = 0xC400006F
    MSG_SEND_DIRECT_RESP_32 = 0x84000070  # 15.3
    MSG_SEND_DIRECT_RESP_64 = 0xC4000070
    MEM_DONATE_32 = 0x84000071  # 16.1
    MEM_DONATE_64 = 0xC4000071
    MEM_LEND_32 = 0x84000072  # 16.2
    MEM_LEND_64 = 0xC4000072
    MEM_SHARE_32 = 0x84000073  # 16.3
    MEM_SHARE_64 = 0xC4000073
    MEM_RETRIEVE_REQ_32 = 0x84000074  # 16.4
    MEM_RETRIEVE_REQ_64 = 0xC4000074
    MEM_RETRIEVE_RESP = 0x84000075  # 16.5
    MEM_RELINQUISH = 0x84000076  # 16.6
    MEM_RECLAIM = 0x84000077  # 16.7
    MEM_OP_PAUSE = 0x84000078  # 1.0 only
    MEM_OP_RESUME = 0x84000079  # 1.0 only
    MEM_FRAG_RX = 0x8400007A  # 16
    MEM_FRAG_TX = 0x8400007B  # 16
    NORMAL_WORLD_RESUME = 0x8400007C  # 14
    NOTIFICATION_BITMAP_CREATE = 0x8400007D  # 17.1
    NOTIFICATION_BITMAP_DESTROY = 0x8400007E  # 17.2
    NOTIFICATION_BIND = 0x8400007F  # 17.3
    NOTIFICATION_UNBIND = 0x84000080  # 17.4
    NOTIFICATION_SET = 0x84000081  # 17.5
    NOTIFICATION_GET = 0x84000082  # 17.6
    NOTIFICATION_INFO_GET_32 = 0x84000083  # 17.7
    NOTIFICATION_INFO_GET_64 = 0xC4000083
    RX_ACQUIRE = 0x84000084  # 13.4
    SPM_ID_GET = 0x84000085  # 13.11
    MSG_SEND2 = 0x84000086  # 15.1
    SECONDARY_EP_REGISTER_32 = 0x84000087  # 18
    SECONDARY_EP_REGISTER_64 = 0xC4000087
    MEM_PERM_GET_32 = 0x84000088  # DEN0140
    MEM_PERM_GET_64 = 0xC4000088
    MEM_PERM_SET_32 = 0x84000089
    MEM_PERM_SET_64 = 0xC4000089
    CONSOLE_LOG_32 = 0x8400008A  # 1.2
    CONSOLE_LOG_64 = 0xC400008A
    PARTITION_INFO_GET_REGS = 0xC400008B  # 1.2, 13.9
    EL3_INTR_HANDLE = 0x8400008C  # 1.2
    MSG_SEND_DIRECT_REQ2 = 0xC400008D  # 1.2, 15.4
    MSG_SEND_DIRECT_RESP2 = 0xC400008E  # 1.2, 15.5
    NS_RES_INFO_GET = 0xC400008F  # 1.3
    ABORT_32 = 0x84000090  # 1.3
    ABORT_64 = 0xC4000090


class FfaError(enum.IntEnum):
    """Status codes of FFA_ERROR, a signed 32-bit number in w2 (chapter 12)."""

    NOT_SUPPORTED = -1
    INVALID_PARAMETERS = -2
    NO_MEMORY = -3
    BUSY = -4
    INTERRUPTED = -5
    DENIED = -6
    RETRY = -7
    ABORTED = -8
    NO_DATA = -9
    NOT_READY = -10  # 1.2

    @property
    def w(self) -> int:
        """The code as it stands in a 32-bit register."""
        return int(self) & 0xFFFFFFFF


class Version(NamedTuple):
    """A version of FF-A: compares as (major, minor); 13.2."""

    major: int
    minor: int

    @classmethod
    def parse(cls, text: str | int | tuple[int, int]) -> Version:
        """From "1.2", from the register's value, or from a pair.

        Raises UsageError for anything else.
        """
        if isinstance(text, int):
            return cls(text >> 16 & 0x7FFF, text & 0xFFFF)
        if isinstance(text, str):
            major, dot, minor = text.partition(".")
            if not (dot and major.isdigit() and minor.isdigit()):
                raise UsageError(f"FF-A version {text!r}: want MAJOR.MINOR, such as '1.2'")
            pair = int(major), int(minor)
        elif isinstance(text, tuple) and len(text) == 2:
            pair = text
        else:
            raise UsageError(f"FF-A version {text!r}: want a string such as '1.2'")
        if not (0 <= pair[0] <= 0x7FFF and 0 <= pair[1] <= 0xFFFF):
            raise UsageError(f"FF-A version {text!r}: major has 15 bits, minor 16")
        return cls(*pair)

    @property
    def value(self) -> int:
        """As in a register: major in bits 30:16, minor in 15:0."""
        return self.major << 16 | self.minor

    def __int__(self) -> int:
        """As `value`."""
        return self.value

    def __str__(self) -> str:
        """Such as "1.2"."""
        return f"{self.major}.{self.minor}"


V1_0 = Version(1, 0)
V1_1 = Version(1, 1)
V1_2 = Version(1, 2)
V1_3 = Version(1, 3)


class Feature(enum.IntEnum):
    """Feature IDs that FFA_FEATURES takes in place of a function ID (13.3)."""

    NOTIF_PEND_INTR = 1
    SCHEDULE_RECV_INTR = 2
    MANAGED_EXIT_INTR = 3


class PartitionProperty(enum.IntFlag):
    """Partition properties of a partition information descriptor (Table 13.37)."""

    DIRECT_REQ_RECV = 1 << 0
    DIRECT_REQ_SEND = 1 << 1
    INDIRECT_MSGS = 1 << 2
    RECV_NOTIF = 1 << 3
    SEPID_INDEP = 1 << 4
    """Bits 5:4 hold the ID's type: 0 PE endpoint, 1 independent SEPID, 2 dependent, 3 auxiliary."""
    SEPID_DEP = 2 << 4
    NOTIF_CREATED = 1 << 6
    """Wants to be told of each VM that is created (18.3 in 1.2)."""
    NOTIF_DESTROYED = 1 << 7
    """Wants to be told of each VM that is destroyed (18.3 in 1.2)."""
    AARCH64_STATE = 1 << 8
    DIRECT_REQ2_RECV = 1 << 9  # 1.2
    DIRECT_REQ2_SEND = 1 << 10  # 1.2


PARTITION_INFO_COUNT_ONLY = 1
"""FFA_PARTITION_INFO_GET, w5: return only the count (13.8)."""

ID_SECURE = 0x8000
"""Bit 15 of an endpoint ID: a secure endpoint, by convention (6.1)."""
HYPERVISOR_ID = 0
"""The hypervisor's own ID (6.1)."""

# Direct messages, w2 (15.2).
MSG_FLAG_FRAMEWORK = 1 << 31
MSG_TYPE_MASK = 0xFF


class FrameworkMessage(enum.IntEnum):
    """Types of framework message in w2[7:0] (chapter 18)."""

    PSCI_REQ = 0x0
    PSCI_RESP = 0x2
    VM_CREATED = 0x4
    VM_CREATED_RESP = 0x5
    VM_DESTROYED = 0x6
    VM_DESTROYED_RESP = 0x7
    VERSION_REQ = 0x8
    VERSION_RESP = 0x9


# Memory region attributes (10.10, Table 10.18).
MEM_ATTR_NS = 1 << 6
"""Bit 6, since 1.1: the memory is non-secure; a receiver's field, MBZ in what a sender sends."""
MEM_ATTR_TYPE_MASK = 3 << 4
MEM_ATTR_DEVICE = 1 << 4
MEM_ATTR_NORMAL = 2 << 4
MEM_ATTR_CACHE_MASK = 3 << 2
MEM_ATTR_NON_CACHEABLE = 1 << 2
MEM_ATTR_WRITE_BACK = 3 << 2
MEM_ATTR_SHARE_MASK = 3
MEM_ATTR_NON_SHAREABLE = 0
MEM_ATTR_OUTER_SHAREABLE = 2
MEM_ATTR_INNER_SHAREABLE = 3
MEM_ATTR_NORMAL_WB_ISH = MEM_ATTR_NORMAL | MEM_ATTR_WRITE_BACK | MEM_ATTR_INNER_SHAREABLE
"""Ordinary RAM, 0x2f: the one set of attributes that Xen accepts."""

# Memory access permissions (10.9.2, Table 10.15).
MEM_PERM_DATA_MASK = 3
MEM_PERM_RO = 1
MEM_PERM_RW = 2
MEM_PERM_INSTR_MASK = 3 << 2
MEM_PERM_NX = 1 << 2
MEM_PERM_X = 2 << 2
MEM_PERM_FLAG_NON_RETRIEVAL = 1 << 0
"""Flags byte: a borrower that does not retrieve (10.9.2)."""

# Memory transaction flags (10.11.4).
MEM_FLAG_CLEAR = 1 << 0
MEM_FLAG_TIME_SLICE = 1 << 1
MEM_FLAG_CLEAR_RELINQUISH = 1 << 2
MEM_FLAG_TYPE_MASK = 3 << 3
MEM_FLAG_SHARE = 1 << 3
MEM_FLAG_LEND = 2 << 3
MEM_FLAG_DONATE = 3 << 3

# Flags of FFA_MEM_RECLAIM (16.7).
RECLAIM_CLEAR = 1 << 0
RECLAIM_TIME_SLICE = 1 << 1

HANDLE_HYP_FLAG = 1 << 63
"""Handle bit 63: allocated by the hypervisor; clear: by the SPMC (10.9.2)."""
HANDLE_INVALID = (1 << 64) - 1

# FFA_NOTIFICATION_GET, w2 (17.6): whose notifications to return.
NOTIF_GET_SP = 1 << 0
NOTIF_GET_VM = 1 << 1
NOTIF_GET_SPM = 1 << 2
NOTIF_GET_HYP = 1 << 3
# FFA_NOTIFICATION_BIND and SET, w2 (17.3, 17.5).
NOTIF_PER_VCPU = 1 << 0
NOTIF_SET_DELAY_SRI = 1 << 1
NOTIF_RX_BUFFER_FULL = 1 << 0
"""The framework notification "RX buffer full", of the SPM or of the hypervisor (chapter 9)."""
# FFA_NOTIFICATION_INFO_GET, w2 or x2 (17.7).
NOTIF_INFO_MORE = 1 << 0
NOTIF_INFO_LISTS_SHIFT = 7
NOTIF_INFO_LISTS_MASK = 0x1F
NOTIF_INFO_COUNTS_SHIFT = 12

NOTIFICATIONS = (
    FFA.NOTIFICATION_BITMAP_CREATE, FFA.NOTIFICATION_BITMAP_DESTROY, FFA.NOTIFICATION_BIND,
    FFA.NOTIFICATION_UNBIND, FFA.NOTIFICATION_SET, FFA.NOTIFICATION_GET,
    FFA.NOTIFICATION_INFO_GET_64,
)  # fmt: skip
"""What an SPMC implements that supports notifications (chapter 17)."""

_NAMES = {int(member): member.name for member in FFA}
FNUM_MIN, FNUM_MAX = 0x60, 0xEF
"""Range of function numbers that SMCCC gives to FF-A (chapter 11)."""


def is_64bit(fid: int) -> bool:
    """Whether a function ID uses the SMC64 convention (SMCCC, bit 30)."""
    return bool(fid >> 30 & 1)


def is_ffa(fid: int) -> bool:
    """Whether a function ID is in the ranges of FF-A: standard service, numbers 0x60 to 0xef."""
    return fid & ~0x40000000 & ~0xFF == 0x84000000 and FNUM_MIN <= fid & 0xFF <= FNUM_MAX


def fid_name(fid: int) -> str:
    """Such as "FFA_RX_RELEASE"; the number itself if it has no name."""
    name = _NAMES.get(fid)
    return f"FFA_{name}" if name else f"{fid:#x}"


def error_code(reg: int) -> FfaError | int:
    """The status in w2 of an FFA_ERROR: an FfaError, or the signed number if it is none."""
    low = reg & 0xFFFFFFFF
    signed = low - (1 << 32) if low >> 31 else low
    try:
        return FfaError(signed)
    except ValueError:
        return signed
