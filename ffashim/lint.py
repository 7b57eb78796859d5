# SPDX-License-Identifier: GPL-2.0-only
"""``ffashim check --warnings``: what gcc and clang say of the mediator if they are asked for more.

What Xen's own build refuses, a build here refuses as well. These are warnings that it has not
turned on, and that its developers have mended by hand, or that tell of mistakes.
"""

from __future__ import annotations

import functools
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ffashim import kconfig, loader
from ffashim.coverage.changes import changed_lines
from ffashim.errors import UsageError
from ffashim.source import Tree
from ffashim.variants import nearest

COMPILERS = ("gcc", "clang")
"""Those that are asked, where they are installed."""

OPTIONS = (
    "-Wall",
    "-Wextra",
    "-Wno-unused-parameter",  # of which Xen's interfaces have many
    # Xen's own build, those that depend on the compiler or on its version included.
    "-Wdeclaration-after-statement",
    "-Wflex-array-member-not-at-end",
    "-Winit-self",
    "-Wnested-externs",
    "-Wredundant-decls",
    "-Wstrict-prototypes",
    "-Wuninitialized",
    "-Wvla",
    "-Wwrite-strings",
    # Mended upstream by hand: shadowed names (MISRA C rule 5.3), objects that no header declares
    # (8.4), functions that do not return, comparisons that are always true.
    "-Wmissing-declarations",
    "-Wmissing-noreturn",
    "-Wmissing-prototypes",
    "-Wmissing-variable-declarations",
    "-Wshadow",
    "-Wsuggest-attribute=noreturn",
    "-Wtype-limits",
    # Mistakes, when they speak up at all.
    "-Wcomma",
    "-Wconditional-uninitialized",
    "-Wduplicated-cond",
    "-Wimplicit-fallthrough",
    "-Wlogical-op",
    "-Wnull-dereference",
    "-Wunreachable-code",
)
"""Not among them: -Wconversion and -Wcast-qual, of which the mediator has dozens on purpose."""
EXTRA = (
    "-Wcast-function-type",
    "-Wclobbered",
    "-Wempty-body",
    "-Wignored-qualifiers",
    "-Winitializer-overrides",
    "-Wmissing-field-initializers",
    "-Wmissing-parameter-type",
    "-Wold-style-declaration",
    "-Woverride-init",
    "-Wshift-negative-value",
    "-Wsign-compare",
)
"""What -Wextra stands for in C, beside the above: Xen is not built with it."""

OPTIMISED = ("-O2",)
"""What is never set, or may be NULL, is known to the optimiser."""
_UNKNOWN = re.compile(r"(?:unrecognized command[- ]line option|unknown warning option) '(-W[^']+)'")
_WARNING = re.compile(r"^(.+?):(\d+):(?:\d+:)? warning: (.*?)(?: \[(-W[^\]]+)\])?$", re.M)


@dataclass(frozen=True)
class Remark:
    """What compilers say of a line of the tree."""

    file: str
    """From the tree's root."""
    line: int
    text: str
    """In the words of the first of them."""
    option: str
    compilers: tuple[str, ...]

    def __str__(self) -> str:
        by = ", ".join(self.compilers)
        option = f" [{self.option}]" if self.option else ""
        return f"{self.file}:{self.line}: {self.text}{option} ({by})"


def compilers() -> list[str]:
    """Return those of `COMPILERS` that are installed. Raises UsageError if none is."""
    found = [name for name in COMPILERS if shutil.which(name)]
    if not found:
        raise UsageError("--warnings: neither gcc nor clang is installed; install one of them")
    return found


def warnings(
    tree: Tree, variants: Iterable[Mapping[str, str]], before: Tree | None = None
) -> list[Remark]:
    """Return what the installed compilers say of a tree's mediator, in all of some variants.

    With the tree from before a change, only of lines that are new or changed; without, of all that
    lies in ffa*.c and ffa*.h.

    Raises BuildError, ConfigError and CoverageError.
    """
    changed = changed_lines(before.root, tree.root) if before else None
    said: dict[tuple[str, int, str], list[tuple[str, str]]] = {}
    for settings in variants:
        for cc in compilers():
            for file, line, text, option in _ask(tree, nearest(tree, settings), cc):
                if line in changed.get(file, ()) if changed is not None else _is_mediator(file):
                    said.setdefault((file, line, option), []).append((cc, text))
    return [
        Remark(file, line, each[0][1], option, tuple(dict.fromkeys(cc for cc, _ in each)))
        for (file, line, option), each in sorted(said.items())
    ]


def _is_mediator(file: str) -> bool:
    return re.search(r"(^|/)arch/arm/tee/ffa[^/]*\.[ch]$", file) is not None


def _ask(tree: Tree, settings: Mapping[str, str], cc: str) -> Iterator[tuple[str, int, str, str]]:
    """Yield file, line, text and option of each warning of a compiler."""
    build = loader.build_py()
    values = {**loader.DEFAULTS, **settings}
    recipe = build.Recipe(tree.xen, kconfig.configure(tree.xen, values, cc=cc).autoconf, cc)
    with tempfile.TemporaryDirectory(prefix="ffashim-") as directory:
        for source, said in build.remarks(recipe, Path(directory), (*OPTIMISED, *known(cc))):
            for file, line, text, option in _WARNING.findall(said):
                path = Path(file) if Path(file).is_absolute() else source.parent / file
                if path.resolve().is_relative_to(tree.root.resolve()):
                    name = path.resolve().relative_to(tree.root.resolve()).as_posix()
                    yield name, int(line), text, option


@functools.cache
def known(cc: str) -> Sequence[str]:
    """Return those of `OPTIONS` that a compiler knows."""
    said = loader.build_py().answer(
        [*shlex.split(cc), *OPTIONS, "-fsyntax-only", "-xc", "/dev/null"]
    )
    unknown = set(_UNKNOWN.findall(said))
    return [option for option in OPTIONS if option not in unknown]
