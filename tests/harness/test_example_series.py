# SPDX-License-Identifier: GPL-2.0-only
"""The example series: each patch stands by itself, and the suite finds every bend made in it.

The bends (bends.py) are made when the tests run, in a private copy. Each must be found by the tests
of PARTITION_INFO_GET and GET_REGS, by the one that is named.
FFASHIM_ALL_MUTANTS=1 tries every bend, and runs every patch through the whole suite, with each
compiler that is there, debug on and off. FFASHIM_EXAMPLES scales what that takes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from bends import BENDS, DRAFT, FURTHER, PATCHES, V1, Bend, bent_copy

from ffashim import FFA, Machine, example, loader
from ffashim.capabilities import handled
from ffashim.errors import PatchError
from ffashim.source import Tree, resolve

ALL = os.environ.get("FFASHIM_ALL_MUTANTS", "") not in ("", "0")
COUNTS = range(1, len(PATCHES) + 1, 1 if ALL else 3)
"""How many of the patches are tried. The last of them is tried by the other tests, too."""
COMPILERS = [cc for cc in ("gcc", "clang") if shutil.which(cc)] if ALL else ["cc"]
FINDERS = "(test_partition_info_get or finds_them)"
"""Matches the tests of both calls, and those of the registers beyond the results."""
USUAL = [each for each in FURTHER[5::10] if each not in DRAFT]
"""What is tried where nobody asks for all; the tutorial tries those of its draft."""


# --- running the suite ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of our own: what is built here is of no use to anybody later."""
    directory = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FFASHIM_CACHE", str(directory))
        yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def base(tree: Tree) -> Tree:
    """The first tree under test, if it is one that the series is for."""
    if FFA.PARTITION_INFO_GET_REGS in handled(Machine(loader.build(tree))):
        pytest.skip("the tree has FFA_PARTITION_INFO_GET_REGS itself: nothing is to be applied")
    return tree


@pytest.fixture(scope="module")
def apply(base: Tree, cache: Path, pytestconfig: pytest.Config) -> Callable[[Sequence[Path]], Tree]:
    """A function that applies patches of the series to the tree."""

    def applied(patches: Sequence[Path]) -> Tree:
        try:
            return resolve(base.root, patches)
        except PatchError as error:
            if pytestconfig.getoption("--xen"):  # not the tree that the series is made for
                pytest.skip(str(error))
            raise

    return applied


@pytest.fixture(scope="module")
def series(apply: Callable[[Sequence[Path]], Tree]) -> Tree:
    """The tree with the whole series."""
    return apply(PATCHES)


