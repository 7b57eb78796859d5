# SPDX-License-Identifier: GPL-2.0-only
"""``ffashim defects``: since which commit the mediator has each known defect, and until which."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from ffashim import paths
from ffashim.cli import options
from ffashim.cli.matrix import Commit, commits, progress_bar
from ffashim.errors import UsageError
from ffashim.processes import last_words, run_parallel

EPILOG = options.epilog(
    "ffashim defects ~/src/xen",
    "ffashim defects ~/src/xen --rev stable-4.22 -k rxtx --jobs 8",
)

_SECONDS = 900.0  # two builds and a few hundred probes; this ends one that hangs

Answers = Mapping[str, Mapping[str, Any]]
"""By FFA_VM_TO_VM, then by finding: True, False, None where it does not apply, or an error."""


def defects(
    gitdir: Annotated[
        Path, typer.Argument(metavar="GITDIR", help="A git repository of Xen, bare or not.")
    ],
    rev: Annotated[
        str, typer.Option(metavar="REV", help="The branch, tag or commit to start from.")
    ] = "HEAD",
    keyword: Annotated[
        str, typer.Option("-k", metavar="EXPR", help="Only the tests that match, as in pytest.")
    ] = "",
    cc: options.Cc = None,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, help="Commits at a time. Default: one a core.")
    ] = os.cpu_count() or 1,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write what each commit has as JSON."),
    ] = None,
) -> None:
    """Tell since which commit each known defect is there.

    Each commit that touched the mediator is built, without VM to VM messaging and, where it has
    it, with, and the probes of the suite's known defects are asked of it. The exit status is 0 only
    if all of them could be.
    """
    gitdir = gitdir.expanduser()
    history = commits(gitdir, rev)
    worker = (sys.executable, "-m", "ffashim.cli.defects_worker")
    compiler = options.compiler(cc)
    commands = [
        [*worker, f"{gitdir.resolve()}@{commit.hash}", compiler, keyword, *map(str, paths.SUITE)]
        for commit in history
    ]
    tests: dict[str, list[str]] = {}
    answers: dict[int, Answers] = {}
    failed: list[str] = []
    with progress_bar() as progress, closing(run_parallel(commands, jobs, _SECONDS)) as finished:
        task = progress.add_task("Building and asking", total=len(history))
        for index, (status, output, errors) in finished:
            progress.advance(task)
            try:
                found = json.loads(output)
                if status:
                    raise ValueError
                tests.update(found["tests"])
                answers[index] = found["answers"]
            except ValueError:
                why = last_words(errors)
                failed.append(f"{history[index].hash[:12]} could not be asked: {why}")
    if answers and not tests:
        raise UsageError(f"no known defect was selected: see -k {keyword}")

    console = Console(highlight=False, soft_wrap=True)
    for finding, names in sorted(tests.items(), key=lambda each: each[1]):
        console.print(f"[bold]{escape(finding)}[/]")
        console.print(f"  {' '.join(names)}", style="dim", markup=False)
        for line in spans(history, answers, finding):
            console.print(f"  {escape(line)}")
    for line in failed:
        console.print(f"[red]{escape(line)}[/]")
    if json_file:
        records = [
            {**vars(commit), "answers": answers.get(index)} for index, commit in enumerate(history)
        ]
        json_file.write_text(json.dumps({"tests": tests, "commits": records}, indent=1) + "\n")
    print(f"{len(tests)} known defects, {len(answers)}/{len(history)} commits")
    if failed:
        raise typer.Exit(1)


def spans(history: Sequence[Commit], answers: Mapping[int, Answers], finding: str) -> list[str]:
    """Return one line for each unbroken run of commits that have a defect, and each error met."""
    lines: list[str] = []
    since: Commit | None = None
    with_it: set[str] = set()
    for index, commit in enumerate(history):
        if index not in answers:
            continue  # nothing is known of it: it ends nothing, and begins nothing
        here = {variant: found.get(finding) for variant, found in answers[index].items()}
        there = {variant for variant, answer in here.items() if answer is True}
        errors = [answer for answer in here.values() if isinstance(answer, str)]
        if errors and not there:
            lines.append(f"not known at {commit.hash[:12]}: {errors[0]}")
            continue
        if there and since is None:
            since, with_it = commit, set()
        elif not there and since is not None:
            lines.append(f"since {_name(since)}{_only(with_it)}\n  until {_name(commit)}")
            since = None
        with_it |= there
    if since is not None:
        lines.append(f"since {_name(since)}{_only(with_it)}")
    return lines or ["in no commit"]


def _name(commit: Commit) -> str:
    return f"{commit.hash[:12]} {commit.date} {commit.subject}"


def _only(variants: set[str]) -> str:
    return f" (only with FFA_VM_TO_VM={variants.copy().pop()})" if variants == {"y"} else ""
