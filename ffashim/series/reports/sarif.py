# SPDX-License-Identifier: GPL-2.0-only
"""A verdict as SARIF 2.1.0, which code hosts show beside the lines of a change."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from typing import Any

from ffashim.series.findings import RULES, Finding, Judgement, Verdict

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_ANYWHERE = "xen/arch/arm/tee/ffa.c"
"""Where findings are shown that are about no line: hosts take none without a place."""


def log(verdict: Verdict) -> dict[str, Any]:
    """Return the report, ready for json.dump()."""
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "ffashim",
                        "version": version("ffashim"),
                        "rules": [
                            {"id": rule, "shortDescription": {"text": text}}
                            for rule, text in RULES.items()
                        ],
                    }
                },
                "results": [
                    _result(judgement, finding)
                    for judgement in verdict.judgements
                    for finding in judgement.findings
                ],
            }
        ],
    }


def _result(judgement: Judgement, finding: Finding) -> dict[str, Any]:
    commit = judgement.commit
    inside = finding.file.startswith("xen/")
    place: dict[str, Any] = {"artifactLocation": {"uri": finding.file if inside else _ANYWHERE}}
    place["region"] = {"startLine": finding.line if inside and finding.line else 1}
    text = f"{commit.name}: {finding.title}"
    if finding.where:
        text += f" [{', '.join(finding.where)}]"
    identity = f"{commit.subject}\0{finding.rule}\0{finding.title}"
    return {
        "ruleId": finding.rule,
        "level": finding.level,
        "message": {"text": text},
        "locations": [{"physicalLocation": place}],
        "partialFingerprints": {"finding/v1": hashlib.sha256(identity.encode()).hexdigest()[:32]},
    }
