# SPDX-License-Identifier: GPL-2.0-only
"""FFA_PARTITION_INFO_GET_REGS on any machine: the suite runs on a tree that has it, too."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from ffashim import example, paths
from ffashim.source import Tree

_SUITES = {*paths.SUITE, Path(__file__).parent / "model"}


def pytest_ffashim_trees(metafunc: pytest.Metafunc, trees: list[Tree]) -> list[Tree] | None:
    """With no tree named, add the distribution's with the example series if it lacks the call."""
    if metafunc.config.getoption("--xen") or _SUITES.isdisjoint(metafunc.definition.path.parents):
        return None
    return [*trees, *_patched(trees[0], metafunc.config.getoption("--cc") or "cc")]


@functools.cache
def _patched(tree: Tree, cc: str) -> list[Tree]:
    found = example.with_get_regs(tree, {}, cc)
    return [found] if found else []
