# SPDX-License-Identifier: GPL-2.0-only
"""The conformance suite as commands run it: from their options to the tables."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import typer
from rich.console import Console

from ffashim import report, suite
from ffashim.errors import UsageError


def subject_arguments(
    xen: Sequence[str] | None,
    patches: Sequence[Path] | None,
    baseline: str | None,
    config: Sequence[str] | None,
    cc: str,
    sanitize: Sequence[str] = (),
) -> list[str]:
    """Turn the common options into those of the pytest plugin."""
    arguments = [f"--cc={cc}", *([f"--sanitize={','.join(sanitize)}"] if sanitize else [])]
    if baseline is not None:
        arguments.append(f"--baseline={baseline}")
    for option, values in (("--xen", xen), ("--patch", patches), ("--config", config)):
        arguments += [f"{option}={value}" for value in values or ()]
    return arguments


def require_tests(keyword: str, arguments: Sequence[str]) -> None:
    """Refuse a ``-k`` that selects nothing before anything is built. Raises UsageError.

    arguments: what names the trees, which may be a part of the names of tests.
    """
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        status, _ = suite.run([*arguments, "--collect-only", f"-k={keyword}"])
    suite.require_tests(status, keyword)


def run_suite(arguments: Sequence[str], keyword: str | None = None) -> list[report.Result]:
    """Run the suite with further pytest arguments, print its table, and return what it found.

    keyword: runs only the tests that pytest's ``-k`` has match it.
    Raises UsageError if no test was selected, typer.Exit if pytest came to no result.
    """
    status, results = suite.run([*arguments, *([f"-k={keyword}"] if keyword else [])])
    if status == pytest.ExitCode.INTERRUPTED and not report.failed(results):
        raise typer.Exit(130)
    if status in (pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR):
        raise typer.Exit(2)
    if status == pytest.ExitCode.NO_TESTS_COLLECTED:
        raise UsageError(suite.nothing_selected(keyword))
    report.print_tables(results, Console(soft_wrap=True))
    return results
