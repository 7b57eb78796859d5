# SPDX-License-Identifier: GPL-2.0-only
"""What compilers say of a tree's mediator, in each configuration.

Which warnings there are depends on our headers, too, and so counts only against another commit's.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ffashim import kconfig, lint, loader
from ffashim.source import Tree
from ffashim.variants import variants

_PARSED = ("-fsyntax-only",)
"""All configurations but one are only parsed, which takes a third of the time; what the optimiser
finds out is asked of the one with most in it."""

_SAID = re.compile(
    r"^(?P<file>[^:\n]+):(?P<line>\d+):(?:\d+:)? "
    r"(?P<kind>(?:fatal )?error|warning): (?P<text>.*)$",
    re.M,
)


def configurations(tree: Tree, settings: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Yield each configuration that a tree is compiled in: its variants, debug on and off."""
    for debug in settings.get("DEBUG", "yn"):
        yield from variants(tree, {**settings, "DEBUG": debug})


def diagnose(tree: Tree, settings: Mapping[str, str], cc: str) -> list[dict[str, Any]]:
    """Compile the mediator in each configuration, link nothing, and return what the compiler says.

    Each is kind (error or warning), file, line, text, and the configurations that show it.
    """
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    chosen_ones = list(configurations(tree, settings))
    fullest = max(chosen_ones, key=lambda chosen: list(chosen.values()).count("y"))
    for chosen in chosen_ones:
        effort = lint.OPTIMISED if chosen is fullest else _PARSED
        name = " ".join(f"{symbol}={value}" for symbol, value in sorted(chosen.items()))
        for each in _compile(tree, chosen, cc, effort):
            same = found.setdefault(tuple(map(str, each.values())), {**each, "in": []})
            if name not in same["in"]:
                same["in"].append(name)
    return list(found.values())


def _compile(
    tree: Tree, settings: Mapping[str, str], cc: str, effort: Sequence[str]
) -> Iterator[dict[str, Any]]:
    build = loader.build_py()
    configuration = kconfig.configure(tree.xen, settings, cc=cc)
    recipe = build.Recipe(tree.xen, configuration.autoconf, cc)
    root = f"{tree.root}/"
    with tempfile.TemporaryDirectory(prefix="ffashim-") as work:
        for _, said in build.remarks(recipe, Path(work), (*effort, *lint.known(cc))):
            for match in _SAID.finditer(said):
                file = match["file"].removeprefix(root)
                kind = "warning" if match["kind"] == "warning" else "error"
                if kind == "error" or not Path(file).is_absolute():
                    yield {"kind": kind, "file": file, "line": int(match["line"]),
                           "text": match["text"]}  # fmt: skip
