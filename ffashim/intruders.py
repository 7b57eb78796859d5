# SPDX-License-Identifier: GPL-2.0-only
"""Hypothesis' choice of what another vCPU writes between two reads of Xen's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import strategies as st

from ffashim.fetches import Fetch


@dataclass
class Intruder:
    """A vCPU that writes to what Xen is about to read for the second time.

    Give it to `Machine.at_fetches()`. It is spent by one call: draw another for the next.
    """

    writes: Sequence[bytes | None]
    """For the first such read, the second and so on: what to write over its bytes, from the first
    one on; None leaves them."""
    seen: list[Fetch] = field(default_factory=list, compare=False)
    """The reads at which there was something to write."""

    def __call__(self, fetch: Fetch) -> None:
        """Write, if it is time to."""
        if fetch.first is None:
            return
        turn = len(self.seen)
        self.seen.append(fetch)
        data = self.writes[turn] if turn < len(self.writes) else None
        if data:
            fetch.data[: len(data)] = data[: fetch.size]


def intruders(max_writes: int = 4) -> st.SearchStrategy[Intruder]:
    """Draw intruders: which of a call's second reads to change, and to what."""
    words = st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from([b"\0" * 8, b"\xff" * 8]))
    return st.builds(Intruder, st.lists(st.none() | words, min_size=1, max_size=max_writes))
