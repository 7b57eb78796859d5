# SPDX-License-Identifier: GPL-2.0-only
"""Git repositories with a Xen tree in them, and commits of ours on top."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from ffashim.source import Tree, store

FILE = "xen/arch/arm/tee/ffa.c"
_IDENTITY = {
    "GIT_AUTHOR_NAME": "A Developer",
    "GIT_AUTHOR_EMAIL": "dev@example.org",
    "GIT_COMMITTER_NAME": "A Developer",
    "GIT_COMMITTER_EMAIL": "dev@example.org",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
}


class Repo:
    """A repository with a work tree."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of_tree(cls, tree: Tree, path: Path) -> Repo:
        """Make one whose only commit is a tree."""
        store.copy(tree.root, path)
        (path / "CHANGELOG").write_text("nothing yet\n")
        repo = cls(path)
        repo.git("init", "-q", "-b", "master")
        repo.git("add", "-A")
        repo.git("commit", "-qm", "Begin")
        return repo

    def clone(self, path: Path) -> Repo:
        """Return another one that shares what this one holds."""
        self.git("clone", "-q", "--shared", str(self.path), str(path))
        return Repo(path)

    def git(self, *arguments: str) -> str:
        """Run git, and return what it printed."""
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.path,
            env={**os.environ, **_IDENTITY},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def edit(self, before: str, after: str, file: str = FILE) -> None:
        """Replace the first match of a regular expression."""
        path = self.path / file
        text, count = re.subn(before, after, path.read_text(), count=1)
        assert count, f"{file} has no {before}"
        path.write_text(text)

    def commit(self, subject: str, body: str = "") -> str:
        """Commit all that was changed; return the commit's full id."""
        self.git("add", "-A")
        self.git("commit", "-qm", f"{subject}\n\n{body}".strip())
        return self.git("rev-parse", "HEAD")

    def document(self, text: str) -> str:
        """Commit something that is not compiled."""
        with (self.path / "CHANGELOG").open("a") as file:
            file.write(text + "\n")
        return self.commit(text)

    def patches(self, revisions: str, into: Path, *options: str) -> Path:
        """Write the patches of a range into a directory."""
        self.git("format-patch", "-q", f"-o{into}", *options, revisions)
        return into
