# SPDX-License-Identifier: GPL-2.0-only
"""The SPMC's notifications."""

from __future__ import annotations

import pytest

from ffashim.errors import UsageError
from ffashim.ffa import (
    FFA,
    NOTIF_GET_SP,
    NOTIF_GET_SPM,
    NOTIF_PER_VCPU,
    NOTIF_SET_DELAY_SRI,
    FfaError,
    error_code,
)
from ffashim.spmc import SecurePartition, Spmc
from ffashim.spmc.flat import FlatHost

VM, SP, SP2 = 3, 0x8001, 0x8002
BIND = SP << 16 | VM
HIGH = 1 << 40 | 1
LO, HI = HIGH & 0xFFFFFFFF, HIGH >> 32


@pytest.fixture
def host() -> FlatHost:
    sps = [SecurePartition(SP), SecurePartition(SP2), SecurePartition(0x8003, properties=0)]
    host = FlatHost(Spmc("1.2", sps, sri=40))
    host.boot()
    assert host.smc(FFA.NOTIFICATION_BITMAP_CREATE, VM, 2)[0] == FFA.SUCCESS_32
    return host


def rules(host: FlatHost) -> list[str]:
    return [v.rule for v in host.spmc.violations]


def error(reply: tuple[int, ...]) -> int | None:
    return None if reply[0] != FFA.ERROR else error_code(reply[2])


@pytest.mark.parametrize(
    ("args", "rule"),
    [((0, 1), "vm-id"), ((SP, 1), "vm-id"), ((0x10001, 1), "vm-id"), ((4, 0), "bitmap")],
)
def test_a_bitmap_for_who_is_no_vm_is_a_violation(
    host: FlatHost, args: tuple[int, int], rule: str
) -> None:
    reply = host.smc(FFA.NOTIFICATION_BITMAP_CREATE, *args)
    assert error(reply) is FfaError.INVALID_PARAMETERS
    assert rules(host) == [rule]


def test_a_bitmap_is_created_once_and_destroyed_once(host: FlatHost) -> None:
    assert error(host.smc(FFA.NOTIFICATION_BITMAP_CREATE, VM, 2)) is FfaError.DENIED
    assert rules(host) == ["bitmap"]
    assert "bitmap of VM 3 was not destroyed" in host.spmc.residue(VM)[0]
    assert error(host.smc(FFA.NOTIFICATION_BITMAP_DESTROY, VM)) is None
    assert error(host.smc(FFA.NOTIFICATION_BITMAP_DESTROY, VM)) is FfaError.DENIED
    assert rules(host) == ["bitmap", "bitmap"]


def test_a_bitmap_that_was_never_created_may_be_destroyed(host: FlatHost) -> None:
    # A hypervisor need not remember whether the SPMC had room for it.
    assert error(host.smc(FFA.NOTIFICATION_BITMAP_DESTROY, VM + 1)) is FfaError.DENIED
    assert not rules(host)
    assert [n.rule for n in host.spmc.notes] == ["bitmap"]


def test_a_notification_goes_from_the_sp_through_the_interrupt_to_the_vm(host: FlatHost) -> None:
    assert error(host.smc(FFA.NOTIFICATION_BIND, BIND, 0, LO, HI)) is None
    host.spmc.notifications.notify(SP, VM, 1 << 40, cpu=1)
    assert host.irqs == [(40, 1)]
    info = host.smc(FFA.NOTIFICATION_INFO_GET_64)
    assert info[:4] == (FFA.SUCCESS_64, 0, 1 << 7, VM)
    assert error(host.smc(FFA.NOTIFICATION_INFO_GET_64)) is FfaError.NO_DATA
    assert host.smc(FFA.NOTIFICATION_GET, VM, NOTIF_GET_SPM)[2:4] == (0, 0)
    assert host.smc(FFA.NOTIFICATION_GET, VM, NOTIF_GET_SP)[2:4] == (0, 1 << 8)
    assert host.smc(FFA.NOTIFICATION_GET, VM, NOTIF_GET_SP)[2:4] == (0, 0)
    assert not rules(host)


