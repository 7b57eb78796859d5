# SPDX-License-Identifier: GPL-2.0-only
"""The model itself: what it predicts, without a machine."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from ffashim.defects import Defect
from ffashim.descriptors import (
    CompositeRegion,
    Constituent,
    MemoryAccess,
    MemoryTransaction,
    PartitionInfo,
    encode_partition_info_regs,
)
from ffashim.ffa import (
    FFA,
    MEM_PERM_RO,
    PAGE_SIZE,
    V1_0,
    V1_1,
    V1_2,
    FfaError,
    Version,
    is_64bit,
)
from ffashim.model import (
    Allowed,
    Ask,
    Buffers,
    Call,
    Deviation,
    Guest,
    Listing,
    NotModelled,
    Observation,
    Outcome,
    Profile,
    Secure,
    System,
    predict,
)
from ffashim.model.compare import Fit, Misfit, explain, match
from ffashim.model.deviation import deviating
from ffashim.model.exchange import Plan
from ffashim.model.registers import ANYTHING, exactly
from ffashim.model.rules import exists

CALLS = frozenset(
    {
        FFA.VERSION, FFA.FEATURES, FFA.ID_GET, FFA.RXTX_MAP_32, FFA.RXTX_MAP_64, FFA.RXTX_UNMAP,
        FFA.RX_RELEASE, FFA.PARTITION_INFO_GET, FFA.PARTITION_INFO_GET_REGS, FFA.MEM_DONATE_32,
    }
)  # fmt: skip
RAM = (0x4000_0000, 0x4001_0000)
TX, RX = 0x4000_0000, 0x4000_1000
ONE, TWO = UUID(int=1), UUID(int=2)
SECURE = tuple(PartitionInfo(0x8001 + n, 1, 0x1FF, UUID(int=n + 1)) for n in range(2))
GUEST = Guest(2, 64, RAM, version=V1_1, settled=True)
UPPER = 0xDEAD_BEEF << 32


def system(*guests: Guest, vm_to_vm: bool = True, version: Version = V1_2) -> System:
    """An SPMC that knows nothing of guests' buffers: nothing is asked of it then."""
    below = Secure(V1_2, CALLS - {FFA.PARTITION_INFO_GET}, SECURE)
    return System(Profile("test", version, CALLS, vm_to_vm), below, guests)


def outcomes(state: System, *registers: int) -> list[Outcome]:
    plans = predict(state, Call.of(2, *registers))
    assert not any(isinstance(plan, Ask) for plan in plans)
    return [plan for plan in plans if isinstance(plan, Outcome)]


def only(state: System, *registers: int) -> Outcome:
    (outcome,) = outcomes(state, *registers)
    return outcome


def codes(state: System, *registers: int) -> set[FfaError]:
    """The errors that are allowed, if nothing else is."""
    found = outcomes(state, *registers)
    assert all(each.registers[0] == exactly(FFA.ERROR, "function") for each in found)
    return {error for error in FfaError for each in found if error.w in each.registers[2]}


def values(*registers: Allowed) -> list[set[int]]:
    return [set(each.values or ()) for each in registers]


def held(owned: bool = False) -> Buffers:
    return Buffers(TX, RX, owned=owned)


# --- FFA_VERSION ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "selected"), [(0x1_0000, V1_0), (0x1_0001, V1_1), (0x1_0002, V1_2), (0x1_0009, V1_2)]
)
def test_the_lower_minor_version_is_selected_and_the_callees_own_is_told(
    asked: int, selected: Version
) -> None:
    outcome = only(system(Guest(2, 64, RAM)), FFA.VERSION, UPPER | asked)
    assert values(outcome.registers[0]) == [{0x1_0002}]
    assert outcome.after.guest(2) == Guest(2, 64, RAM, version=selected)


def test_another_major_version_may_be_refused_or_not() -> None:
    found = outcomes(system(Guest(2, 64, RAM)), FFA.VERSION, 0x2_0000)
    assert {each.after.guest(2).version for each in found} == {None, V1_2}


def test_the_version_is_final_with_the_next_call() -> None:
    before = system(replace(GUEST, settled=False))
    after = only(before, FFA.ID_GET).after
    assert after.guest(2).settled
    assert 0x1_0002 not in only(after, FFA.VERSION, 0x1_0000).registers[0]


