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

from ffashim import capabilities
from ffashim.descriptors import NIL
from ffashim.faults import XenMemory
from ffashim.ffa import (
    FFA,
    ID_SECURE,
    MSG_FLAG_FRAMEWORK,
    PAGE_SIZE,
    V1_0,
    V1_1,
    FfaError,
    PartitionProperty,
    Version,
)
from ffashim.machine import Machine
from ffashim.model.contents import HEADER_1_1, SIZE, Listing
from ffashim.model.deviation import Deviation, Restore
from ffashim.model.direct import RESPONSE, passed_on, told
from ffashim.model.exchange import Answer, Ask, Plan, relayed, request
from ffashim.model.notifications import BELOW as ALL_BELOW
from ffashim.model.outcome import Outcome, error, high, success
from ffashim.model.partitions import guests, secure
from ffashim.model.registers import ZERO, Allowed, Call, answer, either, exactly, function, status
from ffashim.model.rules import exists
from ffashim.model.state import Source, System
from ffashim.model.version import MBZ
from ffashim.testing import boot_with, described, hides_buffers, serves_without_version
from ffashim.traffic import (
    SP,
    bind,
    crashes,
    direct,
    guest,
    handle_of,
    send2,
    share,
    transaction,
    version_of,
)
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


# --- FFA_VERSION -------------------------------------------------------------------------------


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


# --- FFA_FEATURES ------------------------------------------------------------------------------


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


# --- RX and TX ---------------------------------------------------------------------------------

MAPS = (FFA.RXTX_MAP_32, FFA.RXTX_MAP_64)


def _map(machine: Machine, tx: int = 0x4000_0000, rx: int = 0x4000_1000, pages: int = 1) -> bool:
    return machine.create_vm("1.1").smc(FFA.RXTX_MAP_64, tx, rx, pages).ok


def _no_pages(_system: System, call: Call) -> bool:
    return call.fid in MAPS and call.w(3) == 0


def _no_rx(system: System, call: Call) -> bool:
    page = call.argument(2) & -PAGE_SIZE
    return call.fid in MAPS and not system.guest(call.caller).has(page, 1)


def _same_page_probe(machine: Machine) -> bool:
    """An SPMC that is told of guests' buffers refuses it itself."""
    boot_with(machine, [], features_off=[FFA.RX_ACQUIRE, FFA.MSG_SEND2])
    return _map(machine, rx=0x4000_0000)


def _same_page(system: System, call: Call) -> bool:
    blind = not system.secure.knows_buffers
    return blind and call.fid in MAPS and call.argument(1) >> 12 == call.argument(2) >> 12


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


def _hides(system: System, call: Call) -> Seen:
    """To it, guests' buffers are none of the SPMC's business."""
    secure = system.secure
    if secure.knows_buffers:
        blind = replace(secure, calls=secure.calls - {FFA.RX_ACQUIRE})
        yield (
            replace(system, secure=blind),
            call,
            lambda after: replace(after, secure=secure),
        )


def _sends_anyway(system: System, call: Call) -> Iterator[Plan]:
    """Whether the SPMC knows TX is not asked."""
    caller = system.guest(call.caller)
    if call.fid != FFA.MSG_SEND2 or not call.tx or not exists(system, caller, call.fid):
        return
    now = system.settled(caller)
    offset, receiver, sender, size = struct.unpack_from("<8xIHHI", call.tx)
    if sender == caller.id and receiver & ID_SECURE and size and offset >= HEADER_1_1:
        registers = request(FFA.MSG_SEND2, exactly(caller.id << 16))
        yield relayed(now, call, "", registers, lambda _: [success(now, call, "")])


# --- FFA_PARTITION_INFO_GET --------------------------------------------------------------------


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
    if _gets(call) and isinstance(outcome.rx, Listing) and outcome.rx.size != SIZE:
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
    if isinstance(outcome.rx, Listing):
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


# --- FFA_PARTITION_INFO_GET_REGS ---------------------------------------------------------------


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


# --- messages ----------------------------------------------------------------------------------

DIRECT = (FFA.MSG_SEND_DIRECT_REQ_32, FFA.MSG_SEND_DIRECT_REQ_64)


def _framework_probe(machine: Machine) -> bool:
    vm = guest(machine, buffers=False)
    direct_to(vm, MSG_FLAG_FRAMEWORK | 4)
    return any(each.rule == "framework-from-vm" for each in machine.spmc.violations)


def direct_to(vm: Vm, flags: int) -> None:
    """Send a direct request with flags."""
    vm.smc(FFA.MSG_SEND_DIRECT_REQ_32, vm.id << 16 | SP, flags)


