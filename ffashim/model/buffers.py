# SPDX-License-Identifier: GPL-2.0-only
"""FFA_RXTX_MAP, FFA_RXTX_UNMAP, FFA_RX_RELEASE (FF-A 1.2, 13.6, 13.7, 13.5, and 7.2.2).

Where the SPMC has FFA_RX_ACQUIRE it knows of guests' buffers, as it fills them too (13.4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from ffashim.descriptors import DescriptorError, EndpointRxTx
from ffashim.ffa import FFA, PAGE_SIZE, FfaError
from ffashim.model.exchange import (
    Answer,
    Ask,
    Frame,
    Plan,
    Sent,
    Smc,
    refused,
    relayed,
    request,
    some_error,
    succeeded,
)
from ffashim.model.outcome import Outcome, error, success
from ffashim.model.registers import Call, Registers, exactly
from ffashim.model.rules import rule
from ffashim.model.state import Buffers, Guest, System


@rule(FFA.RXTX_MAP_32, FFA.RXTX_MAP_64)
def rxtx_map(system: System, guest: Guest, call: Call) -> Iterator[Plan]:
    """x1 TX, x2 RX, w3[5:0] pages, w3[31:6] MBZ (13.6); whichever check comes first."""
    tx, rx, pages = call.argument(1), call.argument(2), call.w(3)
    errors = set()
    if guest.buffers is not None:
        errors.add(FfaError.DENIED)  # FF-A ACS ffa_rxtx_map_and_unmap
    if (
        not 1 <= pages <= system.profile.rxtx_pages
        or tx % PAGE_SIZE
        or rx % PAGE_SIZE
        or not (guest.has(tx, pages) and guest.has(rx, pages))
    ):
        errors.add(FfaError.INVALID_PARAMETERS)
    if call.scarce:
        yield error(system, call, "13.6: no memory", FfaError.NO_MEMORY)
    buffers = Buffers(tx, rx, pages)
    registers = request(FFA.RXTX_MAP_64)  # the descriptor is in TX, which zeros tell
    if abs(tx - rx) < pages * PAGE_SIZE:
        if not errors and system.secure.knows_buffers:
            # Nobody has both in one page, and it may be the SPMC that says so.
            sent = _described(guest, buffers)
            yield relayed(system, call, "13.6: overlap", registers, lambda _: [], sent)
        errors.add(FfaError.INVALID_PARAMETERS)
    if errors:
        yield error(system, call, "13.6", *errors)
        return
    done = success(system, call, "13.6", after=system.having(replace(guest, buffers=buffers)))
    if not system.secure.knows_buffers:
        yield done
        return
    yield relayed(system, call, "13.6", registers, lambda _: [done], _described(guest, buffers))


def _described(guest: Guest, buffers: Buffers) -> Sent:
    """The endpoint RX/TX descriptor names the guest and its pages (Table 13.27)."""

    def sent(smc: Smc, frame: Frame) -> Iterator[str]:
        try:
            found = EndpointRxTx.decode(smc.tx)
        except DescriptorError as wrong:
            yield f"the SPMC was sent no RX/TX descriptor: {wrong}"
            return
        if found.endpoint != guest.id:
            yield f"the SPMC was sent the RX/TX descriptor of endpoint {found.endpoint:#x}"
        for name, region, base in (("RX", found.rx, buffers.rx), ("TX", found.tx, buffers.tx)):
            seen = [each.address + n * PAGE_SIZE for each in region.constituents
                    for n in range(each.page_count)]  # fmt: skip
            wanted = [frame(guest.id, base + n * PAGE_SIZE) for n in range(buffers.pages)]
            if seen != wanted:
                yield f"the SPMC was told other pages of {name} than the guest's"

    return sent


@rule(FFA.RXTX_UNMAP)
def rxtx_unmap(system: System, guest: Guest, call: Call) -> Iterator[Plan]:
    """w1[31:16] names a VM at the physical instance; here it must be zero, or is the caller's own,
    as the FF-A ACS has it. Another one may be refused or ignored; nobody else's pair is taken.
    """
    errors = set()
    buffers = guest.buffers
    if buffers is None:
        errors.add(FfaError.INVALID_PARAMETERS)  # FF-A ACS ffa_rxtx_map_and_unmap
    elif buffers.owned:
        errors |= system.profile.unmap_of_held_rx
    if call.w(1) >> 16 not in (0, guest.id):
        yield error(system, call, "13.7: another's ID", FfaError.INVALID_PARAMETERS, *errors)
    if errors:
        yield error(system, call, "13.7", *errors)
    if buffers is None or (buffers.owned and not buffers.filled_below):
        return
    done = success(system, call, "13.7", after=system.having(replace(guest, buffers=None)))
    if not system.secure.knows_buffers:
        yield done
        return
    # Of RX that the SPMC has filled, it is the SPMC that knows.
    registers = request(FFA.RXTX_UNMAP, exactly(guest.id << 16, "VM"))
    yield relayed(system, call, "13.7", registers, lambda _: [done])


@rule(FFA.RX_RELEASE)
def rx_release(system: System, guest: Guest, call: Call) -> Iterator[Plan]:
    """Who owns RX gives it back; w1 names a VM at the physical instance only (13.5)."""
    if guest.buffers is None or not guest.buffers.owned:
        yield error(system, call, "13.5: the caller does not own RX", FfaError.DENIED)
        return
    buffers = replace(guest.buffers, owned=False, filled_below=False)
    done = success(system, call, "13.5", after=system.having(replace(guest, buffers=buffers)))
    if not system.secure.knows_buffers:
        yield done
        return
    yield relayed(system, call, "13.5", releasing(guest), lambda _: [done])


def releasing(guest: Guest) -> Registers:
    """Return the request that gives a guest's RX back to the SPMC (13.5)."""
    return request(FFA.RX_RELEASE, exactly(guest.id, "VM"))


