# SPDX-License-Identifier: GPL-2.0-only
"""Scripts, the log, snapshots: what makes the secure world a test's to direct."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffashim.errors import UsageError
from ffashim.ffa import FFA, FfaError, FrameworkMessage, error_code
from ffashim.spmc import Regs, SecurePartition, Spmc, success
from ffashim.spmc.flat import FlatHost
from ffashim.spmc.script import unused

VM, SP = 3, 0x8001
PAIR = VM << 16 | SP
CREATED = 1 << 31 | FrameworkMessage.VM_CREATED


def booted() -> FlatHost:
    host = FlatHost(Spmc("1.2", [SecurePartition(SP + n) for n in range(4)]))
    host.boot()
    return host


@pytest.fixture
def host() -> FlatHost:
    return booted()


def error(reply: tuple[int, ...]) -> int | None:
    return None if reply[0] != FFA.ERROR else error_code(reply[2])


def test_an_error_is_answered_so_many_times_and_then_no_more(host: FlatHost) -> None:
    host.spmc.on(FFA.ID_GET).error(FfaError.BUSY, times=2)
    got = [error(host.smc(FFA.ID_GET)) for _ in range(3)]
    assert got == [FfaError.BUSY, FfaError.BUSY, None]


def test_without_a_number_a_rule_holds_for_ever(host: FlatHost) -> None:
    host.spmc.on(FFA.ID_GET).error(FfaError.DENIED)
    assert {error(host.smc(FFA.ID_GET)) for _ in range(5)} == {FfaError.DENIED}


def test_a_rule_is_for_its_function_id_or_for_all(host: FlatHost) -> None:
    host.spmc.on(FFA.SPM_ID_GET).error(FfaError.ABORTED)
    assert error(host.smc(FFA.ID_GET)) is None
    host.spmc.on().error(FfaError.RETRY)
    assert error(host.smc(FFA.ID_GET)) is FfaError.RETRY
    assert error(host.smc(FFA.SPM_ID_GET)) is FfaError.ABORTED


def test_the_later_rule_goes_first(host: FlatHost) -> None:
    host.spmc.on(FFA.ID_GET).error(FfaError.DENIED)
    host.spmc.on(FFA.ID_GET).error(FfaError.BUSY, times=1)
    assert [error(host.smc(FFA.ID_GET)) for _ in range(2)] == [FfaError.BUSY, FfaError.DENIED]


def test_a_rule_can_be_for_some_registers_only(host: FlatHost) -> None:
    on_features = host.spmc.on(FFA.FEATURES).when(lambda x: x[1] == FFA.RUN)
    on_features.when(lambda x: x[2] == 0).error(FfaError.NOT_SUPPORTED)
    assert error(host.smc(FFA.FEATURES, FFA.RUN)) is FfaError.NOT_SUPPORTED
    assert error(host.smc(FFA.FEATURES, FFA.RUN, 1)) is None
    assert error(host.smc(FFA.FEATURES, FFA.ID_GET)) is None


def test_version_fails_the_way_version_does(host: FlatHost) -> None:
    host.spmc.on(FFA.VERSION).error(FfaError.NOT_SUPPORTED)
    assert host.smc(FFA.VERSION, 0x10002)[0] == (1 << 64) - 1


def test_a_reply_takes_the_place_of_the_world(host: FlatHost) -> None:
    host.spmc.on(FFA.NOTIFICATION_BITMAP_CREATE).reply(FFA.SUCCESS_32, 0, 7, times=1)
    assert host.smc(FFA.NOTIFICATION_BITMAP_CREATE, VM, 1)[:3] == (FFA.SUCCESS_32, 0, 7)
    assert not host.spmc.state.bitmaps


def test_a_garbled_answer_is_of_a_call_that_happened(host: FlatHost) -> None:
    def garble(request: Regs, reply: Regs) -> Regs:
        assert (request[0], reply[0]) == (FFA.NOTIFICATION_BITMAP_CREATE, FFA.SUCCESS_32)
        return (0xBAD, *reply[1:])

    host.spmc.on(FFA.NOTIFICATION_BITMAP_CREATE).garble(garble)
    assert host.smc(FFA.NOTIFICATION_BITMAP_CREATE, VM, 1)[0] == 0xBAD
    assert VM in host.spmc.state.bitmaps


def test_a_function_answers_or_leaves_it_to_the_world(host: FlatHost) -> None:
    answers = [success(5), None]
    host.spmc.on(FFA.SPM_ID_GET).call(lambda x: answers.pop(0))
    assert [host.smc(FFA.SPM_ID_GET)[2] for _ in range(2)] == [5, 0x8000]


def test_a_function_can_ask_what_the_world_would_say(host: FlatHost) -> None:
    host.spmc.on(FFA.SPM_ID_GET).call(lambda x: host.spmc.answer(x)[:3])
    assert host.smc(FFA.SPM_ID_GET)[2] == 0x8000


def test_what_a_script_raises_arrives_as_it_is_and_is_in_the_log(host: FlatHost) -> None:
    class Mine(Exception):
        pass

    def fail(x: Regs) -> None:
        raise Mine

    host.spmc.on(FFA.ID_GET).call(fail)
    with pytest.raises(Mine):
        host.smc(FFA.ID_GET)
    assert str(host.spmc.log[-1]) == "FFA_ID_GET -> no answer"


def test_an_answer_that_is_no_registers_is_refused(host: FlatHost) -> None:
    with pytest.raises(UsageError, match="x1 = -0x1"):
        host.spmc.on(FFA.ID_GET).reply(0, -1)
    host.spmc.on(FFA.ID_GET).call(lambda x: [1 << 64])
    with pytest.raises(UsageError, match="64 unsigned bits"):
        host.smc(FFA.ID_GET)
    with pytest.raises(UsageError, match="times=-1"):
        host.spmc.on(FFA.ID_GET).error(FfaError.BUSY, times=-1)


def test_a_delayed_direct_request_is_preempted_and_run_to_its_end(host: FlatHost) -> None:
    host.spmc.on(FFA.MSG_SEND_DIRECT_REQ_64).delay(3)
    assert host.smc(FFA.MSG_SEND_DIRECT_REQ_64, PAIR, 0, 9)[:2] == (FFA.INTERRUPT, SP << 16)
    assert error(host.smc(FFA.MSG_SEND_DIRECT_REQ_64, PAIR, 0, 9)) is FfaError.BUSY
    run = [host.smc(FFA.RUN, SP << 16) for _ in range(3)]
    assert [r[0] for r in run] == [FFA.INTERRUPT, FFA.INTERRUPT, FFA.MSG_SEND_DIRECT_RESP_64]
    assert run[-1][3] == 9
    assert host.smc(FFA.MSG_SEND_DIRECT_REQ_64, PAIR)[0] == FFA.MSG_SEND_DIRECT_RESP_64


def test_a_delayed_framework_message_is_answered_retry_and_then_well(host: FlatHost) -> None:
    host.spmc.on(FFA.MSG_SEND_DIRECT_REQ_32).framework(FrameworkMessage.VM_CREATED).delay(2)
    replies = [host.smc(FFA.MSG_SEND_DIRECT_REQ_32, SP, CREATED, 0, 0, VM) for _ in range(3)]
    assert {r[:3] for r in replies} == {(FFA.MSG_SEND_DIRECT_RESP_32, SP << 16, CREATED + 1)}
    assert [error_code(r[3]) for r in replies] == [FfaError.RETRY, FfaError.RETRY, 0]
    assert not host.spmc.violations


@pytest.mark.parametrize("pause", [FFA.INTERRUPT, FFA.MSG_YIELD])
def test_a_framework_message_may_find_its_partition_preempted(host: FlatHost, pause: FFA) -> None:
    host.spmc.on(FFA.MSG_SEND_DIRECT_REQ_32).framework(FrameworkMessage.VM_CREATED).preempt(
        2, pause
    )
    message = (FFA.MSG_SEND_DIRECT_REQ_32, SP, CREATED, 0, 0, VM)
    assert host.smc(*message)[:2] == (pause, SP << 16)
    assert error(host.smc(*message)) is FfaError.BUSY
    assert not host.spmc.state.created
    first, last = (host.smc(FFA.RUN, SP << 16) for _ in range(2))
    assert first[0] == pause
    assert last[:4] == (FFA.MSG_SEND_DIRECT_RESP_32, SP << 16, CREATED + 1, 0)
    assert host.spmc.state.created == {(SP, VM)}
    assert not host.spmc.violations


def test_a_partition_pauses_by_interrupt_or_yield_at_least_once(host: FlatHost) -> None:
    on = host.spmc.on(FFA.MSG_SEND_DIRECT_REQ_32)
    with pytest.raises(UsageError, match=r"by FFA\.INTERRUPT or by FFA\.MSG_YIELD"):
        on.preempt(1, FFA.RUN)
    with pytest.raises(UsageError, match=r"preempt\(0\)"):
        on.preempt(0)


def test_a_framework_message_can_be_answered_with_any_status(host: FlatHost) -> None:
    on = host.spmc.on(FFA.MSG_SEND_DIRECT_REQ_32).framework(FrameworkMessage.VM_CREATED)
    on.status(FfaError.INTERRUPTED, times=1)
    reply = host.smc(FFA.MSG_SEND_DIRECT_REQ_32, SP, CREATED, 0, 0, VM)
    assert error_code(reply[3]) is FfaError.INTERRUPTED
    assert not host.spmc.state.created
    assert host.smc(FFA.MSG_SEND_DIRECT_REQ_32, PAIR, 0, 5)[3] == 5


def test_any_other_delayed_call_is_answered_retry_and_then_well(host: FlatHost) -> None:
    host.spmc.on(FFA.ID_GET).delay(2, FfaError.BUSY)
    got = [error(host.smc(FFA.ID_GET)) for _ in range(3)]
    assert got == [FfaError.BUSY, FfaError.BUSY, None]


def test_once_a_script_has_lied_a_lost_state_is_no_longer_the_hypervisors_fault(
    host: FlatHost,
) -> None:
    host.spmc.on(FFA.NOTIFICATION_BITMAP_CREATE).reply(FFA.SUCCESS_32, times=1)
    host.smc(FFA.NOTIFICATION_BITMAP_CREATE, VM, 1)
    host.smc(FFA.NOTIFICATION_BIND, PAIR, 0, 1, 0)
    assert not host.spmc.violations
    host.smc(FFA.NOTIFICATION_BITMAP_CREATE, 0, 1)
    assert [v.rule for v in host.spmc.violations] == ["vm-id"]


def test_the_log_has_each_smc_both_ways_and_in_order(host: FlatHost) -> None:
    host.smc(FFA.MSG_SEND_DIRECT_REQ_64, PAIR, 0, 1)
    host.smc(FFA.RX_RELEASE)
    log = host.spmc.log
    assert log.names == [
        "FFA_VERSION", "FFA_RXTX_MAP_64", "FFA_MSG_SEND_DIRECT_REQ_64", "FFA_RX_RELEASE",
    ]  # fmt: skip
    assert (log[0].x1, log[0].r0, log[2].r1) == (0x10002, 0x10002, SP << 16 | VM)
    assert log[-1].error is FfaError.DENIED
    assert log[-1].fid == FFA.RX_RELEASE
    assert [smc.x1 for smc in host.spmc.calls(FFA.RXTX_MAP_64, FFA.VERSION)] == [0x10002, 0x1000]
    assert str(log[1:]).splitlines() == [
        "  0 FFA_RXTX_MAP_64 x1=0x1000 x2=0x2000 x3=0x1 -> FFA_SUCCESS_32",
        "  1 FFA_MSG_SEND_DIRECT_REQ_64 x1=0x38001 x3=0x1"
        " -> FFA_MSG_SEND_DIRECT_RESP_64 x1=0x80010003 x3=0x1",
        "  2 FFA_RX_RELEASE -> FFA_ERROR DENIED",
    ]
    with pytest.raises(AttributeError):
        _ = log[0].x18


def test_an_smc_within_an_smc_is_logged_behind_it(host: FlatHost) -> None:
    def inner(x: Regs) -> None:
        host.smc(FFA.ID_GET)

    host.spmc.on(FFA.SPM_ID_GET).call(inner)
    host.spmc.log.clear()
    host.smc(FFA.SPM_ID_GET)
    assert host.spmc.log.names == ["FFA_SPM_ID_GET", "FFA_ID_GET"]
    assert all(smc.r0 == FFA.SUCCESS_32 for smc in host.spmc.log)


def test_a_finding_names_rule_section_and_registers(host: FlatHost) -> None:
    host.smc(FFA.MEM_RECLAIM, 1, 2)
    assert str(host.spmc.violations[0]) == (
        "MEM_RECLAIM: there is no handle 0x200000001 (16.7) [mem-reclaim]:"
        " FFA_MEM_RECLAIM x1=0x1 x2=0x2"
    )


def test_a_restore_takes_back_everything(host: FlatHost) -> None:
    spmc = host.spmc
    spmc.on(FFA.ID_GET).error(FfaError.BUSY, times=1)
    saved, before = spmc.snapshot(), str(spmc.log)
    for _ in range(2):
        assert error(host.smc(FFA.ID_GET)) is FfaError.BUSY
        assert error(host.smc(FFA.ID_GET)) is None
        host.smc(FFA.NOTIFICATION_BITMAP_CREATE, VM, 1)
        host.smc(FFA.MSG_SEND_DIRECT_REQ_32, SP, CREATED, 0, 0, VM)
        host.smc(FFA.MEM_RECLAIM, 1, 2)
        host.smc(FFA.RX_RELEASE)
        spmc.on(FFA.RUN).error(FfaError.BUSY)
        spmc.remove(SP)
        spmc.restore(saved)
        assert str(spmc.log) == before
        assert not spmc.violations
        assert not spmc.notes
        assert not spmc.residue(VM)
        assert SP in spmc.state.by_id
        assert FFA.RUN not in spmc.state.rules


def test_a_machine_that_starts_anew_finds_the_secure_world_as_it_was_set_up(
    host: FlatHost,
) -> None:
    host.spmc.on(FFA.ID_GET).error(FfaError.BUSY)
    host.spmc.messages.handle(SP, lambda request: [77])
    host.smc(FFA.NOTIFICATION_BITMAP_CREATE, VM, 1)
    again = FlatHost(host.spmc)
    assert not again.spmc.log
    again.boot()
    assert not again.spmc.residue(VM)
    assert error(again.smc(FFA.ID_GET)) is FfaError.BUSY
    assert again.smc(FFA.MSG_SEND_DIRECT_REQ_64, PAIR)[3] == 77
    assert not again.spmc.violations


CALLS = st.tuples(
    st.sampled_from([*FFA, 0, 0x840000EF]),
    st.lists(
        st.one_of(
            st.sampled_from([0, 1, VM, SP, PAIR, SP << 16 | VM, 0x1000, CREATED, VM << 16]),
            st.integers(0, (1 << 64) - 1),
        ),
        max_size=17,
    ),
)


@given(st.lists(CALLS, max_size=12))
def test_whatever_is_sent_is_answered_and_can_be_undone(
    calls: list[tuple[int, list[int]]],
) -> None:
    host = booted()
    saved = host.spmc.snapshot()

    def send(fid: int, args: list[int]) -> Regs:
        try:
            return host.smc(fid, *args)
        except UsageError:
            return (0,) * 18  # A buffer was put where the machine has no memory.

    replies = [send(fid, args) for fid, args in calls]
    for reply in replies:
        assert len(reply) == 18
        assert all(0 <= value < 1 << 64 for value in reply)
    memory = bytes(host.memory)
    host.spmc.restore(saved)
    host.memory[:] = bytes(len(memory))
    assert [send(fid, args) for fid, args in calls] == replies
    assert bytes(host.memory) == memory


def test_a_snapshot_and_its_restore_cost_microseconds(host: FlatHost) -> None:
    saved = host.spmc.snapshot()

    def once() -> float:
        start = time.perf_counter()
        host.spmc.snapshot()
        host.spmc.restore(saved)
        return time.perf_counter() - start

    # A wide margin: this is about the order of magnitude, on a machine with other work to do.
    assert min(once() for _ in range(200)) < 100e-6


def test_a_rule_counts_its_uses_over_restores(host: FlatHost) -> None:
    spmc = host.spmc
    rule = spmc.on(FFA.ID_GET).error(FfaError.DENIED)
    other = spmc.on(FFA.FEATURES).when(lambda x: x[1] == 7).reply(5)
    saved = spmc.snapshot()
    assert rule.used == 0
    for _ in range(2):
        host.smc(FFA.ID_GET)
        host.smc(FFA.FEATURES, FFA.ID_GET)
        spmc.restore(saved)
    assert (rule.used, other.used) == (2, 0)
    assert unused(spmc) == [r for rules in spmc.state.rules.values() for r in rules if not r.used]
    assert [str(each) for each in unused(spmc)] == ["on(FFA.FEATURES).when(...).reply(0x5)"]
    assert str(rule) == "on(FFA.ID_GET).error(FfaError.DENIED)"
