# SPDX-License-Identifier: GPL-2.0-only
"""FFA_PARTITION_INFO_GET_REGS on any machine: the project's own series for a tree that lacks it."""

from __future__ import annotations

from collections.abc import Mapping

from ffashim import loader, paths
from ffashim.capabilities import handled
from ffashim.ffa import FFA
from ffashim.machine import Machine
from ffashim.source import Tree, patching

SERIES = paths.EXAMPLES / "partition-info-get-regs"


def has_get_regs(machine: Machine) -> bool:
    """Tell whether the mediator handles FFA_PARTITION_INFO_GET_REGS."""
    return FFA.PARTITION_INFO_GET_REGS in handled(machine)


def with_get_regs(tree: Tree, settings: Mapping[str, str], cc: str) -> Tree | None:
    """Return a copy of the distribution's tree that has the call, by the series.

    None if the tree has it without, or is somebody's own: that is shown and tested as it is.
    Raises PatchError if the series does not apply.
    """
    if not tree.spec.startswith("debian") or tree.patches:
        return None
    if has_get_regs(Machine(loader.build(tree, settings, cc=cc))):
        return None
    return patching.apply(tree, [SERIES], lambda line: None)