def filling(
    system: System,
    call: Call,
    rule: str,
    guest: Guest,
    fill: Callable[[System], Iterable[Plan]],
) -> Iterator[Plan]:
    """Take a guest's RX, which it has mapped, to fill it: ``fill`` is given the system in which
    the guest owns it. What ends in FFA_ERROR then must have given it back.
    """
    buffers = guest.buffers
    assert buffers is not None
    if buffers.owned:
        yield error(system, call, rule, FfaError.BUSY)  # G4: FF-A ACS checklist, rule 6
    filled = system.having(replace(guest, buffers=replace(buffers, owned=True)))
    if not system.secure.knows_buffers:
        if not buffers.owned:
            yield from fill(filled)
        return

    def acquired(answer: Answer) -> Iterable[Plan]:
        if not succeeded(answer):
            # Its own request: which error is the guest's, is its own business.
            return [some_error(system, call, rule), refused(system, call, rule, answer)]
        if buffers.owned:
            return [some_error(system, call, rule)]
        return [given_back(system, call, rule, guest, each) for each in fill(filled)]

    acquire = request(FFA.RX_ACQUIRE, exactly(guest.id, "VM"))
    yield Ask(acquire, acquired, f"{rule}, 13.4: RX is shared with the SPMC")


def given_back(system: System, call: Call, rule: str, guest: Guest, plan: Plan) -> Plan:
    """Give RX back to the SPMC before a call fails that has taken it."""
    if isinstance(plan, Outcome):
        if FFA.ERROR not in plan.registers[0]:
            return plan
        return Ask(releasing(guest), lambda answer: _left_with(plan, guest, answer), rule)

    def then(answer: Answer) -> Iterable[Plan]:
        return [given_back(system, call, rule, guest, each) for each in plan.then(answer)]

    return replace(plan, then=then)


def _left_with(failed: Outcome, guest: Guest, answer: Answer) -> list[Plan]:
    """An SPMC that does not take RX back leaves it to the guest, or only says so."""
    if succeeded(answer):
        return [failed]
    now = failed.after.guest(guest.id)
    assert now.buffers is not None
    kept = replace(now, buffers=replace(now.buffers, owned=True))
    return [failed, replace(failed, after=failed.after.having(kept))]
