# SPDX-License-Identifier: GPL-2.0-only
"""``ffashim check``: the conformance suite on a tree."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ffashim import sanitizers
from ffashim.cli import options, subject
from ffashim.errors import UsageError

if TYPE_CHECKING:
    from ffashim import lint

EPILOG = options.epilog(
    "ffashim check --xen ~/src/xen",
    "ffashim check --xen ~/src/xen@stable-4.20 --xen ~/src/xen@staging -n auto",
    "ffashim check --xen ~/src/xen --patch 0001-fix.patch -k 'partition_info and not regs'",
    "ffashim check --xen ~/src/xen@my-branch --baseline ~/src/xen@master",
    "ffashim check --junit junit.xml --json report.json",
    "ffashim check --patch 0001-fix.patch --coverage",
    "ffashim check --patch 0001-fix.patch --sanitize address,undefined --warnings",
)


def check(
    xen: options.Xen = None,
    patch: options.Patch = None,
    baseline: options.Baseline = None,
    config: options.Config = None,
    cc: options.Cc = None,
    sanitize: options.Sanitize = None,
    keyword: options.Keyword = None,
    workers: Annotated[
        str | None,
        typer.Option("-n", metavar="N", help="In N processes, or auto: one a core."),
    ] = None,
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a JUnit XML report.")
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write the table and every result as JSON."),
    ] = None,
    coverage: Annotated[
        bool,
        typer.Option(
            "--coverage",
            help="Count which lines and branches the tests reach, with gcc: of each file, and of "
            "the lines that a patch changes or in which the tree differs from the baseline.",
        ),
    ] = False,
    coverage_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The same; HTML, lcov and Cobertura go there and not into the cache directory.",
        ),
    ] = None,
    warnings: Annotated[
        bool,
        typer.Option(
            "--warnings",
            help="Ask gcc and clang for more warnings than Xen's build does: of all of ffa*.c, or "
            "of the lines that a patch changes or in which the tree differs from the baseline.",
        ),
    ] = False,
) -> None:
    """Run the conformance suite on a Xen tree: by ABI and client.

    The exit status is 0 if every test passed, is a known defect of that tree, and of its baseline
    if there is one, or does not apply to it; 1 if a test failed, or with --warnings if there is one
    on a changed line; 2 if the tree, a patch or an option is at fault. Without a patch or a
    baseline warnings are listed, and are no failure.
    """
    from ffashim import report
    from ffashim.cli.suite import require_tests, run_suite, subject_arguments

    for file in (junit, json_file):
        require_writable(file)
    cc = options.compiler(cc)
    checks = sanitizers.parse(sanitize)
    coverage = coverage or coverage_dir is not None
    if coverage:
        from ffashim.coverage import gcov

        gcov.tool(cc)
    arguments = subject_arguments(xen, patch, baseline, config, cc, checks)
    if keyword is not None:
        subject.find_trees(xen, patch)  # what is wrong with one is said first
        require_tests(keyword, arguments)
    extensions = subject.prepare(
        xen, patch, baseline, options.settings(config), cc, coverage=coverage, sanitize=checks
    )
    said = tell_warnings(xen, patch, baseline, options.settings(config)) if warnings else []
    results = run_suite(
        [
            *arguments,
            *_pytest_options(workers, junit),
            *(["--coverage"] if coverage else []),
            *([f"--coverage-dir={coverage_dir}"] if coverage_dir else []),
        ],
        keyword,
    )
    if json_file:
        records = {name: extension.record for name, extension in extensions.items()}
        table = report.as_json(results, records)
        if warnings:
            table["warnings"] = [asdict(each) for each in said]
        json_file.write_text(json.dumps(table, indent=2) + "\n")
    new = len(said) if patch or baseline else 0
    if new:
        print(f"failed: {new} warning{'' if new == 1 else 's'} on changed lines, told first")
    if report.failed(results) or new:
        raise typer.Exit(1)


def tell_warnings(
    xen: Sequence[str] | None,
    patches: Sequence[Path] | None,
    baseline: str | None,
    settings: Mapping[str, str],
) -> list[lint.Remark]:
    """Print and return what compilers say of each tree, or of what has changed in it."""
    from ffashim import lint
    from ffashim.source import resolve
    from ffashim.variants import variants

    by = " and ".join(lint.compilers())
    said: list[lint.Remark] = []
    for tree in subject.find_trees(xen, patches):
        spec = baseline or (tree.spec if patches else None)
        with subject.working(f"Asking {by} about {tree.origin}"):
            found = lint.warnings(tree, variants(tree, settings), resolve(spec) if spec else None)
        on = "on changed lines" if spec else "in ffa*.c and ffa*.h"
        count = f"{len(found) or 'no'} warning{'' if len(found) == 1 else 's'}"
        print(f"{tree.describe().partition(chr(10))[0]}: {count} of {by} {on}")
        for each in found:
            print(f"  {each}")
        said += found
    return said


def _pytest_options(workers: str | None, junit: Path | None) -> Sequence[str]:
    result: list[str] = []
    if workers is not None:
        if workers != "auto" and not workers.isdecimal():
            raise UsageError(f"-n {workers}: neither a number of processes nor auto")
        result.append(f"-n={workers}")
    if junit:
        result.append(f"--junitxml={junit}")
    return result


def require_writable(file: Path | None) -> None:
    """Find out now, not when the suite has run, that a report cannot be written."""
    if file is None:
        return
    try:
        with file.open("a"):
            pass
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}") from error
