# SPDX-License-Identifier: GPL-2.0-only
"""Why some code of the mediator is reached by no test, by the function that it is in.

Each sentence is about what is left of its function when the suite has run, on Debian's 4.20.3 with
and without the example series, and on upstream's master of November 2026. Trees differ, so one may
be about code that another tree does not have; a test that reaches it all the same proves it wrong,
and it is to go then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_NO_FIRMWARE = "Firmware without this is not used at all, so it is there whenever this is asked."
_UNASKED = (
    "Trees that never ask the SPMC for FFA_RX_ACQUIRE take it to have none, whatever it has: see "
    "findings/old-rx-tx.md."
)
_SPMC_BUFFERS = "Without its buffers for the SPMC Xen uses no firmware, and nobody asks for them."
_IMPLIED = "Xen takes an SPMC that has FFA_MSG_SEND2 to have FFA_RX_ACQUIRE, so none is without."
_TEE = "The machine has one mediator, no `tee=` on Xen's command line, and asks for no other type."

REASONS: Mapping[str, Sequence[str]] = {
    # ffa.c
    "handle_features": (_IMPLIED,),
    "ffa_handle_call": (
        "A 64-bit call of a 32-bit guest ends in vsmc.c, before it reaches the mediator.",
    ),
    "ffa_endpoint_domain_lookup": ("Every caller wants the context as well.",),
    "ffa_domain_init": (
        "Without firmware and VM to VM there is no mediator that a domain could be given. The "
        "set-up of a guest's buffers has nothing that could fail.",
    ),
    "ffa_teardown_timer_callback": (
        "The timer is set for the first guest that waits, which nobody else takes off the list.",
    ),
    # ffa_msg.c
    "ffa_handle_msg_send2": (_IMPLIED,),
    # ffa_notif.c, ffa_private.h
    "ffa_raise_rx_buffer_full": (
        "Of a receiver whose context was looked up; without VM to VM it is empty and not called.",
    ),
    "notif_vm_pend_intr": ("Every domain has its table of vCPUs.",),
    "ffa_set_regs": ("Who is answered has a context.",),
    "ffa_fw_supports_fid": ("Every function that is asked for is within the bitmap.",),
    "ffa_safe_addr_add": (
        "A range that wraps around is refused at its first page: no RAM lies that high. Its length "
        "is bounded by what a guest may share.",
    ),
    # ffa_partinfo.c
    "ffa_get_sp_partinfo": ("So many partitions as Xen takes always fit into a page.",),
    "ffa_get_vm_partinfo": ("There is room for the caller behind so many partitions.",),
    "ffa_handle_partition_info_get": (
        "A guest's RX is a page, which has room for a descriptor. Trees that ask the SPMC each "
        "time use none without FFA_PARTITION_INFO_GET and buffers.",
    ),
    "ffa_handle_partition_info_get_regs": (
        "A list has the caller in it, or a UUID that somebody has; nothing but its room ends it. "
        "The way out has an error each time.",
    ),
    "ffa_direct_req_send_vm": ("There are two messages, and both are known.",),
    "ffa_partinfo_init": (_SPMC_BUFFERS,),
    "ffa_partinfo_domain_init": (_NO_FIRMWARE,),
    "ffa_partinfo_domain_destroy": (
        "Who is done is passed over when others are asked again. Trees that free the context of a "
        "domain before (findings/teardown-timer-on-freed-context.md) crash then, and a call that "
        "breaks off does not count.",
    ),
    # ffa_rxtx.c
    "ffa_handle_rxtx_map": (_UNASKED, _SPMC_BUFFERS),
    "rxtx_unmap": (_UNASKED,),
    "ffa_rx_acquire": (_UNASKED,),
    "ffa_rx_release": (_UNASKED,),
    "ffa_tx_acquire": ("RX and TX come and go together.",),
    "ffa_rxtx_spmc_rx_acquire": (_SPMC_BUFFERS,),
    "ffa_rxtx_spmc_tx_acquire": (_SPMC_BUFFERS,),
    "ffa_rxtx_destroy": ("RX is the first to be allocated: there is no TX without it.",),
    "ffa_rxtx_spmc_destroy": ("RX is the first to be allocated: there is no TX without it.",),
    # ffa_shm.c
    "ffa_mem_reclaim": (
        "What an SPMC without FFA_MEM_RECLAIM was lent is asked for at the end of the guest only.",
    ),
    "ffa_spmc_reclaim": (
        "What an SPMC without FFA_MEM_RECLAIM was lent is asked for at the end of the guest only.",
    ),
    "get_shm_pages": (
        "A range that wraps around is refused at its first page: no RAM lies that high.",
    ),
    "dec_ctx_shm_count": (
        "The pages, which are let go after it, hold the domain as well: this is not the last.",
    ),
    "free_ffa_shm_mem": ("It is called with a region in hand.",),
    "share_shm": (_SPMC_BUFFERS,),
    "ffa_handle_mem_share": (
        "That an access descriptor is whole, and within what was sent, was checked just before.",
    ),
    # tee.c
    "tee_domain_init": (_TEE,),
    "tee_relinquish_resources": (
        "The machine relinquishes what is a mediator's, and asks for nothing where there is none.",
    ),
    "tee_init": (_TEE,),
    "init_tee_secondary": (_TEE,),
    "tee_free_domain_ctx": (_TEE,),
}
