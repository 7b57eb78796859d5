# SPDX-License-Identifier: GPL-2.0-only
"""Where the parts of the project lie, in a checkout and in an installed wheel.

A checkout has ``stubs/``, ``build.py``, ``tests/``, ``examples/`` and ``xen_src/`` beside the
package. The wheel carries all but the last inside the package, in ``_bundle/``.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ffashim.errors import CacheError

_PACKAGE = Path(__file__).resolve().parent
_BUNDLE = _PACKAGE / "_bundle"
_INSTALLED = _BUNDLE.is_dir()
_BASE = _BUNDLE if _INSTALLED else _PACKAGE.parent

STUBS = _BASE / "stubs"
"""The C side: overlay headers and the machine."""

BUILD_PY = _BASE / "build.py"
"""The module that compiles a tree and a configuration into an extension."""

TESTS = _BASE / "tests"
SUITE = tuple(TESTS / name for name in ("abi", "clients", "acs"))
"""The conformance suite: a file per ABI, per client, per part of Arm's compliance suite."""

EXAMPLES = _BASE / "examples"
"""Patch series of the project's own."""

XEN_SRC = None if _INSTALLED else _BASE / "xen_src"
"""Where a tree may be left for use without ``--xen``; None in a wheel."""


def cache_dir() -> Path:
    """Return the cache directory, made if it is missing.

    It is ``$FFASHIM_CACHE``, else ``$XDG_CACHE_HOME/ffashim``, else ``~/.cache/ffashim``.

    Raises CacheError, which tells how to name another one, if it cannot be written.
    """
    path = _named_cache()
    try:
        path.mkdir(parents=True, exist_ok=True)
        # Asked by doing it: access(2) knows nothing of quotas, and lets root write anywhere.
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise CacheError(
            f"the cache directory {path} cannot be written: {error.strerror or error}\n{_ADVICE}"
        ) from error
    return path.resolve()


_ADVICE = """\
Set FFASHIM_CACHE to a directory of yours that can, for instance
    export FFASHIM_CACHE=/tmp/ffashim-cache"""


def _named_cache() -> Path:
    try:
        if named := os.environ.get("FFASHIM_CACHE"):
            return Path(named).expanduser()
        base = Path(os.environ.get("XDG_CACHE_HOME", ""))
        # The XDG specification: a relative path is to be ignored.
        return (base if base.is_absolute() else Path("~/.cache").expanduser()) / "ffashim"
    except RuntimeError as error:
        raise CacheError(f"there is no home directory for a cache.\n{_ADVICE}") from error
