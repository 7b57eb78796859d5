# SPDX-License-Identifier: GPL-2.0-only
"""The configurations in which a tree is tested unless somebody says which."""

from __future__ import annotations

from collections.abc import Mapping

from ffashim import kconfig
from ffashim.source import Tree

VM_TO_VM = "FFA_VM_TO_VM"


def variants(tree: Tree, settings: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the settings, without and with VM to VM messaging if the tree leaves that open."""
    if VM_TO_VM in settings or not kconfig.has_symbol(tree.xen, VM_TO_VM):
        return [dict(settings)]
    return [{**settings, VM_TO_VM: value} for value in "ny"]


def nearest(tree: Tree, settings: Mapping[str, str]) -> dict[str, str]:
    """Return the settings whose symbols a tree has: its variant nearest to another tree's."""
    return {name: value for name, value in settings.items() if kconfig.has_symbol(tree.xen, name)}


def title(tree: Tree, settings: Mapping[str, str]) -> str:
    """Return one line for people that names a tree in one of its variants."""
    chosen = [f"{name}={value}" for name, value in sorted(settings.items())]
    return ", ".join([tree.describe().partition("\n")[0], *chosen])
