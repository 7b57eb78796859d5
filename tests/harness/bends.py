# SPDX-License-Identifier: GPL-2.0-only
"""Mistakes that can be made in the example series, each with the test that finds it.

A bend is a substitution on the patched source. The suite must find every one of them
(test_example_series.py), and docs/tutorial.md makes a first draft of some.
"""

from __future__ import annotations

import difflib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from ffashim.source import Tree

SERIES = Path(__file__).parents[2] / "examples" / "partition-info-get-regs"
PATCHES = sorted(SERIES.glob("*.patch"))
MEDIATOR = Path("xen/arch/arm/tee")
PARTINFO = "ffa_partinfo.c"
HEADER = "ffa_private.h"


@dataclass(frozen=True)
class Bend:
    """A mistake: what to replace by what in the patched source, and the test that finds it."""

    name: str
    found_by: str
    changes: tuple[tuple[str, str], ...]
    file: str = PARTINFO

    def apply(self, series: Tree) -> str:
        """Return the text of the file, from the tree with the series, with the mistake in it."""
        text = (series.root / MEDIATOR / self.file).read_text()
        for old, new in self.changes:
            assert old in text, f"the series has no {old!r} any more"
            text = text.replace(old, new)
        return text

    def diff(self, series: Tree) -> str:
        """Return the mistake as a patch on top of the series, with one line of context."""
        name = str(MEDIATOR / self.file)
        before = (series.root / name).read_text()
        lines = difflib.unified_diff(
            before.splitlines(keepends=True),
            self.apply(series).splitlines(keepends=True),
            f"a/{name}",
            f"b/{name}",
            n=1,
        )
        return "".join(lines)


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

DRAFT = [
    next(each for each in BENDS if each.name == name)
    for name in (
        "registers that should be zero are checked",
        "the size of the SPMC's descriptors must be 24",
        "half of the UUID is compared",
        "guests are not counted once the window is full",
        "a change of the tag while the reply is built goes unnoticed",
        "the count changes before the lock is taken",
        "the version is published before the guest is in the list",
    )
]
"""Those of the tutorial's first draft, in the order in which it mends them: all of V1, and more."""


def draft_name(number: int, mistake: Bend) -> str:
    """Return the name of the draft's patch that makes the mistake; they are counted from 1."""
    slug = re.sub(r"\W+", "-", mistake.name.replace("'s", "s")).strip("-")
    return f"draft-{number}-{slug}.patch"


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
    (here / mistake.file).write_text(mistake.apply(series))
    return into
