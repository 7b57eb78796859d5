# SPDX-License-Identifier: GPL-2.0-only
"""A secure world to test a hypervisor's FF-A mediator against.

`Spmc` answers SMCs as an SPMC at the physical FF-A instance does; `SecurePartition` says who lives
there. It is strict (`Spmc.violations`), can be told to misbehave (`Spmc.on`), and keeps a record
(`Spmc.log`).
"""

from ffashim.spmc.log import Log, Smc
from ffashim.spmc.partitions import DirectRequest, SecurePartition, echo
from ffashim.spmc.replies import Regs, error, interrupt, registers, success, waiting, yielded
from ffashim.spmc.script import On, Rule
from ffashim.spmc.state import Binding, Delivered, Range, Share
from ffashim.spmc.world import Finding, SecureHost, Spmc

__all__ = [
    "Binding",
    "Delivered",
    "DirectRequest",
    "Finding",
    "Log",
    "On",
    "Range",
    "Regs",
    "Rule",
    "SecureHost",
    "SecurePartition",
    "Share",
    "Smc",
    "Spmc",
    "echo",
    "error",
    "interrupt",
    "registers",
    "success",
    "waiting",
    "yielded",
]
