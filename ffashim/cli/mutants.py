# SPDX-License-Identifier: GPL-2.0-only
"""``ffashim mutants``: how many small mistakes in a tree's handlers the suite notices."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ffashim import paths
from ffashim.cli import options, subject
from ffashim.cli.check import require_writable
from ffashim.cli.matrix import progress_bar
from ffashim.errors import UsageError

if TYPE_CHECKING:
    from ffashim.mutants.operators import Operator
    from ffashim.mutants.source import Mutant

EPILOG = options.epilog(
    "ffashim mutants --sample 200",
    "ffashim mutants --xen ~/src/xen@staging --config FFA_VM_TO_VM=y --json mutants.json",
    "ffashim mutants --xen ~/src/xen --file ffa_shm.c --operator swap --operator bound --list",
    "ffashim mutants --xen ~/src/xen --lines ffa_rxtx.c:40-95,120",
    "ffashim mutants --xen ~/src/xen@staging --again mutants.json   # what survived last time",
)


def mutants(
    xen: options.Xen = None,
    patch: options.Patch = None,
    config: options.Config = None,
    cc: options.Cc = None,
    file: Annotated[
        list[str] | None,
        typer.Option("--file", metavar="NAME", help="Only in this file. Repeatable."),
    ] = None,
    lines: Annotated[
        list[str] | None,
        typer.Option(
            "--lines", metavar="NAME:A-B,C", help="Only in these lines of a file. Repeatable."
        ),
    ] = None,
    operator: Annotated[
        list[str] | None,
        typer.Option("--operator", metavar="NAME", help="Only this kind. Repeatable."),
    ] = None,
    sample: Annotated[
        int, typer.Option(metavar="N", min=0, help="Only so many, drawn at random. 0: all.")
    ] = 0,
    seed: Annotated[int, typer.Option(metavar="S", help="What the sample is drawn with.")] = 1,
    again: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Only those that survived in a report of --json."),
    ] = None,
    keyword: Annotated[
        str | None,
        typer.Option("-k", metavar="EXPR", help="Only by the tests that match, as in pytest."),
    ] = None,
    limit: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=1, help="How long the suite may take on a mutant."),
    ] = 60,
    jobs: Annotated[
        int, typer.Option("-n", metavar="JOBS", min=1, help="At a time. Default: one a core.")
    ] = os.cpu_count() or 1,
    least: Annotated[
        float, typer.Option(metavar="PERCENT", help="Of those that count, to be noticed.")
    ] = 95,
    listing: Annotated[
        bool, typer.Option("--list", help="List the mutants; build and run nothing.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all results as JSON.")
    ] = None,
) -> None:
    """Count the small mistakes in handlers that the suite notices.

    Each mutant is one mistake in a copy of one file of the mediator: a comparison flipped, a check
    dropped, two arguments swapped, an unlock lost. It is built, and the suite is run on it up to
    the first test that fails. Those that survive are listed: each is a test that is missing, or a
    change that nobody can see.

    The tree is mutated in one configuration; unless --config says, with FFA_VM_TO_VM where there
    is one. The exit status is 0 if so many are noticed as --least says, 1 if not, and 2 if the
    tree or an option is at fault.
    """
    require_writable(json_file)
    _require_parser()
    from ffashim import Machine
    from ffashim.mutants.reasons import reasons_on
    from ffashim.mutants.report import Report, read_json
    from ffashim.mutants.run import Fate, Job, run
    from ffashim.mutants.source import find
    from ffashim.mutants.workshop import Workshop, files
    from ffashim.source import store
    from ffashim.variants import title, variants

    if xen and len(xen) > 1:
        raise UsageError("this command works on one tree: give --xen once")
    compiler = options.compiler(cc)
    former = read_json(again) if again else {}
    wanted = _lines(lines)
    (tree,) = subject.find_trees(xen, patch)
    settings = variants(tree, options.settings(config))[-1]
    console = Console(highlight=False, soft_wrap=True)
    found = [
        mutant
        for name, content in _chosen(files(tree), file, wanted).items()
        for mutant in find(name, content, _operators(operator), wanted or None)
        if not again or former.get(mutant.key, {}).get("fate") == "survived"
    ]
    if sample and sample < len(found):
        found = random.Random(seed).sample(found, sample)  # noqa: S311 - no secret
    if listing:
        for mutant in found:
            print(_line(mutant))
        print(f"{len(found)} mutants")
        return
    if not found and again:
        raise UsageError(
            f"no mutant that is selected has survived in {again}: there is none to try"
        )
    if not found:
        raise UsageError("no mutant was selected: see --list, --file, --lines and --operator")
    with store.scratch(paths.cache_dir() / "mutants") as directory:
        with subject.working(f"Building {tree.origin}"):
            workshop = Workshop(tree, settings, directory, cc=compiler)
        console.print(f"{len(found)} mutants of {title(tree, settings)}", markup=False)
        arguments = [f"--xen={tree.spec}", f"--cc={compiler}"]
        arguments += [f"--patch={each}" for each in patch or ()]
        arguments += [f"--config={name}={value}" for name, value in settings.items()]
        arguments += [f"-k={keyword}"] if keyword else []
        job = Job(tree, settings, arguments, suites(), compiler, limit)
        killers = {key: each["test"] for key, each in former.items() if each["test"]}
        report = Report(reasons_on(Machine(workshop.extension)))
        interrupted = False
        with progress_bar() as progress:
            task = progress.add_task("Looking", total=len(found))
            with closing(run(job, workshop, found, jobs, killers)) as results:
                try:
                    for result in results:
                        report.results.append(result)
                        progress.advance(task)
                        if result.fate is Fate.SURVIVED:
                            report.print_survivor(result, console)
                except KeyboardInterrupt:  # what is known by now is worth having
                    interrupted = True
    report.print_tables(console)
    if json_file:
        text = json.dumps(report.as_json(workshop.extension.record), indent=1, default=list)
        json_file.write_text(f"{text}\n", encoding="utf-8")
    if interrupted:
        raise typer.Exit(130)
    if report.score < least:
        raise typer.Exit(1)


def suites() -> list[Path]:
    """Return where the tests lie that a mutant is to be noticed by, as far as they are there."""
    return [path for path in (*paths.SUITE, paths.TESTS / "model") if path.is_dir()]


def _require_parser() -> None:
    try:
        import tree_sitter_c  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "the parser that finds places for mistakes is not installed: "
            "pip install 'ffashim[mutants]'"
        ) from error


def _operators(names: Sequence[str] | None) -> list[Operator]:
    from ffashim.mutants.operators import OPERATORS

    known = [operator.name for operator in OPERATORS]
    for name in names or ():
        if name not in known:
            raise UsageError(f"--operator {name}: name one of {', '.join(known)}")
    return [operator for operator in OPERATORS if not names or operator.name in names]


def _chosen(
    files: dict[str, bytes], names: Sequence[str] | None, lines: dict[str, set[int]]
) -> dict[str, bytes]:
    for name in [*(names or ()), *lines]:
        if name not in files:
            raise UsageError(f"{name} is no file of this tree's mediator: {', '.join(files)}")
    wanted = {*(names or ()), *lines}
    return {name: text for name, text in files.items() if not wanted or name in wanted}


def _lines(given: Sequence[str] | None) -> dict[str, set[int]]:
    result: dict[str, set[int]] = {}
    for item in given or ():
        name, _, ranges = item.rpartition(":")
        if not name or not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", ranges):
            raise UsageError(f"--lines {item}: not NAME:A-B,C; write for instance ffa_shm.c:10-20")
        for each in ranges.split(","):
            first, _, last = each.partition("-")
            if last and int(last) < int(first):
                raise UsageError(f"--lines {item}: {each} ends before it begins")
            result.setdefault(name, set()).update(range(int(first), int(last or first) + 1))
    return result


def _line(mutant: Mutant) -> str:
    return (
        f"{mutant.file}:{mutant.line} {mutant.function}: {mutant.operator}: {mutant.before} -> "
        f"{mutant.after}"
    )
