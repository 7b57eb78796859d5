# SPDX-License-Identifier: GPL-2.0-only
"""Registers x8 to x17: nobody's but the caller's, where they hold no result.

SMCCC 1.2 (2.6) has them preserved; FF-A 1.2 gives them a meaning in some calls of 64-bit guests,
and wants them zero in the others.
"""

import pytest

from ffashim import FFA, FfaError, Machine, Reply, Spmc, Vm
from ffashim.defaults import default_spmc
from ffashim.traffic import SP, guest, handle_of, share

HIGH = {f"x{n}": 0xA5A5_0000 + n for n in range(8, 18)}
GIVEN = tuple(HIGH.values())
ZERO = (0,) * 10
USED: dict[int, int] = {
    FFA.VERSION: 1,
    FFA.FEATURES: 2,
    FFA.RX_ACQUIRE: 1,
    FFA.RX_RELEASE: 1,
    FFA.RXTX_MAP_64: 3,
    FFA.RXTX_UNMAP: 1,
    FFA.PARTITION_INFO_GET: 5,
    FFA.PARTITION_INFO_GET_REGS: 3,
    FFA.ID_GET: 0,
    FFA.SPM_ID_GET: 0,
    FFA.RUN: 1,
    FFA.MSG_SEND2: 2,
    FFA.MEM_SHARE_32: 4,
    FFA.MEM_SHARE_64: 4,
    FFA.MEM_RECLAIM: 3,
    FFA.NOTIFICATION_BITMAP_CREATE: 2,
    FFA.NOTIFICATION_BITMAP_DESTROY: 1,
    FFA.NOTIFICATION_BIND: 4,
    FFA.NOTIFICATION_UNBIND: 4,
    FFA.NOTIFICATION_SET: 4,
    FFA.NOTIFICATION_GET: 2,
    FFA.NOTIFICATION_INFO_GET_64: 0,
}
"""How many registers after x0 each call of a hypervisor uses (chapters 13 to 17)."""
REGISTERS = frozenset({FFA.PARTITION_INFO_GET_REGS, FFA.MSG_SEND_DIRECT_REQ2})
"""Their results reach into these registers."""


def calls(vm: Vm) -> list[tuple[FFA, Reply]]:
    """Make every call, and one that an SP answers, with something in these registers.

    Not FFA_MSG_SEND2, from a TX that is not there: not every tree survives it (test_msg_send2).
    """
    made = [(fid, vm.smc(fid, **HIGH)) for fid in FFA if fid is not FFA.MSG_SEND2]
    fid = FFA.MSG_SEND_DIRECT_REQ_32
    return [*made, (fid, vm.smc(fid, vm.id << 16 | SP, **HIGH))]


def test_the_spmc_finds_nothing_in_registers_that_a_call_does_not_use(
    xen: Machine, spmc: Spmc
) -> None:
    # They are SBZ, and whatever Xen leaves there may have a meaning in a version to come.
    vms = [guest(xen), guest(xen, bits=32)]
    for vm in vms:
        handle = handle_of(share(vm))
        assert vm.partition_info_get().ok
        vm.smc(FFA.NOTIFICATION_BIND, SP << 16 | vm.id, 0, 1, 1, **HIGH)
        vm.smc(FFA.NOTIFICATION_GET, vm.id, 0b1111, **HIGH)
        vm.smc(FFA.NOTIFICATION_UNBIND, SP << 16 | vm.id, 0, 1, 1, **HIGH)
        vm.smc(FFA.RX_RELEASE, **HIGH)
        vm.smc(FFA.MEM_RECLAIM, handle & 0xFFFF_FFFF, handle >> 32, **HIGH)
        calls(vm)
    xen.raise_irq(spmc.sri)
    for vm in vms:
        vm.destroy()
    assert not soiled(spmc)


def soiled(spmc: Spmc) -> list[str]:
    """Requests with something in registers that they do not use."""
    found = [smc for smc in spmc.log if any(smc.request[USED.get(smc.fid, 7) + 1 :])]
    return [str(smc) for smc in found if smc.fid != FFA.MSG_SEND_DIRECT_REQ2]


def test_nor_does_an_spmc_that_xen_gives_up_at_boot(xen: Machine) -> None:
    world = default_spmc(xen.extension)
    world.on(FFA.PARTITION_INFO_GET).error(FfaError.DENIED)
    xen.boot(world)
    assert world.calls(FFA.RXTX_MAP_64)
    assert not soiled(world)


@pytest.mark.parametrize("bits", [32, 64])
def test_an_error_is_a_code_and_nothing_else(xen: Machine, bits: int) -> None:
    # FFA_ERROR: w2 is the code; the rest is zero where no call says otherwise (Table 11.1).
    for fid, reply in calls(xen.create_vm("1.1", bits=bits)):
        if reply.error:
            assert (reply[1], reply[3:8]) == (0, (0,) * 5), fid.name


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_a_32_bit_guest_finds_them_as_they_were(xen: Machine, version: str) -> None:
    for fid, reply in calls(xen.create_vm(version, bits=32)):
        assert reply[8:] == GIVEN, fid.name


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_guest_from_before_1_2_finds_them_as_they_were(xen: Machine, version: str) -> None:
    for fid, reply in calls(xen.create_vm(version)):
        assert reply[8:] == GIVEN, fid.name


@pytest.mark.needs(version="1.2")
def test_a_guest_of_1_2_finds_them_zero(xen: Machine) -> None:
    for fid, reply in calls(xen.create_vm("1.2")):
        if not reply.unknown and (reply.error or fid not in REGISTERS):
            assert reply[8:] == ZERO, fid.name
