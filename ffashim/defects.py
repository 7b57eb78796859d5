# SPDX-License-Identifier: GPL-2.0-only
"""Defects of Xen that tests of several ABIs, or of clients, meet: a mark of each, for pytest.

A probe tells by behaviour whether a tree has the defect; it runs on a freshly booted machine with
the default secure world. What a single test meets is marked where that test stands.
"""

from __future__ import annotations

import itertools

import pytest

from ffashim.alarms import AlarmKind
from ffashim.descriptors import decode_partition_infos
from ffashim.ffa import (
    FFA,
    MEM_FLAG_CLEAR,
    PAGE_SIZE,
    PARTITION_INFO_COUNT_ONLY,
    V1_0,
    V1_1,
    FfaError,
    Version,
)
from ffashim.machine import Machine, Points
from ffashim.spmc.replies import interrupt
from ffashim.testing import described, lock_up, populate
from ffashim.traffic import (
    SP,
    bind,
    direct,
    forgets_failed_vm,
    frees_what_the_timer_needs,
    guest,
    handle_of,
    message,
    share,
    swaps_notification_halves,
    transaction,
)
from ffashim.vm import Vm

_NOTHING = 0xFFFF_FFFF
_BITS = 1 << 32 | 1


def _guest(machine: Machine, version: Version = V1_1) -> Vm:
    vm = machine.create_vm(str(version))
    vm.map_rxtx()
    return vm


# --- versions ----------------------------------------------------------------------------------


def echoes_the_version(machine: Machine) -> bool:
    """Tell whether FFA_VERSION returns what was asked for."""
    return machine.create_vm().smc(FFA.VERSION, int(V1_0)).fid == int(V1_0)


ECHOES_THE_VERSION = pytest.mark.known_defect(
    echoes_the_version, "answers with the version asked for, not with the one it implements"
)


def answers_a_change(machine: Machine) -> bool:
    """Tell whether another version is accepted, or seems to be, after other calls."""
    return machine.create_vm("1.1").smc(FFA.VERSION, int(V1_0)).fid != _NOTHING


ANSWERS_A_CHANGE = pytest.mark.known_defect(
    answers_a_change, "a change of version after other calls is not refused"
)


# --- features ----------------------------------------------------------------------------------


def _reports(vm: Vm, fid: FFA) -> bool:
    return vm.smc(FFA.FEATURES, fid).ok


def hides_interrupt(machine: Machine) -> bool:
    """Tell whether FFA_FEATURES does not know FFA_INTERRUPT."""
    return not _reports(machine.create_vm("1.1"), FFA.INTERRUPT)


HIDES_INTERRUPT = pytest.mark.known_defect(
    hides_interrupt, "FFA_INTERRUPT is not reported, though direct requests are answered with it"
)


def reports_set_in_vain(machine: Machine) -> bool:
    """Tell whether FFA_NOTIFICATION_SET is reported, and none can be set."""
    vm = machine.create_vm("1.1")
    set_one = vm.smc(FFA.NOTIFICATION_SET, vm.id << 16 | SP, 0, 1)
    return _reports(vm, FFA.NOTIFICATION_SET) and set_one.error is FfaError.NOT_SUPPORTED


REPORTS_SET_IN_VAIN = pytest.mark.known_defect(
    reports_set_in_vain,
    "NOTIFICATION_SET is reported, yet none can be set: the sender's ID is"
    " taken for the receiver's",
)


# --- RX and TX ---------------------------------------------------------------------------------


def _maps(machine: Machine, offset: int, pages: int) -> bool:
    vm = machine.create_vm("1.1")
    tx, rx = vm.memory.allocate(), vm.memory.allocate()
    return vm.smc(FFA.RXTX_MAP_64, tx + offset, rx, pages).ok


def takes_no_pages(machine: Machine) -> bool:
    """Tell whether buffers of no pages are mapped."""
    return _maps(machine, 0, 0)


TAKES_NO_PAGES = pytest.mark.known_defect(
    takes_no_pages, "buffers of no pages are mapped, and cannot be unmapped"
)


def takes_unaligned(machine: Machine) -> bool:
    """Tell whether a buffer may begin within a page."""
    return _maps(machine, 0x100, 1)


TAKES_UNALIGNED = pytest.mark.known_defect(
    takes_unaligned, "addresses that are not page aligned are rounded down"
)


def denies_where_busy(machine: Machine) -> bool:
    """Tell whether a guest that owns its RX buffer is denied another list."""
    vm = _guest(machine)
    vm.partition_info_get()
    return vm.partition_info_get().error is FfaError.DENIED


DENIES_WHERE_BUSY = pytest.mark.known_defect(
    denies_where_busy, "DENIED, not BUSY, while the guest owns its RX buffer"
)


