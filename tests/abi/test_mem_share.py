# SPDX-License-Identifier: GPL-2.0-only
"""FFA_MEM_SHARE: a guest shares memory with a secure partition (FF-A 1.1, 16.3 and chapter 10)."""

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ffashim import FFA, Fetch, FfaError, Machine, P2m, Spmc, Vm
from ffashim.defects.memory import (
    ASKS_FOR_A_GUEST,
    DROPS_TAG,
    IGNORES_SHARE_FLAG,
    READS_ALL_OF_X3,
    READS_AN_ODD_REGION,
    READS_BEHIND_TX,
    ROUNDS_RANGES,
    SHARES_BUFFERS,
    TAKES_MISALIGNED_ACCESS,
    TAKES_MORE_THAN_TX,
    share_behind_tx,
)
from ffashim.defects.versions import SERVES_WITHOUT_VERSION
from ffashim.descriptors import CompositeRegion, Constituent, MemoryAccess, MemoryTransaction
from ffashim.ffa import (
    MEM_ATTR_DEVICE,
    MEM_ATTR_NORMAL_WB_ISH,
    MEM_ATTR_NS,
    MEM_FLAG_CLEAR,
    MEM_FLAG_SHARE,
    MEM_PERM_RO,
    V1_1,
)
from ffashim.memory import PAGE
from ffashim.testing import (
    at_each_point,
    boot_with,
    boot_without,
    secure_partitions,
)
from ffashim.traffic import (
    NO_SP,
    SP,
    UPPER,
    footprint,
    guest,
    handle_of,
    reclaim,
    references,
    share,
    soiled,
    transaction,
    version_of,
)

Change = Callable[[MemoryTransaction], MemoryTransaction]


def most_pages(vm: Vm) -> int:
    """How many pages a guest may share at once: a limit of this mediator's."""
    return int(vm.machine.extension.record["constants"]["FFA_MAX_SHM_PAGE_COUNT"])


def most_regions(vm: Vm) -> int:
    """How many regions it may share at a time."""
    return int(vm.machine.extension.record["constants"]["FFA_MAX_SHM_COUNT"])


@pytest.fixture
def vm(vm: Vm) -> Vm:
    """A guest with RX/TX buffers."""
    vm.map_rxtx()
    return vm


def access(**fields: Any) -> Change:
    """Bend the access descriptor."""
    return lambda t: replace(t, receivers=(replace(t.receivers[0], **fields),))


def memory(**fields: Any) -> Change:
    """Bend the composite region."""

    def change(t: MemoryTransaction) -> MemoryTransaction:
        assert t.composite is not None
        return replace(t, composite=replace(t.composite, **fields))

    return change


def field(**fields: Any) -> Change:
    """Bend the transaction descriptor."""
    return lambda t: replace(t, **fields)


def bent(change: Change) -> Callable[[Machine], bool]:
    """Make a probe: is this shared all the same?"""

    def probe(machine: Machine) -> bool:
        vm = guest(machine)
        return share(vm, change(transaction(vm))).ok

    return probe


# --- success -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fid", [FFA.MEM_SHARE_32, FFA.MEM_SHARE_64])
def test_a_page_is_shared_under_a_handle(vm: Vm, spmc: Spmc, fid: FFA) -> None:
    page = vm.memory.allocate()
    reply = share(vm, transaction(vm, (page, 1)), fid)
    assert reply.fid == FFA.SUCCESS_32
    assert reply[1] == 0
    assert not any(reply[4:8])
    (shared,) = spmc.memory.shares.values()
    assert shared.handle == handle_of(reply)
    assert (shared.sender, shared.borrowers) == (vm.id, ((SP, 2),))
    assert [tuple(r) for r in shared.ranges] == [(vm.memory.machine_address(page), 1)]


def test_a_share_may_say_that_it_is_one(vm: Vm, spmc: Spmc) -> None:
    # Bits 4:3 of the flags, where 0 leaves it to the call.
    handle = handle_of(share(vm, transaction(vm, flags=MEM_FLAG_SHARE)))
    assert spmc.memory.shares[handle].sender == vm.id


def test_a_32_bit_guest_shares_memory(xen: Machine, spmc: Spmc) -> None:
    vm = guest(xen, bits=32)
    handle = handle_of(share(vm, fid=FFA.MEM_SHARE_32))
    assert spmc.memory.shares[handle].sender == vm.id


