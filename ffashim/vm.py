# SPDX-License-Identifier: GPL-2.0-only
"""Guests, their vCPUs, and what they do all day with FF-A."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ffashim.descriptors import PartitionInfo, PartitionInfoRegs, decode_partition_infos
from ffashim.errors import FfashimError, UsageError
from ffashim.ffa import FFA, Version
from ffashim.memory import Buffer, GuestMemory
from ffashim.reply import Reply

if TYPE_CHECKING:
    from ffashim.machine import Machine

_FRAME = struct.Struct("=18Q")
_pack = _FRAME.pack_into
_unpack = _FRAME.unpack
_LIMIT = 1 << 64


class Conduit(Enum):
    """How a guest's call reaches Xen."""

    SMC = "SMC"
    HVC = "HVC"
    TEE = "TEE"
    """Straight into tee_handle_call(), past the trap path."""


class UnexpectedReply(FfashimError):
    """A helper made a call that had to succeed, and it did not."""

    def __init__(self, what: str, reply: Reply) -> None:
        super().__init__(f"{what} was answered by {reply}")
        self.reply = reply


class Call:
    """A call that has been started and need not be finished yet; from `Vcpu.start()`."""

    def __init__(self, machine: Machine, cpu: int) -> None:
        self._machine = machine
        self._reply: Reply | None = None
        self.cpu = cpu
        """The physical CPU that it occupies until it is done."""

    def __repr__(self) -> str:
        return f"<Call on CPU {self.cpu}, {'done' if self._reply else 'under way'}>"

    @property
    def done(self) -> bool:
        """Whether it has returned to the guest."""
        return self._reply is not None

    def step(self) -> bool:
        """Run to the next switch point, lock that is not free, or end. True if it is done.

        Which switch points there are is said by `Machine.at_points()`.
        """
        machine = self._machine
        if self._reply is None:
            machine._usable()
            machine._suspend.add(self.cpu)
            try:
                state = machine.lib.ffashim_drive(self.cpu)
            finally:
                machine._suspend.discard(self.cpu)
            self._take(state)
        return self.done

    def reply(self) -> Reply:
        """Run to the end and return what the guest finds in its registers."""
        machine = self._machine
        if self._reply is None:
            machine._usable()
            machine._finish(self.cpu, machine.lib.ffashim_drive(self.cpu))
            self._take(machine.lib.FFASHIM_DONE)
        assert self._reply is not None
        return self._reply

    def _take(self, state: int) -> None:
        machine = self._machine
        if state == machine.lib.FFASHIM_FAULTED:
            machine._raise(self.cpu)
        if state == machine.lib.FFASHIM_DONE:
            machine.lib.ffashim_fetch(self.cpu)
            self._reply = Reply(_unpack(machine._frame))
            machine.lib.ffashim_retire(self.cpu)
            machine._settle()


class Vcpu:
    """A virtual CPU of a guest."""

    def __init__(self, vm: Vm, machine: Machine, slot: int, index: int) -> None:
        self.vm = vm
        self.index = index
        self._caller = machine._caller(slot, index)
        self._call: Callable[..., Reply] = self._caller

    def smc(
        self,
        fid: int,
        x1: int = 0,
        x2: int = 0,
        x3: int = 0,
        x4: int = 0,
        x5: int = 0,
        x6: int = 0,
        x7: int = 0,
        *high: int,
        **named: int,
    ) -> Reply:
        """Make a call with these registers, 64 bits each, and return the registers after it.

        x8 to x17 follow by position or, like all of them, by name: `vm.smc(fid, x1=5, x9=7)`. Of
        a 32-bit guest only the lower halves reach Xen, as on hardware. A physical CPU that is idle
        takes the call, so it may be made in the middle of another one.

        Raises a XenFault if it does not return, UsageError for a value that is no register's.
        """
        try:
            if high or named:
                return self._call(*frame(fid, x1, x2, x3, x4, x5, x6, x7, *high, **named))
            return self._call(fid, x1, x2, x3, x4, x5, x6, x7)
        except (OverflowError, TypeError):
            frame(fid, x1, x2, x3, x4, x5, x6, x7)  # says which register it is
            raise

    def start(self, fid: int, *args: int, **registers: int) -> Call:
        """Put a call on an idle CPU without running it; see `Call`. Registers as for `smc()`."""
        self.vm._usable()
        machine = self.vm.machine
        regs = frame(fid, *args, **registers)
        machine._require_free(self.vm.slot, self.index)
        cpu = machine._idle_cpu()
        _pack(machine._frame, 0, *regs)
        machine.lib.ffashim_start_call(cpu, self.vm.slot, self.index)
        if cpu:
            self._call = self._call_later
        return Call(machine, cpu)

    def _call_later(self, *registers: int) -> Reply:
        """Make the first call since one was started on another CPU than `smc()` takes."""
        self.vm._usable()
        self.vm.machine._require_free(self.vm.slot, self.index)
        self._call = self._caller
        return self._caller(*registers)

    def batch(self, frames: Sequence[Sequence[int]]) -> list[Reply]:
        """Make many calls in one go, in C: frames of up to 18 registers, missing ones zero."""
        self.vm._usable()
        machine = self.vm.machine
        count = len(frames)
        buffer = machine.ffi.new("uint64_t[]", 18 * count)
        view = machine.ffi.buffer(buffer)
        for n, regs in enumerate(frames):
            _pack(view, n * _FRAME.size, *frame(*regs))
        machine._batch(self.vm.slot, self.index, buffer, count)
        return [Reply(regs) for regs in _FRAME.iter_unpack(view)]

    def batch_raw(self, frames: Any, count: int) -> None:
        """Make `count` calls on a `uint64_t[]` of the extension, in place: no copy, no check."""
        self.vm.machine._batch(self.vm.slot, self.index, frames, count)

    def offline(self) -> None:
        """Take the vCPU down, as PSCI CPU_OFF does."""
        self._online(False)

    def online(self) -> None:
        """Bring it up again."""
        self._online(True)

    def _online(self, value: bool) -> None:
        self.vm._usable()
        self.vm.machine.lib.ffashim_vcpu_online(self.vm.slot, self.index, value)


