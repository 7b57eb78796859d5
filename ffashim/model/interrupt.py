# SPDX-License-Identifier: GPL-2.0-only
"""The schedule receiver interrupt (FF-A 1.2, 9.5 and 10.4): the SPMC has notifications for guests.

The hypervisor asks who has some, until the SPMC has told all, and interrupts those guests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from ffashim.ffa import (
    FFA,
    NOTIF_INFO_COUNTS_SHIFT,
    NOTIF_INFO_LISTS_MASK,
    NOTIF_INFO_LISTS_SHIFT,
    NOTIF_INFO_MORE,
    NREGS,
    is_64bit,
)
from ffashim.model.exchange import Answer, Ask, Plan, request, succeeded
from ffashim.model.outcome import Outcome
from ffashim.model.registers import ANYTHING, LOW
from ffashim.model.state import Guest, Source, System

WHERE = "10.4: the schedule receiver interrupt"


def schedule_receivers(system: System) -> list[Plan]:
    """Return what must become of the interrupt. No guest has called: registers are left open."""
    if FFA.NOTIFICATION_GET not in system.profile.calls & system.secure.calls:
        return [_told(system, Counter())]
    return [_asking(system, Counter())]


def _asking(system: System, named: Counter[int]) -> Ask:
    def then(answer: Answer) -> Iterator[Plan]:
        if not succeeded(answer):
            yield _told(system, named)
            return
        everybody = named + Counter(endpoints(answer))
        if answer[2] & NOTIF_INFO_MORE:
            yield _asking(system, everybody)
        else:
            yield _told(system, everybody)

    return Ask(request(FFA.NOTIFICATION_INFO_GET_64), then, WHERE)


def endpoints(answer: Answer) -> Iterator[int]:
    """Yield the endpoint of each list in an answer: IDs of 16 bits from x3 on, each followed by
    up to three vCPUs, whose number is in x2 (Table 17.22).
    """
    size = 4 if is_64bit(answer[0] & LOW) else 2
    ids = [answer[3 + n // size] >> n % size * 16 & 0xFFFF for n in range(5 * size)]
    at = 0
    for n in range(answer[2] >> NOTIF_INFO_LISTS_SHIFT & NOTIF_INFO_LISTS_MASK):
        if at < len(ids):
            yield ids[at]
        at += 1 + (answer[2] >> NOTIF_INFO_COUNTS_SHIFT + 2 * n & 3)


def _told(system: System, named: Counter[int]) -> Outcome:
    guests = [guest for guest in system.guests if guest.id in named]
    heard = [guest for guest in guests if len(guest.offline) < guest.vcpus]
    after = system
    for guest in guests:
        after = after.having(replace(guest, news=guest.news | {Source.SECURE}))

    def again(guest: Guest) -> bool:
        return Source.SECURE in guest.news or named[guest.id] > 1

    return Outcome(
        (ANYTHING,) * NREGS,
        after,
        WHERE,
        interrupted=frozenset(each.id for each in heard if Source.SECURE not in each.news),
        reminded=frozenset(each.id for each in heard if again(each)),
    )
