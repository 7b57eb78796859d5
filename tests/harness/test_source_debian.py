# SPDX-License-Identifier: GPL-2.0-only
"""Debian's source package: what is taken from the machine's apt, and what apt is asked to do.

apt itself runs against a small signed archive in a directory, without the network.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ffashim import paths
from ffashim.errors import SourceError
from ffashim.source import apt, debian, resolve
from ffashim.source.apt import Mirror, choose_mirror, parse_deb822, parse_list

DEBIAN = {"ID": "debian", "VERSION_CODENAME": "trixie"}
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFASHIM_CACHE", str(tmp_path / "cache"))


# --- the machine's apt ---------------------------------------------------------------------------


def test_the_mirror_and_keyring_of_a_sources_file_are_used() -> None:
    text = f"""\
# a comment
Types: deb
URIs: http://security.mirror/debian-security
Suites: trixie-security
Components: main

Types: deb deb-src
URIs: http://mirror/debian
# another
Suites: trixie trixie-updates
Components: main contrib
Signed-By: {KEYRING}
"""
    assert choose_mirror(parse_deb822(text), DEBIAN) == Mirror("http://mirror/debian", KEYRING)


def test_the_mirror_and_keyring_of_a_list_file_are_used() -> None:
    text = f"""\
# deb http://old/debian trixie main
deb cdrom:[Debian]/ trixie main
deb [ arch=amd64 signed-by={KEYRING} ] http://mirror/debian/ trixie main contrib # why
"""
    assert choose_mirror(parse_list(text), DEBIAN) == Mirror("http://mirror/debian/", KEYRING)


def test_a_key_inside_a_sources_file_is_kept() -> None:
    key = "\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mDMEY865\n -----END PGP PUBLIC KEY-----"
    text = f"URIs: http://m/debian\nSuites: sid\nComponents: main\nSigned-By:{key}\n"
    mirror = choose_mirror(parse_deb822(text), DEBIAN)
    assert mirror is not None
    assert mirror.signed_by == key.strip()


@pytest.mark.parametrize(
    "line",
    [
        "deb http://example.org/chrome/deb stable main",
        "deb [signed-by=/k.gpg] https://example.org/debian/12/prod trixie main",
        "deb http://example.org/debian trixie-pgdg main",
        "deb http://example.org/debian trixie contrib",
        "deb http://archive.example.org/ubuntu noble main",
    ],
)
def test_archives_of_others_are_not_taken_for_debian(line: str) -> None:
    assert choose_mirror(parse_list(line), DEBIAN) is None


def test_a_private_mirror_of_the_system_is_used() -> None:
    line = "deb http://proxy.local/remote trixie main"
    assert choose_mirror(parse_list(line), DEBIAN) == Mirror("http://proxy.local/remote")
    assert choose_mirror(parse_list(line), {"ID": "ubuntu"}) is None


def test_a_disabled_source_is_not_used() -> None:
    text = "Enabled: no\nURIs: http://m/debian\nSuites: sid\nComponents: main\n"
    assert choose_mirror(parse_deb822(text), DEBIAN) is None


def test_a_machine_without_apt_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(SourceError, match=r"apt-config is not installed.*Name a directory"):
        resolve("debian")


def test_a_machine_without_a_mirror_of_debian_is_told_what_to_add(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(apt, "_sources", lambda: iter(()))
    with pytest.raises(SourceError, match="debian-archive-keyring"):
        resolve("debian", refresh=True)
    with pytest.raises(SourceError, match="no mirror of Debian"):
        apt.machine_mirror()


# --- an archive ----------------------------------------------------------------------------------


class Signer:
    """A key of its own to sign an archive with."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.keyring = home / "public.gpg"
        self.gpg("--quick-gen-key", "archive@example.org", "default", "default", "never")
        self.gpg("--output", str(self.keyring), "--export")

    def gpg(self, *arguments: str) -> None:
        options = ["--homedir", str(self.home), "--batch", "--passphrase", "", "--quiet"]
        subprocess.run(["gpg", *options, *arguments], check=True, capture_output=True)


@contextlib.contextmanager
def new_signer() -> Iterator[Signer]:
    """Make a key, in a directory whose name is short enough for the socket of gpg's agent."""
    if not shutil.which("gpg") or not shutil.which("apt-get"):
        pytest.skip("needs gpg and apt")
    with tempfile.TemporaryDirectory(prefix="gpg-", dir="/tmp") as home:
        try:
            yield Signer(Path(home))
        finally:
            subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False)


@pytest.fixture(scope="module")
def signer() -> Iterator[Signer]:
    """Return the signer of all archives here."""
    with new_signer() as made:
        yield made


