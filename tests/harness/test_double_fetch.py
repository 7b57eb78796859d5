# SPDX-License-Identifier: GPL-2.0-only
"""--sanitize=double-fetch: what Xen reads twice of a guest's memory is told, and can be changed.

Most reads are planted in a copy of a real tree, see planted_fetches.py.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from planted import plant
from planted_fetches import FUNCTIONS, Read
from trees import need

from ffashim import FFA, Fetch, Machine, Vm, XenFault, fetches, loader
from ffashim.errors import UsageError
from ffashim.faults import XenDoubleFetch, XenMemory
from ffashim.ffa import V1_1
from ffashim.intruders import Intruder, intruders
from ffashim.source import Tree, resolve, resolve_default
from ffashim.traffic import SP, send2, share, transaction

MESSAGE = b"\x05\0\0\0\x01\0\1\0" + bytes(range(40))
"""Of 5 bytes."""
ONCE = {
    Read.CHECKED_AND_KEPT,
    Read.NEIGHBOURS,
    Read.XENS_OWN_MEMORY,
    Read.COPIED_BY_MEMCPY_BEFORE_A_BARRIER,
}
"""Read once whatever the compiler does."""
OPEN = {
    Read.HALVES_OF_A_WORD,
    Read.STRUCT_COPIED_ONCE,
    Read.STRUCT_COPIED_BEFORE_A_BARRIER,
    Read.COPIED_BY_MEMCPY,
}
"""It is for the compiler to decide."""

Build = Callable[[str, str], Machine]


@pytest.fixture(scope="session")
def planted_tree(
    tree: Tree, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Tree:
    patch = plant(tree, tmp_path_factory.mktemp("reads"), FUNCTIONS)
    specs = pytestconfig.getoption("--xen")
    return resolve(specs[0], [patch]) if specs else resolve_default([patch])


@pytest.fixture(scope="session")
def build(planted_tree: Tree) -> Build:
    """Boot the planted tree, built by a compiler with a sanitizer."""

    def boot(cc: str, sanitizer: str) -> Machine:
        need(cc)
        return Machine(loader.build(planted_tree, cc=cc, sanitize=[sanitizer])).boot()

    return boot


def guest(machine: Machine) -> tuple[Vm, int]:
    """A guest, and the page in which it has a message."""
    vm = machine.create_vm("1.1")
    page = vm.memory.allocate()
    vm.memory.write(page, MESSAGE)
    return vm, page


def twice(machine: Machine, read: Read) -> bool:
    """Tell whether a message that is read so is read twice."""
    vm, page = guest(machine)
    seen: list[Fetch] = []
    with machine.at_fetches(seen.append):
        assert vm.smc(FFA.ID_GET, read, page).ok
    return any(fetch.first for fetch in seen)


@pytest.mark.parametrize(
    ("cc", "sanitizer"),
    [("gcc", "double-fetch"), ("gcc", "double-fetch-O0"), ("clang", "double-fetch")],
)
def test_every_way_to_read_twice_is_seen(build: Build, cc: str, sanitizer: str) -> None:
    machine = build(cc, sanitizer)
    start = machine.snapshot()
    found = set()
    for read in Read:
        machine.restore(start)
        if twice(machine, read):
            found.add(read)
    assert found - OPEN == set(Read) - ONCE - OPEN


def test_the_optimiser_may_read_once_what_is_written_twice(build: Build) -> None:
    assert not twice(build("gcc", "double-fetch"), Read.HALVES_OF_A_WORD)
    assert twice(build("gcc", "double-fetch-O0"), Read.HALVES_OF_A_WORD)


INVENTED = {Read.STRUCT_COPIED_ONCE, Read.STRUCT_COPIED_BEFORE_A_BARRIER}
"""Of these gcc 12 reads a field again after it has copied the whole: the barrier is too late."""


@pytest.mark.parametrize("read", sorted(INVENTED))
def test_the_optimiser_may_read_twice_what_is_written_once(build: Build, read: Read) -> None:
    machine = build("gcc", "double-fetch")
    version = re.search(r" (\d+)\.\d+", machine.extension.record["compiler"])
    if version is None or version[1] != "12":
        pytest.skip("that gcc does so was seen with gcc 12")
    assert twice(machine, read)
    assert not twice(build("gcc", "double-fetch-O0"), read)


@pytest.fixture
def machine(build: Build) -> Machine:
    return build("gcc", "double-fetch")


def line_of(planted_tree: Tree, text: str) -> str:
    lines = (planted_tree.root / "xen/arch/arm/tee/ffa.c").read_text().splitlines()
    return f"xen/arch/arm/tee/ffa.c:{next(n for n, line in enumerate(lines, 1) if text in line)}"


def test_the_error_names_both_places_and_the_way_there(
    machine: Machine, planted_tree: Tree
) -> None:
    vm, page = guest(machine)
    with pytest.raises(XenDoubleFetch) as caught:
        vm.smc(FFA.ID_GET, Read.CHECKED_AND_READ_AGAIN, page)
    report = caught.value.report
    assert report.where == line_of(planted_tree, "memcpy(block, m->words, ACCESS_ONCE(m->size))")
    checked = line_of(planted_tree, "if ( ACCESS_ONCE(m->size) <= sizeof(*m) )")
    assert report.earlier[0].startswith(f"read of 4 bytes of domain {vm.domid}'s {page:#x} in ")
    assert report.earlier[0].endswith(checked)
    for chain in (report.backtrace, report.earlier):
        assert any("ffa_handle_call()" in line for line in chain)
    assert report.where in str(caught.value)
    assert checked in str(caught.value)


def test_what_xen_wrote_itself_is_told_as_such_when_it_is_read_back(machine: Machine) -> None:
    vm, page = guest(machine)
    with pytest.raises(XenDoubleFetch, match="Xen wrote are read back") as caught:
        vm.smc(FFA.ID_GET, Read.BACK, page)
    assert caught.value.report.earlier[0].startswith("write of 4 bytes")


def test_two_calls_may_read_the_same(machine: Machine) -> None:
    vm, page = guest(machine)
    calls = [(FFA.ID_GET, Read.CHECKED_AND_KEPT, page)] * 2
    assert all(vm.smc(*call).ok for call in calls)
    assert all(reply.ok for reply in vm.vcpus[0].batch(calls))


def test_what_is_changed_between_two_reads_shows_its_effect(machine: Machine) -> None:
    def intrude(fetch: Fetch) -> None:
        if fetch.first:
            fetch.data[:4] = b"\x31\0\0\0"

    vm, page = guest(machine)
    with machine.at_fetches(intrude), pytest.raises(XenMemory, match="written past its end"):
        vm.smc(FFA.ID_GET, Read.CHECKED_AND_READ_AGAIN, page)


@pytest.mark.parametrize(
    ("read", "harmed"), [(Read.CHECKED_AND_READ_AGAIN, True), (Read.CHECKED_AND_KEPT, False)]
)
def test_hypothesis_finds_what_to_write_when(machine: Machine, read: Read, harmed: bool) -> None:
    vm, page = guest(machine)
    start = machine.snapshot()

    @settings(
        deadline=None,
        max_examples=200,
        derandomize=True,
        database=None,
        report_multiple_bugs=False,
    )
    @given(intruders())
    def check(intruder: Intruder) -> None:
        machine.restore(start)
        with machine.at_fetches(intruder):
            vm.smc(FFA.ID_GET, read, page)

    if harmed:
        with pytest.raises(XenFault):
            check()
    else:
        check()


def test_another_vcpu_may_call_between_two_reads(machine: Machine) -> None:
    vm = machine.create_vm("1.1", vcpus=2)
    page = vm.memory.allocate()
    vm.memory.write(page, bytes(8))
    replies = []

    def intrude(fetch: Fetch) -> None:
        replies.append(vm.vcpus[1].smc(FFA.ID_GET, Read.CHECKED_AND_READ_AGAIN, page))

    with machine.at_fetches(intrude):
        assert vm.smc(FFA.ID_GET, Read.CHECKED_AND_READ_AGAIN, page).ok
    assert [reply.ok for reply in replies] == [True, True]


def test_a_fetch_knows_whose_bytes_it_reads(machine: Machine) -> None:
    vm, page = guest(machine)
    seen: list[Fetch] = []
    with machine.at_fetches(seen.append):
        vm.smc(FFA.ID_GET, Read.CHECKED_AND_KEPT, page)
    size, words = seen
    assert (size.vm, size.address, size.size, size.first) == (vm, page, 4, None)
    assert (words.vm, words.address, words.size) == (vm, page + 8, 5)
    assert bytes(words.data) == MESSAGE[8:13]
    assert size.place.file == "xen/arch/arm/tee/ffa.c"


def test_an_ordinary_build_says_how_to_see_fetches(tree: Tree) -> None:
    machine = Machine(loader.build(tree)).boot()
    with (
        pytest.raises(UsageError, match="--sanitize=double-fetch"),
        machine.at_fetches(lambda fetch: None),
    ):
        pass


# --- what is no error ---------------------------------------------------------------------------


def test_second_reads_that_are_only_compared_need_their_entry(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = build("gcc", "double-fetch-O0")
    vm = machine.create_vm("1.1")
    vm.map_rxtx()
    start = machine.snapshot()
    seen: list[Fetch] = []
    with machine.at_fetches(seen.append):
        send2(vm, SP)
    if not any(fetch.first for fetch in seen):
        pytest.skip("this tree reads the header of a message once")
    machine.restore(start)
    send2(vm, SP)
    monkeypatch.setattr(fetches, "HARMLESS", fetches.HARMLESS[1:])
    with pytest.raises(XenDoubleFetch):
        send2(vm, SP)


def test_parts_of_a_descriptor_that_overlap_need_their_entry(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = machine.create_vm("1.1")
    vm.map_rxtx()
    data = bytearray(transaction(vm).encode(V1_1))
    struct.pack_into("<I", data, 32, 32)  # the access descriptor lies in the header
    assert share(vm, bytes(data)).error
    monkeypatch.setattr(fetches, "HARMLESS", fetches.HARMLESS[:2])
    with pytest.raises(XenDoubleFetch):
        share(vm, bytes(data))
