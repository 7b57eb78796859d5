# SPDX-License-Identifier: GPL-2.0-only
"""``--sanitize``: what can be built into an extension beyond what every run looks for.

A sanitizer is a name, what to tell the compiler, and a part of the machine that the compiler's
checks report to. None of them needs the compiler's own runtime, nor to be preloaded: a build with
one is a build like any other, and what it finds ends the call as the machine's other faults do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ffashim.errors import UsageError

SHADOW = 1 << 44
"""Where the address sanitizer's shadow starts: clear of programs, libraries and their heaps, on
x86-64 and AArch64. One byte there stands for eight."""


@dataclass(frozen=True)
class Sanitizer:
    """One name that ``--sanitize`` knows."""

    name: str
    macro: str
    """Defined, as 1, in all of our own C: it chooses the part of the machine that goes with it."""
    flags: tuple[tuple[str, ...], ...]
    """For the tree's files, and for the machine in terms of its headers: the first of these sets
    that the compiler takes."""
    defines: tuple[str, ...] = ()
    """Further ones for all of our own C."""


# What the optimiser drops, nobody checks, and what it merges is of no line.
_NOT_OPTIMISED = ("-O0",)
# ThreadSanitizer's calls of an access before it is made, for each, and nothing else that it can do.
_ANNOUNCED = (
    (
        "-fsanitize=thread",
        *("-mllvm", "-tsan-instrument-read-before-write=1"),
        *("-mllvm", "-tsan-instrument-func-entry-exit=0"),
    ),
    ("-fsanitize=thread", *("--param", "tsan-instrument-func-entry-exit=0")),
)

SANITIZERS = {
    each.name: each
    for each in (
        # The kernel's kind calls what we provide and brings no runtime along: Python keeps its own
        # malloc(), and compilers and other children are not concerned.
        Sanitizer(
            "address",
            "FFASHIM_SANITIZE_ADDRESS",
            (
                (
                    *_NOT_OPTIMISED,
                    "-fsanitize=kernel-address",
                    "-fsanitize-address-use-after-scope",
                    f"-fasan-shadow-offset={SHADOW}",
                    *("--param", "asan-stack=1", "--param", "asan-globals=1"),
                    *("--param", "asan-instrumentation-with-call-threshold=0"),
                ),
                (
                    *_NOT_OPTIMISED,
                    "-fsanitize=kernel-address",
                    *("-mllvm", f"-asan-mapping-offset={SHADOW}"),
                    *("-mllvm", "-asan-stack=1", "-mllvm", "-asan-globals=1"),
                    *("-Xclang", "-fsanitize-address-use-after-scope"),
                    *("-mllvm", "-asan-instrumentation-with-call-threshold=0"),
                ),
            ),
            (f"-DFFASHIM_SHADOW={SHADOW}UL",),
        ),
        Sanitizer(
            "undefined",
            "FFASHIM_SANITIZE_UNDEFINED",
            ((*_NOT_OPTIMISED, "-fsanitize=undefined", "-fno-sanitize=vptr"),),
        ),
        # Optimised as Xen is, and not at all: what the compiler makes of a read counts.
        *(
            Sanitizer(
                f"double-fetch{suffix}",
                "FFASHIM_SANITIZE_FETCH",
                tuple((level, *flags) for flags in _ANNOUNCED),
            )
            for suffix, level in (("", "-O2"), ("-O0", "-O0"))
        ),
    )
}
"""By name. A new one is an entry here and a file in stubs/host."""


@dataclass(frozen=True)
class Suppression:
    """What is not looked for in a file of the tree."""

    file: str
    """Below ``xen/``."""
    check: str
    """A name that the compilers know after ``-fno-sanitize=``."""
    why: str
    """Why what is said there is no mistake of Xen's, on any tree."""


SUPPRESSIONS: tuple[Suppression, ...] = ()
"""Empty: nothing that was said of a real tree was a false alarm. See docs/sanitizers.md."""


def suppressed(file: str) -> tuple[str, ...]:
    """Return the compiler's options for a file of the tree, named below ``xen/``."""
    return tuple(f"-fno-sanitize={each.check}" for each in SUPPRESSIONS if each.file == file)


def parse(names: str | None) -> tuple[str, ...]:
    """Return the sanitizers that a comma list names, each once and in the table's order.

    Raises UsageError.
    """
    asked = [name.strip() for name in (names or "").split(",") if name.strip()]
    for name in asked:
        if name not in SANITIZERS:
            raise UsageError(
                f"--sanitize {names}: there is no {name!r}; there are {', '.join(SANITIZERS)}"
            )
    if names is not None and not asked:
        raise UsageError(f"--sanitize: name one or more of {', '.join(SANITIZERS)}")
    alone = [name for name in ordered(asked) if name.startswith("double-fetch")]
    if alone and len(set(asked)) > 1:
        raise UsageError(
            f"--sanitize {names}: {alone[0]} goes with no other sanitizer; run them one by one"
        )
    return ordered(asked)


def ordered(names: Sequence[str]) -> tuple[str, ...]:
    """Return each name once, in the table's order: the same build however it is asked for."""
    return tuple(name for name in SANITIZERS if name in names)
