# SPDX-License-Identifier: GPL-2.0-only
"""From the options to what a command works on: trees found, extensions built, machines booted."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ffashim.errors import FfashimError, UsageError

if TYPE_CHECKING:  # these take their time to import, and `--help` needs none of them
    from ffashim import Machine
    from ffashim.loader import Extension
    from ffashim.source import Tree


@contextmanager
def working(what: str) -> Iterator[Callable[[str], None]]:
    """Show on a terminal that something is under way; yields a function that says what, anew."""
    with Console(stderr=True).status(what) as status:
        yield status.update


def find_trees(xen: Sequence[str] | None, patches: Sequence[Path] | None) -> list[Tree]:
    """Find the trees that the options name, or the default one, patched."""
    from ffashim.source import resolve, resolve_default

    with working("Looking for Xen's source") as progress:
        if xen:
            return [resolve(spec, patches=patches or (), progress=progress) for spec in xen]
        return [resolve_default(patches=patches or (), progress=progress)]


def build(
    tree: Tree,
    settings: Mapping[str, str],
    cc: str,
    *,
    coverage: bool = False,
    sanitize: Sequence[str] = (),
) -> Extension:
    """Build the tree, or find what was built before."""
    from ffashim import loader

    with working(f"Building {tree.origin}") as progress:
        return loader.build(
            tree, settings, cc=cc, coverage=coverage, sanitize=sanitize, progress=progress
        )


def prepare(
    xen: Sequence[str] | None,
    patches: Sequence[Path] | None,
    baseline: str | None,
    settings: Mapping[str, str],
    cc: str,
    *,
    coverage: bool = False,
    sanitize: Sequence[str] = (),
) -> dict[str, Extension]:
    """Find and build each tree in each variant that is tested; return them by their titles.

    What is wrong with one is so said at once, and not once for each test; so are patches that
    change nothing here.
    """
    from ffashim.source import patching
    from ffashim.variants import title, variants

    trees = find_trees(xen, patches)
    prepare_baseline(baseline, trees, settings, cc, sanitize)
    for note in dict.fromkeys(note for tree in trees for note in tree.notes):
        if note.startswith(patching.PASSED_OVER):
            print(f"note: {note}", file=sys.stderr)
    return {
        title(tree, chosen): build(tree, chosen, cc, coverage=coverage, sanitize=sanitize)
        for tree in trees
        for chosen in variants(tree, settings)
    }


def prepare_baseline(
    baseline: str | None,
    trees: Sequence[Tree],
    settings: Mapping[str, str],
    cc: str,
    sanitize: Sequence[str] = (),
) -> None:
    """Find and build the baseline that the options name, in each variant that is asked of it."""
    from ffashim.variants import nearest, variants

    if baseline is None:
        return
    (before,) = find_trees([baseline], None)
    for tree in trees:
        for chosen in variants(tree, settings):
            build(before, nearest(before, chosen), cc, sanitize=sanitize)


def baseline_of(
    tree: Tree,
    baseline: str | None,
    settings: Mapping[str, str],
    cc: str,
    sanitize: Sequence[str] = (),
) -> Extension | None:
    """Return what a tree is compared with: ``--baseline``, or the tree without its patches.

    None if there is neither, or if the tree does not build without the patches.
    """
    from ffashim import baseline as before
    from ffashim.source import resolve

    if baseline is None and not tree.patches:
        return None
    try:
        return before.build(resolve(baseline or tree.spec), settings, cc, sanitize)
    except FfashimError:
        if baseline is not None:
            raise
        return None


def boot_one(
    xen: Sequence[str] | None,
    patches: Sequence[Path] | None,
    settings: Mapping[str, str],
    cc: str,
    sanitize: Sequence[str] = (),
) -> tuple[Tree, Machine]:
    """Boot a machine from the one tree that the options name."""
    if xen and len(xen) > 1:
        raise UsageError("this command works on one tree: give --xen once")
    (tree,) = find_trees(xen, patches)

    from ffashim import Machine

    machine = Machine(build(tree, settings, cc, sanitize=sanitize))
    machine.boot()
    return tree, machine