@pytest.mark.parametrize("fid", sorted(set(FFA) - {FFA.VERSION}), ids=lambda fid: fid.name)
def test_without_a_version_nothing_is_there(fid: FFA) -> None:
    before = system(Guest(2, 64, RAM))
    assert {each.after for each in outcomes(before, fid)} == {before}
    assert all(FFA.SUCCESS_32 not in each.registers[0] for each in outcomes(before, fid))


def test_a_guest_of_1_0_may_do_without_what_came_later() -> None:
    before = system(replace(GUEST, version=V1_0))
    assert exists(before, before.guest(2), FFA.ID_GET)
    withheld = replace(before.profile, withheld_from_1_0=frozenset({FFA.ID_GET}))
    after = replace(before, profile=withheld)
    assert not exists(after, after.guest(2), FFA.ID_GET)
    assert all(FFA.SUCCESS_32 not in each.registers[0] for each in outcomes(after, FFA.ID_GET))
    later = after.having(replace(GUEST, version=V1_1))
    assert exists(later, later.guest(2), FFA.ID_GET)


def test_what_is_not_in_the_model_is_said() -> None:
    with pytest.raises(NotModelled, match="FFA_MEM_DONATE_32"):
        outcomes(system(GUEST), FFA.MEM_DONATE_32)


def test_of_what_is_not_ffas_nothing_is_said_but_that_nothing_moves() -> None:
    outcome = only(system(GUEST), 0x8600_FF01)
    assert outcome.registers == (ANYTHING,) * 18
    assert outcome.after == system(GUEST)


# --- FFA_FEATURES --------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("version", [V1_0, V1_1, V1_2])
def test_features_tells_what_there_is(bits: int, version: Version) -> None:
    guest = replace(GUEST, bits=bits, version=version)
    answers = {FFA.ERROR, FFA.SUCCESS_32, FFA.SUCCESS_64, FFA.INTERRUPT}
    for fid in set(FFA) - answers:
        told = FFA.SUCCESS_32 in only(system(guest), FFA.FEATURES, fid).registers[0]
        assert told == exists(system(guest), guest, fid), fid.name
        assert not (told and bits == 32 and is_64bit(fid))


def test_the_size_of_buffers_is_told_since_1_2() -> None:
    for version, most in ((V1_0, 0), (V1_1, 0), (V1_2, 1 << 16)):
        guest = replace(GUEST, version=version)
        told = only(system(guest), FFA.FEATURES, FFA.RXTX_MAP_64).registers[2]
        assert values(told) == [{most}]


# --- RX and TX -----------------------------------------------------------------------------------


def test_buffers_are_mapped_filled_released_and_unmapped() -> None:
    state = system(GUEST)
    seen = []
    for registers in (
        (FFA.RXTX_MAP_64, TX, RX, 1),
        (FFA.PARTITION_INFO_GET,),
        (FFA.RX_RELEASE,),
        (FFA.RXTX_UNMAP,),
    ):
        state = only(state, *registers).after
        seen.append(state.guest(2).buffers)
    assert seen == [held(), held(owned=True), held(), None]


@pytest.mark.parametrize(
    ("tx", "rx", "pages"),
    [(TX + 1, RX, 1), (TX, RX + 0x800, 1), (TX, TX, 1), (TX, RX, 0), (TX, RX, 2), (TX, RX, 0x41),
     (TX, RAM[1], 1), (RAM[0] - 0x1000, RX, 1), (TX, 0, 1)],
)  # fmt: skip
def test_buffers_are_aligned_apart_and_of_ram(tx: int, rx: int, pages: int) -> None:
    assert codes(system(GUEST), FFA.RXTX_MAP_64, tx, rx, pages) == {FfaError.INVALID_PARAMETERS}


def test_the_order_of_checks_is_open() -> None:
    mapped = system(replace(GUEST, buffers=held()))
    wanted = {FfaError.DENIED, FfaError.INVALID_PARAMETERS}
    assert codes(mapped, FFA.RXTX_MAP_64, TX, RX, 0) == wanted
    assert codes(mapped, FFA.RXTX_MAP_64, 0x4000_2000, 0x4000_3000, 1) == {FfaError.DENIED}


def test_upper_halves_count_in_the_64_bit_call_only() -> None:
    assert only(system(GUEST), FFA.RXTX_MAP_32, UPPER | TX, UPPER | RX, UPPER | 1).after.guest(
        2
    ).buffers == Buffers(TX, RX)
    assert codes(system(GUEST), FFA.RXTX_MAP_64, UPPER | TX, RX, 1)


