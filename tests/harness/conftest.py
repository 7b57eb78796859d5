# SPDX-License-Identifier: GPL-2.0-only
"""Fixtures for the tests of the harness itself: a machine with mistakes planted in it."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from planted import plant

from ffashim import Machine, loader, paths
from ffashim.source import Tree, resolve, resolve_default


@pytest.fixture(scope="session", autouse=True)
def interrupts() -> None:
    """Let Ctrl-C be heard, by what the tests start too: a shell's background jobs ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def cache() -> Iterator[None]:
    """Name the cache that everybody uses before a test moves HOME, as `pytester` does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FFASHIM_CACHE", str(paths.cache_dir()))
        yield


@pytest.fixture(scope="session")
def tree(pytestconfig: pytest.Config) -> Tree:
    """The first tree under test."""
    specs = pytestconfig.getoption("--xen")
    return resolve(specs[0]) if specs else resolve_default()


@pytest.fixture(scope="session")
def planted_extension(
    tree: Tree, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> loader.Extension:
    """The tree with the mistakes of planted.py in it, assertions on."""
    patch = plant(tree, tmp_path_factory.mktemp("planted"))
    specs = pytestconfig.getoption("--xen")
    copy = resolve(specs[0], [patch]) if specs else resolve_default([patch])
    return loader.build(copy, {"DEBUG": "y"})


@pytest.fixture
def planted(planted_extension: loader.Extension) -> Machine:
    """A booted machine whose FFA_ID_GET makes the mistake that x1 names."""
    return Machine(planted_extension).boot()
