# SPDX-License-Identifier: GPL-2.0-only
"""OP-TEE OS, as far as its driver can see it: a secure partition that yields.

The protocol is that of optee_ffa.h in Linux, which both sides share; see `ffashim.clients.optee`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from ffashim.clients.optee import (
    FMEM,
    HEADER,
    OPTEE,
    PARAM,
    SEC_CAP_ARG_OFFSET,
    SEC_CAP_ASYNC_NOTIF,
    TEEC_ERROR_BAD_PARAMETERS,
    TEEC_ERROR_BUSY,
    TEEC_SUCCESS,
    VALUE_INPUT,
    Return,
    Rpc,
    Service,
    ShmType,
)
from ffashim.ffa import PartitionProperty
from ffashim.spmc import DirectRequest, SecurePartition, Spmc
from ffashim.spmc.state import Share

Work = Generator["Ask | None", int, int]
"""What a trusted application does: asks the normal world, or lets it have the CPU (None); is sent
what it asked for; returns its result.
"""


@dataclass(frozen=True)
class Ask:
    """A remote procedure call about memory: a size to allocate, or a handle to free."""

    command: Rpc
    value: int
    kind: ShmType = ShmType.KERNEL


@dataclass
class _Thread:
    work: Work
    handle: int
    rpc_offset: int
    asked: Ask | None = None


def echo(_os: OpteeOs, values: Sequence[int]) -> Work:
    """Return the first parameter."""
    yield from ()
    return values[0]


class OpteeOs:
    """OP-TEE as a secure partition of an SPMC.

    app: what it does with a call. threads: how many calls may be unfinished at a time.
    """

    ID = 0x8001

    def __init__(
        self,
        app: Callable[[OpteeOs, Sequence[int]], Work] = echo,
        *,
        threads: int = 2,
        partition: int = ID,
    ) -> None:
        self._app = app
        self._room = threads
        self._spmc: Spmc | None = None
        self._threads: dict[int, _Thread] = {}
        self.mapped: set[int] = set()
        """Handles of the memory that it has retrieved."""
        self.bottom_half: dict[int, int] = {}
        """The notification that each guest wants."""
        properties = (
            PartitionProperty.DIRECT_REQ_RECV
            | PartitionProperty.RECV_NOTIF
            | PartitionProperty.NOTIF_CREATED
            | PartitionProperty.NOTIF_DESTROYED
            | PartitionProperty.AARCH64_STATE
        )
        self.partition = SecurePartition(
            partition, [OPTEE], properties, exec_contexts=4, on_direct=self._answer
        )

    def attach(self, spmc: Spmc) -> None:
        """Say which SPMC it runs on: it maps memory and sets notifications there."""
        self._spmc = spmc

    @property
    def _world(self) -> Spmc:
        assert self._spmc is not None, "attach() comes first"
        return self._spmc

    def notify(self, guest: int) -> None:
        """Tell a guest that there is work for its bottom half."""
        bits = 1 << self.bottom_half[guest]
        self._world.notifications.notify(self.partition.id, guest, bits)

    # --- direct requests ------------------------------------------------------------------------

    def _answer(self, request: DirectRequest) -> Sequence[int]:
        service, *values = request.payload
        if service == Service.GET_API_VERSION:
            return 1, 0
        if service == Service.GET_OS_VERSION:
            return 4, 8
        if service == Service.EXCHANGE_CAPABILITIES:
            return TEEC_SUCCESS, 4, SEC_CAP_ARG_OFFSET | SEC_CAP_ASYNC_NOTIF
        if service == Service.ENABLE_ASYNC_NOTIF:
            self.bottom_half[request.sender] = values[0]
            return (TEEC_SUCCESS,)
        if service == Service.UNREGISTER_SHM:
            return (self._unregister(values[0] | values[1] << 32),)
        if service == Service.CALL_WITH_ARG:
            return self._call(request.sender, values[0] | values[1] << 32, values[2])
        if service == Service.RESUME:
            return self._resume(values[3])
        return (TEEC_ERROR_BAD_PARAMETERS,)

    def _share(self, handle: int) -> Share | None:
        """The share with this handle, mapped from now on, if it is with this partition."""
        share = self._world.memory.shares.get(handle)
        if share is None or self.partition.id not in (each[0] for each in share.borrowers):
            return None
        if handle not in self.mapped:
            share = self._world.memory.retrieve(self.partition.id, handle)
            self.mapped.add(handle)
        return share

    def _unregister(self, handle: int) -> int:
        """Give up memory. What was never used was never mapped, and is no error."""
        if any(thread.handle == handle for thread in self._threads.values()):
            return TEEC_ERROR_BUSY
        if handle in self.mapped:
            self.mapped.discard(handle)
            self._world.memory.relinquish(self.partition.id, handle)
        return TEEC_SUCCESS

    def _call(self, sender: int, handle: int, offset: int) -> Sequence[int]:
        if len(self._threads) == self._room:
            return (TEEC_ERROR_BUSY,)
        share = self._share(handle)
        if share is None or share.sender != sender:
            return (TEEC_ERROR_BAD_PARAMETERS,)
        count = HEADER.unpack(self.read(handle, offset, HEADER.size))[7]
        at = offset + HEADER.size
        values = [
            PARAM.unpack(self.read(handle, at + n * PARAM.size, PARAM.size))[1]
            for n in range(count)
        ]
        number = next(n for n in range(self._room) if n not in self._threads)
        thread = _Thread(self._app(self, values), handle, at + count * PARAM.size)
        self._threads[number] = thread
        return self._run(number, offset, first=True)

    def _resume(self, number: int) -> Sequence[int]:
        if number not in self._threads:
            return (TEEC_ERROR_BAD_PARAMETERS,)
        return self._run(number, 0, first=False)

    def _run(self, number: int, offset: int, *, first: bool) -> Sequence[int]:
        """Let the application go on until it wants something, or is done."""
        thread = self._threads[number]
        try:
            asked = next(thread.work) if first else thread.work.send(self._result(thread))
        except StopIteration as done:
            del self._threads[number]
            self.write(thread.handle, offset + 20, int(done.value).to_bytes(4, "little"))
            return TEEC_SUCCESS, Return.DONE
        thread.asked = asked
        if asked is None:
            return TEEC_SUCCESS, Return.INTERRUPT, 0, 0, number
        head = HEADER.pack(asked.command, 0, 0, 0, 0, 0xFFFF_FFFF, 0, 1)
        param = PARAM.pack(VALUE_INPUT, asked.kind, asked.value, 0)
        self.write(thread.handle, thread.rpc_offset, head + param)
        if asked.command == Rpc.SHM_FREE and asked.kind == ShmType.APPL:
            self._unregister(asked.value)  # it is retired before the driver hears of it
        return TEEC_SUCCESS, Return.RPC_CMD, 0, 0, number

    def _result(self, thread: _Thread) -> int:
        """What the driver made of the last remote procedure call: a handle, or its status."""
        if thread.asked is None:
            return 0
        status = HEADER.unpack(self.read(thread.handle, thread.rpc_offset, HEADER.size))[5]
        if status == TEEC_SUCCESS and thread.asked.command == Rpc.SHM_ALLOC:
            where = thread.rpc_offset + HEADER.size
            return int(FMEM.unpack(self.read(thread.handle, where, FMEM.size))[5])
        return int(status)

    # --- shared memory --------------------------------------------------------------------------

    def read(self, handle: int, offset: int, size: int) -> bytes:
        """Read memory that is shared with it; it maps what it reads."""
        assert self._share(handle) is not None
        return self._world.memory.read(handle)[offset : offset + size]

    def write(self, handle: int, offset: int, data: bytes) -> None:
        """Write to it, within one range."""
        share = self._share(handle)
        assert share is not None
        for each in share.ranges:
            if offset < each.pages << 12:
                self._world.host.write(each.base + offset, data)
                return
            offset -= each.pages << 12
