# SPDX-License-Identifier: GPL-2.0-only
"""What a hypervisor owes its guests at the FF-A virtual instance, as a program.

`predict(system, call)` returns every outcome of a call that FF-A allows in a state: x0 to x17,
what lands in RX, and the state after. It is written from FF-A 1.0, 1.1 and 1.2 and their public
clients, and knows nothing of Xen but the `Profile`, which holds what FF-A leaves to a hypervisor.
`Pair` runs the model beside a machine and raises a `Disagreement` where they differ.

A module for each group of ABIs registers its rules: version, identity, features, buffers,
partitions. Section numbers without a version are those of `ffashim.ffa`.
"""

from ffashim.model import buffers, features, identity, partitions, version  # noqa: F401 - rules
from ffashim.model.compare import Observation
from ffashim.model.deviation import Deviation
from ffashim.model.outcome import Listing, Outcome
from ffashim.model.pair import Disagreement, Pair, known_of, profile_of
from ffashim.model.profile import Profile
from ffashim.model.registers import Allowed, Call
from ffashim.model.rules import NotModelled, predict
from ffashim.model.state import Buffers, Guest, System

__all__ = [
    "Allowed",
    "Buffers",
    "Call",
    "Deviation",
    "Disagreement",
    "Guest",
    "Listing",
    "NotModelled",
    "Observation",
    "Outcome",
    "Pair",
    "Profile",
    "System",
    "known_of",
    "predict",
    "profile_of",
]