def test_what_is_not_mapped_or_owned_is_not_given_back() -> None:
    assert codes(system(GUEST), FFA.RXTX_UNMAP) == {FfaError.INVALID_PARAMETERS}
    assert codes(system(GUEST), FFA.RX_RELEASE) == {FfaError.DENIED}
    owned = system(replace(GUEST, buffers=held(owned=True)))
    assert codes(owned, FFA.RXTX_UNMAP) == {FfaError.DENIED}


# --- lists ---------------------------------------------------------------------------------------

OTHER = Guest(3, 32, RAM, vcpus=3, version=V1_1, settled=True)
SILENT = Guest(4, 64, RAM, version=V1_1)


@pytest.mark.parametrize(
    ("version", "vm_to_vm", "ids"),
    [
        (V1_1, False, [0x8001, 0x8002]),
        (V1_2, False, [0x8001, 0x8002, 2]),
        (V1_1, True, [0x8001, 0x8002, 3]),
        (V1_2, True, [0x8001, 0x8002, 2, 3]),
    ],
)
def test_who_is_listed(version: Version, vm_to_vm: bool, ids: list[int]) -> None:
    caller = replace(GUEST, version=version, buffers=held())
    state = system(OTHER, caller, SILENT, vm_to_vm=vm_to_vm)
    outcome = only(state, FFA.PARTITION_INFO_GET)
    assert isinstance(outcome.rx, Listing)
    assert [each.id for each in outcome.rx.partitions] == ids
    assert values(*outcome.registers[2:5]) == [{len(ids)}, {24}, {0}]
    count = only(state, FFA.PARTITION_INFO_GET, 0, 0, 0, 0, 1)
    assert values(*count.registers[2:5]) == [{len(ids)}, {0}, {0}]
    assert count.after == state


def test_one_partition_of_two_uuids_may_come_once_or_twice_in_1_0() -> None:
    twice = (SECURE[0], replace(SECURE[0], uuid=TWO))
    caller = replace(GUEST, version=V1_0, buffers=held())
    state = system(caller)
    state = replace(state, secure=replace(state.secure, partitions=twice))
    found = outcomes(state, FFA.PARTITION_INFO_GET)
    assert {tuple(each.registers[2].values or ()) for each in found} == {(1,), (2,)}


def test_a_list_that_is_too_long_is_no_memory() -> None:
    crowd = (replace(OTHER, id=n) for n in range(3, 173))
    caller = replace(GUEST, buffers=held())
    assert codes(system(caller, *crowd), FFA.PARTITION_INFO_GET) == {FfaError.NO_MEMORY}


CALLER = replace(GUEST, version=V1_2)
REGS = FFA.PARTITION_INFO_GET_REGS


def window(state: System, start: int, ids: list[int], total: int, tag: int) -> tuple[int, ...]:
    known = {each.id: each for each in (*SECURE, *map(state.described, state.guests))}
    parts = [known[each] for each in ids]
    return encode_partition_info_regs(parts, start=start, total=total, tag=tag)


def after(state: System, registers: tuple[int, ...], answer: tuple[int, ...]) -> System | None:
    call = Call.of(2, *registers)
    seen = Observation(answer, {}, {}, {})
    found = [fit for plan in predict(state, call) for fit in match(call, plan, seen)]
    fitting = [each.after for each in found if isinstance(each, Fit)]
    return fitting[0] if fitting else None


def test_a_walk_teaches_the_tag_and_the_order() -> None:
    crowd = [replace(OTHER, id=n) for n in range(3, 9)]
    state = system(CALLER, *crowd)
    learnt = after(state, (REGS,), window(state, 0, [0x8001, 0x8002, 2, 5, 3], 9, 77))
    assert learnt is not None
    assert learnt.tag == 77
    assert codes(learnt, REGS, 0, 0, 5 | 78 << 16) == {FfaError.RETRY}
    follow = (REGS, 0, 0, 5 | 77 << 16)
    assert after(learnt, follow, window(state, 5, [4, 6, 7, 8], 9, 77))
    assert after(learnt, follow, window(state, 5, [4, 6, 7, 3], 9, 77)) is None
    assert after(learnt, follow, window(state, 5, [4, 6, 7, 8], 9, 78)) is None


