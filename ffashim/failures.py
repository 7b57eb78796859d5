# SPDX-License-Identifier: GPL-2.0-only
"""What pytest shows of a failure: the user's lines and not ours, and what led to it.

The hooks that call this are in :mod:`ffashim.pytest_plugin`; :class:`FaultGroups` is a plugin of
its own, of ``ffashim check``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from types import TracebackType

import pytest

from ffashim.errors import FfashimError
from ffashim.faults import XenFault, alike
from ffashim.machine import HISTORY, Machine
from ffashim.spmc import Spmc
from ffashim.spmc.log import Smc, describe
from ffashim.spmc.script import unused

FAULT = "ffashim_fault"
"""The attribute of a report that names the fault which ended the test; see `XenFault.summary`."""

_OURS = "ffashim"
_RUNNERS = ("_pytest", "pluggy")
_FEW = 3
"""So many FFA_FEATURES in a row are still shown one by one."""
_NAMED = 6
"""How many tests are named of those that end in the same fault."""


# --- the traceback --------------------------------------------------------------------------------


def trim(error: BaseException) -> bool:
    """Take our own frames out of an error's traceback: it then ends in the line of the test's file
    that made the call.

    An error that is not meant for people keeps them: they are what it is about. Returns False if
    no frame is anybody's but ours and pytest's; they are then kept too.
    """
    frames = list(_frames(error.__traceback__))
    if not frames or (_package(frames[-1]) == _OURS and not isinstance(error, FfashimError)):
        return True
    if all(_package(frame) in (_OURS, *_RUNNERS) for frame in frames):
        return False
    kept = None
    for frame in reversed(frames):
        if _package(frame) != _OURS:
            kept = TracebackType(kept, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    error.__traceback__ = kept
    return True


def _frames(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _package(frame: TracebackType) -> str:
    return str(frame.tb_frame.f_globals.get("__name__", "")).partition(".")[0]


# --- what led to it -------------------------------------------------------------------------------


def sections(machine: Machine, error: BaseException | None) -> Iterator[tuple[str, str]]:
    """Yield titles and texts: Xen's console, the guest's calls, the SMCs that Xen made, and
    rules of a script that none of them met.
    """
    parts: list[tuple[str, Iterable[object]]] = []
    console = machine.console
    # A fault lists the guest calls itself, and the end of the console.
    if not isinstance(error, XenFault):
        calls = machine.history
        title = "Guest calls" if len(calls) < HISTORY else f"The last {HISTORY} guest calls"
        parts = [("Xen's console", console), (title, calls)]
    elif len(console) > len(error.report.console):
        parts = [("Xen's console", console)]
    parts.append(("SMCs that the SPMC saw", _smcs(getattr(machine.spmc, "log", ()))))
    if isinstance(machine.spmc, Spmc):
        idle = (f"{rule} was never asked" for rule in unused(machine.spmc))
        parts.append(("Rules of a script that had no effect", idle))
    for title, lines in parts:
        if text := "\n".join(map(str, lines)):
            yield title, text


def _smcs(log: Iterable[object]) -> Iterator[object]:
    """Yield a line for each, but one for the many features that Xen asks for when it boots."""
    for asks, group in groupby(log, lambda smc: getattr(smc, "name", "") == "FFA_FEATURES"):
        lines = list(group)
        if not asks or len(lines) <= _FEW:
            yield from lines
            continue
        answers: dict[str, int] = {}
        for smc in lines:
            assert isinstance(smc, Smc)
            answer = describe(smc.response).split(" x")[0] if smc.response else "nothing"
            answers[answer] = answers.get(answer, 0) + 1
        told = ", ".join(f"{count} by {answer}" for answer, count in answers.items())
        yield f"FFA_FEATURES, {len(lines)} times, answered {told}"


# --- the same fault in many tests -----------------------------------------------------------------


class FaultGroups:
    """A pytest plugin that shows a fault once, with the names of all the tests that end in it.

    With pytest-xdist it belongs into the controlling process.
    """

    def __init__(self) -> None:
        self._reports: list[pytest.TestReport | pytest.CollectReport] = []
        self._others: dict[str, list[str]] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Keep pytest from showing the failures itself, which it does after this."""
        if session.config.option.tbstyle not in ("no", "line"):
            session.config.option.tbstyle = "no"
            self._show = True

    _show = False

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Take up a file that cannot be imported."""
        if report.failed:
            self._reports.append(report)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take up a failure, unless its fault has been met before."""
        if not report.failed:
            return
        fault = _kind(report)
        if fault in self._others:
            self._others[fault].append(report.nodeid)
            return
        if fault is not None:
            self._others[fault] = []
        self._reports.append(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show them, as pytest would."""
        if not self._show or not self._reports:
            return
        writer = terminalreporter.config.get_terminal_writer()
        terminalreporter.write_sep("=", "FAILURES")
        for report in self._reports:
            when = getattr(report, "when", "call")
            title = report.nodeid if when == "call" else f"{when} of {report.nodeid}"
            terminalreporter.write_sep("_", title, red=True, bold=True)
            report.toterminal(writer)
            for name, text in [*report.sections, *self._same(report)]:
                terminalreporter.write_sep("-", name)
                terminalreporter.write_line(text.rstrip("\n"))

    def _same(self, report: pytest.TestReport | pytest.CollectReport) -> Iterator[tuple[str, str]]:
        others = self._others.get(_kind(report) or "", [])
        names = [name for name in dict.fromkeys(others) if name != report.nodeid]
        if names:
            shown = names[:_NAMED]
            if len(names) > _NAMED:
                shown.append(f"and {len(names) - _NAMED} more; the table below counts them by ABI")
            tests = "1 more test ends" if len(names) == 1 else f"{len(names)} more tests end"
            yield f"{tests} in this fault", "\n".join(shown)


def _kind(report: object) -> str | None:
    fault: str | None = getattr(report, FAULT, None)
    return None if fault is None else alike(fault)
