# SPDX-License-Identifier: GPL-2.0-only
"""tf-a-tests: what their framework finds out and sends, as a guest of Xen."""

import pytest

from ffashim import FFA, FfaError, Machine
from ffashim.capabilities import highest_version
from ffashim.clients.tf_a_tests import Tftf
from ffashim.defaults import CRYPTO, MAILBOX
from ffashim.defects.discovery import TELLS_NO_SIZE
from ffashim.defects.memory import SHARES_BUFFERS
from ffashim.defects.messages import ABORTS_INTERRUPTED
from ffashim.descriptors import PartitionInfo
from ffashim.spmc.replies import interrupt
from ffashim.testing import boot_with, secure_partitions, visible_to
from ffashim.traffic import SP

widths = pytest.mark.parametrize("bits", [64, 32])


def tftf(machine: Machine, bits: int = 64) -> Tftf:
    """The framework in a guest, compiled for the highest version that the tree has."""
    framework = Tftf(machine.create_vm(bits=bits), highest_version(machine))
    assert framework.negotiate() == highest_version(machine)
    return framework


def everybody(framework: Tftf) -> list[PartitionInfo]:
    return visible_to(framework.vm)


# --- the mailbox -------------------------------------------------------------------------------


@widths
def test_a_mailbox_is_mapped_once_and_unmapped_once(xen: Machine, bits: int) -> None:
    framework = tftf(xen, bits)
    calls = [framework.map, framework.map, framework.unmap, framework.unmap, framework.map]
    ok = [FFA.SUCCESS_32, FFA.ERROR, FFA.SUCCESS_32, FFA.ERROR, FFA.SUCCESS_32]
    assert [call().fid for call in calls] == ok


@SHARES_BUFFERS.mark
@widths
def test_the_mailbox_itself_is_not_shared(xen: Machine, bits: int) -> None:
    framework = tftf(xen, bits)
    framework.get_mailbox()
    assert framework.share_the_mailbox(SP).error is FfaError.DENIED
    assert not xen.spmc.memory.shares


# --- discovery ---------------------------------------------------------------------------------


@TELLS_NO_SIZE.mark
@widths
@pytest.mark.parametrize("partitions", [0, 1, 4, 6, 63])
def test_the_list_in_rx_is_the_expected_one(xen: Machine, bits: int, partitions: int) -> None:
    # In the order in which the SPMC lists them: the framework compares entry by entry.
    boot_with(xen, secure_partitions(partitions))
    framework = tftf(xen, bits)
    framework.get_mailbox()
    for _ in range(2):
        framework.partition_info(everybody(framework))


@TELLS_NO_SIZE.mark
def test_each_partition_is_found_by_its_uuid(xen: Machine) -> None:
    framework = tftf(xen)
    framework.get_mailbox()
    known = {each.uuid: each for each in everybody(framework)}
    for uuid in (MAILBOX, CRYPTO):
        framework.partition_info([known[uuid]], uuid)


@pytest.mark.needs(abi=FFA.PARTITION_INFO_GET_REGS)
@pytest.mark.parametrize("partitions", [0, 1, 2, 4, 5, 6, 63])
def test_the_first_window_is_the_expected_one(xen: Machine, partitions: int) -> None:
    boot_with(xen, secure_partitions(partitions))
    framework = tftf(xen)
    framework.partition_info_regs(everybody(framework))
    for each in everybody(framework)[:partitions]:
        framework.partition_info_regs([each], each.uuid)


# --- messages ----------------------------------------------------------------------------------


@widths
def test_values_are_echoed(xen: Machine, bits: int) -> None:
    framework = tftf(xen, bits)
    top = 1 << bits - 1
    for value in (0x1001, top | 1):
        framework.echo(SP, value)
        framework.echo(0x8002, value & 0xFFFF_FFFF, wide=False)


@ABORTS_INTERRUPTED.mark
def test_an_interrupted_partition_is_resumed(xen: Machine) -> None:
    framework = tftf(xen)
    answers = iter([interrupt(SP), interrupt(SP), (7,)])
    xen.spmc.messages.handle(SP, lambda _request: next(answers))
    framework.echo(SP, 7)
