# SPDX-License-Identifier: GPL-2.0-only
"""One commit of ``ffashim defects``, in a process of its own: a crash there is a result here.

``python -m ffashim.cli.defects_worker TREE CC EXPR [SUITE...]`` asks the probes of the known
defects of a tree instead of running the tests, and prints a JSON object: the tests of each finding,
and for each variant whether it has it, null where nothing that meets the defect applies to the
tree.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import redirect_stdout
from typing import Any

import pytest

from ffashim import capabilities, paths
from ffashim.baseline import machine_of
from ffashim.errors import FfashimError
from ffashim.pytest_plugin import extension_of, needs_of
from ffashim.variants import VM_TO_VM

OFF, ON = "n", "y"


class Asker:
    """A pytest plugin that asks for the defects which the collected tests are marked with."""

    def __init__(self) -> None:
        self.tests: dict[str, list[str]] = {}
        self.answers: dict[str, dict[str, bool | str | None]] = {OFF: {}, ON: {}}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Take the place of the tests."""
        for item in session.items:
            callspec = getattr(item, "callspec", None)
            if callspec is not None and "extension" in callspec.params:
                for mark in item.iter_markers("known_defect"):
                    self._ask(item, callspec.params["extension"], *mark.args)
        return True

    def _ask(self, item: pytest.Item, param: Any, question: Any, finding: str) -> None:
        name = f"{item.path.name}::{getattr(item, 'originalname', item.name)}"
        tests = self.tests.setdefault(finding, [])
        if name not in tests:
            tests.append(name)
        answers = self.answers[ON if param[1].get(VM_TO_VM) == "y" else OFF]
        answers.setdefault(finding, None)
        machine = machine_of(extension_of(item.config, param))
        if answers[finding] is True:
            return
        try:
            unfinished = False
            if capabilities.missing(machine, **needs_of(item)):
                return
        except FfashimError:  # a mediator that cannot even be asked what it handles
            unfinished = True
        try:
            answers[finding] = bool(capabilities.probe(machine, question))
        except Exception as error:  # noqa: BLE001 - a probe is anybody's code
            if not unfinished:
                answers[finding] = (str(error).splitlines() or [type(error).__name__])[0]


def ask(spec: str, cc: str, keyword: str, *suite: str) -> tuple[int, Asker]:
    """Return pytest's exit status, and what was found out; by default of the whole suite."""
    asker = Asker()
    suite = suite or tuple(map(str, paths.SUITE))
    os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(paths.cache_dir() / "hypothesis"))
    with redirect_stdout(sys.stderr):
        status = pytest.main(
            [
                f"--config-file={os.devnull}",
                f"--rootdir={os.path.commonpath(suite)}",
                "--noconftest",
                "--disable-plugin-autoload",
                "-pffashim",
                "-phypothesispytest",
                "-pno:cacheprovider",
                "-Wignore::pytest.PytestAssertRewriteWarning",
                "--import-mode=importlib",
                "-qq",
                f"--xen={spec}",
                f"--cc={cc}",
                f"-k={keyword}",
                *suite,
            ],
            plugins=[asker],
        )
    return status, asker


if __name__ == "__main__":
    ended, found = ask(*sys.argv[1:])
    print(json.dumps({"tests": found.tests, "answers": found.answers}))
    sys.exit(0 if ended == pytest.ExitCode.NO_TESTS_COLLECTED else ended)
