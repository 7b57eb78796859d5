# SPDX-License-Identifier: GPL-2.0-only
"""From an offset in an extension to the line of Xen's that it belongs to."""

from __future__ import annotations

import bisect
import itertools
import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
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
    """The line table and the symbols of one extension."""

    def __init__(self, path: Path) -> None:
        self._functions, self._lines = _kept(path) or _decoded(path)
        self._function_at = [start for start, _, _ in self._functions]
        self._line_at = [address for address, _, _ in self._lines]

    def place(self, offset: int) -> Place:
        """Return where the code at an offset comes from."""
        function, file, line = "?", "", 0
        n = bisect.bisect_right(self._function_at, offset) - 1
        if n >= 0 and offset < self._functions[n][0] + max(self._functions[n][1], 1):
            function = self._functions[n][2]
        start = self._functions[n][0] if function != "?" else offset
        n = bisect.bisect_right(self._line_at, offset) - 1
        # What the compiler has moved is of no line: the one before it is near.
        while n > 0 and not self._lines[n][2] and self._line_at[n - 1] >= start:
            n -= 1
        if n >= 0:
            _, file, line = self._lines[n]
        # Code inlined from a header: the line of the function itself that came just before it.
        while file.endswith(".h") and n > 0 and self._line_at[n - 1] >= start:
            n -= 1
            if self._lines[n][1].endswith(".c"):
                _, file, line = self._lines[n]
        return Place(function, shorten(file), line)


@cache
def symbols(path: Path) -> Symbols:
    """Return the symbols of an extension, read once."""
    return Symbols(path)


_Tables = tuple[list[tuple[int, int, str]], list[tuple[int, str, int]]]


def _kept(path: Path) -> _Tables | None:
    """Return what an earlier process decoded, unless it is damaged."""
    try:
        kept = json.loads(path.with_suffix(".lines").read_text())
        files = kept["files"]
        functions = [(int(start), int(size), str(name)) for start, size, name in kept["functions"]]
        return functions, [(int(at), str(files[n]), int(line)) for at, n, line in kept["lines"]]
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def _decoded(path: Path) -> _Tables:
    """Decode the tables, which takes a fifth of a second, and keep them beside the extension."""
    with path.open("rb") as stream:
        elf = ELFFile(stream)
        functions = sorted(_functions(elf))
        lines = sorted(_lines(elf), key=lambda row: row[0])
    files = {name: n for n, name in enumerate(dict.fromkeys(name for _, name, _ in lines))}
    rows = [(at, files[name], line) for at, name, line in lines]
    with suppress(OSError), tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as out:
        json.dump({"files": list(files), "functions": functions, "lines": rows}, out)
        out.close()
        os.replace(out.name, path.with_suffix(".lines"))
    return functions, lines


def _functions(elf: Any) -> list[tuple[int, int, str]]:
    table = elf.get_section_by_name(".symtab")
    assert isinstance(table, SymbolTableSection)
    return [
        (symbol["st_value"], symbol["st_size"], symbol.name)
        for symbol in table.iter_symbols()
        if symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_shndx"] != "SHN_UNDEF"
    ]


def _lines(elf: Any) -> list[tuple[int, str, int]]:
    if not elf.has_dwarf_info():
        return []
    rows = []
    dwarf = elf.get_dwarf_info()
    for unit in dwarf.iter_CUs():
        program = dwarf.line_program_for_CU(unit)
        if program is None:
            continue
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
                rows.append((state.address, "", 0))
                continue
            if state.file not in names:
                names[state.file] = _file_name(files, directories, first, state.file, base)
            rows.append((state.address, names[state.file], state.line))
    return rows


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