@pytest.mark.parametrize(
    "version", ["1.0", "1.1", pytest.param("1.2", marks=pytest.mark.needs(version="1.2"))]
)
def test_each_version_has_its_own_descriptor(xen: Machine, spmc: Spmc, version: str) -> None:
    vm = xen.create_vm(version)
    vm.map_rxtx()
    page = vm.memory.allocate(3)
    handle = handle_of(share(vm, transaction(vm, (page, 3))))
    assert [r.pages for r in spmc.memory.shares[handle].ranges] == [3]


@pytest.mark.needs(version="1.2")
def test_a_guest_of_1_2_may_send_the_descriptor_of_1_1(xen: Machine, spmc: Spmc) -> None:
    # An access descriptor of 16 bytes, without implementation defined data (Table 10.16).
    vm = xen.create_vm("1.2")
    vm.map_rxtx()
    handle = handle_of(share(vm, transaction(vm).encode(V1_1)))
    assert spmc.memory.shares[handle].impdef == (bytes(16),)


@pytest.mark.needs(version="1.2")
def test_implementation_defined_data_reaches_the_spmc(xen: Machine, spmc: Spmc) -> None:
    vm = xen.create_vm("1.2")
    vm.map_rxtx()
    data = bytes(range(1, 17))
    handle = handle_of(share(vm, access(impdef=data)(transaction(vm))))
    assert spmc.memory.shares[handle].impdef == (data,)


@pytest.mark.needs(version="1.2")
@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_nothing_of_one_guests_share_is_left_in_anothers(
    xen: Machine, spmc: Spmc, version: str
) -> None:
    first, second = xen.create_vm("1.2"), xen.create_vm(version)
    for vm in (first, second):
        vm.map_rxtx()
    assert share(first, access(impdef=b"\xff" * 16)(transaction(first))).ok
    handle = handle_of(share(second))
    assert spmc.memory.shares[handle].impdef == (bytes(16),)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("spmc_version", ["1.1", None])
def test_a_share_may_be_the_first_thing_that_xen_writes_to_its_tx(
    xen: Machine, version: str, spmc_version: str | None
) -> None:
    # Reserved fields must be zero, whatever was in the page (Tables 10.13 to 10.20).
    world = Spmc(
        spmc_version or xen.spmc.version,
        xen.spmc.state.partitions,
        features_off=[FFA.RX_ACQUIRE, FFA.MSG_SEND2],
    )
    xen.boot(world)
    vm = xen.create_vm(version)
    vm.map_rxtx()
    assert share(vm).ok
    assert len(world.memory.shares) == 1
    assert not world.violations


def test_the_sp_reads_what_the_guest_wrote_in_the_order_of_the_ranges(vm: Vm, spmc: Spmc) -> None:
    first = vm.memory.allocate(6)
    ranges = [(first + 4 * PAGE, 2), (first, 1), (first + 2 * PAGE, 1)]
    for n in range(6):
        vm.memory.write(first + n * PAGE, bytes([0x10 + n]) * PAGE)
    handle = handle_of(share(vm, transaction(vm, *ranges)))
    assert spmc.memory.read(handle)[::PAGE] == bytes([0x14, 0x15, 0x10, 0x12])


def test_pages_that_are_scattered_in_memory_are_all_shared(vm: Vm, spmc: Spmc) -> None:
    # One range to the guest; Xen's p2m says where its pages are.
    first = vm.memory.allocate(3)
    backing = vm.memory.allocate(3)
    for n in range(3):
        vm.memory.map(first + n * PAGE, vm.memory, backing + (2 - n) * PAGE, P2m.RAM_RW)
    handle = handle_of(share(vm, transaction(vm, (first, 3))))
    bases = [vm.memory.machine_address(backing + n * PAGE) for n in (2, 1, 0)]
    assert [tuple(r) for r in spmc.memory.shares[handle].ranges] == [(base, 1) for base in bases]


def test_memory_as_scattered_as_can_be_is_shared_or_refused(xen: Machine, spmc: Spmc) -> None:
    # The SPMC gets a range for each page, which may be too much for one descriptor.
    vm = xen.create_vm("1.1", ram_pages=1024)
    vm.map_rxtx()
    pages = most_pages(vm) - 1
    first, backing = vm.memory.allocate(pages), vm.memory.allocate(pages)
    for n in range(pages):
        vm.memory.map(first + n * PAGE, vm.memory, backing + (pages - 1 - n) * PAGE, P2m.RAM_RW)
    reply = share(vm, transaction(vm, (first, pages)))
    if reply.ok:
        (shared,) = spmc.memory.shares.values()
        assert sum(r.pages for r in shared.ranges) == pages
    else:
        assert reply.error in (FfaError.NOT_SUPPORTED, FfaError.NO_MEMORY)
        assert not any(references(vm, first, pages))


