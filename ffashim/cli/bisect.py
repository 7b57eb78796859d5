# SPDX-License-Identifier: GPL-2.0-only
"""``ffashim bisect``: the first commit of a range at which a test fails."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ffashim.cli import options
from ffashim.errors import UsageError

if TYPE_CHECKING:
    from ffashim.series.history import Entry
    from ffashim.series.search import Probe

EPILOG = options.epilog(
    "ffashim bisect ~/src/xen@RELEASE-4.21.0..staging -k test_a_descriptor_longer_than_tx",
    "ffashim bisect ~/src/xen@HEAD~40.. test_mine.py",
    "ffashim bisect ~/src/xen@HEAD~40.. found/test_found_1a2b3c.py --config FFA_VM_TO_VM=y",
)


def bisect(
    what: Annotated[
        str, typer.Argument(metavar="RANGE", help="DIR@A..B: the test passes at A, fails at B.")
    ],
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="Tests of your own. Default: the suite."),
    ] = None,
    keyword: options.Keyword = None,
    config: options.Config = None,
    cc: options.Cc = None,
) -> None:
    """Find the first commit of a range at which a test fails.

    It may be a known defect that it fails of. Commits that change nothing which is compiled here
    are told without being tried. One at which the tree does not build, or the tests do not apply,
    is passed over, and named if the first bad commit may be among such. Builds are kept: to ask
    again costs little.

    The exit status is 0 if the commit was found, 1 if it can only be narrowed down to some that
    cannot be tried, and 2 if the range or an option is at fault, or the test does not pass at its
    start and fail at its end.
    """
    from ffashim.series import search

    if file is None and keyword is None:
        raise UsageError("name what fails: a FILE of tests, -k EXPR, or both")
    if file is not None and not file.is_file():
        raise UsageError(f"there is no file {file}")
    console = Console(highlight=False, soft_wrap=True)
    compiler = options.compiler(cc)

    def tell(probe: Probe) -> None:
        colour = {"passed": "green", "failed": "red"}.get(probe.outcome, "yellow")
        line = f"{probe.name[:12]} [{colour}]{probe.outcome}[/]"
        console.print(line, f"{probe.subject}{': ' + probe.why if probe.why else ''}", markup=True)

    history, before, entries = search.open_range(what)
    test = search.Test(
        keyword, file.resolve() if file else None, options.settings(config), compiler
    )
    search.require_tests(history, entries, test)
    found = search.first_bad(history, before, entries, test, tell)
    _print(found, console)
    if len(found) > 1:
        raise typer.Exit(1)


def _print(found: Sequence[Entry], console: Console) -> None:
    if len(found) > 1:
        console.print("The first bad commit is one of these, which cannot be tried but the last:")
    else:
        console.print("[bold]The first bad commit:[/]")
    for entry in found:
        console.print(f"  {entry.hash} {entry.author}: {entry.subject}", markup=False)
