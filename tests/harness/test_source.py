# SPDX-License-Identifier: GPL-2.0-only
"""Finding a tree: directories, revisions of a repository, and what is said of those unfit."""

from __future__ import annotations

import hashlib
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ffashim import paths
from ffashim.errors import CacheError, FfashimError, SourceError, UsageError
from ffashim.source import hash_files, resolve, resolve_default

MAKEFILE = """\
export XEN_VERSION       = 4
export XEN_SUBVERSION    = 77
export XEN_EXTRAVERSION ?= .1$(XEN_VENDORVERSION)
export XEN_FULLVERSION   = $(XEN_VERSION).$(XEN_SUBVERSION)$(XEN_EXTRAVERSION)
"""


def make_tree(root: Path, *, ffa: bool = True) -> Path:
    """Write a little of what a Xen tree has; return its top."""
    files = {
        "xen/Makefile": MAKEFILE,
        "xen/Kconfig": 'source "arch/$(SRCARCH)/Kconfig"\n',
        "xen/arch/arm/Kconfig": "config ARM\n\tdef_bool y\n",
        "xen/arch/arm/tee/tee.c": "int tee;\n",
        "xen/arch/x86/setup.c": "int setup;\n",
        "xen/include/xen/lib.h": "#define LIB\n",
        "xen/scripts/run.sh": "#!/bin/sh\n",
        "tools/libs/big.c": "int big;\n",
        "README": "readme\n",
    }
    if ffa:
        files["xen/arch/arm/tee/ffa.c"] = "int ffa;\n"
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "xen/scripts/run.sh").chmod(0o755)
    return root


def git(directory: Path, *arguments: str) -> str:
    """Run git as a person with a name and return what it prints."""
    settings = ("user.name=T", "user.email=t@example.org", "commit.gpgsign=false")
    options = [word for setting in settings for word in ("-c", setting)]
    command = ["git", *options, "-C", str(directory), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def make_repository(root: Path) -> Path:
    """Make a repository whose tag `old` has no FF-A, and `first` and master another ffa.c each."""
    root.mkdir(parents=True, exist_ok=True)
    git(root, "init", "-q", "-b", "master")
    make_tree(root, ffa=False)
    git(root, "add", ".")
    git(root, "commit", "-qm", "old")
    git(root, "tag", "old")
    make_tree(root)
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    git(root, "tag", "-am", "annotated", "first")
    git(root, "branch", "stable-4.77")
    (root / "xen/arch/arm/tee/ffa.c").write_text("int ffa = 2;\n")
    git(root, "commit", "-qam", "second")
    return root


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a cache of its own."""
    monkeypatch.setenv("FFASHIM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return the repository that make_repository() describes."""
    return make_repository(tmp_path / "xen.repo")


def snapshot(root: Path) -> dict[str, object]:
    """Return name, time and content of all files, to see whether any was touched."""
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes())
        for path in root.rglob("*")
        if path.is_file()
    }


# --- directories ---------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["", "xen"])
def test_a_directory_is_used_in_place(tmp_path: Path, part: str) -> None:
    top = make_tree(tmp_path / "tree")
    before = snapshot(top)
    tree = resolve(top / part)
    assert (tree.root, tree.xen, tree.private) == (top, top / "xen", False)
    assert (tree.version, tree.commit) == ("4.77.1", None)
    assert str(top) in tree.describe()
    assert snapshot(top) == before


def test_a_checkout_used_in_place_tells_its_commit_and_changes(repository: Path) -> None:
    tree = resolve(repository)
    assert tree.commit == git(repository, "rev-parse", "HEAD")
    assert "not committed" not in tree.origin
    (repository / "xen/arch/arm/tee/tee.c").write_text("int tee = 2;\n")
    assert "not committed" in resolve(repository).origin


def test_a_tree_that_lies_ignored_in_another_repository_has_no_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "other")
    assert resolve(make_tree(tmp_path / "tree")).commit is None


def test_the_home_directory_may_be_abbreviated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tree(tmp_path / "src")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve("~/src").root == tmp_path / "src"