def test_an_spmc_of_1_1_is_sent_the_descriptor_of_1_1(xen: Machine) -> None:
    world = boot_with(xen, secure_partitions(1), version="1.1")
    vm = guest(xen)
    page = vm.memory.allocate()
    handle = handle_of(share(vm, transaction(vm, (page, 1))))
    assert world.memory.shares[handle].borrowers == ((SP, 2),)
    assert reclaim(vm, handle).ok
    assert not world.violations


def test_shared_pages_are_held_until_they_are_reclaimed(vm: Vm) -> None:
    page = vm.memory.allocate(2)
    handle = handle_of(share(vm, transaction(vm, (page, 2))))
    assert references(vm, page, 2) == [1, 1]
    assert reclaim(vm, handle).ok
    assert references(vm, page, 2) == [0, 0]


def test_half_a_mebibyte_can_be_shared(vm: Vm) -> None:
    # GlobalPlatform's least TEEC_CONFIG_SHAREDMEM_MAX_SIZE, which Xen's limit is made for.
    assert share(vm, transaction(vm, (vm.memory.allocate(128), 128))).ok


def test_handles_differ(vm: Vm) -> None:
    assert len({handle_of(share(vm)) for _ in range(4)}) == 4


def test_the_guest_may_reuse_tx_at_once(vm: Vm, spmc: Spmc) -> None:
    handle = handle_of(share(vm))
    before = spmc.memory.shares[handle]
    vm.tx.write(bytes(PAGE))
    assert spmc.memory.shares[handle] == before
    assert share(vm).ok


@DROPS_TAG.mark
def test_the_tag_reaches_the_spmc(vm: Vm, spmc: Spmc) -> None:
    # The borrower retrieves with the lender's tag, and the relayer compares (Table 10.20, 16.4).
    handle = handle_of(share(vm, transaction(vm, tag=0x1234_5678_9ABC_DEF0)))
    assert spmc.memory.shares[handle].tag == 0x1234_5678_9ABC_DEF0


# --- refusals ----------------------------------------------------------------------------------


def refused(vm: Vm, spmc: Spmc, what: MemoryTransaction | bytes) -> FfaError:
    """Share, see that nothing came of it, and return why."""
    machine = vm.machine
    before = footprint(machine)
    shares = dict(spmc.memory.shares)
    error = share(vm, what).error
    assert error is not None, "it was shared"
    assert spmc.memory.shares == shares
    assert footprint(machine) == before
    assert not any(references(vm, vm.memory.base + 2 * PAGE, 16))
    return error


