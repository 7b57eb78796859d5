# SPDX-License-Identifier: GPL-2.0-only
"""The pytest plugin: which trees to test, and a booted machine for each test.

A test that asks for `xen`, `spmc`, `vm` or `extension` runs once on each tree given by ``--xen``,
and in each variant: with and without FFA_VM_TO_VM where the tree has it, unless ``--config`` says.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ffashim import baseline, capabilities, ending, failures, loader, sanitizers, suite
from ffashim.baseline import MENDED_PROPERTY, NEW_PROPERTY, machine_of
from ffashim.coverage import session as coverage
from ffashim.defaults import default_spmc, partitions
from ffashim.errors import FfashimError, UsageError
from ffashim.faults import XenFault
from ffashim.known_alarms import KNOWN, Known
from ffashim.loader import Extension
from ffashim.machine import Machine
from ffashim.sanitizers import SANITIZERS
from ffashim.source import Tree, resolve, resolve_default
from ffashim.spmc import Spmc
from ffashim.variants import variants
from ffashim.vm import Vm

EXPLORED_PROPERTY = "ffashim.explored"
"""The key in a test's ``user_properties`` of how much the model has explored."""

_extensions: dict[tuple[object, ...], Extension] = {}
_MACHINE = pytest.StashKey[Machine]()
_NEW = pytest.StashKey[list[str]]()
_KNOWN = pytest.StashKey[bool]()
"""Whether the tree has a known defect that the test shows."""
_EXPECTED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that name what is tested."""
    group = parser.getgroup("ffashim", "Xen's FF-A mediator")
    group.addoption(
        "--xen",
        action="append",
        default=[],
        metavar="TREE",
        help="a Xen tree: a directory, DIR@REV, debian[:SUITE] or upstream[@REV]; repeatable",
    )
    group.addoption(
        "--patch",
        action="append",
        default=[],
        metavar="FILE",
        help="apply a patch, or a mailbox or directory of patches, to a private copy; repeatable",
    )
    group.addoption(
        "--config",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a Kconfig symbol of the tree, for example FFA_VM_TO_VM=n; repeatable",
    )
    group.addoption(
        "--baseline",
        default=None,
        metavar="TREE",
        help="the tree to compare with, as in --xen; default with --patch: the tree without the "
        "patches. A known defect that it does not have is new, and fails; one that comes with an "
        "ABI or option that it does not have is new as well",
    )
    group.addoption("--cc", default=None, metavar="CMD", help="the C compiler")
    group.addoption(
        "--sanitize",
        default=None,
        metavar="NAMES",
        help="build the trees with sanitizers, a comma list of: " + ", ".join(SANITIZERS),
    )
    group.addoption(
        "--explore",
        choices=("quick", "ci", "night"),
        default="quick",
        help="how much the model explores: the same little each time (quick, the default), ten "
        "minutes (ci), or eight hours, going on where the last night has stopped (night)",
    )
    group.addoption(
        "--explore-seconds",
        type=float,
        default=None,
        metavar="N",
        help="how long all of --explore=ci or night shall take",
    )
    group.addoption(
        "--example-database",
        default=None,
        metavar="WHERE",
        help="a directory or redis:// address that keeps what exploring has found, and that "
        "several machines may share; default: in ffashim's cache",
    )
    coverage.add_options(group)


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and what counts the coverage."""
    coverage.configure(config)
    sanitize_of(config)
    for line in (
        "needs(vm_to_vm=..., abi=..., version=...): run only where the tree has it",
        "slow: takes seconds; `ffashim run` leaves it out",
        "spmc(version=..., partitions=..., ...): the secure world of this test; see Spmc",
        "known_defect(probe, finding): fails on exactly the trees for which probe(machine) is true;"
        " expected if the baseline, where there is one, has the defect too",
    ):
        config.addinivalue_line("markers", line)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Look at the trees that were asked for: what is wrong with them is said once."""
    config = session.config
    if config.getoption("--xen") or config.getoption("--patch"):
        try:
            for tree in _asked_trees(config):
                _variants(tree, tuple(config.getoption("--config")))
        except FfashimError as error:
            raise pytest.UsageError(str(error)) from None


# --- what is tested ------------------------------------------------------------------------------


class Hooks:
    """What a conftest.py may answer, beside pytest's own hooks."""

    @pytest.hookspec(firstresult=True)
    def pytest_ffashim_trees(
        self, metafunc: pytest.Metafunc, trees: list[Tree]
    ) -> list[Tree] | None:
        """Return the trees that a test is to run on; None leaves it at `trees`, as asked for."""
        return None  # never called: pytest reads the signature

    @pytest.hookspec(firstresult=True)
    def pytest_ffashim_extension(self, tree: Tree, settings: dict[str, str]) -> Extension | None:
        """Return the extension that stands for a tree in this session; None builds the tree."""
        return None

    @pytest.hookspec(firstresult=True)
    def pytest_ffashim_baseline(self, tree: Tree, settings: dict[str, str]) -> Extension | None:
        """Return what a tree is compared with; None leaves it to ``--baseline`` and ``--patch``."""
        return None


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Add our own hooks."""
    pluginmanager.add_hookspecs(Hooks)


@functools.cache
def _trees(specs: tuple[str, ...], patches: tuple[str, ...]) -> list[Tree]:
    files = [Path(name).expanduser() for name in patches]
    return [resolve(spec, patches=files) for spec in specs] or [resolve_default(patches=files)]


def _asked_trees(config: pytest.Config) -> list[Tree]:
    return _trees(tuple(config.getoption("--xen")), tuple(config.getoption("--patch")))


@functools.cache
def _variants(tree: Tree, config: tuple[str, ...]) -> list[tuple[str, dict[str, str]]]:
    """Return a tree's variants with names for people."""
    settings = {}
    for item in config:
        name, _, value = item.removeprefix("CONFIG_").partition("=")
        settings[name] = value
    return [
        ("-".join([_name(tree), *(f"{name}={value}" for name, value in choice.items())]), choice)
        for choice in variants(tree, settings)
    ]


