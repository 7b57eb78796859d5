# SPDX-License-Identifier: GPL-2.0-only
"""Why some code of the mediator is reached by no test, by the function that it is in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

REASONS: Mapping[str, Sequence[str]] = {}