def leaves_locks(machine: Machine) -> bool:
    """Tell whether a guest's locks are never initialised."""
    machine.forget_alarms()
    _guest(machine).partition_info_get()
    return any(alarm.kind is AlarmKind.LOCK_INIT for alarm in machine.alarms)


LEAVES_LOCKS = pytest.mark.known_defect(
    leaves_locks, "never initialises the locks of a guest's buffers and of its memory shares"
)


# --- discovery ---------------------------------------------------------------------------------


def tells_no_size(machine: Machine) -> bool:
    """Tell whether FFA_PARTITION_INFO_GET keeps the size of a descriptor to itself."""
    return _guest(machine).partition_info_get().w(3) == 0


TELLS_NO_SIZE = pytest.mark.known_defect(
    tells_no_size, "w3 does not tell the size of a descriptor: a caller cannot read its RX buffer"
)


def tells_1_0_a_size(machine: Machine) -> bool:
    """Tell whether a guest of 1.0, for which w3 is reserved, finds something there."""
    return _guest(machine, V1_0).partition_info_get().w(3) != 0


TELLS_1_0_A_SIZE = pytest.mark.known_defect(tells_1_0_a_size, "w3 is not zero for a guest of 1.0")


def tells_a_size_with_a_count(machine: Machine) -> bool:
    """Tell whether a caller that wants only a count finds something in w3."""
    return _guest(machine).partition_info_get(flags=PARTITION_INFO_COUNT_ONLY).w(3) != 0


COUNT_HAS_A_SIZE = pytest.mark.known_defect(
    tells_a_size_with_a_count, "w3 is not zero where only a count is asked"
)


def tells_no_64_bit_state(machine: Machine) -> bool:
    """Tell whether a 64-bit guest is said to run in AArch32 state."""
    if not machine.extension.enabled("FFA_VM_TO_VM"):
        return False
    vm, other = _guest(machine), machine.create_vm("1.1")
    count = vm.partition_info_get().w(2)
    # Of 24 bytes each, also where a tree does not tell.
    return described(other) not in decode_partition_infos(vm.rx.read(), count, 24)


TELLS_NO_64_BIT_STATE = pytest.mark.known_defect(
    tells_no_64_bit_state, "a 64-bit guest is described as one in AArch32 state"
)


def loses_guests(machine: Machine) -> bool:
    """Tell whether a window of GET_REGS that is to hold guests fails, with one left behind it."""
    if not machine.extension.enabled("FFA_VM_TO_VM"):
        return False
    vm = populate(machine, 0, 6)
    return vm.partition_info_get_regs().error is FfaError.INVALID_PARAMETERS


LOSES_GUESTS = pytest.mark.known_defect(
    loses_guests, "guests do not count once another one is left over: INVALID_PARAMETERS for six"
)


# --- messages ----------------------------------------------------------------------------------


def aborts_interrupted(machine: Machine) -> bool:
    """Tell whether a guest gets ABORTED where an SP was preempted."""
    machine.spmc.messages.handle(SP, lambda _request: interrupt(SP))
    return direct(guest(machine)).error is FfaError.ABORTED


ABORTS_INTERRUPTED = pytest.mark.known_defect(
    aborts_interrupted, "ABORTED for an SP that was preempted: it cannot be resumed, and stays busy"
)


def aborts_idle(machine: Machine) -> bool:
    """Tell whether a guest that runs an idle SP gets ABORTED."""
    return guest(machine).smc(FFA.RUN, SP << 16).error is FfaError.ABORTED


ABORTS_IDLE = pytest.mark.known_defect(aborts_idle, "ABORTED where an idle SP answers FFA_MSG_WAIT")


def keeps_buffers_from_the_spmc(machine: Machine) -> bool:
    """Tell whether no SPMC ever learns of a guest's buffers."""
    guest(machine)
    return not machine.spmc.buffers.state.buffers


KEEPS_TX_FROM_THE_SPMC = pytest.mark.known_defect(
    keeps_buffers_from_the_spmc,
    "never asks for FFA_RX_ACQUIRE, so the SPMC is not told of any guest's TX",
)


def keeps_filled_rx(machine: Machine) -> bool:
    """Tell whether RX that the SPMC has filled cannot be released."""
    vm = guest(machine)
    if machine.spmc.messages.send(SP, vm.id, b"x") is not None:
        return False
    return vm.smc(FFA.RX_RELEASE).error is FfaError.DENIED


KEEPS_FILLED_RX = pytest.mark.known_defect(
    keeps_filled_rx, "RX that the SPMC has filled can never be released: Xen takes it for free"
)


# --- memory ------------------------------------------------------------------------------------


