# SPDX-License-Identifier: GPL-2.0-only
"""--warnings: of what a patch changes, and only of that, what gcc and clang say if asked."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import typer
from planted import plant

from ffashim import lint
from ffashim.cli import subject, suite
from ffashim.cli.check import check
from ffashim.errors import UsageError
from ffashim.source import Tree, resolve

FUNCTION = """
int %(name)s(struct cpu_user_regs *regs, struct domain *d);
int %(name)s(struct cpu_user_regs *regs, struct domain *d)
{
    int found = get_user_reg(regs, 1);

    if ( found )
    {
        int %(inner)s = d->domain_id;

        found += %(inner)s;
    }

    return found;
}

"""
SHADOWED = FUNCTION % {"name": "plant", "inner": "found"}
FIXED = FUNCTION % {"name": "plant_fixed", "inner": "inner"}


@pytest.fixture(scope="module")
def patched(tree: Tree, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return resolve(tree.spec, [plant(tree, tmp_path_factory.mktemp("lint"), SHADOWED + FIXED)])


def test_a_patch_is_told_of_its_own_lines_and_of_what_is_wrong_there(
    tree: Tree, patched: Tree
) -> None:
    (shadowed,) = lint.warnings(patched, [{}], tree)
    assert shadowed.option == "-Wshadow"
    assert shadowed.file == "xen/arch/arm/tee/ffa.c"
    assert shadowed.compilers == tuple(lint.compilers())
    lines = (patched.root / shadowed.file).read_text().splitlines()
    assert lines[shadowed.line - 1] == "        int found = d->domain_id;"


def test_without_a_patch_all_of_the_mediator_is_looked_at(patched: Tree) -> None:
    found = lint.warnings(patched, [{}])
    assert "-Wshadow" in {each.option for each in found}
    assert {Path(each.file).parent.as_posix() for each in found} == {"xen/arch/arm/tee"}


def test_options_that_a_compiler_does_not_know_are_left_out() -> None:
    for cc in lint.compilers():
        known = lint.known(cc)
        assert {"-Wall", "-Wshadow", "-Wmissing-prototypes"} <= set(known) <= set(lint.OPTIONS)
        # One of the two is clang's, the other gcc's.
        assert ("-Wcomma" in known) is not ("-Wsuggest-attribute=noreturn" in known)


def test_a_machine_without_compilers_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match="neither gcc nor clang"):
        lint.compilers()


@pytest.mark.parametrize("patched", [True, False])
def test_the_exit_status_tells_of_a_warning_on_a_changed_line(
    tree: Tree,
    patched: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = lint.Remark("xen/arch/arm/tee/ffa.c", 7, "it is odd", "-Wodd", ("gcc", "clang"))
    monkeypatch.setattr(lint, "warnings", lambda *_: [said])
    monkeypatch.setattr(subject, "prepare", lambda *_, **__: {})
    monkeypatch.setattr(suite, "run_suite", lambda *_: [])
    patch = [plant(tree, tmp_path, FIXED)] if patched else None
    with pytest.raises(typer.Exit) if patched else contextlib.nullcontext() as caught:
        check([tree.spec], patch, warnings=True)
    assert not caught or caught.value.exit_code == 1
    lines = capsys.readouterr().out.splitlines()
    where = "on changed lines" if patched else "in ffa*.c and ffa*.h"
    assert lines[0].endswith(f": 1 warning of {' and '.join(lint.compilers())} {where}")
    assert lines[1] == "  xen/arch/arm/tee/ffa.c:7: it is odd [-Wodd] (gcc, clang)"
    # The suite's table stands between the two.
    assert (lines[-1] == "failed: 1 warning on changed lines, told first") is patched
