# SPDX-License-Identifier: GPL-2.0-only
"""Asking apt for a source package, apart from what the machine has installed and configured.

apt downloads and verifies. It gets a state, a cache and a list of sources of its own, which are
thrown away, so it needs no root and the machine's are not touched. Mirror, keyring, proxy and
credentials are those of the machine.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ffashim.errors import SourceError

_SUITES = ("unstable", "sid", "testing", "stable", "oldstable")


@dataclass(frozen=True)
class Mirror:
    """Where packages come from, and who has to have signed for them."""

    uri: str
    signed_by: str = ""
    """As in ``Signed-By``: keyring, fingerprints or an armoured key; empty for apt's own keys."""


@dataclass(frozen=True)
class SourceArchive:
    """The upstream tar archive of a source package, as the signed index describes it."""

    package: str
    """Version of the package, without an epoch."""
    name: str
    sha256: str


# --- the machine's configuration -----------------------------------------------------------------


def machine_mirror() -> Mirror:
    """Return the mirror of Debian that this machine's apt uses.

    Raises SourceError if apt is missing or has none.
    """
    mirror = choose_mirror(_sources(), _os_release())
    if mirror is None:
        raise SourceError(
            "apt has no mirror of Debian configured. Add one to its sources, signed by the key of "
            "the package debian-archive-keyring, or name another Xen tree with --xen."
        )
    return mirror


def choose_mirror(
    sources: Iterator[Mapping[str, str]], os_release: Mapping[str, str]
) -> Mirror | None:
    """Return the mirror of the Debian archive itself among apt's sources, if there is one.

    Other archives use Debian's names of suites too, so it is known by its keyring, else by its
    path, else, where the system is Debian, by the suite being the system's own.
    """
    own = os_release.get("VERSION_CODENAME") if os_release.get("ID") == "debian" else None
    ranked = []
    for source in sources:
        suites = [suite for suite in source.get("suites", "").split() if suite in (*_SUITES, own)]
        uris = [uri for uri in source.get("uris", "").split() if not uri.startswith("cdrom:")]
        if not suites or not uris or "main" not in source.get("components", "").split():
            continue
        signed_by = source.get("signed-by", "")
        if "debian-archive" in signed_by:
            rank = 0
        elif uris[0].rstrip("/").endswith("/debian"):
            rank = 1
        elif not signed_by and own in suites:
            rank = 2
        else:
            continue
        ranked.append((rank, Mirror(uris[0], signed_by)))
    return min(ranked, key=lambda entry: entry[0])[1] if ranked else None


def _sources() -> Iterator[Mapping[str, str]]:
    """Yield the sources that the machine's apt reads."""
    found = _run(
        *("apt-config", "shell", "LIST", "Dir::Etc::sourcelist/f"),
        *("PARTS", "Dir::Etc::sourceparts/d"),
    )
    variables = dict(word.split("=", 1) for word in shlex.split(found))
    files = [Path(variables["LIST"])] if variables.get("LIST") else []
    if variables.get("PARTS"):
        files += sorted(Path(variables["PARTS"]).glob("*"))
    for file in files:
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        if file.suffix == ".sources":
            yield from parse_deb822(text)
        elif file.suffix == ".list":
            yield from parse_list(text)


def parse_list(text: str) -> Iterator[Mapping[str, str]]:
    """Yield the sources of a ``.list`` file, with the field names of the newer format."""
    for line in text.splitlines():
        found = re.match(r"\s*deb(?:-src)?\s+(?:\[([^]]*)\]\s*)?([^\s#]\S*)\s+([^#]*)", line)
        if found and (words := found[3].split()):
            options = dict(word.split("=", 1) for word in (found[1] or "").split() if "=" in word)
            yield {
                "uris": found[2],
                "suites": words[0],
                "components": " ".join(words[1:]),
                "signed-by": options.get("signed-by", ""),
            }


