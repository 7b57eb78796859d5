# SPDX-License-Identifier: GPL-2.0-only
"""The command line: help, errors that say what to do, and exit statuses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands import Done, ffashim

from ffashim import errors
from ffashim.cli import options

COMMANDS = (
    "check", "series", "bisect", "run", "shell", "matrix", "defects", "mutants", "source", "build",
    "cache",
)  # fmt: skip
ON_A_TREE = ("check", "run", "shell", "mutants", "source", "build")


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def assert_refused(done: Done, *texts: str) -> None:
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: "), done.stderr
    for text in texts:
        assert text in done.stderr


def test_help_lists_every_command_whole_and_examples() -> None:
    done = ffashim("--help")
    assert done.returncode == 0
    for command in COMMANDS:
        assert f"  {command} " in done.stdout
    assert "..." not in done.stdout.partition("Commands:")[2]
    assert "Examples:\n    ffashim run" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_has_an_example(command: str) -> None:
    done = ffashim(command, "-h")
    assert done.returncode == 0
    assert f"    ffashim {command}" in done.stdout.partition("Examples:\n")[2]


@pytest.mark.parametrize("command", ON_A_TREE)
def test_help_names_every_form_of_a_tree(command: str) -> None:
    words = " ".join(ffashim(command, "--help").stdout.split())
    assert "a directory, DIR@REV of a git repository, debian[:SUITE] or upstream[@REV]" in words


def test_version_is_printed() -> None:
    done = ffashim("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("ffashim ")


def test_an_unknown_command_is_refused() -> None:
    done = ffashim("chekc")
    assert done.returncode == 2
    assert "No such command 'chekc'" in done.stderr


@pytest.mark.parametrize("command", ON_A_TREE)
def test_a_missing_tree_is_refused(command: str, tmp_path: Path) -> None:
    missing = str(tmp_path / "nothing")
    assert_refused(ffashim(command, "--xen", missing), missing, "debian")


@pytest.mark.parametrize("command", ON_A_TREE)
def test_a_directory_that_is_no_tree_is_refused(command: str, tmp_path: Path) -> None:
    assert_refused(ffashim(command, "--xen", str(tmp_path)), "no Xen tree")


@pytest.mark.parametrize("command", ON_A_TREE)
def test_an_empty_name_of_a_tree_is_refused(command: str) -> None:
    assert_refused(ffashim(command, "--xen", ""), "empty")


@pytest.mark.parametrize("command", sorted({*ON_A_TREE} - {"source"}))
@pytest.mark.parametrize("config", ["FFA_VM_TO_VM", "=y", "", "CONFIG_=y"])
def test_a_config_without_name_or_value_is_refused(command: str, config: str) -> None:
    assert_refused(ffashim(command, "--config", config), "NAME=VALUE")


def test_two_values_for_one_symbol_are_refused() -> None:
    with pytest.raises(errors.UsageError, match="DEBUG was already given as 'y'"):
        options.settings(["DEBUG=y", "CONFIG_DEBUG=n"])


def test_settings_may_be_written_as_in_a_config_file() -> None:
    given = ["CONFIG_DEBUG=y", "CMDLINE=console=dtuart", "CONFIG_DEBUG=y"]
    assert options.settings(given) == {"DEBUG": "y", "CMDLINE": "console=dtuart"}


@pytest.mark.parametrize("workers", ["many", "-1", "1.5", ""])
def test_a_number_of_processes_that_is_none_is_refused(workers: str, tmp_path: Path) -> None:
    assert_refused(ffashim("check", "-n", workers, "--xen", str(tmp_path)))


@pytest.mark.parametrize("option", ["--junit", "--json"])
def test_a_report_that_cannot_be_written_is_refused_first(option: str, tmp_path: Path) -> None:
    file = str(tmp_path / "missing" / "report")
    done = ffashim("check", option, file, "--xen", str(tmp_path))
    assert_refused(done, f"{file} cannot be written")


def test_a_repository_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    assert_refused(ffashim("matrix", str(tmp_path / "nothing")), "no directory")


def test_a_directory_that_is_no_repository_is_refused(tmp_path: Path) -> None:
    assert_refused(ffashim("matrix", str(tmp_path)), str(tmp_path), "not a git repository")


@pytest.mark.parametrize("rev", ["nothing", "--all", "a..b..c", ""])
def test_a_revision_that_does_not_exist_is_refused(rev: str, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert_refused(ffashim("matrix", str(tmp_path), f"--rev={rev}"), rev)


def test_a_repository_without_mediator_is_refused(tmp_path: Path) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "nothing"], check=True)
    assert_refused(ffashim("matrix", str(tmp_path)), "is it a repository of Xen?")


def test_no_git_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert_refused(ffashim("matrix", str(tmp_path)), "git", "install it")


@pytest.mark.parametrize(
    ("given", "environment", "expected"),
    [("tcc", {"CC": "gcc-12"}, "tcc"), (None, {"CC": "gcc-12"}, "gcc-12")],
)
def test_the_compiler_is_the_one_named(
    given: str | None,
    environment: dict[str, str],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert options.compiler(given) == expected


def test_the_compiler_is_one_that_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clang").touch(0o755)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert options.compiler(None) == "clang"


def test_every_error_for_people_is_printed_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise errors.PatchError("fix.patch: hunk 2 does not apply")

    monkeypatch.setattr("ffashim.source.resolve", fail)
    assert ffashim("source", "--xen", "x") == (2, "", "error: fix.patch: hunk 2 does not apply\n")


def test_ctrl_c_ends_it_quietly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("ffashim.source.resolve", interrupt)
    assert ffashim("source", "--xen", "x") == (130, "", "")


def test_a_reader_that_goes_away_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "ffashim", "--help"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(write)
    assert done.stderr == ""
