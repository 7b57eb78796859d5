# SPDX-License-Identifier: GPL-2.0-only
"""Running the conformance suite under pytest, in this process."""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from ffashim import paths, report
from ffashim.errors import UsageError
from ffashim.failures import FaultGroups


def require_tests(status: int | None, keyword: str, of: str = "the suite") -> None:
    """Refuse a ``-k`` by which pytest, asked to collect tests, has found none. Raises UsageError.

    status: pytest's.
    """
    if status == pytest.ExitCode.USAGE_ERROR:
        raise UsageError(f"-k {keyword}: this is no expression of pytest's.\n{_EXPRESSION}")
    if status == pytest.ExitCode.NO_TESTS_COLLECTED:
        raise UsageError(nothing_selected(keyword, of))


_EXPRESSION = "It takes parts of the names of tests and of their files, with `and`, `or` and `not`."


def nothing_selected(keyword: str | None, of: str = "the suite") -> str:
    """What to tell somebody whose ``-k`` fits no test, or whose file has none."""
    if keyword is None:
        return f"there is no test in {of}"
    return f"-k {keyword}: no test of {of} is selected.\n{_EXPRESSION}"


def run(
    arguments: Sequence[str],
    plugins: Sequence[object] = (),
    files: Sequence[str] | None = None,
) -> tuple[int, list[report.Result]]:
    """Run the suite, or other files of tests, with further pytest arguments and plugins.

    Return pytest's exit status, and what was found.
    """
    root = os.path.commonpath([Path(each).parent for each in files or paths.SUITE])
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
            *map(str, files or paths.SUITE),
        ],
        plugins=[recorder, FaultGroups(), *plugins],
    )
    return int(status), recorder.results
