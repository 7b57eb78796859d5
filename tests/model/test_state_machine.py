# SPDX-License-Identifier: GPL-2.0-only
"""The model and the real handlers, side by side: guests come, talk and go, until the two differ.

FFASHIM_MODEL=1 runs it. It draws at random, and what two known defects of a tree make of each
other is not all modelled yet, so what it finds has to be looked at, and it is no part of a check.
FFASHIM_EXAMPLES scales how many conversations there are; --hypothesis-seed repeats a run.
"""

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ffashim import FFA, Machine, Vm
from ffashim.model import Deviation, Pair, inputs, known_of
from ffashim.model.deviations import DEVIATIONS

EXAMPLES = int(os.environ.get("FFASHIM_EXAMPLES", "150"))
STEPS = 30
CROWD = 8

whose = st.integers(0, CROWD - 1)
newcomers = st.tuples(
    st.sampled_from([64, 64, 32]),
    st.integers(1, 3),
    st.sampled_from([0x1_0002, 0, 0x1_0001, 0x1_0003, 0x1_0000]),
)
"""Width, vCPUs, and the version that it speaks from the start, if any."""
partitions = st.sampled_from([None, None, 0, 1, 4, 5, 6, 11])


class Conversations(RuleBasedStateMachine):
    """A system of guests. The first one of each conversation speaks FF-A from the start."""

    def __init__(self, machine: Machine, deviations: list[Deviation]) -> None:
        super().__init__()
        self.machine = machine
        self.deviations = deviations
        self.pair: Pair

    @initialize(count=partitions, first=st.lists(newcomers, min_size=1, max_size=CROWD))
    def boot(self, count: int | None, first: list[tuple[int, int, int]]) -> None:
        self.pair = Pair(self.machine, count, self.deviations)
        for each in first:
            self.admit(*each)

    def admit(self, bits: int, vcpus: int, version: int) -> None:
        vm = self.pair.guest(bits, vcpus)
        if version:
            self.say(vm, [FFA.VERSION, version])
            self.say(vm, [FFA.ID_GET])

    def vm(self, who: int) -> Vm:
        return self.pair.vms[who % len(self.pair.vms)]

    @staticmethod
    def mapping(vm: Vm, flip: bool = False) -> list[int]:
        fid = FFA.RXTX_MAP_64 if vm.bits == 64 else FFA.RXTX_MAP_32
        return [fid, *inputs.PAGES[:2][:: -1 if flip else 1], 1]

    def say(self, vm: Vm, registers: list[int]) -> None:
        if self.pair.may_call(vm, registers[0]):
            self.pair.call(vm, *registers)

    # --- guests come and go ---------------------------------------------------------------------

    @precondition(lambda self: len(self.pair.vms) < CROWD)
    @rule(who=newcomers)
    def come(self, who: tuple[int, int, int]) -> None:
        self.admit(*who)

    @precondition(lambda self: len(self.pair.vms) > 1)
    @rule(who=whose)
    def go(self, who: int) -> None:
        self.pair.destroy(self.vm(who))

    # --- four levels of calls -------------------------------------------------------------------

    @rule(who=whose, registers=inputs.noise)
    def make_any_call(self, who: int, registers: list[int]) -> None:
        self.say(self.vm(who), registers)

    @rule(who=whose, registers=inputs.random_arguments)
    def call_with_any_arguments(self, who: int, registers: list[int]) -> None:
        self.say(self.vm(who), registers)

    @rule(who=whose, registers=inputs.sensible)
    def call_sensibly(self, who: int, registers: list[int]) -> None:
        self.say(self.vm(who), registers)

    @rule(who=whose, registers=inputs.bent)
    def call_with_a_bent_field(self, who: int, registers: list[int]) -> None:
        self.say(self.vm(who), registers)

    @rule(who=whose, registers=inputs.bent, version=st.sampled_from([0x1_0002, 0x1_0001]))
    def bend_a_call_that_could_succeed(self, who: int, registers: list[int], version: int) -> None:
        vm = self.vm(who)
        guest = next(iter(self.pair.states)).guest(vm.id)
        if not guest.settled:
            self.say(vm, [FFA.VERSION, version])
        if guest.buffers and guest.buffers.owned:
            self.say(vm, [FFA.RX_RELEASE])
        maps = registers[0] & 0xFF == FFA.RXTX_MAP_32 & 0xFF
        if maps and guest.buffers:
            self.say(vm, [FFA.RXTX_UNMAP])
        elif not (maps or guest.buffers):
            self.say(vm, self.mapping(vm))
        self.say(vm, registers)

    # --- conversations ---------------------------------------------------------------------------

    @rule(who=whose, version=st.sampled_from([0x1_0000, 0x1_0001, 0x1_0002, 0x1_0003]))
    def negotiate(self, who: int, version: int) -> None:
        vm = self.vm(who)
        self.say(vm, [FFA.VERSION, version])
        self.say(vm, [FFA.ID_GET])

    @rule(who=whose, version=st.sampled_from([0x1_0000, 0x1_0001, 0x1_0002]), flip=st.booleans())
    def start(self, who: int, version: int, flip: bool) -> None:
        vm = self.vm(who)
        self.say(vm, [FFA.VERSION, version])
        self.say(vm, self.mapping(vm, flip))

    @rule(who=whose, uuid=inputs.uuids)
    def read_the_list(self, who: int, uuid: Any) -> None:
        vm = self.vm(who)
        words = inputs.words(uuid)
        self.say(vm, [FFA.PARTITION_INFO_GET, *words, 1])
        self.say(vm, [FFA.PARTITION_INFO_GET, *words])
        self.say(vm, [FFA.RX_RELEASE])

    @rule(who=whose, uuid=inputs.uuids, stop=st.integers(1, 5))
    def walk_the_list(self, who: int, uuid: Any, stop: int) -> None:
        vm = self.vm(who)
        fid = FFA.PARTITION_INFO_GET_REGS
        if not self.pair.may_call(vm, fid) or vm.bits == 32:
            return
        if vm.bits == 64 and next(iter(self.pair.states)).guest(vm.id).version is None:
            self.say(vm, [FFA.VERSION, 0x1_0002])
        start = tag = 0
        for _ in range(stop):
            reply = self.pair.call(vm, fid, *inputs.doublewords(uuid), start | tag << 16)
            if reply.fid != FFA.SUCCESS_64 or reply.x2 & 0xFFFF == reply.x2 >> 16 & 0xFFFF:
                return
            start, tag = (reply.x2 >> 16 & 0xFFFF) + 1, reply.x2 >> 32 & 0xFFFF

    @rule(who=whose, start=inputs.starts, off=st.sampled_from([0, 0, 0, 1, 0xFFFF]))
    def read_on_with_the_tag(self, who: int, start: int, off: int) -> None:
        tag = next(iter(self.pair.states)).tag or 0
        fid = FFA.PARTITION_INFO_GET_REGS
        self.say(self.vm(who), [fid, 0, 0, start | (tag + off & 0xFFFF) << 16])

    @rule(who=whose, what=st.lists(st.sampled_from([*FFA, 1, 2, 3]), min_size=1, max_size=8))
    def ask_for_features(self, who: int, what: list[int]) -> None:
        for each in what:
            self.say(self.vm(who), [FFA.FEATURES, each])


@pytest.mark.skipif(
    os.environ.get("FFASHIM_MODEL", "") in ("", "0"), reason="explores at random: FFASHIM_MODEL=1"
)
def test_xen_does_what_the_model_says(xen: Machine, request: pytest.FixtureRequest) -> None:
    deviations = known_of(xen, DEVIATIONS)
    shown: set[str] = set()

    class Here(Conversations):
        def __init__(self) -> None:
            super().__init__(xen, deviations)

        def teardown(self) -> None:
            shown.update(self.pair.known)

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            print_blob=False,
            report_multiple_bugs=False,
            phases=[phase for phase in Phase if phase is not Phase.explain],
            suppress_health_check=list(HealthCheck),
        ),
    )
    for finding in sorted(shown):
        request.node.user_properties.append(("ffashim.known", finding))
