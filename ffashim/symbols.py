# SPDX-License-Identifier: GPL-2.0-only
"""From an offset in an extension to the line of Xen's that it belongs to."""

from __future__ import annotations

import bisect
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection


@dataclass(frozen=True)
class Place:
    """A place in the source."""

    function: str
    file: str
    """Relative to the tree, where it lies in one; empty if nothing is known."""
    line: int

    def __str__(self) -> str:
        where = f" {self.file}:{self.line}" if self.file else ""
        return f"{self.function}(){where}"

    @property
    def where(self) -> str:
        """File and line."""
        return f"{self.file}:{self.line}" if self.file else self.function


def shorten(path: str) -> str:
    """Return the path as Xen's developers write it."""
    for mark in ("/xen/arch/", "/xen/common/", "/xen/include/", "/xen/lib/"):
        if mark in path:
            return "xen" + mark.removeprefix("/xen") + path.rpartition(mark)[2]
    if "/stubs/" in path:
        return "stubs/" + path.rpartition("/stubs/")[2]
    return path


def of_xen(places: Sequence[Place]) -> Sequence[Place]:
    """Return a way, innermost first, without the machine's own functions at its start: not
    optimised, they are not inlined into Xen's.
    """
    ours = itertools.takewhile(lambda place: place.file.startswith("stubs/"), places[:-1])
    return places[sum(1 for _ in ours) :]


class Symbols:
    """The line table and the symbols of one extension.

    Of the line table, which it takes half a second to decode, the parts that are asked for.
    """

    def __init__(self, path: Path) -> None:
        elf = ELFFile(BytesIO(path.read_bytes()))  # the file may go
        self._functions = sorted(_functions(elf))
        self._function_at = [start for start, _, _ in self._functions]
        self._dwarf = elf.get_dwarf_info() if elf.has_dwarf_info() else None
        self._units = self._dwarf.get_aranges() if self._dwarf else None
        self._tables: dict[int | None, _Table] = {}

    def place(self, offset: int) -> Place:
        """Return where the code at an offset comes from."""
        function, file, line = "?", "", 0
        n = bisect.bisect_right(self._function_at, offset) - 1
        if n >= 0 and offset < self._functions[n][0] + max(self._functions[n][1], 1):
            function = self._functions[n][2]
        start = self._functions[n][0] if function != "?" else offset
        addresses, rows = self._table(offset)
        n = bisect.bisect_right(addresses, offset) - 1
        # What the compiler has moved is of no line: the one before it is near.
        while n > 0 and not rows[n][1] and addresses[n - 1] >= start:
            n -= 1
        if n >= 0:
            file, line = rows[n]
        # Code inlined from a header: the line of the function itself that came just before it.
        while file.endswith(".h") and n > 0 and addresses[n - 1] >= start:
            n -= 1
            if rows[n][0].endswith(".c"):
                file, line = rows[n]
        return Place(function, shorten(file), line)

    def _table(self, offset: int) -> _Table:
        """Return the lines of the compilation unit that the code at an offset is part of."""
        if self._dwarf is None:
            return [], []
        # clang does not tell what is where: then it is all of them.
        unit = self._units.cu_offset_at_addr(offset) if self._units else None
        if unit not in self._tables:
            if self._units is None:
                units = list(self._dwarf.iter_CUs())
            else:
                units = [] if unit is None else [self._dwarf.get_CU_at(unit)]
            found = sorted((row for each in units for row in _lines(self._dwarf, each)),
                           key=lambda row: row[0])  # fmt: skip
            self._tables[unit] = [at for at, _, _ in found], [(file, n) for _, file, n in found]
        return self._tables[unit]


@cache
def symbols(path: Path) -> Symbols:
    """Return the symbols of an extension, read once."""
    return Symbols(path)


_Table = tuple[list[int], list[tuple[str, int]]]
"""Addresses, in order, and the file and the line that begins at each; no file where they end."""


def _functions(elf: Any) -> list[tuple[int, int, str]]:
    table = elf.get_section_by_name(".symtab")
    assert isinstance(table, SymbolTableSection)
    return [
        (symbol["st_value"], symbol["st_size"], symbol.name)
        for symbol in table.iter_symbols()
        if symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_shndx"] != "SHN_UNDEF"
    ]


def _lines(dwarf: Any, unit: Any) -> Iterator[tuple[int, str, int]]:
    """Yield the address, the file and the line of each row of a compilation unit's table."""
    program = dwarf.line_program_for_CU(unit)
    if program is None:
        return
    files = program["file_entry"]
    directories = program["include_directory"]
    first = 0 if program["version"] >= 5 else 1
    top = unit.get_top_DIE().attributes.get("DW_AT_comp_dir")
    base = top.value.decode() if top else ""
    names: dict[int, str] = {}
    for entry in program.get_entries():
        state = entry.state
        if state is None:
            continue
        if state.end_sequence:
            yield state.address, "", 0
            continue
        if state.file not in names:
            names[state.file] = _file_name(files, directories, first, state.file, base)
        yield state.address, names[state.file], state.line


def _file_name(files: Any, directories: Any, first: int, index: int, base: str) -> str:
    try:
        entry = files[index - first]
    except IndexError:
        return ""
    number = entry.dir_index
    if first == 0:
        directory = directories[number].decode()
    else:
        directory = directories[number - 1].decode() if number else base
    return os.path.join(base, directory, entry.name.decode())
