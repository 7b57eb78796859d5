# SPDX-License-Identifier: GPL-2.0-only
"""Comparing with a baseline: what a change breaks is new, what it repairs is mended."""

from __future__ import annotations

import difflib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from planted import plant

from ffashim.errors import PatchError
from ffashim.source import Tree, resolve

pytest_plugins = ["pytester"]

SERIES = Path(__file__).parents[2] / "examples" / "partition-info-get-regs"
Run = Callable[..., pytest.RunResult]

# FFA_ID_GET writes through NULL where planted.py has been at work.
CRASHES = """
    import pytest
    from ffashim import FFA
    from ffashim.defects import crashes
    from ffashim.traffic import guest

    def ask(machine):
        return guest(machine, buffers=False).smc(FFA.ID_GET, 7)

    @pytest.mark.known_defect(crashes(ask, "/ffa.c"), "FFA_ID_GET kills the host")
    def test_it(xen):
        assert ask(xen).ok

    def present(machine):
        return True

    @pytest.mark.known_defect(present, "it was there before")
    def test_other(xen):
        assert False

    @pytest.mark.known_defect(present, "it was there before")
    @pytest.mark.known_defect(crashes(ask, "/ffa.c"), "FFA_ID_GET kills the host")
    def test_both(xen):
        assert False
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a test file of a user's."""
    monkeypatch.setenv("PYTHONPATH", "")

    def run(body: str, *args: object) -> pytest.RunResult:
        pytester.makepyfile(body)
        return pytester.runpytest_subprocess("--config=DEBUG=y", *map(str, args))

    return run


@pytest.fixture(scope="module")
def planted_patch(tree: Tree, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plant(tree, tmp_path_factory.mktemp("planted"))


def outcomes(result: pytest.RunResult) -> tuple[int, ...]:
    """How many tests failed, were expected to, passed: of one variant of the tree."""
    found = result.parseoutcomes()
    counts = [found.get(name, 0) for name in ("failed", "xfailed", "passed")]
    variants = sum(counts) // 3
    return tuple(count // variants for count in counts)


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "in two processes"])
def test_what_a_patch_breaks_is_new(
    run: Run, tree: Tree, planted_patch: Path, workers: tuple[str, ...]
) -> None:
    result = run(CRASHES, "--xen", tree.root, "--patch", planted_patch, *workers)
    assert outcomes(result) == (2, 1, 0)
    result.stdout.fnmatch_lines(
        ["*New defect*", "FFA_ID_GET kills the host", "The baseline does not have it."]
    )
    result.stdout.fnmatch_lines(
        ["tested *", "compared with *", "new defect: FFA_ID_GET kills the host"]
    )


def test_a_baseline_that_has_the_defect_too_makes_no_difference(
    run: Run, tree: Tree, planted_patch: Path
) -> None:
    broken = resolve(str(tree.root), [planted_patch]).root
    for more in ((), ("--baseline", broken)):
        result = run(CRASHES, "--xen", broken, *more)
        assert outcomes(result) == (0, 3, 0)
        result.stdout.no_fnmatch_line("new defect*")


def test_what_only_the_baseline_has_is_mended(run: Run, tree: Tree, planted_patch: Path) -> None:
    broken = resolve(str(tree.root), [planted_patch]).root
    result = run(CRASHES, "--xen", tree.root, "--baseline", broken)
    assert outcomes(result) == (0, 2, 1)
    result.stdout.fnmatch_lines(["mended: FFA_ID_GET kills the host"])


def test_what_only_the_baseline_can_do_is_lost(run: Run, tree: Tree) -> None:
    try:
        more = resolve(str(tree.root), [SERIES]).root
    except PatchError:
        pytest.skip("the series is for the distribution's tree")
    tests = """
        import pytest
        from ffashim import FFA

        @pytest.mark.needs(abi=FFA.PARTITION_INFO_GET_REGS)
        def test_it(xen):
            pass
    """
    result = run(tests, "--xen", tree.root, "--baseline", more, "-rE")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*FFA_PARTITION_INFO_GET_REGS*does not handle; the baseline's*"])
    result = run(tests, "--xen", more, "--baseline", tree.root)
    assert not result.parseoutcomes().keys() & {"errors", "failed"}