def _name(tree: Tree) -> str:
    """Return what a tree is called in the names of tests."""
    name = tree.spec.rpartition("@")[2].rpartition("/")[2]
    return f"{name}-patched" if tree.patches else name


def _asked(metafunc: pytest.Metafunc) -> list[tuple[str, Tree, dict[str, str]]]:
    config = metafunc.config
    try:
        trees = _asked_trees(config)
        hook = metafunc.definition.ihook.pytest_ffashim_trees
        return [
            (name, tree, settings)
            for tree in hook(metafunc=metafunc, trees=trees) or trees
            for name, settings in _variants(tree, tuple(config.getoption("--config")))
        ]
    except FfashimError as error:
        raise pytest.Collector.CollectError(f"error: {error}") from None


@functools.cache
def _baseline(
    tree: Tree,
    settings: tuple[tuple[str, str], ...],
    spec: str | None,
    cc: str,
    sanitize: tuple[str, ...],
) -> Extension | str | None:
    """Return what the tree is compared with, or why it cannot be; None if it is not to be."""
    if spec is None and not tree.patches:
        return None
    try:
        before = resolve(tree.spec if spec is None else spec)
        return baseline.build(before, dict(settings), cc, sanitize)
    except FfashimError as error:
        if spec is None:  # what does not build without the patch is no fault of the patch
            return f"not compared with the tree without the patches: {error}"
        pytest.exit(f"error: --baseline {spec}: {error}", returncode=2)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test on each tree and variant."""
    if "extension" in metafunc.fixturenames:
        asked = _asked(metafunc)
        metafunc.parametrize(
            "extension",
            [(tree, settings) for _, tree, settings in asked],
            ids=[name for name, _, _ in asked],
            indirect=True,
            scope="session",
        )


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    """Say what was tested, each tree's origin, version, configuration and compiler, and what a
    change has done to the defects; and what to do if nothing was.
    """
    keyword = config.getoption("-k")
    told_by_us = config.pluginmanager.hasplugin("ffashim.report")
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and keyword and not told_by_us:
        terminalreporter.write_line(suite.nothing_selected(keyword, "these files"))
    lines: dict[str, None] = {}
    for name, before, outcomes in (
        ("xen", "tested ", None),
        ("baseline", "", None),
        (EXPLORED_PROPERTY, "explored ", None),
        (MENDED_PROPERTY, "mended: ", ("passed",)),
        (NEW_PROPERTY, "new defect: ", ("failed",)),
    ):
        # `ffashim check` tells of the defects below its table.
        if outcomes and config.pluginmanager.has_plugin("ffashim.report"):
            continue
        found = {
            value
            for outcome, reports in terminalreporter.stats.items()
            if outcomes is None or outcome in outcomes
            for report in reports
            for key, value in getattr(report, "user_properties", ())
            if key == name
        }
        lines.update(dict.fromkeys(before + value for value in sorted(found)))
    for line in lines:
        terminalreporter.write_line(line)


# --- fixtures ------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def extension(request: pytest.FixtureRequest) -> Extension:
    """The tree's mediator, compiled."""
    return extension_of(request.config, request.param)


