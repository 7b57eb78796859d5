# SPDX-License-Identifier: GPL-2.0-only
"""Boot: tee_init() finds out what the secure world can do, and guests are told the truth of it."""

import itertools
from collections.abc import Callable, Iterator, Sequence

import pytest
from _pytest.mark import ParameterSet

from ffashim import FFA, DomainError, FfaError, Machine, SecurePartition, Spmc, Vm
from ffashim.capabilities import highest_version
from ffashim.defaults import default_spmc
from ffashim.defects import crashes
from ffashim.defects.buffers import HIDES_BUFFERS
from ffashim.defects.discovery import DROPS_64_PARTITIONS, STRIDES_AT_BOOT
from ffashim.defects.features import (
    CALLS_IN_VAIN,
    FORWARDED,
    IN_VAIN,
    NOTIFICATION_INTERRUPTS,
    REPORTS_IN_VAIN,
    REPORTS_INTERRUPTS_IN_VAIN,
    REPORTS_UNPREPARED,
    boot_without_interrupt,
    done_by_xen,
)
from ffashim.faults import XenAccess, XenAssertion
from ffashim.ffa import ID_SECURE, NOTIFICATIONS, Feature, Version
from ffashim.spmc.replies import Regs, error
from ffashim.testing import (
    boot_with,
    secure_partitions,
    visible_to,
)
from ffashim.traffic import SP, bind

ABIS = [
    FFA.FEATURES,
    FFA.RXTX_MAP_64,
    FFA.RXTX_UNMAP,
    FFA.RX_RELEASE,
    FFA.RX_ACQUIRE,
    FFA.PARTITION_INFO_GET,
    FFA.MEM_SHARE_32,
    FFA.MEM_SHARE_64,
    FFA.MEM_RECLAIM,
    FFA.MSG_SEND_DIRECT_REQ_32,
    FFA.MSG_SEND_DIRECT_REQ_64,
    FFA.MSG_SEND_DIRECT_REQ2,
    FFA.MSG_SEND2,
    FFA.RUN,
    FFA.NOTIFICATION_BITMAP_CREATE,
    FFA.NOTIFICATION_BITMAP_DESTROY,
    FFA.NOTIFICATION_GET,
    FFA.NOTIFICATION_INFO_GET_64,
    FFA.SPM_ID_GET,
    FFA.ID_GET,
]
"""What an SPMC may lack."""


def alive(xen: Machine) -> Vm | None:
    """A guest that speaks FF-A and has used it, None if this machine has none to offer.

    Xen may offer nothing; it may not fail, nor answer with what is no FF-A.
    """
    try:
        vm = xen.create_vm()
    except DomainError:
        return None
    version = vm.smc(FFA.VERSION, int(highest_version(xen)))
    assert version.fid == int(highest_version(xen))
    assert vm.smc(FFA.ID_GET).ok
    vm.version = highest_version(xen)
    for reply in (
        vm.smc(FFA.FEATURES, FFA.VERSION),
        vm.smc(FFA.RXTX_MAP_64, vm.memory.allocate(), vm.memory.allocate(), 1),
        vm.partition_info_get(),
        vm.smc(FFA.RX_RELEASE),
        vm.smc(FFA.RXTX_UNMAP),
    ):
        assert reply.ok or reply.error is not None or reply.unknown
    return vm


def only_guests(xen: Machine) -> bool:
    """Whether FF-A is there between guests, if at all: no secure partition can be found."""
    vm = alive(xen)
    if vm is None:
        return not xen.extension.enabled("FFA_VM_TO_VM")
    count = vm.smc(FFA.PARTITION_INFO_GET, x5=1).w(2)
    known = [each for each in visible_to(vm) if not each.id & ID_SECURE]
    return xen.extension.enabled("FFA_VM_TO_VM") and count == len(known)


# --- versions ----------------------------------------------------------------------------------


