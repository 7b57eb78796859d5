# SPDX-License-Identifier: GPL-2.0-only
"""Guests come and go: what the secure world may refuse then, and what may be left of a guest.

The SPMC makes and destroys a bitmap of notifications for each guest (17.1, 17.2), unmaps its
buffers (13.7), and partitions that asked for it are told of its beginning and end (18.3). What the
SPMC refuses is its own to keep; all the rest must be gone.

A guest whose memory a partition still uses goes later (16.7: such memory cannot be reclaimed). That
memory is lost for good is for tests/abi: no tree is known that gives up on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ffashim.ffa import FFA, FfaError, FrameworkMessage
from ffashim.spmc import Spmc
from ffashim.spmc.script import Rule

Request = FFA | FrameworkMessage
"""What the SPMC is asked for, or what a partition is told."""

BIRTH: tuple[Request, ...] = (FFA.NOTIFICATION_BITMAP_CREATE, FrameworkMessage.VM_CREATED)
"""What may be refused as a guest comes: there may be no guest then."""
DEATH: Mapping[Request, str] = {
    FFA.NOTIFICATION_BITMAP_DESTROY: r"notification bitmap",
    # The SPMC may still use them, so that Xen may not.
    FFA.RXTX_UNMAP: r"RX/TX buffers|memory that Xen still holds",
    FrameworkMessage.VM_DESTROYED: r"was not told",
}
"""What may be refused as a guest goes, and a regular expression for what may be left then."""
PAUSES = (FFA.INTERRUPT, FFA.MSG_YIELD)
"""How a partition may leave the CPU while it is told: its caller runs it again, and is answered."""
FOR_GOOD = (FfaError.DENIED, FfaError.INVALID_PARAMETERS, FfaError.NO_MEMORY, FfaError.ABORTED)
"""Refusals that waiting does not help against."""
PATIENCE = 60.0
"""Seconds after which a hypervisor has looked again whether memory is free. FF-A sets no time."""


@dataclass(frozen=True)
class Refusal:
    """The SPMC, or a partition, refuses something, or is slow with it.

    code: by which status, or of `PAUSES` how a partition that is told is held up. times: so often.
    """

    what: Request
    code: int
    times: int = 1

    @property
    def for_good(self) -> bool:
        """Whether waiting does not help against it."""
        return self.code in FOR_GOOD

    @property
    def pauses(self) -> bool:
        """Whether nothing is refused: it only takes longer."""
        return isinstance(self.what, FrameworkMessage) and self.code in PAUSES

    @property
    def shows(self) -> str | None:
        """Which field of `Deviation` says what a tree leaves that does not wait, if one does."""
        if self.pauses:
            return "forsakes"
        return None if self.for_good else "gives_up"

    def plant(self, spmc: Spmc) -> Rule:
        """Let it happen the next time."""
        if isinstance(self.what, FrameworkMessage):
            request = spmc.on(FFA.MSG_SEND_DIRECT_REQ_32).framework(self.what)
            if self.pauses:
                return request.preempt(self.times, FFA(self.code))
            return request.status(self.code, times=self.times)
        return spmc.on(self.what).error(self.code, times=self.times)


def not_excused(left: list[str], refusal: Refusal | None) -> Iterator[str]:
    """Yield what is left of a guest that is gone though nobody has refused to let it go."""
    for each in left:
        if refusal is None or not (refusal.for_good and re.search(DEATH[refusal.what], each)):
            yield each
