# SPDX-License-Identifier: GPL-2.0-only
"""OP-TEE's driver in Linux: a client of arm_ffa, and so of the hypervisor.

Its behaviour, as read in drivers/tee/optee/ffa_abi.c of Linux (torvalds/linux at 0439fcff304a, and
the protocol in optee_ffa.h and optee_msg.h beside it); names of functions in the docstrings are
that file's. `ffashim.clients.optee_os` is the other side.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from uuid import UUID

from ffashim.clients.complaint import ClientError
from ffashim.clients.linux import ArmFfa
from ffashim.memory import PAGE

OPTEE = UUID("486178e0-e7f8-11e3-bc5e-0002a5d5c51b")
"""The service that the driver binds to."""
YIELDING = 1 << 31
"""Set in a call that may come back for a remote procedure call."""
SEC_CAP_ARG_OFFSET = 1 << 0
SEC_CAP_ASYNC_NOTIF = 1 << 1
MAX_ASYNC_NOTIF = 64
TEEC_SUCCESS = 0
TEEC_ERROR_BAD_PARAMETERS = 0xFFFF_0006
TEEC_ERROR_BUSY = 0xFFFF_000D
HEADER = struct.Struct("<8I")
"""struct optee_msg_arg: cmd, func, session, cancel_id, pad, ret, ret_origin, num_params."""
PARAM = struct.Struct("<4Q")
"""struct optee_msg_param: attr, and three words that depend on it."""
FMEM = struct.Struct("<QIHHQQ")
"""The same for memory: attr, offset (low, high), internal offset, size, FF-A handle."""
VALUE_INPUT, FMEM_OUTPUT = 1, 6
"""Kinds of parameter."""


class Service(IntEnum):
    """w3 of a direct request."""

    GET_API_VERSION = 0
    GET_OS_VERSION = 1
    EXCHANGE_CAPABILITIES = 2
    UNREGISTER_SHM = 3
    ENABLE_ASYNC_NOTIF = 5
    CALL_WITH_ARG = YIELDING | 0
    RESUME = YIELDING | 1


class Return(IntEnum):
    """w4 of the answer to a call that may yield."""

    DONE = 0
    RPC_CMD = 1
    INTERRUPT = 2


class Rpc(IntEnum):
    """Commands of remote procedure calls that the driver itself serves."""

    SHM_ALLOC = 6
    SHM_FREE = 7


class ShmType(IntEnum):
    """Whose memory a remote procedure call is about."""

    APPL = 0
    KERNEL = 1


@dataclass(frozen=True)
class Shm:
    """Memory that OP-TEE knows of: (address, pages) ranges in the guest, and the FF-A handle."""

    handle: int
    ranges: tuple[tuple[int, int], ...]

    @property
    def address(self) -> int:
        """Where the first range begins."""
        return self.ranges[0][0]


class Optee:
    """The driver, on top of one guest's arm_ffa. `probe()` comes first.

    wait: what it does while OP-TEE has no thread free, before it asks again.

    After `probe()`: os_version (major, minor), capabilities (SEC_CAP_ flags), rpc_params (how many
    a remote procedure call has room for), bottom_half (the number of the notification, None if
    there is none).
    """

    def __init__(self, ffa: ArmFfa, wait: Callable[[], None] = lambda: None) -> None:
        self.ffa = ffa
        self.vm = ffa.vm
        self._wait = wait
        self.partition = 0
        self.os_version = (0, 0)
        self.capabilities = 0
        self.rpc_params = 0
        self.bottom_half: int | None = None
        self.shared: dict[int, Shm] = {}
        """What is shared now, by handle: the driver's own hash table."""

    def _ask(self, service: int, *values: int) -> tuple[int, ...]:
        """One direct request of 32 bits: the driver has asked for that, whatever the guest."""
        return self.ffa.sync_send_receive(self.partition, (service, *values), narrow=True)

    def probe(self) -> Optee:
        """optee_ffa_probe(): versions, capabilities, notifications.

        Raises ClientError if there is no OP-TEE, or none that it can use.
        """
        self.partition = self._find()
        major, minor, *_ = self._ask(Service.GET_API_VERSION)
        if major != 1:
            raise ClientError(f"incompatible OP-TEE API version {major}.{minor}", errno.EINVAL)
        major, minor, *_ = self._ask(Service.GET_OS_VERSION)
        self.os_version = (major, minor)
        status, params, self.capabilities, *_ = self._ask(Service.EXCHANGE_CAPABILITIES)
        if status:
            raise ClientError(f"unexpected exchange error {status:#x}", errno.EINVAL)
        self.rpc_params = params & 0xFF
        if self.capabilities & SEC_CAP_ASYNC_NOTIF and self.ffa.notifications:
            self._set_up_notifications()
        return self

    def _find(self) -> int:
        """By the UUID in a descriptor; a guest of 1.0 asks for it."""
        found = [each.id for each in self.ffa.partitions if each.uuid == OPTEE]
        found = found or self.ffa.matching(OPTEE)
        if not found:
            raise ClientError("no OP-TEE partition", errno.ENODEV)
        return found[0]

    def _set_up_notifications(self) -> None:
        """optee_ffa_async_notif_init(): the first number that nobody else has."""
        for number in range(MAX_ASYNC_NOTIF):
            try:
                self.ffa.notify_request(self.partition, number)
            except ClientError as error:
                if error.errno != errno.EACCES:
                    raise
                continue
            self._ask(Service.ENABLE_ASYNC_NOTIF, number)
            self.bottom_half = number
            return
        raise ClientError("no notification is free", errno.EACCES)

    # --- shared memory --------------------------------------------------------------------------

    def register(self, *ranges: tuple[int, int]) -> Shm:
        """optee_ffa_shm_register(): share (address, pages) ranges: read, write, no tag, no flag."""
        handle = self.ffa.memory_share(self.partition, ranges)
        if handle in self.shared:
            self.ffa.memory_reclaim(handle)
            raise ClientError(f"handle {handle:#x} is there already", errno.EEXIST)
        shm = self.shared[handle] = Shm(handle, ranges)
        return shm

    def allocate(self, size: int) -> Shm:
        """pool_ffa_op_alloc(): pages of the kernel's own, shared."""
        pages = -(-size // PAGE)
        return self.register((self.vm.memory.allocate(pages), pages))

    def unregister(self, shm: Shm) -> None:
        """optee_ffa_shm_unregister(): OP-TEE forgets it, then the memory is reclaimed.

        Linux would reclaim it even if OP-TEE did not; here the first refusal is told.
        """
        self.shared.pop(shm.handle)
        status, *_ = self._ask(Service.UNREGISTER_SHM, shm.handle & 0xFFFF_FFFF, shm.handle >> 32)
        self.ffa.memory_reclaim(shm.handle)
        if status:
            raise ClientError(f"unregister SHM id {shm.handle:#x}: {status:#x}", errno.EIO)

    def release(self, shm: Shm) -> None:
        """optee_ffa_shm_unregister_supp(): for memory that OP-TEE itself has given up."""
        self.shared.pop(shm.handle)
        self.ffa.memory_reclaim(shm.handle)

    # --- calls ----------------------------------------------------------------------------------

    def call(self, command: int, *values: int, shm: Shm | None = None) -> int:
        """optee_ffa_do_call_with_arg(): a message in shared memory. Returns what OP-TEE put in ret.

        values: its parameters. shm: where the message goes; a page of its own if None.
        """
        own = shm is None
        shm = shm or self.allocate(PAGE)
        params = b"".join(PARAM.pack(VALUE_INPUT, value, 0, 0) for value in values)
        message = HEADER.pack(command, 0, 0, 0, 0, 0, 0, len(values)) + params
        self.vm.memory.write(shm.address, message)
        try:
            self._yielding_call(shm, len(message))
        finally:
            result = HEADER.unpack(self.vm.memory.read(shm.address, HEADER.size))[5]
            if own:
                self.unregister(shm)
        return int(result)

    def _yielding_call(self, shm: Shm, rpc_offset: int) -> None:
        """optee_ffa_yielding_call(): until it is done, serving what OP-TEE asks for meanwhile."""
        first = (Service.CALL_WITH_ARG, shm.handle & 0xFFFF_FFFF, shm.handle >> 32, 0, 0)
        request: tuple[int, ...] = first
        while True:
            status, kind, _, _, resume = self._ask(*request)
            if status == TEEC_ERROR_BUSY and request == first:
                self._wait()
                continue
            if status != TEEC_SUCCESS:
                raise ClientError(f"OP-TEE answers {status:#x}", errno.EIO)
            if kind == Return.DONE:
                return
            if kind == Return.RPC_CMD:
                self._serve(shm.address + rpc_offset)
            request = (Service.RESUME, 0, 0, 0, resume)

    def _serve(self, address: int) -> None:
        """handle_ffa_rpc_func_cmd(): memory for OP-TEE, or memory of OP-TEE's back."""
        memory = self.vm.memory
        head = list(HEADER.unpack(memory.read(address, HEADER.size)))
        attr, kind, value, _ = PARAM.unpack(memory.read(address + HEADER.size, PARAM.size))
        head[5] = TEEC_SUCCESS
        if head[7] != 1 or attr != VALUE_INPUT:
            head[5] = TEEC_ERROR_BAD_PARAMETERS
        elif head[0] == Rpc.SHM_ALLOC:
            shm = self.allocate(value)
            size = sum(pages for _, pages in shm.ranges) * PAGE
            param = FMEM.pack(FMEM_OUTPUT, 0, 0, 0, size, shm.handle)
            memory.write(address + HEADER.size, param)
        elif head[0] == Rpc.SHM_FREE and value in self.shared:
            give_up = self.unregister if kind == ShmType.KERNEL else self.release
            give_up(self.shared[value])
        else:
            head[5] = TEEC_ERROR_BAD_PARAMETERS
        memory.write(address, HEADER.pack(*head))
