# SPDX-License-Identifier: GPL-2.0-only
"""The cache: what is used notes it, and what is not used goes."""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path

import pytest

from ffashim import cache, cli
from ffashim.source import store

OLD = time.time() - 30 * 24 * 3600


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with three trees, two of them not used for long, one of these Debian's."""
    monkeypatch.setenv("FFASHIM_CACHE", str(tmp_path))
    for key in ("git-old", "git-new", "tar-1234-x"):
        fill(key)
    for key in ("git-old", "tar-1234-x"):
        os.utime(tmp_path / "trees" / key / ".manifest", (OLD, OLD))
    (tmp_path / "debian").mkdir()
    (tmp_path / "debian/newest.json").write_text(json.dumps({"sha256": "1234"}))
    (tmp_path / "upstream/xen.git").mkdir(parents=True)
    return tmp_path


def fill(key: str) -> Path:
    def make(into: Path) -> None:
        (into / "xen").mkdir()
        (into / "xen/file.c").write_text("x" * 10000)

    return store.stored(key, make)


def names(home: Path) -> set[str]:
    return {path.name for path in (home / "trees").iterdir()}


def test_what_is_not_used_goes(home: Path) -> None:
    [gone] = cache.prune(24 * 3600)
    assert gone.path == home / "trees/git-old"
    assert gone.size >= 10000
    assert names(home) == {"git-new", "tar-1234-x"}
    assert (home / "upstream/xen.git").is_dir()
    assert (fill("git-old") / "xen/file.c").is_file()


def test_what_is_used_stays(home: Path) -> None:
    fill("git-old")
    assert cache.prune(24 * 3600) == []
    assert names(home) == {"git-old", "git-new", "tar-1234-x"}


def test_what_may_be_in_use_stays_whatever_is_asked(home: Path) -> None:
    assert [entry.path.name for entry in cache.prune(0)] == ["git-old"]
    assert names(home) == {"git-new", "tar-1234-x"}


def test_what_comes_into_use_while_it_is_removed_stays(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = list(cache.entries())
    monkeypatch.setattr(cache, "entries", lambda: iter(found))
    fill("git-old")
    assert cache.prune(24 * 3600) == []
    assert "git-old" in names(home)


def test_a_build_that_is_under_way_stays(home: Path) -> None:
    build = home / "builds/1234"
    build.mkdir(parents=True)
    (build / "manifest").touch()
    os.utime(build / "manifest", (OLD, OLD))
    with (build / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert build not in {entry.path for entry in cache.prune(0)}
    assert [entry.path for entry in cache.prune(0)] == [build]
    assert not build.exists()


def test_two_that_prune_at_once_do_not_mind(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = list(cache.entries())
    assert len(cache.prune(0)) == 1
    monkeypatch.setattr(cache, "entries", lambda: iter(found))
    assert cache.prune(0) == []


def test_the_command_tells_sizes_and_prunes(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, trees in (([], 3), (["--prune"], 2)):
        with pytest.raises(SystemExit) as end:
            cli.main(["cache", *arguments])
        assert end.value.code == 0
        out = capsys.readouterr().out
        assert str(home) in out
        assert f"trees      {trees}, 0." in out
    assert "removed 1, 0." in out
