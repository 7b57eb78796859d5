# SPDX-License-Identifier: GPL-2.0-only
"""Configuring a tree through its own Kconfig."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from ffashim import kconfig
from ffashim.errors import BuildError, ConfigError
from ffashim.kconfig import configure, has_symbol, variants

KCONFIG = """\
mainmenu "Xen/$(SRCARCH) $(XEN_FULLVERSION) Configuration"

config CC_IS_GCC
	def_bool $(shell,$(CC) --version | head -n 1 | grep -q gcc && echo y || echo n)

config CC_IS_CLANG
	def_bool $(shell,$(CC) --version | head -n 1 | grep -q clang && echo y || echo n)

source "arch/$(SRCARCH)/Kconfig"
"""

ARM = """\
config ARM_64
	def_bool "$(ARCH)" = "arm64"

config EXPERT
	bool "expert"

config UNSUPPORTED
	bool "unsupported"

config TEE
	bool

config FFA
	bool "FF-A" if UNSUPPORTED
	depends on ARM_64
	select TEE

config FFA_VM_TO_VM
	bool "VM to VM" if UNSUPPORTED
	depends on FFA

config DEBUG
	bool "debug"
	default y

config NR_CPUS
	int "CPUs"
	range 1 4095
	default 128

config CMDLINE
	string "command line"

config BROKEN
	bool

config LTO
	bool "LTO"
	depends on BROKEN && EXPERT

choice
	prompt "PDX"
	default PDX_MASK

config PDX_MASK
	bool "mask"

config PDX_NONE
	bool "none"
