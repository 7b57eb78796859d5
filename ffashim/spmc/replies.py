# SPDX-License-Identifier: GPL-2.0-only
"""What an FF-A call answers with, as the 18 registers x0 to x17.

Registers that an answer does not use are zero.
"""

from __future__ import annotations

from ffashim.errors import UsageError
from ffashim.ffa import FFA, NREGS, FfaError

Regs = tuple[int, ...]
"""Registers x0 to x17, 64 bits each, unsigned."""

_ZERO = (0,) * NREGS
_PAD = tuple(_ZERO[:n] for n in range(NREGS, -1, -1))
_SUCCESS_32 = int(FFA.SUCCESS_32)
_ERRORS = {int(e): (int(FFA.ERROR), 0, e.w, *_ZERO[3:]) for e in FfaError}

OK: Regs = (_SUCCESS_32, *_ZERO[1:])
"""FFA_SUCCESS_32 with nothing to say."""
UNKNOWN: Regs = ((1 << 64) - 1, *_ZERO[1:])
"""SMCCC's own NOT_SUPPORTED (-1 in x0): nobody implements this function."""


def registers(*values: int) -> Regs:
    """Fill up with zeros to x17. Raises UsageError for more than 18 values, or ones not 64-bit."""
    if len(values) > NREGS:
        raise UsageError(f"{len(values)} registers: an SMC has {NREGS}, x0 to x17")
    for n, value in enumerate(values):
        if not isinstance(value, int):
            raise UsageError(f"x{n} = {value!r}: a register holds a number")
        if not 0 <= value < 1 << 64:
            raise UsageError(f"x{n} = {value:#x}: a register holds 64 unsigned bits")
    return (*map(int, values), *_PAD[len(values)])


def success(w2: int = 0, w3: int = 0) -> Regs:
    """FFA_SUCCESS_32 (chapter 12)."""
    return (_SUCCESS_32, 0, w2, w3, *_PAD[4])


def error(code: int) -> Regs:
    """FFA_ERROR with this status in w2 (chapter 12): an FfaError, or any 32-bit number."""
    known = _ERRORS.get(code)
    return known if known else (int(FFA.ERROR), 0, code & 0xFFFFFFFF, *_PAD[3])


def paused(fid: FFA, sp_id: int, vcpu: int = 0) -> Regs:
    """FFA_INTERRUPT or FFA_MSG_YIELD: the SP's vCPU was preempted, or gave up its cycles, and
    FFA_RUN resumes it (chapters 12 and 14).
    """
    return (int(fid), sp_id << 16 | vcpu, *_PAD[2])


def interrupt(sp_id: int, vcpu: int = 0) -> Regs:
    """FFA_INTERRUPT: the SP's vCPU was preempted (chapter 12)."""
    return paused(FFA.INTERRUPT, sp_id, vcpu)


def yielded(sp_id: int, vcpu: int = 0) -> Regs:
    """FFA_MSG_YIELD: the SP's vCPU gave up its cycles (chapter 14)."""
    return paused(FFA.MSG_YIELD, sp_id, vcpu)


def waiting() -> Regs:
    """FFA_MSG_WAIT: the SP that was run has nothing to do (chapter 14)."""
    return (int(FFA.MSG_WAIT), *_PAD[1])
