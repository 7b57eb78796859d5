# SPDX-License-Identifier: GPL-2.0-only
"""Notifications (FF-A 1.1, chapter 17; 1.2, chapters 9 and 10).

Those of the secure world are the SPMC's to keep: the hypervisor passes requests on, and tells a
guest by an interrupt. Its own is one: that RX is full.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from ffashim.ffa import (
    FFA,
    ID_SECURE,
    NOTIF_GET_HYP,
    NOTIF_GET_SP,
    NOTIF_GET_SPM,
    NOTIF_GET_VM,
    NOTIF_INFO_LISTS_SHIFT,
    NOTIF_RX_BUFFER_FULL,
    FfaError,
)
from ffashim.model.exchange import Answer, Plan, relayed, request
from ffashim.model.outcome import Outcome, error, high, success
from ffashim.model.registers import LOW, ZERO, Call, Registers, answer, exactly, function
from ffashim.model.rules import rule
from ffashim.model.state import Guest, Source, System

INVALID = FfaError.INVALID_PARAMETERS
BELOW = NOTIF_GET_SP | NOTIF_GET_SPM
"""Flags of FFA_NOTIFICATION_GET for what the SPMC keeps."""
EVERY = BELOW | NOTIF_GET_VM | NOTIF_GET_HYP
NOT_OF_GUESTS = frozenset({FfaError.NOT_SUPPORTED, INVALID, FfaError.DENIED})
"""Guests do not notify guests here: FF-A has no one code for it."""


@rule(FFA.NOTIFICATION_BIND, FFA.NOTIFICATION_UNBIND)
def bind(system: System, guest: Guest, call: Call) -> Iterator[Plan]:
    """w1 who may notify, and whom; w2 flags; w3 and w4 which (17.3, 17.4)."""
    sender, receiver = call.w(1) >> 16, call.w(1) & 0xFFFF
    errors: set[FfaError] = set()
    if receiver != guest.id or sender == guest.id:
        errors.add(INVALID)
    if not sender & ID_SECURE:
        errors |= NOT_OF_GUESTS
    if call.fid == FFA.NOTIFICATION_BIND and call.w(2):
        # Xen documents: "only supports global notifications". Other flags are MBZ.
        errors |= {FfaError.DENIED, FfaError.NOT_SUPPORTED, INVALID}
    # The flags of FFA_NOTIFICATION_UNBIND are reserved (17.4).
    flags = call.fid == FFA.NOTIFICATION_BIND
    if errors:
        yield error(system, call, "17.3", *errors)
        if receiver == guest.id and not sender & ID_SECURE and not (flags and call.w(2)):
            yield _left_to_the_spmc(system, call, flags)
        return
    yield from _passed_on(system, call, flags)


@rule(FFA.NOTIFICATION_SET)
def notification_set(system: System, guest: Guest, call: Call) -> Iterator[Plan]:
    """w1 who notifies whom; w2 flags and vCPU; w3 and w4 which (17.5)."""
    sender, receiver = call.w(1) >> 16, call.w(1) & 0xFFFF
    errors: set[FfaError] = set()
    if sender != guest.id or receiver == guest.id:
        errors.add(INVALID)
    if not receiver & ID_SECURE:
        errors |= NOT_OF_GUESTS
    if errors:
        yield error(system, call, "17.5", *errors)
        if sender == guest.id and not receiver & ID_SECURE:
            yield _left_to_the_spmc(system, call, flags=True)
        return
    yield from _passed_on(system, call, flags=True)


def _passed_on(system: System, call: Call, flags: bool) -> Iterator[Plan]:
    if not (call.w(3) or call.w(4)):
        yield error(system, call, "chapter 17: no notification is named", INVALID)
    done = success(system, call, "chapter 17")
    yield relayed(system, call, "chapter 17", _request(call, flags), lambda _: [done])


def _left_to_the_spmc(system: System, call: Call, flags: bool) -> Plan:
    """A hypervisor that relays for secure partitions alone need not look at who the other one is:
    of an endpoint that is none of its own the SPMC knows nothing, and has to refuse it (17.3 to
    17.5). That it does not is no outcome.
    """
    return relayed(system, call, "chapter 17", _request(call, flags), lambda _: [])


def _request(call: Call, flags: bool) -> Registers:
    return request(
        call.fid,
        exactly(call.w(1), "endpoints"),
        exactly(call.w(2), "flags") if flags else ZERO,
        exactly(call.w(3), "notifications"),
        exactly(call.w(4), "notifications"),
    )


@rule(FFA.NOTIFICATION_GET)
def notification_get(system: System, guest: Guest, call: Call) -> Iterator[Plan]:
    """w1 vCPU and guest, w2 whose notifications; each is told once (17.6)."""
    vcpu, receiver, flags = call.w(1) >> 16, call.w(1) & 0xFFFF, call.w(2)
    if receiver != guest.id:
        yield error(system, call, "17.6", INVALID)
        return
    if vcpu >= guest.vcpus or not flags & EVERY or flags & ~EVERY:
        yield error(system, call, "17.6: vCPU or flags", INVALID)
    asked = flags & BELOW
    if not asked or FFA.NOTIFICATION_GET not in system.secure.calls:
        yield from _got(system, guest, call, (0,) * 18)
        return
    registers = request(
        FFA.NOTIFICATION_GET, exactly(call.w(1), "vCPU, VM"), exactly(asked, "flags")
    )

    def done(told: Answer) -> Iterable[Plan]:
        return _got(system, guest, call, told)

    yield relayed(system, call, "17.6", registers, done)


def _got(system: System, guest: Guest, call: Call, told: Answer) -> Iterator[Outcome]:
    """What the SPMC has told, and the hypervisor's own: w2 to w7 (Table 17.19)."""
    flags = call.w(2)
    below = [told[n] & LOW if flags & NOTIF_GET_SP else 0 for n in (2, 3)]
    spm = told[6] & LOW if flags & NOTIF_GET_SPM else 0
    full = bool(flags & NOTIF_GET_HYP) and guest.rx_full
    words = [*below, 0, 0, spm, NOTIF_RX_BUFFER_FULL if full else 0]
    names = ["of SPs", "of SPs", "of VMs", "of VMs", "of the SPM", "of the hypervisor"]
    held = [exactly(value, name) for value, name in zip(words, names, strict=True)]
    taken = guest.news - {Source.HYPERVISOR} if full else guest.news
    after = replace(guest, rx_full=guest.rx_full and not full, news=taken)
    registers = answer((function(FFA.SUCCESS_32), ZERO, *held), high(system, call))
    for news in _left(after.news, flags):
        yield Outcome(registers, system.having(replace(after, news=news)), "17.6")


def _left(news: frozenset[Source], flags: int) -> tuple[frozenset[Source], ...]:
    """Of the secure world there is nothing more to tell once all of it was asked for. Before, the
    hypervisor does not know.
    """
    fewer = news - {Source.SECURE}
    if flags & BELOW == BELOW:
        return (fewer,)
    return (news, fewer) if flags & BELOW else (news,)


@rule(FFA.NOTIFICATION_INFO_GET_32, FFA.NOTIFICATION_INFO_GET_64)
def notification_info_get(system: System, guest: Guest, call: Call) -> Iterator[Plan]:
    """Who has notifications pending, each told once (17.7): at the virtual instance the caller."""
    if not guest.news:
        yield error(system, call, "17.7", FfaError.NO_DATA)
        return
    after = system.having(replace(guest, news=frozenset()))
    first = function(FFA.SUCCESS_64 if call.wide else FFA.SUCCESS_32)
    one = exactly(1 << NOTIF_INFO_LISTS_SHIFT, "lists")
    registers = answer((first, ZERO, one, exactly(guest.id, "VM")), high(system, call))
    yield Outcome(registers, after, "17.7: global notifications of one guest")
