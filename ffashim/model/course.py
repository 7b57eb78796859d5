# SPDX-License-Identifier: GPL-2.0-only
"""Conversations that are always had: each call in each world, each field bent in each way.

What is drawn at random needs luck to bend the one field of the one structure that matters, in the
one world in which it does. Where no luck is needed there are lessons: short, the same each time,
and made of the same rules.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ffashim.descriptors import NIL, Constituent
from ffashim.ffa import FFA, NOTIFICATIONS, FfaError, FrameworkMessage
from ffashim.machine import RAM_BASE
from ffashim.memory import PAGE, P2m
from ffashim.model import inputs, structures
from ffashim.model.conversations import ANSWERS, NONSENSE_AT_BOOT, WELL, Conversations
from ffashim.model.corpus import CALLS
from ffashim.model.lifecycle import BIRTH, DEATH, FOR_GOOD, PATIENCE, PAUSES, Refusal
from ffashim.traffic import SP

World = Mapping[str, Any]
"""What `Conversations.boot()` is told of the secure world."""
Lesson = Callable[[Conversations], None]

GUESTS = [(64, 2, 0x1_0002), (64, 1, 0x1_0001), (64, 1, 0x1_0000), (32, 1, 0x1_0001)]
"""Who is there: width, vCPUs, version."""
LACKS = ("below", "without", "unwilling", "scarce", "nonsense")
PLAIN: World = {"count": None, **dict(zip(LACKS, WELL, strict=True))}
OPTIONAL = (
    (FFA.RX_ACQUIRE, FFA.MSG_SEND2),
    (FFA.MSG_SEND2,),
    (FFA.MSG_SEND_DIRECT_REQ_32,),
    (FFA.MSG_SEND_DIRECT_REQ_64,),
    (FFA.MSG_SEND_DIRECT_REQ2,),
    (FFA.RUN,),
    (FFA.RXTX_MAP_64, FFA.RXTX_UNMAP, FFA.RX_RELEASE, FFA.RX_ACQUIRE, FFA.MSG_SEND2),
    (FFA.PARTITION_INFO_GET,),
    (FFA.PARTITION_INFO_GET_REGS,),
    (FFA.MEM_SHARE_64, FFA.MEM_RECLAIM),
    NOTIFICATIONS,
)
"""What an SPMC may lack, of each group all or nothing."""
WORLDS: Sequence[World] = [
    *({"below": version} for version in ("1.1", None)),
    *({"count": count} for count in (0, 1, 5, 63)),
    *({"unwilling": fid} for fid in (FFA.RXTX_MAP_64, FFA.PARTITION_INFO_GET)),
    *({"without": calls} for calls in OPTIONAL),
    *({"scarce": nth} for nth in range(1, 5)),
    *({"nonsense": each} for each in NONSENSE_AT_BOOT),
]  # fmt: skip
"""What is not as it mostly is."""
SECOND, THIRD = (inputs.PAGES[n] for n in (2, 3))
REFUSALS = (FfaError.DENIED, FfaError.NO_MEMORY, FfaError.RETRY, FfaError.INTERRUPTED, 0, 1, -99)
NONSENSE = (0, 1, FFA.ERROR, FFA.SUCCESS_64, FFA.INTERRUPT, 0x7FFF_FFFF, (1 << 64) - 1)


def lessons() -> Iterator[tuple[World, Lesson]]:
    """Yield each lesson with its world."""
    for world in ({}, *WORLDS):
        yield {**PLAIN, **world}, tour
    for lesson in _plain():
        yield PLAIN, lesson


def taught(conversation: Conversations, world: World, lesson: Lesson) -> None:
    """Boot, and give a lesson. Raises Disagreement."""
    conversation.boot(**world, first=GUESTS)
    lesson(conversation)


def _plain() -> Iterator[Lesson]:
    for path, values in structures.TRANSACTION.items():
        yield functools.partial(bent_shares, path, values)
    for path, values in structures.MESSAGE.items():
        yield functools.partial(bent_messages, path, values)
    for call in CALLS:
        if not isinstance(call, str):
            yield functools.partial(bent_calls, list(call))
    yield from (negotiations, odd_pages, held_buffers, shares_in_parts, many_shares, odd_answers)
    yield from (crowd, births, deaths, late_deaths, scarcity, vcpus_that_sleep)
    yield from (notified_together, nobodys_news)
    for what in TRIGGERS:
        yield functools.partial(refused, what)
    for fid in ANSWERS:
        yield functools.partial(garbled, fid)


# --- lessons -------------------------------------------------------------------------------------


def tour(c: Conversations) -> None:
    """All that there is, once, by each guest."""
    for who in range(len(c.pair.vms)):
        c.ask_for_features(who, [*FFA, 1, 2, 3])
        c.read_the_list(who, NIL, 1, 1)
        c.walk_the_list(who, NIL, 5)
        _share(c, who)
        c.be_notified(who, SP, 5, 15)
        c.guests_exchange_a_message(who, who + 1, b"hello", [8, 15], again=True)
        c.partition_sends_a_message(who, SP, b"hello")
        c.run_a_preempted_partition(who, SP, 0, 2)
        for call in CALLS:
            if not isinstance(call, str):
                c.say(c.vm(who), list(call))
        c.let_buffers_go(who, [FFA.RX_RELEASE, FFA.RXTX_UNMAP])
    c.go(0, None)


def bent_shares(path: str, values: Sequence[Any], c: Conversations) -> None:
    """Share memory by a descriptor with a bent field, in each version of its layout."""
    for who in range(len(GUESTS)):
        for value in values:
            _share(c, who, [(path, value)])


def _share(c: Conversations, who: int, changes: Sequence[tuple[str, Any]] = ()) -> None:
    memory = [Constituent(SECOND, 1), Constituent(THIRD + 4096, 2)]
    c.share_memory(who, [_of(memory, changes)], 0, FFA.MEM_SHARE_64, None, 0)
    c.reclaim_memory(who, who, 0, 0, 0)


def _of(memory: list[Constituent], changes: Sequence[tuple[str, Any]] = ()) -> structures.Maker:
    return functools.partial(
        structures.transaction, receiver=SP, constituents=memory, changes=changes
    )


def _page(address: int) -> structures.Maker:
    return _of([Constituent(address, 1)])


def bent_messages(path: str, values: Sequence[Any], c: Conversations) -> None:
    """Send a partition, and another guest, a message with a bent field of its header."""
    for who in (0, 1):
        for receiver in (SP, c.vm(who + 1).id):
            for value in values:
                make = functools.partial(
                    structures.message, receiver=receiver, payload=b"hello", changes=[(path, value)]
                )
                c.send_a_message(who, make, None)
                c.say(c.vm(who + 1), [FFA.RX_RELEASE])


def bent_calls(registers: list[int], c: Conversations) -> None:
    """Bend each register of a call that could succeed, in each way."""
    for n in range(1, 8):
        for how in inputs.BENDS:
            c.bend_a_call_that_could_succeed(0, inputs.bend(registers, n, how), 0x1_0002)


def odd_pages(c: Conversations) -> None:
    """Map and share what is no plain memory."""
    for kind in P2m:
        for page in range(4):
            c.let_buffers_go(0, [])
            c.say(c.vm(0), [FFA.RXTX_UNMAP])
            c.page_changes(0, page, kind)
            c.say(c.vm(0), [FFA.RXTX_MAP_64, *inputs.PAGES[:2], 1])
            _share(c, 1)
            c.page_changes(1, 2 + page, kind)
            _share(c, 1)
            c.page_changes(1, 2 + page, P2m.RAM_RW)
            c.page_changes(0, page, P2m.RAM_RW)


def negotiations(c: Conversations) -> None:
    """Ask for versions that there are not, before any other call."""
    for versions in ([0x2_0000], [0, 0x1_0003], [0x1_FFFF, 0x8000_0000], [0x2_0000, 0x1_0001]):
        c.come((64, 1, 0), None, 0)
        vm = c.pair.vms[-1]
        c.say(vm, [FFA.ID_GET])
        for version in versions:
            c.say(vm, [FFA.VERSION, version])
        c.say(vm, [FFA.ID_GET])


def held_buffers(c: Conversations) -> None:
    """A guest that has not released RX unmaps it, and goes."""
    for n in range(3):
        c.come(GUESTS[n], None, 0)
        last = len(c.pair.vms) - 1
        c.read_the_list(last, NIL, 1, 0)
        c.say(c.vm(last), [FFA.RXTX_UNMAP])
        c.go(last, None)


def shares_in_parts(c: Conversations) -> None:
    """Share memory with a first fragment only, with too much of it, and from elsewhere than TX."""
    for vm in c.pair.vms:
        tx = c.prepare(vm)
        if tx is None or not c.pair.may_call(vm, FFA.MEM_SHARE_32):
            return
        share = _page(SECOND)(vm.id)
        c.pair.put(vm, tx, share, c.version(vm))
        size = len(share.encode(c.version(vm)))
        for total, part in (
            (16, 16),
            (size + 16, size),
            (size, size + 16),
            (size, 16),
            (1 << 31, size),
        ):
            c.say(vm, [FFA.MEM_SHARE_32, total, part])
        for address, pages in ((SECOND, 1), (0, 1), (SECOND, 0)):
            c.say(vm, [FFA.MEM_SHARE_32, size, size, address, pages])
        c.say(vm, [FFA.RXTX_UNMAP])
        c.say(vm, [FFA.MEM_SHARE_32, size, size])


def many_shares(c: Conversations) -> None:
    """Share so much, and so often, that there is no room for more."""
    limits = c.pair.states[0].profile
    vm = c.pair.attempt(pages=limits.shared_regions + 8)
    assert vm is not None, "nothing is refused"
    who = c.pair.vms.index(vm)
    for n in range(limits.shared_regions + 2):
        c.share_memory(who, [_page(RAM_BASE + (n + 2) * PAGE)], 0, FFA.MEM_SHARE_64, None, 0)
    c.reclaim_memory(who, who, 0, 0, 0)
    c.share_memory(who, [_page(RAM_BASE + 2 * PAGE)] * 2, 0, FFA.MEM_SHARE_64, None, 0)
    for pages in (1, 2, 3):
        memory = [Constituent(SECOND, 4)] * (limits.shared_pages // 4 * pages)
        c.share_memory(1, [_of(memory)], 0, FFA.MEM_SHARE_64, None, 0)


def odd_answers(c: Conversations) -> None:
    """The SPMC answers a share by something else than success or an error."""
    for answer in ((FFA.MEM_FRAG_RX, 1, 0, 1 << 31), (FFA.MSG_WAIT,), (FFA.INTERRUPT,), (0,)):
        if FFA.MEM_SHARE_64 in c.pair.spmc.state.abis:
            c.pair.mislead(FFA.MEM_SHARE_64, *answer)
            _share(c, 0)


def nobodys_news(c: Conversations) -> None:
    """The SPMC tells of notifications for the hypervisor, for nobody, and for a partition."""
    for success in (FFA.SUCCESS_32, FFA.SUCCESS_64):
        for who in (0, 0x7000, SP, 0xFFFF, c.vm(1).id):
            c.pair.mislead(FFA.NOTIFICATION_INFO_GET_64, success, 0, 1 << 7, who)
            c.be_notified(0, SP, 1, 5)


def crowd(c: Conversations) -> None:
    """So many guests that lists have several windows."""
    for n in range(12):
        c.come(GUESTS[n % 4], None, 0)
        c.walk_the_list(0, NIL, 5)
        c.read_the_list(1, NIL, 1, 1)
    for start in range(14):
        c.read_on_with_the_tag(0, start, 0)


def births(c: Conversations) -> None:
    """What keeps a guest from coming."""
    for what in BIRTH:
        for code in (*REFUSALS, *PAUSES):
            c.come(GUESTS[0], Refusal(what, int(code)), 0)
            c.go(len(c.pair.vms) - 1, None)
            c.come(GUESTS[0], None, 0)
    for nth in range(1, 6):
        c.come(GUESTS[0], None, nth)


def deaths(c: Conversations) -> None:
    """What keeps a guest from going."""
    for what in DEATH:
        for code in (*FOR_GOOD, *(PAUSES if what is FrameworkMessage.VM_DESTROYED else ())):
            c.come(GUESTS[0], None, 0)
            last = len(c.pair.vms) - 1
            c.prepare(c.vm(last))
            c.be_notified(last, SP, 1, 0)
            _share(c, last)
            c.go(last, Refusal(what, int(code)))


def late_deaths(c: Conversations) -> None:
    """Partitions use what guests share when these go, and one is busy; then time passes."""
    busy = (FfaError.RETRY, FfaError.INTERRUPTED)
    for refusal in (None, *(Refusal(FrameworkMessage.VM_DESTROYED, code, 15) for code in busy)):
        for n in (0, 1):
            c.come(GUESTS[n], None, 0)
            who = len(c.pair.vms) - 1
            c.share_memory(who, [_page(SECOND), _page(THIRD)], 0, FFA.MEM_SHARE_64, None, 0)
        shares = sorted(c.pair.spmc.memory.shares)
        for handle in shares:
            c.pair.borrow(handle, back=False)
        for _ in (0, 1):
            c.go(len(c.pair.vms) - 1, refusal, used=True)
        for handle in shares:
            c.time_passes(PATIENCE)
            c.come(GUESTS[0], None, 0)
            c.go(len(c.pair.vms) - 1, None)
            c.pair.borrow(handle, back=True)
        c.time_passes(PATIENCE)


def scarcity(c: Conversations) -> None:
    """Each allocation of a call fails."""
    for nth in (1, 2, 3):
        for call in CALLS:
            if not isinstance(call, str):
                c.say(c.vm(0), list(call), scarce=nth)
        c.share_memory(0, [_page(SECOND)], 0, FFA.MEM_SHARE_64, None, nth)
        c.say(c.vm(0), [FFA.RXTX_UNMAP])
        c.say(c.vm(0), c.mapping(c.vm(0)), scarce=nth)


def vcpus_that_sleep(c: Conversations) -> None:
    """Guests are notified while one of their vCPUs, or all, are offline."""
    for asleep in ((0,), (1,), (0, 1)):
        for vcpu in asleep:
            c.vcpu_goes_on_or_off(0, vcpu, value=False)
        for vcpu in (0, 1):
            c.call_sensibly(0, [FFA.NOTIFICATION_BIND, SP << 16 | inputs.SELF, 0, 2, 0], vcpu)
        c.partition_notifies(0, 0)
        c.guests_exchange_a_message(1, 0, b"hello", [], again=False)
        for vcpu in asleep:
            c.vcpu_goes_on_or_off(0, vcpu, value=True)
        c.be_notified(0, SP, 1, 15)


def notified_together(c: Conversations) -> None:
    """One interrupt tells of several guests, of more than one answer can name at last."""
    if not c.pair.may_call(c.vm(0), FFA.NOTIFICATION_BIND):
        return
    for n in range(20):
        c.come(GUESTS[n % 4], None, 0)
    for vm in c.pair.vms:
        c.say(vm, [FFA.NOTIFICATION_BIND, SP << 16 | inputs.SELF, 0, 1])
    maps = c.pair.spmc.state.bitmaps
    bound = [vm for vm in c.pair.vms
             if vm.id in maps and any(each.bits & 1 for each in maps[vm.id].bindings)]  # fmt: skip
    for count in sorted({1, 2, 3, len(bound)} & set(range(1, len(bound) + 1))):
        c.pair.notify_all(SP, 1, *bound[:count])
        for vm in bound:
            c.say(vm, [FFA.NOTIFICATION_INFO_GET_32])
            c.say(vm, [FFA.NOTIFICATION_GET, inputs.SELF, 1])


# --- a secure world that is not well -------------------------------------------------------------


def _unmap(c: Conversations) -> None:
    c.let_buffers_go(0, [])


def _message(c: Conversations) -> None:
    make = functools.partial(structures.message, receiver=SP, payload=b"hello", changes=())
    c.send_a_message(0, make, None)


def _notify(c: Conversations) -> None:
    c.be_notified(0, SP, 1, 5)
    c.say(c.vm(0), [FFA.NOTIFICATION_SET, inputs.SELF << 16 | SP, 0, 1])


def _ask(fid: FFA, c: Conversations) -> None:
    c.say(c.vm(0), [fid, inputs.SELF << 16 | SP, 0, 0, 1, 2, 3])


TRIGGERS: Mapping[FFA, Lesson] = {
    **dict.fromkeys((FFA.RXTX_MAP_64, FFA.RXTX_UNMAP), _unmap),
    **dict.fromkeys((FFA.RX_ACQUIRE, FFA.RX_RELEASE),
                    lambda c: c.read_the_list(0, NIL, 1, 1)),
    **dict.fromkeys((FFA.MEM_SHARE_64, FFA.MEM_RECLAIM), lambda c: _share(c, 0)),
    FFA.MSG_SEND2: _message,
    **dict.fromkeys((FFA.NOTIFICATION_BIND, FFA.NOTIFICATION_UNBIND, FFA.NOTIFICATION_SET,
                     FFA.NOTIFICATION_GET, FFA.NOTIFICATION_INFO_GET_64), _notify),
    **{fid: functools.partial(_ask, fid)
       for fid in (FFA.MSG_SEND_DIRECT_REQ_32, FFA.MSG_SEND_DIRECT_REQ_64,
                   FFA.MSG_SEND_DIRECT_REQ2)},
    FFA.RUN: lambda c: c.run_a_preempted_partition(0, SP, 0, 2),
}  # fmt: skip
"""What makes a hypervisor ask the SPMC for something."""


def refused(fid: FFA, c: Conversations) -> None:
    """The SPMC refuses, in each way."""
    for code in REFUSALS:
        c.spmc_will_refuse(fid, int(code))
        TRIGGERS[fid](c)
        TRIGGERS[fid](c)


def garbled(fid: FFA, c: Conversations) -> None:
    """The SPMC's answer has nonsense in it."""
    for register in (0, 1, 2, 3, 4, 7, 8, 17):
        for value in NONSENSE:
            c.spmc_will_talk_nonsense(fid, register, int(value))
            TRIGGERS[fid](c)