class Archive:
    """A signed archive of source packages in a directory."""

    def __init__(self, root: Path, signer: Signer) -> None:
        self.root = root
        self._signer = signer

    @property
    def mirror(self) -> Mirror:
        return Mirror(f"file:{self.root}", str(self._signer.keyring))

    def add(self, suite: str, version: str, *, ffa: bool = True) -> Path:
        """Add the source package of Xen to a suite; return the archive of its source."""
        pool = self.root / "pool"
        pool.mkdir(parents=True, exist_ok=True)
        orig = pool / f"xen_{version}.orig.tar.xz"
        names = ["xen/Makefile", "xen/arch/arm/tee/tee.c", "xen/include/xen/lib.h", "tools/x.c"]
        with tarfile.open(orig, "w:xz") as tar:
            for name in [*names, *(["xen/arch/arm/tee/ffa.c"] if ffa else [])]:
                entry = tarfile.TarInfo(f"xen-{version}/{name}")
                content = f"/* {version} */\n".encode()
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        dsc = pool / f"xen_{version}-1.dsc"
        dsc.write_text("Format: 3.0 (quilt)\n")
        sums = "".join(
            f" {hashlib.sha256(file.read_bytes()).hexdigest()} {file.stat().st_size} {file.name}\n"
            for file in (dsc, orig)
        )
        sources = (
            f"Package: xen\nBinary: xen\nVersion: {version}-1\nArchitecture: any\n"
            f"Format: 3.0 (quilt)\nDirectory: pool\nChecksums-Sha256:\n{sums}\n"
        )
        dist = self.root / "dists" / suite
        (dist / "main/source").mkdir(parents=True, exist_ok=True)
        (dist / "main/source/Sources").write_text(sources)
        digest = hashlib.sha256(sources.encode()).hexdigest()
        (dist / "Release").write_text(
            f"Origin: Test\nSuite: {suite}\nCodename: code-{suite}\nComponents: main\n"
            f"Date: Thu, 01 Jan 2026 00:00:00 UTC\n"
            f"SHA256:\n {digest} {len(sources)} main/source/Sources\n"
        )
        (dist / "InRelease").unlink(missing_ok=True)
        signed = ("--output", str(dist / "InRelease"), "--clear-sign", str(dist / "Release"))
        self._signer.gpg(*signed)
        return orig


@pytest.fixture
def archive(tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """Return an archive, which the machine's apt seems to use."""
    made = Archive(tmp_path / "mirror", signer)
    monkeypatch.setattr(apt, "machine_mirror", lambda: made.mirror)
    monkeypatch.setattr(paths, "XEN_SRC", None)
    return made


def test_the_newest_suite_that_can_be_had_is_used(archive: Archive) -> None:
    archive.add("unstable", "9.3").unlink()
    archive.add("testing", "9.1", ffa=False)
    orig = archive.add("stable", "9.2")
    archive.add("oldstable", "9.0")
    tree = resolve("debian")
    assert (tree.version, tree.private) == ("9.2-1", True)
    assert (tree.xen / "arch/arm/tee/ffa.c").read_text() == "/* 9.2 */\n"
    assert not (tree.root / "tools").exists()
    digest = hashlib.sha256(orig.read_bytes()).hexdigest()
    assert tree.sha256 == digest
    assert f"(sha256 {digest[:12]})" in tree.describe()
    assert digest not in tree.describe()
    assert "unstable passed over" in tree.notes[0]
    assert "testing passed over: xen_9.1.orig.tar.xz is Xen" in tree.notes[1]
    # From then on it is told to who asks, and not at each run.
    again = resolve("debian")
    assert (again.notes, again.search) == ((), tree.notes)
    assert "passed over" not in again.describe()


def test_a_suite_can_be_named(archive: Archive) -> None:
    archive.add("unstable", "9.3")
    archive.add("stable", "9.2")
    assert resolve("debian:stable").version == "9.2-1"
    with pytest.raises(SourceError, match="Debian nosuch passed over"):
        resolve("debian:nosuch")


def test_what_was_found_is_used_again_until_asked_to_look(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.add("stable", "9.2")
    first = resolve("debian:stable")
    archive.add("stable", "9.3")
    with monkeypatch.context() as offline:
        offline.setenv("PATH", "/nonexistent")
        assert resolve("debian:stable") == first
    assert resolve("debian:stable", refresh=True).version == "9.3-1"
    assert resolve("debian:stable").version == "9.3-1"


def test_a_damaged_record_is_made_anew(archive: Archive, tmp_path: Path) -> None:
    archive.add("stable", "9.2")
    first = resolve("debian:stable")
    record = tmp_path / "cache/debian/stable.json"
    assert json.loads(record.read_text())["package"] == "9.2-1"
    record.write_text("{")
    assert resolve("debian:stable") == first


def test_an_archive_that_was_tampered_with_is_refused(archive: Archive) -> None:
    orig = archive.add("stable", "9.2")
    content = bytearray(orig.read_bytes())
    content[-1] ^= 1
    orig.write_bytes(content)
    with pytest.raises(SourceError, match="stable passed over"):
        resolve("debian:stable")


def test_an_index_that_is_not_signed_by_the_keyring_is_refused(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.add("stable", "9.2")
    # A machine that takes anything does not make this project take it.
    (tmp_path / "lax.conf").write_text(
        'APT::Get::AllowUnauthenticated "true";\nAcquire::AllowInsecureRepositories "true";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "lax.conf"))
    with new_signer() as other:
        mirror = Mirror(archive.mirror.uri, str(other.keyring))
        monkeypatch.setattr(apt, "machine_mirror", lambda: mirror)
        with pytest.raises(SourceError, match="not signed"):
            resolve("debian:stable")


def test_an_archive_other_than_the_pinned_one_is_noted(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orig = archive.add("stable", "9.2")
    monkeypatch.setattr(paths, "XEN_SRC", tmp_path)
    digest = hashlib.sha256(orig.read_bytes()).hexdigest()
    (tmp_path / "SHA256SUMS").write_text(f"{digest}  {orig.name}\n")
    assert resolve("debian:stable").notes == ()
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  xen_9.1.orig.tar.xz\n")
    assert "known to be good is xen_9.1" in resolve("debian:stable").describe()


def test_suites_passed_over_for_the_same_reason_share_a_note() -> None:
    reason = "Failed to fetch http://m/x.tar.xz  404  Not Found [IP: 192.0.2.1 80]"
    notes = tuple(f"Debian {suite} passed over: {reason}" for suite in ("unstable", "testing"))
    assert debian._summed_up((*notes, "Debian stable passed over: too old")) == (
        "Debian unstable and testing passed over: Failed to fetch http://m/x.tar.xz 404 Not Found",
        "Debian stable passed over: too old",
    )
