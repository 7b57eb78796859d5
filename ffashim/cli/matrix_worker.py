# SPDX-License-Identifier: GPL-2.0-only
"""One commit of ``ffashim matrix``, in a process of its own: a crash there is a result here.

``python -m ffashim.cli.matrix_worker TREE CC`` prints a JSON object: for each variant an empty
string if it builds and boots, what went wrong if not, null if the tree does not have the variant.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping

from ffashim import FFA, Machine, kconfig, loader
from ffashim.cli.matrix import VARIANTS
from ffashim.errors import FfashimError
from ffashim.ffa import Version
from ffashim.source import Tree, resolve


def examine(spec: str, cc: str) -> dict[str, str | None]:
    """Return what is wrong with each variant of a tree: "" if nothing, None if it is not there."""
    try:
        tree = resolve(spec)
        settings = dict(_settings(tree, cc))
    except FfashimError as error:
        return dict.fromkeys(VARIANTS, str(error))
    return {
        variant: None if chosen is None else _fault(tree, chosen, cc)
        for variant, chosen in settings.items()
    }


def _settings(tree: Tree, cc: str) -> Iterator[tuple[str, Mapping[str, str] | None]]:
    off, on = VARIANTS
    there = kconfig.has_symbol(tree.xen, "FFA_VM_TO_VM")
    yield off, {"FFA_VM_TO_VM": "n"} if there else {}
    yield on, {"FFA_VM_TO_VM": "y"} if there else None


def _fault(tree: Tree, settings: Mapping[str, str], cc: str) -> str:
    """Build and boot the tree; it boots if a guest can then ask for the FF-A version."""
    try:
        machine = Machine(loader.build(tree, settings, cc=cc)).boot()
        reply = machine.create_vm().smc(FFA.VERSION, Version(1, 0).value)
    except FfashimError as error:
        return str(error)
    return "FFA_VERSION is answered by NOT_SUPPORTED" if reply.unknown else ""


if __name__ == "__main__":
    print(json.dumps(examine(*sys.argv[1:])))
