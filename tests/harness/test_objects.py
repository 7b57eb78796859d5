# SPDX-License-Identifier: GPL-2.0-only
"""Objects that every build shares: made once for what they are made of, with a real compiler."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trees

from ffashim import loader, paths
from ffashim.objects import Objects
from ffashim.source import Tree


class Bench:
    """A source that includes a header, compiled in one new directory after the other."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.source = directory / "source.c"
        self.header = directory / "header.h"
        self.header.write_text("#define VALUE 1\n")
        self.source.write_text('#include "header.h"\nint value = VALUE;\n')
        self.kept = directory / "kept"
        self.runs = 0
        # Written this very moment: what has changed during a compilation is not trusted.
        time.sleep(0.02)

    def compile(self, *flags: str, said: str = "") -> Path:
        work = self.directory / f"work-{len(list(self.directory.iterdir()))}"
        work.mkdir()
        target = work / "source.o"
        command = ["cc", *flags, "-MD", "-MT", "o", "-MF", str(target.with_suffix(".d")), "-c",
                   str(self.source), "-o", str(target)]  # fmt: skip

        def run() -> str:
            self.runs += 1
            subprocess.run(command, check=True)
            return said

        assert Objects(self.kept).compile(command, self.source, target, run) == said
        return target


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_an_object_is_compiled_once(bench: Bench) -> None:
    first, second = bench.compile(), bench.compile()
    assert bench.runs == 1
    assert first.read_bytes() == second.read_bytes()


def test_the_make_rules_come_with_it_and_name_the_files_that_were_read(bench: Bench) -> None:
    first, second = bench.compile(), bench.compile()
    rules = second.with_suffix(".d").read_text()
    assert str(bench.header) in rules
    assert str(first.parent) not in rules


@pytest.mark.parametrize(
    "change",
    [
        lambda bench: bench.header.write_text("#define VALUE 2\n"),
        lambda bench: bench.header.write_text("#define VALUE 100\n"),
        lambda bench: bench.source.write_text("int value = 2;\n"),
        lambda bench: bench.header.unlink() or bench.source.write_text("int value = 3;\n"),
    ],
    ids=["a header", "a header's size", "the source", "a header is gone"],
)
def test_it_is_compiled_again_once_something_has_changed(
    bench: Bench, change: Callable[[Bench], object]
) -> None:
    before = bench.compile().read_bytes()
    change(bench)
    assert bench.compile().read_bytes() != before
    assert bench.runs == 2


def test_other_flags_make_another_object(bench: Bench) -> None:
    assert bench.compile("-O0").read_bytes() != bench.compile("-g").read_bytes()
    bench.compile("-O0")
    assert bench.runs == 2


def test_a_damaged_one_is_compiled_again(bench: Bench) -> None:
    whole = bench.compile().read_bytes()
    (kept,) = bench.kept.iterdir()
    for damage in (kept.read_bytes()[:-1], b"", b"no JSON\n", b"{}\n"):
        kept.write_bytes(damage)
        assert bench.compile().read_bytes() == whole
    assert bench.runs == 5


def test_what_the_compiler_has_something_to_say_of_is_said_each_time(bench: Bench) -> None:
    bench.compile(said="warning: of something")
    bench.compile(said="warning: of something")
    assert bench.runs == 2


def test_a_place_that_cannot_be_written_keeps_nobody_from_compiling(bench: Bench) -> None:
    bench.kept.write_text("a file where a directory is wanted")
    bench.compile()
    bench.compile()
    assert bench.runs == 2


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Builds a tree, and returns the names of the files that were compiled for it."""
    monkeypatch.setenv("FFASHIM_CACHE", str(tmp_path / "cache"))
    commands: list[list[str]] = []
    build_py = loader.build_py()
    capture = build_py._capture

    def watched(command: list[str]) -> object:
        commands.append([*map(str, command)])
        return capture(command)

    monkeypatch.setattr(build_py, "_capture", watched)

    def build(tree: Tree, debug: str = "y") -> list[str]:
        commands.clear()
        time.sleep(0.02)  # see above
        loader.build(tree, {"DEBUG": debug})
        named = [each[each.index("-c") + 1] for each in commands if "-c" in each]
        return sorted(Path(name).name for name in named if not name.endswith("constants.c"))

    return build


def test_what_is_the_same_for_all_trees_is_compiled_for_the_first(
    tree: Tree, compiled: Callable[..., list[str]]
) -> None:
    ours = {path.name for path in (paths.STUBS / "host").glob("*.c")} | {"glue.c"}
    ours -= {path.name for path in (paths.STUBS / "xen").glob("*.c")}
    assert ours <= set(compiled(tree))
    assert not ours & set(compiled(tree, debug="n"))


def test_who_edits_a_file_has_that_one_compiled(
    tree: Tree, tmp_path: Path, compiled: Callable[..., list[str]]
) -> None:
    copy = trees.copy(tree, tmp_path / "tree")
    assert "ffa_rxtx.c" in compiled(copy)
    for _ in range(2):
        with (copy.xen / trees.TEE / "ffa_rxtx.c").open("a") as stream:
            stream.write("/* edited */\n")
        assert compiled(copy) == ["ffa_rxtx.c"]


def test_who_edits_a_header_has_all_compiled_that_include_it(
    tree: Tree, tmp_path: Path, compiled: Callable[..., list[str]]
) -> None:
    copy = trees.copy(tree, tmp_path / "tree")
    compiled(copy)
    with (copy.xen / trees.TEE / "ffa_private.h").open("a") as stream:
        stream.write("/* edited */\n")
    found = compiled(copy)
    assert {"ffa.c", "ffa_rxtx.c", "ffa_shm.c"} <= set(found)
    assert not [name for name in found if not name.startswith("ffa")]
