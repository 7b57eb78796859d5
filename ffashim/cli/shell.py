# SPDX-License-Identifier: GPL-2.0-only
"""``ffashim shell``: a Python prompt with a booted machine."""

from __future__ import annotations

import code
from contextlib import suppress
from typing import Any

from ffashim.cli import options, subject

EPILOG = options.epilog(
    "ffashim shell --xen ~/src/xen",
    ">>> vm.smc(FFA.ID_GET)",
    "echo 'print(vm.smc(FFA.ID_GET))' | ffashim shell",
)

_BANNER = """\
{tree}
xen is the booted machine, spmc its secure world, FFA the function IDs, and vm a guest that has
negotiated the version of the mediator.
Try vm.smc(FFA.ID_GET), help(vm), help(xen)."""


def shell(
    xen: options.Xen = None,
    patch: options.Patch = None,
    config: options.Config = None,
    cc: options.Cc = None,
) -> None:
    """Open a Python prompt with a booted machine and a guest.

    It is IPython's if that is installed.
    """
    settings = options.settings(config)
    tree, machine = subject.boot_one(xen, patch, settings, options.compiler(cc))
    from ffashim.capabilities import highest_version
    from ffashim.ffa import FFA

    vm = machine.create_vm(str(highest_version(machine)))
    names = {"xen": machine, "spmc": machine.spmc, "vm": vm, "FFA": FFA}
    _prompt(_BANNER.format(tree=tree.describe()), names)


def _prompt(banner: str, names: dict[str, Any]) -> None:
    try:
        from IPython.terminal.embed import InteractiveShellEmbed
    except ImportError:
        with suppress(ImportError):
            import readline  # noqa: F401  line editing, where Python was built with it
        code.interact(banner, local=names, exitmsg="")
    else:
        InteractiveShellEmbed(banner1=banner, banner2="", user_ns=names)()
