# SPDX-License-Identifier: GPL-2.0-only
"""Direct requests and FFA_RUN (FF-A 1.2, 15.2 to 15.5, and 14.5; chapter 8 on who runs whom)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ffashim.ffa import FFA, ID_SECURE, MSG_FLAG_FRAMEWORK, NREGS, FfaError
from ffashim.model.exchange import Answer, Ask, Plan, changed, refused, request, some_error
from ffashim.model.outcome import Outcome, error, high
from ffashim.model.registers import LOW, Allowed, Call, either, exactly, function
from ffashim.model.rules import rule
from ffashim.model.state import Guest, System

RESPONSE = {
    FFA.MSG_SEND_DIRECT_REQ_32: FFA.MSG_SEND_DIRECT_RESP_32,
    FFA.MSG_SEND_DIRECT_REQ_64: FFA.MSG_SEND_DIRECT_RESP_64,
    FFA.MSG_SEND_DIRECT_REQ2: FFA.MSG_SEND_DIRECT_RESP2,
}
"""What a request is answered with (15.2, 15.4)."""
SUSPENDED = frozenset({FFA.INTERRUPT, FFA.MSG_YIELD})
"""The partition has not finished: FFA_RUN lets it go on (14.5)."""
NOT_TO_GUESTS = frozenset({FfaError.NOT_SUPPORTED, FfaError.INVALID_PARAMETERS, FfaError.DENIED})
"""Xen documents: "only supported from a VM to an SP". FF-A has no one code for it."""


@rule(FFA.MSG_SEND_DIRECT_REQ_32, FFA.MSG_SEND_DIRECT_REQ_64, FFA.MSG_SEND_DIRECT_REQ2)
def direct_request(system: System, guest: Guest, call: Call) -> Iterator[Plan]:
    """w1 sender and receiver; w2 flags, or x2 and x3 a UUID in REQ2; the rest is the message."""
    wide = call.fid == FFA.MSG_SEND_DIRECT_REQ2
    sender, receiver = call.w(1) >> 16, call.w(1) & 0xFFFF
    errors: set[FfaError] = set()
    if sender != guest.id or receiver == guest.id:
        errors.add(FfaError.INVALID_PARAMETERS)
    if not receiver & ID_SECURE:
        errors |= NOT_TO_GUESTS
    framework = not wide and call.w(2) & MSG_FLAG_FRAMEWORK
    if framework:
        # Only hypervisor, SPMC and partition managers send these (18.3).
        errors |= {FfaError.INVALID_PARAMETERS, FfaError.DENIED}
    if errors:
        yield error(system, call, "15.2", *errors)
        if sender == guest.id and not receiver & ID_SECURE and not framework:
            # It may leave it to the SPMC who its partitions are, which then has to refuse.
            yield from changed(
                passed_on(system, guest, call),
                lambda outcome: [outcome] if FFA.ERROR in outcome.registers[0] else [],
            )
        return
    if not wide and call.w(2):
        # The flags of a partition message are reserved, MBZ: the SPMC may be left to find it.
        yield error(system, call, "15.2: w2 must be zero", FfaError.INVALID_PARAMETERS)
    if not any(each.id == receiver for each in system.secure.partitions):
        yield error(system, call, "15.2: nobody is there", FfaError.INVALID_PARAMETERS)
    yield passed_on(system, guest, call)


def passed_on(system: System, guest: Guest, call: Call) -> Ask:
    """Give a direct request to the SPMC, and what it answers to the guest."""
    wide = call.fid == FFA.MSG_SEND_DIRECT_REQ2
    arguments = [exactly(call.argument(n), "message") for n in range(2, NREGS if wide else 8)]
    if not wide:
        arguments[0] = either({call.w(2), call.argument(2)}, "flags")
    endpoints = exactly(call.w(1), "sender, receiver")
    return _run(system, guest, call, "15.2", call.w(1) & 0xFFFF, call.fid, endpoints, *arguments)


@rule(FFA.RUN)
def run(system: System, guest: Guest, call: Call) -> Iterator[Plan]:
    """w1[31:16] the partition, w1[15:0] its vCPU (14.5)."""
    receiver = call.w(1) >> 16
    if not receiver & ID_SECURE:
        yield error(system, call, "14.5: it runs no guest", *NOT_TO_GUESTS)
        return
    others = {caller for sp, caller in system.running if sp == receiver} - {guest.id}
    if others or not any(each.id == receiver for each in system.secure.partitions):
        # What runs for another guest is none of this one's.
        codes = (FfaError.INVALID_PARAMETERS, FfaError.DENIED, FfaError.BUSY)
        yield error(system, call, "14.5: not for this guest", *codes)
    target = exactly(call.w(1), "partition, vCPU")
    yield _run(system, guest, call, "14.5", receiver, call.fid, target)


def _run(
    system: System,
    guest: Guest,
    call: Call,
    where: str,
    receiver: int,
    fid: int,
    *arguments: Allowed,
) -> Ask:
    """Let a partition run for a guest, and tell the guest how that has ended."""

    def then(answer: Answer) -> Iterator[Plan]:
        kind = answer[0] & LOW
        before = replace(system, running=system.running - {(receiver, guest.id)})
        if kind == FFA.ERROR:
            # It was not run: whatever it was at, it still is.
            yield refused(system, call, where, answer)
            yield told(system, call, where, answer)
        elif kind in RESPONSE.values():
            # A partition that is run may answer whom it worked for before.
            mine = call.fid != FFA.RUN or answer[1] & 0xFFFF == guest.id
            if mine:
                yield told(before, call, where, answer)
            if not mine or (call.fid != FFA.RUN and RESPONSE[FFA(call.fid)] != kind):
                yield from _hidden(before, system, call, where)
        elif kind in SUSPENDED:
            after = replace(system, running=system.running | {(receiver, guest.id)})
            yield told(after, call, where, answer)
        elif kind == FFA.MSG_WAIT and call.fid == FFA.RUN:
            # It may be another of its vCPUs that has not finished.
            for after in {before, system}:
                yield told(after, call, where, answer)
        else:
            yield from _hidden(before, system, call, f"{where}: no answer to this")
            if kind in (FFA.SUCCESS_32, FFA.SUCCESS_64):
                yield told(before, call, where, answer)

    return Ask(request(fid, *arguments), then, where)


def _hidden(before: System, after: System, call: Call, where: str) -> Iterator[Outcome]:
    """What is not for the guest is an error to it, whatever has become of the partition."""
    for each in {before, after}:
        yield some_error(each, call, where)


def told(after: System, call: Call, where: str, answer: Answer) -> Outcome:
    """The partition's answer as it is: 32 bits of each register of a 32-bit answer."""
    kind = answer[0] & LOW
    if kind == FFA.MSG_SEND_DIRECT_RESP2:
        registers = tuple(exactly(value, "message") for value in answer[1:])
        return Outcome((function(kind), *registers), after, where)
    mask = LOW if not kind >> 30 & 1 else (1 << 64) - 1
    low = (exactly(value & mask, "message") for value in answer[1:8])
    return Outcome((function(kind), *low, *high(after, call)), after, where)
