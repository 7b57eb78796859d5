# SPDX-License-Identifier: GPL-2.0-only
"""A configuration of Xen, worked out by the tree's own Kconfig files.

kconfiglib reads ``xen/Kconfig`` just as Xen's own kconfig does, so every default, selection and
dependency is the tree's. This module sets the environment that Xen's Makefile would set, gives the
symbols their wanted values, and refuses values that the tree does not accept.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import kconfiglib

from ffashim.errors import BuildError, ConfigError

BASE: Mapping[str, str] = MappingProxyType(
    {"UNSUPPORTED": "y", "EXPERT": "y", "TEE": "y", "FFA": "y"}
)
"""What every configuration starts from: the FF-A mediator, which is an unsupported feature."""

OPTIONAL: Mapping[str, str] = MappingProxyType({"PDX_NONE": "y", "PDX_COMPRESSION": "n"})
"""Set where the tree has the symbol, and left again to settings that contradict. Without PDX
compression a frame number is a page index, so a plain mapping of the frame table is exact."""

VARIANTS = ("FFA_VM_TO_VM", "DEBUG")
"""The symbols that are worth testing both ways."""

# What xen/Makefile and Config.mk export for Kconfig. Neither tool is used here.
_ENVIRONMENT = {
    "SRCARCH": "arm",
    "ARCH": "arm64",
    "XEN_TARGET_ARCH": "arm64",
    "XEN_COMPILE_ARCH": "arm64",
    "XEN_FULLVERSION": "host",
    "XEN_HAS_BUILD_ID": "n",
    "XEN_HAS_CHECKPOLICY": "n",
    "CLANG_FLAGS": "",
    "PYTHON": "python3",
    "LD": "ld",
    "CONFIG_": "CONFIG_",
    "LC_ALL": "C",
}
# Set by people for other Kconfig trees; they would change how this one is read.
_UNSET = (
    "KCONFIG_FUNCTIONS",
    "KCONFIG_CONFIG_HEADER",
    "KCONFIG_AUTOHEADER_HEADER",
    "KCONFIG_STRICT",
)

# kconfiglib reads os.environ, of which there is one in a process.
_lock = threading.Lock()


@dataclass(frozen=True)
class Configuration:
    """One answer to every question of a tree's Kconfig."""

    autoconf: str
    """The text of Xen's ``generated/autoconf.h``."""
    values: Mapping[str, str]
    """Symbol name, without CONFIG_, to its value as ``.config`` has it (strings unquoted); symbols
    that do not apply are absent, as they are there."""
    warnings: tuple[str, ...] = field(default=(), compare=False)
    """What kconfiglib had to say about the values given."""

    def enabled(self, name: str) -> bool:
        """Tell whether the boolean symbol is set."""
        return self.values.get(name) == "y"


def configure(xen: Path, settings: Mapping[str, str], *, cc: str = "cc") -> Configuration:
    """Configure the tree for its FF-A mediator and the given settings.

    ``xen`` is the tree's ``xen/`` directory. ``settings`` maps symbol names, with or without
    ``CONFIG_``, to values as in ``.config``: ``y`` or ``n``, a number, or a string without quotes.
    They are applied on top of :data:`BASE` and :data:`OPTIONAL` and may overrule them. ``cc`` is
    the compiler that Kconfig probes, the one that is to compile the tree.

    Raises ConfigError for a symbol that the tree does not have, or that it does not let have the
    value, with the reason; BuildError if the compiler does not run.
    """
    asked = {name.removeprefix("CONFIG_"): value for name, value in settings.items()}
    if asked.get("FFA") == "n":
        raise ConfigError(
            "FFA=n leaves nothing to test: ffashim compiles the FF-A mediator, which is what "
            "CONFIG_FFA switches on."
        )
    required = {**asked, **{name: value for name, value in BASE.items() if name not in asked}}
    with _lock:
        kconf = _read(xen, cc)
        _load_defaults(kconf, xen)
        for name, value in OPTIONAL.items():
            if name not in asked and _defined(kconf, name):
                _set(kconf, name, value)
        for name, value in {**BASE, **asked}.items():
            _set(kconf, name, value)
        for name, value in required.items():
            _check(kconf, name, value)
        return Configuration(_autoconf(kconf), _values(kconf), tuple(kconf.warnings))


