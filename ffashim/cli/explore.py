# SPDX-License-Identifier: GPL-2.0-only
"""``ffashim explore``: random conversations with a tree's handlers, beside a model of FF-A."""

from __future__ import annotations

import json
import os
import sys
from contextlib import closing
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ffashim import paths, sanitizers
from ffashim.cli import options, subject
from ffashim.errors import UsageError
from ffashim.processes import last_words, run_parallel

EPILOG = options.epilog(
    "ffashim explore --xen ~/src/xen",
    "ffashim explore --xen ~/src/xen --patch my-series.mbox --effort ci",
    "ffashim explore --xen ~/src/xen@staging --effort night --output ~/found",
    "ffashim explore --xen ~/src/xen --effort ci --seconds 60 --seed 7",
)
_GRACE = 900.0
"""Seconds beyond the time that is asked for: the last round, and shrinking what it has found."""


class Name(str, Enum):
    """How much is explored."""

    QUICK = "quick"
    CI = "ci"
    NIGHT = "night"


def explore(
    xen: options.Xen = None,
    patch: options.Patch = None,
    baseline: options.Baseline = None,
    config: options.Config = None,
    cc: options.Cc = None,
    sanitize: options.Sanitize = None,
    effort: Annotated[
        Name,
        typer.Option(
            help="quick: the same little each time. ci: ten minutes of what was never tried. night:"
            " eight hours, from where the last night has stopped, and on after something is found.",
        ),
    ] = Name.CI,
    seconds: Annotated[
        float | None, typer.Option(metavar="N", min=1, help="How long all of it shall take.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="S", min=0, help="Begin with this seed: repeats a run.")
    ] = None,
    jobs: Annotated[
        int, typer.Option("-n", metavar="JOBS", min=1, help="At a time. Default: one a core.")
    ] = os.cpu_count() or 1,
    database: Annotated[
        str | None,
        typer.Option(
            metavar="WHERE",
            help="A directory or redis:// address that keeps what was found, and that several "
            "machines may share. Default: in ffashim's cache.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where each finding is put as a test, as soon as it is found. Default: in "
            "ffashim's cache.",
        ),
    ] = None,
) -> None:
    """Talk to the handlers at random, beside a model of FF-A.

    Guests come, talk, share memory and go, and the secure world answers well and badly, until the
    handlers do what the model does not allow. That is then made as short as can be, and printed as
    a test. Known defects of the tree are told by probing it, and are not findings, unless it is
    compared with one that does not have them.

    The exit status is 0 if nothing was found, 1 if something was, and 2 if the tree or an option is
    at fault.
    """
    from ffashim.model.explore import EFFORTS, open_database
    from ffashim.variants import title, variants

    if database:
        open_database(database)
    where = _directory(output)
    compiler = options.compiler(cc)
    chosen = options.settings(config)
    checks = sanitizers.parse(sanitize)
    subjects = [
        (title(tree, variant), subject.build(tree, variant, compiler, sanitize=checks),
         subject.baseline_of(tree, baseline, variant, compiler, checks))
        for tree in subject.find_trees(xen, patch)
        for variant in variants(tree, chosen)
    ]  # fmt: skip
    wanted = EFFORTS[effort.value]
    tasks, names = [], []
    items = [(each, shard) for each in subjects for shard in range(max(1, jobs))]
    whole = seconds if seconds is not None else wanted.seconds
    share = whole and whole * min(jobs, len(items)) / len(items)
    for (name, extension, before), shard in items:
        task = {
            "path": str(extension.path),
            "record": dict(extension.record),
            "baseline": before and [str(before.path), dict(before.record)],
            "effort": {**asdict(wanted), "seconds": share},
            "seed": seed,
            "part": (shard, max(1, jobs)),
            "database": database,
            "output": str(where),
        }
        tasks.append(json.dumps(task))
        names.append(name)
    results = _run(tasks, jobs, (share or 0) + _GRACE)
    console = Console(highlight=False, soft_wrap=True)
    found = _tell(console, names, results, where)
    if found:
        raise typer.Exit(1)


def _directory(output: Path | None) -> Path:
    where = (output or paths.cache_dir() / "explore" / "found").expanduser().resolve()
    try:
        where.mkdir(parents=True, exist_ok=True)
        (where / ".writable").touch()
        (where / ".writable").unlink()
    except OSError as error:
        raise UsageError(f"--output {where}: cannot be written to: {error.strerror}") from error
    return where


def _run(tasks: list[str], jobs: int, seconds: float) -> list[dict[str, Any]]:
    """Run a worker for each task; return what each has told, in their order."""
    told: dict[int, dict[str, Any]] = {}
    commands = [[sys.executable, "-m", "ffashim.cli.explore_worker"]] * len(tasks)
    running = run_parallel(commands, jobs, seconds, tasks)
    with subject.working("Exploring"), closing(running) as finished:
        for index, (status, output, errors) in finished:
            try:
                told[index] = json.loads(output)
            except ValueError:
                told[index] = {"failed": f"status {status}: {last_words(errors)}"}
    return [told[index] for index in range(len(tasks))]


def _tell(console: Console, names: list[str], results: list[dict[str, Any]], where: Path) -> bool:
    """Print a line for each worker, known defects, and what was found. True if anything was."""
    for name, each in zip(names, results, strict=True):
        if "failed" in each:
            print(f"error: exploring {name} came to no end: {each['failed']}", file=sys.stderr)
            continue
        seconds = each["seconds"]
        console.print(
            f"{name}: {each['conversations']:,} conversations, {each['calls']:,} calls, "
            f"{each['calls'] / seconds if seconds else 0:,.0f} a second, "
            f"{each['rounds']} rounds from seed {each['seed']}: {len(each['found'])} found",
            markup=False,
        )
    known = sorted({finding for each in results for finding in each.get("known", ())})
    if known:
        console.print("Known defects that have shown:")
        for finding in known:
            console.print(f"  {finding}", markup=False)
    for name, each in zip(names, results, strict=True):
        for text in each.get("found", ()):
            console.print(f"\n[bold red]{name}[/]")
            console.print(text, markup=False)
    if any(each.get("found") for each in results):
        console.print(f"\nEach is a test in {where}")
    return any(each.get("found") or "failed" in each for each in results)
