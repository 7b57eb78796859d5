# SPDX-License-Identifier: GPL-2.0-only
"""Why some mutants are not noticed: nobody could tell, or the suite does not look.

A mutant is named by its key: the function, the operator and a hash of the statement and of what
becomes of it. It holds in every tree in which the statement reads the same. A pattern, as in a
shell, names many; so does the hash of a condition, which a report in JSON shows as ``within``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ffashim import capabilities
from ffashim.defects import Defect
from ffashim.defects.buffers import HIDES_BUFFERS, TAKES_UNALIGNED
from ffashim.defects.features import MINDS_SBZ
from ffashim.defects.lifecycle import FORGETS_FAILED_VM
from ffashim.defects.memory import DROPS_TAG, IGNORES_SHARE_FLAGS
from ffashim.machine import Machine
from ffashim.mutants.source import Mutant


@dataclass(frozen=True)
class Reason:
    """Why these mutants survive."""

    why: str
    keys: tuple[str, ...] = ()
    within: tuple[str, ...] = ()
    """All that depends on one of these conditions."""
    equivalent: bool = True
    """No guest and no SPMC can tell them from the original, or both are right: they do not count.
    """
    defect: Defect | None = None
    """Only on trees that have it: behind it nothing is reached."""


REASONS: Sequence[Reason] = (
    Reason("one host thread runs the machine: memory ordering is not modelled", ("*/barrier/*",)),
    Reason(
        "never reached on this tree, which does not look for FFA_RX_ACQUIRE",
        within=("791d6fc7",),
        defect=HIDES_BUFFERS,
    ),
    Reason(
        "this tree rounds addresses of buffers down: their lowest bits do not count",
        ("ffa_handle_rxtx_map/bound/e1dabb0a", "ffa_handle_rxtx_map/bound/023cb762"),
        defect=TAKES_UNALIGNED,
    ),
    Reason(
        "never reached: an SPMC without FFA_PARTITION_INFO_GET is given up at boot",
        (
            "ffa_handle_partition_info_get/error/d41e4441",
            "ffa_handle_partition_info_get/assignment/db060513",
            "ffa_handle_partition_info_get/condition/649aaa02",
            "ffa_handle_partition_info_get/bound/ff2ba462",
        ),
        within=("d70bff92",),
    ),
    Reason(
        "the teardown after a failed creation, which it is for, finds no context on this tree",
        ("vm_destroy_bitmap_init/jump/744417ff",),
        defect=FORGETS_FAILED_VM,
    ),
    Reason(
        "the handle of a share is read, and then used for nothing",
        ("read_mem_transaction/assignment/b9cc3967*",),
    ),
    Reason(
        "a share that the SPMC answers by FFA_MEM_FRAG_RX fails, and its handle is dropped",
        (
            "ffa_mem_share/argument/20e6bedd",
            "ffa_mem_share/condition/2eb5ff17",
            "ffa_spmc_share/bound/797edf02",
        ),
    ),
    Reason(
        "FF-A is given up at this point: nothing reads what is cleared",
        (
            "uninit_subscribers/assignment/73d2676d",
            "ffa_probe/call/ec593a29",
            "ffa_rxtx_destroy/assignment/bbaaf9a4",
        ),
    ),
    Reason(
        "whether the SPMC reports FFA_VERSION is asked, and then used for nothing",
        ("ffa_probe/constant/745f1215", "ffa_probe_fw/constant/28056327"),
    ),
    Reason(
        "where Xen's own pages come from is below the mediator",
        ("ffa_rxtx_init/constant/4ae023f8",),
    ),
    Reason(
        "no function ID that Xen asks for is out of its table's bounds",
        within=("93d15e8f",),
    ),
    Reason(
        "how often an SP that is not ready is asked before Xen gives up on it is Xen's own choice",
        (
            "ffa_direct_req_send_vm/constant/ad7a8e8b",
            "ffa_direct_req_send_vm/constant/2919a671",
            "ffa_direct_req_send_vm/constant/3ef43cab",
        ),
    ),
    Reason(
        "which error an answer of the SPMC that is none becomes is not said",
        ("ffa_get_ret_code/error/00c2da31",),
    ),
    Reason(
        "it is read only where there are buffers, and set when there are",
        ("rxtx_unmap/assignment/74ce014e",),
    ),
    Reason(
        "a byte more than a page: no descriptor of Xen's ends there",
        ("share_shm/arithmetic/77eb343f",),
    ),
    Reason(
        "which of the registers that should be zero it refuses: any is one too many",
        ("handle_features/constant/c2a53b60",),
        defect=MINDS_SBZ,
    ),
    Reason(
        "one element behind an array is read: the sanitizers see it, no guest can",
        ("is_in_subscr_list/comparison/95dbbc05",),
        equivalent=False,
    ),
    Reason(
        "one byte behind a local variable is written: the sanitizers see it, no guest can",
        ("*/bound/52920661",),
        equivalent=False,
    ),
    Reason(
        "a later minor version and the same one come to the same",
        (
            "handle_version/comparison/032c9631",
            "ffa_probe_fw/comparison/33974848",
            "ffa_probe_fw/bound/61aa7d68",
            "ffa_probe/comparison/ff42ca05",
        ),
    ),
    Reason(
        "the answer is no version either way, and is looked at again",
        ("ffa_get_version/constant/81407fb5",),
    ),
    Reason(
        "x2 and x3 of FFA_MSG_SEND_DIRECT_RESP2 are reserved: the SPMC has them zero",
        ("ffa_finish_direct_req_run/argument/cd981a96",),
    ),
    Reason(
        "what is behind it has to be larger still: the next check refuses the same",
        (
            "read_mem_transaction/bound/0bb7d220",
            "read_mem_transaction/bound/25e7cc66*",
            "read_mem_transaction/bound/73514665",
            "ffa_handle_partition_info_get/comparison/4e4e05d1",
        ),
    ),
    Reason(
        "never reached: without its buffers for the SPMC Xen uses no firmware",
        (
            "share_shm/error/684e5170",
            "ffa_rxtx_init/return/271cd424",
            "ffa_handle_rxtx_map/jump/0aafff6b",
        ),
    ),
    Reason(
        "never reached: so many partitions as Xen takes always fit into a page",
        ("ffa_get_sp_partinfo/check/f92a1e3c",),
    ),
    Reason(
        "there are two messages, and both are known",
        (
            "ffa_direct_req_send_vm/condition/415201be",
            "ffa_direct_req_send_vm/error/d268724b",
        ),
    ),
    Reason(
        "an SPMC returns no bitmap that it was not asked for",
        ("ffa_handle_notification_get/mask/f459886f",),
    ),
    Reason(
        "the timer is set for the first guest that waits, which nobody else takes off the list",
        ("ffa_teardown_timer_callback/condition/6ea77ecc*",),
    ),
    Reason(
        "how long it waits until it looks again is Xen's own choice",
        ("ffa_domain_teardown_continue/bound/01b14b1d",),
    ),
    Reason(
        "never reached: a range that wraps around is refused at its first page",
        ("get_shm_pages/return/3ca47e59",),
    ),
    Reason(
        "notifications of a vCPU: by which error they are refused is not said",
        ("ffa_handle_notification_bind/error/69644ebe",),
    ),
    Reason(
        "which version is in use after one of another major was asked for is not said",
        ("ffa_negotiate_version/assignment/9fefff0b",),
    ),
    Reason(
        "between the two regions of a descriptor there may be a gap",
        ("ffa_handle_rxtx_map/constant/1cb7718d",),
    ),
    Reason(
        "a descriptor of a whole page: whether so much is taken of the SPMC is Xen's own choice",
        ("ffa_sp_list_cache_init/bound/b5be749e",),
    ),
    Reason(
        "a region that ends a byte too late holds no range: it is refused as that",
        ("ffa_handle_mem_share/bound/03e1623d",),
    ),
    Reason(
        "never so: a list has the caller in it, or a UUID that somebody has",
        ("ffa_handle_partition_info_get_regs/check/2abbca61",),
    ),
    Reason(
        "this tree reads the flags of a share, and uses them for nothing",
        ("read_mem_transaction/assignment/ffbf2744",),
        defect=IGNORES_SHARE_FLAGS,
    ),
    Reason(
        "with which error a domain without FF-A is refused is between Xen and its toolstack",
        ("ffa_domain_init/error/878f6da4",),
    ),
    Reason(
        "the name of an interrupt's handler is for Xen's console",
        ("ffa_notif_init_interrupt/swap/48de511d",),
    ),
    Reason(
        "whether an SPMC without FFA_MSG_SEND_DIRECT_REQ_32 is of any use is Xen's own choice",
        ("ffa_partinfo_init/clause/8a7eba52",),
    ),
    Reason(
        "this tree drops the tag: what it reads of it is used for nothing",
        ("read_mem_transaction/assignment/5c3e99f8*",),
        defect=DROPS_TAG,
    ),
    Reason(
        "flags that are all ones are no share's: to refuse them is as right",
        ("read_mem_transaction/comparison/969f3399",),
    ),
    Reason(
        "registers that should be zero and are not: the error is not said",
        ("handle_features/error/3dd5fbb4",),
    ),
    Reason(
        "an SPMC that has FFA_MSG_SEND2 is taken to have FFA_RX_ACQUIRE",
        ("ffa_handle_msg_send2/error/5b9e475a",),
    ),
    Reason(
        "never so: RX is a page at least, and an entry is smaller",
        within=("567d9ff1",),
    ),
    Reason(
        "a start that is not below the count is not below 0 either",
        ("ffa_handle_partition_info_get_regs/clause/e8f20204",),
    ),
    Reason(
        "there are never so many endpoints that the count has 16 bits",
        ("ffa_handle_partition_info_get_regs/constant/ae723c63",),
    ),
    Reason(
        "it is in memory that was zero when it was allocated",
        ("ffa_domain_init/assignment/f3845619",),
    ),
    Reason(
        "which CPU a timer runs on, and whether others may share an interrupt's line, shows to"
        " nobody outside",
        ("ffa_probe/constant/b8ca53db", "ffa_notif_init/constant/a6c901d5"),
    ),
    Reason(
        "what is cleared too much is written, or cleared, just behind",
        ("share_shm/bound/80ac5d14",),
    ),
)


def reasons_on(machine: Machine, reasons: Sequence[Reason] = REASONS) -> list[Reason]:
    """Return the reasons that hold on a tree."""
    return [
        reason
        for reason in reasons
        if reason.defect is None or capabilities.probe(machine, reason.defect.probe)
    ]


def find(mutant: Mutant, reasons: Sequence[Reason]) -> Reason | None:
    """Return why a mutant survives, None if that is not known."""
    for reason in reasons:
        if not set(reason.within).isdisjoint(mutant.within) or any(
            fnmatchcase(mutant.key, pattern) for pattern in reason.keys
        ):
            return reason
    return None
