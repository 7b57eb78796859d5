# SPDX-License-Identifier: GPL-2.0-only
"""The recipes of examples/ci: their commands work, and leave the files that they hand on."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import yaml
from repositories import Repo

from ffashim import paths

CI = paths.EXAMPLES / "ci"
TOP = CI.parents[1]


def recipe(name: str) -> Any:
    return yaml.safe_load((CI / name).read_text())


def bash(script: str, cwd: Path, **environment: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script],
        cwd=cwd,
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def parses(script: str) -> bool:
    return subprocess.run(["bash", "-nc", script], check=False).returncode == 0


def installs(script: str) -> bool:
    """Whether what is installed is our package with an extra that it has."""
    (extra,) = re.findall(r"pip install [^\n]*\[(\w+)\]", script)
    return extra in (metadata("ffashim").get_all("Provides-Extra") or [])


def test_the_gitlab_job_judges_a_branch_and_leaves_its_artifacts(repo: Repo) -> None:
    (job,) = recipe("gitlab.yml").values()
    repo.git("update-ref", "refs/remotes/origin/staging", "HEAD")
    repo.document("Tell of it")
    named = {"CI_PROJECT_DIR": str(repo.path), "FFASHIM_CACHE": str(paths.cache_dir())}
    variables = {key: str(value) for key, value in job["variables"].items()} | named
    said = bash("\n".join(job["script"]), repo.path, **variables)
    assert "1 commit: sound" in said
    for name in [*job["artifacts"]["paths"], job["artifacts"]["reports"]["junit"]]:
        assert (repo.path / name).stat().st_size
    assert parses("\n".join([*job["before_script"], *job["after_script"]]))
    assert installs("\n".join(job["before_script"]))


def test_the_github_workflow_judges_a_request_and_leaves_what_it_uploads(repo: Repo) -> None:
    workflow = recipe("github.yml")
    steps = {
        step.get("name", step.get("uses")): step for step in workflow["jobs"]["series"]["steps"]
    }
    base = repo.git("rev-parse", "HEAD")
    repo.document("Tell of it")
    bash(steps["Judge the series"]["run"], repo.path, BASE=base)
    summary = repo.path / "summary.md"
    bash(steps["Sum up"]["run"], repo.path, GITHUB_STEP_SUMMARY=str(summary))
    assert "1 commit: sound" in summary.read_text()
    uploads = [step["with"] for name, step in steps.items() if "upload" in str(name)]
    named = [
        name for with_ in uploads for name in with_.get("path", with_.get("sarif_file")).split()
    ]
    assert len(named) == 4
    assert all((repo.path / name).stat().st_size for name in named)
    assert parses(steps["Install"]["run"])
    assert installs(steps["Install"]["run"])


def steps_of(text: str) -> list[tuple[str, str]]:
    """The steps of a container file: the instruction, and the rest."""
    lines = re.sub(r"\\\n", " ", text).splitlines()
    found = [line.split(None, 1) for line in lines if line and not line.startswith("#")]
    return [(name, rest) for name, rest in found]


def test_the_steps_of_the_container_file_are_sound() -> None:
    steps = steps_of((CI / "Containerfile").read_text())
    for name, rest in steps:
        if name == "RUN":
            assert parses(rest), rest
        if name == "COPY":
            *sources, _ = shlex.split(rest)
            assert all((TOP / source).exists() for source in sources), rest
    copied = " ".join(rest for name, rest in steps if name == "COPY")
    # What the wheel is made of: see pyproject.toml.
    for part in ("build.py", "examples", "stubs", "tests", "ffashim", "README.md", "LICENSE"):
        assert part in copied
    assert installs("\n".join(rest for name, rest in steps if name == "RUN"))
