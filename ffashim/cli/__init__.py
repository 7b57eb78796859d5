# SPDX-License-Identifier: GPL-2.0-only
"""The ``ffashim`` command: one module for each of its subcommands.

Exit status: 0, all is well; 1, a test failed or a commit is not sound; 2, the input is at fault,
which ``error: ...`` explains; 130, Ctrl-C.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from ffashim.cli import (
    bisect,
    build,
    cache,
    check,
    defects,
    explore,
    matrix,
    mutants,
    run,
    series,
    shell,
    source,
)
from ffashim.cli.options import epilog
from ffashim.errors import FfashimError


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        """Run a command; what is wrong with an option is told without who has found it so."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")
            raise


app = typer.Typer(
    name="ffashim",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=epilog(
        "ffashim run                            # Debian's Xen, or what lies in xen_src/",
        "ffashim check --xen ~/src/xen          # the conformance suite on a work tree",
        "ffashim check --xen ~/src/xen@v5 --patch fix.patch",
        "ffashim explore --xen ~/src/xen        # random conversations, beside a model of FF-A",
        "ffashim series ~/src/xen@master..mine  # is each commit sound, what does it change",
        "ffashim matrix ~/src/xen               # every commit that touched the mediator",
    ),
)
for _command in (
    check, series, bisect, explore, run, shell, matrix, defects, mutants, source, build, cache,
):  # fmt: skip
    app.command(epilog=_command.EPILOG)(getattr(_command, _command.__name__.rpartition(".")[2]))


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"ffashim {version('ffashim')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Call a Xen tree's own FF-A mediator, compiled unmodified on this machine."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command, with the process's own arguments unless others are given, and exit."""
    try:
        app(arguments, prog_name="ffashim")
    except FfashimError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)
