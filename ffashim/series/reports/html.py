# SPDX-License-Identifier: GPL-2.0-only
"""A verdict as one HTML file that needs nothing else: no script, no font, no picture from outside.

The page is ``page.html.j2``, its looks ``page.css``, in light and dark as the reader's system is.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

import jinja2
from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import CLexer, PythonLexer

from ffashim.series import output
from ffashim.series.findings import ERROR, NOTE, WARNING, Finding, Judgement, Verdict
from ffashim.series.reports import diffs, record

_HERE = Path(__file__).parent
_LIGHT, _DARK = "friendly", "github-dark"
"""Pygments' styles."""
_GROUPS = {
    "Builds": ("build", "warning", "unknown"),
    "Tests": ("test", "lost", "defect", "fixed"),
    "What guests and the SPMC see": ("claim", "behaviour", "order", "timing"),
    "Lines that no test reaches": ("coverage",),
    "Mistakes that no test notices": ("mutant",),
}


def page(verdict: Verdict) -> str:
    """Return the report."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(python=_python, c=_c, plural=_plural)
    return environment.get_template("page.html.j2").render(
        verdict=verdict,
        series=verdict.series,
        summary=output.summary(verdict),
        stumbles=[output.stumble(*each) for each in verdict.stumbles],
        commits=[_commit(each) for each in verdict.judgements],
        css=Markup(_css()),  # noqa: S704 - our own file and Pygments' words
        version=version("ffashim"),
    )


def _css() -> str:
    dark = HtmlFormatter(style=_DARK).get_style_defs(".code")
    light = HtmlFormatter(style=_LIGHT).get_style_defs(".code")
    own = (_HERE / "page.css").read_text(encoding="utf-8")
    return f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n{own}"


def _commit(judgement: Judgement) -> dict[str, object]:
    names = ("builds", "tests", "behaviour", "coverage", "mutants")
    rules = (
        *(output.RULES[name] for name in names[:3]), ("coverage",), ("mutant",),
    )  # fmt: skip
    cells = zip(names, output.cells(judgement, colours=False), rules, strict=True)

    def worst(name: str, of: Sequence[str]) -> str:
        broken = name == "builds" and judgement.broken
        return ERROR if broken else _worst(judgement.of(*of))

    groups = [(title, judgement.of(*of)) for title, of in _GROUPS.items()]
    return {
        "judgement": judgement,
        "commit": judgement.commit,
        "level": judgement.level,
        "cells": [(name, text, worst(name, of)) for name, text, of in cells],
        "groups": [(title, _by_subject(title, found)) for title, found in groups if found],
        "marks": record.marks(judgement),
        "files": diffs.files(judgement.commit.diff, judgement.margin),
    }


def _by_subject(title: str, found: Sequence[Finding]) -> list[tuple[str, list[Finding]]]:
    """Sort findings about behaviour by what was called."""
    if title != "What guests and the SPMC see":
        return [("", list(found))]
    ordered = sorted(found, key=_subject)
    return [(subject, list(of)) for subject, of in groupby(ordered, key=_subject)]


def _subject(finding: Finding) -> str:
    return finding.title.partition(": ")[0]


def _worst(findings: Sequence[Finding]) -> str:
    levels = {finding.level for finding in findings if finding.rule != "fixed"}
    return next((level for level in (ERROR, WARNING, NOTE) if level in levels), "")


_FORMATTER = HtmlFormatter(nowrap=True)


def _python(text: str) -> Markup:
    return Markup(highlight(text, PythonLexer(), _FORMATTER))  # noqa: S704 - it escapes


def _c(text: str) -> Markup:
    found = highlight(text, CLexer(stripnl=False, ensurenl=False), _FORMATTER)
    return Markup(found.rstrip("\n"))  # noqa: S704 - it escapes


def _plural(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"