class TestRefused:
    """Argument errors; after each, nothing is shared and nothing held."""

    @pytest.mark.parametrize(
        ("change", "error"),
        [
            pytest.param(
                field(sender=7), FfaError.INVALID_PARAMETERS, id="sender is not the caller"
            ),
            pytest.param(access(endpoint=NO_SP), FfaError.INVALID_PARAMETERS, id="no such SP"),
            # What a byte cannot hold may not be cut down to one that is right.
            pytest.param(
                field(attributes=0x100 | MEM_ATTR_NORMAL_WB_ISH),
                FfaError.INVALID_PARAMETERS,
                id="attributes of 9 bits",
            ),
            pytest.param(field(flags=0x100), FfaError.INVALID_PARAMETERS, id="flags of 9 bits"),
            pytest.param(
                field(access_count=0x101), FfaError.INVALID_PARAMETERS, id="257 borrowers"
            ),
            pytest.param(
                field(access_size=0x110), FfaError.INVALID_PARAMETERS, id="a size of 9 bits"
            ),
            pytest.param(memory(total_pages=0), FfaError.INVALID_PARAMETERS, id="no page"),
            pytest.param(memory(total_pages=2), FfaError.INVALID_PARAMETERS, id="too few pages"),
            pytest.param(
                memory(constituents=(Constituent(0x4000_3000, 3),), total_pages=2),
                FfaError.INVALID_PARAMETERS,
                id="too many pages",
            ),
            pytest.param(memory(range_count=0), FfaError.INVALID_PARAMETERS, id="no range"),
            pytest.param(memory(range_count=2), FfaError.INVALID_PARAMETERS, id="ranges left out"),
            pytest.param(
                memory(range_count=0xFFFF_FFFF), FfaError.INVALID_PARAMETERS, id="absurd ranges"
            ),
            pytest.param(
                memory(total_pages=0xFFFF_FFFF), FfaError.NO_MEMORY, id="more pages than the limit"
            ),
            # What follows are limits that ffa.c documents.
            pytest.param(access(permissions=MEM_PERM_RO), FfaError.NOT_SUPPORTED, id="read only"),
            pytest.param(
                field(attributes=MEM_ATTR_DEVICE), FfaError.NOT_SUPPORTED, id="device memory"
            ),
            pytest.param(
                lambda t: replace(t, receivers=(*t.receivers, MemoryAccess(0x8002))),
                FfaError.NOT_SUPPORTED,
                id="two borrowers",
            ),
        ],
    )
    def test_a_descriptor_that_is_wrong(
        self, vm: Vm, spmc: Spmc, change: Change, error: FfaError
    ) -> None:
        assert refused(vm, spmc, change(transaction(vm))) is error

    @pytest.mark.parametrize(
        "version", ["1.0", "1.1", pytest.param("1.2", marks=pytest.mark.needs(version="1.2"))]
    )
    @pytest.mark.parametrize(
        "change", [field(sender=7), field(flags=0x100)], ids=["sender", "flags of 9 bits"]
    )
    def test_a_descriptor_of_any_version_that_is_wrong(
        self, xen: Machine, spmc: Spmc, version: str, change: Change
    ) -> None:
        vm = xen.create_vm(version)
        vm.map_rxtx()
        assert refused(vm, spmc, change(transaction(vm))) is FfaError.INVALID_PARAMETERS

    @pytest.mark.known_defect(
        bent(field(handle=1)), "takes a handle in a share, where it must be zero"
    )
    @pytest.mark.parametrize("handle", [1, 1 << 63])
    def test_a_handle(self, vm: Vm, spmc: Spmc, handle: int) -> None:
        # It is the relayer's to choose (Table 10.20).
        what = transaction(vm, handle=handle)
        assert refused(vm, spmc, what) is FfaError.INVALID_PARAMETERS

    def test_a_borrower_that_is_a_vm(self, xen: Machine, vm: Vm, spmc: Spmc) -> None:
        # A limit; which error it gets is not said, and 4.18 leaves it to the SPMC.
        other = guest(xen)
        assert refused(vm, spmc, access(endpoint=other.id)(transaction(vm)))

    def test_a_page_beyond_the_limit(self, vm: Vm, spmc: Spmc) -> None:
        pages = most_pages(vm) + 1
        what = transaction(vm, (vm.memory.allocate(pages), pages))
        assert refused(vm, spmc, what) is FfaError.NO_MEMORY

    @pytest.mark.parametrize(
        "kind", [P2m.RAM_RO, P2m.UNMAPPED, P2m.MMIO, P2m.FOREIGN, P2m.GRANT], ids=lambda k: k.name
    )
    def test_a_page_that_is_not_the_guests_own_ram(self, vm: Vm, spmc: Spmc, kind: P2m) -> None:
        page = vm.memory.allocate(3)
        vm.memory.set_type(page + PAGE, kind)
        assert refused(vm, spmc, transaction(vm, (page, 3))) is FfaError.DENIED

    def test_addresses_outside_ram(self, vm: Vm, spmc: Spmc) -> None:
        assert refused(vm, spmc, transaction(vm, (vm.memory.end, 1))) is FfaError.DENIED

    def test_a_range_that_wraps_around(self, vm: Vm, spmc: Spmc) -> None:
        # Invalid as a range, and no RAM either: both errors are right.
        assert refused(vm, spmc, transaction(vm, ((1 << 64) - PAGE, 2)))

    def test_memory_that_is_shared_already(self, vm: Vm) -> None:
        page = vm.memory.allocate(3)
        assert share(vm, transaction(vm, (page, 2))).ok
        assert share(vm, transaction(vm, (page + PAGE, 2))).error is FfaError.DENIED
        assert references(vm, page, 3) == [1, 1, 0]

    @pytest.mark.parametrize("length", [0, 1, 31])
    def test_a_length_that_holds_no_descriptor(self, vm: Vm, spmc: Spmc, length: int) -> None:
        data = transaction(vm).encode(version_of(vm))
        assert refused(vm, spmc, data[:length]) is FfaError.INVALID_PARAMETERS

    @pytest.mark.parametrize("length", [0, 31])
    def test_a_length_that_holds_no_descriptor_of_1_0(
        self, xen: Machine, spmc: Spmc, length: int
    ) -> None:
        vm = xen.create_vm("1.0")
        vm.map_rxtx()
        data = transaction(vm).encode(version_of(vm))
        assert refused(vm, spmc, data[:length]) is FfaError.INVALID_PARAMETERS

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(field(attributes=MEM_ATTR_NORMAL_WB_ISH | 0x100), id="attributes"),
            pytest.param(field(flags=0x100), id="flags"),
            pytest.param(field(access_size=0x110), id="size of an access descriptor"),
            pytest.param(field(access_count=0x101), id="number of access descriptors"),
            pytest.param(field(access_offset=0x4000_0000), id="offset of the access descriptors"),
            # In 32 bits the end of the descriptors wraps around to the beginning.
            pytest.param(field(access_offset=0xFFFF_FFF0), id="offset that wraps around"),
            pytest.param(field(access_count=0x20), id="access descriptors beyond the end"),
        ],
    )
    def test_a_header_with_an_absurd_value(self, vm: Vm, spmc: Spmc, change: Change) -> None:
        # Reserved bits that must be zero, or what lies outside of the descriptor (Table 10.20).
        what = change(transaction(vm))
        assert refused(vm, spmc, what) is FfaError.INVALID_PARAMETERS

    def test_a_fragment_longer_than_the_whole(self, vm: Vm) -> None:
        vm.tx.write(transaction(vm).encode(version_of(vm)))
        assert vm.smc(FFA.MEM_SHARE_64, 96, 112).error is FfaError.INVALID_PARAMETERS

    def test_a_first_fragment(self, vm: Vm) -> None:
        # A limit: no FFA_MEM_FRAG_TX.
        vm.tx.write(transaction(vm).encode(version_of(vm)))
        assert vm.smc(FFA.MEM_SHARE_64, 4096, 112).error is FfaError.NOT_SUPPORTED

    def test_a_buffer_that_is_not_tx(self, vm: Vm) -> None:
        # FFA_FEATURES says that there are no dynamically allocated buffers (13.3).
        page = vm.memory.allocate()
        data = transaction(vm).encode(version_of(vm))
        vm.memory.write(page, data)
        reply = vm.smc(FFA.MEM_SHARE_64, len(data), len(data), page, 1)
        assert reply.error is FfaError.NOT_SUPPORTED

    def test_a_guest_without_buffers(self, xen: Machine) -> None:
        # There is no TX to read. INVALID_PARAMETERS would do where the length is wrong as well.
        vm = guest(xen, buffers=False)
        assert vm.smc(FFA.MEM_SHARE_64, 112, 112).error is FfaError.DENIED

    @TAKES_MORE_THAN_TX.mark
    def test_a_descriptor_longer_than_tx(self, vm: Vm, spmc: Spmc) -> None:
        vm.tx.write(transaction(vm).encode(version_of(vm)))
        # Beyond the buffer is an error of the caller's; which one is not said.
        assert vm.smc(FFA.MEM_SHARE_64, PAGE + 16, PAGE + 16).error
        assert not spmc.memory.shares

    @IGNORES_SHARE_FLAG[MEM_FLAG_CLEAR].mark
    def test_zeroing_what_is_shared(self, vm: Vm, spmc: Spmc) -> None:
        # The lender keeps access: the flag must be zero in a share (10.11.4).
        change = field(flags=MEM_FLAG_CLEAR)
        assert refused(vm, spmc, change(transaction(vm))) is FfaError.INVALID_PARAMETERS

    @pytest.mark.parametrize(
        "flags",
        [
            *(pytest.param(n, marks=each.mark) for n, each in IGNORES_SHARE_FLAG.items()),
            *(1 << n for n in (8, 9, 10, 31)),
        ],
        ids=hex,
    )
    def test_flags_that_a_share_does_not_have(self, vm: Vm, spmc: Spmc, flags: int) -> None:
        # Time slices are for a relayer that has them, the others are a borrower's (10.11.4).
        assert refused(vm, spmc, field(flags=flags)(transaction(vm)))

    def test_attributes_with_the_ns_bit(self, xen: Machine, vm: Vm, spmc: Spmc) -> None:
        # Bit 6 is a receiver's field (Table 10.18); before Xen knew it, it was one attribute
        # that it does not support.
        change = field(attributes=MEM_ATTR_NORMAL_WB_ISH | MEM_ATTR_NS)
        assert refused(vm, spmc, change(transaction(vm)))

    @ROUNDS_RANGES.mark
    def test_an_address_that_is_not_page_aligned(self, vm: Vm, spmc: Spmc) -> None:
        what = transaction(vm, (vm.memory.allocate() + 1, 1))
        assert refused(vm, spmc, what) is FfaError.INVALID_PARAMETERS

    @TAKES_MISALIGNED_ACCESS.mark
    def test_access_descriptors_that_are_not_aligned(self, vm: Vm, spmc: Spmc) -> None:
        what = field(access_offset=56)(transaction(vm))
        assert refused(vm, spmc, what) is FfaError.INVALID_PARAMETERS

    @READS_BEHIND_TX.mark
    def test_an_access_descriptor_behind_the_end_of_tx(self, vm: Vm) -> None:
        assert share_behind_tx(vm) is FfaError.INVALID_PARAMETERS

    @pytest.mark.parametrize(
        "offset", [PAGE - 15, PAGE, 0xFFFF_FFF0, 0xFFFF_FFF8, 0xFFFF_FFFF], ids=hex
    )
    def test_a_region_outside_the_descriptor(self, vm: Vm, spmc: Spmc, offset: int) -> None:
        # Invalid, or a layout that is not supported: FF-A leaves the choice.
        assert refused(vm, spmc, access(composite_offset=offset)(transaction(vm)))

    @READS_AN_ODD_REGION.mark
    def test_a_region_at_an_odd_offset(self, vm: Vm) -> None:
        # FF-A asks for no alignment; in C there may be no such region.
        error = share(vm, transaction(vm, composite_offset=65)).error
        assert error in (None, FfaError.INVALID_PARAMETERS)

    def test_a_page_that_is_listed_twice(self, vm: Vm, spmc: Spmc) -> None:
        # By Xen or by the SPMC: FF-A does not say which.
        page = vm.memory.allocate(2)
        assert refused(vm, spmc, transaction(vm, (page, 2), (page, 1)))

    @SHARES_BUFFERS.mark
    def test_the_guests_own_buffers(self, vm: Vm) -> None:
        # They are the two owners' own while they are registered (7.2.2).
        assert not share(vm, transaction(vm, (vm.rx.address, 1))).ok