@pytest.mark.spmc(version=None, partitions=[])
def test_without_an_spmc_there_is_ff_a_between_guests_at_most(xen: Machine) -> None:
    assert only_guests(xen)
    assert xen.spmc.log.names == ["FFA_VERSION"]


@pytest.mark.parametrize("version", ["0.9", "1.0", "2.0", "2.2", "32767.65535"])
def test_an_incompatible_spmc_is_not_used(xen: Machine, version: str) -> None:
    # 1.0 knows neither descriptors with UUIDs nor RX_ACQUIRE: Xen wants 1.1.
    boot_with(xen, (), version=version)
    assert only_guests(xen)
    assert xen.spmc.log.names == ["FFA_VERSION"]


def newer(xen: Machine) -> str:
    own = highest_version(xen)
    return f"{own.major}.{own.minor + 1}"


def refuses_a_newer_spmc(xen: Machine) -> bool:
    boot_with(xen, (), version=newer(xen))
    return len(xen.spmc.log) == 1


NEWER = pytest.mark.known_defect(
    refuses_a_newer_spmc, "refuses an SPMC of a later minor version, which is compatible (13.2.1)"
)


@NEWER
@pytest.mark.parametrize("minor", [1, 2, 0xFFF0])
def test_a_newer_spmc_is_used_at_xens_version(xen: Machine, minor: int) -> None:
    own = highest_version(xen)
    world = boot_with(xen, secure_partitions(2), version=f"{own.major}.{own.minor + minor}")
    assert world.negotiated == own
    vm = alive(xen)
    assert vm is not None
    assert vm.smc(FFA.PARTITION_INFO_GET, x5=1).w(2) == len(visible_to(vm))
    assert not world.violations


def test_an_spmc_of_1_1_is_used(xen: Machine) -> None:
    world = boot_with(xen, secure_partitions(2), version="1.1")
    vm = alive(xen)
    assert vm is not None
    assert vm.smc(FFA.PARTITION_INFO_GET, x5=1).w(2) == len(visible_to(vm))
    assert not world.violations


@pytest.mark.needs(abi=FFA.FEATURES, version="1.2")
def test_with_an_spmc_of_1_1_guests_have_no_direct_request_2(xen: Machine) -> None:
    boot_with(xen, secure_partitions(1), version="1.1")
    vm = xen.create_vm("1.2")
    assert vm.smc(FFA.FEATURES, FFA.MSG_SEND_DIRECT_REQ2).error is FfaError.NOT_SUPPORTED
    reply = vm.smc(FFA.MSG_SEND_DIRECT_REQ2, vm.id << 16 | 0x8001)
    assert reply.error is FfaError.NOT_SUPPORTED


def test_the_version_is_the_first_thing_to_be_agreed_on(xen: Machine) -> None:
    first = xen.spmc.log[0]
    assert (first.fid, first.x1) == (FFA.VERSION, int(highest_version(xen)))


@pytest.mark.spmc(partitions=[])
@pytest.mark.parametrize("smccc", ["1.0", "1.1"])
def test_firmware_below_smccc_1_2_is_not_asked(xen: Machine, smccc: str) -> None:
    # FF-A needs x8 to x17.
    before = xen.smccc
    xen.smccc = Version.parse(smccc)
    try:
        xen.boot()
        assert len(xen.spmc.log) == 0
        assert only_guests(xen)
    finally:
        xen.smccc = before


# --- after boot --------------------------------------------------------------------------------


def test_xen_gives_its_rx_buffer_back(xen: Machine) -> None:
    own = xen.spmc.state.hypervisor
    assert own is not None
    assert not own.held


def does_not_warn(xen: Machine) -> bool:
    return xen.extension.enabled("FFA_VM_TO_VM") and xen.taints == 0


@pytest.mark.known_defect(
    does_not_warn, "VM to VM taints Xen, and is warned of, only where no SPMC is found"
)
def test_vm_to_vm_taints_xen(xen: Machine) -> None:
    # Its own comment: there is no way to limit which guests talk, so the system counts as insecure.
    assert xen.taints == int(xen.extension.enabled("FFA_VM_TO_VM"))


