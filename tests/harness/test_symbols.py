# SPDX-License-Identifier: GPL-2.0-only
"""From an offset in an extension to a line of the source, as a compiler tells it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from ffashim import loader
from ffashim.source import Tree
from ffashim.symbols import Place, Symbols


@pytest.fixture
def extension(tree: Tree) -> Path:
    return loader.build(tree).path


def functions(path: Path) -> dict[str, int]:
    with path.open("rb") as stream:
        table: Any = ELFFile(stream).get_section_by_name(".symtab")
        return {
            symbol.name: symbol["st_value"]
            for symbol in table.iter_symbols()
            if symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_size"]
        }


def test_the_start_of_a_function_is_where_it_is_defined(extension: Path, tree: Tree) -> None:
    name = "ffa_handle_mem_share"
    place = Symbols(extension).place(functions(extension)[name])
    lines = (tree.root / "xen/arch/arm/tee/ffa_shm.c").read_text().splitlines()
    assert (place.function, place.file) == (name, "xen/arch/arm/tee/ffa_shm.c")
    # Some compilers begin with the brace.
    assert name in "".join(lines[place.line - 3 : place.line])


def test_an_offset_of_no_function_is_of_no_file(extension: Path) -> None:
    assert Symbols(extension).place(0) == Place("?", "", 0)


def test_places_are_the_same_where_no_table_tells_which_unit_is_where(
    extension: Path, tmp_path: Path
) -> None:
    """Clang writes none."""
    bare = tmp_path / extension.name
    subprocess.run(
        ["objcopy", "--remove-section=.debug_aranges", str(extension), str(bare)], check=True
    )
    with_table, without = Symbols(extension), Symbols(bare)
    for start in functions(extension).values():
        assert without.place(start) == with_table.place(start)


def test_an_extension_that_is_gone_is_still_known(extension: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(extension, tmp_path))
    found = Symbols(copy)
    copy.unlink()
    assert found.place(functions(extension)["ffa_handle_mem_share"]).line
