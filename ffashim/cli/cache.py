# SPDX-License-Identifier: GPL-2.0-only
"""``ffashim cache``: what lies in the cache, and what of it may go."""

from __future__ import annotations

from typing import Annotated

import typer

from ffashim.cli import options

EPILOG = options.epilog(
    "ffashim cache",
    "ffashim cache --prune",
    "ffashim cache --prune --days 1",
)

_DAY = 24 * 3600


def cache(
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove trees and builds that were not used lately.")
    ] = False,
    days: Annotated[
        float, typer.Option(metavar="N", min=0, help="Lately: within so many days.")
    ] = 7,
) -> None:
    """Tell what lies in the cache, and remove what is not used.

    What is removed is made anew when it is wanted. What was used within the last hour, the tree of
    Debian and the clone of upstream stay.
    """
    from ffashim import cache, paths

    if prune:
        gone = cache.prune(days * _DAY)
        print(f"removed {len(gone)}, {_megabytes(sum(entry.size for entry in gone))}")
    kinds: dict[str, list[int]] = {}
    home = paths.cache_dir()
    for entry in cache.entries():
        kinds.setdefault(entry.path.relative_to(home).parts[0], []).append(entry.size)
    print(home)
    for kind, sizes in kinds.items():
        count = f"{len(sizes)}, " if kind in cache.USED else ""
        print(f"  {kind:10} {count}{_megabytes(sum(sizes))}")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