def test_what_comes_with_a_new_abi_is_new(run: Run, tree: Tree) -> None:
    try:
        resolve(str(tree.root), [SERIES])
    except PatchError:
        pytest.skip("the series is for the distribution's tree")
    result = run(
        """
        import pytest
        from ffashim import FFA
        from ffashim.traffic import guest

        pytestmark = pytest.mark.needs(abi=FFA.PARTITION_INFO_GET_REGS)

        def answers(machine):
            return guest(machine).partition_info_get_regs().ok

        def present(machine):
            return True

        @pytest.mark.known_defect(answers, "it answers")
        def test_new(vm):
            assert not vm.partition_info_get_regs().ok

        @pytest.mark.known_defect(present, "it was there before")
        def test_old(xen):
            assert False

        @pytest.mark.known_defect(answers, "")
        def test_neither(xen):
            pass
        """,
        "--xen",
        tree.root,
        "--patch",
        SERIES,
        "--config=FFA_VM_TO_VM=n",
    )
    assert outcomes(result) == (2, 1, 0)
    result.stdout.fnmatch_lines(
        ["*New defect*", "it answers", "The baseline cannot have it (needs FFA_PARTITION_INFO_GET*"]
    )


def test_a_baseline_that_is_none_ends_the_run_with_a_sentence(run: Run, tree: Tree) -> None:
    result = run(CRASHES, "--xen", tree.root, "--baseline", "/nowhere/at/all")
    result.stdout.fnmatch_lines(["*error: --baseline /nowhere/at/all: *"])
    assert result.ret == 2


# --- ffashim check -----------------------------------------------------------------------------


def patch(tree: Tree, directory: Path, name: str, before: str, after: str) -> Path:
    """Write a patch that replaces a regular expression in one of the mediator's files."""
    path = f"xen/arch/arm/tee/{name}"
    old = (tree.root / path).read_text()
    new, count = re.subn(before, after, old)
    if not count:
        pytest.skip(f"this tree's {name} has no {before}")
    lines = difflib.unified_diff(
        old.splitlines(keepends=True), new.splitlines(keepends=True), f"a/{path}", f"b/{path}"
    )
    file = directory / "change.patch"
    file.write_text("".join(lines))
    return file


def check(tree: Tree, change: Path, keyword: str) -> tuple[int, str, list[dict[str, Any]]]:
    """Check a patch; return the exit status, what was printed, and each test's result."""
    report = change.parent / "report.json"
    command = ["check", f"--xen={tree.root}", f"--patch={change}", "-k", keyword]
    done = subprocess.run(
        [sys.executable, "-m", "ffashim", *command, f"--json={report}"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert report.stat().st_size, done.stdout + done.stderr
    found = json.loads(report.read_text())
    tests = [test for of_tree in found["trees"] for abi in of_tree["abis"] for test in abi["tests"]]
    return done.returncode, done.stdout, tests


def test_check_names_what_a_patch_breaks(tree: Tree, tmp_path: Path) -> None:
    change = patch(
        tree,
        tmp_path,
        "ffa_shm.c",
        r"(bool ffa_shm_domain_destroy\(struct domain \*d\)\n\{\n(?:    \S.*;\n)+)",
        r"\1\n    if ( d )\n        return true;\n",
    )
    finding = "does not reclaim what a dead guest shared"
    status, output, tests = check(tree, change, "lifecycle")
    assert status == 1
    assert f"new defect: {finding}" in output
    assert {test["outcome"] for test in tests if finding in test["new"]} == {"failed"}
    assert not any(test["reason"] == finding for test in tests)


def test_check_lists_what_a_patch_mends(tree: Tree, tmp_path: Path) -> None:
    change = patch(
        tree,
        tmp_path,
        "ffa_notif.c",
        r"ffa_set_regs\(regs, FFA_SUCCESS_64, 0,",
        "ffa_set_regs(regs, get_user_reg(regs, 0) & 0x40000000 ? FFA_SUCCESS_64\n"
        "                                              : FFA_SUCCESS_32, 0,",
    )
    finding = "FFA_SUCCESS_64 in answer to FFA_NOTIFICATION_INFO_GET_32"
    status, output, tests = check(tree, change, "notification_info_get")
    assert status == 0, output
    assert f"mended: {finding} (" in output
    assert {test["outcome"] for test in tests if finding in test["mended"]} == {"passed"}