@pytest.mark.needs(vm_to_vm=True)
@pytest.mark.spmc(version=None, partitions=[])
def test_vm_to_vm_without_an_spmc_taints_xen(xen: Machine) -> None:
    assert xen.taints == 1
    assert any("insecure" in line.text for line in xen.console)


# --- partitions --------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 62, 63])
def test_so_many_partitions_are_found(xen: Machine, count: int) -> None:
    boot_with(xen, secure_partitions(count))
    vm = alive(xen)
    assert vm is not None
    assert vm.smc(FFA.PARTITION_INFO_GET, x5=1).w(2) == len(visible_to(vm))


@DROPS_64_PARTITIONS.mark
def test_64_partitions_are_found(xen: Machine) -> None:
    boot_with(xen, secure_partitions(64))
    vm = alive(xen)
    assert vm is not None
    assert vm.smc(FFA.PARTITION_INFO_GET, x5=1).w(2) == len(visible_to(vm))


@pytest.mark.parametrize("count", [65, 128, 170, 171, 500])
def test_too_many_partitions_are_survived(xen: Machine, count: int) -> None:
    # 170 descriptors fill the page that Xen's RX buffer has; the SPMC says NO_MEMORY beyond.
    boot_with(xen, secure_partitions(count))
    vm = alive(xen)
    if vm is not None:
        assert vm.smc(FFA.PARTITION_INFO_GET, x5=1).w(2) in (
            len(visible_to(vm)),
            len(visible_to(vm)) - count,
        )


@pytest.mark.parametrize("ids", [[1], [0x7FFF, 2], [0x8001, 0x4001], [0, 0x8002, 0xFFFF]])
def test_partitions_without_bit_15_are_survived(xen: Machine, ids: list[int]) -> None:
    boot_with(xen, [SecurePartition(each) for each in ids], tolerate=["vm-id"])
    assert alive(xen) is not None


@pytest.mark.parametrize(
    "size", [24, *(pytest.param(size, marks=STRIDES_AT_BOOT.mark) for size in (32, 48, 1024))]
)
def test_larger_descriptors_are_read(xen: Machine, size: int) -> None:
    # The SPs that want to know of guests are told, wherever their descriptors lie.
    world = boot_with(xen, [SecurePartition(0x8001), SecurePartition(0x8002)], descriptor_size=size)
    vm = alive(xen)
    assert vm is not None
    assert {(sp, vm.id) for sp in (0x8001, 0x8002)} <= world.state.created


# --- an SPMC that lacks something ----------------------------------------------------------------


def use(vm: Vm) -> None:
    """Call all that is reported, as a guest would that believes it."""
    arguments: dict[FFA, Sequence[int]] = {
        FFA.RUN: (0x8001 << 16,),
        FFA.MSG_SEND_DIRECT_REQ_32: (vm.id << 16 | 0x8001,),
        FFA.MSG_SEND_DIRECT_REQ_64: (vm.id << 16 | 0x8001,),
        FFA.MSG_SEND_DIRECT_REQ2: (vm.id << 16 | 0x8001,),
        FFA.NOTIFICATION_BIND: (0x8001 << 16 | vm.id, 0, 1),
        FFA.NOTIFICATION_GET: (vm.id, 1),
    }
    vm.smc(FFA.RXTX_MAP_64, vm.memory.allocate(), vm.memory.allocate(), 1)
    for fid in FFA:
        if vm.smc(FFA.FEATURES, fid).ok and fid is not FFA.RXTX_UNMAP:
            vm.smc(fid, *arguments.get(fid, ()))


def run_on(xen: Machine, abi: FFA) -> Spmc:
    """Boot on an SPMC without an ABI, and have a guest use what there is, from birth to death.

    Without RX_ACQUIRE there is no SEND2, either: it has no other way to a guest's TX.
    """
    world = default_spmc(xen.extension)
    off = [abi, FFA.MSG_SEND2] if abi is FFA.RX_ACQUIRE else [abi]
    world = Spmc(world.version, world.state.partitions, features_off=off)
    xen.boot(world)
    vm = alive(xen)
    if vm is not None:
        use(vm)
        vm.destroy()
    return world


