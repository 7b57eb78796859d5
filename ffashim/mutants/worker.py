# SPDX-License-Identifier: GPL-2.0-only
"""A warm process that runs the suite on one mutant after the other.

``python -m ffashim.mutants.worker`` collects the tests once and asks the probes of the known
defects of the tree as it is. For each mutant it forks: whatever that does to the process, a crash
included, is gone with the child. It speaks JSON, an object a line.

The first line that it reads is ``{"pytest": [argument...], "extension": path, "record": {...},
"name": what the tree is called in the names of tests, or null}``, and it answers ``{"tests":
[name...]}``. Each further line is a run, ``{"extension": path, "tests": [index...], "seconds":
limit, "all": false}``: the tests in that order, up to the first failure unless all are wanted. The
answer is ``{"outcomes": [[index, outcome, seconds, why]...], "end": "finished" | "failed" | "time"
| "died"}``.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, TextIO

import pytest
from hypothesis import HealthCheck, Phase, settings

from ffashim import capabilities
from ffashim.baseline import machine_of
from ffashim.loader import Extension
from ffashim.pytest_plugin import needs_of
from ffashim.source import Tree

_WORSE = ("passed", "skipped", "xfailed", "failed")
"""What may become of a phase of a test; the test is what the worst of its phases is."""


class Suite:
    """A pytest plugin that takes the place of the run, and serves requests instead."""

    def __init__(
        self, original: Extension, requests: TextIO, answers: TextIO, name: str | None
    ) -> None:
        self.original = original
        self.name = name
        self.mutant = original
        self.requests = requests
        self.answers = answers
        self.items: list[pytest.Item] = []
        self.outcome = "passed"
        self.why = ""

    def pytest_ffashim_trees(self, metafunc: pytest.Metafunc, trees: Sequence[Tree]) -> list[Tree]:
        """Have the tree called as was asked for."""
        return [replace(tree, spec=self.name or tree.spec) for tree in trees]

    def pytest_ffashim_extension(self, tree: Tree, settings: dict[str, str]) -> Extension:
        """Have the tests run on the mutant."""
        return self.mutant

    def pytest_ffashim_baseline(self, tree: Tree, settings: dict[str, str]) -> Extension:
        """Compare with the tree as it is: a defect that the mutation has made is new."""
        return self.original

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take up what became of a phase of the test that runs."""
        expected = hasattr(report, "wasxfail") and report.skipped
        outcome = "xfailed" if expected else report.outcome
        if _WORSE.index(outcome) > _WORSE.index(self.outcome):
            self.outcome = outcome
            self.why = _last_line(report) if report.failed else ""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Serve, until there are no more requests."""
        if session.testsfailed:
            raise session.Interrupted("the tests cannot be collected")
        self.items = [
            item
            for item in session.items
            if "extension" in getattr(getattr(item, "callspec", None), "params", ())
        ]
        self._warm_up()
        self._answer({"tests": [item.nodeid for item in self.items]})
        for line in self.requests:
            self._answer(self._serve(json.loads(line)))
        return True

    def _answer(self, answer: object) -> None:
        self.answers.write(json.dumps(answer) + "\n")
        self.answers.flush()

    def _warm_up(self) -> None:
        """Ask, before there are children, what the baseline is asked in each of them."""
        machine = machine_of(self.original)
        for item in self.items:
            capabilities.missing(machine, **needs_of(item))
            for mark in item.iter_markers("known_defect"):
                with contextlib.suppress(Exception):  # the test itself shall tell
                    capabilities.probe(machine, mark.args[0])
        gc.collect()
        gc.freeze()

    # --- a run ----------------------------------------------------------------------------------

    def _serve(self, request: dict[str, Any]) -> dict[str, Any]:
        out, into = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(out)
            with os.fdopen(into, "w") as stream:
                self._run(request, stream)
        os.close(into)
        ended, text = _read(out, request["seconds"])
        os.close(out)
        if not ended:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        # A child that was killed may have left a part of a line.
        lines = [json.loads(line) for line in text.split("\n")[:-1]]
        outcomes = [line for line in lines if len(line) > 1]
        if not ended:
            end, why = "time", f"not done within {request['seconds']:g} seconds"
        elif status:
            end, why = "died", f"the process ended with {os.waitstatus_to_exitcode(status)}"
        else:
            end, why = ("failed" if outcomes and outcomes[-1][1] == "failed" else "finished"), ""
        if why and len(lines[-1:]) == 1:  # say in which test
            outcomes.append([lines[-1][0], "failed", 0.0, why])
        return {"outcomes": outcomes, "end": end}

    def _run(self, request: dict[str, Any], stream: TextIO) -> NoReturn:
        """Be the child."""

        def tell(*what: object) -> None:
            stream.write(json.dumps(what) + "\n")
            stream.flush()

        status = 1
        try:
            gc.disable()
            self.mutant = Extension(Path(request["extension"]), self.original.record)
            order: list[int] = request["tests"]
            for index, following in zip(order, [*order[1:], None], strict=True):
                tell(index)
                self._run_one(index, following, tell)
                if self.outcome == "failed" and not request["all"]:
                    break
            status = 0
        finally:
            stream.flush()
            os._exit(status)

    def _run_one(self, index: int, following: int | None, tell: Callable[..., None]) -> None:
        self.outcome, self.why = "passed", ""
        started = time.perf_counter()
        item = self.items[index]
        following_item = None if following is None else self.items[following]
        try:
            item.ihook.pytest_runtest_protocol(item=item, nextitem=following_item)
        except BaseException as error:  # noqa: BLE001 - the plugin gives up the session
            self.outcome, self.why = "failed", f"{type(error).__name__}: {error}"
        tell(index, self.outcome, round(time.perf_counter() - started, 4), self.why)


def _read(out: int, seconds: float) -> tuple[bool, str]:
    """Read all that a child says. Return whether it came to its end in time, and what it said."""
    deadline = time.monotonic() + seconds
    data = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([out], [], [], left)[0]:
            return False, data.decode()
        chunk = os.read(out, 65536)
        if not chunk:
            return True, data.decode()
        data += chunk


def _last_line(report: pytest.TestReport) -> str:
    """Return one line on why a test failed."""
    crash = getattr(report.longrepr, "reprcrash", None)
    said = crash.message if crash is not None else str(report.longrepr)
    return (said.strip().splitlines() or [""])[0][:200]


def main() -> int:
    """Serve on the standard streams; what pytest prints goes to the error output."""
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")  # pytest takes those
    os.dup2(2, 1)
    request = json.loads(requests.readline())
    # A failure is all that is wanted, the first one, and nothing is to be remembered of it.
    settings.register_profile(
        "mutants",
        database=None,
        derandomize=True,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    settings.load_profile("mutants")
    original = Extension(Path(request["extension"]), request["record"])
    suite = Suite(original, requests, answers, request["name"])
    return int(pytest.main(request["pytest"], plugins=[suite]))


if __name__ == "__main__":
    sys.exit(main())
