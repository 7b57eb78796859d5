# SPDX-License-Identifier: GPL-2.0-only
"""``ffashim run``: boot, walk the partitions as a guest would, and check conformance."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from ffashim import sanitizers
from ffashim.cli import options, subject

if TYPE_CHECKING:
    from ffashim.source import Tree

EPILOG = options.epilog(
    "ffashim run",
    "ffashim run --xen ~/src/xen --config FFA_VM_TO_VM=n",
)

_EXAMPLES = "40"
"""Of what is drawn at random: a taste. `ffashim check` looks at more."""
# A table is all that is shown here, so pytest need not work out how each test failed.
_BRIEF = ("--assert=plain", "--tb=line", "--no-summary", "-mnot slow")


def run(
    xen: options.Xen = None,
    patch: options.Patch = None,
    baseline: options.Baseline = None,
    config: options.Config = None,
    cc: options.Cc = None,
    sanitize: options.Sanitize = None,
) -> None:
    """Boot, look round as a guest, check, and walk by registers.

    Shows Xen's boot messages, each call of a guest with the calls that Xen makes of it, the table
    of `ffashim check`, and a walk by FFA_PARTITION_INFO_GET_REGS beside the list in RX. With no
    tree named and none of its own in the distribution's, that call is patched into a copy of it.
    The exit status is that of `ffashim check`, or 1 if the two lists differ.
    """
    from ffashim import report
    from ffashim.cli.suite import run_suite, subject_arguments
    from ffashim.cli.walk import walk

    settings = options.settings(config)
    compiler = options.compiler(cc)
    checks = sanitizers.parse(sanitize)
    tree, machine = subject.boot_one(xen, patch, settings, compiler, checks)
    subject.prepare_baseline(baseline, [tree], settings, compiler, checks)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    console.print(tree.describe(), style="bold")
    walk(machine, console)
    console.print("\nConformance", style="bold")
    os.environ.setdefault("FFASHIM_EXAMPLES", _EXAMPLES)
    arguments = subject_arguments(xen, patch, baseline, config, compiler, checks)
    results = run_suite([*arguments, *_BRIEF])
    bad = report.failed(results)
    if bad:
        console.print("`ffashim check` on the same tree shows how each of them failed.")
    bad |= not _walk_registers(tree, settings, compiler, console)
    if bad:
        raise typer.Exit(1)


def _walk_registers(tree: Tree, settings: Mapping[str, str], cc: str, console: Console) -> bool:
    """Show a walk by FFA_PARTITION_INFO_GET_REGS. Returns whether it finds what it should.

    The distribution's tree may be from before the call: then on a copy that the example patches.
    """
    from ffashim import Machine, example
    from ffashim.cli.walk import compare
    from ffashim.variants import variants

    patched = example.with_get_regs(tree, settings, cc)
    if patched:
        console.print(f"\nThe same tree, with {example.SERIES.name} of examples/", style="bold")
    # The last variant is the one in which guests see each other.
    chosen = variants(patched or tree, settings)[-1]
    machine = Machine(subject.build(patched or tree, chosen, cc)).boot()
    if not example.has_get_regs(machine):
        console.print("\nThis tree has no FFA_PARTITION_INFO_GET_REGS.")
        return True
    return compare(machine, console)
