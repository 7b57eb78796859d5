# SPDX-License-Identifier: GPL-2.0-only
"""Call Xen's real FF-A mediator from Python, on any Linux host."""

from ffashim.errors import FfashimError
from ffashim.faults import XenFault
from ffashim.fetches import Fetch
from ffashim.ffa import FFA, FfaError
from ffashim.machine import DomainError, Machine, Points
from ffashim.memory import P2m
from ffashim.reply import Reply
from ffashim.spmc import SecurePartition, Spmc
from ffashim.vm import Call, UnexpectedReply, Vcpu, Vm

__all__ = [
    "FFA",
    "Call",
    "DomainError",
    "Fetch",
    "FfaError",
    "FfashimError",
    "Machine",
    "P2m",
    "Points",
    "Reply",
    "SecurePartition",
    "Spmc",
    "UnexpectedReply",
    "Vcpu",
    "Vm",
    "XenFault",
]
