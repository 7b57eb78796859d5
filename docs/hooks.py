# SPDX-License-Identifier: GPL-2.0-only
"""What the site has beyond docs/: pages that lie elsewhere in the tree, and the commands' help.

A link in a page is to a file of the tree, so that it works where the tree is read. In the site it
leads to the page made of that file; where there is none it is text.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

TOP = Path(__file__).parents[1]
ELSEWHERE = (
    *("findings/*.md", "findings/*.patch"),
    *("examples/*/README.md", "examples/*/*/*.patch", "examples/ci/*"),
)
"""What of the tree is in the site, too, at the place that it has in the tree."""

_LINK = re.compile(r"\[(?P<text>[^]]+)\]\((?P<target>[^)#:\s]+)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what does not lie in docs/."""
    for pattern in ELSEWHERE:
        for path in sorted(TOP.glob(pattern)):
            name = path.relative_to(TOP).as_posix()
            if files.get_file_from_path(name) is None:
                files.append(File.generated(config, name, abs_src_path=str(path)))
    files.append(File.generated(config, "reference/cli.md", content=_commands()))
    return files


def _commands() -> str:
    """Return what typer has to say of every command and option."""
    text = subprocess.run(
        [sys.executable, "-m", "typer", "ffashim.cli", "utils", "docs", "--name=ffashim"],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    text = text.replace("# `ffashim`", "# The command `ffashim`", 1)
    # Lines that are laid out as they are: typer leaves them to Markdown, which would join them.
    return re.sub(r"^(?:\x08\n)?Examples:\n((?:  .*\n)+)", _examples, text, flags=re.MULTILINE)


def _examples(found: re.Match[str]) -> str:
    lines = "".join(f"{line[2:]}\n" for line in found[1].splitlines())
    return f"**Examples**:\n\n```sh\n{lines}```\n"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let the links to files of the tree lead to their pages."""
    source = page.file.abs_src_path
    if source is None:
        return markdown
    here, docs = Path(source).parent, Path(config.docs_dir)
    place = Path(page.file.src_uri).parent

    def lead(link: re.Match[str]) -> str:
        target = Path(os.path.normpath(here / link["target"]))
        if not target.exists():
            return link[0]  # mkdocs complains
        base = docs if target.is_relative_to(docs) else TOP
        name = target.relative_to(base).as_posix()
        if files.get_file_from_path(name) is None:
            return link["text"]
        return f"[{link['text']}]({os.path.relpath(name, place)}{link['anchor'] or ''})"

    return _LINK.sub(lead, markdown)