def drops_tag(machine: Machine) -> bool:
    """Tell whether the tag of a memory share gets lost."""
    vm = guest(machine)
    handle = handle_of(share(vm, transaction(vm, tag=7)))
    return bool(machine.spmc.memory.shares[handle].tag == 0)


DROPS_TAG = pytest.mark.known_defect(
    drops_tag, "drops the tag: the SP that retrieves with it is refused"
)


def ignores_share_flags(machine: Machine) -> bool:
    """Tell whether memory is shared that the lender wants to be cleared."""
    vm = guest(machine)
    return share(vm, transaction(vm, flags=MEM_FLAG_CLEAR)).ok


IGNORES_SHARE_FLAGS = pytest.mark.known_defect(
    ignores_share_flags, "ignores the flags of a memory transaction"
)


def takes_more_than_tx(machine: Machine) -> bool:
    """Tell whether a share succeeds that is longer than the buffer it is to be in."""
    return guest(machine).smc(FFA.MEM_SHARE_64, PAGE_SIZE + 16, PAGE_SIZE + 16).ok


TAKES_MORE_THAN_TX = pytest.mark.known_defect(
    takes_more_than_tx, "FFA_SUCCESS, handle 0, for a descriptor longer than TX"
)


def shares_buffers(machine: Machine) -> bool:
    """Tell whether a guest can share a buffer that it has registered."""
    vm = guest(machine)
    return share(vm, transaction(vm, (vm.rx.address, 1))).ok


SHARES_BUFFERS = pytest.mark.known_defect(shares_buffers, "lets a guest share its RX/TX buffers")


# --- notifications -----------------------------------------------------------------------------

SWAPS_HALVES = pytest.mark.known_defect(
    swaps_notification_halves, "the halves of the bitmap reach the SPMC the wrong way round"
)


def answers_in_64_bits(machine: Machine) -> bool:
    """Tell whether FFA_NOTIFICATION_INFO_GET_32 has an answer of 64 bits."""
    vm = guest(machine, buffers=False)
    both = 1 << 32 | 1  # halves alike: 4.19 swaps them
    bind(vm, both)
    machine.spmc.notifications.notify(SP, vm.id, both)
    return vm.smc(FFA.NOTIFICATION_INFO_GET_32).fid == FFA.SUCCESS_64


ANSWERS_IN_64_BITS = pytest.mark.known_defect(
    answers_in_64_bits, "FFA_SUCCESS_64 in answer to FFA_NOTIFICATION_INFO_GET_32"
)


# --- guests that come, go, and meet ------------------------------------------------------------

FORGETS = pytest.mark.known_defect(
    forgets_failed_vm,
    "frees the context of a guest before its teardown: SPs are not told, the bitmaps stay",
)


FREED = pytest.mark.known_defect(
    frees_what_the_timer_needs,
    "frees the context of a domain whose teardown is to be retried: the timer runs on freed memory",
)


def keeps_bitmap(machine: Machine) -> bool:
    """Tell whether the SPMC keeps the bitmap of a guest that dies with something pending."""
    vm = guest(machine, buffers=False)
    if not bind(vm, _BITS).ok:
        return False
    machine.spmc.notifications.notify(SP, vm.id, _BITS)
    vm.destroy()
    return bool(machine.spmc.residue(vm.id))


KEEPS_BITMAP = pytest.mark.known_defect(
    keeps_bitmap, "does not collect what is pending: the SPMC keeps the bitmap, and the ID is lost"
)


def guests_deadlock(machine: Machine) -> bool:
    """Tell whether two guests can lock up four CPUs.

    Each sends to the other on one vCPU and unmaps its buffers on the other one; the calls stop
    between any two locks before all of them go on. What else may go wrong then is not looked at.
    """
    if not machine.extension.enabled("FFA_VM_TO_VM"):
        return False
    guests = [machine.create_vm("1.1", vcpus=2) for _ in range(2)]
    for one, other in (guests, guests[::-1]):
        one.map_rxtx()
        one.tx.write(message(one, other.id, b"and you?"))
    start = machine.snapshot()
    for steps in itertools.product(range(6), repeat=2):
        machine.restore(start)
        with machine.at_points(lambda _point: None, Points.LOCK | Points.UNLOCK):
            calls = []
            for n, fid in enumerate((FFA.MSG_SEND2, FFA.RXTX_UNMAP)):
                for each in guests:
                    calls.append(each.vcpus[n].start(fid))
                    for _ in range(steps[n]):
                        calls[-1].step()
        if lock_up(calls):
            return True
    return False


GUESTS_DEADLOCK = pytest.mark.known_defect(
    guests_deadlock,
    "locks the receiver's RX inside TX, RXTX_UNMAP the other way round: two guests deadlock",
)
