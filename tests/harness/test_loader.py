# SPDX-License-Identifier: GPL-2.0-only
"""The cache of extensions: what is found again, what is built anew, and who waits for whom.

Most tests here put a stand-in in the place of build.py: what they are about is when it is called.
"""

from __future__ import annotations

import dataclasses
import importlib.machinery
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import trees

from ffashim import FFA, Machine, loader, paths
from ffashim.errors import BuildError, CacheError
from ffashim.source import Tree

REAL = loader.build_py()


class StandIn:
    """Notes what is built, in no time, from as much of the tree as it is told."""

    Recipe = REAL.Recipe

    def __init__(self, *reads: Path) -> None:
        self.reads = reads
        self.recipes: list[Any] = []
        self.fails: str = ""
        self.meanwhile: Callable[[], object] = lambda: None

    @property
    def builds(self) -> int:
        return len(self.recipes)

    def build(self, recipe: Any, work: Path, name: str, progress: object) -> Any:
        assert not list(work.iterdir())
        self.recipes.append(recipe)
        (work / "object.o").touch()
        if self.fails:
            raise BuildError(self.fails.format(work=work))
        self.meanwhile()
        extension = work / f"{name}.so"
        extension.write_bytes(os.urandom(100))
        return REAL.Built(extension, self.reads[:1], self.reads, (), True, {"FFA_ID_GET": 1})


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FFASHIM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "builds"


@pytest.fixture
def copy(tree: Tree, tmp_path: Path) -> Tree:
    return trees.skeleton(tree, tmp_path / "tree")


