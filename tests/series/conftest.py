# SPDX-License-Identifier: GPL-2.0-only
"""Fixtures for the tests of series: the tree under test in a git repository of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from repositories import Repo

from ffashim.source import Tree, resolve, resolve_default


@pytest.fixture(scope="session")
def tree(pytestconfig: pytest.Config) -> Tree:
    """The first tree under test."""
    specs = pytestconfig.getoption("--xen")
    return resolve(specs[0]) if specs else resolve_default()


@pytest.fixture(scope="session")
def started(tree: Tree, tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """A repository whose first commit is the tree; tests clone it."""
    return Repo.of_tree(tree, tmp_path_factory.mktemp("repo") / "xen")


@pytest.fixture
def repo(started: Repo, tmp_path: Path) -> Repo:
    """A clone of it to commit to."""
    return started.clone(tmp_path / "xen")