def test_a_list_that_has_changed_has_another_tag() -> None:
    state = system(CALLER, OTHER)
    first = after(state, (REGS,), window(state, 0, [0x8001, 0x8002, 2, 3], 4, 5))
    assert first is not None
    changed = first.without(3)
    assert after(changed, (REGS,), window(state, 0, [0x8001, 0x8002, 2], 3, 5)) is None
    assert after(changed, (REGS,), window(state, 0, [0x8001, 0x8002, 2], 3, 6))
    assert codes(changed, REGS, 0, 0, 1 | 5 << 16) == {FfaError.RETRY}


def test_secure_partitions_come_first_and_a_uuid_names_them_alone() -> None:
    state = system(CALLER, OTHER)
    assert after(state, (REGS,), window(state, 0, [2, 0x8001, 0x8002, 3], 4, 5)) is None
    outcome = only(state, REGS, int.from_bytes(ONE.bytes[:8], "little"), 1 << 56)
    assert values(*outcome.registers[3:6]) == [{0x1FF << 32 | 1 << 16 | 0x8001}, {0}, {0}]


def test_a_guest_may_be_listed_from_its_version_on() -> None:
    caller = replace(GUEST, buffers=held())
    late = system(caller, SILENT)
    early = replace(late, profile=replace(late.profile, lists_from_version_on=True))
    for state, ids in ((late, []), (early, [4])):
        listing = only(state, FFA.PARTITION_INFO_GET).rx
        assert isinstance(listing, Listing)
        assert [each.id for each in listing.partitions] == [0x8001, 0x8002, *ids]


@pytest.mark.parametrize("early", [False, True])
def test_a_guest_that_enters_the_list_changes_the_tag(early: bool) -> None:
    state = replace(system(CALLER, Guest(3, 64, RAM)), tag=5)
    state = replace(state, profile=replace(state.profile, lists_from_version_on=early))
    (spoken,) = predict(state, Call.of(3, FFA.VERSION, 0x1_0001))
    assert isinstance(spoken, Outcome)
    (settled,) = predict(replace(spoken.after, tag=6), Call.of(3, FFA.ID_GET))
    assert isinstance(settled, Outcome)
    assert (spoken.after.tag, settled.after.tag) == ((None, 6) if early else (5, None))


# --- FFA_MEM_SHARE -------------------------------------------------------------------------------


def share(receivers: tuple[MemoryAccess, ...], **limits: Any) -> list[Plan]:
    """What becomes of a share of a page, with a hypervisor of these limits."""
    region = CompositeRegion(constituents=(Constituent(RAM[0] + 0x3000),))
    data = MemoryTransaction(sender=GUEST.id, receivers=receivers, composite=region).encode(V1_1)
    calls = CALLS | {FFA.MEM_SHARE_64}
    profile = Profile("test", V1_2, calls, **limits)
    state = System(profile, Secure(V1_2, calls, SECURE), (replace(GUEST, buffers=held()),))
    call = Call.of(GUEST.id, FFA.MEM_SHARE_64, len(data), len(data))
    return list(predict(state, replace(call, tx=data.ljust(PAGE_SIZE, b"\0"))))


def passed_on(plans: list[Plan]) -> bool:
    """Whether the SPMC is asked, and nothing else is allowed."""
    return len(plans) == 1 and isinstance(plans[0], Ask)


BOTH = tuple(MemoryAccess(each.id) for each in SECURE)


def test_how_many_may_borrow_is_the_hypervisors_own_limit() -> None:
    assert passed_on(share(BOTH[:1]))
    assert not any(isinstance(plan, Ask) for plan in share(BOTH))
    assert passed_on(share(BOTH, borrowers=2))


def test_nobody_borrows_twice_in_a_share() -> None:
    assert not any(isinstance(plan, Ask) for plan in share(BOTH[:1] * 2, borrowers=2))


def test_what_borrowers_may_do_is_the_hypervisors_own_limit() -> None:
    reads = (replace(BOTH[0], permissions=MEM_PERM_RO),)
    assert not any(isinstance(plan, Ask) for plan in share(reads))
    assert passed_on(share(reads, shared_permissions=frozenset({MEM_PERM_RO})))


# --- what is for the SPMC to refuse --------------------------------------------------------------


def relaying(*calls: FFA) -> System:
    """A hypervisor and an SPMC that have these calls."""
    state = system(GUEST, OTHER)
    return replace(
        state,
        profile=replace(state.profile, calls=frozenset(calls)),
        secure=replace(state.secure, calls=frozenset(calls)),
    )


