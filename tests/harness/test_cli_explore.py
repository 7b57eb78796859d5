# SPDX-License-Identifier: GPL-2.0-only
"""`ffashim explore`: what it finds, prints and keeps."""

from __future__ import annotations

import difflib
import json
import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from ffashim import loader
from ffashim.model.explore import Effort
from ffashim.source import Tree

TEE = "xen/arch/arm/tee"


def python(*arguments: str, told: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        input=told,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def ffashim(*arguments: str) -> subprocess.CompletedProcess[str]:
    return python("-m", "ffashim", *arguments)


def passes(file: Path, *options: str) -> bool:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", *options, str(file)]
    done = subprocess.run(command, cwd=file.parent, capture_output=True, timeout=300, check=False)
    return done.returncode == 0


def mistake(tree: Tree, name: str, pattern: str, wrong: str, directory: Path) -> Path:
    """Write a patch that makes a mistake of ours."""
    file = f"{TEE}/{name}"
    before = (tree.root / file).read_text()
    after, count = re.subn(pattern, wrong, before)
    assert count
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), f"a/{file}", f"b/{file}"
    )
    path = directory / "mistake.patch"
    path.write_text("".join(lines))
    return path


def test_a_mistake_is_found_printed_and_kept_as_a_test_that_fails_of_it(
    tree: Tree, tmp_path: Path
) -> None:
    # FFA_ID_GET tells a guest the next one's ID.
    id_get = r"(case FFA_ID_GET:\n.*success\(regs, \w+\(d\))"
    patch = mistake(tree, "ffa.c", id_get, r"\1 + 1", tmp_path)
    options = [f"--xen={tree.spec}", f"--patch={patch}"]
    found = tmp_path / "found"
    done = ffashim("explore", *options, "--seconds=200", "--seed=1", "-n1", f"--output={found}")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "endpoint ID" in done.stdout
    (file, *_) = sorted(found.glob("test_found_*.py"))
    text = file.read_text()
    assert text.split("\n\n", 1)[1].strip() in done.stdout
    # A guest comes, speaks FF-A, and asks.
    assert len(text[text.index("def test") :].splitlines()) <= 6
    assert not passes(file, *options)
    assert passes(file, f"--xen={tree.spec}")


def test_a_known_defect_that_a_patch_brings_back_is_found(tree: Tree, tmp_path: Path) -> None:
    patch = mistake(tree, "ffa_rxtx.c", "FFA_RET_BUSY", "FFA_RET_DENIED", tmp_path)
    options = [f"--xen={tree.spec}", "--seconds=200", "--seed=1", "-n1", f"--output={tmp_path}"]
    done = ffashim("explore", *options, f"--patch={patch}")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "DENIED" in done.stdout


def test_a_seed_repeats_a_run(tree: Tree, tmp_path: Path) -> None:
    extension = loader.build(tree)
    task = {
        "path": str(extension.path),
        "record": dict(extension.record),
        "baseline": None,
        "effort": asdict(Effort(examples=20, steps=30)),
        "seed": 5,
        "part": (0, 20),  # some lessons of the course
        "database": None,
        "output": str(tmp_path),
    }
    # Two seeds of Python's own that once made a difference.
    runs = [
        python("-m", "ffashim.cli.explore_worker", told=json.dumps(task), PYTHONHASHSEED=own)
        for own in ("1", "5")
    ]
    said = [json.loads(done.stdout) for done in runs]
    for each in said:
        del each["seconds"]
    assert said[0] == said[1]
    assert said[0]["seed"] == 5
    assert said[0]["conversations"] > 20
    assert said[0]["found"] == []


def test_it_ends_when_its_time_is_over_in_the_middle_of_the_course_too(tree: Tree) -> None:
    done = ffashim("explore", f"--xen={tree.spec}", "--seconds=1", "-n1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 rounds" in done.stdout


def test_a_directory_that_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = ffashim("explore", f"--output={tmp_path / 'file' / 'found'}")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --output")


def test_a_database_that_cannot_be_reached_is_said_at_once() -> None:
    done = ffashim("explore", "--database=redis://127.0.0.1:9/0")
    assert done.returncode == 2
    assert "error: --database redis://127.0.0.1:9/0: " in done.stderr
