# SPDX-License-Identifier: GPL-2.0-only
"""Which part of a Xen tree is kept: what an Arm hypervisor is configured and compiled from.

The rest, the toolstack and other architectures, is nine tenths of a tree.
"""

from __future__ import annotations

import hashlib

LEFT_OUT = ("xen/arch/ppc", "xen/arch/riscv", "xen/arch/x86", "xen/test", "xen/tools")
"""Directories under ``xen/`` that nothing of ours reads."""

ID = hashlib.sha256(" ".join(LEFT_OUT).encode()).hexdigest()[:8]
"""Part of a stored tree's key, so that a later selection does not find the trees of this one."""


def kept(path: str) -> bool:
    """Tell whether the file, named relative to the top of the tree, is kept."""
    return path.startswith("xen/") and not path.startswith(tuple(f"{name}/" for name in LEFT_OUT))
