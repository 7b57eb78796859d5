# SPDX-License-Identifier: GPL-2.0-only
"""``ffashim shell``: a Python prompt with a booted machine."""

from __future__ import annotations

import code
import sys
from contextlib import suppress
from types import TracebackType
from typing import Any

import typer

from ffashim import sanitizers
from ffashim.cli import options, subject
from ffashim.errors import FfashimError

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
    sanitize: options.Sanitize = None,
) -> None:
    """Open a Python prompt with a booted machine and a guest.

    It is IPython's if that is installed. Statements may come through a pipe; the exit status is
    then 1 if one of them raised.
    """
    settings = options.settings(config)
    tree, machine = subject.boot_one(
        xen, patch, settings, options.compiler(cc), sanitizers.parse(sanitize)
    )
    from ffashim.capabilities import highest_version
    from ffashim.ffa import FFA

    vm = machine.create_vm(str(highest_version(machine)))
    names = {"xen": machine, "spmc": machine.spmc, "vm": vm, "FFA": FFA}
    _prompt(_BANNER.format(tree=tree.describe()), names)


class _Console(code.InteractiveConsole):
    """Python's own prompt, which tells errors for people in their own words."""

    failed = False

    def run_all(self) -> bool:
        """Run what comes through a pipe, without prompts. False if its end is missing."""
        more = False
        while line := sys.stdin.readline():
            more = self.push(line.rstrip("\n"))
        # As an empty line would, the end closes a block, but no parenthesis.
        if more and self.push(""):
            self.write(f"SyntaxError: the input ends in the middle of {self.buffer[0]!r}\n")
            return False
        return True

    def showtraceback(self) -> None:
        self.failed = True
        error = sys.exc_info()[1]
        if isinstance(error, FfashimError):
            self.write(f"{_told(error)}\n")
        else:
            super().showtraceback()

    def showsyntaxerror(self, *arguments: Any, **named: Any) -> None:
        self.failed = True
        super().showsyntaxerror(*arguments, **named)


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _prompt(banner: str, names: dict[str, Any]) -> None:
    piped = not sys.stdin.isatty()
    if piped or not _ipython(banner, names):
        with suppress(ImportError):
            import readline  # noqa: F401  line editing, where Python was built with it
        console = _Console(names)
        sys.excepthook = sys.__excepthook__  # typer's own would show the prompt's frames too
        if not piped:
            console.interact(banner, exitmsg="")
            return
        console.write(f"{banner}\n")
        if not console.run_all() or console.failed:
            raise typer.Exit(1)


def _ipython(banner: str, names: dict[str, Any]) -> bool:
    """Run IPython's prompt, if it is installed."""
    try:
        from IPython.terminal.embed import InteractiveShellEmbed
    except ImportError:
        return False
    shell = InteractiveShellEmbed(banner1=f"{banner}\n", banner2="", user_ns=names)

    def tell(
        shell: Any,
        kind: type[BaseException],
        error: BaseException,
        traceback: TracebackType,
        tb_offset: int | None = None,
    ) -> None:
        print(_told(error), file=sys.stderr)

    shell.set_custom_exc((FfashimError,), tell)
    shell()
    return True