def has_symbol(xen: Path, name: str) -> bool:
    """Tell whether the tree's Kconfig defines the symbol, whatever its dependencies.

    Every run asks, so the files are searched: to interpret them is half a second of compilers.
    """
    definition = re.compile(rf"^\s*(menu)?config\s+{name.removeprefix('CONFIG_')}\s*$", re.M)
    return any(definition.search(file.read_text(errors="replace")) for file in _files(xen))


def _files(xen: Path) -> Iterator[Path]:
    """Return the Kconfig files that an Arm configuration may read."""
    for file in xen.rglob("Kconfig*"):
        where = file.relative_to(xen).parts
        if file.is_file() and (where[0] != "arch" or where[1] == "arm"):
            yield file


def variants(xen: Path, *, cc: str = "cc") -> tuple[str, ...]:
    """Return those symbols of :data:`VARIANTS` that the tree has."""
    with _lock:
        kconf = _read(xen, cc)
        return tuple(name for name in VARIANTS if _defined(kconf, name))


# --- reading -------------------------------------------------------------------------------------

# Reading costs a fifth of a second, and every variant of a tree needs the same files read.
_read_before: dict[tuple[str, str], tuple[object, kconfiglib.Kconfig]] = {}
_KEPT = 4


def _read(xen: Path, cc: str) -> kconfiglib.Kconfig:
    """Read the tree's Kconfig files, or return what was read if they are as they were."""
    key = (str(xen.absolute()), cc)
    stamp, kconf = _read_before.get(key, (None, None))
    if kconf is not None and stamp == _stamp(kconf):
        return kconf
    with _environment(Path(key[0]), cc):
        kconf = _parse(Path(key[0]))
    kconf.srctree = key[0]
    if len(_read_before) >= _KEPT:
        _read_before.clear()
    _read_before[key] = (_stamp(kconf), kconf)
    return kconf


def _stamp(kconf: kconfiglib.Kconfig) -> object:
    """Return what changes when one of the files that were read does."""
    found = []
    for name in kconf.kconfig_filenames:
        try:
            status = (Path(kconf.srctree) / name).stat()
        except OSError:
            return None
        found.append((name, status.st_mtime_ns, status.st_size, status.st_ino))
    return found


def _parse(xen: Path) -> kconfiglib.Kconfig:
    if not (xen / "Kconfig").is_file():
        raise ConfigError(f"{xen} has no Kconfig: is it the xen/ directory of a Xen tree?")
    try:
        return kconfiglib.Kconfig(str(xen / "Kconfig"), warn_to_stderr=False)
    except (kconfiglib.KconfigError, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the Kconfig of {xen} cannot be read: {str(error).strip()}") from error


def _load_defaults(kconf: kconfiglib.Kconfig, xen: Path) -> None:
    """Forget earlier settings and start from the architecture's defconfig, as Xen's build does."""
    kconf.unset_values()
    del kconf.warnings[:]
    defconfig = xen / "arch" / "arm" / "configs" / "arm64_defconfig"
    if defconfig.is_file():
        kconf.load_config(str(defconfig))


@contextlib.contextmanager
def _environment(xen: Path, cc: str) -> Iterator[None]:
    """Let Kconfig see the variables that Xen's Makefile exports, and only for a while."""
    with tempfile.TemporaryDirectory(prefix="ffashim-kconfig-") as scratch:
        # Xen's Kconfig puts $(srctree) into shell commands, unquoted.
        srctree = Path(scratch) / "xen"
        srctree.symlink_to(xen)
        compiler = _named_compiler(cc, Path(scratch))
        changes = {**_ENVIRONMENT, "srctree": str(srctree), "CC": compiler}
        saved = {name: os.environ.get(name) for name in (*changes, *_UNSET)}
        for name in _UNSET:
            os.environ.pop(name, None)
        os.environ.update(changes)
        try:
            yield
        finally:
            for name, value in saved.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def _named_compiler(cc: str, scratch: Path) -> str:
    """Return a command for the compiler whose ``--version`` tells what it is.

    Xen's Kconfig looks for "gcc" or "clang" in that text, and gcc prints the name that it was
    called by: called as cc it would be taken for no known compiler, of version 0.
    """
    try:
        words = shlex.split(cc)
    except ValueError as error:
        raise BuildError(f"{cc} is no command of a compiler: {error}.") from error
    path = shutil.which(words[0]) if words else None
    if path is None:
        raise BuildError(f"no compiler {cc!r} is found. Install gcc or clang, or name another one.")
    version = _run(*words, "--version").partition("\n")[0]
    if "gcc" in version or "clang" in version:
        return cc
    alias = scratch / "gcc"
    alias.symlink_to(Path(path).absolute())
    return shlex.join([str(alias), *words[1:]])


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, errors="replace")
    except (OSError, subprocess.CalledProcessError) as error:
        raise BuildError(f"the compiler does not run: {shlex.join(command)}: {error}") from error
    return done.stdout


