# SPDX-License-Identifier: GPL-2.0-only
"""Model and machine side by side: what they say when they differ."""

from dataclasses import replace

import pytest

from ffashim import FFA, Machine
from ffashim.ffa import Version
from ffashim.model import Disagreement, Pair, pair, profile_of
from ffashim.model.reduce import reduced
from ffashim.model.script import Script


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of an FF-A that is yet to come."""

    def profile(machine: Machine) -> object:
        return replace(profile_of(machine), version=Version(1, 9))

    monkeypatch.setattr(pair, "profile_of", profile)


@pytest.mark.usefixtures("later")
def test_a_conversation_is_printed_as_a_test_that_fails_in_the_same_way(xen: Machine) -> None:
    both = Pair(xen, partitions=2)
    vm = both.guest(32, vcpus=2)
    both.destroy(both.guest())
    with pytest.raises(Disagreement) as found:
        both.call(vm, FFA.VERSION, 0x1_0009)
    said = str(found.value)
    assert "->  x0 version  0x10009" in said
    program = said[said.index("from ffashim import") :]
    namespace: dict[str, object] = {}
    exec(program, namespace)
    test = namespace["test_xen_does_what_the_model_says"]
    assert callable(test)
    with pytest.raises(Disagreement) as again:
        test(xen)
    assert str(again.value) == said


@pytest.mark.usefixtures("later")
def test_a_conversation_is_made_as_short_as_can_be(xen: Machine) -> None:
    both = Pair(xen, partitions=2)
    idle, vm = both.guest(), both.guest(32, vcpus=2)
    both.advance(1.0)
    both.call(idle, FFA.MEM_DONATE_32, 1, 2, 3)
    both.put(idle, idle.memory.base, b"nothing")
    both.destroy(idle)
    with pytest.raises(Disagreement) as found:
        both.call(vm, FFA.VERSION, 0x10009, 7, vcpu=1)
    short = reduced(xen, [], found.value)
    assert short.kind == found.value.kind
    assert str(short).splitlines()[-3:] == [
        "    pair = Pair(xen)",
        "    guest_1 = pair.guest(32, vcpus=2, domid=2)",
        "    pair.call(guest_1, FFA.VERSION)",
    ]


def test_the_model_knows_every_call_of_every_tree(xen: Machine) -> None:
    both = Pair(xen)
    vm = both.guest()
    assert all(both.may_call(vm, fid) for fid in FFA)


def test_the_same_of_another_guest_is_of_the_same_kind() -> None:
    def forbidden(number: int, rule: str) -> Disagreement:
        what = f"the SPMC was sent what FF-A forbids: SP 0x{number:x} knows VM {number} [{rule}]"
        return Disagreement(what, Script({}, ()))

    assert forbidden(3, "vm-twice").kind == forbidden(14, "vm-twice").kind
    assert forbidden(3, "vm-twice").kind != forbidden(3, "vm-unknown").kind
