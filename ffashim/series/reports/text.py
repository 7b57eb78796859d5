# SPDX-License-Identifier: GPL-2.0-only
"""A verdict as plain text that fits into a mail: 72 columns, no colours, the worst first."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from ffashim.series import output
from ffashim.series.findings import ERROR, NOTE, WARNING, Judgement, Verdict

_WIDTH = 72
_COLUMNS = ("builds", "tests", "behaviour", "coverage", "mutants")


def mail(verdict: Verdict) -> str:
    """Return the summary."""
    return "\n".join(_lines(verdict)) + "\n"


def _lines(verdict: Verdict) -> Iterator[str]:
    yield from textwrap.wrap(f"ffashim series: {verdict.series.title}", _WIDTH)
    yield from textwrap.wrap(output.summary(verdict), _WIDTH)
    base = f"base: {verdict.series.base.origin}, {verdict.series.found}"
    yield from textwrap.wrap(base, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    for note in (*verdict.series.notes, *verdict.notes):
        yield from textwrap.wrap(f"note: {note}", _WIDTH, subsequent_indent="  ")
    yield ""
    for judgement in verdict.judgements:
        yield from _commit(judgement, len(verdict.judgements))
    for judgement, findings in verdict.stumbles:
        yield ""
        yield from textwrap.wrap(output.stumble(judgement, findings), _WIDTH)


def _commit(judgement: Judgement, total: int) -> Iterator[str]:
    commit = judgement.commit
    yield textwrap.shorten(f"{commit.number}/{total} {commit.subject}", _WIDTH, placeholder="...")
    if not commit.compiled:
        yield "  changes nothing that is compiled here"
        return
    cells = zip(_COLUMNS, output.cells(judgement, colours=False), strict=True)
    told = "  " + "; ".join(f"{name}: {cell}" for name, cell in cells)
    yield from textwrap.wrap(told, _WIDTH, initial_indent="  ", subsequent_indent="  ")
    order = (ERROR, WARNING, NOTE)
    for line in sorted(output.lines(judgement, markup=False), key=lambda each: order.index(
        each.partition(":")[0]
    )):  # fmt: skip
        yield from textwrap.wrap(line, _WIDTH, initial_indent="  - ", subsequent_indent="    ",
                                 break_on_hyphens=False, break_long_words=False)  # fmt: skip
