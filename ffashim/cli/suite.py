# SPDX-License-Identifier: GPL-2.0-only
"""Running the conformance suite under pytest, in this process."""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import typer
from rich.console import Console

from ffashim import paths, report
from ffashim.errors import UsageError
from ffashim.failures import FaultGroups


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


def run_suite(arguments: Sequence[str]) -> list[report.Result]:
    """Run the suite with further pytest arguments, print its table, and return what it found.

    Raises UsageError if no test was selected, typer.Exit if pytest came to no result.
    """
    root = os.path.commonpath(paths.SUITE)
    recorder = report.Recorder(Path(root))
    # Hypothesis would leave a directory of its own wherever this is run.
    os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(paths.cache_dir() / "hypothesis"))
    # A run of seconds that somebody waits for: nothing in it is worth collecting, nor at exit.
    gc.disable()
    atexit.register(gc.freeze)
    status = pytest.main(
        [
            # Neither a configuration nor a cache that happens to lie around the suite.
            f"--config-file={os.devnull}",
            f"--rootdir={root}",
            "--noconftest",
            # Nor whatever plugins are installed, but ours and those that the suite is written for.
            "--disable-plugin-autoload",
            "-pffashim",
            "-phypothesispytest",
            "-pxdist",
            "-pno:cacheprovider",
            "-pno:unraisableexception",
            "-pno:threadexception",
            "-pno:faulthandler",
            "-pffashim.report",
            "-Wignore::pytest.PytestAssertRewriteWarning",  # that it was imported before
            "--import-mode=importlib",
            "--strict-markers",
            "--continue-on-collection-errors",
            "-oxfail_strict=true",
            "--no-header",
            "-rN",
            "--quiet",
            *arguments,
            *map(str, paths.SUITE),
        ],
        plugins=[recorder, FaultGroups()],
    )
    if status == pytest.ExitCode.INTERRUPTED and not report.failed(recorder.results):
        raise typer.Exit(130)
    if status in (pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR):
        raise typer.Exit(2)
    if status == pytest.ExitCode.NO_TESTS_COLLECTED:
        raise UsageError("no test of the suite was selected: see -k")
    report.print_tables(recorder.results, Console(soft_wrap=True))
    return recorder.results
