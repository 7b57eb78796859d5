# SPDX-License-Identifier: GPL-2.0-only
"""The overlay headers: as few as can be, assembly only, and all else is the tree's own."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType

import pytest

from ffashim import kconfig, loader, paths
from ffashim.source import Tree, resolve, resolve_default

OVERLAY = paths.STUBS / "overlay"
HEADERS = sorted(path.relative_to(OVERLAY).as_posix() for path in OVERLAY.rglob("*.*"))

USES = {
    "asm/atomic.h": "int f(int *p) { write_atomic(p, 1); return read_atomic(p); }",
    "asm/current.h": "void *f(void) { return guest_cpu_user_regs(); }",
    "asm/system.h": "void f(void) { smp_mb(); smp_rmb(); smp_wmb(); }",
    "asm/arm64/atomic.h": "int f(atomic_t *v) { return atomic_add_return(1, v); }",
    "asm/arm64/cmpxchg.h": "int f(int *p) { return cmpxchg(p, 1, 2); }",
    "asm/arm64/nospec.h": "int f(int *p, unsigned long i) { return p[array_index_nospec(i, 4)]; }",
    "asm/arm64/sysregs.h": "int f(void) { return get_per_cpu_offset() + READ_SYSREG(CTR_EL0); }",
    "asm/arm64/system.h": "void f(void) { local_irq_disable(); }",
}
"""What a mediator may well contain, for the headers that not every tree's mediator needs.

4.18 reads atomically and takes per-CPU variables in ffa.c, 4.20 has atomic_t and cmpxchg() in it.
The machine's own files use current.h and system.h. No mediator has yet used nospec.h, whose tools
are made for indices that a guest gives.
"""
ASM = re.compile(r"\b(asm|asm_inline|__asm__)\b")


@dataclass(frozen=True)
class Compiler:
    """A tree, a compiler, and what it takes to compile a file of the one with the other."""

    tree: Tree
    cc: str
    work: Path

    @cached_property
    def build(self) -> ModuleType:
        return loader.build_py()

    @cached_property
    def generated(self) -> Path:
        autoconf = kconfig.configure(self.tree.xen, {"DEBUG": "y"}, cc=self.cc).autoconf
        self.build.generate(self.build.Recipe(self.tree.xen, autoconf, self.cc), self.work)
        return self.work

    @cached_property
    def sources(self) -> list[Path]:
        """The tree's own files that every build compiles."""
        autoconf = (self.generated / "generated/autoconf.h").read_text()
        recipe = self.build.Recipe(self.tree.xen, autoconf, self.cc)
        found: list[Path] = self.build.listed(recipe)[0]
        return found

    def include(self, overlay: Path) -> list[str]:
        found: list[str] = self.build.xen_include(self.tree.xen, self.generated, overlay)
        return found

    def __call__(
        self, source: Path, *options: str, overlay: Path = OVERLAY
    ) -> subprocess.CompletedProcess[str]:
        command = [
            *shlex.split(self.cc),
            *self.build.OPTIMISE,
            *self.build.COMMON,
            *self.build.XEN,
            *self.build.XEN_QUIET,
            *self.include(overlay),
            *options,
            str(source),
        ]
        return subprocess.run(command, text=True, capture_output=True, errors="replace")


@pytest.fixture(scope="session")
def trees(pytestconfig: pytest.Config) -> list[Tree]:
    """Every tree under test."""
    return [resolve(spec) for spec in pytestconfig.getoption("--xen")] or [resolve_default()]


@pytest.fixture(scope="session")
def compilers(trees: Sequence[Tree], tmp_path_factory: pytest.TempPathFactory) -> list[Compiler]:
    """Every tree with every compiler that there is."""
    found = [cc for cc in ("gcc", "clang") if shutil.which(cc)] or ["cc"]
    return [
        Compiler(tree, cc, tmp_path_factory.mktemp("generated")) for tree in trees for cc in found
    ]


def shadowed(tree: Tree, header: str) -> Iterator[Path]:
    """Yield the headers of the tree that the overlay's stands before."""
    for directory in ("include", "arch/arm/include"):
        if (path := tree.xen / directory / header).is_file():
            yield path


