# SPDX-License-Identifier: GPL-2.0-only
"""Model and machine side by side: what they say when they differ."""

from dataclasses import replace

import pytest

from ffashim import FFA, FfaError, Machine
from ffashim.defects.lifecycle import NEVER_RUNS_AGAIN
from ffashim.defects.memory import KEEPS_SHARES
from ffashim.descriptors import CompositeRegion, Constituent, MemoryAccess, MemoryTransaction
from ffashim.ffa import FrameworkMessage, Version
from ffashim.model import Disagreement, Pair, known_of, pair, profile_of
from ffashim.model.lifecycle import PATIENCE, Refusal
from ffashim.model.reduce import reduced
from ffashim.model.script import Script
from ffashim.traffic import SP
from ffashim.vm import Vm


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


def borrowed(both: Pair) -> tuple[Vm, int]:
    """Return a guest that shares memory which a partition uses, and the handle."""
    vm = both.guest()
    base = vm.memory.base
    both.call(vm, FFA.VERSION, 0x1_0001)
    both.call(vm, FFA.RXTX_MAP_64, base, base + 4096, 1)
    share = MemoryTransaction(
        sender=vm.id,
        receivers=(MemoryAccess(endpoint=SP),),
        composite=CompositeRegion(constituents=(Constituent(address=base + 8192),)),
    )
    both.put(vm, base, share)
    size = len(share.encode(Version(1, 1)))
    both.call(vm, FFA.MEM_SHARE_64, size, size)
    (handle,) = both.spmc.memory.shares
    both.borrow(handle, back=False)
    return vm, handle


@KEEPS_SHARES.mark
def test_a_guest_whose_memory_is_used_goes_once_it_is_given_back(xen: Machine) -> None:
    both = Pair(xen, deviations=known_of(xen))
    vm, handle = borrowed(both)
    both.destroy(vm, used=True)
    both.advance(PATIENCE)
    assert vm.exists
    both.borrow(handle, back=True)
    both.advance(PATIENCE)
    assert not vm.exists


@KEEPS_SHARES.mark
def test_what_was_refused_as_a_guest_died_stays_an_excuse_while_its_end_waits(xen: Machine) -> None:
    both = Pair(xen, deviations=known_of(xen))
    vm, handle = borrowed(both)
    both.destroy(vm, Refusal(FrameworkMessage.VM_DESTROYED, FfaError.DENIED), used=True)
    both.borrow(handle, back=True)
    both.advance(PATIENCE)
    (told,) = both.spmc.residue(vm.id)
    assert "was not told" in told


@KEEPS_SHARES.mark
def test_a_guest_that_stays_though_its_memory_is_free_is_a_disagreement(xen: Machine) -> None:
    both = Pair(xen, deviations=known_of(xen))
    vm, handle = borrowed(both)
    both.destroy(vm, used=True)
    both.borrow(handle, back=True)
    both.spmc.on(FFA.MEM_RECLAIM).error(FfaError.DENIED)
    with pytest.raises(Disagreement, match="memory that Xen still holds"):
        both.advance(PATIENCE)


def test_a_partition_that_is_held_up_as_it_is_told_keeps_no_guest_away(xen: Machine) -> None:
    held_up = Refusal(FrameworkMessage.VM_CREATED, FFA.INTERRUPT)
    if NEVER_RUNS_AGAIN.probe(xen):
        with pytest.raises(Disagreement, match="no guest"):
            Pair(xen).attempt(refusal=held_up)
        assert Pair(xen, deviations=known_of(xen)).attempt(refusal=held_up) is None
    else:
        assert Pair(xen).attempt(refusal=held_up)


def test_a_partition_that_is_held_up_as_it_is_told_knows_of_the_end(xen: Machine) -> None:
    held_up = Refusal(FrameworkMessage.VM_DESTROYED, FFA.MSG_YIELD)
    pair = Pair(xen, deviations=known_of(xen))
    pair.destroy(pair.guest(), held_up)
    knows_not = NEVER_RUNS_AGAIN.finding in pair.known
    assert knows_not is NEVER_RUNS_AGAIN.probe(xen)
