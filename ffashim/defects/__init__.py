# SPDX-License-Identifier: GPL-2.0-only
"""Xen's known defects, those that more than one place meets: tests of several ABIs, tests of
clients, the model (see `ffashim.model.deviations`), the mutants. A module for each topic.

What a single test meets is marked where that test stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from ffashim.faults import XenAccess, XenFault
from ffashim.machine import Machine


@dataclass(frozen=True)
class Defect:
    """Something that is wrong in some trees.

    finding: what it is, as reports and findings/ have it. probe: tells by behaviour whether a tree
    has it. It is asked of a freshly booted machine with the default secure world, of any tree in
    any configuration, and leaves the machine as it may (see `ffashim.capabilities.probe()`).
    """

    finding: str
    probe: Callable[[Machine], Any]

    @property
    def mark(self) -> pytest.MarkDecorator:
        """The mark of a test that fails where the defect is."""
        return pytest.mark.known_defect(self.probe, self.finding)


def crashes(
    call: Callable[[Machine], object], where: str, kind: type[XenFault] = XenAccess
) -> Callable[[Machine], bool]:
    """Make a probe of something that no hypervisor survives on a tree with the defect.

    ``where`` is a regular expression that matches the file or function in which it happens, or the
    way there, and ``kind`` is what happens: by default an access to memory that is not there.
    Another crash is another defect, and is raised.
    """

    def probe(machine: Machine) -> bool:
        try:
            call(machine)
        except kind as fault:
            if not re.search(where, "\n".join([fault.report.where, *fault.report.backtrace])):
                raise
            return True
        return False

    return probe
