# SPDX-License-Identifier: GPL-2.0-only
"""Messages: direct requests, framework messages, FFA_RUN, FFA_MSG_SEND2."""

from __future__ import annotations

from uuid import UUID

from ffashim.descriptors import DescriptorError, IndirectMessage
from ffashim.errors import UsageError
from ffashim.ffa import (
    FFA,
    HYPERVISOR_ID,
    ID_SECURE,
    MSG_FLAG_FRAMEWORK,
    MSG_TYPE_MASK,
    NREGS,
    V1_0,
    V1_1,
    V1_2,
    FfaError,
    FrameworkMessage,
    PartitionProperty,
    Version,
)
from ffashim.spmc.partitions import DirectHandler, DirectRequest, SecurePartition
from ffashim.spmc.replies import OK, Regs, error, paused, registers, waiting
from ffashim.spmc.state import Delivered, Running
from ffashim.spmc.topic import Abis, Topic

_REQ_32, _REQ2 = int(FFA.MSG_SEND_DIRECT_REQ_32), int(FFA.MSG_SEND_DIRECT_REQ2)
_RESP_32 = int(FFA.MSG_SEND_DIRECT_RESP_32)
RESPONSES = {
    _REQ_32: _RESP_32,
    int(FFA.MSG_SEND_DIRECT_REQ_64): int(FFA.MSG_SEND_DIRECT_RESP_64),
    _REQ2: int(FFA.MSG_SEND_DIRECT_RESP2),
}
"""Direct requests and their responses."""
_CREATED, _DESTROYED = FrameworkMessage.VM_CREATED, FrameworkMessage.VM_DESTROYED
_SUSPENDED = frozenset(map(int, (FFA.INTERRUPT, FFA.MSG_YIELD)))
_INVALID = error(FfaError.INVALID_PARAMETERS)
_DENIED = error(FfaError.DENIED)
_BUSY = error(FfaError.BUSY)
_NIL = UUID(int=0)


def is_framework(x: Regs) -> bool:
    """Whether a direct request is a framework message; FFA_MSG_SEND_DIRECT_REQ2 has none."""
    return bool(x[2] & MSG_FLAG_FRAMEWORK) and x[0] & 0xFFFFFFFF != _REQ2


def framework_response(x: Regs, status: int = 0) -> Regs:
    """The response to a framework message, with a status in w3 (18.3)."""
    swapped = (x[1] & 0xFFFF) << 16 | x[1] >> 16 & 0xFFFF
    kind = MSG_FLAG_FRAMEWORK | (x[2] & MSG_TYPE_MASK) + 1
    return registers(_RESP_32, swapped, kind, status & 0xFFFFFFFF)


