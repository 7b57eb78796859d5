# SPDX-License-Identifier: GPL-2.0-only
"""The model and the real handlers side by side, in conversations drawn at random.

--explore=quick, ci or night says how much, --hypothesis-seed from which seed on. A failure is
printed as a test that can be put into a file and run.
"""

import os
from dataclasses import replace

import pytest

from ffashim import Machine
from ffashim.baseline import machine_of
from ffashim.loader import Extension
from ffashim.model import known_of
from ffashim.model.explore import EFFORTS, Effort, Seeds, explore, open_database
from ffashim.pytest_plugin import EXPLORED_PROPERTY, baseline_of

SHARDS = 2
"""In so many tests, which run side by side on as many cores."""


def share_of(request: pytest.FixtureRequest) -> Effort:
    """This test's share of what was asked for."""
    effort = EFFORTS[request.config.getoption("--explore")]
    if effort.seconds is None:
        return effort
    seconds: float = request.config.getoption("--explore-seconds") or effort.seconds
    name = request.node.originalname
    tests = [each for each in request.session.items if getattr(each, "originalname", "") == name]
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return replace(effort, seconds=seconds * min(workers, len(tests)) / len(tests))


@pytest.mark.parametrize("shard", range(SHARDS))
def test_xen_does_what_the_model_says(
    xen: Machine, shard: int, request: pytest.FixtureRequest
) -> None:
    effort = share_of(request)
    # What is the same each time is not to depend on what was found before.
    given = request.config.getoption("--hypothesis-seed", None)
    where = request.config.getoption("--example-database")
    database = None if effort.again or given is not None else open_database(where)
    key = xen.extension.path.parent.name
    seeds = Seeds(effort, None if given is None else int(given), key, shard)
    before = baseline_of(request.config, *request.node.callspec.params["extension"])
    known = known_of(xen, machine_of(before) if isinstance(before, Extension) else None)
    found = explore(xen, known, effort, seeds.first, database, part=(shard, SHARDS))
    seeds.done(found.rounds)
    name = request.node.callspec.id
    request.node.user_properties.append((EXPLORED_PROPERTY, f"{name}: {found}"))
    if found.found:
        pytest.fail("\n\n\n".join(map(str, found.found)), pytrace=False)
