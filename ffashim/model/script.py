# SPDX-License-Identifier: GPL-2.0-only
"""A conversation as steps that can be taken again, and as a plain test that says them."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

from ffashim.descriptors import (
    CompositeRegion,
    Constituent,
    IndirectMessage,
    MemoryAccess,
    MemoryTransaction,
)
from ffashim.ffa import FFA, Version

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_STRUCTURES = (CompositeRegion, Constituent, IndirectMessage, MemoryAccess, MemoryTransaction)


@dataclass(frozen=True)
class Who:
    """A guest, by the number of its coming."""

    number: int

    def __str__(self) -> str:
        return f"guest_{self.number}"


@dataclass(frozen=True)
class Step:
    """A method of a `Pair` that was called. made: the guest that came of it."""

    method: str
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    made: Who | None = None

    def of(self, who: Who) -> bool:
        """Whether the step has to do with a guest."""
        return who == self.made or who in self.arguments

    def __str__(self) -> str:
        usual = {"vcpus": 1}
        options = [
            f"{name}={_told(value)}"
            for name, value in self.options.items()
            if value and usual.get(name) != value
        ]
        target = f"{self.made} = " if self.made else ""
        return f"{target}pair.{self.method}({', '.join([*map(_told, self.arguments), *options])})"


@dataclass(frozen=True)
class Script:
    """What a pair was made with, and the steps since. known: known defects have shown in them."""

    options: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    known: bool = False

    def without(self, unwanted: Sequence[int]) -> Script:
        """Return the script without some steps; with a guest's coming all that it does goes."""
        gone = {self.steps[n].made for n in unwanted} - {None}
        kept = tuple(
            step
            for n, step in enumerate(self.steps)
            if n not in unwanted and not any(step.of(who) for who in gone if who)
        )
        return replace(self, steps=kept)

    def __str__(self) -> str:
        options = [f"{name}={_told(value)}" for name, value in self.options.items()]
        if self.known:
            options.append("deviations=known_of(xen)")
        lines = [f"pair = Pair({', '.join(['xen', *options])})", *map(str, self.steps)]
        body = "\n".join(f"    {line}" for line in lines)
        structures = sorted(each.__name__ for each in _STRUCTURES if f"{each.__name__}(" in body)
        kinds = [
            name for name in ("FrameworkMessage", "Version") if re.search(rf"\b{name}\b", body)
        ]
        imports = [
            "from uuid import UUID\n" if "UUID(" in body else "",
            f"from ffashim import FFA, Machine{', P2m' if 'P2m.' in body else ''}",
            f"from ffashim.descriptors import {', '.join(structures)}" if structures else "",
            f"from ffashim.ffa import {', '.join(kinds)}" if kinds else "",
            f"from ffashim.model import Pair{', known_of' if self.known else ''}",
            "from ffashim.model.lifecycle import Refusal" if "Refusal(" in body else "",
        ]
        head = "def test_xen_does_what_the_model_says(xen: Machine) -> None:"
        return "\n".join([*filter(None, imports), "", "", head, body])


def _told(value: object) -> str:
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, Version):
        return f"Version({value.major}, {value.minor})"
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if -10 < value < 100 else hex(value)
    if isinstance(value, bytes) and len(value) > 16 and len(set(value)) == 1:
        return f"bytes([{value[0]:#x}]) * {len(value)}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_told, value))}{',' * (len(value) == 1)})"
    if isinstance(value, Who):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return _structure(value)
    return repr(value)


def _structure(value: DataclassInstance) -> str:
    """Tell what is not as it is by default."""
    shown = [
        f"{each.name}={_told(getattr(value, each.name))}"
        for each in fields(value)
        if getattr(value, each.name) != each.default
    ]
    return f"{type(value).__name__}({', '.join(shown)})"


def named(fid: int) -> int:
    """Return a function ID as the member of `FFA` that it is, if it is one."""
    try:
        return FFA(fid)
    except ValueError:
        return fid
