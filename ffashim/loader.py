# SPDX-License-Identifier: GPL-2.0-only
"""Extensions: built once for each content, found again in the cache, loaded into the interpreter.

A build is remembered under what was asked for (tree, settings, compiler, flags, our own sources),
with the state of every file that it read. While none of those has changed it is used again; a
directory that somebody is editing is therefore rebuilt when, and only when, it matters.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import importlib.machinery
import importlib.util
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import cffi

from ffashim import kconfig, paths, sanitizers, stamps
from ffashim.errors import BuildError, CacheError, UsageError
from ffashim.objects import Objects
from ffashim.source import Tree, hash_files

DEFAULTS: Mapping[str, str] = {"DEBUG": "y"}
"""Settings where none are given: assertions are half of what a test can see."""

Progress = Callable[[str], None]

_DECIDING = (__file__, kconfig.__file__, sanitizers.__file__)
"""Our own modules on which it depends what comes of a tree, beside build.py."""
_WORK = "work-"
"""How the name of a directory starts in which something is built."""
_FAILED = "failed"
"""A file in those that are kept, so that the command in the error can be repeated."""
_KEPT = 8
"""How many of them, and how many former extensions of a tree that is being edited: another
process may be about to load one."""


@dataclass(frozen=True)
class Extension:
    """One tree, compiled in one configuration."""

    path: Path
    """The shared object, in the cache."""
    record: Mapping[str, Any]
    """What it was made of: tree, configuration, compiler, and the hash of each file compiled."""

    def load(self) -> ModuleType:
        """Load it; the same module each time."""
        return _load(self.path)

    @property
    def notes(self) -> Path:
        """Where the compiler's notes for gcov lie, of a build that counts what is executed."""
        return _notes(self.path)

    def enabled(self, symbol: str) -> bool:
        """Tell whether a Kconfig symbol, without CONFIG_, is set."""
        return bool(self.record["config"].get(symbol) == "y")

    def describe(self) -> str:
        """Return one line for people: the tree and what is special about the configuration."""
        config = self.record["config"]
        shown = [
            f"{name}={config.get(name, 'n')}"
            for name in ("FFA_VM_TO_VM", "DEBUG")
            if name in self.record["symbols"]
        ]
        shown[len(shown) :] = [f"sanitize={','.join(names)}"] if (names := self.sanitize) else []
        return f"{self.record['tree']} [{' '.join(shown)}, {self.record['cc']}]"

    @property
    def sanitize(self) -> tuple[str, ...]:
        """The names of the sanitizers that are built in."""
        return tuple(self.record.get("sanitize", ()))


@dataclass(frozen=True)
class _Asked:
    """What of a build is chosen, beside the tree."""

    settings: Mapping[str, str]
    cc: str
    flags: tuple[str, ...] = ()
    coverage: bool = False
    sanitize: tuple[str, ...] = ()


def build(
    tree: Tree,
    settings: Mapping[str, str] | None = None,
    *,
    cc: str = "cc",
    flags: Sequence[str] = (),
    coverage: bool = False,
    sanitize: Sequence[str] = (),
    progress: Progress | None = None,
) -> Extension:
    """Build the tree's mediator, or find what was built before.

    settings: Kconfig symbols, without CONFIG_, to values as in .config, on top of DEFAULTS.
    cc: the compiler's command. flags: further ones for compiler and linker.
    coverage: count what is executed of the tree's files; see `ffashim.coverage`.
    sanitize: names of `ffashim.sanitizers.SANITIZERS`.

    Raises BuildError, ConfigError, CacheError or UsageError. Safe to call from many processes at
    once.
    """
    if coverage and sanitize:
        raise UsageError("--coverage and --sanitize are builds of their own: ask for one of them")
    asked = _Asked(
        {**DEFAULTS, **(settings or {})},
        cc,
        tuple(flags),
        coverage,
        sanitizers.ordered(sanitize),
    )
    key = _key(tree, asked)
    directory = paths.cache_dir() / "builds" / key
    if found := _find(directory, tree):
        return found
    with _cache_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with _locked(directory) as got:
            assert got
            if found := _find(directory, tree):
                return found
            _sweep(directory)
            return _build(tree, asked, directory, progress)


def reads(name: str) -> bool:
    """Tell whether a build may read a file of a tree, named relative to its top."""
    found: bool = name.startswith("xen/") and build_py().reads(name.removeprefix("xen/"))
    return found


