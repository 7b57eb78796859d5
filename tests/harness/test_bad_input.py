# SPDX-License-Identifier: GPL-2.0-only
"""Bad input ends in an error that a person can act on: never in a traceback, never in a crash."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trees

from ffashim import FFA, DomainError, Machine, Spmc, loader, paths
from ffashim.errors import UsageError
from ffashim.ffa import FfaError, FrameworkMessage
from ffashim.machine import MACHINE_PAGES
from ffashim.source import Tree
from ffashim.vm import Vm

COMMAND = Path(sysconfig.get_path("scripts"), "ffashim")
CALL = FFA.MSG_SEND_DIRECT_REQ_32

# --- through the command -------------------------------------------------------------------------


def ffashim(
    *arguments: object, prefix: Sequence[str] = (), **environment: str | None
) -> subprocess.CompletedProcess[str]:
    """Run the command; a variable of the environment that is None is unset."""
    changed = {**os.environ, "CC": None, "COLUMNS": "100", **environment}
    command = [str(COMMAND)] if COMMAND.exists() else [sys.executable, "-m", "ffashim"]
    return subprocess.run(
        [*prefix, *command, *map(str, arguments)],
        env={name: value for name, value in changed.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=200,
    )


def assert_refused(done: subprocess.CompletedProcess[str], *texts: str) -> None:
    """One paragraph that says it all, on the error output, and exit status 2."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert "\n\n" not in done.stderr.rstrip("\n")
    for text in texts:
        assert text in done.stderr


def test_no_compiler(tree: Tree, tmp_path: Path) -> None:
    done = ffashim("build", "--xen", tree.root, PATH=str(tmp_path))
    assert_refused(done, "there is no C compiler", "Install one")


@pytest.mark.parametrize("command", ["build", "check"])
@pytest.mark.parametrize("cc", ["no-such-compiler", "/etc/passwd", "cc 'unbalanced"])
def test_a_compiler_that_is_none(tree: Tree, command: str, cc: str) -> None:
    assert_refused(ffashim(command, "--xen", tree.root, "--cc", cc), cc)


def test_a_command_that_makes_no_object_file_is_no_compiler(tree: Tree) -> None:
    true = shutil.which("true")
    done = ffashim("build", "--xen", tree.root, "--cc", true)
    assert_refused(done, f"{true} is no C compiler: it reported success, but produced no ")
    assert "cache" not in done.stderr


def test_no_git_to_apply_a_patch_with(tree: Tree, tmp_path: Path) -> None:
    patch = tmp_path / "any.mbox"
    patch.write_text("From 0 Mon Sep 17 00:00:00 2001\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n")
    done = ffashim(
        *("build", "--xen", tree.root, "--cc", shutil.which("cc"), "--patch", patch),
        PATH=str(tmp_path),
    )
    assert_refused(done, "git is not installed: install it, it applies patches")


def test_no_network(tmp_path: Path) -> None:
    # Nothing listens on port 9 of this machine.
    proxy = "http://127.0.0.1:9"
    (tmp_path / "apt.conf").write_text(
        f'Acquire::http::Proxy "{proxy}";\nAcquire::https::Proxy "{proxy}";\n'
    )
    done = ffashim(
        *("build", "--xen", "debian"),
        APT_CONFIG=str(tmp_path / "apt.conf"),
        FFASHIM_CACHE=str(tmp_path / "cache"),
        http_proxy=proxy,
        https_proxy=proxy,
        no_proxy=None,
    )
    assert_refused(done, "Name a directory" if not shutil.which("apt-get") else "name a directory")


def test_a_directory_that_is_no_xen_tree(tmp_path: Path) -> None:
    assert_refused(ffashim("check", "--xen", tmp_path), str(tmp_path), "is no Xen tree")


def test_a_xen_tree_from_before_ffa(tmp_path: Path) -> None:
    for directory in ("arch/arm/tee", "include/xen"):
        (tmp_path / "xen" / directory).mkdir(parents=True)
    (tmp_path / "xen/arch/arm/tee/tee.c").touch()
    (tmp_path / "xen/Makefile").write_text("export XEN_VERSION = 4\nexport XEN_SUBVERSION = 17\n")
    done = ffashim("check", "--xen", tmp_path)
    assert_refused(done, "4.17", "from before FF-A")


