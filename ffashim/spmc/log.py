# SPDX-License-Identifier: GPL-2.0-only
"""The record of every SMC, request and response."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from ffashim.ffa import FFA, error_code, fid_name
from ffashim.spmc.replies import Regs

Entry = list["Regs | None"]
"""[request, response]: what is kept while running; an `Smc` is made of it when somebody looks."""

_ERROR = int(FFA.ERROR)


def _show(regs: Regs) -> str:
    """Registers after x0, without the zeros."""
    return " ".join(f"x{n}={value:#x}" for n, value in enumerate(regs) if n and value)


def describe(regs: Regs) -> str:
    """Registers for people: the function's name, then the registers that are not zero."""
    name = fid_name(regs[0])
    if regs[0] == _ERROR:
        code = error_code(regs[2])
        return f"{name} {getattr(code, 'name', code)}"
    return f"{name} {_show(regs)}".rstrip()


@dataclass(frozen=True)
class Smc:
    """One SMC of the hypervisor.

    `request` and `response` are registers x0 to x17; `response` is None while the call is under
    way, and stays so if a script raised.
    """

    request: Regs
    response: Regs | None

    @property
    def fid(self) -> int:
        """The function ID, w0 of the request."""
        return self.request[0] & 0xFFFFFFFF

    @property
    def name(self) -> str:
        """Such as "FFA_RX_RELEASE"."""
        return fid_name(self.fid)

    @property
    def error(self) -> int | None:
        """The status if the answer was FFA_ERROR, else None."""
        if self.response is None or self.response[0] != _ERROR:
            return None
        return error_code(self.response[2])

    def __getattr__(self, name: str) -> int:
        """`smc.x3`: a register of the request; `smc.r3`: one of the response."""
        kind, number = name[:1], name[1:]
        if kind in ("x", "r") and number.isdigit() and int(number) < len(self.request):
            if kind == "x":
                return self.request[int(number)]
            if self.response is not None:
                return self.response[int(number)]
        raise AttributeError(name)

    def __str__(self) -> str:
        """One line: the call, an arrow, the answer."""
        answer = "no answer" if self.response is None else describe(self.response)
        return f"{describe(self.request)} -> {answer}"

    __repr__ = __str__


class Log(Sequence[Smc]):
    """Every SMC in the order in which they were made; nested ones follow the one they came from."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.entries: list[Entry] = list(entries)

    @overload
    def __getitem__(self, index: int) -> Smc: ...
    @overload
    def __getitem__(self, index: slice) -> Log: ...
    def __getitem__(self, index: int | slice) -> Smc | Log:
        """The n-th SMC, or a part of the log."""
        if isinstance(index, slice):
            return Log(self.entries[index])
        return self._smc(self.entries[index])

    def __len__(self) -> int:
        """How many SMCs were made."""
        return len(self.entries)

    def __iter__(self) -> Iterator[Smc]:
        """One `Smc` each."""
        return map(self._smc, self.entries)

    def clear(self) -> None:
        """Forget what was logged."""
        self.entries.clear()

    def of(self, *fids: int) -> list[Smc]:
        """The SMCs with one of these function IDs."""
        wanted = {int(fid) for fid in fids}
        return [self._smc(e) for e in self.entries if e[0] and e[0][0] & 0xFFFFFFFF in wanted]

    @property
    def names(self) -> list[str]:
        """The functions' names in order, such as ["FFA_VERSION", ...]."""
        return [smc.name for smc in self]

    def __str__(self) -> str:
        """A line each, numbered from 0."""
        return "\n".join(f"{n:3d} {smc}" for n, smc in enumerate(self))

    def __repr__(self) -> str:
        """As str, so that a failing assertion shows the calls."""
        return f"<{len(self)} SMCs\n{self}>"

    @staticmethod
    def _smc(entry: Entry) -> Smc:
        request, response = entry
        assert request is not None
        return Smc(request, response)