def build_apart(
    tree: Tree, settings: Mapping[str, str] | None, work: Path, *, cc: str = "cc"
) -> tuple[Extension, Any]:
    """Build in an empty directory of the caller's, past the cache. Return also the `Built` of
    build.py, whose steps can be taken again.

    Raises as `build` does.
    """
    _identity(cc)
    built, record = _make(tree, _Asked({**DEFAULTS, **(settings or {})}, cc), work, None)
    return Extension(built.extension, _record(tree, record)), built


# --- what was asked for --------------------------------------------------------------------------


def _key(tree: Tree, asked: _Asked) -> str:
    parts = [
        os.path.realpath(tree.xen),
        [patch.sha256 for patch in tree.patches],
        sorted(asked.settings.items()),
        _identity(asked.cc),
        list(asked.flags),
        asked.coverage,
        list(asked.sanitize),
        _ourselves(),
        [sys.implementation.cache_tag, platform.machine(), cffi.__version__],
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def identity(cc: str) -> list[Any]:
    """Return what changes when a compiler does. Raises BuildError if there is no such."""
    return _identity(cc)


def _identity(cc: str) -> list[Any]:
    """Return what changes when the compiler does, without running it."""
    try:
        words = shlex.split(cc)
    except ValueError as error:
        raise BuildError(f"--cc {cc}: not a command: {error}") from error
    if not words or shutil.which(words[0]) is None:
        there = bool(words) and "/" in words[0] and Path(words[0]).exists()
        raise BuildError(
            (f"{words[0]} is not executable" if there else f"there is no C compiler {cc!r}")
            + ".\nInstall one (Debian: apt-get install gcc), or name another with --cc."
        )
    # "ccache gcc" is a command of two programs.
    found = [(path, os.stat(path)) for word in words if (path := shutil.which(word))]
    return [cc, [[os.path.realpath(path), s.st_size, s.st_mtime_ns] for path, s in found]]


@functools.cache
def _ourselves() -> str:
    """Return a hash of our own C, of what compiles it and of what configures it."""
    digest = hashlib.sha256()
    ours = [paths.BUILD_PY, *(Path(each) for each in _DECIDING)]
    for path in (*ours, *sorted(paths.STUBS.rglob("*.[chl]*"))):
        if path.is_file():
            digest.update(path.name.encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


# --- the cache -----------------------------------------------------------------------------------


@contextlib.contextmanager
def _cache_errors(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CacheError(
            f"the cache {directory} cannot be used: {error}\n"
            "Make it writable, or set FFASHIM_CACHE to another directory."
        ) from error


@contextlib.contextmanager
def _locked(directory: Path, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of a build, which the death of its holder releases.

    Yields False if it is not to be waited for and somebody has it.
    """
    with (directory / "lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if error.errno != errno.EWOULDBLOCK:
                raise
            yield False
        else:
            yield True


def _sweep(ours: Path) -> None:
    """Clear away what killed builds have left, and all but the last that failed.

    `ours` is the directory whose lock is held.
    """
    failed = []
    for work in ours.parent.glob(f"*/{_WORK}*"):
        same = work.parent == ours
        with contextlib.nullcontext(True) if same else _locked(work.parent, wait=False) as idle:
            if not idle:
                continue
            if not same and (work / _FAILED).exists():
                failed.append(work)
            else:
                shutil.rmtree(work, ignore_errors=True)
    for work in _surplus(failed):
        shutil.rmtree(work, ignore_errors=True)


def _surplus(paths: Iterable[Path]) -> list[Path]:
    """Return all but the youngest that are kept."""

    def age(path: Path) -> float:
        with contextlib.suppress(OSError):
            return -path.stat().st_mtime
        return 0.0

    return sorted(paths, key=age)[_KEPT - 1 :]


def _find(directory: Path, tree: Tree) -> Extension | None:
    """Return what lies in the cache, unless it is damaged or no longer true."""
    try:
        digest, text = (directory / "manifest").read_text().split("\n", 1)
        if hashlib.sha256(text.encode()).hexdigest() != digest:
            return None
        manifest = json.loads(text)
        extension = directory / manifest["extension"]
        if stamps.sha256(extension) != manifest["sha256"]:
            return None
        if manifest["counted"] != _names(_notes(extension)):
            return None
        if not stamps.hold(manifest["inputs"]):
            return None
        with contextlib.suppress(OSError):  # a cache that can only be read is of use too
            os.utime(directory / "manifest")  # `ffashim.cache` looks
        return Extension(extension, _record(tree, manifest["record"]))
    except (OSError, ValueError):
        return None


def _notes(extension: Path) -> Path:
    return extension.with_suffix(".gcno")


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("*"))


def _build(tree: Tree, asked: _Asked, directory: Path, progress: Progress | None) -> Extension:
    started = time.time_ns()
    with _work(directory) as work:
        built, record = _make(tree, asked, work, progress)
        defconfig = tree.xen / "arch/arm/configs/arm64_defconfig"
        inputs = {*built.dependencies, *tree.xen.rglob("Kconfig*"), defconfig}
        extension = directory / built.extension.name
        manifest = {
            "extension": extension.name,
            "sha256": stamps.sha256(built.extension),
            "counted": [path.name for path in built.counted],
            "inputs": stamps.take(inputs, started),
            "record": record,
        }
        for former in _surplus(directory.glob("_ffashim_*.so")):
            former.unlink(missing_ok=True)
            shutil.rmtree(_notes(former), ignore_errors=True)
        if built.counted:
            (work / "counted").mkdir()
            for path in built.counted:
                path.rename(work / "counted" / path.name)
            (work / "counted").rename(_notes(extension))
        os.replace(built.extension, extension)
        text = json.dumps(manifest)
        partial = work / "manifest"
        partial.write_text(f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}")
        os.replace(partial, directory / "manifest")
    return Extension(extension, _record(tree, manifest["record"]))


def _make(
    tree: Tree, asked: _Asked, work: Path, progress: Progress | None
) -> tuple[Any, dict[str, Any]]:
    """Build in an empty directory. Return the `Built` of build.py, and what to remember of it."""
    cc = asked.cc
    configuration = kconfig.configure(tree.xen, asked.settings, cc=cc)
    recipe_module = build_py()
    recipe = recipe_module.Recipe(
        tree.xen, configuration.autoconf, cc, asked.flags, asked.coverage, asked.sanitize,
        _objects(cc), _objects(cc, os.path.realpath(tree.xen)),
    )  # fmt: skip
    # A name of its own for each content: two builds can live in one interpreter.
    name = f"_ffashim_{os.urandom(8).hex()}"
    try:
        built = recipe_module.build(recipe, work, name, progress)
    except FileNotFoundError as error:
        missing = Path(error.filename or work)
        if missing.parent != work or not work.is_dir():
            raise
        raise BuildError(
            f"{cc} is no C compiler: it reported success, but produced no {missing.name}.\n"
            "Name another with --cc."
        ) from error
    return built, {
        "notes": list(built.notes),
        "config": dict(configuration.values),
        "symbols": list(kconfig.variants(tree.xen, cc=cc)),
        "cc": cc,
        "compiler": _version(cc),
        "flags": list(asked.flags),
        "sanitize": list(asked.sanitize),
        "files": {
            each.path: {"sha256": each.sha256, "blob": each.blob}
            for each in hash_files(built.sources, tree.root)
        },
        "constants": built.constants,
        "unmodelled": list(built.unmodelled),
        "trap_path": built.trap_path,
    }


def _objects(cc: str, tree: str = "") -> Objects:
    """Return where objects are remembered: of a tree, or those that are one for all."""
    parts = [_identity(cc), _ourselves(), sys.version, platform.machine(), cffi.__version__, tree]
    name = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
    return Objects(paths.cache_dir() / "objects" / name)


def _record(tree: Tree, built: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add where the tree comes from: that can change while no file that matters does."""
    return {
        "tree": tree.describe().splitlines()[0],
        "origin": tree.origin,
        "version": tree.version,
        "commit": tree.commit,
        "sha256": tree.sha256,
        "patches": [[patch.name, patch.sha256] for patch in tree.patches],
        **built,
        "notes": [*tree.search, *tree.notes, *built["notes"]],
    }


@contextlib.contextmanager
def _work(directory: Path) -> Iterator[Path]:
    """Give an empty directory, which goes again unless an error for people speaks of it."""
    work = Path(tempfile.mkdtemp(dir=directory, prefix=_WORK))
    try:
        yield work
    except BuildError as error:
        if str(work) in str(error):
            (work / _FAILED).touch()
        raise
    finally:
        if not (work / _FAILED).exists():
            shutil.rmtree(work, ignore_errors=True)


def _version(cc: str) -> str:
    done = subprocess.run([*shlex.split(cc), "--version"], capture_output=True)
    return done.stdout.decode(errors="replace").partition("\n")[0]


# --- loading -------------------------------------------------------------------------------------


@functools.cache
def build_py() -> ModuleType:
    """Return build.py, which belongs to no package, as a module."""
    spec = importlib.util.spec_from_file_location("ffashim_build", paths.BUILD_PY)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@functools.cache
def _load(path: Path) -> ModuleType:
    # The last part is what the extension calls itself.
    name = f"{path.stem}.{build_py().MODULE}"
    loader = importlib.machinery.ExtensionFileLoader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module
