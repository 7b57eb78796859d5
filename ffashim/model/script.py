# SPDX-License-Identifier: GPL-2.0-only
"""A conversation as a plain test: what a failure prints, to be put into a file and run."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING

from ffashim.descriptors import (
    CompositeRegion,
    Constituent,
    IndirectMessage,
    MemoryAccess,
    MemoryTransaction,
)
from ffashim.ffa import FFA, Version
from ffashim.vm import Vm

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_STRUCTURES = (CompositeRegion, Constituent, IndirectMessage, MemoryAccess, MemoryTransaction)


class Script:
    """The lines of a test, in the order in which things have happened to a `Pair`."""

    def __init__(self, partitions: int | None, below: str | None, without: Sequence[FFA]) -> None:
        self._names: dict[Vm, str] = {}
        options = [
            f"partitions={partitions}" if partitions is not None else "",
            f"below={below!r}" if below != "" else "",
            f"without=[{', '.join(map(self._told, without))}]" if without else "",
        ]
        self._lines = [f"pair = Pair({', '.join(['xen', *filter(None, options)])})"]

    def guest(self, vm: Vm, bits: int, vcpus: int) -> None:
        """A guest has come."""
        name = self._names[vm] = f"guest_{len(self._names)}"
        more = f", vcpus={vcpus}" if vcpus != 1 else ""
        self._lines.append(f"{name} = pair.guest({bits}{more})")

    def event(self, name: str, *arguments: object) -> None:
        """A method of the pair was called."""
        self._lines.append(f"pair.{name}({', '.join(map(self._told, arguments))})")

    def call(self, vm: Vm, registers: Sequence[int], vcpu: int, scarce: int) -> None:
        """A guest has called."""
        shown = list(registers)
        while len(shown) > 1 and not shown[-1]:
            shown.pop()
        try:
            first = self._told(FFA(shown[0]))
        except ValueError:
            first = hex(shown[0])
        options = [f"vcpu={vcpu}"] if vcpu else []
        options += [f"scarce={scarce}"] if scarce else []
        arguments = [self._names[vm], first, *map(_number, shown[1:]), *options]
        self._lines.append(f"pair.call({', '.join(arguments)})")

    def _told(self, value: object) -> str:
        if isinstance(value, Vm):
            return self._names[value]
        if isinstance(value, enum.Enum):
            return f"{type(value).__name__}.{value.name}"
        if isinstance(value, Version):
            return f"Version({value.major}, {value.minor})"
        if isinstance(value, int) and not isinstance(value, bool):
            return _number(value)
        if isinstance(value, bytes) and len(value) > 16 and len(set(value)) == 1:
            return f"bytes([{value[0]:#x}]) * {len(value)}"
        if isinstance(value, tuple):
            return f"({', '.join(map(self._told, value))}{',' * (len(value) == 1)})"
        if is_dataclass(value) and not isinstance(value, type):
            return self._structure(value)
        return repr(value)

    def _structure(self, value: DataclassInstance) -> str:
        """Tell what is not as it is by default."""
        shown = [
            f"{each.name}={self._told(getattr(value, each.name))}"
            for each in fields(value)
            if getattr(value, each.name) != each.default
        ]
        return f"{type(value).__name__}({', '.join(shown)})"

    def __str__(self) -> str:
        body = "\n".join(f"    {line}" for line in self._lines)
        structures = sorted(each.__name__ for each in _STRUCTURES if f"{each.__name__}(" in body)
        ffa = [name for name in ("FfaError", "Version") if name in body]
        imports = [
            "from uuid import UUID\n" if "UUID(" in body else "",
            f"from ffashim import FFA, Machine{', P2m' if 'P2m.' in body else ''}",
            f"from ffashim.descriptors import {', '.join(structures)}" if structures else "",
            f"from ffashim.ffa import {', '.join(ffa)}" if ffa else "",
            "from ffashim.model import Pair",
        ]
        head = "def test_xen_does_what_the_model_says(xen: Machine) -> None:"
        return "\n".join([*filter(None, imports), "", "", head, body])


def _number(value: int) -> str:
    return str(value) if -10 < value < 10 else hex(value)