def test_a_directory_that_is_no_xen_tree_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is no Xen tree"):
        resolve(tmp_path)


def test_a_tree_from_before_ffa_is_refused_with_its_version(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"(?s)4\.77\.1, from before FF-A.*tee/ffa\.c"):
        resolve(make_tree(tmp_path / "tree", ffa=False))


def test_a_missing_directory_is_refused_with_the_forms_of_a_name(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"(?s)no directory .*nowhere.*DIR@REV.*debian"):
        resolve(tmp_path / "nowhere")


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(UsageError):
        resolve("")


# --- revisions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize(
    ("revision", "text"),
    [
        ("master", "int ffa = 2;\n"),
        ("first", "int ffa;\n"),
        ("stable-4.77", "int ffa;\n"),
        ("HEAD~1", "int ffa;\n"),
    ],
)
def test_a_revision_is_read_without_touching_the_repository(
    repository: Path, tmp_path: Path, bare: bool, revision: str, text: str
) -> None:
    directory = repository
    if bare:
        directory = tmp_path / "bare.git"
        git(tmp_path, "clone", "-q", "--bare", str(repository), str(directory))
    (repository / "xen/arch/arm/tee/ffa.c").write_text("work in progress\n")
    before = snapshot(directory)
    tree = resolve(f"{directory}@{revision}")
    assert (tree.xen / "arch/arm/tee/ffa.c").read_text() == text
    assert tree.commit == git(directory, "rev-parse", f"{revision}^{{commit}}")
    assert tree.private
    assert revision in tree.origin
    assert snapshot(directory) == before


def test_a_revision_may_hold_an_at_sign(repository: Path) -> None:
    git(repository, "checkout", "-q", "first")
    assert resolve(f"{repository}@HEAD@{{1}}").commit == git(repository, "rev-parse", "master")
    assert resolve(f"{repository}@@").commit == git(repository, "rev-parse", "HEAD")


def test_a_branch_of_the_remote_that_was_cloned_may_be_named_plainly(
    repository: Path, tmp_path: Path
) -> None:
    git(repository, "branch", "side")
    git(tmp_path, "clone", "-q", str(repository), "clone")
    assert resolve(f"{tmp_path / 'clone'}@side").commit == git(repository, "rev-parse", "side")


def test_a_short_commit_id_and_one_in_full_name_the_same_tree(repository: Path) -> None:
    commit = git(repository, "rev-parse", "first^{commit}")
    assert resolve(f"{repository}@{commit}").root == resolve(f"{repository}@{commit[:9]}").root


def test_only_what_an_arm_build_reads_is_extracted(repository: Path) -> None:
    tree = resolve(f"{repository}@master")
    assert (tree.xen / "scripts/run.sh").stat().st_mode & 0o100
    assert not (tree.xen / "arch/x86").exists()
    assert not (tree.root / "tools").exists()


def test_revisions_with_the_same_xen_share_a_tree(repository: Path) -> None:
    before = resolve(f"{repository}@master")
    (repository / "README").write_text("changed\n")
    git(repository, "commit", "-qam", "outside xen/")
    after = resolve(f"{repository}@master")
    assert after.root == before.root
    assert after.commit != before.commit


@pytest.mark.parametrize("name", ["a@b", "a@b@c", "@"])
def test_a_directory_name_may_hold_an_at_sign(tmp_path: Path, name: str) -> None:
    directory = make_repository(tmp_path / name)
    assert resolve(directory).root == directory
    assert resolve(f"{directory}@first").commit == git(directory, "rev-parse", "first^{commit}")