def defects(
    check: Callable[[Machine, FFA], bool], abis: Sequence[FFA], finding: str
) -> list[ParameterSet]:
    """A parameter for each ABI, with a probe of its own."""

    def probe(abi: FFA) -> Callable[[Machine], bool]:
        return lambda xen: not check(xen, abi)

    return [
        pytest.param(abi, marks=pytest.mark.known_defect(probe(abi), finding), id=abi.name)
        for abi in abis
    ]


@pytest.mark.parametrize("abi", ABIS, ids=lambda abi: abi.name)
def test_what_the_spmc_lacks_is_survived(xen: Machine, abi: FFA) -> None:
    run_on(xen, abi)


def calls_only_what_is_there(xen: Machine, abi: FFA) -> bool:
    return not [note for note in run_on(xen, abi).notes if note.rule == "unsupported"]


OPTIONAL = [
    # An SPMC with RXTX_MAP has these two (13.5, 13.7), and every one has FEATURES.
    abi
    for abi in ABIS
    if abi not in (FFA.FEATURES, FFA.RXTX_UNMAP, FFA.RX_RELEASE)
]


@pytest.mark.parametrize("abi", defects(calls_only_what_is_there, OPTIONAL, CALLS_IN_VAIN))
def test_xen_calls_nothing_that_the_spmc_lacks(xen: Machine, abi: FFA) -> None:
    assert calls_only_what_is_there(xen, abi)


def reports(vm: Vm, what: int) -> bool:
    reply = vm.smc(FFA.FEATURES, what)
    assert reply.ok or reply.error is FfaError.NOT_SUPPORTED
    return reply.ok


def tells_that_there_is_nothing(xen: Machine, abi: FFA) -> bool:
    expected = done_by_xen(xen, abi)
    xen.boot(Spmc(None))
    vm = alive(xen)
    return vm is None or reports(vm, abi) == expected


@pytest.mark.needs(abi=FFA.FEATURES)
@pytest.mark.parametrize(
    "abi",
    [pytest.param(abi, marks=defect.mark, id=abi.name) for abi, defect in REPORTS_IN_VAIN.items()],
)
def test_what_the_spmc_lacks_is_not_reported_to_guests(xen: Machine, abi: FFA) -> None:
    expected = done_by_xen(xen, abi)
    run_on(xen, abi)
    vm = alive(xen)
    assert vm is None or reports(vm, abi) == expected


@REPORTS_INTERRUPTS_IN_VAIN.mark
@pytest.mark.needs(abi=FFA.NOTIFICATION_GET)
def test_interrupts_of_notifications_that_there_are_not_are_not_reported(xen: Machine) -> None:
    # 13.3, Table 13.13: what is not implemented is NOT_SUPPORTED.
    expected = done_by_xen(xen, FFA.NOTIFICATION_GET)
    world = default_spmc(xen.extension)
    xen.boot(Spmc(world.version, world.state.partitions, features_off=NOTIFICATIONS))
    vm = alive(xen)
    if vm is not None:
        assert [reports(vm, each) for each in NOTIFICATION_INTERRUPTS] == [expected, expected]


@pytest.mark.needs(abi=FFA.NOTIFICATION_GET)
@pytest.mark.parametrize("memory", [False, True], ids=["no interrupt", "no memory"])
@pytest.mark.parametrize(
    "what",
    [
        pytest.param(what, marks=defect.mark, id=what.name)
        for what, defect in REPORTS_UNPREPARED.items()
    ],
)
def test_notifications_that_could_not_be_set_up_are_not_reported(
    xen: Machine, what: FFA | Feature, memory: bool
) -> None:
    # The SPMC has all that it takes, and yet no partition can notify a guest (13.3).
    expected = done_by_xen(xen, what)
    boot_without_interrupt(xen, memory)
    vm = alive(xen)
    assert vm is None or reports(vm, what) == expected


