# SPDX-License-Identifier: GPL-2.0-only
"""Arm's FF-A ACS: its cases, and what becomes of them where the caller is a guest of Xen.

The identifiers are those of its test databases (test/common/test_database_*.c at 7dcc13b, May
2026). A case that applies has a test of that name in tests/acs, which does the guest's part of it;
of the others it is said here why they do not.

``python -m ffashim.clients.acs NAME=REPORT...`` prints docs/acs.md: each REPORT is what ``ffashim
check -k acs --json`` wrote about a tree, NAME the heading of its column.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

APPLIES: Mapping[str, tuple[str, ...]] = {
    "setup and discovery": (
        "ffa_features",
        "ffa_features_intr",
        "ffa_id_get",
        "ffa_partition_info_get",
        "ffa_partition_info_get_regs",
        "ffa_rx_release",
        "ffa_rxtx_map_and_unmap",
        "ffa_version",
        "ffa_version_negotiation",
        "mp_execution_contexts",
        "rxtx_exclusive_access",
        "up_migrate_capable",
    ),
    "messages": (
        "ffa_direct_message2",
        "ffa_direct_message_32",
        "ffa_direct_message_64",
        "ffa_direct_message_error",
        "ffa_direct_message_error1",
        "ffa_msg_send2",
        "ffa_msg_send2_uuid_check",
        "ffa_run",
        "ffa_run_direct_req",
        "vm_to_sp_preempt",
        "vm_to_up_sp_preempt",
    ),
    "memory": (
        "ffa_mem_perm_get",
        "ffa_mem_perm_set",
        "ffa_mem_share",
        "mem_security_state_ns_bit_share_invalid",
        "reclaim_input_error_checks",
        "share_input_error_checks",
        "share_input_error_checks1",
        "share_input_error_checks2",
        "share_invalid_handle_tag",
        "share_lower_upper_boundary_32_vmsp",
        "share_lower_upper_boundary_64_vmsp",
        "share_ro_retrieve_rw_32_vmsp",
        "share_ro_retrieve_rw_64_vmsp",
        "share_state_machine_5",
    ),
    "notifications": (
        "notification_bind",
        "notification_comp",
        "notification_get",
        "notification_info_get",
        "notification_set",
        "notification_unbind",
        "sp_signals_vm",
        "vm_to_sp_notification",
    ),
}
"""The cases that apply, by the part that they are in: tests/acs has a file for each."""

EXCLUDED: Mapping[str, tuple[str, ...]] = {
    "Xen has no FFA_MEM_DONATE, as it documents.": (
        *("ffa_mem_donate", "mem_donate_impdef", "mem_donate_mmio", "donate_sepid"),
        *("donate_input_error_checks", "donate_input_error_checks1", "donate_input_error_checks2"),
        *("donate_input_error_checks3", "donate_input_error_checks4", "donate_invalid_handle_tag"),
        *(f"donate_lower_upper_boundary_{n}_{who}" for n in (32, 64) for who in ("spsp", "vmvm")),
        *(f"donate_mem_access_after_donate_{n}_{who}" for n in (32, 64) for who in ("sp", "vm")),
        *("donate_retrieve_align_hint_check", "donate_retrieve_with_address_range"),
        *(f"donate_retrieve_input_checks{n}" for n in range(1, 7)),
        *(f"donate_state_machine_{n}" for n in range(1, 6)),
        "mem_security_state_ns_bit_donate_invalid",
    ),
    "Xen has no FFA_MEM_LEND, as it documents.": (
        *("ffa_mem_lend", "mem_lend_impdef", "mem_lend_mmio", "lend_sepid"),
        *("lend_cache_attr", "lend_cache_attr1", "lend_device_attr", "lend_device_attr1"),
        *(f"lend_input_error_checks{n or ''}" for n in range(5)),
        "lend_invalid_handle_tag",
        *(
            f"lend_{case}_{n}_{who}"
            for case in ("lower_upper_boundary", "retrieve_mem_access")
            for n in (32, 64)
            for who in ("spsp", "vmsp", "vmvm")
        ),
        *(f"lend_mem_access_after_lend_{n}_{who}" for n in (32, 64) for who in ("sp", "vm")),
        *("lend_multi_borrower_flag_check", "lend_multiple_retrievals"),
        *("lend_retrieve_align_hint_check", "lend_retrieve_with_address_range"),
        *(f"lend_retrieve_input_checks{n or ''}" for n in range(11)),
        *("lend_ro_retrieve_rw", "lend_rw_retrieve_ro"),
        *(f"lend_shareability_attr{n or ''}" for n in range(4)),
        *(f"lend_state_machine_{n}" for n in range(1, 7)),
        "mem_security_state_ns_bit_lend_invalid",
        "reclaim_zero_flag",
        *(f"relinquish_state_machine_{n}" for n in range(2, 6)),
        *("share_state_machine_2", "share_state_machine_3", "share_state_machine_4"),
    ),
    "Xen takes one borrower, as it documents.": (
        *("mem_share_impdef", "share_multi_borrower_flag_check", "share_sepid_multiple_borrowers"),
        *("share_state_machine_1", "share_state_machine_6"),
    ),
    "Xen shares normal memory only, as it documents: write-back, inner shareable.": (
        *("mem_share_mmio", "share_cache_attr", "share_device_attr", "share_device_attr1"),
        *("share_retrieve_input_checks", "share_shareability_attr", "share_shareability_attr1"),
    ),
    "Xen shares memory with secure partitions only, as it documents.": (
        *(f"share_lower_upper_boundary_{n}_vmvm" for n in (32, 64)),
        *(f"share_ro_retrieve_rw_{n}_vmvm" for n in (32, 64)),
        "relinquish_mem_unmap_check_vmvm",
    ),
    "Between secure partitions: Xen is not in it.": (
        *(f"share_lower_upper_boundary_{n}_spsp" for n in (32, 64)),
        *(f"share_ro_retrieve_rw_{n}_spsp" for n in (32, 64)),
        *("relinquish_mem_unmap_check_spsp", "ffa_direct_message_error2", "ffa_msg_send2_sp"),
        "sp_to_sp_blocked",
    ),
    "What it tests is the retrieval, between the partition and the SPMC; the guest's part is that "
    "of `ffa_mem_share`.": (
        *("mem_security_state_ns_bit_retrieve_check", "relinquish_mem_unmap_check_vmsp"),
        *("share_multiple_retrievals", "share_relinquish_input_checks"),
        *("share_retrieve_align_hint_check", "share_retrieve_with_address_range"),
        "share_rw_retrieve_ro",
    ),
    "About devices behind an SMMU.": ("share_sepid", "static_mapping_dma"),
    "Xen has no FFA_MEM_RETRIEVE_REQ for guests, as it documents.": ("ffa_features_nsbit",),
    "Of 1.0: Xen has no FFA_MSG_SEND, as it documents.": ("ffa_msg_send", "ffa_msg_send_error"),
    "Xen has no FFA_MSG_WAIT for guests, as it documents.": ("ffa_msg_wait_rx_buff_rel",),
    "Optional, and not reported by Xen: the suite skips it.": (
        *("ffa_console_log", "ffa_spm_id_get"),
    ),
    "Partitions in EL3 are the SPMD's to describe.": ("ffa_partition_info_get_lsp",),
    "Guests receive no direct requests, as Xen documents.": ("direct_msg_sp_to_vm",),
    "The hypervisor's call, at the physical instance.": (
        *("notification_bitmap_create", "notification_bitmap_destroy"),
    ),
    "Xen has global notifications only, as it documents.": (
        *("vm_to_sp_notification_pcpu", "vm_to_sp_notification_pcpu_el0"),
    ),
    "The same as the case without `_el0` or `_sp`, seen from the guest.": (
        *("vm_to_sp_notification_el0", "sp_signals_vm_sp"),
    ),
    "How the SPMC and its partitions take interrupts: not seen from a guest.": (
        *("ns_int_precedence", "ns_intr_queued", "other_secure_int1", "other_secure_int2"),
        *("other_secure_int6", "other_secure_int7", "s_int_ec_blocked", "s_int_sp_preempt"),
        *("sp_el0_blocked", "sp_el0_running", "sp_el1_int_mask", "sp_el1_running"),
        *("sp_preempted_el0", "sp_preempted_el1", "sp_waiting_el0", "sp_waiting_el1"),
        *("sp_yield_spmc_mode", "vm_to_sp_managed_exit"),
        *(f"vm_to_sp_managed_exit_{n}" for n in range(1, 5)),
    ),
}
"""Why the others do not apply to a guest of Xen."""

OUTCOMES = ("failed", "known_defect", "passed", "not_applicable")
"""Outcomes of `ffashim check`: of the parts of a case the first of these is the case's."""
_TEST = re.compile(r"test_(\w+?)(?:__\w+)?(?:\[.*\])?$")


