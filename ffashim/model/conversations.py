# SPDX-License-Identifier: GPL-2.0-only
"""Conversations of a whole system, drawn at random (a Hypothesis state machine).

Guests of both widths and all versions come, negotiate, call anything, hold buffers, share memory,
and go; vCPUs go on and offline; the secure world answers, refuses, is late, talks nonsense and
takes the initiative; memory runs out; time passes. Everything happens to a `Pair`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from ffashim.descriptors import IndirectMessage
from ffashim.faults import XenFault
from ffashim.ffa import FFA, FfaError, FrameworkMessage, Version
from ffashim.machine import DomainError, Machine
from ffashim.memory import PAGE, P2m
from ffashim.model import inputs, structures
from ffashim.model.deviation import Deviation
from ffashim.model.lifecycle import BIRTH, DEATH, FOR_GOOD, PAUSES, Refusal, Request
from ffashim.model.pair import RAM_PAGES, Pair
from ffashim.model.state import Guest
from ffashim.reply import Reply
from ffashim.vm import Vm

CROWD = 24
"""So many guests at most."""

whose = st.integers(0, CROWD - 1)
newcomers = st.tuples(
    st.sampled_from([64, 64, 32]),
    st.integers(1, 3),
    st.sampled_from([0x1_0002, 0, 0x1_0001, 0x1_0003, 0x1_0000]),
)
"""Width, vCPUs, and the version that it speaks from the start, if any."""
few = st.lists(newcomers, min_size=1, max_size=4)
crowds = few | few | few | st.lists(newcomers, min_size=CROWD // 2, max_size=CROWD)
worlds = st.sampled_from([None, None, None, None, 0, 1, 4, 5, 6, 11, 63])
"""How many secure partitions; None are the default ones."""
spmcs = st.sampled_from(["", "", "", "", "1.1", None])
"""The version of the SPMC: the highest that the tree takes, an older one, or there is none."""
missing = st.sampled_from(
    [(), (), (), (), (), (), (FFA.RX_ACQUIRE, FFA.MSG_SEND2), (FFA.MSG_SEND_DIRECT_REQ2,)]
)
"""What the SPMC does not implement."""
WELL: tuple[Any, ...] = ("", (), None, 0, None)
"""A secure world, and a boot, that lack nothing."""
unwilling = st.sampled_from([None] * 9 + [FFA.RXTX_MAP_64, FFA.PARTITION_INFO_GET])
"""What the SPMC refuses at boot."""
NONSENSE_AT_BOOT = [
    *((FFA.VERSION, 0, value) for value in (0, 0x2_0000, (1 << 32) - 1)),
    *((FFA.PARTITION_INFO_GET, 2, count) for count in (171, 1024, (1 << 32) - 1)),
    *((FFA.PARTITION_INFO_GET, 3, size) for size in (8, 23, 4096, (1 << 32) - 1)),
]
"""No version that goes with this one, more partitions than there is room for, sizes of their
descriptors that cannot be."""
REFUSABLE = [
    FFA.RXTX_MAP_64, FFA.RXTX_UNMAP, FFA.RX_ACQUIRE, FFA.RX_RELEASE, FFA.MEM_SHARE_64,
    FFA.MEM_RECLAIM, FFA.MSG_SEND2, FFA.NOTIFICATION_BIND, FFA.NOTIFICATION_UNBIND,
    FFA.NOTIFICATION_SET, FFA.NOTIFICATION_GET, FFA.NOTIFICATION_INFO_GET_64,
    FFA.MSG_SEND_DIRECT_REQ_32, FFA.MSG_SEND_DIRECT_REQ_64, FFA.MSG_SEND_DIRECT_REQ2, FFA.RUN,
]  # fmt: skip
"""What an SPMC may refuse at any time. It does nothing then, so that its state is as it was."""
ANSWERS = [
    FFA.MSG_SEND_DIRECT_REQ_32, FFA.MSG_SEND_DIRECT_REQ_64, FFA.MSG_SEND_DIRECT_REQ2, FFA.RUN,
    FFA.NOTIFICATION_GET,
]  # fmt: skip
"""What an SPMC may talk nonsense in answer to, with no state of its own at stake."""
codes = st.sampled_from([*FfaError, 0, 1, -99])


def none_or(
    whats: Iterable[Request], by: st.SearchStrategy[int]
) -> st.SearchStrategy[Refusal | None]:
    """Nothing is refused, or, now and then, one of these."""
    some = st.builds(lambda what, code: Refusal(what, int(code)), st.sampled_from([*whats]), by)
    return st.none() | st.none() | some


def held_up(message: FrameworkMessage) -> st.SearchStrategy[Refusal]:
    """A partition is preempted, or yields, as it is told."""
    by = st.sampled_from([*map(int, PAUSES)])
    return st.builds(Refusal, st.just(message), by, st.integers(1, 3))


class Conversations(RuleBasedStateMachine):
    """A system of guests. The first one of each conversation speaks FF-A from the start."""

    pair_type = Pair
    """What everything happens to."""

    def __init__(self, machine: Machine, deviations: Sequence[Deviation] = ()) -> None:
        super().__init__()
        self.machine = machine
        self.deviations = deviations
        self.pair: Pair

    @initialize(
        count=worlds,
        below=spmcs,
        without=missing,
        unwilling=unwilling,
        scarce=st.sampled_from([0] * 15 + [1, 2, 3, 4]),
        nonsense=st.sampled_from([*[None] * 50, *NONSENSE_AT_BOOT]),
        first=crowds,
    )
    def boot(
        self,
        count: int | None,
        below: str | None,
        without: tuple[FFA, ...],
        unwilling: FFA | None,
        scarce: int,
        nonsense: tuple[FFA, int, int] | None,
        first: list[tuple[int, int, int]],
    ) -> None:
        """Boot, and let the first guests come."""
        world = (below, without, unwilling, scarce, nonsense)
        if world != WELL and not self._offers_ffa(count, *world):
            world = WELL
        self.pair = self.pair_type(self.machine, count, self.deviations, *world)
        for each in first:
            self.admit(*each)

    def _offers_ffa(self, count: int | None, *world: Any) -> bool:
        """Whether there is FF-A for guests at all in such a world, which is Xen's own choice.

        A world that Xen does not survive is for tests/abi.
        """
        try:
            self.pair_type(self.machine, count, (), *world)
            return bool(self.machine.create_vm())
        except (DomainError, XenFault):
            return False

    # --- what rules are made of -----------------------------------------------------------------

    def admit(
        self, bits: int, vcpus: int, version: int, refusal: Refusal | None = None, scarce: int = 0
    ) -> None:
        """Let a guest come, unless the secure world or the lack of memory keeps it away."""
        vm = self.pair.attempt(bits, vcpus, refusal=refusal, scarce=scarce)
        if vm is not None and version:
            self.say(vm, [FFA.VERSION, version])
            self.say(vm, [FFA.ID_GET])

    def vm(self, who: int) -> Vm:
        """Return one of the guests that there are."""
        return self.pair.vms[who % len(self.pair.vms)]

    def guest(self, vm: Vm) -> Guest:
        """Return what the model knows of a guest: in one of the states that it may be in."""
        return self.pair.states[0].guest(vm.id)

    def say(self, vm: Vm, registers: Sequence[int], vcpu: int = 0, scarce: int = 0) -> Reply | None:
        """Make a call that the model knows."""
        if vcpu in self.guest(vm).offline or not self.pair.may_call(vm, registers[0]):
            return None
        registers = inputs.addressed(list(registers), vm.id)
        return self.pair.call(vm, *registers, vcpu=vcpu, scarce=scarce)

    def prepare(self, vm: Vm, version: int = 0x1_0002, flip: bool = False) -> int | None:
        """Let a guest have a version and buffers, if it can. Returns the address of TX."""
        if not self.guest(vm).settled:
            self.say(vm, [FFA.VERSION, version])
        if self.guest(vm).buffers is None:
            self.say(vm, self.mapping(vm, flip))
        buffers = self.guest(vm).buffers
        return buffers.tx if buffers else None

    @staticmethod
    def mapping(vm: Vm, flip: bool = False) -> list[int]:
        """Return the call that maps the first two pages."""
        fid = FFA.RXTX_MAP_64 if vm.bits == 64 else FFA.RXTX_MAP_32
        return [fid, *inputs.PAGES[:2][:: -1 if flip else 1], 1]

    def version(self, vm: Vm) -> Version:
        """Return the version of FF-A that a guest speaks, 1.1 if none yet."""
        return self.guest(vm).version or Version(1, 1)

    # --- guests come and go ---------------------------------------------------------------------

    @precondition(lambda self: len(self.pair.vms) < CROWD)
    @rule(
        who=newcomers,
        refusal=none_or(BIRTH, codes) | held_up(FrameworkMessage.VM_CREATED),
        scarce=st.sampled_from([0, 0, 0, 1, 2, 3]),
    )
    def come(self, who: tuple[int, int, int], refusal: Refusal | None, scarce: int) -> None:
        """One more guest."""
        self.admit(*who, refusal, scarce)

    @precondition(lambda self: len(self.pair.vms) > 1)
    @rule(
        who=whose,
        refusal=none_or(DEATH, st.sampled_from(FOR_GOOD)) | held_up(FrameworkMessage.VM_DESTROYED),
        used=st.booleans(),
    )
    def go(self, who: int, refusal: Refusal | None, used: bool = False) -> None:
        """One guest less, though partitions may still use its memory."""
        self.pair.destroy(self.vm(who), refusal, used)

    @rule(who=whose, vcpu=st.integers(0, 2), value=st.booleans())
    def vcpu_goes_on_or_off(self, who: int, vcpu: int, value: bool) -> None:
        """A vCPU is taken up or down."""
        vm = self.vm(who)
        vcpu %= len(vm.vcpus)
        if (vcpu in self.guest(vm).offline) is value:
            self.pair.online(vm, vcpu, value)

    @rule(who=whose, page=st.integers(0, RAM_PAGES - 1), kind=st.sampled_from(P2m))
    def page_changes(self, who: int, page: int, kind: P2m) -> None:
        """A page becomes something else to Xen, which the guest does not use as a buffer now."""
        vm = self.vm(who)
        address = vm.memory.base + page * PAGE
        if address not in self.guest(vm).held:
            self.pair.set_type(vm, address, kind)

    # --- four levels of calls -------------------------------------------------------------------

    @rule(who=whose, registers=inputs.noise)
    def make_any_call(self, who: int, registers: list[int]) -> None:
        """Random registers."""
        self.say(self.vm(who), registers)

    @rule(who=whose, registers=inputs.random_arguments)
    def call_with_any_arguments(self, who: int, registers: list[int]) -> None:
        """A function with random arguments."""
        self.say(self.vm(who), registers)

    @rule(who=whose, registers=inputs.sensible, vcpu=st.integers(0, 2))
    def call_sensibly(self, who: int, registers: list[int], vcpu: int) -> None:
        """Arguments that make sense."""
        vm = self.vm(who)
        self.say(vm, registers, vcpu % len(vm.vcpus))

    @rule(who=whose, registers=inputs.bent)
    def call_with_a_bent_field(self, who: int, registers: list[int]) -> None:
        """Arguments that make sense but for one."""
        self.say(self.vm(who), registers)

    @rule(who=whose, registers=inputs.bent, version=st.sampled_from([0x1_0002, 0x1_0001]))
    def bend_a_call_that_could_succeed(self, who: int, registers: list[int], version: int) -> None:
        """The same, in a state in which it would succeed otherwise."""
        vm = self.vm(who)
        guest = self.guest(vm)
        if guest.buffers and guest.buffers.owned:
            self.say(vm, [FFA.RX_RELEASE])
        maps = registers[0] & 0xFF == FFA.RXTX_MAP_32 & 0xFF
        if maps and guest.buffers:
            self.say(vm, [FFA.RXTX_UNMAP])
        elif not maps:
            self.prepare(vm, version)
        self.say(vm, registers)

    @rule(who=whose, registers=inputs.sensible, nth=st.integers(1, 3))
    def call_when_memory_is_scarce(self, who: int, registers: list[int], nth: int) -> None:
        """An allocation of Xen's fails."""
        self.say(self.vm(who), registers, scarce=nth)

    # --- conversations --------------------------------------------------------------------------

    @rule(who=whose, version=st.sampled_from([0x1_0000, 0x1_0001, 0x1_0002, 0x1_0003]))
    def negotiate(self, who: int, version: int) -> None:
        """A guest asks for a version, and uses it."""
        vm = self.vm(who)
        self.say(vm, [FFA.VERSION, version])
        self.say(vm, [FFA.ID_GET])

    @rule(who=whose, version=st.sampled_from([0x1_0000, 0x1_0001, 0x1_0002]), flip=st.booleans())
    def start(self, who: int, version: int, flip: bool) -> None:
        """A guest starts as drivers do."""
        vm = self.vm(who)
        self.say(vm, [FFA.VERSION, version])
        self.say(vm, self.mapping(vm, flip))

    @rule(who=whose, then=st.lists(st.sampled_from([FFA.RXTX_UNMAP, FFA.RX_RELEASE]), max_size=3))
    def let_buffers_go(self, who: int, then: list[FFA]) -> None:
        """Unmap, too often, and map again."""
        vm = self.vm(who)
        self.prepare(vm)
        for fid in (FFA.RXTX_UNMAP, *then):
            self.say(vm, [fid])
        self.say(vm, self.mapping(vm, flip=True))

    @rule(who=whose, uuid=inputs.uuids, gets=st.integers(1, 2), releases=st.sampled_from([0, 1, 2]))
    def read_the_list(self, who: int, uuid: Any, gets: int, releases: int) -> None:
        """Count, list, release; now and then without waiting for the one, or twice."""
        vm = self.vm(who)
        words = inputs.words(uuid)
        self.prepare(vm)
        self.say(vm, [FFA.PARTITION_INFO_GET, *words, 1])
        for _ in range(gets):
            self.say(vm, [FFA.PARTITION_INFO_GET, *words])
        for _ in range(releases):
            self.say(vm, [FFA.RX_RELEASE])

    @rule(who=whose, uuid=inputs.uuids, stop=st.integers(1, 5))
    def walk_the_list(self, who: int, uuid: Any, stop: int) -> None:
        """Window after window, echoing the tag."""
        vm = self.vm(who)
        fid = FFA.PARTITION_INFO_GET_REGS
        if not self.pair.may_call(vm, fid) or vm.bits == 32:
            return
        if self.guest(vm).version is None:
            self.say(vm, [FFA.VERSION, 0x1_0002])
        start = tag = 0
        for _ in range(stop):
            reply = self.say(vm, [fid, *inputs.doublewords(uuid), start | tag << 16])
            if reply is None or reply.fid != FFA.SUCCESS_64:
                return
            if reply.x2 & 0xFFFF == reply.x2 >> 16 & 0xFFFF:
                return
            start, tag = (reply.x2 >> 16 & 0xFFFF) + 1, reply.x2 >> 32 & 0xFFFF

    @rule(who=whose, start=inputs.starts, off=st.sampled_from([0, 0, 0, 1, 0xFFFF]))
    def read_on_with_the_tag(self, who: int, start: int, off: int) -> None:
        """A window somewhere in the middle."""
        tag = self.pair.states[0].tag or 0
        fid = FFA.PARTITION_INFO_GET_REGS
        self.say(self.vm(who), [fid, 0, 0, start | (tag + off & 0xFFFF) << 16])

    @rule(who=whose, what=st.lists(st.sampled_from([*FFA, 1, 2, 3]), min_size=1, max_size=8))
    def ask_for_features(self, who: int, what: list[int]) -> None:
        """What is there?"""
        for each in what:
            self.say(self.vm(who), [FFA.FEATURES, each])

    # --- memory ---------------------------------------------------------------------------------

    @rule(
        who=whose,
        makes=st.lists(structures.transactions, min_size=1, max_size=4),
        off=st.sampled_from([0] * 9 + [-1, 1, 16, -16]),
        fid=st.sampled_from([FFA.MEM_SHARE_64, FFA.MEM_SHARE_32]),
        wrong=st.sampled_from([None] * 12 + [Version(1, 0), Version(1, 1), Version(1, 2)]),
        scarce=st.sampled_from([0] * 12 + [1, 2]),
    )
    def share_memory(
        self,
        who: int,
        makes: list[structures.Maker],
        off: int,
        fid: FFA,
        wrong: Version | None,
        scarce: int,
    ) -> None:
        """Share memory with a partition, by descriptors that may be bent."""
        vm = self.vm(who)
        tx = self.prepare(vm)
        if tx is None or not self.pair.may_call(vm, fid):
            return
        if vm.bits == 32:
            fid = FFA.MEM_SHARE_32
        version = wrong or self.version(vm)
        for make in makes:
            structure = make(vm.id)
            self.pair.put(vm, tx, structure, version)
            length = max(0, len(structure.encode(version)) + off)
            self.say(vm, [fid, length, length], scarce=scarce)

    @rule(
        who=whose,
        make=structures.plain_transactions,
        flags=st.sampled_from([0, 0, 1, 2, 3]),
        times=st.sampled_from([1, 1, 2]),
    )
    def share_and_reclaim(self, who: int, make: structures.Maker, flags: int, times: int) -> None:
        """Share memory as drivers do, and take it back; once too often now and then."""
        vm = self.vm(who)
        tx = self.prepare(vm)
        if tx is None or not self.pair.may_call(vm, FFA.MEM_SHARE_32):
            return
        structure, version = make(vm.id), self.version(vm)
        self.pair.put(vm, tx, structure, version)
        length = len(structure.encode(version))
        reply = self.say(vm, [FFA.MEM_SHARE_32, length, length])
        if reply is not None and reply.ok:
            for _ in range(times):
                self.say(vm, [FFA.MEM_RECLAIM, reply.w(2), reply.w(3), flags])

    @rule(
        who=whose,
        whom=whose,
        nth=st.integers(0, 3),
        flags=st.sampled_from([0, 0, 0, 0, 1, 2, 3, 4, 1 << 31]),
        off=st.sampled_from([0] * 9 + [1, 1 << 32, 1 << 63]),
    )
    def reclaim_memory(self, who: int, whom: int, nth: int, flags: int, off: int) -> None:
        """Reclaim what a guest shares; now and then it is another guest's."""
        shares = sorted(self.guest(self.vm(whom)).shares, key=lambda region: region.handle)
        if shares:
            handle = shares[nth % len(shares)].handle ^ off
            self.say(self.vm(who), [FFA.MEM_RECLAIM, *inputs.halves(handle), flags])

    @rule(nth=st.integers(0, 3), back=st.booleans())
    def partition_uses_memory(self, nth: int, back: bool) -> None:
        """A partition retrieves what is shared with it, or relinquishes it."""
        shares = sorted(self.pair.spmc.memory.shares)
        if shares:
            self.pair.borrow(shares[nth % len(shares)], back)

    # --- messages -------------------------------------------------------------------------------

    @rule(who=whose, make=structures.messages, wrong=st.sampled_from([None] * 6 + ["other"]))
    def send_a_message(self, who: int, make: structures.Maker, wrong: str | None) -> None:
        """Send an indirect message, which may be bent."""
        vm = self.vm(who)
        tx = self.prepare(vm)
        if tx is None or not self.pair.may_call(vm, FFA.MSG_SEND2):
            return
        new = self.version(vm) >= Version(1, 2)
        self.pair.put(vm, tx, make(vm.id), Version(1, 2 if new ^ bool(wrong) else 1))
        self.say(vm, [FFA.MSG_SEND2])

    @rule(
        who=whose,
        whom=whose,
        payload=structures.payloads,
        asks=st.lists(st.sampled_from([8, 8, 5, 4, 15]), max_size=3),
        again=st.booleans(),
    )
    def guests_exchange_a_message(
        self, who: int, whom: int, payload: bytes, asks: list[int], again: bool
    ) -> None:
        """A guest sends another one a message, which looks at it; a second one may be too many."""
        sender, receiver = self.vm(who), self.vm(whom)
        if sender is receiver or not self.pair.may_call(sender, FFA.MSG_SEND2):
            return
        tx = self.prepare(sender)
        if tx is None or self.prepare(receiver, 0x1_0001, flip=True) is None:
            return
        message = IndirectMessage(sender.id, receiver.id, payload)
        self.pair.put(sender, tx, message, max(self.version(sender), Version(1, 1)))
        self.say(sender, [FFA.MSG_SEND2])
        self.say(receiver, [FFA.NOTIFICATION_INFO_GET_32])
        for flags in asks:
            self.say(receiver, [FFA.NOTIFICATION_GET, receiver.id, flags])
        if again:
            self.say(sender, [FFA.MSG_SEND2])
        self.say(receiver, [FFA.RX_RELEASE])

    @rule(who=whose, sp=inputs.partitions, payload=structures.payloads)
    def partition_sends_a_message(self, who: int, sp: int, payload: bytes) -> None:
        """A partition sends a guest an indirect message."""
        if self.pair.firmware:
            self.pair.send(sp, self.vm(who), payload)

    @rule(who=whose, registers=inputs.requests)
    def ask_a_partition(self, who: int, registers: list[int]) -> None:
        """A request that a partition answers."""
        vm = self.vm(who)
        if not self.guest(vm).settled:
            self.say(vm, [FFA.VERSION, 0x1_0002])
        self.say(vm, registers)

    @rule(who=whose, sp=inputs.partitions, vcpu=inputs.vcpus, times=st.integers(1, 3))
    def run_a_preempted_partition(self, who: int, sp: int, vcpu: int, times: int) -> None:
        """A partition does not finish at once: the guest runs it again."""
        vm = self.vm(who)
        fid = FFA.MSG_SEND_DIRECT_REQ_32
        if not self.pair.may_call(vm, fid) or not self.pair.firmware:
            return
        self.pair.preempt(fid, times)
        self.say(vm, [fid, inputs.SELF << 16 | sp, 0, 1, 2, 3])
        for _ in range(times):
            self.say(vm, [FFA.RUN, sp << 16 | vcpu])

    # --- notifications --------------------------------------------------------------------------

    @rule(
        who=whose, sp=inputs.partitions, bits=inputs.notifications, ask=st.sampled_from([5, 1, 15])
    )
    def be_notified(self, who: int, sp: int, bits: int, ask: int) -> None:
        """Bind notifications, get them, collect them, let them go."""
        vm = self.vm(who)
        if not self.pair.may_call(vm, FFA.NOTIFICATION_BIND):
            return
        words = inputs.halves(bits)
        self.say(vm, [FFA.NOTIFICATION_BIND, sp << 16 | inputs.SELF, 0, *words])
        self.partition_notifies(who, 0)
        self.say(vm, [FFA.NOTIFICATION_INFO_GET_32])
        self.say(vm, [FFA.NOTIFICATION_GET, inputs.SELF, ask])
        self.say(vm, [FFA.NOTIFICATION_UNBIND, sp << 16 | inputs.SELF, 0, *words])

    @rule(who=whose, nth=st.integers(0, 3))
    def partition_notifies(self, who: int, nth: int) -> None:
        """A partition sets notifications that a guest has bound."""
        vm = self.vm(who)
        maps = self.pair.spmc.state.bitmaps.get(vm.id)
        if maps is not None and maps.bindings:
            binding = maps.bindings[nth % len(maps.bindings)]
            self.pair.notify(binding.sender, vm, binding.bits)

    # --- a secure world that is not always well -------------------------------------------------

    @rule(fid=st.sampled_from(REFUSABLE), code=codes)
    def spmc_will_refuse(self, fid: FFA, code: int) -> None:
        """The SPMC refuses the next request of a kind."""
        if fid in self.pair.spmc.state.abis:
            self.pair.answer(fid, int(code))

    @rule(fid=st.sampled_from(ANSWERS), register=st.integers(0, 17), value=inputs.numbers)
    def spmc_will_talk_nonsense(self, fid: FFA, register: int, value: int) -> None:
        """A register of the next answer of a kind holds something else."""
        if fid in self.pair.spmc.state.abis:
            self.pair.garble(fid, register, value)

    @rule(seconds=st.sampled_from([0.5, 1.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        """Timers come due."""
        self.pair.advance(seconds)
