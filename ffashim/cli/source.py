# SPDX-License-Identifier: GPL-2.0-only
"""``ffashim source``: find a tree, and tell what was found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ffashim.cli import options, subject

if TYPE_CHECKING:
    from ffashim.source import Tree

EPILOG = options.epilog(
    "ffashim source",
    "ffashim source --xen debian:trixie",
    "ffashim source --xen ~/src/xen@stable-4.20 --patch series.mbox",
)


def source(xen: options.Xen = None, patch: options.Patch = None) -> None:
    """Find, fetch and patch a Xen tree, and tell what it is."""
    for tree in subject.find_trees(xen, patch):
        for key, value in _facts(tree):
            print(f"{key:8} {value}")


def _facts(tree: Tree) -> list[tuple[str, str]]:
    return [
        ("tree", tree.spec),
        ("path", str(tree.root)),
        ("origin", tree.origin),
        ("version", tree.version),
        ("commit", tree.commit or "none"),
        *([("sha256", tree.sha256)] if tree.sha256 else []),
        *(("patch", f"{applied.name} (sha256 {applied.sha256})") for applied in tree.patches),
        *(("note", note) for note in (*tree.search, *tree.notes)),
    ]
