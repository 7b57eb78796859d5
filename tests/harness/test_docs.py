# SPDX-License-Identifier: GPL-2.0-only
"""What the pages of docs/ show works: each page's blocks are run in order, in a place of their own.

That place is the checkout (by links: what a page writes stays out of it), with a home in which
``~/src/xen`` is a git repository: the distribution's Xen on the branch master, the example series
on my-branch.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import shown
from bends import DRAFT, PATCHES, SERIES, draft_name
from shown import TOP

from ffashim import FFA, Machine, loader, paths
from ffashim.capabilities import handled
from ffashim.source import Tree, resolve, store

DOCS = TOP / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if shown.blocks(page))
RUN = {"sh", "console", "python", "diff"}

NOT_RUN = {
    "double-fetch.md: sh": "builds without optimisation; test_double_fetch.py runs the options",
    "double-fetch.md: text": "the shape of a report, of a read that was planted",
    "sanitizers.md: text": "the shape of a report, of a mistake that was planted",
    "sanitizers.md: sh": "a dozen more builds; test_sanitizers.py and others run the options",
    "how-to/check-my-series.md: text": "minutes; the tests in tests/series run the commands",
    "how-to/fuzz-for-a-night.md: text": "a night; the same command is run for ten seconds there",
    "explanation/boundary.md: text": "a drawing",
}
"""Blocks of which no command is run here, by page and language, and why."""

EXAMPLES = {"FFASHIM_EXAMPLES": "20", "COLUMNS": "100"}
"""Fewer of what is drawn at random, and tables as wide as the pages show them."""


@pytest.fixture(scope="session")
def base(tree: Tree, pytestconfig: pytest.Config) -> Tree:
    """The distribution's tree, which the pages are written about."""
    if pytestconfig.getoption("--xen"):
        pytest.skip("the pages show what comes of the distribution's tree")
    if FFA.PARTITION_INFO_GET_REGS in handled(Machine(loader.build(tree))):
        pytest.skip("the tree has FFA_PARTITION_INFO_GET_REGS itself: nothing is to be applied")
    return tree


@pytest.fixture(scope="session")
def home(base: Tree, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home directory with a repository of Xen in it."""
    home = tmp_path_factory.mktemp("home")
    repository = home / "src" / "xen"
    repository.parent.mkdir()
    store.copy(base.root, repository)
    who = {"NAME": "Reader", "EMAIL": "reader@example.org", "DATE": "2026-01-01T00:00:00Z"}
    environment = {
        **{f"GIT_{role}_{key}": who[key] for role in ("AUTHOR", "COMMITTER") for key in who},
        "HOME": str(home),
    }
    for command in (
        ["init", "--quiet", "--initial-branch=master"],
        ["add", "--all", "--force"],
        ["commit", "--quiet", "--message=Xen"],
        ["checkout", "--quiet", "-b", "my-branch"],
        ["am", "--quiet", "--committer-date-is-author-date", *map(str, PATCHES)],
    ):
        shown.assert_works(["git", "-c", "gc.auto=0", *command], repository, environment)
    return home


@pytest.fixture
def place(home: Path, tmp_path: Path) -> Path:
    """The checkout, but for what is made in it, and a folder for what a page makes."""
    for each in TOP.iterdir():
        if each.name not in (".git", ".venv", ".pytest_cache", ".hypothesis"):
            (tmp_path / each.name).symlink_to(each)
    series = b"".join(patch.read_bytes() for patch in PATCHES)
    (tmp_path / "my-series.mbox").write_bytes(series)
    return tmp_path


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    """A reader's: the commands of this environment, and the cache that all tests share."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {
        **EXAMPLES,
        "HOME": str(home),
        "PATH": path,
        "FFASHIM_CACHE": str(paths.cache_dir()),
    }


