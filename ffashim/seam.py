# SPDX-License-Identifier: GPL-2.0-only
"""The seam between a machine and its extension, which is opened once, whatever runs on it later."""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ffashim.errors import FfashimError, UsageError
from ffashim.memory import spread

if TYPE_CHECKING:
    from ffashim.machine import Machine


class Core:
    """What belongs to a loaded extension, whichever machine runs on it."""

    owner: Machine | None = None
    cold: Any = None
    caller: Any = None
    """ffashim_caller(), see stubs/host/python.c."""


_cores: dict[Any, Core] = {}


def core_of(module: ModuleType, sanitize: Sequence[str]) -> Core:
    """Open the extension once: memory, CPUs, signal handlers, callbacks."""
    ffi, lib = module.ffi, module.lib
    if found := _cores.get(lib):
        return found
    core = Core()
    core.caller = ctypes.PyDLL(module.__file__).ffashim_caller
    core.caller.argtypes, core.caller.restype = [ctypes.py_object], ctypes.py_object
    _callbacks(ffi, core)
    lib.ffashim_connect()
    if code := lib.ffashim_open():
        hint = "; see `ulimit -v` and vm.overcommit_memory: --sanitize=address reserves 32 TiB"
        raise FfashimError(
            f"the machine's memory cannot be set up: {errno.errorcode.get(code)}"
            + (hint if "address" in sanitize else "")
        )
    cold = ffi.new("void **")
    if lib.ffashim_snapshot(cold):
        raise FfashimError("there is no memory left for the machine")
    core.cold = cold[0]
    _cores[lib] = core
    return core


def _callbacks(ffi: Any, core: Core) -> None:
    """Give the extension its way into Python. What is raised there is raised again by the call."""

    def keep(kind: type[BaseException], error: BaseException, traceback: object) -> None:
        if core.owner is not None:
            core.owner._script_error = error

    @ffi.def_extern(name="ffashim_python_smc", error=-1, onerror=keep)  # type: ignore[untyped-decorator]
    def smc(cpu: int, regs: Any) -> int:
        assert core.owner is not None
        core.owner._smc_from_xen(cpu, regs)
        return 0

    @ffi.def_extern(name="ffashim_python_point", error=-1, onerror=keep)  # type: ignore[untyped-decorator]
    def point(cpu: int, kind: int, address: int) -> int:
        assert core.owner is not None
        return core.owner._reached(cpu, kind, address)


class Host:
    """The machine as the secure world sees it."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def read(self, pa: int, size: int) -> bytes:
        """See `SecureHost`."""
        return b"".join(bytes(part) for part in self._parts(pa, size))

    def write(self, pa: int, data: bytes) -> None:
        """See `SecureHost`."""
        spread(self._parts(pa, len(data)), data)

    def raise_irq(self, intid: int, cpu: int = 0) -> None:
        """See `SecureHost`."""
        self._machine.raise_irq(intid, cpu)

    def _parts(self, pa: int, size: int) -> Iterator[memoryview]:
        machine = self._machine
        while size > 0:
            page = machine.lib.ffashim_ram_page(pa)
            if page == machine.ffi.NULL:
                raise UsageError(f"there is no RAM at physical address {pa:#x}")
            offset = pa % 4096
            length = min(4096 - offset, size)
            yield memoryview(machine.ffi.buffer(page, 4096))[offset : offset + length]
            pa += length
            size -= length
