# SPDX-License-Identifier: GPL-2.0-only
"""--sanitize: a planted mistake is the failing call's own message; its fixed twin passes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from planted import plant
from planted_undefined import ADDRESS, FUNCTIONS, MISTAKES, NUMBERS, POINTERS, UNDEFINED, Mistake

from ffashim import FFA, Machine, Points, faults, loader, sanitizers
from ffashim.errors import BuildError, UsageError
from ffashim.machine import Point
from ffashim.source import Tree, resolve


@pytest.fixture(scope="module", params=["gcc", "clang"])
def sanitized(
    request: pytest.FixtureRequest, tree: Tree, tmp_path_factory: pytest.TempPathFactory
) -> loader.Extension:
    """A tree with the mistakes in it, built with both sanitizers."""
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    patch = plant(tree, tmp_path_factory.mktemp("planted"), FUNCTIONS)
    copy = resolve(tree.spec, [patch])
    return loader.build(copy, cc=request.param, sanitize=("address", "undefined"))


@pytest.fixture
def machine(sanitized: loader.Extension) -> Machine:
    return Machine(sanitized).boot()


def commit(machine: Machine, mistake: Mistake, x2: int) -> None:
    vm = machine.create_vm("1.1")
    assert vm.smc(FFA.ID_GET, NUMBERS[mistake.name], x2).ok


def names(mistakes: tuple[Mistake, ...]) -> Iterator[str]:
    return (mistake.name for mistake in mistakes)


@pytest.mark.parametrize("mistake", [*ADDRESS, *POINTERS], ids=names((*ADDRESS, *POINTERS)))
def test_memory_that_is_not_to_be_touched_is_named(machine: Machine, mistake: Mistake) -> None:
    with pytest.raises(faults.XenAccess, match=mistake.said) as caught:
        commit(machine, mistake, mistake.wrong)
    assert re.match(r"xen/arch/arm/tee/ffa\.c:\d+$", caught.value.report.where)


@pytest.mark.parametrize("mistake", UNDEFINED, ids=names(UNDEFINED))
def test_what_c_gives_no_meaning_to_is_told(machine: Machine, mistake: Mistake) -> None:
    with pytest.raises(faults.XenUndefined, match=mistake.said) as caught:
        commit(machine, mistake, mistake.wrong)
    assert re.match(r"xen/arch/arm/tee/ffa\.c:\d+$", caught.value.report.where)


def test_the_fixed_twin_of_each_mistake_passes(machine: Machine) -> None:
    for mistake in MISTAKES:
        commit(machine, mistake, mistake.right)


def test_a_report_says_who_allocated_and_freed_the_block(machine: Machine) -> None:
    (mistake,) = (each for each in ADDRESS if each.name == "read_of_a_freed_block")
    with pytest.raises(faults.XenAccess) as caught:
        commit(machine, mistake, mistake.wrong)
    allocated, freed = caught.value.report.memory
    assert re.match(r"allocated by plant\(\) xen/arch/arm/tee/ffa\.c:\d+$", allocated)
    assert re.match(r"freed by plant\(\) xen/arch/arm/tee/ffa\.c:\d+$", freed)
    assert f"the memory was:\n    {allocated}\n    {freed}" in str(caught.value)


def test_a_snapshot_knows_what_may_be_touched(machine: Machine) -> None:
    named = {mistake.name: mistake for mistake in ADDRESS}
    freed, local = named["read_of_a_freed_block"], named["write_past_the_end_of_a_local"]
    vm = machine.create_vm("1.1")
    start = machine.snapshot()
    for mistake in (freed, local, freed):
        # What the mistake has marked, or left marked on the stack, is as it was before.
        with pytest.raises(faults.XenAccess):
            vm.smc(FFA.ID_GET, NUMBERS[mistake.name], mistake.wrong)
        machine.restore(start)
        assert vm.smc(FFA.ID_GET, NUMBERS[mistake.name], mistake.right).ok
        vm.map_rxtx()
        vm.destroy()
        machine.restore(start)


def test_a_call_in_the_middle_of_another_has_a_stack_of_its_own(machine: Machine) -> None:
    one, two = machine.create_vm("1.1"), machine.create_vm("1.1")
    one.map_rxtx()
    local = NUMBERS["write_past_the_end_of_a_local"]

    def intrude(point: Point) -> None:
        assert two.smc(FFA.ID_GET, local, 23).ok

    with machine.at_points(intrude, Points.LOCK):
        assert one.partition_info_get().ok
    with pytest.raises(faults.XenAccess):
        one.smc(FFA.ID_GET, local, 24)


def test_a_suppression_is_of_one_check_in_one_file(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patched = resolve(tree.spec, [plant(tree, tmp_path, FUNCTIONS)])
    said = sanitizers.Suppression("arch/arm/tee/ffa.c", "alignment", "this test wants it")
    monkeypatch.setattr(sanitizers, "SUPPRESSIONS", (said,))
    monkeypatch.setenv("FFASHIM_CACHE", str(tmp_path / "cache"))
    machine = Machine(loader.build(patched, sanitize=("undefined",))).boot()
    aligned, absent = POINTERS
    commit(machine, aligned, aligned.wrong)
    with pytest.raises(faults.XenAccess, match=absent.said):
        commit(machine, absent, absent.wrong)


def test_each_suppression_is_of_a_file_that_there_is_and_says_why(tree: Tree) -> None:
    for each in sanitizers.SUPPRESSIONS:
        assert (tree.xen / each.file).is_file(), f"{each.file} is gone: the entry is not needed"
        assert each.why


def test_a_plain_build_has_nothing_of_it(machine: Machine, tree: Tree) -> None:
    assert not loader.build(tree).sanitize
    assert machine.extension.sanitize == ("address", "undefined")
    assert "sanitize=address,undefined" in machine.extension.describe()


def test_sanitizers_are_named_in_any_order_and_once() -> None:
    assert sanitizers.parse("undefined, address,undefined") == ("address", "undefined")
    assert sanitizers.parse(None) == ()


@pytest.mark.parametrize("names", ["adress", "address,,leak", "", ","])
def test_an_unknown_sanitizer_is_answered_with_those_that_there_are(names: str) -> None:
    with pytest.raises(UsageError, match="address, undefined"):
        sanitizers.parse(names)


def test_to_count_and_to_look_are_two_runs(tree: Tree) -> None:
    with pytest.raises(UsageError, match="ask for one of them"):
        loader.build(tree, coverage=True, sanitize=("undefined",))


def test_where_there_is_no_room_for_the_shadow_the_error_says_what_to_look_at(
    sanitized: loader.Extension,
) -> None:
    script = (
        "import sys; from pathlib import Path; from ffashim import Machine, loader\n"
        "try: Machine(loader.Extension(Path(sys.argv[1]), {'sanitize': ['address']}))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    limited = 'ulimit -v 8000000; exec "$@"'
    done = subprocess.run(
        ["sh", "-c", limited, "sh", sys.executable, "-c", script, str(sanitized.path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert re.match(r"FfashimError .*: ENOMEM; see `ulimit -v`", done.stdout), done.stderr


def test_a_compiler_that_has_none_is_told_of(tree: Tree, tmp_path: Path) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text(
        '#!/bin/sh\nfor a; do case $a in -fsanitize*) echo "what is $a?" >&2; exit 1;; esac; done\n'
        'exec cc "$@"\n'
    )
    compiler.chmod(0o755)
    with pytest.raises(BuildError, match=r"--sanitize=address: .* has nothing for it"):
        loader.build(tree, cc=str(compiler), sanitize=("address",))


def test_double_fetch_goes_with_no_other_sanitizer() -> None:
    with pytest.raises(UsageError, match="double-fetch goes with no other sanitizer"):
        sanitizers.parse("address,double-fetch")
    assert sanitizers.parse("double-fetch,double-fetch") == ("double-fetch",)