def key(block: shown.Block) -> str:
    return f"{block.page.relative_to(DOCS)}: {block.language}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_what_a_page_shows_works(page: Path, place: Path, environment: dict[str, str]) -> None:
    tests = []
    for block in shown.blocks(page):
        if key(block) in NOT_RUN:
            continue
        if block.language == "sh":
            for line in block.lines:
                # The place is no checkout: make would fetch all that it needs to be one.
                line += " --dry-run" if line.startswith("make ") else ""
                done = shown.run(["sh", "-ec", line], place, environment)
                assert done.returncode == 0, f"{block}: {line}\n{done.stdout}"
        elif block.language == "console":
            for command, output in block.steps:
                done = shown.run(["sh", "-c", command], place, environment)
                told = f"{block}: {command}\n{done.stdout}"
                if output:
                    assert shown.is_shown(done.stdout, output), f"{told}\nnot as shown:\n{output}"
                else:
                    assert done.returncode == 0, told
        elif block.language == "python" and block.title:
            assert block.title in page.read_text().split(block.text)[1], f"{block} is not used"
            (place / block.title).write_text(block.text)
        elif block.language == "python":
            tests.append(f"test_line_{block.line}.py")
            (place / tests[-1]).write_text(block.text)
        elif block.language == "diff":
            assert block.title, f"{block} does not say what file it shows"
            assert block.text in (TOP / block.title).read_text(), f"{block} is another"
    if tests:
        done = shown.run(["pytest", "-q", "-rs", *tests], place, environment)
        assert done.returncode == 0, done.stdout
        assert "skipped" not in done.stdout, done.stdout


def test_output_is_compared_with_what_is_shown() -> None:
    output = "one 1\ntwo\nthree\ntwo\nfour\n"
    for good in (output, "one ...\n...\nfour\n", "...\ntwo\nfour\n", "...\nthree\n...\n", "...\n"):
        assert shown.is_shown(output, good), good
    for bad in (
        "one ...\n",
        "one ...\nfour\n",
        "...\ntwo\n",
        "...\nfour\n...\ntwo\n...\n",
        "five\n...\n",
    ):
        assert not shown.is_shown(output, bad), bad


def test_every_block_is_run_or_says_why_not() -> None:
    kinds = {key(block) for page in PAGES for block in shown.blocks(page)}
    assert {kind for kind in kinds if kind.rpartition(" ")[2] not in RUN} <= NOT_RUN.keys() <= kinds


def test_a_fence_without_a_language_would_not_be_seen() -> None:
    for page in DOCS.rglob("*.md"):
        fences = re.findall(r"^ *```", page.read_text(), re.MULTILINE)
        assert len(fences) == 2 * len(shown.blocks(page)), page


# --- the tutorial's draft ------------------------------------------------------------------------


def test_the_draft_is_made_of_bends(base: Tree) -> None:
    series = resolve(str(base.root), [SERIES])
    patches = {draft_name(n, each): each.diff(series) for n, each in enumerate(DRAFT, 1)}
    assert patches == {file.name: file.read_text() for file in (SERIES / "draft").iterdir()}


def test_the_draft_holds_no_line_that_is_not_of_the_series() -> None:
    ours = Counter(
        line[1:].strip()
        for patch in PATCHES
        for line in patch.read_text().splitlines()
        if line.startswith("+")
    )
    for patch in (SERIES / "draft").iterdir():
        for line in patch.read_text().splitlines()[2:]:
            if line.startswith((" ", "-")):
                assert line[1:].strip() in ours, f"{patch.name}: {line}"


# --- the site ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does."""
    pytest.importorskip("mkdocs", reason="`make docs` installs it")
    into = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", f"--site-dir={into}"]
    shown.assert_works(command, TOP)
    return into


def test_the_site_takes_nothing_from_outside(site: Path) -> None:
    for page in site.rglob("*.html"):
        taken = re.findall(r'<(?:script|img|iframe|source)[^>]* src="([^"]+)"', page.read_text())
        taken += re.findall(r'<link[^>]* href="([^"]+)"', page.read_text())
        assert taken
        assert not [each for each in taken if re.match(r"(\w+:)?//", each)], page


def test_the_reference_has_every_public_name(site: Path) -> None:
    import ffashim

    text = "".join(page.read_text() for page in (site / "reference").rglob("*.html"))
    for name in ffashim.__all__:
        assert re.search(rf'id="ffashim\.[\w.]+\.{name}"', text), name


def test_the_reference_has_every_command_and_option(site: Path) -> None:
    text = (site / "reference" / "cli" / "index.html").read_text()
    listed = subprocess.run(
        [sys.executable, "-m", "ffashim", "--help"], capture_output=True, text=True, check=True
    ).stdout
    commands = re.findall(r"^  (\w+) ", listed.partition("Commands:")[2], re.MULTILINE)
    assert len(commands) > 5
    for command in commands:
        assert f"ffashim {command}</code></h2>" in re.sub(r"<a class=\"headerlink.*?</a>", "", text)
