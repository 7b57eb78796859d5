# SPDX-License-Identifier: GPL-2.0-only
"""Compile one Xen tree, in one configuration, into a Python extension.

Three kinds of C go into it, compiled apart because their headers do not mix:

* ``xen``: the tree's own FF-A mediator, unmodified, and what portable C of the tree it calls;
* ``machine``: ``stubs/xen``, the machine in terms of the tree's headers;
* ``host``: ``stubs/host``, the machine in terms of libc, and cffi's glue (API mode), whose
  interface is ``stubs/host/ffashim.h``.

Nothing here knows a version of Xen. What differs between trees is probed (:data:`PROBES`), what the
mediator calls is looked for in the tree's library, and what is found nowhere becomes a function, or
a variable, that ends the call which reaches it and says its own name.

``python build.py DIR`` builds the tree in DIR and prints where the extension lies.
"""

from __future__ import annotations

import os
import re
import shlex
import struct
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import cffi
from cffi.recompiler import make_c_source

from ffashim import stamps
from ffashim.errors import BuildError
from ffashim.objects import Objects
from ffashim.sanitizers import SANITIZERS, Sanitizer, suppressed

STUBS = Path(__file__).resolve().parent / "stubs"

MODULE = "_ffashim"
"""What the extension calls itself, whatever its file is called: so cffi's glue is one for all."""

