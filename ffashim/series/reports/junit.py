# SPDX-License-Identifier: GPL-2.0-only
"""A verdict as JUnit XML: a suite for each commit, a case for each thing that is asked of it."""

from __future__ import annotations

from collections.abc import Sequence

from junitparser import Failure, JUnitXml, Skipped, TestCase, TestSuite

from ffashim.series.findings import ERROR, Finding, Judgement, Verdict

_CASES = {
    "builds without new warnings": ("build", "warning"),
    "breaks no test": ("test", "lost", "unknown"),
    "brings in no known defect": ("defect",),
    "changes only what it says": ("claim",),
}
"""What is asked of each commit, and the rules whose errors answer it."""


def document(verdict: Verdict) -> str:
    """Return the report."""
    xml = JUnitXml("ffashim series")
    total = len(verdict.judgements)
    for judgement in verdict.judgements:
        commit = judgement.commit
        suite = TestSuite(f"{commit.number}/{total} {commit.subject}")
        for name, rules in _CASES.items():
            suite.add_testcase(_case(judgement, name, judgement.of(*rules)))
        xml.add_testsuite(suite)
    text = xml.tostring()  # type: ignore[no-untyped-call]
    return text.decode() if isinstance(text, bytes) else str(text)


def _case(judgement: Judgement, name: str, findings: Sequence[Finding]) -> TestCase:
    case = TestCase(name, classname=judgement.commit.name)
    errors = [each for each in findings if each.level == ERROR]
    if not judgement.commit.compiled:
        case.result = [Skipped("changes nothing that is compiled here")]
    elif errors:
        failure = Failure(errors[0].title)
        failure.text = "\n\n".join(_told(each) for each in errors)
        case.result = [failure]
    return case


def _told(finding: Finding) -> str:
    where = f" [{', '.join(finding.where)}]" if finding.where else ""
    parts = [f"{finding.title}{where}", finding.detail, finding.test]
    # What XML has no way to say; tools print such.
    return "".join(c for c in "\n".join(filter(None, parts)) if c in "\n\t" or c >= " ")
