# SPDX-License-Identifier: GPL-2.0-only
"""What ffashim costs, measured side by side in one run: `make bench` prints the table.

Machines are noisy, so every claim is a ratio or a difference of two things that were timed in
turn, in the same process, the best of several rounds each.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ffashim import FFA, FfaError, Machine, loader
from ffashim.baseline import machine_of
from ffashim.defaults import default_spmc
from ffashim.descriptors import CompositeRegion, Constituent
from ffashim.ffa import V1_1
from ffashim.sanitizers import parse
from ffashim.source import Tree, resolve, resolve_default, store
from ffashim.traffic import transaction

CALLS = 100_000


@pytest.fixture(scope="module")
def tree(pytestconfig: pytest.Config) -> Tree:
    """The first tree under test."""
    specs = pytestconfig.getoption("--xen")
    return resolve(specs[0]) if specs else resolve_default()


@pytest.fixture(scope="module")
def machine(tree: Tree) -> Machine:
    """A machine without assertions, as shipped."""
    return machine_of(loader.build(tree, {"DEBUG": "n"}))


def best(
    run: Callable[[], Any], rounds: int = 25, before: Callable[[], Any] | None = None
) -> float:
    """Return the shortest time of several rounds, in seconds."""
    times = []
    for _ in range(rounds):
        if before is not None:
            before()
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def c_loop(machine: Machine, slot: int, *call: int, calls: int = CALLS) -> Callable[[], Any]:
    """Return a function that makes a call, FFA_ID_GET if none is given, again and again in C."""
    frame = machine.ffi.new("uint64_t[18]")
    for n, value in enumerate(call or [FFA.ID_GET]):
        frame[n] = value
    job = machine.lib.FFASHIM_JOB_LOOP
    return lambda: machine.lib.ffashim_job(0, job, slot, 0, calls, frame)


def test_a_call_from_python(machine: Machine, claim: Any) -> None:
    """`vm.smc()`, reply object included, over the C loop that calls the same handler."""
    machine.boot()
    vm = machine.create_vm("1.1")
    smc, fid, n = vm.smc, int(FFA.ID_GET), 5_000

    def calls() -> None:
        for _ in range(n):
            smc(fid)

    def nothing() -> None:
        for _ in range(n):
            pass

    loop = c_loop(machine, vm.slot)
    per_call = (best(calls) - best(nothing)) / n - best(loop) / CALLS
    claim("vm.smc() over the C loop calling the same handler", per_call * 1e6, 0.8, "us more")


def test_a_batch(machine: Machine, claim: Any) -> None:
    """The batch call's rate against the C loop's."""
    machine.boot()
    vm = machine.create_vm("1.1")
    frames = machine.ffi.new("uint64_t[]", 18 * CALLS)
    view = machine.ffi.buffer(frames)
    row = FFA.ID_GET.to_bytes(8, "little") + bytes(17 * 8)
    data = row * CALLS

    def fill() -> None:
        view[:] = data

    batch = best(lambda: vm.batch_raw(frames, CALLS), 9, fill)
    loop = best(c_loop(machine, vm.slot))
    claim("batch call, its rate against the C loop's", loop / batch, 0.9, "of its rate", least=True)


def test_the_checks_of_each_call(tree: Tree, claim: Any) -> None:
    """`vm.smc()` of the call that does least, over the same in a build without the checks."""
    settings = {"DEBUG": "n"}
    plain = [loader.build(tree, settings, cc=f"cc{flag}") for flag in ("", " -DFFASHIM_UNCHECKED")]
    vms = [machine_of(extension).boot().create_vm("1.1") for extension in plain]
    smc, loop = [1.0, 1.0], [1.0, 1.0]
    for _ in range(100):  # in turn, and short: whatever else runs meets both
        for n, vm in enumerate(vms):
            smc[n] = min(smc[n], best(lambda: [vm.smc(FFA.ID_GET) for _ in range(500)], 1) / 500)  # noqa: B023
            loop[n] = min(loop[n], best(c_loop(vm.machine, vm.slot, calls=2_000), 1) / 2_000)
    claim("vm.smc() over the same without the checks of each call", smc[0] / smc[1], 1.33, "times")
    claim("the C loop over the same without them", (loop[0] - loop[1]) * 1e9, 60, "ns a call more")


def test_a_fresh_machine(machine: Machine, claim: Any) -> None:
    """A booted machine with four secure partitions, from the snapshot taken after boot."""
    machine.boot(default_spmc(machine.extension))
    snapshot = machine.snapshot()

    def dirty() -> None:
        machine.create_vm("1.1").map_rxtx()

    times = []
    for _ in range(300):
        dirty()
        start = time.perf_counter()
        machine.restore(snapshot)
        times.append(time.perf_counter() - start)
    clean = best(lambda: [machine.restore(snapshot) for _ in range(500)]) / 500
    claim("a fresh booted machine with 4 SPs, from the snapshot", clean * 1e6, 10, "us")
    claim("the same after a guest with RX/TX buffers", sorted(times)[150] * 1e6, 20, "us")


def test_a_boot(machine: Machine, claim: Any) -> None:
    """Boot from nothing, the SPMC scripted in Python."""
    spmc = default_spmc(machine.extension)
    boots = best(lambda: [machine.boot(spmc) for _ in range(20)]) / 20
    claim("boot from nothing, the SPMC in Python", boots * 1e6, 150, "us")


def test_a_cold_build(
    tree: Tree, claim: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One variant, nothing in the cache; then the same again, and another one."""
    monkeypatch.setenv("FFASHIM_CACHE", str(tmp_path))
    start = time.perf_counter()
    extension = loader.build(tree, {"DEBUG": "y"})
    cold = time.perf_counter() - start
    claim("cold build of one variant", cold, 5, "s")

    def cached() -> None:
        loader.build(tree, {"DEBUG": "y"}).load()

    start = time.perf_counter()
    cached()
    claim("cached build found and loaded", (time.perf_counter() - start) * 1e3, 100, "ms")
    assert extension.path.exists()
    start = time.perf_counter()
    loader.build(tree, {"DEBUG": "n"})
    other = (time.perf_counter() - start) / cold
    claim("build of another variant after it, over the cold one", other, 0.9, "times")
    store.copy(tree.root, tmp_path / "tree")
    copy = resolve(str(tmp_path / "tree"))
    loader.build(copy, {"DEBUG": "y"})
    with (copy.xen / "arch/arm/tee/ffa_rxtx.c").open("a") as stream:
        stream.write("/* edited */\n")
    start = time.perf_counter()
    loader.build(copy, {"DEBUG": "y"})
    edited = (time.perf_counter() - start) / cold
    claim("build after one file was edited, over the cold one", edited, 0.6, "times")


