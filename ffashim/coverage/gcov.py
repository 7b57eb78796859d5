# SPDX-License-Identifier: GPL-2.0-only
"""From counters to lines and branches: by gcov, which comes with gcc, and gcovr, which reads it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ffashim.errors import CoverageError

Document = dict[str, Any]
"""gcovr's JSON: under ``files``, what each holds of lines and branches."""

_NO_BRANCHES = r".*\b(ASSERT|BUG_ON|WARN_ON|BUILD_BUG_ON)\w*\s*\(.*"
"""Lines whose branches do not count: see the package's docstring."""
_NO_LINES = r".*\bASSERT_UNREACHABLE\s*\(.*"


def tool(cc: str) -> str:
    """Return the command of the gcov that understands what a compiler writes.

    Raises CoverageError, which says what to install, if that or gcovr is missing.
    """
    if importlib.util.find_spec("gcovr") is None:
        raise CoverageError(
            "coverage is reported by the package gcovr, which is not installed:\n"
            f"    {shlex.quote(sys.executable)} -m pip install 'gcovr>=8'"
        )
    major = _gcc_version(cc)
    program = shlex.split(cc)[-1]
    names = [re.sub(r"(gcc|cc)(?=[^/]*$)", "gcov", program), f"gcov-{major}", "gcov"]
    for name in dict.fromkeys(names):
        if shutil.which(name) and _gcov_version(name) == major:
            return name
    raise CoverageError(
        f"there is no gcov that reads what gcc {major} counts, under none of the names "
        f"{', '.join(dict.fromkeys(names))}.\nIt comes with gcc (Debian, Ubuntu: apt install "
        f"gcc-{major}): install it, or name another compiler with --cc."
    )


def _gcc_version(cc: str) -> str:
    try:
        done = subprocess.run(
            [*shlex.split(cc), "-E", "-dM", "-x", "c", os.devnull], capture_output=True, check=False
        )
    except (OSError, ValueError) as error:
        raise CoverageError(f"the C compiler {cc!r} cannot be run: {error}") from error
    macros = done.stdout.decode(errors="replace")
    found = re.search(r"^#define __GNUC__ (\d+)$", macros, re.M)
    if found is None or "#define __clang__ " in macros:
        raise CoverageError(
            f"{cc} is not gcc, which --coverage needs: other compilers do not count where a call "
            "is left by a fault. Install gcc, or name it: --cc gcc"
        )
    return found[1]


def _gcov_version(name: str) -> str:
    done = subprocess.run([name, "--version"], capture_output=True, check=False)
    found = re.match(r"gcov .*?(\d+)\.\d+(\.\d+)?[^)]*$", done.stdout.decode().partition("\n")[0])
    return found[1] if found else ""


def read(data: Path, notes: Path, root: Path, files: Sequence[str], gcov: str) -> Document:
    """Return lines and branches of some of a tree's files, as one build has counted them.

    data: the directory of the counters. notes: that of what the compiler has noted.
    files: names in the tree; those of directories end in a slash.

    Raises CoverageError if the tools do not manage.
    """
    for path in notes.iterdir():
        shutil.copy(path, data)
    run(
        *(f"--filter={re.escape(os.path.join(root.resolve(), name))}" for name in files),
        *("--gcov-executable", gcov, "--json", "gcovr.json"),
        # Where gcov leaves its files: not in the tree, where another process may have its own.
        *("--gcov-object-directory", str(data.resolve())),
        *("--exclude-branches-by-pattern", _NO_BRANCHES),
        *("--exclude-lines-by-pattern", _NO_LINES),
        ".",
        root=root,
        cwd=data,
    )
    return load(data / "gcovr.json")


def load(path: Path) -> Document:
    """Return what gcovr has written to a file of JSON."""
    try:
        found: Document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CoverageError(f"gcovr left no result that can be read: {error}") from error
    return found


def run(*arguments: str, root: Path, cwd: Path) -> None:
    """Run gcovr on files of the tree at ``root``. Raises CoverageError with its words if it fails.

    No configuration is read, that the user's tree may have one of its own notwithstanding.
    """
    command = [sys.executable, "-m", "gcovr", f"--root={root.resolve()}", "--config", os.devnull]
    done = subprocess.run(
        [*command, "--no-color", *arguments],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        said = done.stderr.splitlines()
        wrong = [line for line in said if line and not line.startswith("(INFO)")]
        raise CoverageError("\n".join(["gcovr cannot tell what was reached:", *wrong[-20:]]))


def dump(document: Document, path: Path) -> Path:
    """Write what `read` has returned for `run` to read."""
    path.write_text(json.dumps(document), encoding="utf-8")
    return path