def test_sources_that_do_not_compile(tree: Tree, tmp_path: Path) -> None:
    copy = trees.copy(tree, tmp_path / "tree")
    broken = copy.xen / trees.TEE / "ffa.c"
    with broken.open("a") as file:
        file.write("int f(void) { return no_such_name; }\n")
    done = ffashim("check", "--xen", copy.root, FFASHIM_CACHE=str(tmp_path / "cache"))
    assert_refused(done, f"{broken} does not compile", "no_such_name", "It fails of ", "is in ")


def test_a_patch_that_does_not_apply(tree: Tree, tmp_path: Path) -> None:
    patch = tmp_path / "wrong.patch"
    name = f"xen/{trees.TEE}/ffa.c"
    patch.write_text(f"--- a/{name}\n+++ b/{name}\n@@ -3,1 +3,1 @@\n-not there\n+nor is this\n")
    done = ffashim("check", "--xen", tree.root, "--patch", patch)
    assert_refused(done, "wrong.patch", name, "hunk")


@pytest.mark.parametrize(
    ("setting", "reason"),
    [("FFA_VM_TO_VN=y", "unknown configuration symbol FFA_VM_TO_VN"), ("ARM_64=n", "derives it")],
)
def test_a_setting_that_the_tree_refuses(tree: Tree, setting: str, reason: str) -> None:
    assert_refused(ffashim("check", "--xen", tree.root, "--config", setting), reason)


def test_a_cache_that_is_read_only(tree: Tree, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o555)
    prefix: list[str] = []
    if os.geteuid() == 0:
        # Root may write anywhere, unless that is taken from it.
        if shutil.which("setpriv") is None:
            pytest.skip("root can make nothing read-only without setpriv")
        prefix = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    done = ffashim("build", "--xen", tree.root, prefix=prefix, FFASHIM_CACHE=str(cache))
    assert_refused(done, str(cache), "FFASHIM_CACHE")