def extension_of(config: pytest.Config, param: tuple[Tree, dict[str, str]]) -> Extension:
    """Return what a test runs on, built if this session has not built it yet."""
    tree, settings = param
    key = (id(tree), *settings.items())
    found = _extensions.get(key)
    if found is None:
        counting = coverage.wanted(config)
        try:
            found = config.hook.pytest_ffashim_extension(tree=tree, settings=settings)
            found = found or loader.build(
                tree,
                settings,
                cc=config.getoption("--cc") or "cc",
                coverage=counting is not None,
                sanitize=sanitize_of(config),
            )
        except FfashimError as error:
            pytest.exit(f"error: {error}", returncode=2)
        if counting:
            counting.add(found, _name(tree), tree, settings)
        _extensions[key] = found
    return found


def sanitize_of(config: pytest.Config) -> tuple[str, ...]:
    """Return the names of the sanitizers that trees are built with."""
    try:
        return sanitizers.parse(config.getoption("--sanitize"))
    except FfashimError as error:
        raise pytest.UsageError(str(error)) from None


def baseline_of(
    config: pytest.Config, tree: Tree, settings: dict[str, str]
) -> Extension | str | None:
    """Return what a tree is compared with, or why it cannot be; None if it is not to be."""
    found: Extension | None = config.hook.pytest_ffashim_baseline(tree=tree, settings=settings)
    variant = tuple(sorted(settings.items()))
    cc = config.getoption("--cc") or "cc"
    spec = config.getoption("--baseline")
    return found or _baseline(tree, variant, spec, cc, sanitize_of(config))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that the tree cannot run, before anything is set up for it."""
    needs = needs_of(item)
    callspec = getattr(item, "callspec", None)
    if not needs or callspec is None or "extension" not in callspec.params:
        return
    extension = extension_of(item.config, callspec.params["extension"])
    if reason := capabilities.missing(machine_of(extension), **needs):
        item.user_properties.append(("xen", extension.describe()))
        if lost := _lost(item.config, callspec.params["extension"], needs):
            pytest.fail(f"{lost}; the baseline's does", pytrace=False)
        pytest.skip(reason)


def _lost(
    config: pytest.Config, param: tuple[Tree, dict[str, str]], needs: dict[str, Any]
) -> str | None:
    """Return what a test lacks on the tree and not on its baseline, None if there is no such."""
    # Another variant is no loss.
    needs = {name: value for name, value in needs.items() if name != "vm_to_vm"}
    before = baseline_of(config, *param)
    if not isinstance(before, Extension) or capabilities.missing(machine_of(before), **needs):
        return None
    return capabilities.missing(machine_of(extension_of(config, param)), **needs)


def needs_of(item: pytest.Item) -> dict[str, Any]:
    """Return what a test needs of a tree; see `capabilities.missing`."""
    needs: dict[str, Any] = {}
    for marker in item.iter_markers("needs"):  # the closest first: it has the last word
        if marker.args or not marker.kwargs:
            given = ", ".join(map(repr, marker.args))
            raise UsageError(
                f"needs({given}): say what, by name: vm_to_vm=, abi=, version=, messages= or "
                "sanitize="
            )
        needs = {**marker.kwargs, **needs}
    return needs


@pytest.fixture
def spmc(request: pytest.FixtureRequest, extension: Extension) -> Spmc:
    """The secure world: the default one, or what the `spmc` marker says."""
    world = default_spmc(extension)
    marker = request.node.get_closest_marker("spmc")
    if marker is None:
        return world
    known = list(inspect.signature(Spmc).parameters)
    for name in [*(repr(each) for each in marker.args), *marker.kwargs]:
        if name not in known:
            given = f"{name}=..." if name in marker.kwargs else name
            raise UsageError(f"spmc({given}): name one of {', '.join(known)}")
    options: dict[str, Any] = {"version": world.version, "partitions": partitions()}
    options.update(marker.kwargs)
    return Spmc(**options)


@pytest.fixture
def xen(request: pytest.FixtureRequest, extension: Extension, spmc: Spmc) -> Iterator[Machine]:
    """A machine that has just booted with `spmc` below it.

    At the end of the test nothing may have been sent to the SPMC that FF-A forbids.
    """
    request.node.user_properties.append(("xen", extension.describe()))
    machine = machine_of(extension)
    needs = needs_of(request.node)
    for marker in request.node.iter_markers("known_defect"):
        _expect(request, machine, needs, *marker.args)
    known = [each for each in KNOWN if _excuses(request, machine, each)]
    request.node.stash[_MACHINE] = machine
    machine.boot(spmc)
    machine.forget_alarms()
    yield machine
    _forbidden(machine, spmc)
    alarms = ending.of_test(machine)
    _forbidden(machine, spmc)
    if alarms := [alarm for alarm in alarms if not any(each.covers(alarm) for each in known)]:
        pytest.fail("\n".join(map(str, alarms)), pytrace=False)


def _excuses(request: pytest.FixtureRequest, machine: Machine, known: Known) -> bool:
    """Tell whether the tree has a known defect, and its baseline, where there is one, has it too.

    Asked before the test: it cannot be after it, when the machine is what a failure shows.
    """
    before = baseline_of(request.config, *request.node.callspec.params["extension"])
    return known.on(machine) and not (
        isinstance(before, Extension) and baseline.lacks(machine_of(before), known.defect.probe, {})
    )


def _forbidden(machine: Machine, spmc: Spmc) -> None:
    if machine.spmc is spmc and spmc.violations:
        listed = "\n".join(f"  {each}" for each in spmc.violations)
        pytest.fail(f"Xen sent the SPMC what FF-A forbids:\n{listed}", pytrace=False)


@pytest.fixture
def vm(xen: Machine) -> Vm:
    """A 64-bit guest that has negotiated the highest version that the tree offers."""
    guest = xen.create_vm()
    guest.negotiate(str(capabilities.highest_version(xen)))
    return guest


def _expect(
    request: pytest.FixtureRequest,
    machine: Machine,
    needs: dict[str, Any],
    question: Callable[[Machine], Any],
    finding: str,
) -> None:
    """Expect a test to fail of a defect that the tree has, unless its baseline does not have it."""
    node = request.node
    config = request.config
    tree, settings = node.callspec.params["extension"]
    before = baseline_of(config, tree, settings)
    there, absent = capabilities.probe(machine, question), None
    if isinstance(before, Extension):
        node.user_properties.append(("baseline", f"compared with {before.describe()}"))
        absent = baseline.lacks(machine_of(before), question, needs)
    elif before:
        node.user_properties.append(("baseline", before))
    if there and absent:
        node.user_properties.append((NEW_PROPERTY, finding))
        node.stash.setdefault(_NEW, []).append(f"{finding}\n{absent}")
    elif there:
        node.add_marker(pytest.mark.xfail(reason=f"known defect: {finding}", strict=True))
        node.stash[_KNOWN] = True
    elif isinstance(before, Extension) and not absent:
        node.user_properties.append((MENDED_PROPERTY, finding))


# --- reports --------------------------------------------------------------------------------------


@contextmanager
def _briefly(item: pytest.Item) -> Iterator[None]:
    """Have the failure of a known defect told without the lines around it, unless somebody wants to
    see them: to find them takes pytest longer than the test.
    """
    option = item.config.option
    style = option.tbstyle
    if item.stash.get(_KNOWN, False) and not (option.runxfail or option.xfail_tb):
        option.tbstyle = "native"
    try:
        yield
    finally:
        option.tbstyle = style


# The outermost one: pytest itself makes known defects of failures in another of these.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the user's lines of a failure, Xen's console, the guest's calls and the SMCs, and
    whether a defect is new.
    """
    trimmed = True
    if call.excinfo is not None and not item.config.getoption("fulltrace", False):
        error = call.excinfo.value
        trimmed = failures.trim(error)
        if error.__traceback__ is not None:
            call.excinfo = pytest.ExceptionInfo.from_exception(error)
    with _briefly(item):
        report = yield
    if new := item.stash.get(_NEW, None):
        if report.when == "call" and not report.failed:
            # Another defect is expected there, or the probe sees what the test does not.
            report.outcome, report.longrepr = "failed", "new defect: " + "\n".join(new)
            report.__dict__.pop("wasxfail", None)
        if report.failed:
            report.sections.append(("New defect", "\n".join(new)))
    if hasattr(report, "wasxfail") and report.skipped:
        if item.stash.get(_EXPECTED, False):
            # The same defect as before, seen at the end of the test too: it counts once.
            report.outcome, report.longrepr = "passed", None
            del report.wasxfail
        item.stash[_EXPECTED] = True
    if not report.failed or call.excinfo is None:
        return report
    if not trimmed:
        report.longrepr = call.excinfo.getrepr(style="value")
    error = call.excinfo.value
    if isinstance(error, XenFault):
        setattr(report, failures.FAULT, error.summary)
    if (machine := item.stash.get(_MACHINE, None)) is not None:
        report.sections += failures.sections(machine, error)
    return report
