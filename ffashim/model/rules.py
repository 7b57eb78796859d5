# SPDX-License-Identifier: GPL-2.0-only
"""What FF-A allows to become of a call: what holds for all calls, then the call's own rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from ffashim.errors import FfashimError
from ffashim.ffa import FFA, NOTIFICATIONS, V1_0, V1_2, FfaError, is_64bit, is_ffa
from ffashim.model.exchange import Plan
from ffashim.model.outcome import Outcome, error, unknown, unsupported
from ffashim.model.profile import Profile
from ffashim.model.registers import ANYTHING, Call
from ffashim.model.state import Guest, System

Rule = Callable[[System, Guest, Call], Iterable[Plan]]
_rules: dict[int, Rule] = {}

SINCE_1_2 = frozenset({FFA.PARTITION_INFO_GET_REGS, FFA.MSG_SEND_DIRECT_REQ2})
"""A caller of an earlier version does not have them (13.9, 15.4)."""
SINCE_1_1 = frozenset({FFA.MSG_SEND2, FFA.SPM_ID_GET, *NOTIFICATIONS, FFA.NOTIFICATION_INFO_GET_32})
"""Later than 1.0 (chapters 15 and 17, 13.11)."""
PHYSICAL = frozenset(
    {FFA.NOTIFICATION_BITMAP_CREATE, FFA.NOTIFICATION_BITMAP_DESTROY, FFA.RX_ACQUIRE}
)
"""A hypervisor's own requests, at the physical instance only (17.1, 17.2, 13.4)."""
LIKE_ALL_RESULTS = frozenset({FFA.ERROR, FFA.SUCCESS_32, FFA.SUCCESS_64, FFA.INTERRUPT})
"""Answers: no requests at the virtual instance (chapter 12)."""
BELOW = {
    FFA.MSG_SEND_DIRECT_REQ_32: FFA.MSG_SEND_DIRECT_REQ_32,
    FFA.MSG_SEND_DIRECT_REQ_64: FFA.MSG_SEND_DIRECT_REQ_64,
    FFA.MSG_SEND_DIRECT_REQ2: FFA.MSG_SEND_DIRECT_REQ2,
    FFA.RUN: FFA.RUN,
    FFA.MEM_SHARE_32: FFA.MEM_SHARE_64,
    FFA.MEM_SHARE_64: FFA.MEM_SHARE_64,
    FFA.MEM_RECLAIM: FFA.MEM_RECLAIM,
    FFA.NOTIFICATION_BIND: FFA.NOTIFICATION_BIND,
    FFA.NOTIFICATION_UNBIND: FFA.NOTIFICATION_UNBIND,
    FFA.NOTIFICATION_SET: FFA.NOTIFICATION_SET,
}
"""What is between guests and secure partitions only: there if the SPMC has this function."""
OF_BOTH_WORLDS = {
    FFA.MSG_SEND2: FFA.MSG_SEND2,
    FFA.NOTIFICATION_GET: FFA.NOTIFICATION_GET,
    FFA.NOTIFICATION_INFO_GET_32: FFA.NOTIFICATION_GET,
    FFA.NOTIFICATION_INFO_GET_64: FFA.NOTIFICATION_GET,
}
"""What is between guests too: there if the SPMC has this function, or guests send messages."""


CALLERS_FAULT = frozenset({FfaError.INVALID_PARAMETERS, FfaError.DENIED, FfaError.BUSY})
"""What a caller is told of its arguments and buffers."""


class NotModelled(FfashimError):
    """The hypervisor implements the call, and the model does not know it yet."""


def rule(*fids: FFA) -> Callable[[Rule], Rule]:
    """Register what a function's outcomes are."""

    def register(function: Rule) -> Rule:
        _rules.update((int(fid), function) for fid in fids)
        return function

    return register


def modelled(profile: Profile, fid: int) -> bool:
    """Whether the model knows what becomes of a function: one that is not there is known."""
    return fid in _rules or fid not in profile.calls


def exists(system: System, guest: Guest, fid: int) -> bool:
    """Whether a guest has a function at its version and width."""
    if fid not in system.profile.calls or fid in PHYSICAL or fid in LIKE_ALL_RESULTS:
        return False
    if guest.bits == 32 and is_64bit(fid):
        return False  # SMCCC 1.2, 2.5: the 64-bit convention is for AArch64
    if guest.version == V1_0 and fid in system.profile.withheld_from_1_0:
        return False
    below = system.secure.calls
    if fid in BELOW and BELOW[FFA(fid)] not in below:
        return False
    if fid in OF_BOTH_WORLDS and OF_BOTH_WORLDS[FFA(fid)] not in below:
        return system.profile.messages
    return fid not in SINCE_1_2 or (guest.version is not None and guest.version >= V1_2)


def predict(system: System, call: Call) -> list[Plan]:
    """Return all that may become of a call. Raises NotModelled."""
    return list(_plans(system, call))


def _plans(system: System, call: Call) -> Iterator[Plan]:
    guest = system.guest(call.caller)
    fid = call.fid
    if not is_ffa(fid):
        # SMCCC 1.2, chapter 6: somebody else's. Nothing of FF-A's may move.
        yield Outcome((ANYTHING,) * 18, system, "not a function of FF-A")
        return
    if guest.bits == 32 and call.wide:
        where = "SMCCC 1.2, 2.5: a 32-bit guest has no 64-bit calls"
        for each in _before_and_after(system, guest):
            yield unknown(each, call, where)
        return
    if fid == FFA.VERSION:
        yield from _rules[fid](system, guest, call)
        return
    if guest.version is None:
        yield from unsupported(system, call, "13.2.1: no call before FFA_VERSION has agreed on one")
        return
    if not exists(system, guest, fid):
        for each in _before_and_after(system, guest):
            yield from unsupported(each, call, "chapter 12: a call that is not there")
            if exists(_with_all_below(each), guest, fid):
                # It is the SPMC that lacks it: what is wrong with the call may be found first.
                yield error(each, call, "chapter 12: the SPMC lacks it", *CALLERS_FAULT)
        return
    if fid not in _rules:
        raise NotModelled(f"{call} is not in the model yet")
    system = system.settled(guest)
    yield from _rules[fid](system, system.guest(guest.id), call)


def _with_all_below(system: System) -> System:
    return replace(system, secure=replace(system.secure, calls=frozenset(FFA)))


def _before_and_after(system: System, guest: Guest) -> tuple[System, ...]:
    """Whether a call that is not there makes the version final is left open (13.2.1)."""
    settled = system.settled(guest)
    return (system,) if settled == system else (system, settled)