@pytest.mark.parametrize("header", HEADERS)
def test_it_opens_with_what_it_replaces_and_why(header: str) -> None:
    lines = (OVERLAY / header).read_text().splitlines()
    assert lines[0] == "/* SPDX-License-Identifier: GPL-2.0-only */"
    comment = " ".join(lines[1:]).partition("*/")[0]
    words = [word for word in comment.split() if word != "*"]
    assert words[:2] == ["/*", "Replaces"]
    assert re.search(r"[:,;.]", comment.rstrip(".")), "what and why"
    assert words[-1].endswith(".")


@pytest.mark.parametrize("header", HEADERS)
def test_it_shadows_a_header_of_a_tree_and_only_ones_with_assembly(
    trees: Sequence[Tree], header: str
) -> None:
    found = [path for tree in trees for path in shadowed(tree, header)]
    if not found:
        pytest.skip("none of the trees under test has the header")
    without = [str(path) for path in found if not ASM.search(path.read_text(errors="replace"))]
    assert not without


@pytest.mark.parametrize("header", HEADERS)
def test_a_mediator_does_not_compile_without_it(
    compilers: Sequence[Compiler], header: str, tmp_path: Path
) -> None:
    less = tmp_path / "overlay"
    for name in set(HEADERS) - {header}:
        (less / name).parent.mkdir(parents=True, exist_ok=True)
        (less / name).symlink_to(OVERLAY / name)
    having = [each for each in compilers if any(shadowed(each.tree, header))]
    if not having:
        pytest.skip("none of the trees under test has the header")
    use = tmp_path / "use.c"
    use.write_text(f"#include <xen/sched.h>\n#include <xen/nospec.h>\n{USES.get(header, '')}\n")
    for compiler in having:
        for source in [use] if header in USES else compiler.sources:
            whole = compiler(source, "-c", "-o", str(tmp_path / "whole.o"))
            assert whole.returncode == 0, whole.stderr
            part = compiler(source, "-c", "-o", str(tmp_path / "part.o"), overlay=less)
            if part.returncode or asks(tmp_path / "part.o") != asks(tmp_path / "whole.o"):
                return
    pytest.fail(f"every file under test compiles without {header}: nothing is to be replaced")


def asks(file: Path) -> set[str]:
    """Return what an object file wants of the machine."""
    return {name for name in loader.build_py()._undefined([file]) if name.startswith("host_")}


def test_every_other_header_is_the_trees(compilers: Sequence[Compiler]) -> None:
    jobs = [(compiler, source) for compiler in compilers for source in compiler.sources]

    def read(job: tuple[Compiler, Path]) -> list[str]:
        compiler, source = job
        done = compiler(source, "-M", "-MT", "o")
        assert done.returncode == 0, done.stderr
        words = done.stdout.partition(":")[2].replace("\\\n", " ")
        return [word.replace("\\ ", " ") for word in re.split(r"(?<!\\)\s+", words.strip())]

    with ThreadPoolExecutor(2) as pool:
        for (compiler, _), names in zip(jobs, pool.map(read, jobs), strict=True):
            places = [compiler.tree.xen, OVERLAY, paths.STUBS / "include/ffashim", compiler.work]
            strangers = [
                name for name in names if not any(Path(name).is_relative_to(p) for p in places)
            ]
            assert not strangers


def test_nothing_generated_shadows_a_header_of_the_tree(compilers: Sequence[Compiler]) -> None:
    for compiler in compilers:
        for directory, _, files in os.walk(compiler.generated / "asm"):
            for name in files:
                header = Path(directory, name).relative_to(compiler.generated).as_posix()
                assert not list(shadowed(compiler.tree, header))


def test_ours_lie_where_a_reader_looks_for_them() -> None:
    """Headers that Xen's files can reach: the overlay for assembly, ffashim/ for the machine."""
    reachable = {
        path.relative_to(paths.STUBS).parts[:2]
        for place in ("overlay", "include")
        for path in (paths.STUBS / place).rglob("*.h")
    }
    assert reachable == {("overlay", "asm"), ("include", "ffashim")}
