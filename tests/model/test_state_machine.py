# SPDX-License-Identifier: GPL-2.0-only
"""The model and the real handlers, side by side, until the two differ.

FFASHIM_MODEL=1 runs it. It draws at random, and what known defects of older trees make of each
other is not all modelled yet, so it is no part of a check. FFASHIM_EXAMPLES scales how many
conversations there are; --hypothesis-seed repeats a run.
"""

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from ffashim import Machine
from ffashim.model import known_of
from ffashim.model.conversations import Conversations
from ffashim.model.deviations import DEVIATIONS

EXAMPLES = int(os.environ.get("FFASHIM_EXAMPLES", "150"))
STEPS = 30


@pytest.mark.skipif(
    os.environ.get("FFASHIM_MODEL", "") in ("", "0"), reason="explores at random: FFASHIM_MODEL=1"
)
def test_xen_does_what_the_model_says(xen: Machine, request: pytest.FixtureRequest) -> None:
    deviations = known_of(xen, DEVIATIONS)
    shown: set[str] = set()

    class Here(Conversations):
        def __init__(self) -> None:
            super().__init__(xen, deviations)

        def teardown(self) -> None:
            shown.update(self.pair.known)

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            print_blob=False,
            report_multiple_bugs=False,
            phases=[phase for phase in Phase if phase is not Phase.explain],
            suppress_health_check=list(HealthCheck),
        ),
    )
    for finding in sorted(shown):
        request.node.user_properties.append(("ffashim.known", finding))
