# SPDX-License-Identifier: GPL-2.0-only
"""Defects of notifications."""

from __future__ import annotations

from collections.abc import Iterator

from ffashim.defects import Defect
from ffashim.ffa import FFA, NOTIF_GET_HYP, NOTIF_GET_SP, NOTIF_GET_SPM, FfaError
from ffashim.machine import Machine
from ffashim.testing import at_each_point
from ffashim.traffic import SP, bind, guest, send2
from ffashim.vm import Vm

_BITS = 1 << 32 | 1
"""Halves alike: 4.19 swaps them."""


def _swaps_halves(machine: Machine) -> bool:
    vm = guest(machine, buffers=False)
    bind(vm, 1)
    maps = machine.spmc.state.bitmaps.get(vm.id)
    return maps is not None and any(each.bits == 1 << 32 for each in maps.bindings)


SWAPS_HALVES = Defect("the halves of the bitmap reach the SPMC the wrong way round", _swaps_halves)


def _notified(machine: Machine) -> Vm | None:
    """Return a guest for which something is pending, None if none can be notified."""
    vm = guest(machine, buffers=False)
    if not bind(vm, _BITS).ok:
        return None
    machine.spmc.notifications.notify(SP, vm.id, _BITS)
    return vm


def _answers_in_64_bits(machine: Machine) -> bool:
    vm = _notified(machine)
    return vm is not None and vm.smc(FFA.NOTIFICATION_INFO_GET_32).fid == FFA.SUCCESS_64


ANSWERS_IN_64_BITS = Defect(
    "FFA_SUCCESS_64 in answer to FFA_NOTIFICATION_INFO_GET_32", _answers_in_64_bits
)


def _forgets_what_it_has_not_collected(machine: Machine) -> bool:
    vm = _notified(machine)
    if vm is None:
        return False
    machine.spmc.on(FFA.NOTIFICATION_GET).error(FfaError.BUSY, times=1)
    vm.smc(FFA.NOTIFICATION_GET, vm.id, NOTIF_GET_SP | NOTIF_GET_SPM)
    return vm.smc(FFA.NOTIFICATION_INFO_GET_64).error is FfaError.NO_DATA


FORGETS_WHAT_IT_HAS_NOT_COLLECTED = Defect(
    "a FFA_NOTIFICATION_GET that fails makes FFA_NOTIFICATION_INFO_GET forget",
    _forgets_what_it_has_not_collected,
)


def messages_while_asking(machine: Machine) -> Iterator[tuple[bool, bool]]:
    """A guest that has read a message asks what is pending, and another message comes at each of
    the places where Xen can be left. Yields whether it is interrupted for that one, and whether it
    is still pending afterwards.
    """
    vm, peer = guest(machine, vcpus=2), guest(machine)
    send2(peer, vm.id)
    vm.smc(FFA.RX_RELEASE)
    before = len(machine.virqs)
    for _ in at_each_point(
        machine,
        lambda: vm.smc(FFA.NOTIFICATION_GET, vm.id, NOTIF_GET_HYP),
        lambda: send2(peer, vm.id),
    ):
        interrupted = len(machine.virqs) > before
        yield interrupted, vm.smc(FFA.NOTIFICATION_GET, vm.id, NOTIF_GET_HYP).w(7) != 0


LOSES_AN_INTERRUPT = Defect(
    "a message that comes while its receiver asks for notifications interrupts nobody",
    lambda machine: (
        machine.extension.enabled("FFA_VM_TO_VM")
        and (False, True) in messages_while_asking(machine)
    ),
)


def _keeps_bitmap(machine: Machine) -> bool:
    vm = _notified(machine)
    if vm is None:
        return False
    vm.destroy()
    return vm.id in machine.spmc.state.bitmaps


KEEPS_BITMAP = Defect(
    "does not collect what is pending: the SPMC keeps the bitmap, and the ID is lost",
    _keeps_bitmap,
)


def _tells_an_offline_vcpu(machine: Machine) -> bool:
    if not machine.extension.enabled("FFA_VM_TO_VM"):
        return False
    receiver = machine.create_vm("1.1", vcpus=2)
    receiver.map_rxtx()
    receiver.offline()
    send2(guest(machine), receiver.id)
    return [each.vcpu for each in machine.virqs] != [1]


TELLS_AN_OFFLINE_VCPU = Defect(
    "tells a vCPU that is offline of a full RX buffer", _tells_an_offline_vcpu
)
