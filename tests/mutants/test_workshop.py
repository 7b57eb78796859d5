# SPDX-License-Identifier: GPL-2.0-only
"""Mutants of the tree under test, compiled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ffashim import FFA
from ffashim.errors import BuildError
from ffashim.loader import Extension
from ffashim.machine import Machine
from ffashim.mutants import source
from ffashim.mutants.operators import Edit
from ffashim.mutants.source import Mutant
from ffashim.mutants.workshop import Bench, Workshop, files
from ffashim.source import Tree

HANDLERS = "ffa_rxtx.c"
HEADER = "ffa_private.h"


@pytest.fixture(scope="module")
def workshop(tree: Tree, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tree, {}, tmp_path_factory.mktemp("workshop"))


@pytest.fixture(scope="module")
def bench(workshop: Workshop) -> Bench:
    return workshop.bench(0)


def mutant(workshop: Workshop, file: str, before: str, after: str) -> Mutant:
    """Make a mutant by hand: after a text that the file has, in place of it."""
    content = files(workshop.tree)[file]
    start = content.index(before.encode())
    some = source.find(file, content)[0]
    return replace(some, edit=Edit(start, start + len(before.encode()), after))


def test_the_mediators_own_files_are_mutated(workshop: Workshop) -> None:
    assert {"ffa.c", HANDLERS, HEADER} <= files(workshop.tree).keys()
    assert "tee.c" not in files(workshop.tree)


def test_a_change_that_the_compiler_does_not_see_is_none(workshop: Workshop, bench: Bench) -> None:
    for file in (HANDLERS, HEADER):
        assert bench.build(mutant(workshop, file, "#include", "/**/ #include")) is None


def test_what_does_not_compile_is_refused(workshop: Workshop, bench: Bench) -> None:
    with pytest.raises(BuildError):
        bench.build(mutant(workshop, HANDLERS, "#include", "#error"))


def test_what_xens_own_build_refuses_is_refused(workshop: Workshop, bench: Bench) -> None:
    unused = "static int unused_function(void) { return 1; }\n#include"
    with pytest.raises(BuildError):
        bench.build(mutant(workshop, HANDLERS, "#include", unused))


def test_a_mutant_boots_and_the_next_one_is_another(workshop: Workshop, bench: Bench) -> None:
    def planted(value: int) -> tuple[Path, str]:
        text = f"int planted(void);\nint planted(void) {{ return {value}; }}\n#include"
        made = bench.build(mutant(workshop, HANDLERS, "#include", text))
        assert made is not None
        return made

    extension, first = planted(1)
    Machine(Extension(extension, workshop.extension.record)).boot()
    _, second = planted(2)
    _, again = planted(1)
    assert first == again != second


def test_a_change_of_a_header_reaches_all_that_include_it(workshop: Workshop, bench: Bench) -> None:
    calls = [
        each
        for each in source.find(HEADER, files(workshop.tree)[HEADER])
        if each.function == "ffa_set_regs" and each.operator == "call"
    ]
    made = bench.build(calls[2])
    assert made is not None
    vm = Machine(Extension(made[0], workshop.extension.record)).boot().create_vm()
    # Which another file answers: w2 is as the guest left it.
    assert vm.smc(FFA.ID_GET, 0, 0x1234).w(2) == 0x1234


def test_the_tree_is_left_as_it_was(tree: Tree, workshop: Workshop, bench: Bench) -> None:
    bench.build(mutant(workshop, HANDLERS, "#include", "int planted;\n#include"))
    for name, content in files(workshop.tree).items():
        assert (workshop.mediator / name).read_bytes() == content
        assert tree.xen in workshop.mediator.parents


def test_only_the_last_mutant_is_kept(workshop: Workshop, bench: Bench) -> None:
    for value in (3, 4, 5):
        bench.build(mutant(workshop, HANDLERS, "#include", f"int planted = {value};\n#include"))
    assert len(list(workshop.directory.glob("bench-0/**/*.so"))) == 1
