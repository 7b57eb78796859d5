# SPDX-License-Identifier: GPL-2.0-only
"""``ffashim matrix``: every commit that ever touched the mediator, built and booted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ffashim.cli import options
from ffashim.errors import SourceError, UsageError
from ffashim.processes import last_words, run_parallel

EPILOG = options.epilog(
    "ffashim matrix ~/src/xen",
    "ffashim matrix ~/src/xen --rev staging --cc clang --jobs 8",
)

VARIANTS = ("VM to VM off", "VM to VM on")
_MEDIATOR = "xen/arch/arm/tee/ffa*"
_SECONDS = 600.0  # a build takes a few; this ends one that hangs


@dataclass(frozen=True)
class Commit:
    """A commit, as the table shows it."""

    hash: str
    date: str
    subject: str


def matrix(
    gitdir: Annotated[
        Path, typer.Argument(metavar="GITDIR", help="A git repository of Xen, bare or not.")
    ],
    rev: Annotated[
        str, typer.Option(metavar="REV", help="The branch, tag or commit to start from.")
    ] = "HEAD",
    cc: options.Cc = None,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, help="Commits at a time. Default: one a core.")
    ] = os.cpu_count() or 1,
) -> None:
    """Build and boot each commit that touched the mediator.

    Each is built and booted without VM to VM messaging and, where it has it, with. The exit status
    is 0 only if all of them build and boot.
    """
    gitdir = gitdir.expanduser()
    history = commits(gitdir, rev)
    worker = (sys.executable, "-m", "ffashim.cli.matrix_worker")
    compiler = options.compiler(cc)
    commands = [[*worker, f"{gitdir.resolve()}@{commit.hash}", compiler] for commit in history]
    verdicts: dict[int, dict[str, str | None]] = {}
    with progress_bar() as progress, closing(run_parallel(commands, jobs, _SECONDS)) as finished:
        task = progress.add_task("Building and booting", total=len(history))
        for index, result in finished:
            verdicts[index] = _verdict(*result)
            progress.advance(task)

    console = Console(highlight=False)
    console.print(_table(history, verdicts))
    for index, commit in enumerate(history):
        for variant, verdict in verdicts[index].items():
            if verdict:
                line = f"[red]{commit.hash[:12]}, {variant}:[/] {escape(verdict)}"
                console.print(line, soft_wrap=True)
    good = sum(not any(verdict.values()) for verdict in verdicts.values())
    print(f"{good}/{len(history)} commits build and boot")
    if good != len(history):
        raise typer.Exit(1)


def commits(gitdir: Path, rev: str) -> list[Commit]:
    """Return the commits up to ``rev`` that touched the mediator, oldest first."""
    if not gitdir.is_dir():
        raise SourceError(f"there is no directory {gitdir}: name a git repository of Xen")
    if rev.startswith("-"):
        raise UsageError(f"--rev {rev}: no branch, tag or commit has such a name")
    git = ["git", f"--git-dir={_git_dir(gitdir)}", "log", "--reverse", "--date=short"]
    try:
        log = subprocess.run(
            [*git, "--format=%H%x00%cd%x00%s", rev, "--", _MEDIATOR],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except FileNotFoundError as error:
        raise SourceError("git was not found: install it (Debian: apt install git)") from error
    if log.returncode:
        reason = log.stderr.strip().removeprefix("fatal: ")
        raise SourceError(f"{gitdir} at {rev} cannot be read: {reason}")
    if not log.stdout:
        raise SourceError(
            f"no commit of {gitdir} up to {rev} touches {_MEDIATOR}: is it a repository of Xen?"
        )
    return [Commit(*line.split("\0", 2)) for line in log.stdout.splitlines()]


def _git_dir(directory: Path) -> Path:
    """Name the repository itself, so that git does not go looking for one further up."""
    return directory / ".git" if (directory / ".git").exists() else directory


def _verdict(status: int, output: str, errors: str) -> dict[str, str | None]:
    """Return what is wrong with each variant, "" if nothing, None if the tree does not have it."""
    try:
        found = json.loads(output)
        return {variant: found[variant] for variant in VARIANTS}
    except (ValueError, KeyError, TypeError):
        end = f"signal {-status}" if status < 0 else f"status {status}"
        return dict.fromkeys(VARIANTS, f"the process ended with {end}: {last_words(errors)}")


def progress_bar() -> Progress:
    """Return a bar for a terminal: how many are done, how long the rest will take."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)


def _table(history: list[Commit], verdicts: dict[int, dict[str, str | None]]) -> Table:
    table = Table("commit", "date", box=SIMPLE_HEAD, expand=True)
    table.add_column("subject", no_wrap=True, overflow="ellipsis", ratio=1)
    for variant in VARIANTS:
        table.add_column(variant)
    marks = {None: "[dim]not there[/]", "": "[green]boots[/]"}
    for index, commit in enumerate(history):
        cells = (marks.get(verdict, "[red]fails[/]") for verdict in verdicts[index].values())
        table.add_row(commit.hash[:12], commit.date, escape(commit.subject), *cells)
    return table