# --- limits, the heap, the SPMC ----------------------------------------------------------------


def test_a_guest_shares_so_many_regions_at_once(vm: Vm) -> None:
    handles = [handle_of(share(vm)) for _ in range(most_regions(vm))]
    assert share(vm).error is FfaError.NO_MEMORY
    assert reclaim(vm, handles[5]).ok
    assert share(vm).ok


def test_a_descriptor_that_is_cut_anywhere_is_refused(vm: Vm, spmc: Spmc) -> None:
    whole = transaction(vm).encode(version_of(vm))
    vm.tx.write(whole)
    for length in range(len(whole)):
        assert vm.smc(FFA.MEM_SHARE_64, length, length).error
    assert not spmc.memory.shares
    assert vm.smc(FFA.MEM_SHARE_64, len(whole), len(whole)).ok


@pytest.mark.spmc(version="1.1")
def test_a_descriptor_that_fills_the_page_is_shared(xen: Machine, spmc: Spmc) -> None:
    # So long that the SPMC's, which is laid out alike, fills Xen's own TX: 80 bytes, 16 a range.
    vm = xen.create_vm("1.1", ram_pages=1024)
    vm.map_rxtx()
    every_other = [(vm.memory.allocate(2), 1) for _ in range(251)]
    what = transaction(vm, *every_other)
    assert len(what.encode(V1_1)) == PAGE
    held = spmc.memory.shares[handle_of(share(vm, what))]
    assert [each.base for each in held.ranges] == [
        vm.memory.machine_address(address) for address, _ in every_other
    ]


