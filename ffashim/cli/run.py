# SPDX-License-Identifier: GPL-2.0-only
"""``ffashim run``: boot, walk the partitions as a guest would, and check conformance."""

from __future__ import annotations

import os

import typer
from rich.console import Console

from ffashim.cli import options, subject

EPILOG = options.epilog(
    "ffashim run",
    "ffashim run --xen ~/src/xen --config FFA_VM_TO_VM=n",
)

_EXAMPLES = "40"
"""Of what is drawn at random: a taste. `ffashim check` looks at more."""
# A table is all that is shown here, so pytest need not work out how each test failed.
_BRIEF = ("--assert=plain", "--tb=line", "--no-summary")


def run(
    xen: options.Xen = None,
    patch: options.Patch = None,
    config: options.Config = None,
    cc: options.Cc = None,
) -> None:
    """Boot, walk the partitions as a guest, then check.

    Shows Xen's boot messages, each call of a guest with the calls that Xen makes of it, and the
    table of `ffashim check`. The exit status is that of `ffashim check`.
    """
    from ffashim import report
    from ffashim.cli.suite import run_suite, subject_arguments
    from ffashim.cli.walk import walk

    settings = options.settings(config)
    compiler = options.compiler(cc)
    tree, machine = subject.boot_one(xen, patch, settings, compiler)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    console.print(tree.describe(), style="bold")
    walk(machine, console)
    console.print("\nConformance", style="bold")
    os.environ.setdefault("FFASHIM_EXAMPLES", _EXAMPLES)
    results = run_suite([*subject_arguments(xen, patch, config, compiler), *_BRIEF])
    if report.failed(results):
        console.print("`ffashim check` on the same tree shows how each of them failed.")
        raise typer.Exit(1)