@pytest.mark.needs(abi=FFA.FEATURES, vm_to_vm=True)
@pytest.mark.parametrize("abi", defects(tells_that_there_is_nothing, FORWARDED, IN_VAIN))
def test_without_an_spmc_guests_are_not_told_of_what_it_would_do(xen: Machine, abi: FFA) -> None:
    assert tells_that_there_is_nothing(xen, abi)


@HIDES_BUFFERS.mark
@pytest.mark.needs(abi=FFA.MSG_SEND2, version="1.2")
def test_an_spmc_that_hides_rx_acquire_has_it_if_it_has_send2(xen: Machine) -> None:
    # Hafnium up to 2.14 does not report it.
    world = boot_with(xen, secure_partitions(1), unreported=[FFA.RX_ACQUIRE])
    vm = xen.create_vm("1.1")
    vm.map_rxtx()
    assert vm.id in world.state.buffers


# --- an SPMC that fails ------------------------------------------------------------------------

U64 = (1 << 64) - 1
ANSWERS: dict[str, tuple[int, ...]] = {
    **{code.name.lower(): (FFA.ERROR, 0, code.w) for code in FfaError},
    "error_0": (FFA.ERROR, 0, 0),
    "unknown": (U64,),
    "zeros": (),
    "ones": (U64,) * 18,
    "success": (FFA.SUCCESS_32,),
    "success_and_ones": (FFA.SUCCESS_32, *[U64] * 17),
    "interrupt": (FFA.INTERRUPT, 0x8001 << 16),
}


def schedule_receiver(xen: Machine, intid: int) -> None:
    """Boot on an SPMC that names this as its schedule receiver interrupt."""
    world = default_spmc(xen.extension)
    world.on(FFA.FEATURES).when(lambda x: x[1] == Feature.SCHEDULE_RECV_INTR).reply(
        FFA.SUCCESS_32, 0, intid
    )
    xen.boot(world)


def unlikely(intid: int) -> pytest.MarkDecorator:
    # Up to 1023 there is a descriptor, and an assertion that no interrupt has it.
    kind = XenAssertion if intid < 1024 else XenAccess
    return pytest.mark.known_defect(
        crashes(lambda xen: schedule_receiver(xen, intid), r"/ffa_notif\.c", kind),
        "takes any number for an interrupt's, and looks for its descriptor out of bounds",
    )


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(each, marks=unlikely(0xFFFF_FFFF) if each == "success_and_ones" else [])
        for each in ANSWERS
    ],
)
def test_any_answer_to_any_call_of_boot_is_survived(xen: Machine, answer: str) -> None:
    for nth in range(len(xen.spmc.log)):
        world = default_spmc(xen.extension)
        count = itertools.count()

        def chosen(_x: Regs, count: Iterator[int] = count, nth: int = nth) -> bool:
            return next(count) == nth

        # The world acts all the same, as one would whose answer got lost.
        world.on().when(chosen).garble(lambda _request, _reply: ANSWERS[answer])
        xen.boot(world)
        vm = alive(xen)
        if vm is not None:
            vm.destroy()


@pytest.mark.parametrize("garbage", [0xBAD << 32, 0xFFFF_FFFF << 32], ids=hex)
def test_garbage_in_upper_halves_of_answers_is_survived(xen: Machine, garbage: int) -> None:
    world = default_spmc(xen.extension)
    world.on().garble(lambda _request, reply: [each | garbage for each in reply])
    xen.boot(world)
    alive(xen)


COUNTS = [0, 1, 4, 6, 63, 64, 170, 171, 0xFFFF, 0x10000, 0x7FFF_FFFF, 0xFFFF_FFFF]
SIZES = [0, 1, 8, 23, 24, 25, 32, 2047, 4095, 4096, 0x10000, 0x8000_0000, 0xFFFF_FFFF]


