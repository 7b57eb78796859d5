# SPDX-License-Identifier: GPL-2.0-only
"""The reports of a series: what each of them says, and to whom."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import pytest
from junitparser import JUnitXml
from rich.console import Console

from ffashim.series import output, reports
from ffashim.series.commits import Commit, Series
from ffashim.series.findings import RULES, Finding, Judgement, Verdict
from ffashim.series.reports import diffs
from ffashim.series.tasks import Task
from ffashim.source import Tree

FILE = "xen/arch/arm/tee/ffa.c"
DIFF = f"""\
diff --git a/{FILE} b/{FILE}
index 1111111..2222222 100644
--- a/{FILE}
+++ b/{FILE}
@@ -1,2 +1,3 @@ start
 int a;
-int b;
+int c; /* <b> & "so on" */
+int d;
""".encode()
BROKEN = Finding("test", "error", "FFA_ID_GET: a <guest> gets its ID fails", ("FFA_VM_TO_VM=y",),
                 "assert 1 == 2", mended=2)  # fmt: skip
CHANGED = Finding("behaviour", "note", "FFA_FEATURES: FFA_SUCCESS_32, was FFA_ERROR", (),
                  "before: reply FFA_ERROR", "def test_it() -> None:\n    pass")  # fmt: skip
UNREACHED = Finding(
    "coverage", "warning", f"line 3 of {FILE}: reached by no test", file=FILE, line=3
)


def tree(path: Path, text: str) -> Tree:
    (path / FILE).parent.mkdir(parents=True)
    (path / FILE).write_text(text)
    return Tree(path.name, path, f"directory {path.name}", "4.20")


@pytest.fixture
def verdict(tmp_path: Path) -> Verdict:
    """Two commits that change code, the first not sound, and one of documentation."""
    texts = ["int a;\nint b;\n", "int a;\nint c;\nint d;\n", "int a;\n", "int a;\n"]
    trees = [tree(tmp_path / f"tree{n}", text) for n, text in enumerate(texts)]
    commits = [
        Commit(n, f"000{n}-Change.patch", f"xen/arm: ffa: Change <{n}>", "A Dev <a@example.org>",
               "Why.", DIFF, trees[n - 1], trees[n], None)
        for n in (1, 2, 3)
    ]  # fmt: skip
    first = Judgement(commits[0], [BROKEN, CHANGED, UNREACHED], Counter(passed=8, failed=1), 40,
                      {FILE: {2: "reached", 3: "missed"}},
                      Counter(noticed=3, survived=1))  # fmt: skip
    others = [Judgement(commit, [], Counter(passed=9)) for commit in commits[1:]]
    series = Series("Change <things>", trees[0], "which a test has made", commits, ["a note"])
    return Verdict(series, [first, *others], Counter(passed=9))


def made(verdict: Verdict, kind: str, into: Path) -> str:
    file = into / f"report.{kind}"
    reports.write(verdict, {kind: file})
    return file.read_text()


class Page(HTMLParser):
    """What a page links to, and whether its elements nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br", "link", "img"):
            self.open.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "srcset")]
        self.ids |= {value or "" for name, value in attrs if name == "id"}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_needs_nothing_from_outside_and_its_links_lead_somewhere(
    verdict: Verdict, tmp_path: Path
) -> None:
    text = made(verdict, "html", tmp_path)
    page = Page(text)
    assert not page.open
    assert page.links
    assert {link.removeprefix("#") for link in page.links} <= page.ids
    assert not re.search(r"<script|@import|url\(", text)


def test_the_page_shows_what_is_said_and_not_what_it_would_mean_to_a_browser(
    verdict: Verdict, tmp_path: Path
) -> None:
    text = made(verdict, "html", tmp_path)
    assert "a &lt;guest&gt; gets its ID fails" in text
    assert "&lt;b&gt; &amp;" in text
    assert "Change &lt;things&gt;" in text
    assert '<td class="reach missed">✗</td>' in text
    assert "Changes nothing that is compiled here." in text


def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
    if found is None:
        pytest.skip("chromium is not installed")
    return found


MEASURE = """<script>document.title = document.documentElement.scrollWidth + "/" + innerWidth + "/"
+ getComputedStyle(document.body).backgroundColor</script></body>"""


