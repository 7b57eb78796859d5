# SPDX-License-Identifier: GPL-2.0-only
"""What a guest finds in its registers after an FF-A call."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

from ffashim.ffa import FFA, FfaError

_SUCCESS = (int(FFA.SUCCESS_32), int(FFA.SUCCESS_64))
_ERROR = int(FFA.ERROR)


def _register(n: int) -> property:
    return property(itemgetter(n), doc=f"x{n}, 64 bits.")


class Reply(tuple[int, ...]):
    """Registers x0 to x17 of the caller after a call, 64 bits each; w0 is x0's lower half."""

    __slots__ = ()

    if TYPE_CHECKING:
        x0: int
        x1: int
        x2: int
        x3: int
        x4: int
        x5: int
        x6: int
        x7: int
        x8: int
        x9: int
        x10: int
        x11: int
        x12: int
        x13: int
        x14: int
        x15: int
        x16: int
        x17: int
    else:
        for _n in range(18):
            locals()[f"x{_n}"] = _register(_n)
        del _n

    def w(self, n: int) -> int:
        """Return the lower 32 bits of register n."""
        return self[n] & 0xFFFFFFFF

    @property
    def fid(self) -> int:
        """w0: the function ID of the answer, or what an FFA_VERSION answered."""
        return self[0] & 0xFFFFFFFF

    @property
    def ok(self) -> bool:
        """Whether it is FFA_SUCCESS, of either width."""
        return self.fid in _SUCCESS

    @property
    def error(self) -> FfaError | None:
        """The status of FFA_ERROR (w2), None for any other answer.

        A call that no handler takes gets SMCCC's NOT_SUPPORTED, -1 in x0: that is None, too.
        """
        if self[0] & 0xFFFFFFFF != _ERROR:
            return None
        status = self[2] & 0xFFFFFFFF
        return FfaError(status - (1 << 32) if status >> 31 else status)

    @property
    def unknown(self) -> bool:
        """Whether it is SMCCC's answer for a function that does not exist."""
        return self.fid == 0xFFFFFFFF

    def __str__(self) -> str:
        """One line: the answer's name, its error, and every register that is not zero."""
        try:
            name = f"FFA_{FFA(self.fid).name}"
        except ValueError:
            name = "unknown function" if self.unknown else f"{self.fid:#x}"
        if self.fid == _ERROR:
            try:
                name += f" {self.error.name}" if self.error else ""
            except ValueError:
                name += f" {self.w(2):#x}"
        shown = [f"x{n}={value:#x}" for n, value in enumerate(self) if n and value]
        return " ".join([name, *shown])

    def __repr__(self) -> str:
        return f"<Reply {self}>"