def test_hypothesis_examples(machine: Machine, claim: Any) -> None:
    """Examples of one call a second, against Hypothesis with an empty body."""
    machine.boot()
    vm = machine.create_vm("1.1")
    snapshot = machine.snapshot()
    registers = st.integers(0, 2**64 - 1)
    options = settings(
        max_examples=1000,
        database=None,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )

    @options
    @given(registers, registers, registers)
    def empty(x1: int, x2: int, x3: int) -> None:
        pass

    @options
    @given(registers, registers, registers)
    def call(x1: int, x2: int, x3: int) -> None:
        machine.restore(snapshot)
        vm.smc(FFA.FEATURES, x1, x2, x3)

    rate = best(empty, 5) / best(call, 5)
    claim("Hypothesis examples of one call, against an empty body", rate, 0.7, "", least=True)


MIX = (FFA.ID_GET, FFA.FEATURES, FFA.SPM_ID_GET, FFA.MEM_RECLAIM)
"""Calls of which the secure world hears nothing: its part is Python."""


@pytest.mark.parametrize(
    ("sanitize", "bound"),
    [
        ("address", 10.0),
        ("undefined", 8.0),
        ("address,undefined", 15.0),
        ("double-fetch", 8.0),
    ],
)
def test_a_sanitizer(tree: Tree, claim: Any, sanitize: str, bound: float) -> None:
    """What calls take in a build with a sanitizer, against one without, both with assertions."""
    runs = []
    for names in ((), parse(sanitize)):
        built = Machine(loader.build(tree, {"DEBUG": "y"}, sanitize=names)).boot()
        vm = built.create_vm("1.1")
        vm.map_rxtx()
        count = 4_000
        frames = built.ffi.new("uint64_t[]", 18 * count)
        data = b"".join(fid.to_bytes(8, "little") + bytes(17 * 8) for fid in MIX) * (count // 4)

        def fill(frames: Any = frames, built: Machine = built, data: bytes = data) -> None:
            built.ffi.buffer(frames)[:] = data

        runs.append((functools.partial(vm.batch_raw, frames, count), fill))
    # In turn: somebody else's load meets both.
    times = [[best(run, 1, fill) for run, fill in runs] for _ in range(60)]
    plain, sanitized = (min(column) for column in zip(*times, strict=True))
    claim(f"calls with --sanitize={sanitize}, against calls without", sanitized / plain, bound, "x")


def refused_share(machine: Machine) -> Callable[[], Any]:
    """Return a loop of a memory share all of whose descriptor Xen reads, and then refuses."""
    vm = machine.boot().create_vm("1.1")
    vm.map_rxtx()
    page = vm.memory.allocate()
    memory = CompositeRegion((Constituent(page, 1),), total_pages=2)
    descriptor = replace(transaction(vm, (page, 1)), composite=memory).encode(V1_1)
    vm.tx.write(descriptor)
    call = (FFA.MEM_SHARE_64, len(descriptor), len(descriptor))
    assert vm.smc(*call).error is FfaError.INVALID_PARAMETERS
    return c_loop(machine, vm.slot, *call, calls=2_000)


@pytest.mark.parametrize(("sanitize", "bound"), [("double-fetch", 10.0), ("double-fetch-O0", 15.0)])
def test_reads_that_are_seen(tree: Tree, claim: Any, sanitize: str, bound: float) -> None:
    """A call that reads much of a guest's memory, against the same in an ordinary build."""
    runs = [
        refused_share(Machine(loader.build(tree, {"DEBUG": "y"}, sanitize=names)))
        for names in ((), parse(sanitize))
    ]
    times = [[best(run, 1) for run in runs] for _ in range(60)]
    plain, seen = (min(column) for column in zip(*times, strict=True))
    claim(
        f"a memory share with --sanitize={sanitize}, against one without", seen / plain, bound, "x"
    )


# --- the table -----------------------------------------------------------------------------------

_rows: list[tuple[str, float, float, str, bool]] = []


@pytest.fixture
def claim() -> Callable[..., None]:
    """Record a figure and hold it to what must be reached."""

    def record(what: str, value: float, bound: float, unit: str, *, least: bool = False) -> None:
        _rows.append((what, value, bound, unit, least))
        assert value >= bound if least else value <= bound, f"{what}: {value:.3g} {unit}"

    return record


@pytest.fixture(scope="module", autouse=True)
def table(tree: Tree, request: pytest.FixtureRequest) -> Any:
    """Print the table, in Markdown, when all is measured."""
    yield
    lines = [
        f"Measured on {tree.describe().splitlines()[0]}",
        "",
        "| what | must reach | measured |",
    ]
    lines.append("|---|---|---|")
    for what, value, bound, unit, least in _rows:
        sign = "at least" if least else "at most"
        lines.append(f"| {what} | {sign} {bound:g} {unit} | {value:.3g} {unit} |")
    capture = request.config.pluginmanager.get_plugin("capturemanager")
    with capture.global_and_fixture_disabled():
        request.config.get_terminal_writer().write("\n\n" + "\n".join(lines) + "\n")
