# SPDX-License-Identifier: GPL-2.0-only
"""Why some mutants are not noticed: nobody could tell, or the suite does not look.

A mutant is named by its key: the function, the operator and a hash of the statement and of what
becomes of it. It holds in every tree in which the statement reads the same. A pattern, as in a
shell, names many; so does the hash of a condition, which a report in JSON shows as ``within``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from ffashim import capabilities
from ffashim.ffa import FFA
from ffashim.machine import Machine
from ffashim.mutants.source import Mutant
from ffashim.testing import hides_buffers


@dataclass(frozen=True)
class Reason:
    """Why these mutants survive."""

    why: str
    keys: tuple[str, ...] = ()
    within: tuple[str, ...] = ()
    """All that depends on one of these conditions."""
    equivalent: bool = True
    """No guest and no SPMC can tell them from the original: they do not count."""
    probe: Callable[[Machine], Any] | None = None
    """Only on trees of which this is true: a known defect, behind which nothing is reached."""


def rounds_addresses_down(machine: Machine) -> bool:
    """Tell whether buffers that are not page aligned are mapped, from where their pages start."""
    vm = machine.create_vm("1.1")
    return vm.smc(FFA.RXTX_MAP_64, vm.memory.allocate() + 1, vm.memory.allocate(), 1).ok


REASONS: Sequence[Reason] = (
    Reason("one host thread runs the machine: memory ordering is not modelled", ("*/barrier/*",)),
    Reason(
        "never reached on this tree, which does not look for FFA_RX_ACQUIRE",
        within=("791d6fc7",),
        probe=hides_buffers,
    ),
    Reason(
        "this tree rounds addresses of buffers down: their lowest bits do not count",
        ("ffa_handle_rxtx_map/bound/92837081", "ffa_handle_rxtx_map/bound/99015f7c"),
        probe=rounds_addresses_down,
    ),
    Reason(
        "the handle of a share is read, and then used for nothing",
        ("read_mem_transaction/assignment/4c48063b*",),
    ),
    Reason(
        "a share that the SPMC answers by FFA_MEM_FRAG_RX fails, and its handle is dropped",
        ("ffa_mem_share/argument/20e6bedd",),
    ),
    Reason(
        "FF-A is given up at this point: nothing reads what is cleared",
        ("uninit_subscribers/assignment/73d2676d",),
    ),
    Reason(
        "whether the SPMC reports FFA_VERSION is asked, and then used for nothing",
        ("ffa_probe/constant/745f1215",),
    ),
    Reason(
        "where Xen's own pages come from is below the mediator",
        ("ffa_rxtx_init/constant/4ae023f8",),
    ),
    Reason(
        "a later minor version and the same one come to the same",
        ("ffa_probe_fw/comparison/d767502a",),
    ),
    Reason(
        "the answer is no version either way, and is looked at again",
        ("ffa_get_version/constant/81407fb5",),
    ),
    Reason(
        "x2 and x3 of FFA_MSG_SEND_DIRECT_RESP2 are reserved: the SPMC has them zero",
        ("ffa_finish_direct_req_run/argument/cd981a96",),
    ),
    Reason(
        "what is behind it has to be larger still: the next check refuses the same",
        ("read_mem_transaction/bound/955d8803",),
    ),
)


def reasons_on(machine: Machine, reasons: Sequence[Reason] = REASONS) -> list[Reason]:
    """Return the reasons that hold on a tree."""
    return [
        reason
        for reason in reasons
        if reason.probe is None or capabilities.probe(machine, reason.probe)
    ]


def find(mutant: Mutant, reasons: Sequence[Reason]) -> Reason | None:
    """Return why a mutant survives, None if that is not known."""
    for reason in reasons:
        if not set(reason.within).isdisjoint(mutant.within) or any(
            fnmatchcase(mutant.key, pattern) for pattern in reason.keys
        ):
            return reason
    return None