def identifier(test: str) -> str:
    """Return the case that a test is named after: what follows two underscores is a part of it."""
    found = _TEST.match(test)
    assert found, test
    return found.group(1)


def outcomes(report: Mapping[str, Any]) -> dict[str, tuple[str, set[str]]]:
    """Return what became of each case in a report of `ffashim check`, and why."""
    found: dict[str, tuple[str, set[str]]] = {}
    for tree in report["trees"]:
        for abi in tree["abis"]:
            if not abi["file"].startswith("acs/"):
                continue
            for test in abi["tests"]:
                case, outcome = identifier(test["name"]), test["outcome"]
                before, reasons = found.get(case, ("not_applicable", set()))
                found[case] = min(before, outcome, key=OUTCOMES.index), reasons
                if outcome in ("failed", "known_defect") or outcome == before:
                    reasons |= {test["reason"]} - {""}
    return found


def told(outcome: str, reasons: Iterable[str]) -> str:
    """Return the words of a cell."""
    if outcome == "passed":
        return "passed"
    why = "; ".join(sorted(reasons))
    return f"{ {'known_defect': 'failed', 'not_applicable': 'n/a'}.get(outcome, outcome) }: {why}"


def document(reports: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of docs/acs.md."""
    applying = sum(map(len, APPLIES.values()))
    excluded = sum(map(len, EXCLUDED.values()))
    yield from (_HEAD.format(applying=applying, total=applying + excluded)).splitlines()
    columns = {name: outcomes(report) for name, report in reports.items()}
    for part, cases in APPLIES.items():
        yield from ("", f"## {part.capitalize()}", "")
        yield f"| case | {' | '.join(columns)} |"
        yield f"|---|{'---|' * len(columns)}"
        for case in cases:
            cells = (told(*column[case]) for column in columns.values())
            yield f"| `{case}` | {' | '.join(cells)} |"
    yield from ("", "## Not applicable", "", "| why | cases |", "|---|---|")
    for reason, cases in EXCLUDED.items():
        yield f"| {reason} | {', '.join(f'`{case}`' for case in sorted(cases))} |"


_HEAD = """\
# Arm's FF-A ACS

Its cases, by their identifiers, where the caller is a guest of Xen: {applying} of {total} apply.
Each of those has a test in [tests/acs](../tests/acs), which does the guest's part against the real
handlers; `ffashim check -k acs` runs them. A case has passed if it did so without and with VM to VM
messages, where the tree has them. One that failed has a finding, or asks for more than FF-A does:
see [findings](../findings/README.md).

Printed by `ffashim.clients.acs`, which holds the lists."""


def main(arguments: Iterable[str]) -> None:
    """Print the document about reports, NAME=FILE each."""
    pairs = (each.partition("=") for each in arguments)
    reports = {name: json.loads(Path(file).read_text()) for name, _, file in pairs}
    sys.stdout.write("\n".join(document(reports)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
