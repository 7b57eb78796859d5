# SPDX-License-Identifier: GPL-2.0-only
"""What is seen of a change: how two plays of a conversation differ, and of which kind that is."""

from __future__ import annotations

import re
from typing import Any

import pytest
from repositories import Repo

from ffashim import loader
from ffashim.descriptors import IndirectMessage, MemoryTransaction
from ffashim.faults import Report, XenAccess
from ffashim.ffa import FFA, Version
from ffashim.machine import Machine
from ffashim.model import corpus
from ffashim.model.inputs import SENSIBLE
from ffashim.model.script import Script, Step, Who
from ffashim.model.structures import MESSAGE, TRANSACTION
from ffashim.reply import Reply
from ffashim.series.behaviour import ORDER, SEEN, TIMING, Comparison, differences
from ffashim.series.commits import load
from ffashim.series.recording import Seen, ended
from ffashim.series.showing import as_json
from ffashim.traffic import SP
from ffashim.variants import variants

CALL = Step("call", (Who(0), FFA.ID_GET))
OK = Reply((FFA.SUCCESS_32, *(0,) * 17))
DENIED = Reply((FFA.ERROR, 0, 0xFFFF_FFFA, *(0,) * 15))
NEXT = Reply((FFA.SUCCESS_32, 0, 3, *(0,) * 15))


def smc(fid: int, x1: int = 0) -> Any:
    return (fid, x1, *(0,) * 16), (FFA.SUCCESS_32, *(0,) * 17), b""


ONE, TWO, THREE = smc(FFA.RX_RELEASE, 1), smc(FFA.RX_RELEASE, 2), smc(FFA.RUN)


def step(*smcs: Any, **fields: Any) -> Seen:
    return Seen(CALL, **{"reply": OK, "smcs": smcs, **fields})


def found(before: list[Seen], after: list[Seen]) -> list[tuple[int, str, str]]:
    return [(each.index, each.kind, each.what) for each in differences(before, after)]


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        (step(), step(reply=DENIED), "FFA_ERROR DENIED, was FFA_SUCCESS_32"),
        (step(), step(reply=NEXT), "FFA_SUCCESS_32 with another x2"),
        (step(), step(reply=None, end="ASSERT"), "does not return: ASSERT"),
        (step(), step(memory={(2, 0): b"x"}), "memory of a guest is written to"),
        (step(), step(interrupts=((2, 0, 8),)), "a guest is interrupted"),
        (step(), step(ONE), "the SPMC sees also FFA_RX_RELEASE"),
        (step(THREE), step(), "the SPMC sees no FFA_RUN"),
        (step(ONE), step(TWO), "the SPMC sees with other registers FFA_RX_RELEASE"),
        (
            step(),
            step(ONE, reply=NEXT, interrupts=((2, 0, 8),)),
            "FFA_SUCCESS_32 with another x2; a guest is interrupted; the SPMC sees also "
            "FFA_RX_RELEASE",
        ),
    ],
)
def test_what_a_guest_or_the_spmc_sees_is_told_in_words(
    before: Seen, after: Seen, what: str
) -> None:
    assert found([step(), before], [step(), after]) == [(1, SEEN, what)]


def test_a_call_that_ends_at_another_line_of_the_same_function_ends_the_same_way() -> None:
    one, other = (
        XenAccess(Report("NULL pointer", f"xen/f.c:{line}", (f"serve() xen/f.c:{line}",)))
        for line in (7, 9)
    )
    assert ended(one) == ended(other) == "bad access: NULL pointer in serve(), xen/f.c"


def test_the_same_is_no_difference() -> None:
    assert found([step(ONE), step(TWO)], [step(ONE), step(TWO)]) == []


def test_the_same_requests_in_another_order_are_told_apart() -> None:
    ((_, kind, _),) = found([step(ONE, THREE)], [step(THREE, ONE)])
    assert kind == ORDER