class MessageAbis(Topic):
    """What VMs and the hypervisor say to secure partitions (chapters 7, 14, 15, 18)."""

    def abis(self) -> Abis:
        """The ABIs of this topic."""
        return {
            FFA.MSG_SEND_DIRECT_REQ_32: (V1_0, self.direct_request),
            FFA.MSG_SEND_DIRECT_REQ_64: (V1_0, self.direct_request),
            FFA.MSG_SEND_DIRECT_REQ2: (V1_2, self.direct_request),
            FFA.RUN: (V1_0, self.run),
            FFA.MSG_SEND2: (V1_1, self.msg_send2),
        }

    @property
    def delivered(self) -> tuple[Delivered, ...]:
        """Indirect messages that reached secure partitions, oldest first."""
        return self.state.delivered

    def handle(self, sp_id: int, handler: DirectHandler) -> None:
        """From now on, until a restore, this SP answers direct requests so."""
        if sp_id not in self.state.by_id:
            raise UsageError(f"there is no secure partition {sp_id:#06x} in this SPMC")
        self.state.handlers[sp_id] = handler

    def direct_request(self, x: Regs) -> Regs:
        """FFA_MSG_SEND_DIRECT_REQ and REQ2 (15.2, 15.4)."""
        spmc = self.spmc
        sender, receiver = x[1] >> 16 & 0xFFFF, x[1] & 0xFFFF
        if is_framework(x):
            return self._framework(x, sender, receiver)
        if sender == HYPERVISOR_ID or sender & ID_SECURE:
            spmc.violation("vm-id", f"direct request of ID {sender:#06x}, which is no VM's (15.2)")
            return _INVALID
        wide = x[0] & 0xFFFFFFFF == _REQ2
        if not wide and x[2] & 0xFFFFFFFF:
            spmc.note("mbz", "a partition message has no flags in w2 (15.2)")
        partition = self.state.by_id.get(receiver)
        if partition is None:
            return _INVALID
        wanted = PartitionProperty.DIRECT_REQ2_RECV if wide else PartitionProperty.DIRECT_REQ_RECV
        if not partition.has(wanted):
            return _DENIED
        context = self._context(partition)
        if context in self.state.running:
            return _BUSY
        return self._run_handler(x, partition, context)

    def _context(self, partition: SecurePartition) -> tuple[int, int]:
        """An SP, and which of its vCPUs a message meets: one with several has one for each CPU,
        which does not leave it (4.6).
        """
        return partition.id, self.spmc.cpu % max(1, partition.exec_contexts)

    def _run_handler(self, x: Regs, partition: SecurePartition, context: tuple[int, int]) -> Regs:
        """Give a request to the SP, and make registers of its answer."""
        fid, sender = x[0] & 0xFFFFFFFF, x[1] >> 16 & 0xFFFF
        uuid, wide = _NIL, fid == _REQ2
        if wide:
            uuid = UUID(bytes=x[2].to_bytes(8, "little") + x[3].to_bytes(8, "little"))
            if uuid != _NIL and uuid not in partition.uuids:
                return _INVALID
        mask = 0xFFFFFFFF if fid == _REQ_32 else (1 << 64) - 1
        payload = x[4:] if wide else tuple(v & mask for v in x[3:8])
        handler = self.state.handlers.get(partition.id, partition.on_direct)
        values = handler(DirectRequest(fid, sender, partition.id, payload, uuid, x))
        if len(values) == NREGS:
            answer = registers(*values)
            if answer[0] in _SUSPENDED:
                self.state.running[context] = Running(x)
            return answer
        if len(values) > len(payload):
            raise UsageError(
                f"SP {partition.id:#06x} answered with {len(values)} values: a response takes up to"
                f" {len(payload)}, or all of x0 to x17"
            )
        head = (RESPONSES[fid], partition.id << 16 | sender, 0)
        return registers(*head, *(0,) * wide, *(int(v) & mask for v in values))

    def _framework(self, x: Regs, sender: int, receiver: int) -> Regs:
        """VM created and VM destroyed (18.3 in 1.2)."""
        spmc, state = self.spmc, self.state
        kind, vm_id = x[2] & MSG_TYPE_MASK, x[5] & 0xFFFF
        if sender != HYPERVISOR_ID:
            spmc.violation(
                "framework-from-vm",
                f"a framework message in the name of endpoint {sender:#06x} (18.3)",
            )
            return _INVALID
        if x[0] & 0xFFFFFFFF != _REQ_32 or x[2] & 0x7FFFFF00 or kind not in (_CREATED, _DESTROYED):
            spmc.violation("framework", "no framework message of a hypervisor (18.3)")
            return _INVALID
        if not vm_id or vm_id & ID_SECURE or x[5] & 0xFFFF0000:
            spmc.violation("vm-id", f"w5 = {x[5]:#x} is no VM's ID (18.3)")
            return _INVALID
        partition = state.by_id.get(receiver)
        if partition is None:
            spmc.bookkeeping("framework", f"there is no SP {receiver:#06x} (18.3)")
            return _INVALID
        if self._context(partition) in state.running:
            return _BUSY  # a direct message like others: it does not wait for one
        return self._told(x, partition)

    def _told(self, x: Regs, partition: SecurePartition) -> Regs:
        """The SP learns that a VM has come or gone."""
        spmc, state = self.spmc, self.state
        kind, receiver, vm_id = x[2] & MSG_TYPE_MASK, partition.id, x[5] & 0xFFFF
        pair = receiver, vm_id
        # Xen counts an SP once for each of its descriptors, one a UUID: known, and only noted.
        twice = spmc.bookkeeping if len(partition.uuids) == 1 else spmc.note
        if kind == _CREATED:
            if not partition.has(PartitionProperty.NOTIF_CREATED):
                spmc.violation("subscription", f"SP {receiver:#06x} asked for no VM created")
            elif pair in state.created:
                twice("vm-twice", f"SP {receiver:#06x} knows of VM {vm_id} (18.3)")
            spmc.saw(vm_id)
            state.created |= {pair}
        else:
            if not partition.has(PartitionProperty.NOTIF_DESTROYED):
                spmc.violation("subscription", f"SP {receiver:#06x} asked for no VM destroyed")
            elif pair in state.destroyed:
                twice("vm-twice", f"SP {receiver:#06x} knows VM {vm_id} is gone")
            elif partition.has(PartitionProperty.NOTIF_CREATED) and pair not in state.created:
                spmc.bookkeeping("vm-unknown", f"SP {receiver:#06x} never knew of VM {vm_id}")
            state.created -= {pair}
            state.destroyed |= {pair}
        return framework_response(x)

    def overhear(self, x: Regs, answer: Regs) -> None:
        """A script has answered this: a VM that a partition is told of is a new one even so, and
        the partition knows of it unless it has refused.
        """
        if x[0] & 0xFFFFFFFF != _REQ_32 or x[2] & 0xFFFFFFFF != MSG_FLAG_FRAMEWORK | _CREATED:
            return
        if answer == framework_response(x):
            self._framework(x, x[1] >> 16 & 0xFFFF, x[1] & 0xFFFF)
        else:
            self.spmc.is_another(x[5] & 0xFFFF)

    def preempt(self, x: Regs, times: int, pause: FFA = FFA.INTERRUPT) -> Regs:
        """A direct request whose SP is preempted `times` times before it is done, or yields."""
        partition = self.state.by_id.get(x[1] & 0xFFFF)
        context = self._context(partition) if partition else None
        if context is None or context in self.state.running:
            return self.direct_request(x)
        self.state.running[context] = Running(x, times - 1, pause)
        return paused(pause, *context)

    def run(self, x: Regs) -> Regs:
        """FFA_RUN (chapter 14): w1 is the SP and its vCPU. An idle SP answers FFA_MSG_WAIT."""
        sp_id, vcpu = x[1] >> 16 & 0xFFFF, x[1] & 0xFFFF
        partition = self.state.by_id.get(sp_id)
        if partition is None or vcpu >= partition.exec_contexts:
            return _INVALID
        context = sp_id, vcpu
        running = self.state.running.get(context)
        if running is None:
            return waiting()
        if running.pauses:
            self.state.running[context] = running._replace(pauses=running.pauses - 1)
            return paused(running.pause, *context)
        del self.state.running[context]
        if is_framework(running.request):
            return self._told(running.request, partition)
        return self._run_handler(running.request, partition, context)

    def msg_send2(self, x: Regs) -> Regs:
        """FFA_MSG_SEND2 (15.1): w1[31:16] is the VM whose TX buffer holds the message."""
        spmc, state = self.spmc, self.state
        vm_id = x[1] >> 16 & 0xFFFF
        if not vm_id or vm_id & ID_SECURE:
            spmc.violation("vm-id", f"MSG_SEND2 of ID {vm_id:#06x}, which is no VM's (15.1)")
            return _INVALID
        if x[1] & 0xFFFF:
            spmc.note("sbz", "MSG_SEND2: bits 15:0 of w1 (15.1)")
        buffers = state.buffers.get(vm_id)
        if buffers is None:
            spmc.bookkeeping("tx", f"MSG_SEND2: VM {vm_id} has no TX buffer here (15.1)")
            return _DENIED
        data = b"".join(spmc.host.read(r.base, r.pages << 12) for r in buffers.tx)
        message = self.read_message(data, spmc.negotiated)
        if message is None or message.sender != vm_id or message.flags:
            return _INVALID
        partition = state.by_id.get(message.receiver)
        if partition is None:
            return _INVALID
        if not partition.has(PartitionProperty.INDIRECT_MSGS):
            return _DENIED
        if message.uuid != _NIL and message.uuid not in partition.uuids:
            return _INVALID
        arrived = Delivered(vm_id, message.receiver, message.payload, message.uuid)
        state.delivered = (*state.delivered, arrived)
        return OK

    @staticmethod
    def read_message(data: bytes, version: Version) -> IndirectMessage | None:
        """The message in a TX buffer, or None if its header makes no sense.

        The buffer is a VM's, whose version may be lower than the SPMC's: a payload that begins
        before the 1.2 header ends means that the header is that of 1.1.
        """
        try:
            message = IndirectMessage.decode(data, V1_1)
            start = message.offset or 0
            if version >= V1_2 and start >= 40:
                message = IndirectMessage.decode(data, V1_2)
        except DescriptorError:
            return None
        return message if start >= 20 and message.payload else None

    def send(self, sp_id: int, vm_id: int, payload: bytes, uuid: UUID = _NIL) -> FfaError | None:
        """An SP sends an indirect message to a VM: None, or why it could not.

        Fills the VM's RX buffer, makes the notification "RX buffer full" pending and raises the
        schedule receiver interrupt (chapter 9, 15.1).
        """
        spmc, state = self.spmc, self.state
        buffers = state.buffers.get(vm_id)
        if buffers is None or sp_id not in state.by_id:
            return FfaError.INVALID_PARAMETERS
        if buffers.held:
            return FfaError.BUSY
        data = IndirectMessage(sp_id, vm_id, payload, uuid).encode(min(spmc.negotiated, V1_2))
        if len(data) > buffers.rx[0].pages << 12:
            return FfaError.NO_MEMORY
        spmc.host.write(buffers.rx[0].base, data)
        state.buffers[vm_id] = buffers._replace(held=True)
        spmc.notifications.rx_full(vm_id)
        return None

    def residue(self, vm_id: int) -> list[str]:
        """SPs that were not told of a VM's end, or still work for it."""
        state = self.state
        left = [
            f"SP {sp:#06x} still runs a direct request of VM {vm_id}"
            for (sp, _), running in state.running.items()
            if running.request[1] >> 16 & 0xFFFF == vm_id
        ]
        left += [
            f"SP {sp:#06x} still works on what it was told of VM {vm_id}"
            for (sp, _), running in state.running.items()
            if is_framework(running.request) and running.request[5] & 0xFFFF == vm_id
        ]
        for partition in state.partitions:
            pair = partition.id, vm_id
            if not partition.has(PartitionProperty.NOTIF_DESTROYED) or pair in state.destroyed:
                continue
            wants_both = partition.has(PartitionProperty.NOTIF_CREATED)
            if pair in state.created if wants_both else vm_id in state.seen:
                left.append(f"SP {partition.id:#06x} was not told that VM {vm_id} is destroyed")
        return left