def test_one_guests_limit_is_not_anothers(xen: Machine, vm: Vm) -> None:
    for _ in range(most_regions(vm)):
        assert share(vm).ok
    assert share(guest(xen)).ok


def test_no_memory_is_left(xen: Machine, vm: Vm, spmc: Spmc) -> None:
    xen.fail_allocation()
    assert refused(vm, spmc, transaction(vm)) is FfaError.NO_MEMORY
    assert share(vm).ok


def test_a_guest_that_got_no_memory_leaves_nothing(xen: Machine, vm: Vm) -> None:
    xen.fail_allocation()
    assert share(vm).error
    assert vm.destroy()
    assert not xen.timers


@ASKS_FOR_A_GUEST.mark
def test_what_was_checked_is_what_the_spmc_is_asked(xen: Machine, spmc: Spmc, vm: Vm) -> None:
    # TX stays the guest's while Xen reads it: another vCPU may write there at any moment.
    what = transaction(vm)
    data = what.encode(version_of(vm))
    vm.tx.write(data)
    to_a_guest = access(endpoint=3)(what).encode(version_of(vm))
    turns = 0
    for _ in at_each_point(
        xen,
        lambda: vm.smc(FFA.MEM_SHARE_64, len(data), len(data)),
        lambda: vm.tx.write(to_a_guest),
    ):
        turns += 1
        assert all(each.borrowers[0][0] == SP for each in spmc.memory.shares.values())
        assert not any(smc.error for smc in spmc.calls(FFA.MEM_SHARE_64))
    assert turns


