# SPDX-License-Identifier: GPL-2.0-only
"""What a hypervisor owes its guests at the FF-A virtual instance, as a program.

`predict(system, call)` returns every outcome of a call that FF-A allows in a state: x0 to x17,
what lands in whose RX, what the SPMC must see, who is interrupted, and the state after. It is
written from FF-A 1.0, 1.1 and 1.2 and their public clients, and knows nothing of Xen but the
`Profile`, which holds what FF-A leaves to a hypervisor. `Pair` runs the model beside a machine and
raises a `Disagreement` where they differ.

A module for each group of ABIs registers its rules: version, identity, features, buffers,
partitions, direct, indirect, memory, notifications. Section numbers without a version are those
of `ffashim.ffa`.
"""

from ffashim.model import (  # noqa: F401 - each registers its rules
    buffers,
    direct,
    features,
    identity,
    indirect,
    memory,
    notifications,
    partitions,
    version,
)
from ffashim.model.compare import Observation
from ffashim.model.contents import Listing, Message
from ffashim.model.deviation import Deviation
from ffashim.model.deviations import known_of
from ffashim.model.exchange import Ask, Plan, Smc
from ffashim.model.outcome import Outcome
from ffashim.model.pair import Disagreement, Pair, profile_of
from ffashim.model.profile import Profile
from ffashim.model.registers import Allowed, Call
from ffashim.model.rules import NotModelled, predict
from ffashim.model.state import Buffers, Guest, Secure, System

__all__ = [
    "Allowed",
    "Ask",
    "Buffers",
    "Call",
    "Deviation",
    "Disagreement",
    "Guest",
    "Listing",
    "Message",
    "NotModelled",
    "Observation",
    "Outcome",
    "Pair",
    "Plan",
    "Profile",
    "Secure",
    "Smc",
    "System",
    "known_of",
    "predict",
    "profile_of",
]