def _framework(system: System, call: Call) -> Iterator[Plan]:
    sender, receiver = call.w(1) >> 16, call.w(1) & 0xFFFF
    caller = system.guest(call.caller)
    if (
        call.fid in DIRECT
        and call.w(2) & MSG_FLAG_FRAMEWORK
        and sender == caller.id
        and receiver & ID_SECURE
        and exists(system, caller, call.fid)
    ):
        yield passed_on(system.settled(caller), system.settled(caller).guest(caller.id), call)


def _idle_probe(machine: Machine) -> bool:
    if FFA.RUN not in capabilities.handled(machine):
        return False
    machine.boot()
    return guest(machine, buffers=False).smc(FFA.RUN, SP << 16).error is FfaError.ABORTED


def _idle(system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
    if call.fid == FFA.RUN and FFA.MSG_WAIT in outcome.registers[0]:
        yield error(outcome.after, call, "", FfaError.ABORTED)


def _tells_probe(machine: Machine) -> bool:
    if FFA.RUN not in capabilities.handled(machine):
        return False
    machine.boot()
    one, two = guest(machine, buffers=False), guest(machine, buffers=False)
    machine.spmc.on(FFA.MSG_SEND_DIRECT_REQ_32).delay(1)
    direct(one, 0x5EC)
    return 0x5EC in two.smc(FFA.RUN, SP << 16)


def _tells(system: System, call: Call) -> Iterator[Plan]:
    caller = system.guest(call.caller)
    receiver = call.w(1) >> 16
    if call.fid != FFA.RUN or not receiver & ID_SECURE or not exists(system, caller, call.fid):
        return
    now = system.settled(caller)

    def then(reply: Answer) -> Iterator[Plan]:
        if reply[0] & LOW in RESPONSE.values():
            left = frozenset(pair for pair in now.running if pair[0] != receiver)
            yield told(replace(now, running=left), call, "", reply)

    yield Ask(request(FFA.RUN, exactly(call.w(1))), then, "")


# --- memory ------------------------------------------------------------------------------------

SHARES = (FFA.MEM_SHARE_32, FFA.MEM_SHARE_64)


def _long_probe(machine: Machine) -> bool:
    return guest(machine).smc(FFA.MEM_SHARE_64, PAGE_SIZE + 16, PAGE_SIZE + 16).ok


def _long(system: System, call: Call) -> Iterator[Plan]:
    caller = system.guest(call.caller)
    fits = call.w(1) == call.w(2) > PAGE_SIZE and not call.argument(3)
    if call.fid in SHARES and fits and caller.buffers and exists(system, caller, call.fid):
        yield success(system.settled(caller), call, "")


def _tag_probe(machine: Machine) -> bool:
    vm = guest(machine)
    handle = handle_of(share(vm, transaction(vm, tag=7)))
    return bool(machine.spmc.memory.shares[handle].tag == 0)


def _tag(system: System, call: Call) -> Seen:
    if call.fid in SHARES and any(call.tx[16:24]):
        yield system, replace(call, tx=call.tx[:16] + bytes(8) + call.tx[24:]), _same


def _flags_probe(machine: Machine) -> bool:
    vm = guest(machine)
    return share(vm, transaction(vm, flags=1)).ok


def _flags(system: System, call: Call) -> Seen:
    if call.fid in SHARES and call.tx[4:5] != b"\0":
        yield system, replace(call, tx=call.tx[:4] + b"\0" + call.tx[5:]), _same


def _x3_probe(machine: Machine) -> bool:
    vm = guest(machine)
    data = transaction(vm).encode(version_of(vm))
    vm.tx.write(data)
    return not vm.smc(FFA.MEM_SHARE_32, len(data), len(data), 1 << 32).ok


def _x3(system: System, call: Call) -> Iterator[Plan]:
    caller = system.guest(call.caller)
    if (
        call.fid == FFA.MEM_SHARE_32
        and call.registers[3] >> 32
        and exists(system, caller, call.fid)
    ):
        yield error(system.settled(caller), call, "", FfaError.NOT_SUPPORTED)


# --- notifications -----------------------------------------------------------------------------


BOTH_HALVES = 0x1_0000_0001
"""Notifications that a tree which swaps the halves of the bitmap knows as well."""


def _wide_probe(machine: Machine) -> bool:
    if FFA.NOTIFICATION_INFO_GET_32 not in capabilities.handled(machine):
        return False
    machine.boot()
    vm = guest(machine, buffers=False)
    bind(vm, BOTH_HALVES)
    machine.spmc.notifications.notify(SP, vm.id, BOTH_HALVES)
    return vm.smc(FFA.NOTIFICATION_INFO_GET_32).fid == FFA.SUCCESS_64


def _wide(system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
    if call.fid == FFA.NOTIFICATION_INFO_GET_32 and FFA.SUCCESS_32 in outcome.registers[0]:
        yield _register(outcome, 0, function(FFA.SUCCESS_64))


def _bitmap_probe(machine: Machine) -> bool:
    if FFA.NOTIFICATION_BIND not in capabilities.handled(machine):
        return False
    machine.boot()
    vm = guest(machine, buffers=False)
    bind(vm, BOTH_HALVES)
    machine.spmc.notifications.notify(SP, vm.id, BOTH_HALVES)
    vm.destroy()
    return vm.id in machine.spmc.state.bitmaps


def _forgets_probe(machine: Machine) -> bool:
    if FFA.NOTIFICATION_GET not in capabilities.handled(machine):
        return False
    machine.boot()
    vm = guest(machine, buffers=False)
    bind(vm, BOTH_HALVES)
    machine.spmc.notifications.notify(SP, vm.id, BOTH_HALVES)
    machine.spmc.on(FFA.NOTIFICATION_GET).error(FfaError.BUSY, times=1)
    vm.smc(FFA.NOTIFICATION_GET, vm.id, ALL_BELOW)
    return vm.smc(FFA.NOTIFICATION_INFO_GET_64).error is FfaError.NO_DATA


def _forgets(_system: System, call: Call, outcome: Outcome) -> Iterator[Outcome]:
    """It forgets before it asks for all that the secure world has."""
    failed = FFA.ERROR in outcome.registers[0]
    if call.fid == FFA.NOTIFICATION_GET and failed and call.w(2) & ALL_BELOW == ALL_BELOW:
        guest = outcome.after.guest(call.caller)
        left = replace(guest, news=guest.news - {Source.SECURE})
        yield replace(outcome, after=outcome.after.having(left))


def _filled_probe(machine: Machine) -> bool:
    vm = guest(machine)
    if machine.spmc.messages.send(SP, vm.id, b"hello") is not None:
        return False
    return vm.smc(FFA.RX_RELEASE).error is FfaError.DENIED


def _filled(system: System, call: Call) -> Iterator[Plan]:
    caller = system.guest(call.caller)
    if call.fid == FFA.RX_RELEASE and caller.buffers and caller.buffers.filled_below:
        yield error(system.settled(caller), call, "", FfaError.DENIED)


def _deaf_probe(machine: Machine) -> bool:
    if not machine.extension.enabled("FFA_VM_TO_VM"):
        return False
    sender, receiver = guest(machine), machine.create_vm("1.1", vcpus=2)
    receiver.map_rxtx()
    receiver.offline()
    send2(sender, receiver.id)
    return [each.vcpu for each in machine.virqs] != [1]


def _deaf(system: System, call: Call) -> Seen:
    """It tells the first vCPU, whether it is online or not."""
    known = {each.id: each.offline for each in system.guests}
    if call.fid != FFA.MSG_SEND2 or not any(0 in each for each in known.values()):
        return

    def restore(after: System) -> System:
        for each in after.guests:
            after = after.having(replace(each, offline=known[each.id]))
        return after

    deaf = tuple(
        replace(each, offline=frozenset(range(each.vcpus)) if 0 in each.offline else each.offline)
        for each in system.guests
    )
    yield replace(system, guests=deaf), call, restore


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
        _same_page_probe,
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
    Deviation(
        "never asks for FFA_RX_ACQUIRE, so the SPMC is not told of any guest's buffers",
        hides_buffers,
        sees=_hides,
        does=_sends_anyway,
        forbidden=r"MSG_SEND2: VM \d+ has no TX buffer here",
    ),
    Deviation(
        "passes on framework messages of guests",
        _framework_probe,
        does=_framework,
        forbidden="framework-from-vm",
    ),
    Deviation("ABORTED where an idle SP answers FFA_MSG_WAIT", _idle_probe, says=_idle),
    Deviation(
        "a guest that runs an SP gets the answer meant for another guest",
        _tells_probe,
        does=_tells,
    ),
    Deviation("FFA_SUCCESS, handle 0, for a descriptor longer than TX", _long_probe, does=_long),
    Deviation("drops the tag: the SP that retrieves with it is refused", _tag_probe, sees=_tag),
    Deviation("ignores the flags of a memory transaction", _flags_probe, sees=_flags),
    Deviation("FFA_MEM_SHARE_32 reads all of x3 as the buffer's address", _x3_probe, does=_x3),
    Deviation("FFA_SUCCESS_64 in answer to FFA_NOTIFICATION_INFO_GET_32", _wide_probe, says=_wide),
    Deviation(
        "does not collect what is pending: the SPMC keeps the bitmap, and the ID is lost",
        _bitmap_probe,
        leaves="notification bitmap",
    ),
    Deviation(
        "RX that the SPMC has filled can never be released: Xen takes it for free",
        _filled_probe,
        does=_filled,
    ),
    Deviation(
        "a FFA_NOTIFICATION_GET that fails makes FFA_NOTIFICATION_INFO_GET forget",
        _forgets_probe,
        says=_forgets,
        silent=True,
    ),
    Deviation("tells a vCPU that is offline of a full RX buffer", _deaf_probe, sees=_deaf),
]
"""In the order in which they add up."""