def claim(xen: Machine, count: int, size: int) -> None:
    """Boot on an SPMC that tells so many descriptors of such a size."""
    world = default_spmc(xen.extension)
    world.on(FFA.PARTITION_INFO_GET).garble(lambda _x, reply: (*reply[:2], count, size, *reply[4:]))
    xen.boot(world)


def follows(size: int) -> Callable[[Machine], bool]:
    """Return a probe that tells whether descriptors of this size lead the mediator astray."""

    def claim_all(xen: Machine) -> None:
        for count in COUNTS:
            claim(xen, count, size)

    return crashes(claim_all, r"/ffa_partinfo\.c|/ffa\.c")


def wild(size: int) -> pytest.MarkDecorator:
    return pytest.mark.known_defect(
        follows(size), "reads descriptors wherever the SPMC's count and size lead, out of RX"
    )


@pytest.mark.parametrize("size", [pytest.param(each, marks=wild(each)) for each in SIZES])
def test_any_count_and_size_of_descriptors_is_survived(xen: Machine, size: int) -> None:
    # What the SPMC says of its list need not fit Xen's RX buffer.
    for count in COUNTS:
        claim(xen, count, size)
        alive(xen)


@STRIDES_AT_BOOT.mark
@pytest.mark.parametrize("size", [pytest.param(n, marks=wild(n)) for n in (1, 8, 16, 23)])
def test_descriptors_that_are_too_small_are_not_read(xen: Machine, size: int) -> None:
    # They grow from one version to the next, and never shrink (Table 6.2).
    claim(xen, 2, size)
    assert only_guests(xen)


UNLIKELY = (1020, 1023, 1024, 4095, 4096, 5119, 5120, 0xFFFF, 0xFFFF_FFFF)


@pytest.mark.parametrize(
    "intid",
    [*(0, 7, 15, 16, 31, 32, 1019), *(pytest.param(n, marks=unlikely(n)) for n in UNLIKELY)],
)
def test_any_schedule_receiver_interrupt_is_survived(xen: Machine, intid: int) -> None:
    # A GIC has 1020 at most, but for extended ranges.
    schedule_receiver(xen, intid)
    assert alive(xen) is not None


BITS = 1 << 32 | 1
"""Notifications to bind; both halves alike, which one tree takes for each other."""


def may_be_notified(xen: Machine, intid: int) -> bool | None:
    """Whether a guest may, on an SPMC with this schedule receiver interrupt. None if it may, and
    then hears of nothing.
    """
    world = default_spmc(xen.extension)
    world = Spmc(world.version, world.state.partitions, sri=intid)
    xen.boot(world)
    vm = alive(xen)
    if vm is None or not bind(vm, BITS).ok:
        return False
    world.notifications.notify(SP, vm.id, BITS)
    return True if xen.virqs else None


def own_sgi(intid: int) -> pytest.MarkDecorator:
    return pytest.mark.known_defect(
        lambda xen: may_be_notified(xen, intid) is None,
        "takes an SGI of Xen's own for the schedule receiver interrupt, and hears of nothing",
    )


@pytest.mark.needs(abi=FFA.NOTIFICATION_BIND)
@pytest.mark.parametrize("intid", [pytest.param(n, marks=own_sgi(n)) for n in range(3)])
def test_an_sgi_of_xens_own_is_not_taken(xen: Machine, intid: int) -> None:
    # GIC_SGI_EVENT_CHECK, GIC_SGI_DUMP_STATE and GIC_SGI_CALL_FUNCTION of Xen's asm/gic.h.
    assert may_be_notified(xen, intid) is False


@pytest.mark.needs(abi=FFA.NOTIFICATION_BIND)
@pytest.mark.parametrize("intid", [3, 7, 8, 15, 16, 31, 32, 1019])
def test_any_other_interrupt_is_taken(xen: Machine, intid: int) -> None:
    assert may_be_notified(xen, intid) is True