def test_of_two_vcpus_that_share_at_once_one_may_find_tx_busy(xen: Machine, spmc: Spmc) -> None:
    # Both send the same page: who comes second is denied it.
    vm = xen.create_vm("1.1", vcpus=2)
    vm.map_rxtx()
    data = transaction(vm).encode(V1_1)
    vm.tx.write(data)
    errors = set()
    for replies in at_each_point(
        xen,
        lambda: vm.smc(FFA.MEM_SHARE_64, len(data), len(data)),
        lambda: vm.vcpus[1].smc(FFA.MEM_SHARE_64, len(data), len(data)),
    ):
        assert sum(reply.ok for reply in replies) == len(spmc.memory.shares) == 1
        errors |= {reply.error for reply in replies if not reply.ok}
    assert FfaError.BUSY in errors
    assert errors <= {FfaError.BUSY, FfaError.DENIED}


@pytest.mark.parametrize(
    "error", [FfaError.NO_MEMORY, FfaError.DENIED, FfaError.BUSY, FfaError.ABORTED]
)
def test_what_the_spmc_refuses_is_not_held(vm: Vm, spmc: Spmc, error: FfaError) -> None:
    spmc.on(FFA.MEM_SHARE_64).error(error, times=1)
    assert refused(vm, spmc, transaction(vm)) is error
    assert share(vm).ok


def hands_out_offset(machine: Machine) -> bool:
    machine.spmc.on(FFA.MEM_SHARE_64).reply(FFA.MEM_FRAG_RX, 1, 0, 64)
    return share(guest(machine)).w(2) == 64


@pytest.mark.known_defect(
    hands_out_offset,
    "hands out the SPMC's fragment offset as an error code; FF-A leaves open which one is right",
)
def test_an_spmc_that_asks_for_more_is_an_error(vm: Vm, spmc: Spmc) -> None:
    spmc.on(FFA.MEM_SHARE_64).reply(FFA.MEM_FRAG_RX, 1, 0, 64)
    reply = share(vm)
    assert reply.fid == FFA.ERROR
    assert reply.w(2) in [error.w for error in FfaError]


def takes_a_request_for_success(machine: Machine) -> bool:
    machine.spmc.on(FFA.MEM_SHARE_64).reply(FFA.MEM_FRAG_RX, 1, 0, 0)
    return share(guest(machine)).ok


@pytest.mark.known_defect(
    takes_a_request_for_success,
    "takes FFA_MEM_FRAG_RX at offset 0 for success: nothing is shared, and the pages are held",
)
def test_an_spmc_that_asks_for_all_of_it_again_has_shared_nothing(vm: Vm, spmc: Spmc) -> None:
    page = vm.memory.allocate()
    spmc.on(FFA.MEM_SHARE_64).reply(FFA.MEM_FRAG_RX, 1, 0, 0)
    assert share(vm, transaction(vm, (page, 1))).fid == FFA.ERROR
    assert references(vm, page) == [0]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param((FFA.ERROR,), id="an error that names none"),
        pytest.param((FFA.MEM_FRAG_RX, 1, 0, 0x8000_0000), id="an offset that cannot be"),
    ],
)
def test_a_senseless_answer_of_the_spmc_is_an_error(
    vm: Vm, spmc: Spmc, answer: tuple[int, ...]
) -> None:
    page = vm.memory.allocate()
    spmc.on(FFA.MEM_SHARE_64).reply(*answer)
    assert share(vm, transaction(vm, (page, 1))).error
    assert references(vm, page) == [0]


