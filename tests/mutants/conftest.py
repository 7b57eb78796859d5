# SPDX-License-Identifier: GPL-2.0-only
"""Fixtures for the tests of the mutation tool."""

from __future__ import annotations

import pytest

from ffashim.source import Tree, resolve, resolve_default


@pytest.fixture(scope="session")
def tree(pytestconfig: pytest.Config) -> Tree:
    """The first tree under test."""
    specs = pytestconfig.getoption("--xen")
    return resolve(specs[0]) if specs else resolve_default()
