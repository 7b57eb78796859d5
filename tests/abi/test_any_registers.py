# SPDX-License-Identifier: GPL-2.0-only
"""Any registers: whatever a guest puts into them, the call returns.

Its answer is one that FF-A allows, nothing is held, and the secure world hears nothing that it may
not be told. Examples are the same in every run: a failure here is one of the tree, never of chance.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ffashim import FFA, FfaError, Machine, Reply, Spmc, Vm
from ffashim.capabilities import probe
from ffashim.defects.buffers import TAKES_NO_PAGES, TRIPS_OVER_RX
from ffashim.defects.memory import KEEPS_SHARES
from ffashim.defects.messages import READS_MISSING_TX
from ffashim.memory import PAGE
from ffashim.traffic import (
    NO_SP,
    SP,
    footprint,
    guest,
    message,
    transaction,
    version_of,
)

# Known defects with tests of their own: a framework message of a guest (test_msg_send_direct_req),
# a message from a TX that the SPMC never heard of (test_msg_send2).
pytestmark = pytest.mark.spmc(tolerate=["framework-from-vm", "tx"])

DEAD = 4
"""The domain ID of a guest that has died; no example comes upon a domain ID above it."""
ANSWERS = frozenset(
    map(
        int,
        (
            FFA.SUCCESS_32, FFA.SUCCESS_64, FFA.INTERRUPT, FFA.MSG_YIELD, FFA.MSG_WAIT,
            FFA.MSG_SEND_DIRECT_RESP_32, FFA.MSG_SEND_DIRECT_RESP_64, FFA.MSG_SEND_DIRECT_RESP2,
        ),
    )
)  # fmt: skip
UNKNOWN = (0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF)
"""SMCCC's NOT_SUPPORTED, -1 in 32 and in 64 bits."""
STATUS = frozenset(error.w for error in FfaError)
KEEPS = frozenset({FFA.RXTX_MAP_32, FFA.RXTX_MAP_64, FFA.MEM_SHARE_32, FFA.MEM_SHARE_64})
"""Calls that hold something once they have succeeded."""
FREES = frozenset({FFA.RXTX_UNMAP, FFA.MEM_RECLAIM})

EXAMPLES = int(os.environ.get("FFASHIM_EXAMPLES", "150"))
"""A taste, for a check that somebody waits for; `make test` looks at more."""

same_examples = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


# --- registers ---------------------------------------------------------------------------------

ENDPOINTS = (0, 1, 2, 3, DEAD + 1, 0x7FFF, SP, 0x8002, 0x8003, NO_SP, 0xFFFF)
ADDRESSES = (0x4000_0000, 0x4000_1000, 0x4000_2000, 0x4000_2001, 0x401F_F000, 0x4020_0000)
LENGTHS = (0, 16, 32, 48, 80, 96, 112, PAGE - 1, PAGE, PAGE + 1)


def _pair(pair: tuple[int, int]) -> int:
    return pair[0] << 16 | pair[1]


values = st.one_of(
    st.just(0),
    st.sampled_from(ENDPOINTS),
    st.tuples(st.sampled_from(ENDPOINTS), st.sampled_from(ENDPOINTS)).map(_pair),
    st.sampled_from(ADDRESSES),
    st.sampled_from(LENGTHS),
    st.sampled_from([int(fid) for fid in FFA]),
    st.integers(0, 63).map(lambda bit: 1 << bit),
    st.integers(0, (1 << 64) - 1),
)
functions = st.one_of(
    st.sampled_from([int(fid) for fid in FFA]),
    st.builds(lambda n, wide: 0x8400_0000 | wide << 30 | n, st.integers(0, 0xFF), st.booleans()),
    # Calls to the silicon provider (SMCCC owner 2) go to platform code, never to a mediator.
    st.integers(0, (1 << 64) - 1).filter(lambda fid: fid >> 24 & 0x3F != 2),
)

CALLER, PEER = 2, 3
SENSIBLE: dict[FFA, tuple[int, ...]] = {
    FFA.VERSION: (0x1_0001,),
    FFA.FEATURES: (FFA.RXTX_MAP_64,),
    FFA.ID_GET: (),
    FFA.RX_RELEASE: (),
    FFA.RXTX_MAP_32: (0x4000_4000, 0x4000_5000, 1),
    FFA.RXTX_MAP_64: (0x4000_4000, 0x4000_5000, 1),
    FFA.RXTX_UNMAP: (),
    FFA.PARTITION_INFO_GET: (0, 0, 0, 0, 0),
    FFA.PARTITION_INFO_GET_REGS: (0, 0, 0),
    FFA.MSG_SEND_DIRECT_REQ_32: (CALLER << 16 | SP, 0, 1, 2, 3, 4, 5),
    FFA.MSG_SEND_DIRECT_REQ_64: (CALLER << 16 | SP, 0, 1, 2, 3, 4, 5),
    FFA.MSG_SEND_DIRECT_REQ2: (CALLER << 16 | SP, 0, 0, *range(14)),
    FFA.MSG_SEND2: (),
    FFA.RUN: (SP << 16,),
    FFA.MEM_SHARE_32: (112, 112, 0, 0),
    FFA.MEM_SHARE_64: (112, 112, 0, 0),
    FFA.MEM_RECLAIM: (1, 0x12, 0),
    FFA.NOTIFICATION_BIND: (SP << 16 | CALLER, 0, 1, 1),
    FFA.NOTIFICATION_UNBIND: (SP << 16 | CALLER, 0, 1, 1),
    FFA.NOTIFICATION_SET: (CALLER << 16 | SP, 0, 1, 1),
    FFA.NOTIFICATION_GET: (CALLER, 0xF),
    FFA.NOTIFICATION_INFO_GET_32: (),
    FFA.NOTIFICATION_INFO_GET_64: (),
}
"""Arguments with which each call that a mediator serves can succeed; what examples vary."""