def parse_deb822(text: str) -> Iterator[Mapping[str, str]]:
    """Yield the sources of a ``.sources`` file that are enabled, field names in lower case."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for stanza in re.split(r"\n\s*\n", "\n".join(lines)):
        found = re.findall(r"^([A-Za-z-]+):[ \t]*(.*(?:\n[ \t].*)*)", stanza, re.M)
        fields = {name.lower(): value.strip() for name, value in found}
        if fields and fields.get("enabled", "yes").lower() not in ("no", "false", "0"):
            yield fields


def _os_release() -> Mapping[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


# --- asking --------------------------------------------------------------------------------------

# The first lines undo what a machine may have set for its own updates: hooks, and a release that
# is none of ours. The next keep apt from taking anything that is not signed, whatever the machine
# allows. The cache may be where apt's own user cannot go.
_CONFIGURATION = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Default-Release;
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Retries "1";
Dir::State "{home}/state";
Dir::State::status "{home}/state/status";
Dir::Cache "{home}/cache";
Dir::Etc::sourcelist "{home}/xen.sources";
Dir::Etc::sourceparts "-";
"""

_SOURCE = """\
Types: deb-src
URIs: {uri}
Suites: {suite}
Components: main
"""


class Archive:
    """One suite of a mirror, of which the index is fetched and verified on creation."""

    def __init__(self, mirror: Mirror, suite: str, home: Path) -> None:
        """``home`` is an empty directory for apt's state.

        Raises SourceError if apt is missing, or the index cannot be had or is not signed.
        """
        self._home = home
        for directory in ("state/lists/partial", "cache/archives/partial"):
            (home / directory).mkdir(parents=True)
        (home / "state" / "status").touch()
        source = _SOURCE.format(uri=mirror.uri, suite=suite)
        if mirror.signed_by:
            source += f"Signed-By: {mirror.signed_by}\n"
        (home / "xen.sources").write_text(source, encoding="utf-8")
        configuration = _CONFIGURATION.format(home=home)
        (home / "apt.conf").write_text(configuration, encoding="utf-8")
        self._apt("update")

    @property
    def codename(self) -> str:
        """The suite's own name, by which a mirror may have it in another state."""
        for release in (self._home / "state" / "lists").glob("*Release"):
            text = release.read_text(encoding="utf-8", errors="replace")
            if found := re.search(r"^Codename: (\S+)$", text, re.M):
                return found[1]
        return ""

    def find(self, package: str) -> SourceArchive:
        """Return the newest version of a source package, or raise SourceError."""
        listed = self._apt("source", "--print-uris", package)
        found = re.findall(r"^'[^']*' (\S+) \d+ SHA256:([0-9a-f]{64})", listed, re.M)
        versions = [name.split("_", 1)[1][:-4] for name, _ in found if name.endswith(".dsc")]
        archives = [entry for entry in found if ".orig.tar." in entry[0]]
        if not versions or not archives:
            raise SourceError(f"the index names no .orig.tar of {package}")
        return SourceArchive(versions[0], *archives[0])

    def download(self, package: str) -> Path:
        """Download and verify the source package's archive, or raise SourceError."""
        self._apt("source", "--download-only", "--tar-only", package)
        return next(self._home.glob(f"{package}_*.orig.tar.*"))

    def _apt(self, *arguments: str) -> str:
        return _run("apt-get", "-q", "-c", str(self._home / "apt.conf"), *arguments, cwd=self._home)


def _run(*command: str, cwd: Path | None = None) -> str:
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except FileNotFoundError as error:
        raise SourceError(
            f"{command[0]} is not installed: Debian's Xen can be had only where apt is. "
            "Name a directory or a git repository instead."
        ) from error
    except OSError as error:
        raise SourceError(f"{command[0]} cannot be run: {error}") from error
    if done.returncode != 0:
        complaints = re.findall(r"^E: (.*)$", done.stderr, re.M) or [done.stderr.strip()]
        raise SourceError(complaints[0] or f"{shlex.join(command)} failed")
    return done.stdout
