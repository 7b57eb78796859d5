# SPDX-License-Identifier: GPL-2.0-only
"""Conversations that are always had: every function in every state of a guest that matters to it.

What is drawn at random comes on top. Each conversation is a few calls that lead to a state, one
that is asked about, and what a guest does then: it lets go of all that it has, and goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ffashim.defaults import MAILBOX
from ffashim.descriptors import (
    CompositeRegion,
    Constituent,
    IndirectMessage,
    MemoryAccess,
    MemoryTransaction,
)
from ffashim.ffa import FFA, MEM_PERM_RW, Version
from ffashim.model.inputs import PAGES, doublewords, words
from ffashim.model.script import Script, Step, Who
from ffashim.model.structures import MESSAGE, TRANSACTION, bent
from ffashim.traffic import NO_SP, SP

_TX, _RX, _MORE, *_ = PAGES
_ME, _OTHER = Who(0), Who(1)
_ID, _OTHER_ID = 2, 3
_MESSAGE = "message"
_SHARE = "share"
"""Stand for calls whose argument lies in TX."""

Call = Sequence[int] | str

_START: Sequence[Call] = [[FFA.VERSION, 0x1_0002]]
_MAPPED: Sequence[Call] = [*_START, [FFA.RXTX_MAP_64, _TX, _RX, 1]]
STATES: Mapping[str, Sequence[Call]] = {
    "new": [],
    "negotiating": _START,
    "of 1.0": [[FFA.VERSION, 0x1_0000], [FFA.RXTX_MAP_64, _TX, _RX, 1]],
    "of 1.1": [[FFA.VERSION, 0x1_0001], [FFA.RXTX_MAP_64, _TX, _RX, 1]],
    "with buffers": _MAPPED,
    "with a full RX": [*_MAPPED, [FFA.PARTITION_INFO_GET]],
    "with shared memory": [*_MAPPED, _SHARE],
    "with notifications": [*_MAPPED, [FFA.NOTIFICATION_BIND, SP << 16 | _ID, 0, 5]],
}
"""What a guest may have done before."""

CALLS: Sequence[Call] = [
    *([FFA.VERSION, version] for version in (0x1_0000, 0x1_0001, 0x1_0003, 0x2_0000, 1 << 31)),
    [FFA.ID_GET],
    [FFA.SPM_ID_GET],
    [FFA.RXTX_MAP_64, _TX, _RX, 1],
    [FFA.RXTX_MAP_32, _TX, _RX, 1],
    [FFA.RXTX_MAP_64, _MORE, _MORE, 1],
    [FFA.RXTX_MAP_64, _TX, _RX, 33],
    [FFA.RXTX_UNMAP],
    [FFA.RXTX_UNMAP, _OTHER_ID << 16],
    [FFA.RX_RELEASE],
    [FFA.PARTITION_INFO_GET],
    [FFA.PARTITION_INFO_GET, 0, 0, 0, 0, 1],
    [FFA.PARTITION_INFO_GET, *words(MAILBOX)],
    [FFA.PARTITION_INFO_GET_REGS],
    [FFA.PARTITION_INFO_GET_REGS, *doublewords(MAILBOX)],
    [FFA.PARTITION_INFO_GET_REGS, 0, 0, 99],
    *([fid, _ID << 16 | whom, 0, 7]
      for fid in (FFA.MSG_SEND_DIRECT_REQ_32, FFA.MSG_SEND_DIRECT_REQ_64)
      for whom in (SP, NO_SP, _OTHER_ID)),
    [FFA.MSG_SEND_DIRECT_REQ_32, _OTHER_ID << 16 | SP],
    [FFA.MSG_SEND_DIRECT_REQ2, _ID << 16 | SP, *doublewords(MAILBOX), 7],
    [FFA.RUN, SP << 16],
    _MESSAGE,
    _SHARE,
    [FFA.MEM_RECLAIM, 1, 0, 0],
    [FFA.NOTIFICATION_BIND, SP << 16 | _ID, 0, 2],
    [FFA.NOTIFICATION_UNBIND, SP << 16 | _ID, 0, 5],
    [FFA.NOTIFICATION_SET, _ID << 16 | SP, 0, 1],
    [FFA.NOTIFICATION_GET, _ID, 5],
    [FFA.NOTIFICATION_INFO_GET_32],
    [FFA.NOTIFICATION_INFO_GET_64],
    [0x8400_00EF],
]  # fmt: skip
"""What is asked about."""

_ENDING: Sequence[Call] = [[FFA.RX_RELEASE], [FFA.RXTX_UNMAP]]

_LAYOUTS = {"of 1.1": Version(1, 1), "with buffers": Version(1, 2)}
"""States in which what lies in TX is looked at, and how it is laid out there."""


def scripts() -> list[Script]:
    """Return the conversations: each call in each state, one that asks for each feature, and one
    for each field of what a guest puts into TX.
    """
    features = [[FFA.FEATURES, each] for each in (*FFA, 1, 2, 3)]
    told = [_script(STATES[state], _steps(features)) for state in _LAYOUTS]
    asked = [_script(before, _steps([call])) for before in STATES.values() for call in CALLS]
    return [*told, *asked, *_bent()]


def _bent() -> Iterator[Script]:
    """Yield conversations in which a field is bent in each way, one after the other."""
    for state, version in _LAYOUTS.items():
        for message in (_message(SP), _message(_OTHER_ID)):
            for path, values in MESSAGE.items():
                sent = (_sent(bent(message, path, value), version) for value in values)
                yield _script(STATES[state], [step for steps in sent for step in steps])
        for path, values in TRANSACTION.items():
            sent = (_sent(bent(_share(), path, value), version) for value in values)
            yield _script(STATES[state], [step for steps in sent for step in steps])


def _script(before: Sequence[Call], asked: Iterable[Step]) -> Script:
    guests = [Step("guest", (64,), {"vcpus": 1, "domid": who.number + 1}, who)
              for who in (_ME, _OTHER)]  # fmt: skip
    other = [_call(_OTHER, each) for each in _MAPPED if not isinstance(each, str)]
    steps = [*_steps(before), *asked, *_steps(_ENDING)]
    return Script({}, (*guests, *other, *steps, Step("destroy", (_ME,))))


def _steps(calls: Iterable[Call]) -> Iterator[Step]:
    for call in calls:
        if call == _SHARE:
            yield from _sent(_share(), Version(1, 2))
        elif call == _MESSAGE:
            yield from _sent(_message(_OTHER_ID), Version(1, 2))
        elif not isinstance(call, str):
            yield _call(_ME, call)


def _share() -> MemoryTransaction:
    region = CompositeRegion((Constituent(_MORE, 1),))
    return MemoryTransaction(_ID, (MemoryAccess(SP, MEM_PERM_RW),), region)


def _message(receiver: int) -> IndirectMessage:
    return IndirectMessage(_ID, receiver, b"hello")


def _sent(what: IndirectMessage | MemoryTransaction, version: Version) -> Iterator[Step]:
    yield Step("put", (_ME, _TX, what, version))
    if isinstance(what, MemoryTransaction):
        length = len(what.encode(version))
        yield _call(_ME, [FFA.MEM_SHARE_64, length, length])
    else:
        yield _call(_ME, [FFA.MSG_SEND2])
        yield _call(_OTHER, [FFA.RX_RELEASE])  # so that the next one finds room


def _call(who: Who, registers: Sequence[int]) -> Step:
    return Step("call", (who, *registers), {"vcpu": 0, "scarce": 0})
