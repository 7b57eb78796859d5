# SPDX-License-Identifier: GPL-2.0-only
"""What a register may hold after a call: exact values, or anything where FF-A leaves it open."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ffashim.ffa import FFA, NREGS, FfaError, fid_name

ALL = (1 << 64) - 1
LOW = 0xFFFF_FFFF
UNKNOWN = frozenset({LOW, ALL})
"""SMCCC's NOT_SUPPORTED in x0, -1 in 32 or in 64 bits (SMCCC 1.2, 5.1)."""


@dataclass(frozen=True)
class Allowed:
    """What one register may hold.

    values: any of these, in the bits of ``mask``; None is anything at all.
    name: what the register stands for in this answer. note: how to say it, where numbers do not.
    """

    values: frozenset[int] | None
    name: str = ""
    mask: int = ALL
    note: str = ""

    def __contains__(self, value: int) -> bool:
        """Whether a register may hold this."""
        return self.values is None or value & self.mask in self.values

    def __str__(self) -> str:
        """Such as "BUSY or DENIED"."""
        if self.note:
            return self.note
        if self.values is None:
            return "anything"
        each = sorted(self.values)
        shown = " or ".join(spelled(self.name, value) for value in each[:4])
        if len(each) > 4:
            shown += f" or {len(each) - 4} more"
        return shown if self.mask == ALL else f"{shown} in the bits {self.mask:#x}"


FUNCTION, STATUS = "function", "status"
"""Names of registers whose values have names themselves."""


def spelled(name: str, value: int) -> str:
    """Return a register's value as people write it."""
    if name == FUNCTION:
        return "unknown function (-1)" if value in UNKNOWN else fid_name(value)
    if name == STATUS and value >> 31 == 1:
        try:
            return FfaError(value - (1 << 32)).name
        except ValueError:
            pass
    return f"{value:#x}"


@functools.lru_cache(1024)
def exactly(value: int, name: str = "") -> Allowed:
    """Allow this value alone."""
    return Allowed(frozenset({value}), name)


def either(values: Iterable[int], name: str = "", note: str = "") -> Allowed:
    """Allow any of these values."""
    return Allowed(frozenset(values), name, note=note)


ZERO = exactly(0)
ANYTHING = Allowed(None)


@dataclass(frozen=True)
class Call:
    """A guest's call: which guest it was, and x0 to x17 as it left them.

    caller: its endpoint ID. tx: what is in its TX buffer, empty where it has none.
    scarce: the hypervisor has no memory left for what the call may need.
    """

    caller: int
    registers: tuple[int, ...]
    tx: bytes = field(default=b"", repr=False)
    scarce: bool = False

    @classmethod
    def of(cls, caller: int, *registers: int) -> Call:
        """From x0 on; what is not given is zero."""
        return cls(caller, (*map(int, registers), *(0,) * (NREGS - len(registers))))

    @property
    def fid(self) -> int:
        """The function ID is w0; the upper half of x0 does not count (SMCCC 1.2, 2.5)."""
        return self.registers[0] & LOW

    @property
    def wide(self) -> bool:
        """Whether it is a call of the 64-bit convention (SMCCC 1.2, 2.5)."""
        return bool(self.fid >> 30 & 1)

    def w(self, n: int) -> int:
        """Return the lower half of a register."""
        return self.registers[n] & LOW

    def argument(self, n: int) -> int:
        """Return an argument: wn of a 32-bit call, xn of a 64-bit one (SMCCC 1.2, 2.5)."""
        return self.registers[n] if self.wide else self.w(n)

    def __str__(self) -> str:
        """One line: the name, and the registers that are not zero."""
        shown = [f"x{n}={value:#x}" for n, value in enumerate(self.registers) if n and value]
        upper = [f"x0={self.registers[0]:#x}"] if self.registers[0] >> 32 else []
        return " ".join([fid_name(self.fid), *upper, *shown])


Registers = tuple[Allowed, ...]


def answer(first: Sequence[Allowed], high: Sequence[Allowed]) -> Registers:
    """Return x0 to x17: what is given, zero up to x7 (reserved, chapter 12), then ``high``."""
    return (*first, *(ZERO,) * (8 - len(first)), *high)


@functools.lru_cache(256)
def function(*fids: int) -> Allowed:
    """Return x0: one of these functions."""
    return either(map(int, fids), FUNCTION)


@functools.lru_cache(256)
def status(*errors: FfaError) -> Allowed:
    """Return w2 of FFA_ERROR."""
    return either((each.w for each in errors), STATUS)


SUCCESS = function(FFA.SUCCESS_32)