# --- writing -------------------------------------------------------------------------------------


def _set(kconf: kconfiglib.Kconfig, name: str, value: str) -> None:
    if not _defined(kconf, name):
        close = difflib.get_close_matches(name, kconf.syms, n=4, cutoff=0.6)
        hint = f" Close to it: {', '.join(close)}." if close else ""
        raise ConfigError(f"unknown configuration symbol {name}: this tree has none.{hint}")
    symbol = kconf.syms[name]
    if "\n" in value:
        raise ConfigError(f"{name}: a value cannot hold a line break.")
    if not symbol.set_value(value):
        kinds = {
            kconfiglib.BOOL: "y or n",
            kconfiglib.INT: "a decimal number",
            kconfiglib.HEX: "a hexadecimal number",
        }
        kind = kinds.get(symbol.orig_type, "a value of another kind")
        raise ConfigError(f"{name}={value}: the symbol takes {kind}.")


def _defined(kconf: kconfiglib.Kconfig, name: str) -> bool:
    # kconfiglib also keeps an entry for names that are merely mentioned.
    return name in kconf.syms and bool(kconf.syms[name].nodes)


def _check(kconf: kconfiglib.Kconfig, name: str, value: str) -> None:
    symbol = kconf.syms[name]
    if symbol.str_value != value:
        raise ConfigError(
            f"{name}={value} is not possible: this tree makes it "
            f"{symbol.str_value or 'unset'}.\n{_reason(symbol, value)}"
        )


def _reason(symbol: kconfiglib.Symbol, value: str) -> str:
    lines = []
    if kconfiglib.expr_value(symbol.direct_dep) == 0:
        lines.append(f"It depends on {_explain(symbol.direct_dep)}")
    elif symbol.visibility == 0:
        prompts = [node.prompt[1] for node in symbol.nodes if node.prompt]
        lines += [f"It can be set only if {_explain(prompt)}" for prompt in prompts]
        if not prompts:
            lines.append("It cannot be set: the tree derives it from other symbols.")
    if symbol.rev_dep is not symbol.kconfig.n and (value == "n" or symbol.visibility == 0):
        lines.append(f"It is selected by {_explain(symbol.rev_dep)}")
    if symbol.choice is not None and symbol.choice.selection not in (None, symbol):
        lines.append(f"It is one of a choice, of which {symbol.choice.selection.name} is chosen.")
    for low, high, condition in symbol.ranges:
        if kconfiglib.expr_value(condition):
            lines.append(f"It must lie between {low.str_value} and {high.str_value}.")
            break
    return "\n".join(lines) or "Another setting overrules it."


def _explain(expression: object) -> str:
    """Write an expression out, and the values of its symbols."""
    symbols = sorted(
        (item for item in kconfiglib.expr_items(expression) if item.name and not item.is_constant),
        key=lambda item: str(item.name),
    )
    values = ", ".join(f"{item.name}={item.str_value or 'unset'}" for item in symbols)
    text = kconfiglib.expr_str(expression)
    return f"{text}, where {values}." if values else f"{text}."


def _autoconf(kconf: kconfiglib.Kconfig) -> str:
    with tempfile.TemporaryDirectory(prefix="ffashim-kconfig-") as scratch:
        header = Path(scratch) / "autoconf.h"
        kconf.write_autoconf(str(header))
        return header.read_text(encoding="utf-8")


def _values(kconf: kconfiglib.Kconfig) -> Mapping[str, str]:
    return MappingProxyType(
        {
            symbol.name: symbol.str_value
            for symbol in kconf.unique_defined_syms
            if symbol.config_string and not symbol.config_string.startswith("#")
        }
    )
