# SPDX-License-Identifier: GPL-2.0-only
"""What the C half of the machine tells of faults, locks and alarms, with Xen's files and lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ffashim import faults
from ffashim.alarms import FROM_C, Alarm
from ffashim.faults import Lock, Report, XenFault
from ffashim.ffa import fid_name
from ffashim.loader import Extension
from ffashim.symbols import Place, of_xen, shorten, symbols

_JOBS = (
    "boot",
    "a call",
    "a call",
    "a call",
    "domain_create()",
    "domain_kill()",
    "an interrupt",
    "a timer",
    "what was deferred",
)
"""What a CPU is told to do, by enum ffashim_job_kind of stubs/."""


_FAULTS: tuple[type[XenFault], ...] = (
    XenFault,
    faults.XenAssertion,
    faults.XenBug,
    faults.XenPanic,
    faults.XenDeadlock,
    faults.XenUnlock,
    faults.XenHeld,
    faults.XenAccess,
    faults.XenHang,
    faults.XenMemory,
    faults.XenUnmodelled,
    faults.XenUndefined,
    faults.XenDoubleFetch,
    faults.XenFault,
)
"""How a call ends, by enum ffashim_fault of stubs/."""


def call_name(call: int) -> str:
    """Return what a CPU was doing, by the machine's number for it: mostly a guest's call."""
    return _JOBS[call] if call < len(_JOBS) else fid_name(call)


class Told:
    """What a machine's extension tells: ``raw`` values are structures of stubs/host/ffashim.h."""

    def __init__(self, ffi: Any, lib: Any, extension: Extension) -> None:
        self._ffi = ffi
        self._lib = lib
        self._extension = extension
        self._cpus: int = lib.FFASHIM_CPUS

    def fault(self, raw: Any) -> tuple[type[XenFault], Report]:
        """Return what has ended a call: an ``ffashim_report``."""
        places = self.places([raw.frame[n] for n in range(raw.frames)])
        file = self._ffi.string(raw.file).decode(errors="replace")
        where = f"{shorten(file)}:{raw.line}" if file else ""
        if not where and places:
            where = next((p.where for p in places if p.file.startswith("xen/")), places[0].where)
        text = self._ffi.string(raw.text).decode(errors="replace").strip()
        if text == "BUG":  # Xen's macro is given no condition
            text = f"BUG() or BUG_ON() in {places[0].function}()" if places else "BUG() or BUG_ON()"
        return _FAULTS[raw.kind], Report(
            text,
            where=where,
            backtrace=tuple(map(str, places)),
            memory=self._sites(raw),
            locks=self.locks(),
            waits=self.all_waits(),
        )

    def _sites(self, raw: Any) -> tuple[str, ...]:
        """Return who has allocated and freed the memory that a report is about."""
        allocated = self.site(raw.allocated_by, raw.allocated_outer)
        sites = (("allocated", allocated), ("freed", self.site(raw.freed_by)))
        return tuple(f"{what} by {place}" for what, place in sites if place)

    def site(self, caller: int, outer: int = 0) -> Place | None:
        """Return where the machine was called from, past an inline function of a header's."""
        table = symbols(self._extension.path)
        places = [table.place(offset) for offset in (caller, outer) if offset]
        return next((each for each in places if not each.file.endswith(".h")), None) or (
            places[0] if places else None
        )

    def places(self, offsets: Sequence[int]) -> list[Place]:
        """Return the functions of Xen's, innermost first, that a walk of the stack has met."""
        table = symbols(self._extension.path)
        places = [table.place(offset) for offset in offsets]
        # How the machine came to enter and to leave Xen is nobody's concern.
        outside = ("stubs/host/", "stubs/xen/entry.c")
        return [place for place in places if not place.file.startswith(outside)]

    def lock(self, cpu: int, raw: Any) -> Lock:
        """Return a lock that a CPU holds or waits for: an ``ffashim_lock``."""
        ffi = self._ffi
        if raw.file:
            where = f"{shorten(ffi.string(raw.file).decode())}:{raw.line}"
        else:
            where = symbols(self._extension.path).place(raw.caller).where
        name = ffi.string(raw.name).decode() if raw.name else f"{raw.lock:#x}"
        return Lock(name, ("spin", "read", "write")[raw.mode], where, cpu)

    def locks(self) -> tuple[Lock, ...]:
        """Return the locks that are held, CPU by CPU."""
        raw = self._ffi.new("ffashim_lock[]", 32)
        return tuple(
            self.lock(cpu, raw[n])
            for cpu in range(self._cpus)
            for n in range(self._lib.ffashim_locks(cpu, raw, 32))
        )

    def waits(self, cpu: int) -> tuple[Lock | None, int]:
        """Return the lock that a CPU waits for, None if it does not, and the CPU that holds it."""
        raw, holder = self._ffi.new("ffashim_lock *"), self._ffi.new("uint32_t *")
        if not self._lib.ffashim_waits(cpu, raw, holder):
            return None, self._cpus
        return self.lock(cpu, raw), int(holder[0])

    def all_waits(self) -> tuple[Lock, ...]:
        """Return the locks that are waited for, CPU by CPU."""
        return tuple(lock for cpu in range(self._cpus) if (lock := self.waits(cpu)[0]))

    def alarm(self, raw: Any) -> Alarm:
        """Return an ``ffashim_alarm`` with the ways that led there."""
        text = self._ffi.string(raw.text).decode(errors="replace")
        ways = tuple(self._way(raw.taken[n]) for n in range(raw.taken_nr))
        return Alarm(FROM_C[raw.kind], text, ways)

    def _way(self, taken: Any) -> str:
        """Tell where a lock was taken, alone or inside of another, and how one came there."""
        told = ""
        if taken.inner.lock:
            inner = self.lock(0, taken.inner)
            told = f": {inner.name} ({inner.mode}) is taken at {inner.where}"
        if taken.outer.lock:
            outer = self.lock(0, taken.outer)
            told += f", inside of {outer.name} ({outer.mode}), taken at {outer.where}"
        frames = of_xen(self.places([taken.frame[n] for n in range(taken.frames)]))
        steps = [f"  {place}" for place in frames]
        return "\n".join([f"{call_name(taken.call)}{told}", *steps])
