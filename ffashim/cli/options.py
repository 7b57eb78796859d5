# SPDX-License-Identifier: GPL-2.0-only
"""The options that commands have in common."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ffashim.errors import UsageError
from ffashim.sanitizers import SANITIZERS

Xen = Annotated[
    list[str] | None,
    typer.Option(
        "--xen",
        metavar="TREE",
        help="The Xen tree: a directory, DIR@REV of a git repository, debian[:SUITE] or "
        "upstream[@REV]. Default: what lies in xen_src/, else debian. Repeatable.",
    ),
]
Patch = Annotated[
    list[Path] | None,
    typer.Option(
        "--patch",
        metavar="FILE",
        help="A diff, git format-patch output or an mbox, applied to a private copy. Repeatable.",
    ),
]
Baseline = Annotated[
    str | None,
    typer.Option(
        "--baseline",
        metavar="TREE",
        help="The tree to compare with, as in --xen. Default with --patch: the tree without the "
        "patches. A known defect that it does not have is new and a failure, also if it comes with "
        "an ABI or an option that it does not have; one that it alone has is listed as mended.",
    ),
]
Config = Annotated[
    list[str] | None,
    typer.Option(
        "--config",
        metavar="NAME=VALUE",
        help="A Kconfig symbol's value, such as FFA_VM_TO_VM=y or DEBUG=n. Repeatable.",
    ),
]
Keyword = Annotated[
    str | None,
    typer.Option("-k", metavar="EXPR", help="Only the tests that match, as in pytest."),
]
Cc = Annotated[
    str | None,
    typer.Option("--cc", metavar="CMD", help="The C compiler. Default: $CC, cc, gcc or clang."),
]


Sanitize = Annotated[
    str | None,
    typer.Option(
        "--sanitize",
        metavar="NAMES",
        help="Build the tree with sanitizers, a comma list of: "
        + ", ".join(SANITIZERS)
        + ". What they find ends the call, as an exception with Xen's file and line.",
    ),
]


def epilog(*examples: str) -> str:
    """Lay examples out so that the help shows them as they are, one a line."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in examples)])


def settings(config: Sequence[str] | None) -> dict[str, str]:
    """Turn ``NAME=VALUE`` options into a mapping, names without ``CONFIG_``."""
    result: dict[str, str] = {}
    for item in config or ():
        name, equals, value = item.partition("=")
        name = name.strip().removeprefix("CONFIG_")
        if not name or not equals:
            raise UsageError(
                f"--config {item}: not NAME=VALUE; write for instance --config FFA_VM_TO_VM=n"
            )
        if result.setdefault(name, value) != value:
            raise UsageError(f"--config {item}: {name} was already given as {result[name]!r}")
    return result


def compiler(cc: str | None) -> str:
    """Return the compiler's command: the one named, ``$CC``, or the first that is there."""
    if named := cc or os.environ.get("CC"):
        return named
    return next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), "cc")
