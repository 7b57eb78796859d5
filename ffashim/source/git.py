# SPDX-License-Identifier: GPL-2.0-only
"""Trees out of git: a revision of a local repository, or of Xen's own.

Only objects are read, so neither a work tree nor an index is needed or touched.
"""

from __future__ import annotations

import difflib
import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ffashim import paths
from ffashim.errors import SourceError
from ffashim.source import selection, store
from ffashim.source.tree import Progress, Tree, read_version, require_ffa

UPSTREAM = "https://xenbits.xen.org/git-http/xen.git"
"""Xen's official repository; ``$FFASHIM_UPSTREAM`` names another."""

# Set by git for its hooks and aliases; they would lead to another repository than the one named.
_AMBIENT = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_WORK_TREE",
)


def environment() -> dict[str, str]:
    """Return the environment for git: no other repository, no questions, no index refreshed."""
    clean = {name: value for name, value in os.environ.items() if name not in _AMBIENT}
    return {**clean, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0"}


def run(
    *arguments: str,
    cwd: Path | None = None,
    stdin: bytes = b"",
    check: bool = True,
    extra: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run git and return what it wrote; raise SourceError if it fails and ``check`` is set.

    extra: what is added to its environment.
    """
    command = ["git", *arguments]
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**environment(), **(extra or {})},
            input=stdin,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError as error:
        if cwd is not None and not cwd.is_dir():
            raise SourceError(f"{cwd} is no directory") from error
        raise SourceError(
            "git is not installed: install it, it applies patches and reads trees in git"
        ) from error
    except OSError as error:
        raise SourceError(f"git cannot be run: {error}") from error
    if check and done.returncode != 0:
        raise SourceError(_complaint(done.stderr) or f"{' '.join(command)} failed")
    return done


def at_revision(spec: str, directory: Path, revision: str, progress: Progress) -> Tree:
    """Return the tree of a revision of the repository that ``directory`` is, or lies in.

    Raises SourceError if it is no repository, has no such revision, or has no Xen in it.
    """
    repository = Repository(directory)
    commit = repository.commit(revision)
    return _tree(repository, commit, spec, f"git {directory} ({revision})", progress)


def upstream(spec: str, revision: str, progress: Progress) -> Tree:
    """Return the tree of a revision of Xen's official repository, fetched as far as needed.

    The history is kept in the cache, without contents; those of the revision are added to it.
    """
    url = os.environ.get("FFASHIM_UPSTREAM") or UPSTREAM
    with store.locked("upstream"):
        repository = _clone(url, progress)
        notes: tuple[str, ...] = ()
        if (before := repository.known(revision)) != revision:  # A full id names nothing newer.
            progress(f"fetching {revision} of {url}")
            try:
                repository.fetch_history()
            except SourceError as error:
                if before is None:
                    raise SourceError(f"cannot fetch {url}: {error}\n{_OFFLINE}") from error
                notes = (f"{revision} may have moved: cannot fetch {url}: {error}",)
        commit = repository.commit(revision)
        origin = f"upstream git {url} ({revision})"
        return replace(_tree(repository, commit, spec, origin, progress, url), notes=notes)


def directory_state(xen: Path) -> tuple[str, bool] | None:
    """Return the commit that a tree in use in place is checked out from, and if it was changed.

    None if git is missing or does not track this directory: it may well lie, ignored, in the
    work tree of some other project.
    """
    try:
        found = run("rev-parse", "--verify", "HEAD:./arch/arm/tee/ffa.c", cwd=xen, check=False)
        if found.returncode != 0:
            return None
        commit = run("rev-parse", "--verify", "HEAD", cwd=xen).stdout.decode().strip()
        changed = run("diff", "--quiet", "HEAD", "--", ".", cwd=xen, check=False).returncode != 0
    except SourceError:
        return None
    return commit, changed


class Repository:
    """A git repository, bare or not, of which objects are read."""

    def __init__(self, directory: Path) -> None:
        """Raise SourceError unless git finds a repository there."""
        self._directory = directory
        try:
            found = run("rev-parse", "--absolute-git-dir", "--show-prefix", cwd=directory)
        except SourceError as error:
            raise SourceError(f"{directory} cannot be read as a git repository: {error}") from error
        git_dir, self._prefix, *_ = os.fsdecode(found.stdout).split("\n")
        self._git_dir = Path(git_dir)

    def known(self, revision: str) -> str | None:
        """Return the full id of the commit that a revision names, or None."""
        name = f"{revision}^{{commit}}"
        found = self._run("rev-parse", "--verify", "--quiet", "--end-of-options", name, check=False)
        lines = found.stdout.decode().split()
        return lines[-1] if found.returncode == 0 and lines else None

    def commit(self, revision: str) -> str:
        """Return the full id of the commit that a revision names.

        Raises SourceError, with the names that come close, if there is none.
        """
        if (commit := self.known(revision)) is not None:
            return commit
        # A clone has the branches of where it came from as those of a remote.
        for remote in self._run("remote").stdout.decode().split():
            if revision and (commit := self.known(f"{remote}/{revision}")) is not None:
                return commit
        listed = self._run("for-each-ref", "--format=%(refname:lstrip=2)").stdout.decode()
        names = [name.removeprefix("origin/") for name in listed.split()]
        close = difflib.get_close_matches(revision, dict.fromkeys(names), n=4, cutoff=0.5)
        hint = f" Close to it: {', '.join(close)}." if close else ""
        raise SourceError(
            f"{self._directory} has no branch, tag or commit {revision or '(nothing after @)'!r}."
            + (hint or " `git branch -a` and `git tag` list what there is.")
        )

    def xen_tree(self, commit: str) -> str:
        """Return the id of the git tree of ``xen/`` in a commit, or raise SourceError.

        Xen may lie below the top of the repository: beside or around the directory named.
        """
        for path in dict.fromkeys((f"{self._prefix}xen", self._prefix.rstrip("/"), "xen")):
            name = f"{commit}:{path}"
            inside = f"{name}/arch/arm"
            if path and self._run("rev-parse", "--verify", "--quiet", inside, check=False).stdout:
                return self._run("rev-parse", "--verify", name).stdout.decode().strip()
        raise SourceError(
            f"commit {commit[:12]} of {self._directory} holds no Xen tree: it has no xen/arch/arm."
        )

    def extract(self, xen_tree: str, into: Path) -> None:
        """Write the kept files of a git tree of ``xen/`` to ``into/xen``."""
        excluded = [f":(exclude){name.removeprefix('xen/')}" for name in selection.LEFT_OUT]
        # The user's line ending settings are for work trees; the repository's bytes are wanted.
        options = [f"--git-dir={self._git_dir}", "-c", "core.autocrlf=false"]
        wanted = ["--format=tar", "--prefix=xen/", xen_tree, "--", ".", *excluded]
        with tempfile.TemporaryFile() as complaint:
            with subprocess.Popen(
                ["git", *options, "archive", *wanted],
                cwd=self._git_dir,
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=complaint,
            ) as archive:
                assert archive.stdout is not None
                damage = None
                try:
                    store.unpack(archive.stdout, into)
                except SourceError as error:
                    damage = error
            complaint.seek(0)
            if archive.returncode != 0 or damage is not None:
                reason = _complaint(complaint.read()) or damage
                raise SourceError(f"cannot read {xen_tree[:12]} of {self._directory}: {reason}")

    def fetch_history(self) -> None:
        """Fetch commits and directories, but no file contents, of all branches and tags."""
        refs = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
        self._run("fetch", "--quiet", "--prune", "origin", *refs)

    def fetch_contents(self, xen_tree: str, url: str, progress: Progress) -> None:
        """Fetch the contents that a tree lacks, all at once: git itself would ask one by one."""
        listed = self._run(
            "rev-list", "--objects", "--no-object-names", "--missing=print", xen_tree
        ).stdout.split()
        wanted = set()
        for entry in self._run("ls-tree", "-r", "-z", xen_tree).stdout.split(b"\0")[:-1]:
            about, path = entry.split(b"\t", 1)
            if selection.kept(f"xen/{os.fsdecode(path)}"):
                wanted.add(about.split()[2])
        missing = [name[1:] for name in listed if name[:1] == b"?" and name[1:] in wanted]
        if not missing:
            return
        progress(f"fetching {len(missing)} files of {url}")
        try:
            self._run(
                *("-c", "fetch.negotiationAlgorithm=noop", "fetch", "--quiet", "--no-tags"),
                *("--no-write-fetch-head", "--filter=blob:none", "--stdin", "origin"),
                stdin=b"\n".join(missing) + b"\n",
            )
        except SourceError as error:
            raise SourceError(f"cannot fetch {url}: {error}\n{_OFFLINE}") from error

    def _run(
        self, *arguments: str, stdin: bytes = b"", check: bool = True
    ) -> subprocess.CompletedProcess[bytes]:
        # From the git directory, as in a subdirectory git would limit some commands to it.
        command = (f"--git-dir={self._git_dir}", *arguments)
        return run(*command, cwd=self._git_dir, stdin=stdin, check=check)


_OFFLINE = "If this machine has no network, name a directory or a local git repository instead."


def _clone(url: str, progress: Progress) -> Repository:
    """Return our clone of the repository at ``url``, which is empty at first."""
    home = paths.cache_dir() / "upstream"
    directory = home / "xen.git"
    if not (directory / "HEAD").exists():
        progress(f"preparing a clone of {url}")
        with store.scratch(home) as work:
            run("init", "--quiet", "--bare", str(work / "xen.git"))
            # Leave file contents out, and note that the remote may be asked for them later.
            for name, value in (("promisor", "true"), ("partialclonefilter", "blob:none")):
                run("config", f"remote.origin.{name}", value, cwd=work / "xen.git")
            (work / "xen.git").rename(directory)
    run("config", "remote.origin.url", url, cwd=directory)
    return Repository(directory)


def _tree(
    repository: Repository,
    commit: str,
    spec: str,
    origin: str,
    progress: Progress,
    remote: str | None = None,
) -> Tree:
    xen_tree = repository.xen_tree(commit)

    def fill(into: Path) -> None:
        if remote is not None:
            repository.fetch_contents(xen_tree, remote, progress)
        progress(f"extracting {origin}")
        repository.extract(xen_tree, into)

    root = store.stored(f"git-{xen_tree}-{selection.ID}", fill)
    require_ffa(root / "xen", origin)
    return Tree(spec, root, origin, read_version(root / "xen"), commit=commit, private=True)


def _complaint(stderr: bytes) -> str:
    """Return what git had to say, without its prefix."""
    return stderr.decode(errors="replace").strip().removeprefix("fatal: ")
