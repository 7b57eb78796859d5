# SPDX-License-Identifier: GPL-2.0-only
"""Registers x8 to x17: nobody's but the caller's, where they hold no result.

SMCCC 1.2 (2.6) has them preserved; FF-A 1.2 gives them a meaning in some calls of 64-bit guests,
and wants them zero in the others.
"""

import pytest

from ffashim import FFA, Machine, Reply, Vm
from ffashim.traffic import SP

HIGH = {f"x{n}": 0xA5A5_0000 + n for n in range(8, 18)}
GIVEN = tuple(HIGH.values())
ZERO = (0,) * 10
REGISTERS = frozenset({FFA.PARTITION_INFO_GET_REGS, FFA.MSG_SEND_DIRECT_REQ2})
"""Their results reach into these registers."""


def calls(vm: Vm) -> list[tuple[FFA, Reply]]:
    """Make every call, and one that an SP answers, with something in these registers.

    Not FFA_MSG_SEND2, from a TX that is not there: not every tree survives it (test_msg_send2).
    """
    made = [(fid, vm.smc(fid, **HIGH)) for fid in FFA if fid is not FFA.MSG_SEND2]
    fid = FFA.MSG_SEND_DIRECT_REQ_32
    return [*made, (fid, vm.smc(fid, vm.id << 16 | SP, **HIGH))]


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
