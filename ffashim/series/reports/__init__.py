# SPDX-License-Identifier: GPL-2.0-only
"""A verdict as files: HTML for people, text for a mail, JSON, JUnit and SARIF for programs."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from ffashim.errors import UsageError
from ffashim.series.findings import Verdict
from ffashim.series.reports import record, sarif, text

_PACKAGES = {"html": ("jinja2", "pygments"), "junit": ("junitparser",)}
"""What a kind of report takes beyond what ffashim itself does."""


def require(files: Mapping[str, Path | None]) -> None:
    """Find out before the work is done whether reports can be made. Raises UsageError."""
    for kind, packages in _PACKAGES.items():
        missing = [name for name in packages if importlib.util.find_spec(name) is None]
        if files.get(kind) and missing:
            raise UsageError(
                f"--{kind} takes the package {' and '.join(missing)}: pip install 'ffashim[series]'"
            )


def write(verdict: Verdict, files: Mapping[str, Path | None]) -> None:
    """Write the reports that files are named for; - is the standard output."""
    for kind, file in files.items():
        if file is None:
            continue
        made = _MAKERS[kind](verdict)
        if file == Path("-"):
            sys.stdout.write(made)
        else:
            file.write_text(made, encoding="utf-8")


def _html(verdict: Verdict) -> str:
    from ffashim.series.reports import html

    return html.page(verdict)


def _junit(verdict: Verdict) -> str:
    from ffashim.series.reports import junit

    return junit.document(verdict)


def _json(verdict: Verdict) -> str:
    return json.dumps(record.of(verdict), indent=1) + "\n"


def _sarif(verdict: Verdict) -> str:
    return json.dumps(sarif.log(verdict), indent=1) + "\n"


_MAKERS: Mapping[str, Callable[[Verdict], str]] = {
    "html": _html,
    "text": text.mail,
    "json": _json,
    "junit": _junit,
    "sarif": _sarif,
}
