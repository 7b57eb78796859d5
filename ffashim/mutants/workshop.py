# SPDX-License-Identifier: GPL-2.0-only
"""A tree built once, with all that is kept which it takes to build it again with a mistake in it.

A mutant costs the compiler one file and one link. It is made in a copy of the mediator's directory;
the tree itself is only read.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection

from ffashim import loader, stamps
from ffashim.errors import BuildError
from ffashim.loader import Extension
from ffashim.mutants.source import Mutant, apply
from ffashim.source import Tree

MEDIATOR = Path("arch/arm/tee")
"""Where the mediator lies, below ``xen/``."""


def files(tree: Tree) -> dict[str, bytes]:
    """Return the mediator's own files, by their names in its directory. What is not compiled makes
    mutants that are the same as the original.
    """
    mediator = tree.xen / MEDIATOR
    return {
        str(path.relative_to(mediator)): path.read_bytes()
        for path in sorted(mediator.rglob("ffa*.[ch]"))
    }


class Workshop:
    """One tree in one configuration, built in a directory of the caller's.

    Raises what `loader.build` raises.
    """

    def __init__(
        self, tree: Tree, settings: Mapping[str, str], directory: Path, *, cc: str = "cc"
    ) -> None:
        self.tree = tree
        self.mediator = tree.xen / MEDIATOR
        self.directory = directory
        # Somebody may edit the tree while its mutants are made.
        self.source = directory / "source"
        shutil.copytree(self.mediator, self.source)
        objects = directory / "original"
        objects.mkdir()
        self.extension: Extension
        self.extension, built = loader.build_apart(tree, settings, objects, cc=cc)
        self._link = built.steps[-1]
        self._steps = {
            step: _read_by(step, self.mediator)
            for step in built.steps[:-1]
            if self.mediator in step.inputs[0].parents
        }
        self._originals = {step.target: fingerprint(step.target) for step in self._steps}

    def bench(self, number: int) -> Bench:
        """Return a place to build mutants at, one at a time."""
        return Bench(self, self.directory / f"bench-{number}")


class Bench:
    """A copy of the mediator's directory, and what is made of it."""

    def __init__(self, workshop: Workshop, directory: Path) -> None:
        self._shop = workshop
        self._source = directory / "source"
        self._objects = directory / "objects"
        shutil.copytree(workshop.source, self._source)
        self._objects.mkdir()
        self._count = 0

    def build(self, mutant: Mutant) -> tuple[Path, str] | None:
        """Build the mutant. Return the extension, which replaces the former one, and a name for
        what the compiler made of it; None if that is the same as without the mistake.

        Raises BuildError if it does not compile.
        """
        path = self._source / mutant.file
        content = (self._shop.source / mutant.file).read_bytes()
        path.chmod(0o644)
        path.write_bytes(apply(content, mutant.edit))
        try:
            return self._make(mutant.file)
        finally:
            path.write_bytes(content)

    def _make(self, file: str) -> tuple[Path, str] | None:
        shop = self._shop
        made = {}
        changed = hashlib.sha256()
        for step, read in shop._steps.items():
            if file not in read:
                continue
            target = self._objects / step.target.name
            self._redo(step, target).run()
            if (digest := fingerprint(target)) != shop._originals[step.target]:
                made[step.target] = target
                changed.update(f"{target.name} {digest}\n".encode())
        if not made:
            return None
        self._count += 1
        # The module's name is the file's, so that a directory has to tell one from the next.
        home = self._objects / str(self._count)
        home.mkdir()
        for former in self._objects.glob("*/*.so"):
            former.unlink()
        extension = home / shop._link.target.name
        names = {str(path): str(new) for path, new in made.items()}
        names[str(shop._link.target)] = str(extension)
        command = tuple(names.get(word, word) for word in shop._link.command)
        replace(shop._link, command=command, target=extension).run()
        return extension, changed.hexdigest()

    def _redo(self, step: Any, target: Path) -> Any:
        """Return the step that compiles this bench's copy, under the name of the original."""
        source = self._source / step.inputs[0].relative_to(self._shop.mediator)
        old, new = str(step.target.with_suffix("")), str(target.with_suffix(""))
        command = [
            str(source) if word == str(step.inputs[0]) else word.replace(old, new)
            for word in step.command
        ]
        command += ["-iquote", str(self._shop.mediator)]
        command.append(f"-ffile-prefix-map={self._source}={self._shop.mediator}")
        return replace(step, command=tuple(command), inputs=(source,), target=target)


def fingerprint(path: Path) -> str:
    """Return a hash of what an object file puts into memory: code, data, and what they refer to."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        elf = ELFFile(stream)
        symbols: Any = elf.get_section_by_name(".symtab")
        names = [elf.get_section(n).name for n in range(elf.num_sections())]
        for section in elf.iter_sections():
            if isinstance(section, RelocationSection):
                if not elf.get_section(section["sh_info"])["sh_flags"] & SH_FLAGS.SHF_ALLOC:
                    continue
                digest.update(f"\0{section.name}\0".encode())
                for each in section.iter_relocations():
                    symbol = symbols.get_symbol(each["r_info_sym"])
                    place = symbol["st_shndx"]
                    where = names[place] if isinstance(place, int) else place
                    digest.update(
                        f"{each['r_offset']} {each['r_info_type']} {each['r_addend']} "
                        f"{symbol.name} {where} {symbol['st_value']}\n".encode()
                    )
            elif section["sh_flags"] & SH_FLAGS.SHF_ALLOC:
                digest.update(f"\0{section.name} {section['sh_size']}\0".encode())
                digest.update(section.data())
    return digest.hexdigest()


def _read_by(step: Any, mediator: Path) -> frozenset[str]:
    """Return the names of the files in the mediator's directory that a step read."""
    paths = stamps.read_by(step.target.with_suffix(".d").read_text())
    found = {str(path.relative_to(mediator)) for path in paths if mediator in path.parents}
    if not found:
        raise BuildError(f"the compiler did not tell what {step.inputs[0]} includes")
    return frozenset(found)
