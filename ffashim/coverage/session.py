# SPDX-License-Identifier: GPL-2.0-only
"""``--coverage`` of the pytest plugin: counters written by each process, reports by the first one.

With pytest-xdist the workers run the tests and write what they have counted; gcc's library adds it
up, with a lock on each file. The controlling process reads it when the last worker is done.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ffashim import paths
from ffashim.coverage import gcov, summary
from ffashim.coverage.summary import Build
from ffashim.errors import FfashimError, UsageError
from ffashim.loader import Extension
from ffashim.source import Tree

PLUGIN = "ffashim.coverage"
"""The name under which `Session` is registered."""
_SHARED = "ffashim_coverage"
"""The key by which a worker is told the directory."""


def add_options(group: pytest.OptionGroup) -> None:
    """Add the options to those of the plugin."""
    group.addoption(
        "--coverage",
        action="store_true",
        help="count which lines and branches of the tree's mediator are reached, with gcc: a "
        "summary here, HTML, lcov and Cobertura in the cache directory",
    )
    group.addoption(
        "--coverage-dir",
        default=None,
        metavar="DIR",
        help="the same, with the reports in this directory, outside of the tree",
    )


def configure(config: pytest.Config) -> None:
    """Register a `Session` if the options ask for it."""
    if config.getoption("--coverage") or config.getoption("--coverage-dir"):
        try:
            config.pluginmanager.register(Session(config), PLUGIN)
        except FfashimError as error:
            raise pytest.UsageError(str(error)) from None


def wanted(config: pytest.Config) -> Session | None:
    """Return the session's coverage, None if it is not counted."""
    found: Session | None = config.pluginmanager.get_plugin(PLUGIN)
    return found


class Session:
    """A plugin, in the controlling process and in each worker."""

    def __init__(self, config: pytest.Config) -> None:
        self._extensions: dict[Path, Extension] = {}
        self._session: pytest.Session | None = None
        worker: Mapping[str, Any] | None = getattr(config, "workerinput", None)
        self._cc: str = config.getoption("--cc") or "cc"
        self._baseline: str | None = config.getoption("--baseline")
        self._controls = worker is None
        if worker is not None:
            self._data = Path(worker[_SHARED])
            return
        self._gcov = gcov.tool(self._cc)
        self._reports = _reports(config.getoption("--coverage-dir"), config.getoption("--xen"))
        self._data = Path(tempfile.mkdtemp(prefix=".data-", dir=_home()))

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker of pytest-xdist where to write."""
        node.workerinput[_SHARED] = str(self._data)

    def add(self, extension: Extension, name: str, tree: Tree, settings: Mapping[str, str]) -> None:
        """Take a build of a tree up, under the tree's name among the tests."""
        if extension.path in self._extensions:
            return
        self._extensions[extension.path] = extension
        build = Build(
            name=name,
            tree=tree.describe().partition("\n")[0],
            spec=tree.spec,
            root=str(tree.root),
            patched=bool(tree.patches),
            settings=dict(settings),
            compiler=extension.record["compiler"],
            notes=str(extension.notes),
        )
        directory = self._data / extension.path.stem
        directory.mkdir(exist_ok=True)
        partial = directory / f"build.{os.getpid()}"
        partial.write_text(json.dumps(build._asdict()), encoding="utf-8")
        partial.replace(directory / "build.json")

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the counters of this process, before a worker says that it is done."""
        self._session = session
        for path, extension in self._extensions.items():
            extension.load().lib.ffashim_write_counters(os.fsencode(self._data / path.stem))

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
        """Report, last of all: pytest calls this when every worker is done."""
        yield
        if not self._controls:
            return
        try:
            lines = summary.report(self._builds(), self._reports, self._gcov, self._baseline)
        except FfashimError as error:
            terminalreporter.write_line(f"error: {error}", red=True)
            assert self._session
            self._session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
            return
        for line in lines:
            terminalreporter.write_line(line)

    def pytest_unconfigure(self) -> None:
        """Remove the counters, and the directory of the reports if none came of it."""
        if not self._controls:
            return
        shutil.rmtree(self._data, ignore_errors=True)
        if self._reports.parent == self._data.parent:
            with contextlib.suppress(OSError):
                self._reports.rmdir()

    def _builds(self) -> Iterator[tuple[Path, Build]]:
        for record in sorted(self._data.glob("*/build.json")):
            yield record.parent, Build(**json.loads(record.read_text(encoding="utf-8")))


def _home() -> Path:
    home = paths.cache_dir() / "coverage"
    home.mkdir(exist_ok=True)
    return home


def _reports(named: str | None, trees: Sequence[str]) -> Path:
    """Return the directory for the reports: the one named, or a new one in the cache."""
    if named is None:
        return Path(tempfile.mkdtemp(prefix=time.strftime("%Y%m%d-%H%M%S-"), dir=_home()))
    path = Path(named).expanduser()
    for tree in trees:
        if re.match(r"(debian(:|$)|upstream(@|$))", tree):  # see `source.resolve`
            continue
        for directory in (tree, tree.rpartition("@")[0] or tree):
            if path.resolve().is_relative_to(Path(directory).expanduser().resolve()):
                raise UsageError(
                    f"--coverage-dir {named} lies in {directory}, and nothing is written into a "
                    "tree that is tested: name another directory"
                )
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UsageError(f"--coverage-dir {named} cannot be written: {error.strerror}") from error
    return path.resolve()