@pytest.fixture
def standin(cache: Path, copy: Tree, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    tee = copy.xen / trees.TEE
    made = StandIn(tee / "ffa.c", tee / "Makefile", copy.xen / "include/xen/lib.h", tee)
    monkeypatch.setattr(loader, "build_py", lambda: made)
    # Written this very moment: what has changed during a build is not trusted.
    time.sleep(0.02)
    return made


def left_over(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.glob("*/work-*"))


# --- found again, or not -------------------------------------------------------------------------


def test_it_is_found_again(standin: StandIn, copy: Tree, cache: Path) -> None:
    first = loader.build(copy)
    assert loader.build(copy) == first
    assert standin.builds == 1
    assert not left_over(cache)


def test_another_time_of_a_file_alone_changes_nothing(standin: StandIn, copy: Tree) -> None:
    first = loader.build(copy)
    for path in standin.reads:
        os.utime(path)
    assert loader.build(copy) == first
    assert standin.builds == 1


@pytest.mark.parametrize("which", [0, 1, 2], ids=["source", "Makefile", "header"])
def test_another_content_of_a_file_is_built(standin: StandIn, copy: Tree, which: int) -> None:
    loader.build(copy)
    path = standin.reads[which]
    text = path.read_text()
    # As long as before: neither size nor, on a coarse clock, time tell it.
    path.write_text(text.replace("a", "b", 1))
    os.utime(path, ns=(0, 0))
    loader.build(copy)
    assert standin.builds == 2


def test_a_new_source_where_missing_ones_are_looked_for_is_built(
    standin: StandIn, copy: Tree
) -> None:
    loader.build(copy)
    (copy.xen / trees.TEE / "editor.swp").touch()
    loader.build(copy)
    assert standin.builds == 1
    (copy.xen / trees.TEE / "new.c").touch()
    loader.build(copy)
    assert standin.builds == 2


@pytest.mark.parametrize("name", ["Kconfig", "arch/arm/configs/arm64_defconfig"])
def test_another_kconfig_is_built(standin: StandIn, copy: Tree, name: str) -> None:
    loader.build(copy)
    with (copy.xen / name).open("a") as file:
        file.write("# changed\n")
    loader.build(copy)
    assert standin.builds == 2


def test_a_file_that_changes_while_it_is_compiled_is_built_again(
    standin: StandIn, copy: Tree
) -> None:
    standin.meanwhile = lambda: standin.reads[0].write_text("/* another */")
    loader.build(copy)
    standin.meanwhile = lambda: None
    time.sleep(0.02)
    loader.build(copy)
    assert standin.builds == 2
    loader.build(copy)
    assert standin.builds == 2


def test_other_stubs_are_built(
    standin: StandIn, copy: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader.build(copy)
    shutil.copytree(paths.STUBS, tmp_path / "stubs")
    with (tmp_path / "stubs/overlay/asm/bug.h").open("a") as file:
        file.write("/* changed */\n")
    monkeypatch.setattr(paths, "STUBS", tmp_path / "stubs")
    loader._ourselves.cache_clear()
    loader.build(copy)
    assert standin.builds == 2
    monkeypatch.undo()
    loader._ourselves.cache_clear()


def test_each_question_has_an_answer_of_its_own(standin: StandIn, copy: Tree) -> None:
    asked: list[tuple[dict[str, str], Sequence[str]]] = [
        ({}, ()),
        ({"DEBUG": "n"}, ()),
        ({}, ("-O0",)),
    ]
    found = {loader.build(copy, config, flags=flags).path for config, flags in asked}
    assert len(found) == standin.builds == 3
    # DEBUG=y is what no settings mean.
    assert loader.build(copy, {"DEBUG": "y"}).path in found


def test_the_record_follows_the_tree_and_not_the_cache(standin: StandIn, copy: Tree) -> None:
    loader.build(copy)
    moved_on = dataclasses.replace(copy, commit="1" * 40, version="9.9", notes=("a note",))
    record = loader.build(moved_on).record
    assert standin.builds == 1
    assert (record["commit"], record["version"]) == ("1" * 40, "9.9")
    assert "a note" in record["notes"]


# --- a damaged cache -----------------------------------------------------------------------------

DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "one bit": lambda content: content[:-5] + bytes([content[-5] ^ 1]) + content[-4:],
    "binary": lambda content: os.urandom(len(content)),
    "other JSON": lambda content: b"[]",
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("pattern", ["*.so", "manifest"])
def test_a_damaged_file_is_built_again(
    standin: StandIn, copy: Tree, cache: Path, pattern: str, damage: str
) -> None:
    first = loader.build(copy)
    [file] = cache.glob(f"*/{pattern}")
    file.write_bytes(DAMAGE[damage](file.read_bytes()))
    again = loader.build(copy)
    assert standin.builds == 2
    assert again.path != first.path, "a module's name is never used twice"
    assert loader.build(copy) == again


def test_a_missing_file_is_built_again(standin: StandIn, copy: Tree, cache: Path) -> None:
    loader.build(copy).path.unlink()
    loader.build(copy)
    (cache / next(cache.iterdir()) / "manifest").unlink()
    loader.build(copy)
    assert standin.builds == 3


def test_a_cache_that_cannot_be_written_is_told(standin: StandIn, copy: Tree, cache: Path) -> None:
    cache.parent.mkdir()
    cache.touch()  # where a directory belongs: even root cannot write there
    with pytest.raises(CacheError, match=r"(?s)builds.*FFASHIM_CACHE"):
        loader.build(copy)


def test_a_tree_that_is_edited_does_not_fill_the_disk(
    standin: StandIn, copy: Tree, cache: Path
) -> None:
    made = []
    for n in range(12):
        standin.reads[0].write_text(f"/* {n} */")
        time.sleep(0.02)
        made.append(loader.build(copy).path)
    there = [path for path in made if path.exists()]
    assert there == made[-8:], "another process may be about to load a former one"


# --- failed and killed builds --------------------------------------------------------------------


def test_a_failed_build_is_kept_while_its_error_speaks_of_it(
    standin: StandIn, copy: Tree, cache: Path
) -> None:
    standin.fails = "cc -c ffa.c -o {work}/object.o"
    for n in range(12):
        with pytest.raises(BuildError) as caught:
            loader.build(copy, flags=[f"-DN={n}"])
        assert Path(str(caught.value).split()[-1]).is_file()
    assert len(left_over(cache)) == 8
    # The same again takes the place of the former one.
    with pytest.raises(BuildError):
        loader.build(copy, flags=["-DN=11"])
    assert len(left_over(cache)) == 8
    standin.fails = ""
    loader.build(copy, flags=["-DN=11"])
    assert len(left_over(cache)) == 7


@pytest.mark.parametrize("error", [BuildError("no such luck"), KeyboardInterrupt()])
def test_what_no_error_speaks_of_goes_at_once(
    standin: StandIn, copy: Tree, cache: Path, error: BaseException
) -> None:
    def fail() -> None:
        raise error

    standin.meanwhile = fail
    with pytest.raises(type(error)):
        loader.build(copy)
    assert not left_over(cache)


def test_what_a_killed_build_left_goes_with_the_next_of_any_tree(
    standin: StandIn, copy: Tree, cache: Path
) -> None:
    loader.build(copy)
    [directory] = cache.iterdir()
    for place in (directory, cache / "of another tree"):
        (place / "work-killed").mkdir(parents=True)
        (place / "work-killed/object.o").touch()
    loader.build(copy, flags=["-O0"])
    assert not left_over(cache)


def test_what_another_process_works_on_stays(standin: StandIn, copy: Tree, cache: Path) -> None:
    other = cache / "of another tree"
    (other / "work-busy").mkdir(parents=True)
    with loader._locked(other):
        loader.build(copy)
        assert left_over(cache) == ["work-busy"]


BUILD = (
    "import sys; from ffashim import FFA, Machine, loader; from ffashim.source import resolve; "
    "extension = loader.build(resolve(sys.argv[1]), cc=sys.argv[2]); "
    "assert Machine(extension).boot().create_vm('1.1').smc(FFA.ID_GET).ok; print(extension.path)"
)


def start(tree: Tree, cc: str) -> subprocess.Popen[str]:
    """Build and boot a tree in a process of its own, which leads a process group."""
    return subprocess.Popen(
        [sys.executable, "-c", BUILD, str(tree.root), cc],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_a_build_is_killed_and_then_eight_processes_build_once(
    cache: Path, tree: Tree, tmp_path: Path
) -> None:
    copy = trees.copy(tree, tmp_path / "tree")
    compiler = trees.CountingCompiler(tmp_path / "bin")
    compiler.hang(True)
    with start(copy, compiler.command) as killed:
        deadline = time.monotonic() + 60
        while not compiler.reached.exists():
            assert killed.poll() is None, killed.stderr and killed.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(killed.pid, signal.SIGKILL)
    assert left_over(cache)
    compiler.hang(False)
    compiler.links()

    # The path of the extension, then what goes wrong: nothing.
    running = [start(copy, compiler.command) for _ in range(8)]
    done = [process.communicate(timeout=240) for process in running]
    assert [process.returncode for process in running] == [0] * 8, done
    assert len({path for path, _ in done}) == 1
    assert compiler.links() == 1
    assert not left_over(cache)

    # And once more from a process that has compiled nothing: the compiler is not asked.
    started = time.monotonic()
    extension = loader.build(copy, cc=compiler.command)
    assert time.monotonic() - started < 2
    assert compiler.runs() == 0
    assert f"{extension.path}\n" == done[0][0]

    # An edit of a header that ffa.c includes is seen by the real thing, too.
    with (copy.xen / "include/xen/sched.h").open("a") as header:
        header.write("/* edited */\n")
    assert loader.build(copy, cc=compiler.command).path != extension.path
    assert compiler.links() == 1


# --- compilers -----------------------------------------------------------------------------------


def test_a_compiler_may_have_arguments(standin: StandIn, copy: Tree) -> None:
    loader.build(copy, cc="cc -pipe")
    assert standin.recipes[-1].cc == "cc -pipe"
    loader.build(copy, cc="cc")
    assert standin.builds == 2


def test_a_compiler_behind_a_launcher_is_known() -> None:
    # As with "ccache gcc": the second word is the compiler.
    assert loader._identity("env cc")[1] == [
        *loader._identity("env")[1],
        *loader._identity("cc")[1],
    ]


def test_another_compiler_of_the_same_name_is_another(
    standin: StandIn, copy: Tree, tmp_path: Path
) -> None:
    compiler = trees.CountingCompiler(tmp_path / "bin")
    loader.build(copy, cc=compiler.command)
    with Path(compiler.command).open("a") as file:
        file.write("# upgraded\n")
    loader.build(copy, cc=compiler.command)
    assert standin.builds == 2


@pytest.mark.parametrize(
    ("cc", "reason"),
    [
        ("no-such-compiler", "there is no C compiler 'no-such-compiler'"),
        ("", "there is no C compiler ''"),
        ("cc 'unbalanced", "not a command"),
        ("{tmp}/plain", "plain is not executable"),
        ("{tmp}", "is not executable|there is no C compiler"),
        ("{tmp}/garbage", "does not run"),
        ("false", "does not run"),
    ],
)
def test_what_is_no_compiler_is_refused(
    cache: Path, copy: Tree, tmp_path: Path, cc: str, reason: str
) -> None:
    (tmp_path / "plain").write_text("#!/bin/sh\n")
    (tmp_path / "garbage").write_bytes(b"\x7fELF garbage")
    (tmp_path / "garbage").chmod(0o755)
    with pytest.raises(BuildError, match=reason):
        loader.build(copy, cc=cc.format(tmp=tmp_path))


# --- loading -------------------------------------------------------------------------------------


def test_two_extensions_in_one_interpreter_do_not_disturb_each_other(tree: Tree) -> None:
    machines = [
        Machine(loader.build(tree, trees.settings(tree, *values), cc="cc"))
        for values in (("y", "n"), ("n", "y"))
    ]
    one, other = machines
    one.boot()
    first = one.create_vm("1.1")
    other.boot()
    heap = one.heap
    for _ in range(3):
        other.create_vm("1.1").map_rxtx()
    other.advance(5)
    assert (one.heap, one.now) == (heap, 0)
    assert first.smc(FFA.ID_GET).w(2) == first.id
    other.boot()
    assert first.smc(FFA.ID_GET).w(2) == first.id
    modules: list[ModuleType] = [machine.extension.load() for machine in machines]
    assert modules[0] is not modules[1]
    assert one.extension.load() is modules[0]


def test_a_module_is_named_after_its_file(tree: Tree) -> None:
    extension = loader.build(tree)
    module = extension.load()
    assert module.__name__ == f"{extension.path.stem}.{REAL.MODULE}"
    assert isinstance(module.__loader__, importlib.machinery.ExtensionFileLoader)