def test_xen_may_lie_below_the_top_of_the_repository(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    make_tree(tmp_path / "vendor/xen")
    git(tmp_path, "add", "vendor")
    git(tmp_path, "commit", "-qm", "vendored")
    for directory in ("vendor/xen", "vendor/xen/xen"):
        tree = resolve(f"{tmp_path / directory}@HEAD")
        assert (tree.xen / "arch/arm/tee/ffa.c").is_file()


def test_line_ends_are_those_of_the_repository(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gitconfig").write_text("[core]\n\tautocrlf = true\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    tree = resolve(f"{repository}@master")
    assert b"\r" not in (tree.xen / "Makefile").read_bytes()


def test_the_repository_of_a_git_hook_is_not_mistaken_for_the_one_named(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "-q", "other")
    wanted = git(repository, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other/.git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    assert resolve(f"{repository}@master").commit == wanted


def test_an_unknown_revision_is_refused_with_close_names(repository: Path) -> None:
    with pytest.raises(SourceError, match=r"'stable-4\.7'\. Close to it: stable-4\.77"):
        resolve(f"{repository}@stable-4.7")


@pytest.mark.parametrize("revision", ["", "-x", "--all", "master:README", "nonsense"])
def test_what_names_no_commit_is_refused(repository: Path, revision: str) -> None:
    with pytest.raises(SourceError, match="no branch, tag or commit"):
        resolve(f"{repository}@{revision}")


def test_a_revision_from_before_ffa_is_refused(repository: Path) -> None:
    with pytest.raises(SourceError, match="from before FF-A"):
        resolve(f"{repository}@old")


def test_a_revision_without_xen_is_refused(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "nothing")
    with pytest.raises(SourceError, match="holds no Xen tree"):
        resolve(f"{tmp_path}@HEAD")


def test_a_revision_of_what_is_no_repository_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(SourceError, match="cannot be read as a git repository"):
        resolve(f"{tmp_path}@master")


def test_a_bare_repository_without_a_revision_is_explained(
    repository: Path, tmp_path: Path
) -> None:
    git(tmp_path, "clone", "-q", "--bare", str(repository), "bare.git")
    with pytest.raises(SourceError, match=r"bare git repository.*bare\.git@"):
        resolve(tmp_path / "bare.git")


def test_a_machine_without_git_says_so(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(SourceError, match="git is not installed"):
        resolve(f"{repository}@master")


# --- upstream ------------------------------------------------------------------------------------


@pytest.fixture
def upstream(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the repository stand for Xen's official one."""
    git(repository, "config", "uploadpack.allowFilter", "true")
    git(repository, "config", "uploadpack.allowAnySHA1InWant", "true")
    monkeypatch.setenv("FFASHIM_UPSTREAM", repository.as_uri())
    return repository


@pytest.mark.parametrize("revision", ["", "@first", "@stable-4.77"])
def test_upstream_is_fetched_as_far_as_needed(upstream: Path, cache: Path, revision: str) -> None:
    told: list[str] = []
    tree = resolve(f"upstream{revision}", progress=told.append)
    assert tree.commit == git(upstream, "rev-parse", f"{revision[1:] or 'master'}^{{commit}}")
    assert (tree.xen / "arch/arm/tee/ffa.c").is_file()
    assert any(line.startswith("fetching 7 files") for line in told), "not one by one"
    lacking = git(cache / "upstream/xen.git", "rev-list", "--all", "--objects", "--missing=print")
    assert f"?{git(upstream, 'rev-parse', 'master:tools/libs/big.c')}" in lacking


def test_an_upstream_branch_follows_its_remote(upstream: Path) -> None:
    first = resolve("upstream")
    (upstream / "xen/arch/arm/tee/ffa.c").write_text("int ffa = 3;\n")
    git(upstream, "commit", "-qam", "third")
    second = resolve("upstream")
    assert second.commit == git(upstream, "rev-parse", "master") != first.commit


def test_without_network_upstream_is_what_was_fetched_before(
    upstream: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = resolve("upstream")
    monkeypatch.setenv("FFASHIM_UPSTREAM", (tmp_path / "gone").as_uri())
    after = resolve("upstream")
    assert after.root == before.root
    assert "may have moved" in after.describe()


def test_without_network_upstream_is_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FFASHIM_UPSTREAM", (tmp_path / "gone").as_uri())
    with pytest.raises(SourceError, match=r"(?s)cannot fetch .*gone.*name a directory"):
        resolve("upstream")


# --- the default ---------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["", "xen", "xen-4.77"])
def test_the_default_is_the_tree_in_xen_src(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    make_tree(tmp_path / "xen_src" / place)
    monkeypatch.setattr(paths, "XEN_SRC", tmp_path / "xen_src")
    assert resolve_default().root == tmp_path / "xen_src" / place


def test_the_default_may_be_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tree(tmp_path / "elsewhere")
    (tmp_path / "xen_src").mkdir()
    (tmp_path / "xen_src/xen").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setattr(paths, "XEN_SRC", tmp_path / "xen_src")
    assert resolve_default().root == tmp_path / "elsewhere"


def test_several_trees_in_xen_src_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tree(tmp_path / "one")
    make_tree(tmp_path / "two")
    monkeypatch.setattr(paths, "XEN_SRC", tmp_path)
    with pytest.raises(SourceError, match=r"several Xen trees.*one.*two"):
        resolve_default()


# --- the cache -----------------------------------------------------------------------------------


def test_eight_at_once_share_one_whole_tree(repository: Path, cache: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        told: list[str] = []
        trees = list(pool.map(lambda _: resolve(f"{repository}@master", (), told.append), range(8)))
    assert len(told) == 1, "each of them but one finds the tree made"
    assert len({tree.root for tree in trees}) == 1
    assert [path.name for path in (cache / "trees").iterdir()] == [trees[0].root.name]


def test_a_tree_in_the_cache_is_not_made_again(repository: Path) -> None:
    before = resolve(f"{repository}@master")
    told: list[str] = []
    assert resolve(f"{repository}@master", progress=told.append) == before
    assert told == []


@pytest.mark.parametrize("damage", ["lost", "emptied", "edited", "manifest"])
def test_a_damaged_tree_in_the_cache_is_made_anew(repository: Path, damage: str) -> None:
    ffa = resolve(f"{repository}@master").xen / "arch/arm/tee/ffa.c"
    whole = ffa.read_text()
    ffa.chmod(0o644)
    if damage == "lost":
        ffa.unlink()
    elif damage == "emptied":
        ffa.write_text("")
    elif damage == "edited":
        ffa.write_text("X" * len(whole))
    else:
        next(ffa.parents[4].glob(".manifest")).write_bytes(b"\xff\n")
        ffa.write_text("X")
    again = resolve(f"{repository}@master").xen / "arch/arm/tee/ffa.c"
    assert again == ffa
    assert again.read_text() == whole


def test_an_extraction_that_fails_leaves_nothing(
    repository: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = git(repository, "rev-parse", "master:xen/arch/arm/tee/ffa.c")
    lost = repository / ".git/objects" / blob[:2] / blob[2:]
    lost.rename(repository / "kept")
    with pytest.raises(SourceError, match="cannot read"):
        resolve(f"{repository}@master")
    assert list((cache / "trees").iterdir()) == []
    (repository / "kept").rename(lost)
    assert (resolve(f"{repository}@master").xen / "arch/arm/tee/ffa.c").is_file()


def test_a_cache_that_cannot_be_written_is_explained(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FFASHIM_CACHE", str(tmp_path / "file/below"))
    with pytest.raises(CacheError, match=r"(?s)file/below cannot be written.*FFASHIM_CACHE"):
        resolve(f"{repository}@master")


def test_the_cache_directory_follows_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert paths.cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("FFASHIM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert paths.cache_dir() == tmp_path / "xdg/ffashim"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert paths.cache_dir() == tmp_path / "home/.cache/ffashim"


# --- provenance ----------------------------------------------------------------------------------


def test_files_are_hashed_as_git_and_sha256sum_do(repository: Path) -> None:
    file = repository / "xen/arch/arm/tee/ffa.c"
    (record,) = hash_files([file], repository)
    assert record.path == "xen/arch/arm/tee/ffa.c"
    assert record.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert record.blob == git(repository, "rev-parse", "HEAD:xen/arch/arm/tee/ffa.c")


def test_every_error_is_one_for_people() -> None:
    assert issubclass(SourceError, FfashimError)
    assert issubclass(CacheError, FfashimError)
