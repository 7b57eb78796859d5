# SPDX-License-Identifier: GPL-2.0-only
"""The wheel: all that `ffashim check` needs is in it, and works away from the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from ffashim import paths
from ffashim.source import resolve_default

TOP = Path(__file__).parents[2]


def run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command, without what this process's environment says of where Python code is."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp_path = tmp_path_factory.mktemp("wheel")
    # In this tree `python -m build` would run the build.py that lies there.
    builder = Path(sysconfig.get_path("scripts"), "pyproject-build")
    run(builder, "--wheel", "--no-isolation", "--outdir", tmp_path, cwd=TOP)
    [built] = tmp_path.glob("*.whl")
    return built


def files_below(directory: Path) -> set[str]:
    return {
        path.relative_to(directory.parent).as_posix()
        for path in directory.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_wheel_carries_stubs_suite_examples_and_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    bundle = {name.partition("/_bundle/")[2] for name in names if "/_bundle/" in name}
    suite = {f"tests/{name}" for part in paths.SUITE for name in files_below(part)}
    ours = files_below(paths.STUBS) | files_below(paths.EXAMPLES)
    assert bundle == {"build.py", *ours, *suite}
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert {f"ffashim/series/reports/page.{kind}" for kind in ("html.j2", "css")} <= names


def test_installed_wheel_checks_a_tree_away_from_the_checkout(
    wheel: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    trees = request.config.getoption("--xen") or [resolve_default().root]
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "--no-index", "--no-deps", wheel, cwd=tmp_path)
    # The packages that the wheel depends on, without a network: those of this environment.
    [site_packages] = environment.glob("lib/python*/site-packages")
    dependencies = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site_packages / "dependencies.pth").write_text("\n".join(sorted(dependencies)) + "\n")

    where = run(python, "-c", "import ffashim; print(ffashim.__file__)", cwd=tmp_path)
    assert where.stdout.startswith(str(site_packages))
    command = (environment / "bin" / "ffashim", "check", "--xen", trees[0], "-k", "id_get")
    done = run(*command, "--json", "report.json", cwd=tmp_path)
    assert "FFA_ID_GET" in done.stdout
    report = json.loads((tmp_path / "report.json").read_text())
    assert sum(of_tree["totals"]["passed"] for of_tree in report["trees"]) > 0
