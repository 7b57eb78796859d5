# SPDX-License-Identifier: GPL-2.0-only
"""``ffashim series``: is each commit of a series sound, what does it change, is it tested."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ffashim.cli import options, subject
from ffashim.cli.check import require_writable
from ffashim.errors import UsageError

EPILOG = options.epilog(
    "ffashim series ~/src/xen@master..my-branch",
    "ffashim series ~/src/xen@HEAD~4.. --html series.html",
    "ffashim series outgoing/ --xen ~/src/xen",
    "ffashim series v2_my_series.mbx --xen ~/src/xen --base staging --effort full",
    "ffashim series outgoing/ --text - | mail -s 'checked' me",
)


class Name(str, Enum):
    """How much is done."""

    QUICK = "quick"
    FULL = "full"


def series(
    what: Annotated[
        str,
        typer.Argument(
            metavar="SERIES",
            help="DIR@A..B of a git repository, a directory of git format-patch output, or a file: "
            "a diff, a mail, or an mbox as saved from the archive or by b4 am.",
        ),
    ],
    xen: Annotated[
        str | None,
        typer.Option(
            "--xen",
            metavar="TREE",
            help="What patches are for: a git repository, in which their base is looked for, or a "
            "tree as everywhere else, which is their base.",
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="REV",
            help="The commit of --xen that patches are for. Default: their base-commit, else the "
            "newest commit with the files that they start from, else one to which they apply.",
        ),
    ] = None,
    config: options.Config = None,
    cc: options.Cc = None,
    sanitize: options.Sanitize = None,
    keyword: options.Keyword = None,
    effort: Annotated[
        Name,
        typer.Option(
            help="quick: minutes; few random examples, some mutants. full: all that there is."
        ),
    ] = Name.QUICK,
    jobs: Annotated[
        int, typer.Option("-n", metavar="JOBS", min=1, help="At a time. Default: one a core.")
    ] = os.cpu_count() or 1,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a report as one HTML file.")
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a summary that fits into a mail; - is here."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all that was found.")
    ] = None,
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a JUnit XML report.")
    ] = None,
    sarif: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write SARIF, for code hosts.")
    ] = None,
) -> None:
    """Judge a patch series, commit by commit.

    Each commit is built by gcc and clang in each configuration and tested, against the commit
    before it. Guests talk to both, and what they or the SPMC see differently is listed. Of the
    lines that the series adds, those are listed that no test reaches, and mistakes in them that no
    test notices. Nothing is written to the repository; what was found is remembered, so that a run
    that was interrupted goes on, and only what changed is done again.

    The exit status is 0 if every commit is sound: it builds, without new warnings; no test newly
    fails or no longer applies; no known defect comes in; and guests see no change that the commit
    message denies. It is 1 if one is not, even if a later commit mends it, and 2 if the series, the
    tree or an option is at fault.
    """
    files = {"html": html, "text": text, "json": json_file, "junit": junit, "sarif": sarif}
    for file in files.values():
        require_writable(None if file == Path("-") else file)
    from ffashim import kconfig, sanitizers
    from ffashim.series import commits, output, plan, reports, verdict

    reports.require(files)
    compiler = options.compiler(cc)
    settings = options.settings(config)
    with subject.working("Reading the series") as progress:
        found = commits.load(what, xen, base, progress)
    for name in settings:
        if not any(kconfig.has_symbol(tree.xen, name) for tree in found.trees):
            raise UsageError(f"--config {name}: neither the base nor a commit has such a symbol")
    wanted = plan.EFFORTS[effort.value]
    named = sanitizers.parse(sanitize)
    asked = plan.compilers(compiler)
    work = plan.Plan(found, settings, compiler, asked, wanted, keyword, named)
    with output.Watch(found, Console(stderr=True)) as watch:
        results = work.run(jobs, watch.done, watch.expect)
    judged = verdict.judge(work, results)
    if text != Path("-"):
        output.print_verdict(judged, Console(highlight=False, soft_wrap=False))
    reports.write(judged, files)
    if not judged.sound:
        raise typer.Exit(1)
