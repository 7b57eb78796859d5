# SPDX-License-Identifier: GPL-2.0-only
"""The `ffashim` command, run in the process of the test."""

from __future__ import annotations

from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import NamedTuple

import pytest

from ffashim import cli


class Done(NamedTuple):
    returncode: int | str | None
    stdout: str
    stderr: str


def ffashim(*arguments: str) -> Done:
    """Run the command in this process."""
    with (
        redirect_stdout(StringIO()) as stdout,
        redirect_stderr(StringIO()) as stderr,
        pytest.raises(SystemExit) as end,
    ):
        cli.main(arguments)
    return Done(end.value.code, stdout.getvalue(), stderr.getvalue())
