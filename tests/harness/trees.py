# SPDX-License-Identifier: GPL-2.0-only
"""Copies of the tree under test that a test may edit, and a compiler that keeps count."""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
from pathlib import Path

import pytest

from ffashim import kconfig
from ffashim.source import Tree, resolve, store

TEE = "arch/arm/tee"


def copy(tree: Tree, into: Path) -> Tree:
    """Return a copy that may be edited, in a directory that does not exist yet."""
    store.copy(tree.root, into)
    return resolve(str(into))


def skeleton(tree: Tree, into: Path) -> Tree:
    """Return a copy of what it takes to configure the tree, and of little else."""
    wanted = re.compile(
        r"Kconfig|/scripts/|/configs/|xen/arch/arm/tee/|xen/Makefile$|include/xen/lib\.h$"
    )
    for name in filter(wanted.search, store.kept_files(tree.root)):
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tree.root / name, into / name)
        (into / name).chmod(0o755)
    return resolve(str(into))


def edit(file: Path, before: str, after: str) -> None:
    """Replace the last match of a regular expression by a text that may refer to its groups."""
    text = file.read_text()
    matches = list(re.finditer(before, text))
    assert matches, f"{file} has no {before}"
    last = matches[-1]
    file.write_text(text[: last.start()] + last.expand(after) + text[last.end() :])


def fingerprint(directory: Path) -> dict[str, tuple[str, int]]:
    """Return hash and time of every file below a directory."""
    return {
        str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in directory.rglob("*")
        if path.is_file()
    }


def settings(tree: Tree, debug: str, vm_to_vm: str) -> dict[str, str]:
    """Return settings in which FFA_VM_TO_VM is left out where the tree does not have it."""
    found = {"DEBUG": debug}
    if kconfig.has_symbol(tree.xen, "FFA_VM_TO_VM"):
        found["FFA_VM_TO_VM"] = vm_to_vm
    return found


def need(compiler: str) -> None:
    """Skip the test if a compiler is not installed."""
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")


class CountingCompiler:
    """A compiler that writes down how it is called, and can be made to hang."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.command = str(directory / "cc")
        self._log = directory / "log"
        self._hang = directory / "hang"
        self.reached = directory / "reached"
        real = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        assert real, "no compiler is installed"
        log, hang, reached = (
            shlex.quote(str(path)) for path in (self._log, self._hang, self.reached)
        )
        # What is compiled for the cache, and not to find out something, comes with -MD.
        script = (
            f'#!/bin/sh\necho x "$*" >>{log}\n'
            f'case "$*" in *" -MD "*)\n'
            f"    while [ -e {hang} ]; do : >{reached}; sleep 0.05; done ;;\nesac\n"
            f'exec {shlex.quote(real)} "$@"\n'
        )
        Path(self.command).write_text(script)
        Path(self.command).chmod(0o755)

    def hang(self, value: bool) -> None:
        """Make every compilation wait, or let those that do go on."""
        if value:
            self._hang.touch()
        else:
            self._hang.unlink()

    def runs(self) -> int:
        """How often something was compiled or linked since the last time this was asked."""
        return len(self._calls())

    def links(self) -> int:
        """How often something was linked since the last time this was asked."""
        return sum(" -shared " in line for line in self._calls())

    def _calls(self) -> list[str]:
        if not self._log.exists():
            return []
        lines = self._log.read_text().splitlines()
        self._log.unlink()
        return lines
