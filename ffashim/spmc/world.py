# SPDX-License-Identifier: GPL-2.0-only
"""The SPMC as the hypervisor sees it: an SMC comes in, registers go out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from ffashim.errors import UsageError
from ffashim.ffa import FFA, ID_SECURE, FfaError, Version
from ffashim.spmc import script
from ffashim.spmc.buffers import BufferAbis
from ffashim.spmc.discovery import DiscoveryAbis
from ffashim.spmc.log import Entry, Log, Smc, describe
from ffashim.spmc.memory import MemoryAbis
from ffashim.spmc.messages import MessageAbis
from ffashim.spmc.notifications import NotificationAbis
from ffashim.spmc.partitions import SecurePartition
from ffashim.spmc.replies import UNKNOWN, Regs, error
from ffashim.spmc.state import Handler, State


class SecureHost(Protocol):
    """What the machine gives to the secure world: physical memory and interrupts."""

    def read(self, pa: int, size: int) -> bytes:
        """`size` bytes of physical memory."""
        ...

    def write(self, pa: int, data: bytes) -> None:
        """Put bytes into physical memory."""
        ...

    def raise_irq(self, intid: int, cpu: int = 0) -> None:
        """Make an interrupt pending on a physical CPU."""
        ...


@dataclass(frozen=True)
class Finding:
    """Something that the hypervisor should not have sent.

    `rule` is a short fixed name, `text` what is wrong and where the specification says so,
    `registers` x0 to x17 of the SMC.
    """

    rule: str
    text: str
    registers: Regs

    def __str__(self) -> str:
        """One line."""
        return f"{self.text} [{self.rule}]: {describe(self.registers)}"

    __repr__ = __str__


class Spmc:
    """An SPMC at the physical FF-A instance, with its secure partitions.

    version: the version it implements, "1.0" and up; None: there is no SPMC, every FF-A call
        gets SMCCC's NOT_SUPPORTED.
    partitions: secure partitions, in the order in which they are listed.
    features_off: function or feature IDs that it does not implement, nor report.
    unreported: function IDs that it implements but does not report through FFA_FEATURES.
    descriptor_size: bytes of a partition information descriptor; what is beyond the 24 that the
        specification defines is filled with 0xa5.
    sri: interrupt ID of the schedule receiver interrupt, an SGI (to 15), a PPI (to 31) or an SPI.
    max_rxtx_pages: what FFA_FEATURES(RXTX_MAP) tells since 1.2; 0 is no limit.
    tag: of the partition list in FFA_PARTITION_INFO_GET_REGS.
    tolerate: rules (see `Finding`) that count as notes instead of violations.

    `violations` holds what the specification forbids the hypervisor to send. `notes` holds what
    it merely frowns on, and requests whose state made no sense once a script had lied about it.
    `witness`, if set, is called with the registers of each SMC before it is answered.
    """

    def __init__(
        self,
        version: str | tuple[int, int] | None = "1.2",
        partitions: Iterable[SecurePartition] = (),
        *,
        features_off: Iterable[int] = (),
        unreported: Iterable[int] = (),
        descriptor_size: int = 24,
        sri: int = 8,
        spmc_id: int = ID_SECURE,
        max_rxtx_pages: int = 0,
        tag: int = 0,
        tolerate: Iterable[str] = (),
    ) -> None:
        if descriptor_size < 24 or descriptor_size > 4096:
            raise UsageError(f"descriptor_size={descriptor_size}: want 24 to 4096 bytes")
        self.version = None if version is None else Version.parse(version)
        self.features_off = frozenset(map(int, features_off))
        self.unreported = frozenset(map(int, unreported))
        self.descriptor_size = descriptor_size
        self.sri = sri
        self.cpu = 0
        """On which the next SMC is made, or the one that is being answered."""
        self.spmc_id = spmc_id
        self.max_rxtx_pages = max_rxtx_pages
        self.tolerate = frozenset(tolerate)
        self.log = Log()
        self.violations: list[Finding] = []
        self.notes: list[Finding] = []
        self.witness: Callable[[Regs], None] | None = None
        self._host: SecureHost | None = None
        self._current: Regs = UNKNOWN
        self.state = self._fresh(tag)
        for partition in partitions:
            self.add(partition)
        self.discovery = DiscoveryAbis(self)
        self.buffers = BufferAbis(self)
        self.messages = MessageAbis(self)
        self.memory = MemoryAbis(self)
        self.notifications = NotificationAbis(self)
        self._tables: dict[Version, dict[int, Handler]] = {}
        self.power_on()

    # The seam to the machine.

    def smc(self, regs: tuple[int, ...]) -> Regs:
        """One SMC of the hypervisor: registers x0 to x17 in, x0 to x17 out."""
        entry: Entry = [regs, None]
        self.log.entries.append(entry)
        self._current = regs
        if self.witness is not None:
            self.witness(regs)
        answer = script.apply(self, regs) if self.state.rules else None
        if answer is None:
            answer = self.answer(regs)
        else:
            self.messages.overhear(regs, answer)
        entry[1] = answer
        return answer

    def attach(self, host: SecureHost) -> None:
        """Connect to the machine whose memory and interrupts this SPMC uses, and power on."""
        self._host = host
        self.power_on()

    def power_on(self) -> None:
        """Forget all that a hypervisor ever said, log and findings included.

        Partitions, what they answer, and the rules of scripts stay.
        """
        before = self.state
        self.state = state = self._fresh(before.tag)
        state.partitions, state.by_id = before.partitions, before.by_id
        state.handlers, state.rules = before.handlers, before.rules
        if self.version is not None:
            state.abis = {int(FFA.VERSION): self.discovery.version}
        self.log.clear()
        self.violations.clear()
        self.notes.clear()

    @staticmethod
    def _fresh(tag: int) -> State:
        """The state of an SPMC that nobody has called."""
        return State(
            negotiated=None,
            abis={},
            partitions=(),
            by_id={},
            handlers={},
            hypervisor=None,
            buffers={},
            shares={},
            fragments={},
            next_handle=0x12_0000_0001,
            delivered=(),
            bitmaps={},
            sp_bitmaps={},
            running={},
            created=frozenset(),
            destroyed=frozenset(),
            seen=frozenset(),
            ended=frozenset(),
            tag=tag,
            rules={},
            overridden=False,
            scripted=False,
        )

    def snapshot(self) -> object:
        """All that changes, to be given to `restore` any number of times."""
        return (
            self.state.copy(), self.log.entries.copy(), tuple(self.violations), tuple(self.notes),
        )  # fmt: skip

    def restore(self, state: object) -> None:
        """Go back to a snapshot of this SPMC: partitions, scripts, log and findings included."""
        assert isinstance(state, tuple)
        saved, entries, violations, notes = state
        self.state = saved.copy()
        self.log.entries[:] = entries
        self.violations[:] = violations
        self.notes[:] = notes

    # What tests use.

    def answer(self, regs: tuple[int, ...]) -> Regs:
        """What the secure world itself answers, scripts aside; it acts as for an SMC."""
        fid = regs[0] & 0xFFFFFFFF
        handler = self.state.abis.get(fid)
        if handler is None:
            return self._refuse(fid)
        if max(regs[8:]) and fid != _REQ2:
            self.note("sbz", "this call does not use x8 to x17")
        if not fid & 0x40000000 and max(regs[1:8]) >> 32:
            self.note("sbz", "an SMC32 call has 32-bit arguments")
        return handler(regs)

    def _refuse(self, fid: int) -> Regs:
        """A call that this SPMC does not know, at the version that was agreed on."""
        if self.state.negotiated is None and fid != FFA.VERSION:
            self.violation("version", "no call before FFA_VERSION has agreed on one (13.2.1)")
        elif self.version is not None:
            self.note("unsupported", "this SPMC does not implement the call")
        return UNKNOWN if self.state.negotiated is None else error(FfaError.NOT_SUPPORTED)

    def on(self, fid: int = script.ANY) -> script.On:
        """Start a rule about a function ID (none: every one); see `ffashim.spmc.script`."""
        if not isinstance(fid, int) or not 0 <= fid < 1 << 32:
            raise UsageError(f"on({fid!r}): want a function ID, such as FFA.MEM_SHARE_64")
        return script.On(self, int(fid))

    def calls(self, *fids: int) -> list[Smc]:
        """What the log holds for these function IDs."""
        return self.log.of(*fids)

    def add(self, partition: SecurePartition) -> SecurePartition:
        """Add a secure partition; after boot Xen will not look again. Returns it."""
        state = self.state
        _require_partition(partition)
        if partition.id in state.by_id:
            raise UsageError(f"two secure partitions with ID {partition.id:#06x}")
        state.partitions = (*state.partitions, partition)
        state.by_id[partition.id] = partition
        return partition

    def remove(self, sp_id: int) -> None:
        """Take a secure partition away."""
        state = self.state
        del state.by_id[sp_id]
        state.partitions = tuple(p for p in state.partitions if p.id != sp_id)

    def violation(self, rule: str, text: str) -> None:
        """Record that the SMC under way breaks the specification."""
        found = self.notes if rule in self.tolerate else self.violations
        found.append(Finding(rule, text, self._current))

    def bookkeeping(self, rule: str, text: str) -> None:
        """Record that the hypervisor lost track of what it did.

        Only a note once a script has answered in the world's place: then it is the script that
        does not fit.
        """
        if self.state.overridden:
            self.note(rule, text)
        else:
            self.violation(rule, text)

    def note(self, rule: str, text: str) -> None:
        """Record an oddity of the SMC under way."""
        self.notes.append(Finding(rule, text, self._current))

    def residue(self, vm_id: int) -> list[str]:
        """What the secure world still holds of a VM; empty once it is properly gone."""
        return [
            *self.buffers.residue(vm_id),
            *self.memory.residue(vm_id),
            *self.notifications.residue(vm_id),
            *self.messages.residue(vm_id),
        ]

    # What the topics use.

    def agree(self, version: Version) -> None:
        """From now on hypervisor and SPMC speak this version."""
        state = self.state
        state.negotiated = version
        if version not in self._tables:
            topics = (
                self.discovery, self.buffers, self.messages, self.memory, self.notifications,
            )  # fmt: skip
            self._tables[version] = {
                int(fid): handler
                for topic in topics
                for fid, (since, handler) in topic.abis().items()
                if version >= since and fid not in self.features_off
            }
        state.abis = self._tables[version]

    @property
    def host(self) -> SecureHost:
        """The machine. Raises UsageError before `attach`."""
        if self._host is None:
            raise UsageError("this SPMC belongs to no machine yet: attach() it first")
        return self._host

    @property
    def negotiated(self) -> Version:
        """The version in use between hypervisor and SPMC (1.0 if none is)."""
        return self.state.negotiated or Version(1, 0)

    def saw(self, vm_id: int) -> None:
        """Remember that this VM exists, so that `residue` can ask who was told of its end."""
        self.is_another(vm_id)
        self.state.seen |= {vm_id}

    def is_another(self, vm_id: int) -> None:
        """Forget the last VM of this ID, and who was told of its end."""
        state = self.state
        state.seen -= {vm_id}
        if state.destroyed:
            state.destroyed = frozenset(p for p in state.destroyed if p[1] != vm_id)


_REQ2 = int(FFA.MSG_SEND_DIRECT_REQ2)


def _require_partition(given: object) -> None:
    if not isinstance(given, SecurePartition):
        told = f"{given:#x}" if isinstance(given, int) else repr(given)
        raise UsageError(f"{told} is no secure partition: want SecurePartition({told})")
