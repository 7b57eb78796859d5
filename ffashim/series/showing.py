# SPDX-License-Identifier: GPL-2.0-only
"""A difference for people: what was seen before and after, and a test that tells the two apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ffashim.ffa import fid_name
from ffashim.model.script import Script
from ffashim.series.recording import Seen
from ffashim.spmc.log import describe

if TYPE_CHECKING:
    from ffashim.series.behaviour import Difference

_NAMED = 4
"""So many requests a test asserts."""


def as_json(difference: Difference, script: Script) -> dict[str, Any]:
    """Return a difference with the conversation that shows it."""
    return {
        "subject": difference.subject,
        "what": difference.what,
        "kind": difference.kind,
        "before": _lines(difference.before, difference.after),
        "after": _lines(difference.after, difference.before),
        "test": as_test(difference, script),
    }


def _lines(seen: Seen, other: Seen) -> list[str]:
    """Say what was seen of a step, as far as it is not what was seen of another."""
    lines = list(_smcs(seen, other))
    for (guest, page), data in sorted(seen.memory.items()):
        if other.memory.get((guest, page)) != data:
            lines.append(_page(guest, page, data, other.memory.get((guest, page))))
    if seen.interrupts != other.interrupts:
        lines += [f"interrupt {i} of vCPU {c} of guest {g:#x}" for g, c, i in seen.interrupts]
    lines += [each for each in seen.others if each not in other.others]
    if seen.reply is not None and seen.reply != other.reply:
        lines.append(f"reply {seen.reply}")
    if seen.end:
        lines.append(seen.end)
    return lines or ["nothing"]


def _smcs(seen: Seen, other: Seen) -> Iterator[str]:
    """Yield the SMCs that were not the same in another step; all of them if only the order is."""
    same = Counter(seen.smcs) & Counter(other.smcs)
    if seen.smcs != other.smcs and same.total() == len(seen.smcs) == len(other.smcs):
        same.clear()
    for smc in seen.smcs:
        if same[smc] > 0:
            same[smc] -= 1
            continue
        request, answer, _ = smc
        yield f"SMC {describe(request)} -> {describe(answer) if answer else 'no answer'}"


def _page(guest: int, page: int, data: bytes, other: bytes | None) -> str:
    at = next((n for n, byte in enumerate(data) if other is None or other[n] != byte), 0) & ~15
    shown = data[at : at + 32].hex(" ", 8)
    return f"page {page >> 12} of guest {guest:#x} holds at {at:#x}: {shown}"


def as_test(difference: Difference, script: Script) -> str:
    """Return a conversation as a test that passes before the change, and fails after it."""
    text = str(replace(script, known=False)).replace(
        "test_xen_does_what_the_model_says", "test_nobody_sees_a_change"
    )
    text = text.replace("from ffashim.model import Pair", _IMPORT).replace("Pair(", "Recording(")
    *lines, last = text.split("\n")
    before, after = difference.before, difference.after
    step = last.strip()
    if before.end != after.end:
        steps = [step]
    elif difference.index == 0:
        steps = [step, "before = 0", *_assert_smcs(before, after)]
    elif before.reply is not None and before.reply != after.reply:
        steps = [f"reply = {step}", f'assert str(reply) == "{before.reply}"']
    elif before.memory != after.memory:
        steps = [step, *_assert_memory(before, after)]
    elif before.smcs != after.smcs:
        steps = ["before = len(xen.spmc.log)", step, *_assert_smcs(before, after)]
    else:
        steps = [step]
    return "\n".join([*lines, *(f"    {each}" for each in steps)])


_IMPORT = "from ffashim.series.recording import Recording"


def _assert_smcs(before: Seen, after: Seen) -> list[str]:
    names, others = ([fid_name(smc[0][0] & 0xFFFF_FFFF) for smc in each.smcs]
                     for each in (before, after))  # fmt: skip
    if names != others and len(names) <= _NAMED:
        return [f"assert xen.spmc.log.names[before:] == {names!r}"]
    one, other = (Counter(describe(smc[0]) for smc in each.smcs) for each in (before, after))
    differ = [each for each in dict.fromkeys([*one, *other]) if one[each] != other[each]]
    return [
        'asked = [str(smc).partition(" ->")[0] for smc in xen.spmc.log[before:]]',
        *(f'assert asked.count("{each}") == {one[each]}' for each in differ[:_NAMED]),
    ]


def _assert_memory(before: Seen, after: Seen) -> list[str]:
    for (guest, page), data in sorted(before.memory.items()):
        other = after.memory.get((guest, page))
        if other is not None and other != data:
            at = next(n for n, byte in enumerate(data) if other[n] != byte) & ~15
            return [
                f"memory = {{vm.id: vm.memory for vm in pair.vms}}[{guest:#x}]",
                f"found = memory.read(memory.base + {page + at:#x}, 32)",
                f'assert found.hex(" ", 8) == "{data[at : at + 32].hex(" ", 8)}"',
            ]
    return []