OPTIMISE = ("-O2", "-g", "-fno-omit-frame-pointer")
COMMON = ("-fPIC", "-fvisibility=hidden", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=0")
WARN = ("-Wall", "-Wextra")
HOST = ("-std=gnu11",)
# Of the tree's files, for --coverage. Not optimised, so that each line and branch is there as it
# was written. A section of its own keeps each counter apart from what a reset brings back.
COVERAGE = ("-O0", "--coverage", "-fdata-sections")

# Xen's own dialect (xen/Makefile, arch/arm/arch.mk), and the host's identity taken back. `char` is
# unsigned on Arm; both are LP64 and little-endian.
XEN = (
    "-nostdinc",
    "-std=gnu99",
    "-ffreestanding",
    "-fno-builtin",
    "-fno-common",
    "-funsigned-char",
    "-fno-strict-aliasing",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    *(f"-U{macro}" for macro in ("__x86_64__", "__amd64__", "__i386__", "__linux__", "linux")),
    *(f"-U{macro}" for macro in ("__linux", "__unix__", "__unix", "unix", "__gnu_linux__")),
    "-D__aarch64__",
    "-D__XEN__",
    # Makes map_domain_page_global() a function, so that mappings can be guarded and counted.
    "-DCONFIG_ARCH_MAP_DOMAIN_PAGE=1",
    "-include",
    "xen/config.h",
    "-include",
    "ffashim/observe.h",
)
# What Xen's own build, with -Wall -Werror, refuses in a patch. Every gcc and clang knows the names
# and gives them one meaning; what depends on the optimiser, and so on our headers, is not among
# them, nor what a later compiler finds in trees that are older than itself.
XEN_REFUSED = (
    "-Wuninitialized",
    *(
        f"-Werror={name}"
        for name in (
            "implicit",
            "return-type",
            "incompatible-pointer-types",
            "int-conversion",
            "int-to-pointer-cast",
            "pointer-to-int-cast",
            "pointer-sign",
            "format",
            "nonnull",
            "strict-prototypes",
            "declaration-after-statement",
            "vla",
            "parentheses",
            "switch",
            "char-subscripts",
            "comment",
            "overflow",
            "shift-count-negative",
            "shift-count-overflow",
            "div-by-zero",
            "unused-function",
            "unused-label",
            "unused-value",
            "unused-variable",
        )
    ),
)
# The same with names that one of them does not know or that would bring others along, and those
# warnings of gcc's that have none, min() of two types among them. They are read off what the
# compiler says.
XEN_REFUSED_TOO = re.compile(
    r"^.*: warning: (?:(?!.*\[-W)|.*\[-W(?:uninitialized|discarded-qualifiers"
    r"|compare-distinct-pointer-types|excess-initializers|macro-redefined)\]$)",
    re.M,
)
# For what is compiled to find out something only.
XEN_QUIET = ("-w",)
# What Xen's headers do under -Wextra, and the parameters that its interfaces prescribe.
MACHINE_QUIET = ("-Wno-unused-parameter", "-Wno-sign-compare", "-Wno-missing-field-initializers")

ENUMS = "include/ffashim/enums.h"

MEDIATOR = "arch/arm/tee"
NOT_MEDIATOR = {"optee.o"}
"""It shares the directory and stands on parts of Xen that no machine here has."""
GENERIC = "arch/arm/include/asm/Makefile"
"""Lists the headers for which the architecture takes the generic ones."""
TRAP_PATH = "arch/arm/vsmc.c"
"""Without it calls go straight to tee_handle_call()."""
LIBRARY = ("lib", "arch/arm/arm64/lib", "common/bitmap.c", "common/vsprintf.c")
"""Where the tree's portable C lies that stands in for a symbol which is still missing."""
UNPORTABLE = re.compile(r"arm64/lib/bitops\.c$")

PROBES = {
    "FFASHIM_DOMAIN_TYPE(d)": (
        ("(d)->type", "#include <xen/sched.h>\nint f(struct domain *d) { return d->type; }"),
        (
            "(d)->arch.type",
            "#include <xen/sched.h>\nint f(struct domain *d) { return d->arch.type; }",
        ),
    ),
}
"""Macro for stubs/xen to its meanings: the first whose snippet compiles is taken."""

MOST_LINES = 60
"""Of a compiler's words that an error repeats: one mistake in a header is told by every file."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Recipe:
    """All that decides what an extension is, but for the content of the files."""

    xen: Path
    """The tree's ``xen/`` directory."""
    autoconf: str
    """The text of ``generated/autoconf.h``."""
    cc: str = "cc"
    flags: tuple[str, ...] = ()
    """Further flags for every file and for the link."""
    coverage: bool = False
    """Count what is executed of the tree's files."""
    sanitize: tuple[str, ...] = ()
    """Names of `SANITIZERS` to compile the tree's files with."""
    objects: Objects | None = None
    """Where what is the same for every tree is remembered, compiled by the same compiler."""
    of_tree: Objects | None = None
    """Where the objects of this tree are."""


@dataclass(frozen=True)
class Step:
    """A file to be compiled, or objects to be linked."""

    command: tuple[str, ...]
    inputs: tuple[Path, ...]
    """The one source, or the objects, as the command names them."""
    target: Path
    failure: str
    """What to say if it fails."""
    refused: re.Pattern[str] | None = None
    """What the compiler may not say, though it is content itself."""

    def run(self) -> str:
        """Run the command, and return what the compiler said. Raises BuildError."""
        done = _capture(self.command)
        if done.returncode or (self.refused and self.refused.search(done.stderr)):
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()
            raise BuildError("\n".join([f"{self.failure}:", *self._told(said)]))
        return done.stderr.strip()

    def _told(self, said: list[str]) -> list[str]:
        """Return what people read of a failure, which ends in what is wrong and where all is."""
        log = self.target.with_suffix(".log")
        command = ("The command was:", f"    {shlex.join(self.command)}")
        log.write_text("\n".join([*said, *command]) + "\n", encoding="utf-8")
        wrong = [line for line in said if "error:" in line]
        wrong += [line for line in said if self.refused and self.refused.search(line)]
        shown = said[:MOST_LINES]
        if len(said) > MOST_LINES:
            shown.append(f"... and {len(said) - MOST_LINES} more lines")
        ends = [f"It fails of {wrong[0]}"] if wrong and len(said) > 1 else []
        return [*shown, *ends, f"All that was said, and the command, is in {log}"]


@dataclass(frozen=True)
class Built:
    """What came of it."""

    extension: Path
    sources: tuple[Path, ...]
    """Files of the tree that were compiled."""
    dependencies: tuple[Path, ...]
    """Every file that decided what was built, of the tree and of ours; and the directories in
    which a file that is still missing would be looked for."""
    unmodelled: tuple[str, ...]
    """Functions and variables that the mediator uses and that nothing provides: a call that reaches
    one ends."""
    trap_path: bool
    """The tree's vsmc.c is part of it."""
    constants: dict[str, int]
    """Every FFA_ macro of the mediator that is a number, such as its function IDs."""
    notes: tuple[str, ...] = field(default=())
    counted: tuple[Path, ...] = field(default=())
    """What the compiler notes for gcov of each file that is counted."""
    steps: tuple[Step, ...] = field(default=())
    """How it came about, so that a part can be done again: an object each, the link at the end."""


def build(recipe: Recipe, work: Path, name: str, progress: Progress | None = None) -> Built:
    """Build the extension, a file called ``name``, in the empty directory ``work``.

    Raises BuildError, with the compiler's own words, the file and the command to repeat it.
    """
    return _Build(recipe, work, name, progress or (lambda line: None)).run()


class _Build:
    def __init__(self, recipe: Recipe, work: Path, name: str, progress: Progress) -> None:
        self.recipe, self.work, self.name, self.progress = recipe, work, name, progress
        self.cc = shlex.split(recipe.cc)
        sanitizers = [SANITIZERS[name] for name in recipe.sanitize]
        self.flags = (
            *recipe.flags,
            *(["-DFFASHIM_COVERAGE"] if recipe.coverage else []),
            *(word for each in sanitizers for word in (f"-D{each.macro}", *each.defines)),
        )
        self.checks = tuple(word for each in sanitizers for word in self._checks(each))
        self.xen_include = xen_include(recipe.xen, work / "include")
        self.notes: list[str] = []
        self.of_tree = recipe.of_tree
        self._steps: dict[Path, Step] = {}
        self._looked_at: set[Path] = set()

    def run(self) -> Built:
        generate(self.recipe, self.work / "include")
        if self.of_tree is not None:
            self.of_tree = self.of_tree.among(self.work / "include")
        mediator, makefiles = listed(self.recipe)
        self._looked_at.update([*makefiles, self.recipe.xen / GENERIC])
        machine = sorted((STUBS / "xen").glob("*.c"))
        host = sorted((STUBS / "host").glob("*.c"))
        self.progress(f"compiling {len(mediator)} files of the tree")
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            constants = pool.submit(self._constants, mediator[0])
            trap_path = self.recipe.xen / TRAP_PATH
            trapped = trap_path.exists()
            sources = list(pool.map(self._xen, [*mediator, *[trap_path] * trapped]))
            defines = self._probe(pool)
            ours = list(pool.map(lambda path: self._machine(path, defines), machine))
            ours += pool.map(self._host, [*host, self._glue()])
            sources += self._library(pool, [*sources, *ours])
        unmodelled = sorted(_undefined([*sources, *ours]) - _PROVIDED)
        if unmodelled:
            # Somebody may write them next.
            for path in self._library_files():
                self._looked_at |= {path, path.parent}
            variables = self._variables(set(unmodelled), [*sources, *ours])
            ours.append(self._machine(self._traps(unmodelled, variables), []))
        linked = self._link([*sources, *ours])
        return Built(
            extension=linked.target,
            sources=tuple(self._steps[path].inputs[0] for path in sources),
            dependencies=tuple(sorted({*self._dependencies(), *self._looked_at})),
            unmodelled=tuple(unmodelled),
            trap_path=trapped,
            constants=constants.result(),
            notes=tuple(self.notes),
            counted=tuple(sorted(self.work.glob("*.gcno"))),
            steps=(*self._steps.values(), linked),
        )

    # --- what is generated ---------------------------------------------------------------------

    def _glue(self) -> Path:
        """Have cffi write the C that makes the interface a Python module."""
        ffi = cffi.FFI()
        for header in (STUBS / ENUMS, STUBS / "host/ffashim.h"):
            ffi.cdef(_declarations(header.read_text()))
        ffi.cdef(
            'extern "Python" int ffashim_python_smc(uint32_t, uint64_t *);'
            'extern "Python" int ffashim_python_point(uint32_t, uint32_t, uint64_t);'
            "void ffashim_connect(void);"
        )
        preamble = (
            '#include "internal.h"\n'
            "static int ffashim_python_smc(uint32_t, uint64_t *);\n"
            "static int ffashim_python_point(uint32_t, uint32_t, uint64_t);\n"
            "static void ffashim_connect(void)\n{\n"
            "    python_smc = ffashim_python_smc;\n"
            "    python_point = ffashim_python_point;\n}\n"
        )
        path = self.work / "glue.c"
        make_c_source(ffi, MODULE, preamble, str(path), verbose=False)
        return path

    def _traps(self, names: Iterable[str], variables: set[str]) -> Path:
        """Write what stands for each missing symbol, and ends the call which reaches it."""
        body = "".join(
            f"void {name}(void);\nvoid {name}(void)\n{{\n"
            "    host_fault(FFASHIM_UNMODELLED, NULL, 0,\n"
            f'               "{name}() is called, which this machine lacks");\n}}\n'
            for name in names
            if name not in variables
        )
        # A page each that faults. A header may declare the name with its own type.
        for n, name in enumerate(sorted(variables)):
            body += (
                f'unsigned char absent_{n}[HOST_PAGE_SIZE] __asm__("{name}")\n'
                '    __attribute__((__section__(".ffashim.absent"),'
                " __aligned__(HOST_PAGE_SIZE)));\n"
            )
        body += "const struct host_absent host_absent[] = {\n"
        for n, name in enumerate(sorted(variables)):
            body += f'    {{ absent_{n}, "{name}" }},\n'
        body += "    { NULL, NULL },\n};\n"
        path = self.work / "unmodelled.c"
        path.write_text(f"#include <xen/types.h>\n#include <ffashim/host.h>\n{body}")
        return path

    def _variables(self, names: set[str], objects: Iterable[Path]) -> set[str]:
        """Return those of the missing symbols that are no functions."""
        called: set[str] = set()
        users: dict[str, Path] = {}
        for path in objects:
            needed, calls = _relocations(path, names)
            called |= calls
            users.update(dict.fromkeys(needed, self._steps[path].inputs[0]))
        # What is never called has its address taken, or is a variable: its declaration tells.
        return {
            name
            for name, source in users.items()
            if name not in called and not self._is_function(name, source)
        }

    def _is_function(self, name: str, source: Path) -> bool:
        # Only a function is still itself when it is dereferenced.
        same = f"__builtin_types_compatible_p(typeof(*({name})), typeof({name}))"
        stubs = ["-DFFASHIM_STUBS"] if STUBS in source.parents else []
        return self._accepts(
            f"typedef char same[{same} ? 1 : -1];", *stubs, "-include", str(source)
        )

    # --- compiling -----------------------------------------------------------------------------

    def _checks(self, sanitizer: Sanitizer) -> tuple[str, ...]:
        """Return what the compiler takes of a sanitizer's options."""
        command = [*self.cc, "-Werror", "-fsyntax-only", "-x", "c", os.devnull]
        said = ""
        for flags in sanitizer.flags:
            done = _capture([*command, *flags])
            if done.returncode == 0:
                return flags
            said = said or done.stderr.strip()
        raise BuildError(
            f"--sanitize={sanitizer.name}: {self.recipe.cc} has nothing for it; gcc from 12 on and "
            f"clang from 14 on have, see --cc.\n{said}"
        )

    def _xen(self, source: Path) -> Path:
        relative = source.relative_to(self.recipe.xen)
        counted = COVERAGE if self.recipe.coverage else ()
        checks = (*self.checks, *suppressed(relative.as_posix())) if self.checks else ()
        flags = (*XEN, *XEN_REFUSED, *self.xen_include, *checks, *counted)
        stem = "ffashim-xen-" + "-".join(relative.with_suffix("").parts)
        # What the compiler notes for gcov is not kept.
        objects = None if counted else self.of_tree
        return self._compile(source, stem, *flags, refused=XEN_REFUSED_TOO, objects=objects)

    def _machine(self, source: Path, defines: Sequence[str]) -> Path:
        flags = (*XEN, "-DFFASHIM_STUBS", *defines, *WARN, *MACHINE_QUIET, *self.xen_include)
        stem = f"ffashim-xen-machine-{source.stem}"
        return self._compile(source, stem, *flags, *self.checks, objects=self.of_tree)

    def _host(self, source: Path) -> Path:
        own = STUBS in source.parents
        include = [f"-I{STUBS / 'include'}", f"-I{STUBS / 'host'}"]
        python = ("-isystem", _python_headers())
        flags = (*HOST, *(WARN if own else ()), *include, *python)
        return self._compile(source, f"host_{source.stem}", *flags, objects=self.recipe.objects)

    def _compile(
        self,
        source: Path,
        stem: str,
        *flags: str,
        refused: re.Pattern[str] | None = None,
        objects: Objects | None = None,
    ) -> Path:
        target = self.work / f"{stem}.o"
        command = (
            *self.cc,
            *OPTIMISE,
            *COMMON,
            *flags,
            *self.flags,
            *("-MD", "-MT", "o", "-MF", str(target.with_suffix(".d"))),
            "-c",
            str(source),
            "-o",
            str(target),
        )
        failure = f"{source} does not compile"
        step = Step(command, (source,), target, failure, refused)
        self._steps[target] = step
        self._note(objects.compile(command, source, target, step.run) if objects else step.run())
        return target

    def _try(self, compile_one: Callable[[Path], Path], source: Path) -> Path | None:
        try:
            return compile_one(source) if source.exists() else None
        except BuildError:
            self.notes.append(f"{source} does not compile here and is left out")
            self._looked_at.add(source)
            return None

    def _probe(self, pool: ThreadPoolExecutor) -> list[str]:
        """Find out what the tree's headers offer."""

        def choose(item: tuple[str, tuple[tuple[str, str], ...]]) -> str:
            macro, meanings = item
            for meaning, snippet in meanings:
                if self._accepts(snippet, "-DFFASHIM_STUBS"):
                    return f"-D{macro}={meaning}"
            raise BuildError(
                f"{self.recipe.xen}: none of the known meanings of {macro} compiles with this "
                "tree's headers.\nIf the tree builds for Arm, this is a limit of ffashim: see "
                "PROBES in build.py."
            )

        return list(pool.map(choose, PROBES.items()))

    def _accepts(self, snippet: str, *flags: str) -> bool:
        command = [*self.cc, *XEN, *flags, *XEN_QUIET, *self.xen_include]
        done = subprocess.run(
            [*command, "-fsyntax-only", "-x", "c", "-"],
            input=snippet.encode(),
            capture_output=True,
        )
        return done.returncode == 0

    def _constants(self, source: Path) -> dict[str, int]:
        """Have the compiler evaluate the mediator's macros, and read them out of the object."""
        command = [*self.cc, *XEN, *XEN_QUIET, *self.xen_include]
        macros = _capture([*command, "-E", "-dM", str(source)]).stdout
        names = sorted(set(re.findall(r"^#define (FFA_\w+) \S", macros, re.M)))
        table, target = self.work / "constants.c", self.work / "constants.o"
        while names:
            # A line each, so that an error tells which macro is no number.
            rows = "".join(f"(unsigned long)({name}),\n" for name in names)
            table.write_text(
                f'#line 1 "constants"\nconst unsigned long ffashim_constants[] = {{\n{rows}}};\n'
            )
            done = _capture(
                [*command, *COMMON, "-include", str(source), "-c", str(table), "-o", str(target)]
            )
            if done.returncode == 0:
                return dict(zip(names, _words(target, "ffashim_constants"), strict=True))
            bad = {int(line) - 2 for line in re.findall(r"^constants:(\d+):", done.stderr, re.M)}
            kept = [name for n, name in enumerate(names) if n not in bad]
            if len(kept) == len(names):
                break
            names = kept
        self.notes.append("the mediator's constants could not be read")
        return {}

    def _library(self, pool: ThreadPoolExecutor, objects: list[Path]) -> list[Path]:
        """Compile the tree's library files that define a missing symbol, and what they need."""
        candidates = list(self._library_files())
        added: list[Path] = []
        while missing := _undefined([*objects, *added]) - _PROVIDED:
            wanted = re.compile(
                rf"^(?!\s|static).*\b({'|'.join(map(re.escape, missing))})[(\[]", re.M
            )
            chosen = [path for path in candidates if wanted.search(_text(path))]
            candidates = [path for path in candidates if path not in chosen]
            if not chosen:
                break
            compiled = pool.map(lambda path: self._try(self._xen, path), chosen)
            added += [path for path in compiled if path]
        return added

    def _library_files(self) -> Iterator[Path]:
        for entry in LIBRARY:
            path = self.recipe.xen / entry
            for source in sorted(path.glob("*.c")) if path.is_dir() else [path]:
                if source.exists() and not UNPORTABLE.search(source.as_posix()):
                    yield source

    def _link(self, objects: Sequence[Path]) -> Step:
        target = self.work / f"{self.name}.so"
        command = (
            *self.cc,
            "-shared",
            "-Wl,-Bsymbolic",
            *("-T", str(STUBS / "link.ld")),
            f"-Wl,--defsym=ffashim_cpus={_cpus()}",
            *self.flags,
            # The counters are written when Python asks for it, not when the process ends.
            *(["--coverage", "-Wl,--wrap=__gcov_exit"] if self.recipe.coverage else []),
            *map(str, objects),
            "-o",
            str(target),
        )
        step = Step(command, tuple(objects), target, "the extension does not link")
        self._note(step.run())
        return step

    def _note(self, said: str) -> None:
        if said:
            self.notes.append(said)

    def _dependencies(self) -> Iterator[Path]:
        """Read what the compiler read, from its own make rules."""
        seen = set()
        for rules in self.work.glob("*.d"):
            for path in stamps.read_by(rules.read_text()):
                if self.work not in path.parents and path not in seen:
                    seen.add(path)
                    yield path


def remarks(recipe: Recipe, directory: Path, flags: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """Yield each file of the mediator, with what the compiler says of it under further flags.

    What comes of the compilation is thrown away; `directory`, an empty one, is for headers.
    """
    generate(recipe, directory)
    sources, _ = listed(recipe)
    command = [*shlex.split(recipe.cc), *XEN, *flags, *xen_include(recipe.xen, directory)]

    def compile_one(source: Path) -> str:
        return answer([*command, "-c", str(source), "-o", os.devnull])

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        yield from zip(sources, pool.map(compile_one, sources), strict=True)


def answer(command: Sequence[str]) -> str:
    """Return what a compiler says, whether it is content or not. Raises BuildError."""
    return _capture(command).stderr


def listed(recipe: Recipe) -> tuple[list[Path], list[Path]]:
    """Return the files that the tree's Makefile builds for the mediator, and the Makefiles read."""
    enabled = {"y", *re.findall(r"^#define CONFIG_(\w+) 1$", recipe.autoconf, re.M)}
    sources: list[Path] = []
    makefiles = [recipe.xen / MEDIATOR / "Makefile"]
    for makefile in makefiles:  # which grows by those of subdirectories
        for condition, names in re.findall(
            r"^obj-(?:\$\(CONFIG_)?(\w+)\)?[ \t]*[+:]?=(.*)$", _makefile(makefile), re.M
        ):
            if condition not in enabled:
                continue
            for name in names.split():
                if name.endswith("/"):
                    makefiles.append(makefile.parent / name / "Makefile")
                elif name not in NOT_MEDIATOR:
                    sources.append(makefile.parent / re.sub(r"(\.init)?\.o$", ".c", name))
    return sources, makefiles


def reads(name: str) -> bool:
    """Tell whether a build may read a file, named relative to ``xen/``, of a tree that has it."""
    if name.endswith(".c"):
        return name.startswith((f"{MEDIATOR}/", *LIBRARY, TRAP_PATH))
    return (
        name.endswith(".h")
        or name == GENERIC
        or name.startswith((f"{MEDIATOR}/", "arch/arm/configs/", "scripts/"))
        or "/Kconfig" in f"/{name}"
    )


def generate(recipe: Recipe, directory: Path) -> None:
    """Write the headers that Xen's own build generates into a directory."""
    for name in ("generated", "asm", "xen"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    (directory / "generated/autoconf.h").write_text(recipe.autoconf)
    (directory / "asm/asm-offsets.h").touch()
    (directory / "xen/compile.h").touch()
    makefile = recipe.xen / GENERIC
    if not makefile.exists():
        return
    for names in re.findall(r"^generic-y[ \t]*\+=(.*)$", _makefile(makefile), re.M):
        for header in names.split():
            # One that the architecture has goes before the generic one, as in Xen's build.
            if not (makefile.parent / header).exists():
                (directory / "asm" / header).write_text(f"#include <asm-generic/{header}>\n")


def xen_include(xen: Path, generated: Path, overlay: Path = STUBS / "overlay") -> list[str]:
    """Return the options that say where Xen's files find their headers."""
    own = (overlay, STUBS / "include", generated)
    return [f"-I{path}" for path in (*own, xen / "include", xen / "arch/arm/include")]


def _python_headers() -> str:
    path = sysconfig.get_path("include")
    if not (Path(path) / "Python.h").exists():
        raise BuildError(
            f"this Python's C headers are not installed: {path} has no Python.h.\n"
            "Install them (Debian: apt-get install python3-dev; Fedora: python3-devel)."
        )
    return path


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise BuildError(f"{path} cannot be read: {error.strerror}") from error


def _makefile(path: Path) -> str:
    """Return a Makefile without comments, an assignment a line."""
    return re.sub(r"\\\n|#.*", " ", _text(path))


def _capture(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a compiler's command; what it says need not be text."""
    try:
        return subprocess.run(
            command,
            text=True,
            errors="replace",
            capture_output=True,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C"},
        )
    except OSError as error:
        raise BuildError(
            f"the C compiler cannot be run: {command[0]}: {error.strerror}\n"
            "Install one (Debian: apt-get install gcc), or name another with --cc."
        ) from error


# What the linker script, libc and the compiler's own library provide.
_PROVIDED = frozenset(
    {
        "_steemediator",
        "_eteemediator",
        "ffashim_initcalls_start",
        "ffashim_initcalls_end",
        "ffashim_data_start",
        "ffashim_future_start",
        "ffashim_data_end",
        "__per_cpu_start",
        "__per_cpu_data_end",
        "__ehdr_start",
        "_end",
        "_GLOBAL_OFFSET_TABLE_",
    }
)

_COUNTING = "__gcov_"
"""How the names start of what --coverage needs of the compiler's own library."""


def _cpus() -> int:
    """Return how many CPUs the machine has."""
    (found,) = re.findall(r"FFASHIM_CPUS = (\d+)", (STUBS / ENUMS).read_text())
    return int(found)


def _declarations(header: str) -> str:
    """Return what cffi can parse of a header: no comments, no directives."""
    text = re.sub(r"/\*.*?\*/", "", header, flags=re.S)
    return re.sub(r"^#.*$", "", text, flags=re.M)


def _undefined(objects: Iterable[Path]) -> set[str]:
    """Return the symbols that Xen's objects and the machine's need and nobody defines."""
    from elftools.elf.elffile import ELFFile
    from elftools.elf.sections import SymbolTableSection

    defined: set[str] = set()
    needed: set[str] = set()
    for path in objects:
        host = path.name.startswith("host_")
        with path.open("rb") as stream:
            table = ELFFile(stream).get_section_by_name(".symtab")
            assert isinstance(table, SymbolTableSection)
            for symbol in table.iter_symbols():
                binding = symbol["st_info"]["bind"]
                if symbol["st_shndx"] != "SHN_UNDEF":
                    if binding != "STB_LOCAL":
                        defined.add(symbol.name)
                elif binding == "STB_GLOBAL" and not host:
                    needed.add(symbol.name)
    return {name for name in needed - defined if not name.startswith(_COUNTING)}


# Branches to a symbol: R_X86_64_PLT32, R_AARCH64_JUMP26 and CALL26. No other relocation of the two
# architectures has one of these numbers.
_BRANCHES = frozenset({4, 282, 283})


def _relocations(path: Path, names: set[str]) -> tuple[set[str], set[str]]:
    """Return which of some symbols an object refers to, and to which of those it branches."""
    from elftools.elf.elffile import ELFFile

    needed: set[str] = set()
    called: set[str] = set()
    content = path.read_bytes()
    if not any(name.encode() in content for name in names):
        return needed, called
    with path.open("rb") as stream:
        elf = ELFFile(stream)
        table: Any = elf.get_section_by_name(".symtab")
        numbers = {n: each.name for n, each in enumerate(table.iter_symbols())}
        wanted = {n: name for n, name in numbers.items() if name in names}
        for section in elf.iter_sections():
            if not section.name.startswith(".rela") or section.name.startswith(".rela.debug"):
                continue
            for _, info, _ in struct.iter_unpack("<QQq", section.data()):
                if name := wanted.get(info >> 32):
                    needed.add(name)
                    if info & 0xFFFF_FFFF in _BRANCHES:
                        called.add(name)
    return needed, called


def _words(path: Path, name: str) -> list[int]:
    """Return the 64-bit words of an array in an object file."""
    from elftools.elf.elffile import ELFFile

    with path.open("rb") as stream:
        elf = ELFFile(stream)
        table: Any = elf.get_section_by_name(".symtab")
        (symbol,) = table.get_symbol_by_name(name)
        data = elf.get_section(symbol["st_shndx"]).data()
        start, size = symbol["st_value"], symbol["st_size"]
    return list(memoryview(data[start : start + size]).cast("Q"))


def main(argv: Sequence[str]) -> NoReturn:
    """Build the trees named on the command line and print where the extensions lie."""
    from ffashim.cli import main as command

    command(["build", *(word for tree in argv for word in ("--xen", tree))])


if __name__ == "__main__":
    main(sys.argv[1:])
