# SPDX-License-Identifier: GPL-2.0-only
"""What a Xen tree is, and the record of where one came from."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ffashim.errors import SourceError

Progress = Callable[[str], None]
"""Called with one line for people before each step that may take a while."""


@dataclass(frozen=True)
class PatchRecord:
    """A patch that was applied."""

    name: str
    """File name, and the subject if it came as a mail."""
    sha256: str
    """Of the diff alone, in hexadecimal."""


@dataclass(frozen=True)
class Tree:
    """A Xen tree on disk and where it came from."""

    spec: str
    """What the user asked for."""
    root: Path
    """The directory that contains ``xen/``."""
    origin: str
    """One line for people."""
    version: str
    """As the tree or its package calls itself; for display only, nothing may depend on it."""
    commit: str | None = None
    """The git commit in full, or None; a directory may have changed since, which origin tells."""
    patches: tuple[PatchRecord, ...] = ()
    """Applied on top, in this order."""
    private: bool = False
    """The tree lies in our cache, is never changed, and its path stands for its content."""
    notes: tuple[str, ...] = ()
    """What people should know of how it was found."""
    search: tuple[str, ...] = ()
    """What was passed over when it was looked for, of which every run need not speak again."""
    sha256: str | None = None
    """Of the archive that it came in, in full; the origin has the first digits."""

    @property
    def xen(self) -> Path:
        """The hypervisor's directory."""
        return self.root / "xen"

    def describe(self) -> str:
        """Return the provenance for reports: one line, and one for each patch and note."""
        commit = f", commit {self.commit}" if self.commit else ""
        count = len(self.patches)
        patched = f", with {count} patch{'es' if count > 1 else ''}" if count else ""
        lines = [f"Xen {self.version} from {self.origin}{commit}{patched}"]
        lines += [f"  with {patch.name} (sha256 {patch.sha256[:12]})" for patch in self.patches]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)


def is_xen(xen: Path) -> bool:
    """Tell whether this is the ``xen/`` directory of a Xen tree, of any age."""
    return (xen / "arch" / "arm").is_dir() and (xen / "include" / "xen").is_dir()


def require_ffa(xen: Path, what: str) -> None:
    """Raise SourceError, which names the tree as ``what``, unless it has an FF-A mediator."""
    if not is_xen(xen):
        raise SourceError(
            f"{what} is no Xen tree: it has no xen/arch/arm and xen/include/xen.\n"
            "Name the top directory of a Xen tree, or its xen/ subdirectory."
        )
    if not (xen / "arch" / "arm" / "tee" / "ffa.c").is_file():
        raise SourceError(
            f"{what} is Xen {read_version(xen)}, from before FF-A: it has no "
            "xen/arch/arm/tee/ffa.c.\nName a tree that has it: any release since the mediator "
            "was added, or today's master."
        )


def read_version(xen: Path) -> str:
    """Return the version in ``xen/Makefile``, or "of unknown version"."""
    try:
        text = (xen / "Makefile").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "of unknown version"
    found = dict(re.findall(r"^export XEN_(\w*VERSION)\s*[?:]?=[ \t]*(.*?)[ \t]*$", text, re.M))
    if not {"VERSION", "SUBVERSION"} <= found.keys():
        return "of unknown version"
    # The extra version ends in $(XEN_VENDORVERSION), which is empty unless a packager sets it.
    extra = re.sub(r"\$\(\w+\)", "", found.get("EXTRAVERSION", ""))
    return f"{found['VERSION']}.{found['SUBVERSION']}{extra}"
