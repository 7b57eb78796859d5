# SPDX-License-Identifier: GPL-2.0-only
"""findings/: what it says of the suite is true, its reproducers fail where the defect is, and its
fixes apply to the tree that they are for.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from ffashim import paths
from ffashim.errors import SourceError
from ffashim.model.deviations import DEVIATIONS
from ffashim.source import Tree, resolve, resolve_default

FINDINGS = Path(__file__).parents[2] / "findings"
FILES = sorted(set(FINDINGS.glob("*.md")) - {FINDINGS / "README.md"})
README = (FINDINGS / "README.md").read_text()
ROW = re.compile(
    r'^\| `(\w+)` in \[(\w+\.py)\]\(\.\./tests/(?:abi|acs|clients)/\2\): "(.+?)" \|', re.MULTILINE
)
CODE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OTHERS_FIX = re.compile(r"^[\w-]+\.patch$")
"""The name of a fix for upstream's master, as against one for the distribution's 4.20."""


def code(file: Path) -> str | None:
    found = CODE.findall(file.read_text())
    assert len(found) <= 1, "one reproducer, a whole file"
    return found[0] if found else None


REPRODUCERS = [file for file in FILES if code(file)]
fixes = pytest.mark.parametrize(
    "patch", sorted(FINDINGS.glob("*.patch")), ids=lambda patch: str(patch.name)
)


@pytest.fixture(scope="session")
def tree_option(pytestconfig: pytest.Config) -> list[str]:
    return [f"--xen={spec}" for spec in pytestconfig.getoption("--xen")[:1]]


@pytest.fixture(scope="session")
def suite(tree: Tree) -> dict[str, Any]:
    """The suite's known defects, the tests of each, and which of them the tree has."""
    done = subprocess.run(
        [sys.executable, "-m", "ffashim.cli.defects_worker", tree.spec, "cc", ""],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_finding_quotes_the_suite(file: Path, suite: dict[str, Any]) -> None:
    rows = ROW.findall(file.read_text())
    assert rows
    for name, module, finding in rows:
        assert f"{module}::{name}" in suite["tests"][finding]


def test_every_known_defect_has_a_file(suite: dict[str, Any]) -> None:
    text = "\n".join(" ".join(file.read_text().split()) for file in FILES)
    assert not [finding for finding in suite["tests"] if finding not in text]


def test_what_the_model_knows_has_a_test_that_meets_it(suite: dict[str, Any]) -> None:
    assert {each.defect.finding for each in DEVIATIONS} <= suite["tests"].keys()


def test_the_table_lists_every_file() -> None:
    linked = set(re.findall(r"\]\(([\w.-]+)\)", README))
    assert {file.name for file in FILES} <= linked
    assert linked <= {path.name for path in FINDINGS.iterdir()}


def test_every_fix_is_linked() -> None:
    text = "\n".join(file.read_text() for file in FILES)
    assert not [fix.name for fix in FINDINGS.glob("*.patch") if f"]({fix.name})" not in text]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_links_lead_somewhere(file: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", file.read_text()):
        assert (FINDINGS / link).exists(), link


@pytest.fixture(scope="session")
def outcomes(
    tree_option: list[str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, set[str]]:
    """How each reproducer ended, in all variants: passed, skipped or failed."""
    directory = tmp_path_factory.mktemp("reproducers")
    for file in REPRODUCERS:
        text = code(file)
        assert text
        (directory / f"test_{file.stem.replace('-', '_')}.py").write_text(text)
    report = directory / "junit.xml"
    subprocess.run(
        [sys.executable, "-m", "pytest", *tree_option, f"--junitxml={report}", str(directory)],
        cwd=directory,
        capture_output=True,
        timeout=600,
        check=False,
    )
    found: dict[str, set[str]] = {}
    for case in ET.parse(report).iter("testcase"):
        kinds = {each.tag for each in case} & {"failure", "error", "skipped"}
        kind = "skipped" if kinds == {"skipped"} else "failed" if kinds else "passed"
        name = case.attrib["classname"].rpartition(".")[2].removeprefix("test_").replace("_", "-")
        found.setdefault(name, set()).add(kind)
    return found


@pytest.mark.parametrize("file", REPRODUCERS, ids=lambda file: file.stem)
def test_a_reproducer_fails_where_the_defect_is(
    file: Path, suite: dict[str, Any], outcomes: dict[str, set[str]]
) -> None:
    findings = [finding for _, _, finding in ROW.findall(file.read_text())]
    there = any(
        answers.get(finding) is True
        for answers in suite["answers"].values()
        for finding in findings
    )
    ended = outcomes[file.stem]
    if there:
        # 4.19 cannot do without what one reproducer takes away: it says so, and is skipped.
        assert "failed" in ended or ended == {"skipped"}
    else:
        assert "failed" not in ended


@fixes
def test_a_fix_applies(patch: Path, pytestconfig: pytest.Config) -> None:
    specs = pytestconfig.getoption("--xen")
    if specs:
        try:
            resolve(specs[0], patches=[patch])
        except SourceError as error:
            pytest.skip(f"made for another tree: {error}")
    elif OTHERS_FIX.match(patch.name):
        pytest.skip("a fix for upstream's master: name a tree by --xen")
    else:
        resolve_default(patches=[patch])


@fixes
def test_a_fix_mends_what_the_reproducer_shows(
    tree_option: list[str], tmp_path: Path, patch: Path
) -> None:
    if not tree_option and OTHERS_FIX.match(patch.name):
        pytest.skip("a fix for upstream's master: name a tree by --xen")
    file = FINDINGS / f"{patch.name.partition('.')[0]}.md"
    if not file.exists():
        pytest.skip("the fix of a finding without a reproducer of its own")
    text = code(file)
    assert text
    reproducer = tmp_path / "test_reproducer.py"
    reproducer.write_text(text)
    # A fix may stand on another one, which the finding names first.
    linked = list(dict.fromkeys(re.findall(r"\]\(([\w.-]+\.patch)\)", file.read_text())))
    below = [each for each in linked[: linked.index(patch.name)] if OTHERS_FIX.match(each)]
    stack = [*below, patch.name] if OTHERS_FIX.match(patch.name) else [patch.name]
    patches = [f"--patch={FINDINGS / each}" for each in stack]
    command = [sys.executable, "-m", "pytest", "-q", *tree_option, *patches]
    done = subprocess.run(
        [*command, str(reproducer)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if "does not apply" in done.stdout + done.stderr:
        pytest.skip("made for another tree")
    assert done.returncode == 0, done.stdout


def test_the_suite_is_where_the_links_lead() -> None:
    assert (FINDINGS / "../tests/abi").resolve() == paths.SUITE[0].resolve()