@pytest.mark.parametrize(
    ("scheme", "paper"), [("1", "rgb(255, 255, 255)"), ("0", "rgb(13, 17, 23)")]
)
@pytest.mark.parametrize("width", [500, 1300])
def test_a_browser_shows_the_page_in_light_and_dark_and_no_wider_than_it_is(
    verdict: Verdict, tmp_path: Path, scheme: str, paper: str, width: int
) -> None:
    page = tmp_path / "page.html"
    page.write_text(made(verdict, "html", tmp_path).replace("</body>", MEASURE))
    done = subprocess.run(
        [
            chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900",
            f"--blink-settings=preferredColorScheme={scheme}", "--dump-dom", page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )  # fmt: skip
    found = re.search(r"<title>(\d+)/(\d+)/(.*?)</title>", done.stdout)
    assert found, done.stderr
    assert int(found[1]) <= int(found[2])
    assert found[3] == paper


def test_the_mail_fits_into_72_columns_and_tells_the_worst_first(
    verdict: Verdict, tmp_path: Path
) -> None:
    lines = made(verdict, "text", tmp_path).splitlines()
    assert all(len(line) <= 72 for line in lines)
    text = "\n".join(lines)
    assert "3 commits: not sound: see 1" in text
    assert text.index("error: FFA_ID_GET") < text.index("warning: line 3") < text.index("note: FFA")
    assert "not bisectable: commit 1 (xen/arm: ffa: Change <1>)" in " ".join(text.split())


def test_json_holds_each_finding_with_its_commit(verdict: Verdict, tmp_path: Path) -> None:
    found = json.loads(made(verdict, "json", tmp_path))
    assert found["sound"] is False
    one, two, three = found["commits"]
    assert [each["rule"] for each in one["findings"]] == ["test", "behaviour", "coverage"]
    assert one["findings"][0]["mended"] == 2
    assert (two["compiled"], three["compiled"]) == (True, False)


def test_junit_has_a_suite_for_each_commit_and_fails_what_is_not_sound(
    verdict: Verdict, tmp_path: Path
) -> None:
    xml = JUnitXml.fromstring(made(verdict, "junit", tmp_path).encode())
    suites = list(xml)
    assert len(suites) == 3
    failed = [case.name for case in suites[0] if case.result]
    assert failed == ["breaks no test"]
    assert not any(case.result for case in suites[1])
    assert all(case.is_skipped for case in suites[2])


def test_sarif_points_at_lines_of_the_tree_by_rules_that_it_explains(
    verdict: Verdict, tmp_path: Path
) -> None:
    log = json.loads(made(verdict, "sarif", tmp_path))
    (run,) = log["runs"]
    rules = {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    assert {result["ruleId"] for result in run["results"]} <= rules == set(RULES)
    (place,) = run["results"][2]["locations"]
    assert place["physicalLocation"]["artifactLocation"]["uri"] == FILE
    assert place["physicalLocation"]["region"]["startLine"] == 3
    assert run["results"][0]["level"] == "error"


def test_the_terminal_names_the_commit_that_nobody_can_bisect(verdict: Verdict) -> None:
    out = StringIO()
    output.print_verdict(verdict, Console(file=out, width=100))
    text = out.getvalue()
    assert "commit 2 mends it" in text
    assert "not bisectable: commit 1" in text.replace("\n", " ")
    assert "1 worse" in text
    assert "3/4" in text  # mutants


def test_while_it_runs_the_table_tells_how_much_of_each_commit_is_done(verdict: Verdict) -> None:
    out = StringIO()
    console = Console(file=out, width=100, force_terminal=True, color_system=None)
    wanted = [Task("compiles", {}, [], number) for number in (0, 1, 1)]
    with output.Watch(verdict.series, console) as watch:
        watch.expect(wanted)
        watch.done(wanted[0], {}, True)
        watch.done(wanted[1], {}, False)
    rows = [line.split() for line in out.getvalue().splitlines()]
    assert any(row[:2] == ["base", "1/1"] for row in rows)
    assert any("1/2" in row for row in rows)
    assert "1 results were known" in out.getvalue()


def test_where_there_is_no_table_it_is_told_now_and_then_how_far_it_is(
    verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter(range(0, 1000, 10))
    monkeypatch.setattr("ffashim.series.output.time.monotonic", lambda: next(times))
    out = StringIO()
    wanted = [Task("compiles", {}, [], number) for number in (0, 1, 1)]
    with output.Watch(verdict.series, Console(file=out, width=100)) as watch:
        watch.expect(wanted)
        for task in wanted:
            watch.done(task, {}, False)
    said = [line for line in out.getvalue().splitlines() if line.endswith("may follow")]
    assert said == [f"{n} of 3 steps done, more may follow" for n in (2, 3)]


def test_a_commit_that_was_not_built_is_not_said_to_be_the_same(verdict: Verdict) -> None:
    commit = verdict.judgements[0].commit
    broken = Judgement(commit, broken=True)
    assert output.cells(broken, colours=False)[:3] == ["does not build", "-", "-"]
    tested = Judgement(commit, [], Counter(passed=1), 40)
    assert output.cells(tested, colours=False)[:3] == ["ok", "same", "none seen"]


def test_the_page_of_a_commit_that_does_not_build_counts_no_tests_and_offers_none(
    verdict: Verdict, tmp_path: Path
) -> None:
    commit = replace(verdict.judgements[0].commit, spec="xen@1234")
    refused = Finding("build", "error", "does not build: f.c:1: no")
    text = made(
        replace(verdict, judgements=[Judgement(commit, [refused], broken=True)]), "html", tmp_path
    )
    assert "<p>Does not build.</p>" in text
    assert '<td class="cell error" data-name="builds">does not build</td>' in text
    assert "0 tests" not in text
    assert "Again:" not in text


def test_a_diff_knows_the_numbers_of_its_lines() -> None:
    (file,) = diffs.files(DIFF, {FILE: {3: "missed"}})
    found = [(line.kind, line.old, line.new, line.mark) for line in file.lines]
    assert found == [
        ("hunk", None, None, ""),
        ("same", 1, 1, ""),
        ("dropped", 2, None, ""),
        ("added", None, 2, ""),
        ("added", None, 3, "missed"),
    ]
