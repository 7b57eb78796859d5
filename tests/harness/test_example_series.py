# SPDX-License-Identifier: GPL-2.0-only
"""The example series: each patch stands by itself, and the suite finds every bend made in it.

The bends are substitutions on the patched source, made when the tests run, in a private copy. Each
must be found by the tests of PARTITION_INFO_GET and GET_REGS, by the one that is named.
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
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ffashim import FFA, Machine, example, loader
from ffashim.capabilities import handled
from ffashim.errors import PatchError
from ffashim.source import Tree, resolve

SERIES = Path(__file__).parents[2] / "examples" / "partition-info-get-regs"
PATCHES = sorted(SERIES.glob("*.patch"))
ALL = os.environ.get("FFASHIM_ALL_MUTANTS", "") not in ("", "0")
COUNTS = range(1, len(PATCHES) + 1, 1 if ALL else 3)
"""How many of the patches are tried. The last of them is tried by the other tests, too."""
COMPILERS = [cc for cc in ("gcc", "clang") if shutil.which(cc)] if ALL else ["cc"]
MEDIATOR = Path("xen/arch/arm/tee")
PARTINFO = "ffa_partinfo.c"
HEADER = "ffa_private.h"
FINDERS = "(test_partition_info_get or finds_them)"
"""Matches the tests of both calls, and those of the registers beyond the results."""


@dataclass(frozen=True)
class Bend:
    """A mistake: what to replace by what in the patched source, and the test that finds it."""

    name: str
    found_by: str
    changes: tuple[tuple[str, str], ...]
    file: str = PARTINFO


def bend(name: str, found_by: str, *changes: tuple[str, str], file: str = PARTINFO) -> Bend:
    return Bend(name, found_by, changes, file)


NOT_1_2 = "        return FFA_RET_NOT_SUPPORTED;\n"

V1 = [
    bend(
        "registers that should be zero are checked",
        "test_claim_2_registers_that_should_be_zero_are_ignored",
        (
            NOT_1_2,
            NOT_1_2 + "    for ( unsigned int n = 4; n < 18; n++ )\n"
            "        if ( get_user_reg(regs, n) || get_user_reg(regs, 3) >> 32 )\n"
            "            return FFA_RET_INVALID_PARAMETERS;\n",
        ),
    ),
    bend(
        "a change of the tag while the reply is built goes unnoticed",
        "test_claim_10_a_change_while_a_reply_is_built_gives_retry",
        ("if ( listed_tag != tag )", "if ( false )"),
    ),
    bend(
        "the size of the SPMC's descriptors must be 24",
        "test_claim_11_descriptors_of_the_spmc_may_be_larger",
        ("fpi_size < sizeof(*sp_list)", "fpi_size != sizeof(*sp_list)"),
    ),
    bend(
        "the count changes before the lock is taken",
        "test_claim_10_a_change_while_a_reply_is_built_gives_retry",
        ("    vm_count++;\n", ""),
        ("        vm_count--;\n", ""),
        (
            "    write_lock(&vm_list_lock);\n    list_add_tail",
            "    vm_count++;\n    write_lock(&vm_list_lock);\n    list_add_tail",
        ),
        (
            "    write_lock(&vm_list_lock);\n    if ( !list_empty(&ctx->vm_list) )\n",
            "    if ( !list_empty(&ctx->vm_list) )\n        vm_count--;\n"
            "    write_lock(&vm_list_lock);\n    if ( !list_empty(&ctx->vm_list) )\n",
        ),
    ),
]
"""The four changes that the mail lists since its first version, undone."""

FURTHER = [
    bend(
        "a guest of 1.1 may call",
        "test_claim_1_guests_below_1_2_get_not_supported",
        (
            "is_64bit_domain(d) &&\n           ACCESS_ONCE(ctx->guest_vers) >= FFA_VERSION_1_2;",
            "is_64bit_domain(d) &&\n           ACCESS_ONCE(ctx->guest_vers) >= FFA_VERSION_1_1;",
        ),
    ),
    bend(
        "FFA_FEATURES says yes to 32-bit guests",
        "test_claim_1_a_32_bit_guest_gets_not_supported",
        ("return is_64bit_domain(d) &&\n           ACCESS", "return ACCESS"),
    ),
    bend(
        "half of the UUID is compared",
        "test_claim_2_every_bit_of_the_uuid_counts",
        ("memcmp(fpi.uuid, uuid, sizeof(fpi.uuid))", "memcmp(fpi.uuid, uuid, 8)"),
    ),
    bend(
        "no bound on the start index",
        "test_claim_3_a_start_without_room_for_five_is_an_invalid_parameter",
        ("if ( w.end - 1 > UINT16_MAX )", "if ( false )"),
    ),
    bend(
        "the bound on the start index is one too low",
        "test_claim_3_the_last_start_with_room_for_five_is_looked_at",
        ("if ( w.end - 1 > UINT16_MAX )", "if ( w.end > UINT16_MAX )"),
    ),
    bend(
        "a tag at the start is ignored",
        "test_claim_4_start_0_wants_tag_0",
        ("if ( !start && caller_tag )", "if ( false )"),
    ),
    bend(
        "a later tag is ignored",
        "test_claim_4_a_later_start_wants_the_current_tag",
        ("if ( start && caller_tag != tag )", "if ( false )"),
    ),
    bend(
        "the tag is taken from the wrong bits",
        "test_claim_4_a_later_start_wants_the_current_tag",
        ("#define PARTINFO_ARG_TAG_SHIFT  16", "#define PARTINFO_ARG_TAG_SHIFT  32"),
    ),
    bend(
        "the tag is put into the wrong bits",
        "test_claim_13_the_walk_finds_every_partition_once_as_partition_info_get_does",
        ("#define PARTINFO_TAG_SHIFT      32", "#define PARTINFO_TAG_SHIFT      33"),
    ),
    bend(
        "the size is put into the wrong bits",
        "test_claim_5_the_answer_tells_last_and_current_index_tag_and_size",
        ("#define PARTINFO_SIZE_SHIFT     48", "#define PARTINFO_SIZE_SHIFT     47"),
    ),
    bend(
        "the last index is the count",
        "test_claim_5_the_answer_tells_last_and_current_index_tag_and_size",
        ("(w.total - 1) |", "w.total |"),
    ),
    bend(
        "the current index is the next one",
        "test_claim_5_the_answer_tells_last_and_current_index_tag_and_size",
        ("(min(w.end, w.total) - 1)", "min(w.end, w.total)"),
    ),
    bend(
        "unused registers are not cleared",
        "test_claim_5_registers_that_hold_no_descriptor_are_zero",
        (
            "    uint64_t res[PARTINFO_FIRST_REG + PARTINFO_NR_REGS] = { };\n",
            "    uint64_t res[PARTINFO_FIRST_REG + PARTINFO_NR_REGS] = {\n"
            "        [PARTINFO_FIRST_REG ... 17] = 0xa5 };\n",
        ),
    ),
    bend(
        "a window of four",
        "test_claim_6_five_descriptors_at_most_secure_partitions_first",
        (".end = start + PARTINFO_MAX_ENTRIES,", ".end = start + PARTINFO_MAX_ENTRIES - 1,"),
    ),
    bend(
        "the caller comes where it is in the list",
        "test_claim_6_the_caller_comes_before_other_guests",
        ("        window_add_vm(w, caller);\n        total++;\n", "        total++;\n"),
        ("            if ( other != ctx )\n", ""),
    ),
    bend(
        "the caller is listed twice",
        "test_claim_6_the_caller_comes_before_other_guests",
        ("            if ( other != ctx )\n", ""),
    ),
    bend(
        "the UUID is returned to a caller that named it",
        "test_claim_7_a_uuid_lists_its_partitions_and_the_uuid_field_is_zero",
        ("            memset(fpi.uuid, 0, sizeof(fpi.uuid));\n", ""),
    ),
    bend(
        "guests have any UUID",
        "test_claim_7_a_uuid_that_nobody_has_is_an_invalid_parameter",
        ("    if ( all )\n        *tag", "    if ( true )\n        *tag"),
    ),
    bend(
        "a start at the count is in the list",
        "test_claim_8_a_start_at_or_past_the_count_is_an_invalid_parameter",
        ("if ( start >= w.total )", "if ( start > w.total )"),
    ),
    bend(
        "the tag stays when a guest leaves",
        "test_claim_9_the_tag_moves_when_a_guest_enters_or_leaves",
        ("        vm_count--;\n        vm_list_changed();\n", "        vm_count--;\n"),
    ),
    bend(
        "the count is read after the lock is released",
        "test_claim_10_a_change_while_a_reply_is_built_gives_retry",
        ("        total += vm_count - 1;\n", ""),
        ("    w->total = total;\n    tag = vm_list_tag;\n", "    tag = vm_list_tag;\n"),
        (
            "    read_unlock(&vm_list_lock);\n",
            "    read_unlock(&vm_list_lock);\n"
            "    if ( IS_ENABLED(CONFIG_FFA_VM_TO_VM) )\n        total += vm_count - 1;\n"
            "    w->total = total;\n",
        ),
    ),
    bend(
        "the tag is read before the lock is taken",
        "test_claim_10_a_change_while_a_reply_is_built_gives_retry",
        ("    w->total = total;\n    tag = vm_list_tag;\n", "    w->total = total;\n"),
        (
            "    read_lock(&vm_list_lock);\n",
            "    tag = vm_list_tag;\n    read_lock(&vm_list_lock);\n",
        ),
    ),
    bend(
        "the tag is published after the lock is released",
        "test_claim_9_a_change_is_whole_once_a_lock_is_released",
        (
            "    vm_list_changed();\n    write_unlock(&vm_list_lock);\n",
            "    write_unlock(&vm_list_lock);\n    vm_list_changed();\n",
        ),
        (
            "        vm_list_changed();\n    }\n    write_unlock(&vm_list_lock);\n",
            "    }\n    write_unlock(&vm_list_lock);\n    vm_list_changed();\n",
        ),
    ),
    bend(
        "a guest that never entered the list leaves it",
        "test_claim_9_the_tag_stays_while_nobody_comes_or_goes",
        ("    if ( !list_empty(&ctx->vm_list) )\n", "    if ( true )\n"),
    ),
    bend(
        "the version is published before the guest is in the list",
        "test_claim_9_a_guest_that_enters_finds_everybody",
        ("        ffa_partinfo_vm_enter(ctx);\n", ""),
        (
            "        ACCESS_ONCE(ctx->guest_vers) = ctx->asked_vers;\n",
            "        ACCESS_ONCE(ctx->guest_vers) = ctx->asked_vers;\n"
            "        ffa_partinfo_vm_enter(ctx);\n",
        ),
        file="ffa.c",
    ),
    bend(
        "descriptors of the SPMC are taken for 24 bytes each",
        "test_claim_11_descriptors_of_the_spmc_may_be_larger",
        ("ffa_rx + n * fpi_size", "ffa_rx + n * sizeof(*fpi)"),
    ),
    bend(
        "a later window loses its first descriptor",
        "test_claim_13_a_window_can_start_anywhere",
        ("w->total >= w->start && w->total < w->end", "w->total > w->start && w->total < w->end"),
    ),
    bend(
        "guests are not counted once the window is full",
        "test_claim_13_the_walk_finds_every_partition_once_as_partition_info_get_does",
        ("    w->total = total;\n", ""),
    ),
    bend(
        "IDs without bit 15 are listed",
        "test_a_partition_without_bit_15_is_listed_if_it_can_be_talked_to",
        ("        if ( FFA_ID_IS_SECURE(fpi->id) )\n", "        if ( true )\n"),
    ),
    bend(
        "a list that does not fit into RX is cut short",
        "test_a_list_that_does_not_fit_is_no_memory",
        ("if ( !ret && w.total > w.end )", "if ( false )"),
    ),
    bend(
        "registers beyond the results keep what was in them",
        "test_a_guest_of_1_2_finds_them_zero",
        ("    for ( n = 8; n <= 17; n++ )\n", "    for ( n = 8; n < 8; n++ )\n"),
        file=HEADER,
    ),
    bend(
        "the last register beyond the results keeps what was in it",
        "test_a_guest_of_1_2_finds_them_zero",
        ("n <= 17; n++", "n < 17; n++"),
        file=HEADER,
    ),
    bend(
        "registers of a guest of 1.1 beyond the results are zeroed",
        "test_a_guest_from_before_1_2_finds_them_as_they_were",
        ("ACCESS_ONCE(ctx->guest_vers) < FFA_VERSION_1_2", "!ACCESS_ONCE(ctx->guest_vers)"),
        file=HEADER,
    ),
    bend(
        "banked registers of a 32-bit guest are zeroed",
        "test_a_32_bit_guest_finds_them_as_they_were",
        ("    if ( !is_64bit_domain(d) ||\n         ACCESS_ONCE", "    if ( ACCESS_ONCE"),
        file=HEADER,
    ),
]
"""Further ones of our own."""

BENDS = [*V1, *FURTHER]
USUAL = [*V1, *FURTHER[5::10]]
"""What is tried where nobody asks for all."""


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


def bent_copy(series: Tree, mistake: Bend, into: Path) -> Path:
    """Make the mistake in a copy of the tree, most of which is links to the original."""
    here, parts = into, MEDIATOR.parts
    for depth, part in enumerate(parts):
        here = here / part
        here.mkdir()
        for each in (series.root.joinpath(*parts[: depth + 1])).iterdir():
            if depth + 1 == len(parts):
                shutil.copy(each, here)
            elif each.name != parts[depth + 1]:
                (here / each.name).symlink_to(each)
    source = here / mistake.file
    text = source.read_text()
    for old, new in mistake.changes:
        assert old in text, f"the series has no {old!r} any more"
        text = text.replace(old, new)
    source.write_text(text)
    return into


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
