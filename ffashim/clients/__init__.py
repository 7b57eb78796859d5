# SPDX-License-Identifier: GPL-2.0-only
"""Real clients of FF-A, re-implemented from their behaviour, to be run against the real handlers.

Each module says which source it was read from. A client takes a `Vm` and does what its model does,
in the same order, with the same registers and flags; it believes the same answers and refuses the
same ones. What it would have logged, or returned to its own caller, is a `ClientError`.
"""

from ffashim.clients.complaint import ClientError, NoFramework, Overrun

__all__ = ["ClientError", "NoFramework", "Overrun"]