@pytest.mark.needs(abi=FFA.NOTIFICATION_BIND)
@pytest.mark.parametrize("intid", [pytest.param(n, marks=unlikely(n)) for n in (4096, 5119)])
def test_an_extended_spi_is_taken_where_xen_has_them_and_only_there(
    xen: Machine, intid: int
) -> None:
    assert may_be_notified(xen, intid) is xen.extension.enabled("GICV3_ESPI")


MARK = b"SPMC was here"


def marks_buffers(world: Spmc) -> Callable[[], bool]:
    """Let Xen's partitions not be read, so that it gives up on the SPMC, which writes to RX and TX.

    Returns a function that tells whether both still hold that: the machine overwrites pages as soon
    as they are freed.
    """

    def places() -> list[int]:
        own = world.state.hypervisor
        assert own is not None
        return [own.rx[0].base, own.tx[0].base]

    def fail(_x: Regs) -> Regs:
        for place in places():
            world.host.write(place, MARK)
        return error(FfaError.DENIED)

    world.on(FFA.PARTITION_INFO_GET).call(fail)
    return lambda: all(world.host.read(place, len(MARK)) == MARK for place in places())


def buffers_after_all(xen: Machine) -> tuple[bool, bool]:
    """Return whether Xen's RX and TX are its own when it tells the SPMC to unmap them, and whether
    they are unmapped in the end.
    """
    world = default_spmc(xen.extension)
    marked, kept = marks_buffers(world), list[bool]()

    def unmap(_x: Regs) -> None:
        kept.append(marked())

    world.on(FFA.RXTX_UNMAP).call(unmap)
    xen.boot(world)
    return kept == [True], world.state.hypervisor is None


FREED_EARLY = "RX and TX are freed while the SPMC may still write to them"


@pytest.mark.known_defect(lambda xen: buffers_after_all(xen) != (True, True), FREED_EARLY)
def test_buffers_are_xens_until_the_spmc_has_unmapped_them(xen: Machine) -> None:
    # 7.2.2: until RXTX_UNMAP the SPMC may access them.
    assert buffers_after_all(xen) == (True, True)


@pytest.mark.known_defect(lambda xen: not buffers_after_all(xen)[1], FREED_EARLY)
def test_an_spmc_that_xen_gives_up_on_is_told_to_unmap_its_buffers(xen: Machine) -> None:
    unmapped = buffers_after_all(xen)[1]
    assert unmapped


def kept_if_refused(xen: Machine) -> bool:
    """Return whether Xen's RX and TX stay its own if the SPMC does not unmap them."""
    world = default_spmc(xen.extension)
    marked = marks_buffers(world)
    world.on(FFA.RXTX_UNMAP).error(FfaError.DENIED)
    xen.boot(world)
    return marked()


@pytest.mark.known_defect(
    lambda xen: not kept_if_refused(xen), "RX and TX are freed though the SPMC keeps them"
)
def test_buffers_that_the_spmc_keeps_are_nobody_elses(xen: Machine) -> None:
    assert kept_if_refused(xen)


# --- an allocation that fails ------------------------------------------------------------------


def failing(xen: Machine, nth: int) -> Spmc:
    """Boot with the nth allocation after FFA_VERSION failing."""
    world = default_spmc(xen.extension)

    def fail(_x: Regs) -> None:
        xen.fail_allocation(nth)

    world.on(FFA.VERSION).call(fail, times=1)
    xen.boot(world)
    return world


def test_each_allocation_of_boot_may_fail(xen: Machine) -> None:
    total = xen.allocations
    assert total
    xen.boot(Spmc(None))
    alone = len(xen.heap)
    for nth in range(1, total + 1):
        world = failing(xen, nth)
        assert len(world.calls(FFA.RXTX_UNMAP)) <= len(world.calls(FFA.RXTX_MAP_64))
        # Without partitions, what was allocated before is given back.
        if only_guests(xen) and not world.state.created:
            failing(xen, nth)
            assert len(xen.heap) == alone
        else:
            vm = alive(xen)
            assert vm is not None
            # Nobody is notified without the interrupt that tells of it.
            assert bind(vm, 1).ok == xen.irq_requested(world.sri)
