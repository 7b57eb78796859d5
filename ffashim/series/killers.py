# SPDX-License-Identifier: GPL-2.0-only
"""Which test noticed which mutant the last time: it is tried first the next time.

Nothing but the time that it takes depends on it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ffashim import paths
from ffashim.series import tasks


def known() -> dict[str, str]:
    """Return the names of tests by the keys of mutants, of whatever series was looked at."""
    try:
        found: dict[str, str] = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def remember(mutants: Iterable[Mapping[str, Any]]) -> None:
    """Take up what became of mutants, as `ffashim.mutants.report` tells it."""
    tasks.keep(_file(), known() | {each["key"]: each["test"] for each in mutants if each["test"]})


def _file() -> Path:
    return paths.cache_dir() / tasks.RESULTS / "killers" / "result.json"
