# SPDX-License-Identifier: GPL-2.0-only
"""From a call to the outcomes that FF-A allows: what holds for all calls, then the call's rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ffashim.errors import FfashimError
from ffashim.ffa import FFA, V1_2, is_64bit, is_ffa
from ffashim.model.outcome import Outcome, unknown, unsupported
from ffashim.model.profile import Profile
from ffashim.model.registers import ANYTHING, Call
from ffashim.model.state import Guest, System

Rule = Callable[[System, Guest, Call], Iterable[Outcome]]
_rules: dict[int, Rule] = {}

SINCE_1_2 = frozenset({FFA.PARTITION_INFO_GET_REGS, FFA.MSG_SEND_DIRECT_REQ2})
"""A caller of an earlier version does not have them (13.9, 15.4)."""
PHYSICAL = frozenset(
    {FFA.NOTIFICATION_BITMAP_CREATE, FFA.NOTIFICATION_BITMAP_DESTROY, FFA.RX_ACQUIRE}
)
"""A hypervisor's own requests, at the physical instance only (17.1, 17.2, 13.4)."""
LIKE_ALL_RESULTS = frozenset({FFA.ERROR, FFA.SUCCESS_32, FFA.SUCCESS_64, FFA.INTERRUPT})
"""Answers: no requests at the virtual instance (chapter 12)."""


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
    return fid not in SINCE_1_2 or (guest.version is not None and guest.version >= V1_2)


def predict(system: System, call: Call) -> list[Outcome]:
    """Return all that may become of a call. Raises NotModelled."""
    return list(_outcomes(system, call))


def _outcomes(system: System, call: Call) -> Iterator[Outcome]:
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
        return
    if fid not in _rules:
        raise NotModelled(f"{call} is not in the model yet")
    system = system.settled(guest)
    yield from _rules[fid](system, system.guest(guest.id), call)


def _before_and_after(system: System, guest: Guest) -> set[System]:
    """Whether a call that is not there makes the version final is left open (13.2.1)."""
    return {system, system.settled(guest)}