@pytest.mark.parametrize(
    ("fid", "endpoints"),
    [(FFA.NOTIFICATION_BIND, 3 << 16 | 2), (FFA.NOTIFICATION_SET, 2 << 16 | 3)],
)
def test_notifications_of_guests_may_be_left_to_the_spmc_if_it_refuses_them(
    fid: FFA, endpoints: int
) -> None:
    alone, asked = predict(relaying(fid), Call.of(2, fid, endpoints, 0, 1))
    assert isinstance(alone, Outcome)
    assert isinstance(asked, Ask)
    (refused,) = asked.then((FFA.ERROR, 0, FfaError.DENIED.w, *(0,) * 15))
    assert isinstance(refused, Outcome)
    assert FfaError.DENIED.w in refused.registers[2]
    assert not list(asked.then((FFA.SUCCESS_32, *(0,) * 17)))


def test_a_request_to_a_guest_may_be_left_to_the_spmc_a_framework_message_may_not() -> None:
    fid = FFA.MSG_SEND_DIRECT_REQ_32
    for flags, kinds in ((0, [Outcome, Ask]), (1 << 31, [Outcome])):
        call = Call.of(2, fid, 2 << 16 | 3, flags)
        assert [type(plan) for plan in predict(relaying(fid), call)] == kinds


# --- comparison ----------------------------------------------------------------------------------


def test_a_mismatch_is_shown_register_by_register() -> None:
    call = Call.of(2, FFA.RX_RELEASE)
    seen = Observation((int(FFA.SUCCESS_32), *(0,) * 17), {}, {}, {})
    misfits = [fit for plan in predict(system(GUEST), call) for fit in match(call, plan, seen)]
    text = explain(call, GUEST, [each for each in misfits if isinstance(each, Misfit)], seen)
    assert text.splitlines()[:6] == [
        "guest 0x2 (64 bits, FF-A 1.1, no buffers) called FFA_RX_RELEASE",
        "by 13.5: the caller does not own RX",
        "",
        "    register     the model  Xen",
        "->  x0 function  FFA_ERROR  FFA_SUCCESS_32",
        "    x1           0x0        0x0",
    ]
    assert "->  x2 status    DENIED     0x0" in text.splitlines()


def test_memory_and_references_that_should_not_move_are_told() -> None:
    call = Call.of(2, FFA.ID_GET)
    (plan,) = predict(system(GUEST), call)
    page = (2, RX)
    seen = Observation(
        (int(FFA.SUCCESS_32), 0, 2, *(0,) * 15),
        {page: bytes(4096)},
        {page: bytes(8) + b"\1" + bytes(4087)},
        {page: 1},
    )
    (found,) = match(call, plan, seen)
    assert isinstance(found, Misfit)
    assert found.others == (
        "memory of guest 0x2 at 0x40001008 has changed",
        "the page of guest 0x2 at 0x40001000 is held 1 times, not 0",
    )


def test_what_lies_behind_a_list_is_as_it_was_or_zero() -> None:
    caller = replace(GUEST, buffers=held())
    listing = only(system(caller), FFA.PARTITION_INFO_GET).rx
    assert isinstance(listing, Listing)
    data = b"".join(each.encode() for each in SECURE)
    before = b"\xa5" * 4096
    assert listing.wrong(before, data + before[len(data) :]) == []
    assert listing.wrong(before, data.ljust(4096, b"\0")) == []
    assert listing.wrong(before, data.ljust(4096, b"\1"))
    assert len(listing.wrong(before, bytes(24) + data[24:].ljust(4072, b"\0"))) == 2


def test_deviations_add_up_and_name_themselves() -> None:
    low = Deviation(
        Defect("reads half", bool),
        sees=lambda state, call: [(state, Call.of(2, FFA.ID_GET), lambda after: after)],
    )
    off = Deviation(
        Defect("off by one", bool),
        says=lambda _state, _call, each: [
            replace(each, registers=(*each.registers[:2], exactly(3), *each.registers[3:]))
        ],
    )
    found = deviating([low, off], system(GUEST), Call.of(2, FFA.RX_RELEASE))
    assert {each.known for each in found if isinstance(each, Outcome)} == {
        ("reads half",),
        ("off by one",),
        ("reads half", "off by one"),
    }
