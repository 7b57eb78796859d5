# SPDX-License-Identifier: GPL-2.0-only
"""What the topics of the SPMC have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ffashim.ffa import Version
from ffashim.spmc.state import Handler, State

if TYPE_CHECKING:
    from ffashim.spmc.world import Spmc

Abis = Mapping[int, tuple[Version, Handler]]
"""Function ID -> (the version that brought it, what it does)."""


class Topic:
    """Some ABIs of an SPMC. Holds no state: that is all in `State`."""

    def __init__(self, spmc: Spmc) -> None:
        self.spmc = spmc

    @property
    def state(self) -> State:
        """The state of now; a restore replaces it."""
        return self.spmc.state