def test_only_what_is_bound_can_be_set(host: FlatHost) -> None:
    host.smc(FFA.NOTIFICATION_BIND, BIND, 0, 1, 0)
    for sp, bits, vcpu in ((SP, 2, None), (SP2, 1, None), (SP, 1, 0)):
        with pytest.raises(UsageError, match="FFA_NOTIFICATION_BIND comes first"):
            host.spmc.notifications.notify(sp, VM, bits, vcpu=vcpu)
    assert not host.irqs


def test_notifications_of_a_vcpu_are_for_that_vcpu(host: FlatHost) -> None:
    host.smc(FFA.NOTIFICATION_BIND, BIND, NOTIF_PER_VCPU, 3, 0)
    host.spmc.notifications.notify(SP, VM, 2, vcpu=1)
    info = host.smc(FFA.NOTIFICATION_INFO_GET_64)
    assert info[2:4] == (1 << 12 | 1 << 7, VM | 1 << 16)
    assert host.smc(FFA.NOTIFICATION_GET, VM, NOTIF_GET_SP)[2] == 0
    assert host.smc(FFA.NOTIFICATION_GET, 1 << 16 | VM, NOTIF_GET_SP)[2] == 2


@pytest.mark.parametrize(("fid", "room"), [(0xC4000083, 20), (0x84000083, 10)])
def test_info_get_says_when_there_is_more(host: FlatHost, fid: int, room: int) -> None:
    for vm in range(10, 10 + room + 1):
        host.smc(FFA.NOTIFICATION_BITMAP_CREATE, vm, 1)
        host.smc(FFA.NOTIFICATION_BIND, SP << 16 | vm, 0, 1, 0)
        host.spmc.notifications.notify(SP, vm, 1, delay=True)
    assert not host.irqs
    first = host.smc(fid)
    assert first[2] == room << 7 | 1
    per = room // 5
    ids = [reg >> 16 * n & 0xFFFF for reg in first[3:8] for n in range(per)]
    assert ids == list(range(10, 10 + room))
    second = host.smc(fid)
    assert second[2:4] == (1 << 7, 10 + room)


def test_that_there_is_more_is_said_though_something_small_would_fit(host: FlatHost) -> None:
    for vm in range(10, 30):
        vcpu, flags = (0, NOTIF_PER_VCPU) if vm == 29 else (None, 0)
        host.smc(FFA.NOTIFICATION_BITMAP_CREATE, vm, 1)
        host.smc(FFA.NOTIFICATION_BIND, SP << 16 | vm, flags, 1, 0)
        host.spmc.notifications.notify(SP, vm, 1, vcpu=vcpu, delay=True)
    host.spmc.notifications.listen(SP, 10, 1)
    host.smc(FFA.NOTIFICATION_SET, 10 << 16 | SP, 0, 1, 0)
    first, second = (host.smc(FFA.NOTIFICATION_INFO_GET_64) for _ in range(2))
    # 19 VMs, as the last one takes two IDs; then that one and the partition.
    assert first[2] == 19 << 7 | 1
    assert second[2:4] == (1 << 12 | 2 << 7, SP << 32 | 29)


def test_more_vcpus_of_a_vm_than_fit_are_named_in_turn(host: FlatHost) -> None:
    host.smc(FFA.NOTIFICATION_BITMAP_CREATE, 10, 18)
    host.smc(FFA.NOTIFICATION_BIND, SP << 16 | 10, NOTIF_PER_VCPU, 1, 0)
    for vcpu in range(18):
        host.spmc.notifications.notify(SP, 10, 1, vcpu=vcpu, delay=True)
    first, second, third = (host.smc(FFA.NOTIFICATION_INFO_GET_64) for _ in range(3))
    # Five lists of three vCPUs each, as a sixth has no room; then the one that is left.
    assert first[2] == 0x3FF << 12 | 5 << 7 | 1
    assert second[2:4] == (3 << 12 | 1 << 7, 17 << 48 | 16 << 32 | 15 << 16 | 10)
    assert error(third) is FfaError.NO_DATA


