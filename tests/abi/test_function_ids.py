# SPDX-License-Identifier: GPL-2.0-only
"""Function IDs: the tree's own numbers are the specification's (FF-A 1.2, chapter 12 and on)."""

import pytest

from ffashim import FFA, Machine


def get_regs_is_32_bit(machine: Machine) -> bool:
    """Tell whether the tree gives FFA_PARTITION_INFO_GET_REGS the SMC32 number."""
    constants = machine.extension.record["constants"]
    return bool(constants.get("FFA_PARTITION_INFO_GET_REGS") == 0x8400_008B)


def check(xen: Machine, fid: FFA) -> None:
    number = xen.extension.record["constants"].get(f"FFA_{fid.name}")
    if number is None:
        pytest.skip(f"this tree does not name FFA_{fid.name}")
    assert number == fid, f"{number:#x} instead of {int(fid):#x}"


OTHERS = sorted(set(FFA) - {FFA.PARTITION_INFO_GET_REGS})


@pytest.mark.parametrize("fid", OTHERS, ids=[fid.name for fid in OTHERS])
def test_the_tree_has_the_number_of_the_specification(xen: Machine, fid: FFA) -> None:
    check(xen, fid)


@pytest.mark.known_defect(
    get_regs_is_32_bit, "FFA_PARTITION_INFO_GET_REGS has the number of an SMC32 call"
)
def test_partition_info_get_regs_is_a_64_bit_call(xen: Machine) -> None:
    check(xen, FFA.PARTITION_INFO_GET_REGS)