endchoice
"""


@pytest.fixture
def xen(tmp_path: Path) -> Path:
    """Return the xen/ directory of a tree that is nothing but Kconfig."""
    xen = tmp_path / "tree" / "xen"
    (xen / "arch" / "arm").mkdir(parents=True)
    (xen / "Kconfig").write_text(KCONFIG)
    (xen / "arch" / "arm" / "Kconfig").write_text(ARM)
    return xen


def test_every_configuration_has_the_mediator(xen: Path) -> None:
    configuration = configure(xen, {})
    assert all(configuration.enabled(name) for name in kconfig.BASE)
    assert "#define CONFIG_FFA 1\n" in configuration.autoconf
    assert "#define CONFIG_NR_CPUS 128\n" in configuration.autoconf


@pytest.mark.parametrize("value", ["y", "n"])
@pytest.mark.parametrize("name", ["FFA_VM_TO_VM", "DEBUG", "CONFIG_DEBUG"])
def test_a_symbol_can_be_switched_both_ways(xen: Path, name: str, value: str) -> None:
    configuration = configure(xen, {name: value})
    plain = name.removeprefix("CONFIG_")
    assert configuration.enabled(plain) is (value == "y")
    assert (f"#define CONFIG_{plain} 1" in configuration.autoconf) is (value == "y")


def test_one_configuration_leaves_nothing_for_the_next(xen: Path) -> None:
    before = configure(xen, {})
    configure(xen, {"DEBUG": "n", "NR_CPUS": "7", "PDX_MASK": "y", "CMDLINE": "x"})
    assert configure(xen, {}) == before


def test_strings_and_numbers_are_written_as_xen_writes_them(xen: Path) -> None:
    configuration = configure(xen, {"CMDLINE": 'a "b"', "NR_CPUS": "4"})
    assert '#define CONFIG_CMDLINE "a \\"b\\""\n' in configuration.autoconf
    assert configuration.values["CMDLINE"] == 'a "b"'
    assert configuration.values["NR_CPUS"] == "4"


def test_pdx_compression_is_off_unless_it_is_asked_for(xen: Path) -> None:
    assert configure(xen, {}).enabled("PDX_NONE")
    asked = configure(xen, {"PDX_MASK": "y"})
    assert asked.enabled("PDX_MASK")
    assert not asked.enabled("PDX_NONE")


def test_a_choice_can_be_left_to_the_tree(xen: Path) -> None:
    assert configure(xen, {"PDX_NONE": "n"}).enabled("PDX_MASK")


def test_an_unknown_symbol_is_refused_with_the_close_ones(xen: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)unknown .* FFA_VM2VM.*FFA_VM_TO_VM"):
        configure(xen, {"FFA_VM2VM": "y"})


def test_a_symbol_that_is_only_mentioned_is_unknown(xen: Path) -> None:
    (xen / "arch" / "arm" / "Kconfig").write_text(ARM + "config Z\n\tbool\n\tdepends on GHOST\n")
    assert not has_symbol(xen, "GHOST")
    with pytest.raises(ConfigError, match="GHOST"):
        configure(xen, {"GHOST": "y"})


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"LTO": "y"}, "depends on BROKEN && EXPERT, where BROKEN=n, EXPERT=y"),
        ({"FFA": "n", "FFA_VM_TO_VM": "y"}, "FFA=n leaves nothing to test.*CONFIG_FFA"),
        ({"TEE": "n"}, "selected by FFA.*where.* FFA=y"),
        ({"NR_CPUS": "5000"}, "between 1 and 4095"),
        ({"PDX_MASK": "y", "PDX_NONE": "y"}, "of which PDX_NONE is chosen"),
        ({"ARM_64": "n"}, "cannot be set"),
        ({"DEBUG": "maybe"}, "y or n"),
        ({"NR_CPUS": "many"}, "decimal number"),
        ({"CMDLINE": "a\nb"}, "line break"),
    ],
)
def test_an_impossible_value_is_refused_with_the_reason(
    xen: Path, settings: dict[str, str], reason: str
) -> None:
    with pytest.raises(ConfigError) as error:
        configure(xen, settings)
    error.match(f"(?s){reason}")


def test_a_tree_from_before_ffa_is_refused(xen: Path) -> None:
    (xen / "arch" / "arm" / "Kconfig").write_text(ARM.replace("config FFA\n", "config OTHER\n"))
    with pytest.raises(ConfigError, match="FFA"):
        configure(xen, {})


def test_symbols_are_found_in_the_tree(xen: Path) -> None:
    assert has_symbol(xen, "FFA_VM_TO_VM")
    assert not has_symbol(xen, "FFA_V9")
    assert variants(xen) == ("FFA_VM_TO_VM", "DEBUG")


def test_an_edited_kconfig_is_read_again(xen: Path) -> None:
    assert not has_symbol(xen, "NEW_ONE")
    (xen / "arch" / "arm" / "Kconfig").write_text(ARM + 'config NEW_ONE\n\tbool "new"\n')
    assert configure(xen, {"NEW_ONE": "y"}).enabled("NEW_ONE")


def test_the_defconfig_of_the_architecture_is_the_starting_point(xen: Path) -> None:
    (xen / "arch" / "arm" / "configs").mkdir()
    (xen / "arch" / "arm" / "configs" / "arm64_defconfig").write_text("CONFIG_NR_CPUS=12\n")
    assert configure(xen, {}).values["NR_CPUS"] == "12"
    assert configure(xen, {"NR_CPUS": "3"}).values["NR_CPUS"] == "3"


def test_a_gcc_by_another_name_is_known_for_what_it_is(xen: Path, tmp_path: Path) -> None:
    """As gcc does, the compiler prints the name that it is called by."""
    compiler = tmp_path / "bin" / "cc"
    compiler.parent.mkdir()
    compiler.write_text('#!/bin/sh\necho "$(basename "$0") (Distribution) 13.1.0"\n')
    compiler.chmod(0o755)
    assert configure(xen, {}, cc=str(compiler)).enabled("CC_IS_GCC")


def test_clang_is_not_taken_for_gcc(xen: Path, tmp_path: Path) -> None:
    compiler = tmp_path / "clang-99"
    compiler.write_text('#!/bin/sh\necho "Distribution clang version 99.0"\n')
    compiler.chmod(0o755)
    configuration = configure(xen, {}, cc=str(compiler))
    assert configuration.enabled("CC_IS_CLANG")
    assert not configuration.enabled("CC_IS_GCC")


@pytest.mark.parametrize("cc", ["no-such-compiler-here", ""])
def test_a_missing_compiler_is_named(xen: Path, cc: str) -> None:
    with pytest.raises(BuildError, match="no compiler"):
        configure(xen, {}, cc=cc)


def test_the_environment_is_left_as_it_was(xen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("srctree", "elsewhere")
    monkeypatch.delenv("SRCARCH", raising=False)
    before = dict(os.environ)
    configure(xen, {})
    with pytest.raises(ConfigError):
        configure(xen, {"NOPE": "y"})
    assert dict(os.environ) == before


def test_settings_for_other_kconfig_trees_do_not_matter(
    xen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KCONFIG_FUNCTIONS", "no.such.module")
    monkeypatch.setenv("KCONFIG_AUTOHEADER_HEADER", "#error\n")
    monkeypatch.setenv("CONFIG_", "OTHER_")
    assert configure(xen, {}).autoconf.startswith("#define CONFIG_")


def test_threads_configure_without_disturbing_each_other(xen: Path) -> None:
    wanted = [str(count) for count in range(1, 9)]
    got: dict[str, str] = {}

    def work(count: str) -> None:
        got[count] = configure(xen, {"NR_CPUS": count}).values["NR_CPUS"]

    threads = [threading.Thread(target=work, args=(count,)) for count in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {count: count for count in wanted}


def test_a_directory_without_kconfig_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no Kconfig"):
        configure(tmp_path, {})


def test_a_damaged_kconfig_is_reported_with_file_and_line(xen: Path) -> None:
    (xen / "arch" / "arm" / "Kconfig").write_text(ARM + "cnofig X\n")
    with pytest.raises(ConfigError, match=r"(?s)cannot be read.*arch/arm/Kconfig:\d+"):
        configure(xen, {})
