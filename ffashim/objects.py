# SPDX-License-Identifier: GPL-2.0-only
"""Objects: compiled once for what they are made of, found again by the next build.

Those that are the same whatever the tree is serve all; those of a tree serve who edits another file
of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ffashim import stamps

_WORK = "@work@"
"""Stands for the directory that is built in, which is another one each time."""


class Objects:
    """A directory of them, each a file: a line of JSON, with what it was made of, and the object.

    All that a command does not name and that no file it reads shows, such as the compiler behind
    its name, is the caller's to tell apart, by the directory.
    """

    def __init__(self, directory: Path, generated: str = "") -> None:
        self._directory = directory
        self._generated = generated

    def among(self, generated: Path) -> Objects:
        """Return those of them that were made with the same generated headers."""
        return Objects(self._directory, stamps.sha256_of(generated))

    def compile(
        self, command: Sequence[str], source: Path, target: Path, run: Callable[[], str]
    ) -> str:
        """Have an object and the make rules beside it made, or take what was made before.

        target: the object, in the directory that is built in. run: executes the command, and
        returns what the compiler said: who has something to say is not remembered.
        """
        file = self._directory / _key(command, source, target.parent, self._generated)
        if self._take(file, target):
            return ""
        started = time.time_ns()
        said = run()
        if not said:
            # Somebody may prune the cache just now, or it can only be read.
            with contextlib.suppress(OSError):
                self._keep(file, target, started)
        return said

    def _take(self, file: Path, target: Path) -> bool:
        try:
            head, _, content = file.read_bytes().partition(b"\n")
            record = json.loads(head)
            if hashlib.sha256(content).hexdigest() != record["sha256"]:
                return False
            if not stamps.hold(record["inputs"]):
                return False
            with contextlib.suppress(OSError):
                os.utime(self._directory)  # `ffashim.cache` looks
        except (OSError, ValueError, KeyError, TypeError):
            return False
        target.write_bytes(content)
        rules = record["rules"].replace(_WORK, str(target.parent))
        target.with_suffix(".d").write_text(rules, encoding="utf-8")
        return True

    def _keep(self, file: Path, target: Path, started: int) -> None:
        rules = target.with_suffix(".d").read_text(encoding="utf-8")
        content = target.read_bytes()
        inputs = [path for path in stamps.read_by(rules) if target.parent not in path.parents]
        record = {
            "sha256": hashlib.sha256(content).hexdigest(),
            "inputs": stamps.take(inputs, started),
            "rules": rules.replace(str(target.parent), _WORK),
        }
        self._directory.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._directory, delete=False) as new:
            new.write(json.dumps(record).encode() + b"\n" + content)
        os.replace(new.name, file)


def _key(command: Sequence[str], source: Path, work: Path, generated: str) -> str:
    """Return a name for what a command makes of a source, wherever it is built."""
    words = [word.replace(str(work), _WORK) for word in command]
    own = stamps.sha256(source) if work in source.parents else ""
    asked = json.dumps([words, own, generated])
    return hashlib.sha256(asked.encode()).hexdigest()[:32]