def test_the_same_requests_at_another_step_are_told_apart() -> None:
    kinds = [kind for _, kind, _ in found([step(ONE), step()], [step(), step(ONE)])]
    assert kinds == [TIMING, TIMING]


def test_a_request_at_another_step_that_a_guest_notices_is_seen() -> None:
    before, after = [step(ONE), step()], [step(reply=DENIED), step(ONE)]
    assert [kind for _, kind, _ in found(before, after)] == [SEEN, TIMING]


def test_a_difference_is_shown_with_a_test_for_it() -> None:
    script = Script({}, (Step("guest", (64,), {}, Who(0)), CALL))
    (difference,) = differences([step(), step(ONE)], [step(), step(ONE, reply=NEXT)])
    told = as_json(difference, script)
    assert told["before"] == ["reply FFA_SUCCESS_32"]
    assert told["after"] == ["reply FFA_SUCCESS_32 x2=0x3"]
    assert '    assert str(reply) == "FFA_SUCCESS_32"' in told["test"]
    compile(told["test"], "test", "exec")


def test_the_corpus_asks_for_each_function_in_each_state() -> None:
    called = {step.arguments[1] for script in corpus.scripts() for step in script.steps
              if step.method == "call"}  # fmt: skip
    assert set(SENSIBLE) - {FFA.MEM_SHARE_32} <= called
    assert len(corpus.scripts()) > len(corpus.CALLS) * len(corpus.STATES)


def test_the_corpus_bends_each_field_of_what_a_guest_puts_into_tx() -> None:
    put = [step.arguments for script in corpus.scripts() for step in script.steps
           if step.method == "put"]  # fmt: skip
    for version in (Version(1, 1), Version(1, 2)):
        sent = [what for _, _, what, layout in put if layout == version]
        for receiver in (SP, 3):
            messages = [each for each in sent if isinstance(each, IndirectMessage)]
            messages = [each for each in messages if each.receiver == receiver]
            for name in ("offset", "size", "flags", "reserved"):
                assert set(MESSAGE[name]) <= {getattr(each, name) for each in messages}
        shares = [each for each in sent if isinstance(each, MemoryTransaction)]
        for name in ("access_count", "access_offset", "handle"):
            assert set(TRANSACTION[name]) <= {getattr(each, name) for each in shares}


MESSAGES = "xen/arch/arm/tee/ffa_msg.c"
EMPTY = r"src_msg(?:\.|->)msg_size == 0 \|\|\s*"
HEADER = r"(msg_offset) < (sizeof)"
LENGTH = r"(src_msg\.msg_size) > |(page_count \* FFA_PAGE_SIZE) <"


@pytest.mark.parametrize(
    ("check", "weaker"),
    [(EMPTY, ""), (HEADER, r"\1 + 1 < \2"), (LENGTH, None)],
    ids=["is empty", "begins in its header", "is a byte too long"],
)
def test_a_commit_that_lets_a_message_through_is_seen_to_if_the_message(
    repo: Repo, check: str, weaker: str | None
) -> None:
    text = (repo.path / MESSAGES).read_text()
    if check == EMPTY and not re.search(EMPTY, text):  # a tree from before it was refused
        repo.edit(r"(src_ctx->page_count \* FFA_PAGE_SIZE <)", r"src_msg->msg_size == 0 || \1",
                  MESSAGES)  # fmt: skip
        repo.commit("Refuse an empty message")
    if weaker is None:
        weaker = r"\1 > 1 + " if re.search(r"src_msg\.msg_size > ", text) else r"\2 + 1 <"
    repo.edit(check, weaker, MESSAGES)
    repo.commit("Forget to look")
    series = load(f"{repo.path}@HEAD~1..", None, None, lambda line: None)
    one, other = (Machine(loader.build(tree, variants(tree, {})[-1])) for tree in series.trees)
    found, _ = Comparison(one, other).run(corpus.scripts(), 8, 60)
    assert {each["subject"] for each in found} == {"FFA_MSG_SEND2"}
    assert any("was FFA_ERROR INVALID_PARAMETERS" in each["what"] for each in found)
