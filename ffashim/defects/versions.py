# SPDX-License-Identifier: GPL-2.0-only
"""Defects of FFA_VERSION, and of what is done for guests that have not called it."""

from __future__ import annotations

from ffashim.defects import Defect
from ffashim.ffa import FFA, PARTITION_INFO_COUNT_ONLY, V1_0, V1_1
from ffashim.machine import Machine
from ffashim.testing import while_a_guest_enters

_NOTHING = 0xFFFF_FFFF
_BIT_31 = 1 << 31


SERVES_WITHOUT_VERSION = Defect(
    "serves calls of a guest that has negotiated no version",
    lambda machine: machine.create_vm().smc(FFA.ID_GET).ok,
)

ECHOES_THE_VERSION = Defect(
    "answers with the version asked for, not with the one it implements",
    lambda machine: machine.create_vm().smc(FFA.VERSION, int(V1_0)).fid == int(V1_0),
)

TAKES_BIT_31 = Defect(
    "a version with bit 31 set, which must be zero, is accepted",
    lambda machine: machine.create_vm().smc(FFA.VERSION, _BIT_31 | int(V1_1)).fid != _NOTHING,
)

ANSWERS_A_CHANGE = Defect(
    "a change of version after other calls is not refused",
    lambda machine: machine.create_vm("1.1").smc(FFA.VERSION, int(V1_0)).fid != _NOTHING,
)


def _changes_late(machine: Machine) -> bool:
    vm = machine.create_vm("1.1")
    vm.smc(FFA.VERSION, int(V1_0))
    # A guest of 1.0 cannot ask for a count alone.
    return not vm.smc(FFA.PARTITION_INFO_GET, x5=PARTITION_INFO_COUNT_ONLY).ok


CHANGES_LATE = Defect("the version changes in the middle of a guest's life", _changes_late)


def _publishes_the_version_first(machine: Machine) -> bool:
    if not machine.extension.enabled("FFA_VM_TO_VM"):
        return False
    _, found = while_a_guest_enters(machine)
    return any(reply.ok and reply.x2 >> 16 & 0xFFFF > reply.x2 & 0xFFFF for reply in found)


PUBLISHES_THE_VERSION_FIRST = Defect(
    "the version is published before the guest is counted: another vCPU of it gets a current"
    " index past the last one",
    _publishes_the_version_first,
)