@pytest.mark.parametrize(
    ("args", "want"),
    [
        ((SP2 << 16 | VM, 0, 1, 0), FfaError.DENIED),
        ((0x80FF << 16 | VM, 0, 4, 0), FfaError.INVALID_PARAMETERS),
        ((BIND, 0, 0, 0), FfaError.INVALID_PARAMETERS),
        ((BIND, 2, 4, 0), FfaError.INVALID_PARAMETERS),
        ((BIND, 0, 2, 0), None),
    ],
)
def test_bind_takes_what_is_free(
    host: FlatHost, args: tuple[int, ...], want: FfaError | None
) -> None:
    host.smc(FFA.NOTIFICATION_BIND, BIND, 0, 1, 0)
    assert error(host.smc(FFA.NOTIFICATION_BIND, *args)) is want
    assert not rules(host)


def test_unbind_gives_back_what_is_not_pending(host: FlatHost) -> None:
    host.smc(FFA.NOTIFICATION_BIND, BIND, 0, 3, 0)
    host.spmc.notifications.notify(SP, VM, 1)
    unbind = FFA.NOTIFICATION_UNBIND
    assert error(host.smc(unbind, BIND, 0, 1, 0)) is FfaError.DENIED
    assert error(host.smc(unbind, SP2 << 16 | VM, 0, 2, 0)) is FfaError.DENIED
    assert error(host.smc(unbind, BIND, 0, 0, 0)) is FfaError.INVALID_PARAMETERS
    assert error(host.smc(unbind, BIND, 0, 2, 0)) is None
    assert error(host.smc(FFA.NOTIFICATION_BIND, SP2 << 16 | VM, 0, 2, 0)) is None


def test_a_bitmap_with_something_pending_cannot_be_destroyed(host: FlatHost) -> None:
    host.smc(FFA.NOTIFICATION_BIND, BIND, 0, 1, 0)
    host.spmc.notifications.notify(SP, VM, 1)
    assert error(host.smc(FFA.NOTIFICATION_BITMAP_DESTROY, VM)) is FfaError.DENIED
    assert host.spmc.residue(VM)
    assert not rules(host)


@pytest.mark.parametrize(
    ("fid", "receiver"),
    [
        (FFA.NOTIFICATION_BIND, SP << 16 | 9),
        (FFA.NOTIFICATION_UNBIND, SP << 16 | 9),
        (FFA.NOTIFICATION_GET, 9),
    ],
)
def test_notifications_of_a_vm_without_bitmap_are_a_violation(
    host: FlatHost, fid: FFA, receiver: int
) -> None:
    host.smc(fid, receiver, 1, 1)
    assert rules(host) == ["bitmap"]


@pytest.mark.parametrize("args", [(VM, 0), (VM, 0x10), (2 << 16 | VM, 1)])
def test_get_of_what_is_not_there_is_invalid(host: FlatHost, args: tuple[int, int]) -> None:
    assert error(host.smc(FFA.NOTIFICATION_GET, *args)) is FfaError.INVALID_PARAMETERS


def test_a_vm_sets_what_an_sp_listens_to(host: FlatHost) -> None:
    host.spmc.notifications.listen(SP, VM, 6)
    src_dst = VM << 16 | SP
    assert error(host.smc(FFA.NOTIFICATION_SET, src_dst, 0, 1, 0)) is FfaError.DENIED
    assert error(host.smc(FFA.NOTIFICATION_SET, src_dst, NOTIF_SET_DELAY_SRI, 2, 0)) is None
    assert not host.irqs
    assert error(host.smc(FFA.NOTIFICATION_SET, src_dst, 0, 4, 0)) is None
    assert host.irqs == [(40, 0)]
    assert host.smc(FFA.NOTIFICATION_INFO_GET_64)[3] == SP
    assert host.spmc.notifications.collect(SP) == 6
    assert host.spmc.notifications.collect(SP) == 0


@pytest.mark.parametrize(
    "args",
    [
        (VM << 16 | 0x80FF, 0, 1),
        (VM << 16 | 0x8003, 0, 1),
        (VM << 16 | SP, 0, 0),
        (VM << 16 | SP, 4, 1),
        (VM << 16 | SP, 1 << 16, 1),
        (VM << 16 | SP, 1 << 16 | NOTIF_PER_VCPU, 1),
    ],
)
def test_set_with_bad_arguments_is_invalid(host: FlatHost, args: tuple[int, ...]) -> None:
    assert error(host.smc(FFA.NOTIFICATION_SET, *args)) is FfaError.INVALID_PARAMETERS
