# SPDX-License-Identifier: GPL-2.0-only
"""The SPMC's RX/TX buffers: the hypervisor's and those of VMs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ffashim.descriptors import CompositeRegion, Constituent, EndpointRxTx
from ffashim.ffa import FFA, FfaError, error_code
from ffashim.spmc import SecurePartition, Spmc
from ffashim.spmc.flat import TX, FlatHost

VM = 3
VM_TX, VM_RX = 0x5000, 0x6000
DESCRIPTOR = EndpointRxTx(
    VM, CompositeRegion((Constituent(VM_RX),)), CompositeRegion((Constituent(VM_TX),))
)


@pytest.fixture
def host() -> FlatHost:
    host = FlatHost(Spmc("1.2", [SecurePartition(0x8001)]))
    host.boot()
    return host


def rules(host: FlatHost) -> list[str]:
    return [v.rule for v in host.spmc.violations]


def map_vm(host: FlatHost, descriptor: EndpointRxTx = DESCRIPTOR) -> int | None:
    host.write(TX, descriptor.encode())
    reply = host.smc(FFA.RXTX_MAP_64)
    return None if reply[0] == FFA.SUCCESS_32 else error_code(reply[2])


@pytest.mark.parametrize(
    ("args", "rule"),
    [
        ((0x1000, 0x2000, 0), "rxtx-map"),
        ((0x1001, 0x2000, 1), "rxtx-map"),
        ((0x1000, 0x2800, 1), "rxtx-map"),
        ((0x1000, 0x1000, 1), "rxtx-map"),
        ((0x1000, 0x2000, 2), "rxtx-map"),
        ((0x1000, 0x2000, 0x41), "mbz"),
    ],
)
def test_own_buffers_that_are_not_well_formed_are_a_violation(
    args: tuple[int, ...], rule: str
) -> None:
    host = FlatHost(Spmc())
    host.smc(FFA.VERSION, 0x10002)
    assert error_code(host.smc(FFA.RXTX_MAP_64, *args)[2]) is FfaError.INVALID_PARAMETERS
    assert rules(host) == [rule]


def test_own_buffers_are_mapped_once(host: FlatHost) -> None:
    reply = host.smc(FFA.RXTX_MAP_64, 0x8000, 0x9000, 1)
    assert error_code(reply[2]) is FfaError.DENIED
    assert rules(host) == ["rxtx-map"]


def test_own_buffers_can_be_unmapped_and_mapped_again(host: FlatHost) -> None:
    assert host.smc(FFA.RXTX_UNMAP)[0] == FFA.SUCCESS_32
    assert host.smc(FFA.RXTX_MAP_32, 0x8000, 0x9000, 1)[0] == FFA.SUCCESS_32
    assert not rules(host)


def test_own_buffers_are_unmapped_once(host: FlatHost) -> None:
    host.smc(FFA.RXTX_UNMAP)
    assert error_code(host.smc(FFA.RXTX_UNMAP)[2]) is FfaError.INVALID_PARAMETERS
    assert rules(host) == ["rxtx-unmap"]


def test_own_buffers_that_were_never_mapped_may_be_unmapped() -> None:
    host = FlatHost(Spmc())
    host.smc(FFA.VERSION, 0x1_0002)
    assert error_code(host.smc(FFA.RXTX_UNMAP)[2]) is FfaError.INVALID_PARAMETERS
    assert not rules(host)
    assert [n.rule for n in host.spmc.notes] == ["rxtx-unmap"]


def test_a_vms_buffers_live_from_map_to_unmap(host: FlatHost) -> None:
    assert map_vm(host) is None
    mapped = host.spmc.state.buffers[VM]
    assert (mapped.tx[0].base, mapped.rx[0].base) == (VM_TX, VM_RX)
    assert host.spmc.residue(VM)[0] == f"RX/TX buffers of VM {VM} are still mapped"
    assert host.smc(FFA.RXTX_UNMAP, VM << 16)[0] == FFA.SUCCESS_32
    assert VM not in host.spmc.state.buffers
    assert not rules(host)


def test_a_vms_buffers_are_mapped_and_unmapped_once(host: FlatHost) -> None:
    assert map_vm(host) is None
    assert map_vm(host) is FfaError.DENIED
    host.smc(FFA.RXTX_UNMAP, VM << 16)
    reply = host.smc(FFA.RXTX_UNMAP, VM << 16)
    assert error_code(reply[2]) is FfaError.INVALID_PARAMETERS
    assert rules(host) == ["rxtx-map", "rxtx-unmap"]


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"endpoint": 0}, "vm-id"),
        ({"endpoint": 0x8001}, "vm-id"),
        ({"reserved": 1}, "mbz"),
        ({"rx_offset": 4}, "rxtx-map"),
        ({"rx": CompositeRegion(())}, "rxtx-map"),
        ({"rx": CompositeRegion((Constituent(VM_RX + 8),))}, "rxtx-map"),
        ({"rx": CompositeRegion((Constituent(VM_RX, 0),))}, "rxtx-map"),
        ({"rx": CompositeRegion((Constituent(VM_RX),), total_pages=2)}, "rxtx-map"),
        ({"tx": CompositeRegion((Constituent(VM_TX),), reserved=1)}, "rxtx-map"),
        ({"tx": CompositeRegion((Constituent(VM_TX, 1, 1),))}, "rxtx-map"),
        ({"tx": CompositeRegion((), range_count=5000)}, "rxtx-map"),
    ],
)
def test_a_descriptor_that_is_not_well_formed_is_a_violation(
    host: FlatHost, changes: dict[str, object], rule: str
) -> None:
    bent = replace(DESCRIPTOR, **changes)  # type: ignore[arg-type]
    assert map_vm(host, bent) is FfaError.INVALID_PARAMETERS
    assert rules(host) == [rule]
    assert not host.spmc.state.buffers


def test_regions_that_are_not_aligned_are_a_violation_and_served(host: FlatHost) -> None:
    assert map_vm(host, replace(DESCRIPTOR, rx_offset=12, tx_offset=44)) is None
    assert rules(host) == ["alignment"]


def test_a_vm_whose_buffers_overlap_is_refused_without_blaming_the_hypervisor(
    host: FlatHost,
) -> None:
    bent = replace(DESCRIPTOR, rx=CompositeRegion((Constituent(VM_TX),)))
    assert map_vm(host, bent) is FfaError.INVALID_PARAMETERS
    assert not rules(host)


def test_a_vms_buffers_cannot_be_mapped_without_a_tx_to_describe_them_in() -> None:
    host = FlatHost(Spmc())
    host.smc(FFA.VERSION, 0x10002)
    assert error_code(host.smc(FFA.RXTX_MAP_64)[2]) is FfaError.INVALID_PARAMETERS
    assert rules(host) == ["rxtx-map"]


def test_rx_passes_from_the_spmc_to_the_vm_and_back(host: FlatHost) -> None:
    map_vm(host)
    assert host.smc(FFA.RX_ACQUIRE, VM)[0] == FFA.SUCCESS_32
    assert host.smc(FFA.RX_RELEASE, VM)[0] == FFA.SUCCESS_32
    assert not rules(host)


def test_rx_that_the_hypervisor_has_acquired_is_not_to_be_acquired_again(host: FlatHost) -> None:
    map_vm(host)
    host.smc(FFA.RX_ACQUIRE, VM)
    assert error_code(host.smc(FFA.RX_ACQUIRE, VM)[2]) is FfaError.DENIED
    assert rules(host) == ["rx"]


def test_a_release_on_behalf_of_a_vm_that_does_not_hold_rx_is_denied_and_noted(
    host: FlatHost,
) -> None:
    map_vm(host)
    assert error_code(host.smc(FFA.RX_RELEASE, VM)[2]) is FfaError.DENIED
    assert not rules(host)
    assert [n.rule for n in host.spmc.notes] == ["rx"]


@pytest.mark.parametrize("fid", [FFA.RX_ACQUIRE, FFA.RX_RELEASE])
def test_rx_of_a_vm_without_buffers_is_a_violation(host: FlatHost, fid: FFA) -> None:
    assert error_code(host.smc(fid, VM)[2]) is FfaError.INVALID_PARAMETERS
    assert rules(host) == ["rx"]


def test_an_own_rx_that_was_never_filled_may_be_released(host: FlatHost) -> None:
    assert error_code(host.smc(FFA.RX_RELEASE)[2]) is FfaError.DENIED
    assert not rules(host)
    assert [n.rule for n in host.spmc.notes] == ["rx"]


def test_an_own_rx_is_released_once(host: FlatHost) -> None:
    host.smc(FFA.PARTITION_INFO_GET)
    assert host.smc(FFA.RX_RELEASE)[0] == FFA.SUCCESS_32
    assert error_code(host.smc(FFA.RX_RELEASE)[2]) is FfaError.DENIED
    assert rules(host) == ["rx"]


def test_a_tolerated_rule_is_only_a_note() -> None:
    host = FlatHost(Spmc(tolerate={"rx"}))
    host.boot()
    host.smc(FFA.RX_ACQUIRE, VM)
    assert not rules(host)
    assert [n.rule for n in host.spmc.notes] == ["rx"]
