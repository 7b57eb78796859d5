# SPDX-License-Identifier: GPL-2.0-only
"""Extensions: built once for each content, found again in the cache, loaded into the interpreter.

A build is remembered under what was asked for (tree, settings, compiler, flags, our own sources),
with the state of every file that it read. While none of those has changed it is used again; a
directory that somebody is editing is therefore rebuilt when, and only when, it matters.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import importlib.machinery
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ffashim import kconfig, paths
from ffashim.errors import BuildError
from ffashim.source import Tree, hash_files

DEFAULTS: Mapping[str, str] = {"DEBUG": "y"}
"""Settings where none are given: assertions are half of what a test can see."""

Progress = Callable[[str], None]


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
        return f"{self.record['tree']} [{' '.join(shown)}, {self.record['cc']}]"


def build(
    tree: Tree,
    settings: Mapping[str, str] | None = None,
    *,
    cc: str = "cc",
    flags: Sequence[str] = (),
    progress: Progress | None = None,
) -> Extension:
    """Build the tree's mediator, or find what was built before.

    settings: Kconfig symbols, without CONFIG_, to values as in .config, on top of DEFAULTS.
    cc: the compiler's command. flags: further ones for compiler and linker.

    Raises BuildError, ConfigError or CacheError. Safe to call from many processes at once.
    """
    wanted = {**DEFAULTS, **(settings or {})}
    key = _key(tree, wanted, cc, flags)
    directory = paths.cache_dir() / "builds" / key
    if found := _find(directory):
        return found
    directory.mkdir(parents=True, exist_ok=True)
    with _locked(directory / "lock"):
        if found := _find(directory):
            return found
        return _build(tree, wanted, cc, tuple(flags), directory, progress)


# --- what was asked for --------------------------------------------------------------------------


def _key(tree: Tree, settings: Mapping[str, str], cc: str, flags: Sequence[str]) -> str:
    asked = [
        os.path.realpath(tree.xen),
        [patch.sha256 for patch in tree.patches],
        sorted(settings.items()),
        _identity(cc),
        list(flags),
        _ourselves(),
        [sys.implementation.cache_tag, platform.machine()],
    ]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]


def _identity(cc: str) -> list[Any]:
    """Return what changes when the compiler does, without running it."""
    found = shutil.which(cc.split()[0]) if cc.strip() else None
    if found is None:
        raise BuildError(
            f"there is no C compiler {cc!r} on this machine.\n"
            "Install one (Debian: apt-get install gcc), or name another with --cc."
        )
    status = os.stat(found)
    return [cc, os.path.realpath(found), status.st_size, status.st_mtime_ns]


@functools.cache
def _ourselves() -> str:
    """Return a hash of our own C and of what compiles it."""
    digest = hashlib.sha256()
    for path in sorted([paths.BUILD_PY, *paths.STUBS.rglob("*.[chl]*")]):
        if path.is_file():
            digest.update(path.relative_to(paths.STUBS.parent).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


# --- the cache -----------------------------------------------------------------------------------


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that the death of its holder releases."""
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _find(directory: Path) -> Extension | None:
    """Return what lies in the cache, unless it is damaged or no longer true."""
    try:
        manifest = json.loads((directory / "manifest.json").read_text())
        extension = directory / manifest["extension"]
        if _sha256(extension) != manifest["sha256"]:
            return None
        for name, stamp in manifest["inputs"].items():
            status = os.stat(name)
            if [status.st_mtime_ns, status.st_size] != stamp[:2] and _sha256(name) != stamp[2]:
                return None
        return Extension(extension, manifest["record"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _sha256(path: Path | str) -> str:
    with open(path, "rb") as stream:
        return hashlib.sha256(stream.read()).hexdigest()


def _build(
    tree: Tree,
    settings: Mapping[str, str],
    cc: str,
    flags: tuple[str, ...],
    directory: Path,
    progress: Progress | None,
) -> Extension:
    configuration = kconfig.configure(tree.xen, settings, cc=cc.split()[0])
    recipe_module = _build_py()
    with tempfile.TemporaryDirectory(dir=directory, prefix="work-") as work:
        # A name of its own for each content: two builds can live in one interpreter.
        recipe = recipe_module.Recipe(tree.xen, configuration.autoconf, cc, flags)
        name = f"_ffashim_{os.urandom(8).hex()}"
        built = recipe_module.build(recipe, Path(work), name, progress)
        inputs = {
            str(path): [(status := os.stat(path)).st_mtime_ns, status.st_size, _sha256(path)]
            for path in {*built.dependencies, *tree.xen.rglob("Kconfig*")}
            if path.is_file()
        }
        extension = directory / built.extension.name
        manifest = {
            "extension": extension.name,
            "sha256": _sha256(built.extension),
            "inputs": inputs,
            "record": {
                "tree": tree.describe().splitlines()[0],
                "origin": tree.origin,
                "version": tree.version,
                "commit": tree.commit,
                "patches": [[patch.name, patch.sha256] for patch in tree.patches],
                "notes": [*tree.notes, *built.notes],
                "config": dict(configuration.values),
                "symbols": list(kconfig.variants(tree.xen, cc=cc.split()[0])),
                "cc": cc,
                "compiler": _version(cc),
                "flags": list(flags),
                "files": {
                    each.path: {"sha256": each.sha256, "blob": each.blob}
                    for each in hash_files(built.sources, tree.root)
                },
                "constants": built.constants,
                "unmodelled": list(built.unmodelled),
                "trap_path": built.trap_path,
            },
        }
        for stale in [*directory.glob("_ffashim_*.so"), directory / "manifest.json"]:
            stale.unlink(missing_ok=True)
        os.replace(built.extension, extension)
        partial = Path(work) / "manifest.json"
        partial.write_text(json.dumps(manifest))
        os.replace(partial, directory / "manifest.json")
    return Extension(extension, manifest["record"])


def _version(cc: str) -> str:
    done = subprocess.run([*cc.split(), "--version"], text=True, capture_output=True)
    return done.stdout.partition("\n")[0]


# --- loading -------------------------------------------------------------------------------------


@functools.cache
def _build_py() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ffashim_build", paths.BUILD_PY)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@functools.cache
def _load(path: Path) -> ModuleType:
    name = path.name.partition(".")[0]
    loader = importlib.machinery.ExtensionFileLoader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module