def outcomes(xen: Path, keyword: str, *options: str) -> dict[str, set[str]]:
    """Run the suite's tests that match, as a user would; return what became of each."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.json"
        command = [sys.executable, "-m", "ffashim", "check", f"--xen={xen}", f"--json={report}"]
        done = subprocess.run(
            [*command, "-k", keyword, *options], capture_output=True, text=True, check=False
        )
        assert report.exists(), done.stdout + done.stderr
        assert done.returncode in (0, 1), done.stdout + done.stderr
        results = json.loads(report.read_text())
    found: dict[str, set[str]] = {}
    for tree in results["trees"]:
        for abi in tree["abis"]:
            for test in abi["tests"]:
                found.setdefault(test["name"].partition("[")[0], set()).add(test["outcome"])
    assert found
    return found


# --- the series ----------------------------------------------------------------------------------


def test_the_patches_are_mails_in_the_order_of_their_names() -> None:
    assert PATCHES
    digits = len(str(len(PATCHES)))
    for number, patch in enumerate(PATCHES, 1):
        head, _, diff = patch.read_text().partition("\ndiff --git ")
        assert patch.name.startswith(f"{number:04}-")
        assert f"[PATCH {number:0{digits}}/{len(PATCHES)}] xen/arm: ffa: " in head
        assert "\nSigned-off-by: ffashim developers <ffashim@example.org>\n---\n" in head
        assert diff


def test_a_patch_holds_one_line_of_context_at_most() -> None:
    for patch in PATCHES:
        text = patch.read_text().partition("\ndiff --git ")[2]
        for hunk in re.split(r"^@@ .*$", text, flags=re.M)[1:]:
            runs = re.split(r"^[-+].*$", hunk.partition("\ndiff --git ")[0], flags=re.M)
            lengths = [len([line for line in run.split("\n") if line]) for run in runs]
            # Between two changes of a hunk there may be the context of both.
            assert max(lengths[0], lengths[-1]) <= 1
            assert max(lengths) <= 2


@pytest.mark.parametrize("debug", ["y", "n"] if ALL else ["y"])
@pytest.mark.parametrize("cc", COMPILERS)
@pytest.mark.parametrize("count", COUNTS)
def test_each_patch_stands_by_itself(
    apply: Callable[[Sequence[Path]], Tree], base: Tree, count: int, cc: str, debug: str
) -> None:
    tree = apply(PATCHES[:count])
    if ALL:
        # By --patch, so that a defect that the tree without them has not is a failure.
        patches = [f"--patch={patch}" for patch in PATCHES[:count]]
        options = [f"--cc={cc}", f"--config=DEBUG={debug}"]
        found = outcomes(base.root, "test", *patches, *options)
        assert not [name for name, each in found.items() if "failed" in each]
    else:
        vm = Machine(loader.build(tree, cc=cc)).boot().create_vm("1.1")
        vm.map_rxtx()
        assert vm.partitions()


def test_a_guest_walks_its_partitions_by_either_call(series: Tree) -> None:
    vm = Machine(loader.build(series, {"FFA_VM_TO_VM": "y"})).boot().create_vm("1.2")
    vm.machine.create_vm("1.1")
    vm.map_rxtx()
    assert vm.partitions_regs() == vm.partitions()


@pytest.fixture(scope="module")
def unbent(series: Tree) -> dict[str, set[str]]:
    """What the tests find in the series as it is."""
    return outcomes(series.root, FINDERS)


def test_every_claim_applies_to_the_series_and_passes(unbent: dict[str, set[str]]) -> None:
    claims = {name: each for name, each in unbent.items() if name.startswith("test_claim_")}
    assert claims
    # Not in both variants, perhaps.
    assert all(each <= {"passed", "not_applicable"} for each in claims.values()), claims
    assert all("passed" in each for each in claims.values()), claims


def test_what_finds_a_bend_passes_without_it(unbent: dict[str, set[str]]) -> None:
    for each in BENDS:
        assert "passed" in unbent[each.found_by], each
        assert unbent[each.found_by] <= {"passed", "not_applicable"}, each


# --- where it is applied -------------------------------------------------------------------------


def as_the_distributions(tree: Tree) -> Tree:
    """The tree, as if it were the distribution's own."""
    return replace(tree, spec="debian", patches=())


def test_the_distributions_tree_gets_the_series_if_it_lacks_the_call(
    base: Tree, series: Tree
) -> None:
    patched = example.with_get_regs(as_the_distributions(base), {}, "cc")
    assert patched is not None
    assert patched.patches == series.patches


def test_nothing_is_applied_if_the_distributions_tree_has_the_call(series: Tree) -> None:
    assert example.with_get_regs(as_the_distributions(series), {}, "cc") is None


def test_nothing_is_applied_to_a_tree_or_a_patch_of_the_users(base: Tree, series: Tree) -> None:
    assert example.with_get_regs(replace(base, spec="/src/xen"), {}, "cc") is None
    with_a_patch = replace(base, spec="debian", patches=series.patches[:1])
    assert example.with_get_regs(with_a_patch, {}, "cc") is None


# --- bends ---------------------------------------------------------------------------------------


def test_no_two_bends_are_the_same() -> None:
    assert len({each.changes for each in BENDS}) == len(BENDS)
    assert len(V1) == 4
    assert len(FURTHER) >= 20


@pytest.mark.parametrize("mistake", BENDS if ALL else USUAL, ids=lambda mistake: mistake.name)
def test_a_bend_is_found(series: Tree, cache: Path, mistake: Bend, tmp_path: Path) -> None:
    copy = bent_copy(series, mistake, tmp_path)
    found = outcomes(copy, f"{FINDERS} and {mistake.found_by}", "--config=FFA_VM_TO_VM=y")
    # A known defect would do no more than show in the table.
    assert "failed" in found[mistake.found_by]