def _vary(sensible: FFA, changes: list[tuple[int, int]]) -> tuple[int, list[int]]:
    registers = [*SENSIBLE[sensible], *(0,) * 17][:17]
    for n, value in changes:
        registers[n] = value
    return int(sensible), registers


varied = st.builds(
    _vary,
    st.sampled_from(list(SENSIBLE)),
    st.lists(st.tuples(st.integers(0, 5), values), max_size=2),
)
wild = st.tuples(functions, st.lists(values, max_size=17))
calls = st.sampled_from([varied, varied, varied, varied, wild]).flatmap(lambda each: each)


@dataclass(frozen=True)
class Guest:
    """Who calls."""

    bits: int
    version: str | None
    buffers: bool
    tx: str
    """What TX holds: nothing, a descriptor, a message."""


guests = st.builds(
    Guest,
    st.sampled_from([64, 64, 32]),
    st.sampled_from([None, "1.0", "1.1", "1.2"]),
    st.booleans(),
    st.sampled_from(["nothing", "descriptor", "message"]),
)


# --- the machine -------------------------------------------------------------------------------


@dataclass
class Scenes:
    """A snapshot for each kind of guest, taken when it is first needed."""

    machine: Machine
    start: object
    taken: dict[Guest, tuple[object, Vm]] = field(default_factory=dict)

    def enter(self, who: Guest) -> Vm:
        """Set up: the caller is VM 2, there is another one, 3, and one has died."""
        if who not in self.taken:
            self.machine.restore(self.start)
            vm = self.machine.create_vm(who.version, bits=who.bits, domid=1)
            guest(self.machine).partition_info_get()
            guest(self.machine).destroy()
            if who.buffers and (who.version or self._serves(vm)):
                vm.map_rxtx()
                if who.tx == "descriptor":
                    # 112 bytes in each version: where it is shorter, the region moves to the end.
                    vm.tx.write(transaction(vm, composite_offset=80).encode(version_of(vm)))
                elif who.tx == "message":
                    vm.tx.write(message(vm, SP, b"hello"))
            self.taken[who] = self.machine.snapshot(), vm
        snapshot, vm = self.taken[who]
        self.machine.restore(snapshot)
        return vm

    def _serves(self, vm: Vm) -> bool:
        before = self.machine.snapshot()
        served = vm.smc(FFA.ID_GET).ok
        self.machine.restore(before)
        return served


Avoid = Callable[[int, bool], bool]


@pytest.fixture
def avoid(xen: Machine, spmc: Spmc) -> Avoid:
    """Calls that are known to be the end of the host, or to be forgotten, on this tree.

    They have tests of their own, in test_rxtx_map.py and test_msg_send2.py.
    """
    mapping = probe(xen, TAKES_NO_PAGES.probe) or probe(xen, TRIPS_OVER_RX.probe)
    sending = probe(xen, READS_MISSING_TX.probe)
    xen.boot(spmc)

    def known(fid: int, buffers: bool) -> bool:
        fid &= 0xFFFF_FFFF
        if fid in (FFA.RXTX_MAP_32, FFA.RXTX_MAP_64):
            return bool(mapping)
        return bool(sending) and fid == FFA.MSG_SEND2 and not buffers

    return known


def allowed(fid: int, reply: Reply) -> bool:
    """Whether FF-A allows this answer (chapter 12)."""
    if reply[0] in UNKNOWN:
        return True
    if fid & 0xFFFF_FFFF == FFA.VERSION and reply.fid >> 16 == 1:
        return True
    if reply[0] == FFA.ERROR:
        return reply.w(2) in STATUS
    return reply[0] in ANSWERS


# --- properties --------------------------------------------------------------------------------


def test_a_call_returns_what_ffa_allows_and_holds_nothing(
    xen: Machine, spmc: Spmc, avoid: Avoid
) -> None:
    scenes = Scenes(xen, xen.snapshot())

    @same_examples
    @given(who=guests, call=calls)
    def holds(who: Guest, call: tuple[int, list[int]]) -> None:
        fid, registers = call
        if avoid(fid, who.buffers):
            return
        vm = scenes.enter(who)
        before = footprint(xen)
        reply = vm.smc(fid, *registers)
        assert allowed(fid, reply), f"x0 = {reply[0]:#x} is no answer: {reply}"
        if not (reply.ok and fid & 0xFFFF_FFFF in KEEPS | FREES):
            assert footprint(xen) == before
        assert not spmc.violations
        assert not xen.warnings

    holds()


def test_after_any_calls_the_guest_can_die(xen: Machine, spmc: Spmc, avoid: Avoid) -> None:
    leaks = probe(xen, KEEPS_SHARES.probe)
    xen.boot(spmc)
    scenes = Scenes(xen, xen.snapshot())

    @settings(same_examples, max_examples=max(1, EXAMPLES // 5))
    @given(who=guests, sequence=st.lists(calls, min_size=1, max_size=8))
    def holds(who: Guest, sequence: list[tuple[int, list[int]]]) -> None:
        vm = scenes.enter(who)
        for fid, registers in sequence:
            # An RXTX_UNMAP may have taken the buffers: then there is none for FFA_MSG_SEND2.
            if avoid(fid, False):
                continue
            assert allowed(fid, vm.smc(fid, *registers))
        shared = any(share.sender == vm.id for share in spmc.memory.shares.values())
        vm.destroy()
        assert not spmc.violations
        if not (leaks and shared):
            assert spmc.residue(vm.id) == []
            assert not vm.exists
        assert xen.timers == 0

    holds()
