# SPDX-License-Identifier: GPL-2.0-only
"""The defects of Xen that are known, as deviations from the model.

Each has a test of its own in tests/abi, with the specification's words; a probe here asks the
same question as the one there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from uuid import UUID

from ffashim.descriptors import NIL
from ffashim.faults import XenMemory
from ffashim.ffa import FFA, PAGE_SIZE, V1_0, V1_1, FfaError, PartitionProperty, Version
from ffashim.machine import Machine
from ffashim.model.deviation import Deviation, Restore
from ffashim.model.outcome import SIZE, Listing, Outcome, error, high, success
from ffashim.model.partitions import guests, secure
from ffashim.model.registers import ZERO, Allowed, Call, answer, either, exactly, status
from ffashim.model.rules import exists
from ffashim.model.state import System
from ffashim.model.version import MBZ
from ffashim.testing import boot_with, described, serves_without_version
from ffashim.traffic import crashes
from ffashim.vm import Vm

COUNT = 1
LOW = 0xFFFF_FFFF


def _register(outcome: Outcome, n: int, allowed: Allowed) -> Outcome:
    registers = outcome.registers
    return replace(outcome, registers=(*registers[:n], allowed, *registers[n + 1 :]))


def _request(call: Call, **changes: int) -> Call:
    registers = list(call.registers)
    for name, value in changes.items():
        registers[int(name[1:])] = value
    return replace(call, registers=tuple(registers))


def _guest(machine: Machine, version: str = "1.1", bits: int = 64) -> Vm:
    vm = machine.create_vm(version, bits=bits)
    vm.map_rxtx()
    return vm


# --- FFA_VERSION ---------------------------------------------------------------------------------


Seen = Iterator[tuple[System, Call, Restore]]


def _same(system: System) -> System:
    return system


def _unsaid(system: System, call: Call) -> Seen:
    """A guest that has said nothing counts as one of 1.0 in one place, and not in another.

    It remains one that has said nothing, and is in nobody's list.
    """
    guest = system.guest(call.caller)

    def restore(after: System) -> System:
        buffers = after.guest(guest.id).buffers
        return system.having(replace(guest, buffers=buffers))

    if guest.version is None and call.fid != FFA.VERSION:
        for version in (V1_0, V1_1):
            yield system.having(replace(guest, version=version)), call, restore


def _uncounted(system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
    """Not counted itself, it is taken from the count all the same."""
    counted = outcome.registers[2].values
    unsaid = system.guest(call.caller).version is None
    if unsaid and system.profile.vm_to_vm and _gets(call) and counted and _succeeds(outcome):
        yield _register(outcome, 2, either({(each - 1) & LOW for each in counted}, "count"))


def _succeeds(outcome: Outcome) -> bool:
    return FFA.SUCCESS_32 in outcome.registers[0]


def _told(after: System, call: Call) -> Outcome:
    own = exactly(int(after.profile.version), "version")
    return Outcome(answer((own,), high(after, call)), after, "a known defect")


def _echo_probe(machine: Machine) -> bool:
    return machine.create_vm().smc(FFA.VERSION, 0x1_0000).fid == 0x1_0000


def _echo(system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
    own = int(system.profile.version)
    if call.fid == FFA.VERSION and own in outcome.registers[0] and call.w(1) < own:
        if call.w(1) >> 16:
            yield _register(outcome, 0, exactly(call.w(1), "version"))
            return
        guest = system.guest(call.caller)
        lowest = system.having(replace(guest, version=V1_0))
        yield replace(_register(outcome, 0, exactly(0x1_0000, "version")), after=lowest)


def _bit_31_probe(machine: Machine) -> bool:
    return machine.create_vm().smc(FFA.VERSION, MBZ | 0x1_0001).fid != LOW


def _bit_31(system: System, call: Call) -> Seen:
    """It is ignored in the answer, and taken for a part of the major number in what is kept."""
    if call.fid == FFA.VERSION and call.w(1) & MBZ:
        yield system, _request(call, x1=call.w(1) & ~MBZ), _same
        yield system, _request(call, x1=int(system.profile.version)), _same


def _change_probe(machine: Machine) -> bool:
    return machine.create_vm("1.1").smc(FFA.VERSION, 0x1_0000).fid != LOW


def _change(system: System, call: Call, _outcome: Outcome) -> Iterator[Outcome]:
    if call.fid == FFA.VERSION and system.guest(call.caller).settled:
        yield _told(system, call)


def _late_probe(machine: Machine) -> bool:
    vm = machine.create_vm("1.1")
    vm.smc(FFA.VERSION, 0x1_0000)
    return not vm.smc(FFA.PARTITION_INFO_GET, x5=COUNT).ok


def _late(system: System, call: Call, _outcome: Outcome) -> Iterator[Outcome]:
    guest = system.guest(call.caller)
    if call.fid == FFA.VERSION and guest.settled:
        version = max(V1_0, min(Version.parse(call.w(1)), system.profile.version))
        yield _told(system.having(replace(guest, version=version)), call)
        yield _told(system.having(replace(guest, version=system.profile.version)), call)


# --- FFA_FEATURES --------------------------------------------------------------------------------


def _reports(vm: Vm, what: int) -> bool:
    return vm.smc(FFA.FEATURES, what).ok


def _interrupt(system: System, call: Call, _outcome: Outcome) -> Iterator[Outcome]:
    if call.fid == FFA.FEATURES and call.w(1) == FFA.INTERRUPT:
        yield error(system.settled(system.guest(call.caller)), call, "", FfaError.NOT_SUPPORTED)


def _minds_sbz(system: System, call: Call, _outcome: Outcome) -> Iterator[Outcome]:
    if call.fid == FFA.FEATURES and any(call.registers[2:8]):
        errors = FfaError.NOT_SUPPORTED, FfaError.INVALID_PARAMETERS
        yield error(system.settled(system.guest(call.caller)), call, "", *errors)


def _smc64(system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
    guest = system.guest(call.caller)
    if call.fid == FFA.FEATURES and guest.bits == 32 and call.w(1) >> 30 & 1:
        wide = replace(guest, bits=64)
        after = outcome.after
        if exists(system.having(wide), wide, call.w(1)) or call.w(1) == FFA.SUCCESS_64:
            pages = system.profile.rxtx_pages << 16 if call.w(1) == FFA.RXTX_MAP_64 else 0
            yield success(after, call, "", either({0, pages}, "properties"))


def _set_probe(machine: Machine) -> bool:
    vm = machine.create_vm("1.1")
    said = vm.smc(FFA.NOTIFICATION_SET, vm.id << 16 | 0x8001, 0, 1)
    return _reports(vm, FFA.NOTIFICATION_SET) and said.error is FfaError.NOT_SUPPORTED


def _set(_system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
    if call.fid == FFA.FEATURES and call.w(1) == FFA.NOTIFICATION_SET:
        yield success(outcome.after, call, "")
    elif call.fid == FFA.NOTIFICATION_SET:
        yield error(outcome.after, call, "", FfaError.INVALID_PARAMETERS, FfaError.DENIED)


# --- RX and TX -----------------------------------------------------------------------------------

MAPS = (FFA.RXTX_MAP_32, FFA.RXTX_MAP_64)


def _map(machine: Machine, tx: int = 0x4000_0000, rx: int = 0x4000_1000, pages: int = 1) -> bool:
    return machine.create_vm("1.1").smc(FFA.RXTX_MAP_64, tx, rx, pages).ok


def _no_pages(_system: System, call: Call) -> bool:
    return call.fid in MAPS and call.w(3) == 0


def _no_rx(system: System, call: Call) -> bool:
    page = call.argument(2) & -PAGE_SIZE
    return call.fid in MAPS and not system.guest(call.caller).has(page, 1)


def _same_page(_system: System, call: Call) -> bool:
    return call.fid in MAPS and call.argument(1) >> 12 == call.argument(2) >> 12


def _rounds(system: System, call: Call) -> Seen:
    tx, rx = (call.argument(n) for n in (1, 2))
    if call.fid in MAPS and (tx % PAGE_SIZE or rx % PAGE_SIZE):
        yield system, _request(call, x1=tx & -PAGE_SIZE, x2=rx & -PAGE_SIZE), _same


def _unmap_probe(machine: Machine) -> bool:
    vm = _guest(machine)
    vm.partition_info_get()
    return vm.smc(FFA.RXTX_UNMAP).ok


def _unmap(_system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
    guest = outcome.after.guest(call.caller)
    if call.fid == FFA.RXTX_UNMAP and guest.buffers and guest.buffers.owned:
        yield success(outcome.after.having(replace(guest, buffers=None)), call, "")


# --- FFA_PARTITION_INFO_GET ----------------------------------------------------------------------


def _gets(call: Call) -> bool:
    return call.fid == FFA.PARTITION_INFO_GET


def _no_size_probe(machine: Machine) -> bool:
    return _guest(machine).partition_info_get().w(3) == 0


def _no_size(_system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
    if _gets(call) and outcome.rx:
        yield _register(outcome, 3, ZERO)


def _size_in_1_0_probe(machine: Machine) -> bool:
    return _guest(machine, "1.0").partition_info_get().w(3) != 0


def _size_in_1_0(_system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
    if _gets(call) and outcome.rx and outcome.rx.size != SIZE:
        yield _register(outcome, 3, either({outcome.rx.size, SIZE}, "descriptor size"))


def _count_size_probe(machine: Machine) -> bool:
    return _guest(machine).partition_info_get(flags=COUNT).w(3) != 0


def _count_size(_system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
    if _gets(call) and call.w(5) == COUNT and FFA.SUCCESS_32 in outcome.registers[0]:
        yield _register(outcome, 3, exactly(SIZE, "descriptor size"))


def _no_state_probe(machine: Machine) -> bool:
    if not machine.extension.enabled("FFA_VM_TO_VM"):
        return False
    vm, other = _guest(machine), machine.create_vm("1.1")
    reply = vm.partition_info_get()
    return described(other).encode() not in vm.rx.read(reply.w(2) * SIZE)


def _no_state(_system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
    if outcome.rx is not None:
        known = {each.id for each in outcome.after.guests}
        plain = tuple(
            replace(each, properties=each.properties & ~int(PartitionProperty.AARCH64_STATE))
            if each.id in known
            else each
            for each in outcome.rx.partitions
        )
        yield replace(outcome, rx=Listing(plain, outcome.rx.size))


def _all_guests_probe(machine: Machine) -> bool:
    machine.create_vm("1.1")
    uuid = UUID(bytes=machine.spmc.state.partitions[0].uuid.bytes)
    return _guest(machine).partition_info_get(uuid).w(2) != 1


def _all_guests(system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
    """Guests are listed, whatever the UUID; with none but them it is a success too."""
    uuid = UUID(bytes=struct.pack("<4I", *(call.w(n) for n in range(1, 5))))
    if not _gets(call) or uuid == NIL:
        return
    system = outcome.after
    guest = system.guest(call.caller)
    others = [each for each in system.guests if each.settled and each.id != guest.id]
    found = (*secure(system, uuid), *map(system.described, others))
    if call.w(5) == COUNT and guest.version != V1_0:
        yield success(system, call, "", exactly(len(found), "count"))
    elif call.w(5) == 0 and guest.buffers and (not guest.buffers.owned or outcome.rx):
        size = 8 if guest.version == V1_0 else SIZE
        listing = Listing(tuple(replace(each, uuid=NIL) for each in found), size)
        after = system.having(replace(guest, buffers=replace(guest.buffers, owned=True)))
        told = exactly(SIZE, "descriptor size") if size == SIZE else ZERO
        yield success(system, call, "", exactly(len(found)), told, after=after, rx=listing)


def _upper_probe(machine: Machine) -> bool:
    return not _guest(machine).smc(FFA.PARTITION_INFO_GET, *[0xDEAD << 32] * 7).ok


def _upper(system: System, call: Call) -> Seen:
    """The UUID is another one then, which nobody has; or the flags are others."""
    if _gets(call) and any(value >> 32 for value in call.registers[1:6]):
        yield system, _request(call, x1=0xDEAD_DEAD), _same


def _busy_probe(machine: Machine) -> bool:
    vm = _guest(machine)
    vm.partition_info_get()
    return vm.partition_info_get().error is FfaError.DENIED


def _busy(_system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
    if _gets(call) and FfaError.BUSY.w in outcome.registers[2]:
        yield _register(outcome, 2, status(FfaError.DENIED))


# --- FFA_PARTITION_INFO_GET_REGS -----------------------------------------------------------------


def _lost_probe(machine: Machine) -> bool:
    if not machine.extension.enabled("FFA_VM_TO_VM"):
        return False
    boot_with(machine, [])
    for _ in range(5):
        machine.create_vm("1.1", ram_pages=1)
    vm = machine.create_vm("1.2")
    return vm.partition_info_get_regs().error is FfaError.INVALID_PARAMETERS


def _lost(_system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
    """Guests in a window with one more behind it are there, and do not count."""
    if call.fid != FFA.PARTITION_INFO_GET_REGS or FFA.SUCCESS_64 not in outcome.registers[0]:
        return
    uuid = UUID(bytes=struct.pack("<2Q", *call.registers[1:3]))
    start = call.registers[3] & 0xFFFF
    after = outcome.after
    partitions = len(secure(after, uuid))
    total = partitions + len(guests(after, after.guest(call.caller), uuid))
    held = after.profile.descriptors_in_registers
    if not start + held > partitions or total <= start + held:
        return
    if start >= partitions:
        yield error(after, call, "", FfaError.INVALID_PARAMETERS)
    else:
        told = outcome.registers[2]
        indices = total - 1 | partitions - 1 << 16 | SIZE << 48
        known = after.tag << 32 if after.tag is not None else 0
        yield _register(outcome, 2, Allowed(frozenset({indices | known}), told.name, told.mask))


DEVIATIONS: list[Deviation] = [
    Deviation(
        "serves calls of a guest that has negotiated no version",
        serves_without_version,
        sees=_unsaid,
    ),
    Deviation(
        "a version with bit 31 set, which must be zero, is accepted",
        _bit_31_probe,
        sees=_bit_31,
        silent=True,
    ),
    Deviation("a change of version after other calls is not refused", _change_probe, says=_change),
    Deviation(
        "the version changes in the middle of a guest's life", _late_probe, says=_late, silent=True
    ),
    Deviation(
        "answers with the version asked for, not with the one it implements",
        _echo_probe,
        says=_echo,
        silent=True,
    ),
    Deviation(
        "FFA_INTERRUPT is not reported, though direct requests are answered with it",
        lambda machine: not _reports(machine.create_vm("1.1"), FFA.INTERRUPT),
        says=_interrupt,
    ),
    Deviation(
        "FFA_FEATURES checks registers that should be zero",
        lambda machine: not machine.create_vm("1.1").smc(FFA.FEATURES, FFA.ID_GET, 0, 1).ok,
        says=_minds_sbz,
    ),
    Deviation(
        "64-bit function IDs are reported to 32-bit guests",
        lambda machine: _reports(machine.create_vm("1.1", bits=32), FFA.RXTX_MAP_64),
        says=_smc64,
    ),
    Deviation("FFA_NOTIFICATION_SET is reported, yet none can be set", _set_probe, says=_set),
    Deviation(
        "buffers of no pages are mapped",
        lambda machine: _map(machine, pages=0),
        ends=_no_pages,
    ),
    Deviation(
        "an RX address without memory is a NULL pointer to Xen",
        crashes(
            lambda machine: _map(machine, rx=0xFFFF_FFFF_FFFF_F000),
            r"/ffa_rxtx\.c|/ffa\.c",
            XenMemory,
        ),
        ends=_no_rx,
    ),
    Deviation(
        "the same page is taken as RX and TX",
        lambda machine: _map(machine, rx=0x4000_0000),
        ends=_same_page,
    ),
    Deviation(
        "addresses of buffers that are not page aligned are rounded down",
        lambda machine: _map(machine, 0x4000_0100),
        sees=_rounds,
    ),
    Deviation("RX is unmapped while the guest owns it", _unmap_probe, says=_unmap),
    Deviation(
        "upper halves of registers, which SMC32 has no use for, are not ignored",
        _upper_probe,
        sees=_upper,
    ),
    Deviation(
        "guests, which have no UUID, are listed and counted for any UUID",
        _all_guests_probe,
        says=_all_guests,
    ),
    Deviation(
        "a 64-bit guest is described as one in AArch32 state", _no_state_probe, says=_no_state
    ),
    Deviation("w3 does not tell the size of a descriptor", _no_size_probe, says=_no_size),
    Deviation("w3 is not zero for a guest of 1.0", _size_in_1_0_probe, says=_size_in_1_0),
    Deviation("w3 is not zero where only a count is asked", _count_size_probe, says=_count_size),
    Deviation("guests do not count once another one is left over", _lost_probe, says=_lost),
    Deviation(
        "a guest without a version is taken from the count, in which it is not",
        lambda machine: (
            machine.extension.enabled("FFA_VM_TO_VM") and serves_without_version(machine)
        ),
        says=_uncounted,
    ),
    Deviation("DENIED, not BUSY, while the guest owns its RX buffer", _busy_probe, says=_busy),
]
"""In the order in which they add up."""
