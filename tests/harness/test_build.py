# SPDX-License-Identifier: GPL-2.0-only
"""Building a tree: every compiler and configuration, and trees that somebody has patched."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import trees

from ffashim import FFA, Machine, faults, loader, paths
from ffashim.errors import BuildError, ConfigError
from ffashim.source import Tree

# --- configurations ------------------------------------------------------------------------------

# Each compiler with each setting; the two settings do not meet in one file of the tree.
CONFIGURATIONS = [
    ("gcc", "y", "n"),
    ("gcc -pipe", "n", "y"),
    ("clang", "y", "y"),
    ("clang", "n", "n"),
]


@pytest.mark.parametrize(("cc", "debug", "vm_to_vm"), CONFIGURATIONS)
def test_a_configuration_boots_and_serves_a_guest(
    tree: Tree, cc: str, debug: str, vm_to_vm: str
) -> None:
    trees.need(cc.split()[0])
    settings = trees.settings(tree, debug, vm_to_vm)
    extension = loader.build(tree, settings, cc=cc)
    assert extension.enabled("DEBUG") == (debug == "y")
    assert extension.enabled("FFA_VM_TO_VM") == (settings.get("FFA_VM_TO_VM") == "y")
    assert cc.split()[0] in extension.record["compiler"]

    machine = Machine(extension).boot()
    vm = machine.create_vm("1.0")
    reply = vm.smc(FFA.ID_GET)
    assert (reply.fid, reply.w(2)) == (FFA.SUCCESS_32, vm.id)
    vm.map_rxtx()
    # To a guest of 1.0 a partition is 8 bytes; not every tree is right about the size it tells.
    count = vm.partition_info_get().w(2)
    ids = {descriptor[0] for descriptor in struct.iter_unpack("<H6x", vm.rx.read()[: 8 * count])}
    assert ids == {each.id for each in machine.spmc.state.partitions}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"FFA_VM_TO_VN": "y"}, "unknown configuration symbol FFA_VM_TO_VN"),
        ({"UNSUPPORTED": "n"}, "is not possible.*(FFA|UNSUPPORTED)=n"),
        ({"ARM_64": "n"}, "ARM_64=n is not possible.*derives it"),
        ({"DEBUG": "maybe"}, "DEBUG=maybe: the symbol takes y or n"),
    ],
)
def test_a_setting_that_the_tree_refuses_is_refused_with_the_reason(
    tree: Tree, settings: dict[str, str], reason: str
) -> None:
    with pytest.raises(ConfigError, match=f"(?s){reason}"):
        loader.build(tree, settings)


# --- a tree that somebody has patched ------------------------------------------------------------

MISSING = "nobody_provides_this"
VARIABLE = "nobody_defines_this"


@dataclass(frozen=True)
class Extended:
    """A tree with more files in it, built."""

    tree: Tree
    before: dict[str, tuple[str, int]]
    extension: loader.Extension


@pytest.fixture(scope="module")
def extended(tree: Tree, tmp_path_factory: pytest.TempPathFactory) -> Extended:
    """A copy of the tree in which FFA_ID_GET calls new files of ours."""
    # What a shell, a Makefile and DIR@REV would each take for something else.
    root = tmp_path_factory.mktemp("extended") / "a tree@home, $HOME #1"
    copy = trees.copy(tree, root)
    tee = copy.xen / trees.TEE
    trees.edit(
        tee / "ffa.c",
        r"\n    case FFA_ID_GET:\n",
        r"\g<0>        if ( get_user_reg(regs, 1) )\n        {\n"
        r"            set_user_reg(regs, 0, planted_call(get_user_reg(regs, 1)));\n"
        r"            return true;\n        }\n",
    )
    trees.edit(
        tee / "ffa.c",
        r"\nstatic bool ffa_handle_call\(",
        r"\n#define FFA_PLANTED (FFA_ID_GET + 0x1000U)\n"
        r"unsigned long planted_call(unsigned long);\g<0>",
    )
    with (tee / "Makefile").open("a") as makefile:
        makefile.write(
            "# obj-y += commented_out.o\n"
            "obj-$(CONFIG_FFA) += \\\n    planted.o \\\n    planted/\n"
            "obj-$(CONFIG_NOWHERE_DEFINED) += not_there.o\n"
        )
    (tee / "planted.c").write_text(
        "#include <xen/types.h>\nunsigned long planted_deeper(unsigned long);\n"
        f"unsigned long {MISSING}(void);\nunsigned long {MISSING}_either(void);\n"
        f"extern unsigned long {VARIABLE};\n"
        f"unsigned long (*const planted_table[])(void) = {{ {MISSING}_either }};\n"
        "unsigned long planted_call(unsigned long x);\n"
        "unsigned long planted_call(unsigned long x)\n{\n"
        f"    if ( x == 1 )\n        return {MISSING}();\n"
        f"    if ( x == 2 )\n        return {VARIABLE};\n"
        "    return x == 3 ? planted_table[0]() : planted_deeper(x);\n}\n"
    )
    (tee / "planted").mkdir()
    (tee / "planted/Makefile").write_text("obj-y += deeper.o\n")
    (tee / "planted/deeper.c").write_text(
        "#include <xen/types.h>\nunsigned long planted_deeper(unsigned long x);\n"
        "unsigned long planted_deeper(unsigned long x)\n{\n    return x + 1;\n}\n"
    )
    before = trees.fingerprint(root)
    return Extended(copy, before, loader.build(copy))


def test_new_files_in_the_makefile_are_compiled_and_run(extended: Extended) -> None:
    files = set(extended.extension.record["files"])
    added = {f"xen/{trees.TEE}/{name}" for name in ("planted.c", "planted/deeper.c")}
    assert added <= files
    vm = Machine(extended.extension).boot().create_vm("1.1")
    assert vm.smc(FFA.ID_GET, 41)[0] == 42


def test_what_nobody_provides_ends_the_call_that_reaches_it(extended: Extended) -> None:
    unmodelled = extended.extension.record["unmodelled"]
    assert {MISSING, f"{MISSING}_either", VARIABLE} <= set(unmodelled)
    machine = Machine(extended.extension).boot()
    for number, said in (
        (1, rf"{MISSING}\(\) is called"),
        (2, f"the variable {VARIABLE} is used"),
        (3, rf"{MISSING}_either\(\) is called"),
    ):
        vm = machine.create_vm("1.1")
        assert vm.smc(FFA.ID_GET).ok
        with pytest.raises(faults.XenUnmodelled, match=said) as caught:
            vm.smc(FFA.ID_GET, number)
        assert any("do_trap_smc" in place for place in caught.value.report.backtrace)
        assert machine.boot().create_vm("1.1").smc(FFA.ID_GET).ok


def test_building_leaves_the_tree_as_it_is(extended: Extended) -> None:
    assert trees.fingerprint(extended.tree.root) == extended.before


def test_constants_are_the_trees_own(extended: Extended) -> None:
    constants = extended.extension.record["constants"]
    assert constants["FFA_PLANTED"] == constants["FFA_ID_GET"] + 0x1000
    assert constants["FFA_ID_GET"] == FFA.ID_GET
    assert all(isinstance(value, int) for value in constants.values())


def test_the_record_tells_what_was_compiled_and_with_what(extended: Extended) -> None:
    record = extended.extension.record
    assert record["origin"] == f"directory {extended.tree.root}"
    assert record["version"] == extended.tree.version
    assert (record["commit"], record["patches"]) == (None, [])
    assert re.search(r"\d+\.\d+", record["compiler"])
    assert (record["config"]["FFA"], record["config"]["DEBUG"]) == ("y", "y")
    root = extended.tree.root
    for name, hashes in record["files"].items():
        blob = subprocess.run(
            ["git", "hash-object", "--no-filters", name], cwd=root, capture_output=True, text=True
        )
        assert hashes["sha256"] == extended.before[str(root / name)][0]
        assert hashes["blob"] == blob.stdout.strip()
    assert {f"xen/{trees.TEE}/ffa.c", f"xen/{trees.TEE}/tee.c"} <= set(record["files"])


def test_nothing_of_the_tree_is_compiled_twice_or_from_elsewhere(extended: Extended) -> None:
    for name in extended.extension.record["files"]:
        assert name.startswith("xen/")
        assert str(extended.tree.root / name) in extended.before


def test_what_decides_what_is_compiled_is_watched_like_what_is_compiled(
    extended: Extended,
) -> None:
    manifest = (extended.extension.path.parent / "manifest").read_text().partition("\n")[2]
    inputs = set(json.loads(manifest)["inputs"])
    xen = extended.tree.xen
    decisive = ["Kconfig", f"{trees.TEE}/Makefile", f"{trees.TEE}/planted/Makefile"]
    # In lib/, what is missing now may turn up.
    for name in [*decisive, f"{trees.TEE}/ffa.c", "include/xen/sched.h", "lib"]:
        assert str(xen / name) in inputs


def test_build_py_alone_builds_a_tree(extended: Extended) -> None:
    done = subprocess.run(
        [sys.executable, paths.BUILD_PY, extended.tree.root], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].endswith(".so")


# --- a tree that does not compile ----------------------------------------------------------------


def test_the_error_of_a_broken_file_can_be_repeated_by_its_command(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FFASHIM_CACHE", str(tmp_path / "my cache"))
    copy = trees.copy(tree, tmp_path / "broken tree")
    broken = copy.xen / trees.TEE / "ffa.c"
    whole = broken.read_text()
    broken.write_text(whole + "#error planted mistake\n")
    with pytest.raises(BuildError) as caught:
        loader.build(copy)
    headline, *_, what, where = str(caught.value).splitlines()
    assert headline == f"{broken} does not compile:"
    line = len(broken.read_text().splitlines())
    assert re.fullmatch(rf"It fails of {broken}:{line}:.* error: .*planted mistake.*", what)
    assert where.startswith("All that was said, and the command, is in ")
    said = Path(where.partition(" is in ")[2]).read_text().splitlines()
    command = said[said.index("The command was:") + 1]

    def repeat() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, shell=True, cwd="/", capture_output=True, text=True)

    again = repeat()
    assert again.returncode != 0
    assert "planted mistake" in again.stderr
    broken.write_text(whole)
    assert repeat().returncode == 0


MISTAKES = {
    "undeclared": ("nobody_declares_this(0);", "nobody_declares_this"),
    "argument": ("planted_two(1);", "too few arguments"),
    "pointer": ("planted_pointer((long *)p);", "incompatible.*pointer"),
    "integer": ("planted_pointer(x);", "without a cast|incompatible integer to pointer"),
    "const": ("static const int c;\n    planted_pointer(&c);", "discards"),
    "types": ("p[0] = min(x, p[0]);", "distinct pointer types"),
    "printf": ('printk("%s", x);', "%s"),
    "unset": ("int y;\n    p[y] = 0;", "uninitialized"),
    "unused": ("int never;", "never"),
    "return": ("}\nint planted_return(void);\nint planted_return(void)\n{", "non-void function"),
}
"""What goes into a function of int *p and unsigned long x, and what any compiler says of it."""


@pytest.fixture(scope="module")
def editable(tree: Tree, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """A copy of the tree; a test puts back what it edits."""
    return trees.copy(tree, tmp_path_factory.mktemp("editable") / "tree")


@pytest.mark.parametrize("cc", ["gcc", "clang"])
@pytest.mark.parametrize(
    ("mistake", "file"),
    [*((each, f"{trees.TEE}/ffa.c") for each in MISTAKES), ("undeclared", "arch/arm/vsmc.c")],
)
def test_what_xens_own_build_refuses_is_refused(
    editable: Tree,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mistake: str,
    cc: str,
    file: str,
) -> None:
    trees.need(cc)
    monkeypatch.setenv("FFASHIM_CACHE", str(tmp_path / "cache"))
    broken = editable.xen / file
    whole = broken.read_text()
    text, said = MISTAKES[mistake]
    planted = (
        "int planted_two(int a, int b);\nvoid planted_pointer(int *p);\n"
        "void planted(int *p, unsigned long x);\n"
        f"void planted(int *p, unsigned long x)\n{{\n    {text}\n}}\n"
    )
    broken.write_text(whole + planted)
    try:
        with pytest.raises(BuildError, match=rf"(?s)\.c does not compile.*({said})"):
            loader.build(editable, cc=cc)
    finally:
        broken.write_text(whole)


def test_an_error_in_a_header_is_not_told_without_end(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FFASHIM_CACHE", str(tmp_path / "cache"))
    copy = trees.copy(tree, tmp_path / "broken")
    with (copy.xen / "include/xen/sched.h").open("a") as header:
        header.write("".join(f"#error mistake {n}\n" for n in range(500)))
    with pytest.raises(BuildError, match="more lines") as caught:
        loader.build(copy)
    assert len(str(caught.value).splitlines()) < 100


def test_a_file_that_the_makefile_names_in_vain_is_named(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FFASHIM_CACHE", str(tmp_path / "cache"))
    copy = trees.copy(tree, tmp_path / "broken")
    with (copy.xen / trees.TEE / "Makefile").open("a") as makefile:
        makefile.write("obj-$(CONFIG_FFA) += forgotten.o\n")
    with pytest.raises(BuildError, match=r"forgotten\.c does not compile"):
        loader.build(copy)
