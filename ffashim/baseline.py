# SPDX-License-Identifier: GPL-2.0-only
"""The tree that a change started from: what it has of the known defects, the change has not caused.

A probe of a defect looks at behaviour, so it is also true of a tree that somebody has just broken
in that way. Only the tree from before can tell the two apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ffashim import capabilities, loader
from ffashim.loader import Extension
from ffashim.machine import Machine
from ffashim.source import Tree
from ffashim.variants import nearest

NEW_PROPERTY = "ffashim.new"
"""The key in a test's ``user_properties`` of a defect that the baseline does not have."""
MENDED_PROPERTY = "ffashim.mended"
"""The same of a defect that the baseline has and the tree under test has not."""

_machines: dict[Path, Machine] = {}


def machine_of(extension: Extension) -> Machine:
    """Return the machine of an extension, made anew if somebody has made another one since."""
    machine = _machines.get(extension.path)
    if machine is None or machine._core.owner is not machine:
        machine = _machines[extension.path] = Machine(extension)
    return machine


def build(
    tree: Tree, settings: Mapping[str, str], cc: str, sanitize: Sequence[str] = ()
) -> Extension:
    """Build a baseline in the variant nearest to the one under test.

    A symbol that the baseline does not have, as a change may introduce it, is left out.
    """
    return loader.build(tree, nearest(tree, settings), cc=cc, sanitize=sanitize)


def lacks(
    machine: Machine, question: Callable[[Machine], Any], needs: Mapping[str, Any]
) -> str | None:
    """Return a sentence on why a baseline has no part in a defect, None if it has the defect.

    ``needs`` is what the test needs that meets the defect. A baseline that does not have that much
    cannot show the defect: the change that brings the one has brought the other.
    """
    unmet = capabilities.missing(machine, **needs)
    try:
        if capabilities.probe(machine, question):
            return None
    except Exception:  # noqa: BLE001 - a probe is anybody's code
        # Without the ABI a probe may stumble; with it, what went wrong here was no better.
        if not unmet:
            return None
    if unmet:
        return f"The baseline cannot have it ({unmet}): it came with what is new."
    return "The baseline does not have it."