class Vm(Vcpu):
    """A guest. It is its own first vCPU: `vm.smc()` is a call of that one."""

    def __init__(
        self,
        machine: Machine,
        slot: int,
        domid: int,
        bits: int,
        vcpus: int,
        ram_base: int,
        ram_pages: int,
    ) -> None:
        super().__init__(self, machine, slot, 0)
        self.machine = machine
        self.slot = slot
        self.domid = domid
        self.bits = bits
        self.vcpus = [self, *(Vcpu(self, machine, slot, n) for n in range(1, vcpus))]
        self.memory = GuestMemory(self, ram_base, ram_pages)
        self.owner = 0
        """Its number to the machine, which no other domain ever has."""
        self.dead = False
        """domain_kill() has run; memory that is still referenced keeps the domain in being."""
        self.version: Version | None = None
        """What `negotiate()` asked for."""
        self._buffers: tuple[Buffer, Buffer] | None = None

    def __repr__(self) -> str:
        return f"<Vm {self.domid}, FF-A ID {self.id:#x}, {self.bits} bits>"

    def disable(self) -> None:
        """Let calls fail from now on, with the reason. For the machine."""
        for vcpu in self.vcpus:
            vcpu._call = self._cannot_call

    def enable(self) -> None:
        """Let calls be made (again). For the machine."""
        self.dead = False
        for vcpu in self.vcpus:
            vcpu._call = vcpu._caller

    def _cannot_call(self, *_registers: int) -> Reply:
        self._usable()
        raise AssertionError("a guest that is usable can call")

    @property
    def id(self) -> int:
        """Its FF-A endpoint ID: the domain ID plus one."""
        return self.domid + 1

    def _usable(self) -> None:
        self.machine._usable()
        if self.dead or self.machine.vms.get(self.slot) is not self:
            raise UsageError(
                f"domain {self.domid} no longer exists: it was destroyed, or created after the "
                "snapshot that was restored"
            )

    def destroy(self) -> bool:
        """Kill the guest: domain_kill(), and freeing it if nothing holds it. True if it is freed.

        What the mediator retries later, `Machine.advance()` brings about.
        """
        self._usable()
        return self.machine._kill(self)

    @property
    def exists(self) -> bool:
        """Whether Xen still has it, alive or as a zombie."""
        return bool(self.machine.lib.ffashim_domain_exists(self.slot)) and (
            self.machine.vms.get(self.slot) is self
        )

    # --- what guests do all day -------------------------------------------------------------------

    def negotiate(self, version: str = "1.2") -> Reply:
        """Negotiate a version: FFA_VERSION (FF-A 1.2, 13.2), and FFA_ID_GET to make it final.

        Returns the answer to FFA_VERSION. Raises UnexpectedReply if FFA_ID_GET fails.
        """
        self.version = Version.parse(version)
        answer = self.smc(FFA.VERSION, int(self.version))
        done = self.smc(FFA.ID_GET)
        if not done.ok:
            raise UnexpectedReply(f"FFA_ID_GET after FFA_VERSION {version}", done)
        return answer

    @property
    def tx(self) -> Buffer:
        """The TX buffer that `map_rxtx()` made: the guest writes, Xen reads."""
        return self._pair()[0]

    @property
    def rx(self) -> Buffer:
        """The RX buffer that `map_rxtx()` made: Xen writes, the guest reads."""
        return self._pair()[1]

    def _pair(self) -> tuple[Buffer, Buffer]:
        if self._buffers is None:
            raise UsageError(f"{self!r} has no RX/TX buffers: call map_rxtx() first")
        return self._buffers

    def map_rxtx(self) -> Reply:
        """Take two pages of RAM and register them (FFA_RXTX_MAP, FF-A 1.2, 13.6).

        Raises UnexpectedReply if Xen refuses.
        """
        fid = FFA.RXTX_MAP_64 if self.bits == 64 else FFA.RXTX_MAP_32
        tx, rx = self.memory.allocate(), self.memory.allocate()
        reply = self.smc(fid, tx, rx, 1)
        if not reply.ok:
            raise UnexpectedReply(f"FFA_RXTX_MAP of {self!r}", reply)
        self._buffers = (Buffer(self.memory, tx), Buffer(self.memory, rx))
        return reply

    def partition_info_get(self, uuid: UUID | None = None, flags: int = 0) -> Reply:
        """Call FFA_PARTITION_INFO_GET (FF-A 1.2, 13.8); no UUID is the Nil UUID."""
        w1, w2, w3, w4 = struct.unpack("<4I", uuid.bytes if uuid else bytes(16))
        return self.smc(FFA.PARTITION_INFO_GET, w1, w2, w3, w4, flags)

    def partition_info_get_regs(
        self, uuid: UUID | None = None, start: int = 0, tag: int = 0
    ) -> Reply:
        """Call FFA_PARTITION_INFO_GET_REGS (FF-A 1.2, 13.9) from an index on, with a tag."""
        low, high = struct.unpack("<2Q", uuid.bytes if uuid else bytes(16))
        return self.smc(FFA.PARTITION_INFO_GET_REGS, low, high, start | tag << 16)

    def partitions(self, uuid: UUID | None = None) -> list[PartitionInfo]:
        """Walk the partition list as a guest does that has RX: GET, read RX, FFA_RX_RELEASE.

        Raises UnexpectedReply if either call fails.
        """
        reply = self.partition_info_get(uuid)
        if not reply.ok:
            raise UnexpectedReply("FFA_PARTITION_INFO_GET", reply)
        found = decode_partition_infos(self.rx.read(), reply.w(2), reply.w(3))
        released = self.smc(FFA.RX_RELEASE)
        if not released.ok:
            raise UnexpectedReply("FFA_RX_RELEASE", released)
        return found

    def partitions_regs(self, uuid: UUID | None = None) -> list[PartitionInfo]:
        """Walk the partition list by GET_REGS, from index 0 to the last one, echoing the tag.

        Raises UnexpectedReply if a call fails, DescriptorError if a reply makes no sense.
        """
        found: list[PartitionInfo] = []
        tag = last = 0
        while len(found) <= last:
            reply = self.partition_info_get_regs(uuid, len(found), tag)
            if not reply.ok:
                raise UnexpectedReply("FFA_PARTITION_INFO_GET_REGS", reply)
            window = PartitionInfoRegs.decode(reply, len(found))
            if not window.partitions:
                raise UnexpectedReply("FFA_PARTITION_INFO_GET_REGS, with no entry", reply)
            found += window.partitions
            tag, last = window.tag, window.last
        return found


def frame(fid: int, *args: int, **registers: int) -> tuple[int, ...]:
    """Return x0 to x17 for a call: positional ones from x1 on, or by name."""
    regs = [fid, *args] + [0] * (17 - len(args))
    for name, value in registers.items():
        number = name.removeprefix("x")
        if not (name.startswith("x") and number.isdecimal() and 1 <= int(number) <= 17):
            raise UsageError(f"{name}= is no register of a call: name x1 to x17")
        regs[int(number)] = value
    if len(regs) > 18:
        raise UsageError(f"{len(args)} arguments: a call has at most 17, in x1 to x17")
    if any(not isinstance(value, int) or not 0 <= value < _LIMIT for value in regs):
        raise _out_of_range(regs) from None
    return tuple(regs)


def _out_of_range(regs: Sequence[object]) -> UsageError:
    for n, value in enumerate(regs):
        if not isinstance(value, int):
            return UsageError(f"x{n}={value!r}: a register holds a number")
        if not 0 <= value < _LIMIT:
            return UsageError(f"x{n}={value:#x}: a register holds 0 to 2^64 - 1")
    return UsageError(f"{regs!r}: not the registers of a call")