def test_a_cache_that_is_no_directory(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    done = ffashim("build", "--xen", tree.root, FFASHIM_CACHE=str(tmp_path / "cache"))
    assert_refused(done, str(tmp_path / "cache"), "FFASHIM_CACHE")


def test_a_cache_that_is_corrupt_is_made_good(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = loader.build(tree, cc="cc").path.parent
    cache = tmp_path / "cache"
    shutil.copytree(built, cache / "builds" / built.name)
    damaged = list((cache / "builds").rglob("*.so"))
    for file in damaged:
        file.write_bytes(file.read_bytes()[:1000])
    done = ffashim("build", "--xen", tree.root, "--cc", "cc", FFASHIM_CACHE=str(cache))
    assert done.returncode == 0, done.stderr
    extension = Path(done.stdout.splitlines()[0])
    assert (extension.parent, extension in damaged) == (cache / "builds" / built.name, False)
    monkeypatch.setenv("FFASHIM_CACHE", str(cache))
    assert paths.cache_dir() in extension.parents
    assert Machine(loader.build(tree, cc="cc")).boot().create_vm("1.1").smc(FFA.ID_GET).ok


# --- through Python ------------------------------------------------------------------------------


class World(Spmc):
    """A secure world that gives one answer of its own to direct requests."""

    answers: Any = None

    def smc(self, regs: tuple[int, ...]) -> Any:
        """Answer."""
        if self.answers is not None and regs[0] == CALL:
            return self.answers
        return super().smc(regs)


def request(vm: Vm) -> object:
    """Make a call that Xen passes on to a secure partition."""
    return vm.smc(CALL, vm.id << 16 | vm.machine.spmc.state.partitions[0].id)


def boot(machine: Machine, world: Spmc) -> Vm:
    """Boot, on a world that is like the machine's own."""
    for partition in machine.spmc.state.partitions:
        world.add(partition)
    return machine.boot(world).create_vm("1.1")


class Oops(Exception):
    """What a script of a test raises."""


def test_a_script_that_raises_ends_the_call_and_nothing_else(xen: Machine) -> None:
    def script(regs: tuple[int, ...]) -> None:
        raise Oops(f"asked {regs[0]:#x}")

    vm = xen.create_vm("1.1")
    spmc = xen.spmc
    spmc.on(CALL).call(script)
    with pytest.raises(Oops, match=hex(CALL)):
        request(vm)
    with pytest.raises(UsageError, match=r"Oops(.|\n)*Call boot\(\) or restore\(\)"):
        vm.smc(FFA.ID_GET)
    vm = xen.boot(Spmc(spmc.version, spmc.state.partitions)).create_vm("1.1")
    assert vm.smc(FFA.ID_GET).ok


def test_a_script_that_raises_during_boot_ends_it(xen: Machine) -> None:
    spmc = xen.spmc

    def script(regs: tuple[int, ...]) -> None:
        raise Oops

    broken = Spmc(spmc.version, spmc.state.partitions)
    broken.on(FFA.VERSION).call(script)
    with pytest.raises(Oops):
        xen.boot(broken)
    assert xen.boot(spmc).create_vm("1.1").smc(FFA.ID_GET).ok


OK = (0x84000061, *[0] * 17)


ANSWERS = {
    "17 registers": OK[:17],
    "19 registers": (*OK, 0),
    "no register": (),
    "65 bits": (*OK[:17], 1 << 64),
    "negative": (*OK[:17], -1),
    "fraction": (*OK[:17], 1.5),
    "None": (*OK[:17], None),
    "string": (*OK[:17], "0"),
    "text": "eighteen letters !",
    "one number": 7,
    "mapping": {},
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_what_is_no_answer_of_a_secure_world_is_refused(xen: Machine, answer: object) -> None:
    world = World(xen.spmc.version)
    vm = boot(xen, world)
    world.answers = answer
    with pytest.raises(UsageError, match="18 registers, x0 to x17, of 64 bits"):
        request(vm)
    world.answers = None
    assert xen.boot(world).create_vm("1.1").smc(FFA.ID_GET).ok


@pytest.mark.parametrize(
    "answer", [[1 << 64], [-1], [0] * 19], ids=["65 bits", "negative", "19 registers"]
)
def test_what_is_no_answer_of_a_script_is_refused(xen: Machine, answer: list[int]) -> None:
    vm = xen.create_vm("1.1")
    xen.spmc.on(CALL).call(lambda regs: answer)
    with pytest.raises(UsageError, match="register"):
        request(vm)


@pytest.mark.parametrize("value", [1 << 64, -1, 1.0, "1", None], ids=repr)
@pytest.mark.parametrize("register", ["x1", "x17"])
def test_a_register_that_holds_no_64_bits_is_named(xen: Machine, register: str, value: Any) -> None:
    vm = xen.create_vm("1.1")
    with pytest.raises(UsageError, match=rf"^{register}="):
        vm.smc(FFA.ID_GET, **{register: value})
    assert vm.smc(FFA.ID_GET).ok


@pytest.mark.parametrize("value", [1 << 64, -1], ids=repr)
def test_a_function_id_that_holds_no_64_bits_is_named(xen: Machine, value: int) -> None:
    vm = xen.create_vm("1.1")
    with pytest.raises(UsageError, match=r"^x0="):
        vm.smc(value)
    with pytest.raises(UsageError, match=r"^x0="):
        vm.start(value)
    with pytest.raises(UsageError, match=r"^x2="):
        vm.batch([[FFA.ID_GET], [FFA.ID_GET, 0, value]])
    assert vm.smc(FFA.ID_GET).ok


def test_a_frame_that_is_too_long_is_refused(xen: Machine) -> None:
    vm = xen.create_vm("1.1")
    with pytest.raises(UsageError, match="at most 17"):
        vm.batch([[0] * 19])
    with pytest.raises(UsageError, match="x18"):
        vm.start(FFA.ID_GET, x18=1)


def test_a_buffer_ends_with_its_page(xen: Machine) -> None:
    vm = xen.create_vm("1.1")
    vm.map_rxtx()
    empty = vm.rx.read()
    vm.tx.write(b"x" * 4096)
    assert vm.tx.read() == b"x" * 4096
    for data, offset in ((b"x" * 5000, 0), (b"x", 4096), (b"xx", 4095), (b"x", -1)):
        with pytest.raises(UsageError, match=rf"{len(data)} bytes at offset {offset} of a buffer"):
            vm.tx.write(data, offset)
        with pytest.raises(UsageError, match="of a buffer of 4096"):
            vm.tx.read(len(data), offset)
    assert vm.rx.read() == empty


@pytest.mark.parametrize("kind", [99, 1, "RAM_RO", None])
def test_a_type_of_a_frame_that_is_none_is_refused(xen: Machine, kind: Any) -> None:
    vm = xen.create_vm()
    with pytest.raises(UsageError, match=r"want one of P2m\.RAM_RW, P2m\.RAM_RO, "):
        vm.memory.set_type(vm.memory.base, kind)


@pytest.mark.parametrize("snapshot", [5, None, object()])
def test_what_is_no_snapshot_is_refused(xen: Machine, snapshot: object) -> None:
    with pytest.raises(UsageError, match=r"want what snapshot\(\) has returned"):
        xen.restore(snapshot)
    assert xen.create_vm("1.1").smc(FFA.ID_GET).ok


@pytest.mark.parametrize(
    "callback", [lambda: None, lambda point, more: None, 5, None], ids=["none", "two", "5", "None"]
)
def test_a_callback_that_takes_no_point_is_refused(xen: Machine, callback: Any) -> None:
    wanted = pytest.raises(UsageError, match="want a function of one argument, the Point")
    with wanted, xen.at_points(callback):
        pass
    assert xen.create_vm("1.1").smc(FFA.ID_GET).ok


@pytest.mark.parametrize("pages", [-1, MACHINE_PAGES + 1, 1 << 70])
def test_a_guest_larger_than_the_machine_is_refused(xen: Machine, pages: int) -> None:
    with pytest.raises(UsageError, match=f"of the {MACHINE_PAGES} .* that the machine has"):
        xen.create_vm(ram_pages=pages)


def test_the_size_of_the_machine_is_that_of_the_stubs() -> None:
    text = (paths.STUBS / "include/ffashim/host.h").read_text()
    assert f"#define HOST_RAM_PAGES      {MACHINE_PAGES:#x}UL" in text


def test_a_domain_that_xen_refuses_is_told_in_xens_words(xen: Machine) -> None:
    rule = xen.spmc.on(CALL).framework(FrameworkMessage.VM_CREATED).status(FfaError.DENIED)
    with pytest.raises(DomainError) as caught:
        xen.create_vm()
    said = [line.text for line in xen.console if line.level in (0, 1)]
    assert said
    assert str(caught.value).endswith(f"; Xen said: {said[-1]}")
    rule.left = 0
    xen.fail_allocation()
    with pytest.raises(DomainError) as silent:
        xen.create_vm()
    assert str(silent.value).endswith("ENOMEM")


@pytest.mark.parametrize("fid", ["FFA_MEM_SHARE", -1, 1 << 32, 1.5, None])
def test_a_rule_for_what_is_no_function_id_is_refused(xen: Machine, fid: Any) -> None:
    with pytest.raises(UsageError, match=r"want a function ID, such as FFA\.MEM_SHARE_64"):
        xen.spmc.on(fid)


@pytest.mark.parametrize("code", ["NO_MEMORY", 77777777777, -(1 << 31) - 1, 1.5, None])
@pytest.mark.parametrize("method", ["error", "status"])
def test_a_status_that_is_none_is_refused(xen: Machine, method: str, code: Any) -> None:
    with pytest.raises(UsageError, match=r"want one such as FfaError\.NO_MEMORY"):
        getattr(xen.spmc.on(CALL), method)(code)
    with pytest.raises(UsageError, match="is no status"):
        xen.spmc.on(CALL).delay(1, code)


def test_a_script_of_what_is_no_number_is_refused(xen: Machine) -> None:
    with pytest.raises(UsageError, match="x1 = 'five'"):
        xen.spmc.on(CALL).reply(0, "five")
    with pytest.raises(UsageError, match="times='two'"):
        xen.spmc.on(CALL).error(-1, times="two")


def test_a_secure_partition_by_its_id_alone_is_refused() -> None:
    with pytest.raises(UsageError, match=r"want SecurePartition\(0x8001\)"):
        Spmc("1.1", [0x8001])  # type: ignore[list-item]
