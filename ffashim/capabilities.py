# SPDX-License-Identifier: GPL-2.0-only
"""What a tree's mediator can do, found out by asking it: a version number would tell nothing of a
tree that somebody has patched.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ffashim.defaults import default_spmc
from ffashim.descriptors import IndirectMessage
from ffashim.errors import UsageError
from ffashim.faults import XenFault
from ffashim.ffa import FFA, V1_0, FfaError, Version
from ffashim.machine import Machine

_known: dict[tuple[Path, Any], Any] = {}

# Arguments with which a mediator that handles the call gets beyond telling that it does not. A
# guest of domain 1, FF-A ID 2, makes it, with RX/TX buffers; 0x8001 is a secure partition.
_ARGUMENTS: dict[FFA, tuple[int, ...]] = {
    FFA.FEATURES: (FFA.VERSION,),
    FFA.RUN: (0x8001 << 16,),
    FFA.MSG_SEND_DIRECT_REQ_32: (2 << 16 | 0x8001,),
    FFA.MSG_SEND_DIRECT_REQ_64: (2 << 16 | 0x8001,),
    FFA.MSG_SEND_DIRECT_REQ2: (2 << 16 | 0x8001,),
    FFA.NOTIFICATION_BIND: (0x8001 << 16 | 2, 0, 1),
    FFA.NOTIFICATION_UNBIND: (0x8001 << 16 | 2, 0, 1),
    FFA.NOTIFICATION_SET: (2 << 16 | 0x8001, 0, 1),
    FFA.NOTIFICATION_GET: (2, 1),
}


def probe(machine: Machine, question: Callable[[Machine], Any]) -> Any:
    """Ask a question of a freshly booted machine, once for each extension.

    The machine is left as the question leaves it: boot it before use.
    """
    key = (machine.extension.path, question)
    if key not in _known:
        with machine.uncounted():
            machine.boot(default_spmc(machine.extension))
            _known[key] = question(machine)
    return _known[key]


def highest_version(machine: Machine) -> Version:
    """Return the version that the mediator implements: its answer to FFA_VERSION."""
    own = machine.extension.record["constants"].get("FFA_MY_VERSION", 0x10001)
    return Version(own >> 16, own & 0xFFFF)


def handled(machine: Machine) -> frozenset[FFA]:
    """Return the calls that the mediator handles for a 64-bit guest of its highest version."""
    found: frozenset[FFA] = probe(machine, _handled)
    return found


def handled_in_1_0(machine: Machine) -> frozenset[FFA]:
    """Return those that it handles for one of version 1.0."""
    found: frozenset[FFA] = probe(machine, _handled_in_1_0)
    return found


def _handled_in_1_0(machine: Machine) -> frozenset[FFA]:
    return _handled(machine, V1_0)


def _handled(machine: Machine, version: Version | None = None) -> frozenset[FFA]:
    version = version or highest_version(machine)
    found = set()
    arguments = {**_ARGUMENTS, FFA.VERSION: (int(version),)}
    snapshot = machine.snapshot()
    for fid in FFA:
        machine.restore(snapshot)
        vm = machine.create_vm(domid=1)
        vm.negotiate(str(version))
        if fid not in (FFA.RXTX_MAP_32, FFA.RXTX_MAP_64):
            vm.map_rxtx()
        try:
            reply = vm.smc(fid, *arguments.get(fid, ()))
        except XenFault:
            found.add(fid)  # it is handled, if badly: its own tests shall tell
            continue
        if not reply.unknown and reply.error is not FfaError.NOT_SUPPORTED:
            found.add(fid)
    return frozenset(found)


def _relays_messages(machine: Machine) -> bool:
    sender, receiver = (machine.create_vm("1.1") for _ in range(2))
    sender.map_rxtx()
    receiver.map_rxtx()
    message = IndirectMessage(sender.id, receiver.id, b"hello")
    sender.tx.write(message.encode(Version(1, 1)))
    return sender.smc(FFA.MSG_SEND2).ok


def missing(
    machine: Machine,
    vm_to_vm: bool | None = None,
    abi: FFA | None = None,
    version: str | None = None,
    messages: bool = False,
    sanitize: str | None = None,
    **unknown: object,
) -> str | None:
    """Return why a test that needs this cannot run on the machine's tree, None if it can.

    Raises UsageError for a need that is none of these.
    """
    for name in unknown:
        raise UsageError(
            f"needs({name}=...): name one of vm_to_vm, abi, version, messages, sanitize"
        )
    if vm_to_vm is not None and machine.extension.enabled("FFA_VM_TO_VM") != vm_to_vm:
        return f"needs FFA_VM_TO_VM={'y' if vm_to_vm else 'n'}"
    if sanitize is not None and not any(
        name.startswith(sanitize) for name in machine.extension.sanitize
    ):
        return f"needs a build with --sanitize={sanitize}"
    if version is not None and highest_version(machine) < Version.parse(version):
        return f"needs a mediator of FF-A {version}; this tree's is {highest_version(machine)}"
    if messages and not probe(machine, _relays_messages):
        return "needs messages between guests, which this tree's mediator does not relay"
    if abi is not None:
        if not isinstance(abi, FFA):
            raise UsageError(f"needs(abi={abi!r}): no FF-A function")
        if abi not in handled(machine):
            return f"needs FFA_{abi.name}, which this tree's mediator does not handle"
    return None