def test_what_the_spmc_lacks_is_not_supported(xen: Machine) -> None:
    boot_without(xen, FFA.MEM_SHARE_32, FFA.MEM_SHARE_64)
    assert share(guest(xen)).error is FfaError.NOT_SUPPORTED


def test_an_unknown_answer_of_the_spmc_is_an_error(vm: Vm, spmc: Spmc) -> None:
    spmc.on(FFA.MEM_SHARE_64).reply(FFA.MSG_WAIT)
    assert share(vm).error is FfaError.NOT_SUPPORTED
    assert not any(references(vm, vm.memory.base + 2 * PAGE, 4))


# --- who may call, and how ---------------------------------------------------------------------


@SERVES_WITHOUT_VERSION.mark
def test_before_version_negotiation_it_is_not_supported(xen: Machine) -> None:
    assert xen.create_vm().smc(FFA.MEM_SHARE_32, 96, 96).error is FfaError.NOT_SUPPORTED


def test_a_32_bit_guest_cannot_make_the_64_bit_call(xen: Machine) -> None:
    vm = guest(xen, bits=32)
    assert share(vm, fid=FFA.MEM_SHARE_64).unknown


def test_upper_register_halves_do_not_count(vm: Vm) -> None:
    data = transaction(vm).encode(version_of(vm))
    vm.tx.write(data)
    assert vm.smc(FFA.MEM_SHARE_32, len(data) | UPPER, len(data) | UPPER, 0, UPPER).ok


@READS_ALL_OF_X3.mark
def test_the_upper_half_of_the_address_does_not_count_for_the_32_bit_call(vm: Vm) -> None:
    data = transaction(vm).encode(version_of(vm))
    vm.tx.write(data)
    assert vm.smc(FFA.MEM_SHARE_32, *soiled(len(data), len(data), 0, 0)).ok


def test_a_region_at_the_very_end_of_tx_is_shared(vm: Vm) -> None:
    data = transaction(vm, composite_offset=PAGE - 32).encode(version_of(vm))
    assert len(data) == PAGE
    assert share(vm, data).ok


def test_a_region_that_ends_at_the_page_without_ranges_is_refused(vm: Vm, spmc: Spmc) -> None:
    empty = CompositeRegion((), total_pages=1, range_count=1)
    what = replace(transaction(vm), composite=empty, composite_offset=PAGE - 16)
    assert refused(vm, spmc, what) is FfaError.INVALID_PARAMETERS


# --- what changes meanwhile --------------------------------------------------------------------


@pytest.mark.needs(sanitize="double-fetch", version="1.1", abi=FFA.MEM_SHARE_64)
def test_a_guest_shares_its_own_whatever_changes_while_it_is_read(xen: Machine, spmc: Spmc) -> None:
    # The parts of this descriptor lie over each other, so that Xen reads bytes twice. In between
    # they become what the second part has to be.
    vm = xen.create_vm("1.1")
    vm.map_rxtx()
    page = vm.memory.allocate()
    data = bytearray(transaction(vm, (page, 1)).encode(V1_1))
    receiver = bytes(data[48:64])
    struct.pack_into("<I", data, 32, 32)
    data[36:40] = receiver[4:8]
    vm.tx.write(bytes(data))

    def intrude(fetch: Fetch) -> None:
        if fetch.first:
            fetch.page[32:48] = receiver

    with xen.at_fetches(intrude):
        reply = vm.smc(FFA.MEM_SHARE_64, len(data), len(data))
    assert reply.ok
    (shared,) = spmc.memory.shares.values()
    assert shared.sender == vm.id
    assert [each.base for each in shared.ranges] == [vm.memory.machine_address(page)]


@pytest.mark.needs(sanitize="double-fetch", abi=FFA.MEM_SHARE_64)
@pytest.mark.parametrize("ranges", [1, 3])
def test_a_descriptor_is_read_once(xen: Machine, vm: Vm, ranges: int) -> None:
    pages = [vm.memory.allocate(2) for _ in range(ranges)]
    seen: list[Fetch] = []
    with xen.at_fetches(seen.append):
        assert share(vm, transaction(vm, *((page, 1) for page in pages))).ok
    assert seen
    assert not [fetch for fetch in seen if fetch.first]
