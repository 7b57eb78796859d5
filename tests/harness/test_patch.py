# SPDX-License-Identifier: GPL-2.0-only
"""Patches, in every form that people have them, applied to a private copy of a tree."""

from __future__ import annotations

import subprocess
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

import pytest

from ffashim.errors import PatchError
from ffashim.source import resolve

FFA = "xen/arch/arm/tee/ffa.c"
LINES = [f"int line_{number};" for number in range(1, 61)]


def git(directory: Path, *arguments: str) -> str:
    """Run git as a person with a name and return what it prints."""
    settings = ("user.name=T", "user.email=t@example.org", "commit.gpgsign=false")
    options = [word for setting in settings for word in ("-c", setting)]
    command = ["git", *options, "-C", str(directory), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFASHIM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a repository of three commits: base, then 30 lines on, `one` and `two`."""
    root = tmp_path / "repo"
    for name, text in {
        FFA: "\n".join(LINES) + "\n",
        "xen/arch/arm/tee/old.c": "old\n" * 5,
        "xen/include/xen/lib.h": "lib\n",
        "xen/arch/x86/setup.c": "setup\n",
        "docs/ffa.md": "docs\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    git(root, "init", "-q", "-b", "master")
    git(root, "add", ".")
    git(root, "commit", "-qm", "base")
    git(root, "tag", "base")
    # The second needs the first to be there: its context holds line 10.
    for numbers, subject in (((10,), "change ten, as Ren\u00e9 said"), ((12, 40), "change forty")):
        edit(root, {number: f"long line_{number};" for number in numbers})
        (root / "docs/ffa.md").write_text(f"docs {numbers}\n")
        git(root, "commit", "-qam", subject)
    return root


def edit(root: Path, changes: dict[int, str]) -> None:
    """Replace lines of ffa.c, which are counted from 1."""
    lines = (root / FFA).read_text().splitlines()
    for number, text in changes.items():
        lines[number - 1] = text
    (root / FFA).write_text("\n".join(lines) + "\n")


def as_mail(patch: str, encoding: str) -> bytes:
    """Send a format-patch through a mail program that uses the transfer encoding."""
    head, _, body = patch.partition("\n\n")
    mail = EmailMessage(policy=SMTP)
    mail["From"] = "Someone <someone@example.org>"
    mail["Subject"] = "[PATCH] " + head.split("[PATCH] ", 1)[-1].splitlines()[0]
    mail.set_content(body, cte=encoding)
    return mail.as_bytes()


def write(tmp_path: Path, content: str | bytes, name: str = "my.patch") -> Path:
    """Write a patch file."""
    file = tmp_path / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def forms(repository: Path) -> dict[str, str | bytes]:
    """Return the two commits in every form of one file."""
    diff = git(repository, "diff", "base", "master")
    mails = git(repository, "format-patch", "--stdout", "--numbered", "base..master")
    squashed = git(repository, "format-patch", "--stdout", "-1", "master")
    squashed = squashed.split("\n---\n")[0] + "\n---\n" + diff
    first, second = mails.split("\nFrom ", 1)
    return {
        "diff": diff,
        "show": "commit 1234\nAuthor: A\n\n    subject\n\n" + diff,
        "without a/ and b/": git(repository, "diff", "--no-prefix", "base", "master"),
        "relative to xen/": git(repository, "diff", "--relative=xen", "base", "master"),
        "CRLF": diff.replace("\n", "\r\n"),
        "mbox": mails,
        "mbox without numbers": git(repository, "format-patch", "--stdout", "-N", "base..master"),
        "mbox, CRLF": mails.replace("\n", "\r\n"),
        "mbox sorted by something else": f"From {second}\n{first}\n",
        "mail": squashed,
        "mail, base64": as_mail(squashed, "base64"),
        "mail, quoted-printable": as_mail(squashed, "quoted-printable"),
    }


@pytest.mark.parametrize(
    "form",
    [
        "diff",
        "show",
        "without a/ and b/",
        "relative to xen/",
        "CRLF",
        "mbox",
        "mbox without numbers",
        "mbox, CRLF",
        "mbox sorted by something else",
        "mail",
        "mail, base64",
        "mail, quoted-printable",
    ],
)
def test_a_patch_is_applied_whatever_its_form(repository: Path, tmp_path: Path, form: str) -> None:
    patch = write(tmp_path, forms(repository)[form])
    tree = resolve(f"{repository}@base", [patch])
    assert (tree.root / FFA).read_bytes() == (repository / FFA).read_bytes()
    assert tree.private
    assert tree.commit == git(repository, "rev-parse", "base").strip()


def test_a_mailbox_that_lacks_a_patch_of_its_series_is_refused(
    repository: Path, tmp_path: Path
) -> None:
    mails = git(repository, "format-patch", "--stdout", "--numbered", "base..master")
    file = write(tmp_path, mails.replace("1/2]", "1/3]").replace("2/2]", "2/3]"))
    with pytest.raises(PatchError, match=r"lacks patch 3 of 3"):
        resolve(f"{repository}@base", [file])


def test_the_notes_of_a_tree_tell_which_version_of_a_series_was_taken(
    repository: Path, tmp_path: Path
) -> None:
    old = git(repository, "format-patch", "--stdout", "--numbered", "base..master")
    new = git(repository, "format-patch", "--stdout", "--numbered", "-v2", "base..master")
    tree = resolve(f"{repository}@base", [write(tmp_path, f"{old}\n{new}", "thread.mbox")])
    assert tree.notes == ("thread.mbox holds v1 too; v2 is taken",)


def test_one_patch_of_a_series_alone_is_applied(repository: Path, tmp_path: Path) -> None:
    mails = git(repository, "format-patch", "--stdout", "--numbered", "base..master")
    first = mails.split("\nFrom ", 1)[0]
    assert len(resolve(f"{repository}@base", [write(tmp_path, first)]).patches) == 1


def test_a_diff_in_a_reply_is_not_applied(repository: Path, tmp_path: Path) -> None:
    mails = git(repository, "format-patch", "--stdout", "--numbered", "base..master")
    reply = mails.split("\nFrom ", 1)[0].replace("Subject: ", "Subject: Re: ")
    tree = resolve(f"{repository}@base", [write(tmp_path, f"{mails}\n{reply}")])
    assert len(tree.patches) == 2


def test_a_directory_of_patches_is_applied_in_order(repository: Path, tmp_path: Path) -> None:
    git(repository, "format-patch", "-q", "--cover-letter", "-o", str(tmp_path / "s"), "base")
    tree = resolve(f"{repository}@base", [tmp_path / "s"])
    assert (tree.root / FFA).read_text() == (repository / FFA).read_text()
    assert [patch.name for patch in tree.patches] == [
        "0001-change-ten-as-Ren-said.patch: [PATCH 1/2] change ten, as Ren\u00e9 said",
        "0002-change-forty.patch: [PATCH 2/2] change forty",
    ]
    assert "change forty" in tree.describe()


def test_several_files_are_applied_in_the_order_given(repository: Path, tmp_path: Path) -> None:
    edit(repository, {10: "short line_10;"})
    third = write(tmp_path, git(repository, "diff"), "third.diff")
    git(repository, "stash", "-q")
    both = write(tmp_path, git(repository, "diff", "base", "master"), "both.diff")
    tree = resolve(f"{repository}@base", [both, third])
    assert "short line_10;" in (tree.root / FFA).read_text()
    with pytest.raises(PatchError, match=r"third\.diff"):
        resolve(f"{repository}@base", [third, both])


def test_the_tree_itself_is_not_changed(repository: Path, tmp_path: Path) -> None:
    patch = write(tmp_path, git(repository, "diff", "master", "base"))
    before = (repository / FFA).read_text()
    tree = resolve(repository, [patch])
    assert (repository / FFA).read_text() == before != (tree.root / FFA).read_text()
    cached = resolve(f"{repository}@master")
    resolve(f"{repository}@master", [patch])
    assert (cached.root / FFA).read_text() == before


def test_an_edited_tree_is_copied_anew(repository: Path, tmp_path: Path) -> None:
    patch = write(tmp_path, git(repository, "diff", "master", "base"))
    first = resolve(repository, [patch])
    assert resolve(repository, [patch]).root == first.root
    edit(repository, {60: "int edited;"})
    assert "int edited;" in (resolve(repository, [patch]).root / FFA).read_text()


def test_files_are_created_removed_renamed_and_made_executable(
    repository: Path, tmp_path: Path
) -> None:
    tee = repository / "xen/arch/arm/tee"
    git(repository, "mv", "xen/arch/arm/tee/old.c", "xen/arch/arm/tee/renamed.c")
    (tee / "new").mkdir()
    (tee / "new/file.c").write_text("new\n")
    (repository / "xen/include/xen/lib.h").unlink()
    (repository / "xen/include/xen/other.h").write_text("other\n")
    (repository / FFA).chmod(0o755)
    git(repository, "add", "-A")
    patch = write(tmp_path, git(repository, "diff", "--cached", "-M"))
    root = resolve(f"{repository}@master", [patch]).root
    assert (root / "xen/arch/arm/tee/renamed.c").read_text() == "old\n" * 5
    assert not (root / "xen/arch/arm/tee/old.c").exists()
    assert (root / "xen/arch/arm/tee/new/file.c").read_text() == "new\n"
    assert not (root / "xen/include/xen/lib.h").exists()
    assert (root / FFA).stat().st_mode & 0o100


def test_parts_outside_the_copy_are_left_out(repository: Path, tmp_path: Path) -> None:
    (repository / "xen/arch/x86/setup.c").write_text("changed\n")
    edit(repository, {1: "first"})
    patch = write(tmp_path, git(repository, "diff"))
    tree = resolve(f"{repository}@master", [patch])
    assert (tree.root / FFA).read_text().startswith("first\n")
    assert not (tree.root / "xen/arch/x86").exists()


def test_a_patch_with_nothing_to_compile_is_refused(repository: Path, tmp_path: Path) -> None:
    (repository / "docs/ffa.md").write_text("changed\n")
    patch = write(tmp_path, git(repository, "diff"))
    with pytest.raises(PatchError, match=r"nothing that is compiled here, only docs/ffa\.md"):
        resolve(f"{repository}@master", [patch])


OUTSIDE = (
    "MAINTAINERS",
    "Config.mk",
    "Makefile",
    "docs/ffa.md",
    "tools/libs/ffa.c",
    "scripts/archive.sh",
    "xen/arch/x86/setup.c",
    "xen/tools/new/gen.c",
)


@pytest.fixture
def whole(repository: Path) -> Path:
    """Return the repository with files beside xen/, some named like one inside."""
    for name in (*OUTSIDE, "xen/Makefile", "xen/scripts/archive.sh", "xen/scripts/Kbuild.include"):
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text(f"{name}\n")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "the rest of it")
    git(repository, "tag", "whole")
    return repository


def commit(root: Path, *names: str) -> str:
    """Change files, in a commit named after them, and return its id."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        with (root / name).open("a") as file:
            file.write("/* changed */\n")
    git(root, "add", ".")
    git(root, "commit", "-qm", f"change {' '.join(names)}")
    return git(root, "rev-parse", "HEAD").strip()


@pytest.mark.parametrize("prefix", ["a/", ""], ids=["a/", "no prefix"])
@pytest.mark.parametrize("name", [*OUTSIDE, "CHANGELOG.md", "scripts/new.sh", "tools/new/new.c"])
def test_a_patch_of_a_series_that_lies_outside_is_passed_over(
    whole: Path, tmp_path: Path, name: str, prefix: str
) -> None:
    commit(whole, name)
    commit(whole, FFA)
    options = [] if prefix else ["--no-prefix"]
    series = git(whole, "format-patch", "--stdout", *options, "whole")
    told: list[str] = []
    patch = write(tmp_path, series, "s.mbox")
    tree = resolve(f"{whole}@whole", [patch], told.append)
    note = f"passed over: s.mbox: [PATCH 1/2] change {name} changes only {name}"
    assert tree.notes == (note,)
    assert [patch.name for patch in tree.patches] == [f"s.mbox: [PATCH 2/2] change {FFA}"]
    assert any(line.startswith("passed over: s.mbox: [PATCH 1/2]") for line in told)
    assert (tree.root / FFA).read_text() == (whole / FFA).read_text()
    left = {path.name for path in (tree.root / "xen").iterdir()}
    assert left == {"Makefile", "arch", "include", "scripts"}
    assert (tree.root / "xen/Makefile").read_text() == "xen/Makefile\n"
    # Found in the cache, it says the same.
    assert resolve(f"{whole}@whole", [patch]) == tree


def test_a_whole_series_that_lies_outside_is_refused(whole: Path, tmp_path: Path) -> None:
    for name in OUTSIDE:
        commit(whole, name)
    patch = write(tmp_path, git(whole, "format-patch", "--stdout", "whole"))
    names = r"MAINTAINERS, Config\.mk, Makefile and 5 more"
    with pytest.raises(PatchError, match=f"nothing that is compiled here, only {names}"):
        resolve(f"{whole}@whole", [patch])


def test_many_that_are_passed_over_are_told_in_one_line(whole: Path, tmp_path: Path) -> None:
    for name in (*OUTSIDE, FFA):
        commit(whole, name)
    git(whole, "format-patch", "-q", "-o", str(tmp_path / "s"), "whole")
    [note] = resolve(f"{whole}@whole", [tmp_path / "s"]).notes
    assert note.startswith("passed over: 8 of 9 patches, which change nothing")
    assert note.endswith("and 5 more")


def test_what_of_a_patch_lies_inside_is_applied(whole: Path, tmp_path: Path) -> None:
    commit(whole, *OUTSIDE, "xen/arch/riscv/new/file.c", FFA, "xen/Makefile")
    for options in ([], ["--no-prefix"]):
        patch = write(tmp_path, git(whole, "diff", *options, "whole"))
        tree = resolve(f"{whole}@whole", [patch])
        assert tree.notes == ()
        for name in (FFA, "xen/Makefile"):
            assert (tree.root / name).read_text() == (whole / name).read_text()
        assert not list((tree.root / "xen/arch").glob("[xr]*"))


@pytest.mark.parametrize("name", ["Makefile", "scripts/Kbuild.include", "include/xen/lib.h"])
@pytest.mark.parametrize("options", [[], ["--no-prefix"]], ids=["a/", "no prefix"])
def test_a_patch_that_is_relative_to_xen_is_known_by_what_it_changes(
    whole: Path, tmp_path: Path, name: str, options: list[str]
) -> None:
    commit(whole, f"xen/{name}")
    patch = write(tmp_path, git(whole, "diff", *options, "--relative=xen", "whole"))
    tree = resolve(f"{whole}@whole", [patch])
    assert (tree.root / "xen" / name).read_text() == f"{(whole / 'xen' / name).read_text()}"


def test_a_series_may_change_what_it_made_before(whole: Path, tmp_path: Path) -> None:
    made = ("xen/arch/arm/tee/made/here.c", "xen/include/xen/here.h")
    for number in range(3):
        commit(whole, made[0])
        commit(whole, made[number % 2], "docs/ffa.md")
    for options in ([], ["--no-prefix"], ["--relative=xen"]):
        series = git(whole, "format-patch", "--stdout", *options, "whole")
        tree = resolve(f"{whole}@whole", [write(tmp_path, series)])
        for name in made:
            assert (tree.root / name).read_text() == (whole / name).read_text()


def test_a_file_that_moves_out_of_the_copy_is_removed(whole: Path, tmp_path: Path) -> None:
    git(whole, "mv", "xen/arch/arm/tee/old.c", "xen/arch/x86/old.c")
    commit(whole, "docs/ffa.md")
    patch = write(tmp_path, git(whole, "format-patch", "--stdout", "-M", "whole"))
    tree = resolve(f"{whole}@whole", [patch])
    assert not (tree.root / "xen/arch/arm/tee/old.c").exists()
    assert not (tree.root / "xen/arch/x86").exists()


def test_a_file_that_moves_in_is_asked_for_in_full(whole: Path, tmp_path: Path) -> None:
    git(whole, "mv", "xen/arch/x86/setup.c", "xen/arch/arm/setup.c")
    commit(whole, FFA)
    moved = write(tmp_path, git(whole, "format-patch", "--stdout", "-M", "whole"))
    with pytest.raises(PatchError, match=r"x86/setup\.c, which is not kept(.|\n)*--no-renames"):
        resolve(f"{whole}@whole", [moved])
    full = write(tmp_path, git(whole, "format-patch", "--stdout", "--no-renames", "whole"))
    tree = resolve(f"{whole}@whole", [full])
    assert (tree.root / "xen/arch/arm/setup.c").read_text() == "xen/arch/x86/setup.c\n"


def test_a_mode_alone_may_change_and_may_be_so_already(whole: Path, tmp_path: Path) -> None:
    (whole / FFA).chmod(0o755)
    git(whole, "commit", "-qam", "make it executable")
    patch = write(tmp_path, git(whole, "format-patch", "--stdout", "whole"))
    for revision in ("whole", "master"):
        assert (resolve(f"{whole}@{revision}", [patch]).root / FFA).stat().st_mode & 0o100


def test_pictures_outside_do_not_matter(whole: Path, tmp_path: Path) -> None:
    (whole / "docs/picture.png").write_bytes(bytes(range(256)))
    commit(whole, FFA)
    for options in ([], ["--binary"]):
        patch = write(tmp_path, git(whole, "diff", *options, "whole"))
        tree = resolve(f"{whole}@whole", [patch])
        assert (tree.root / FFA).read_text() == (whole / FFA).read_text()


def test_each_hunk_that_fails_is_named_with_file_and_line(repository: Path, tmp_path: Path) -> None:
    edit(repository, {3: "x", 20: "y", 50: "z"})
    diff = git(repository, "diff").replace(" int line_17;", " int other;")
    patch = write(tmp_path, diff.replace(" int line_53;", " int other;"), "bad.diff")
    with pytest.raises(PatchError) as error:
        resolve(f"{repository}@master", [patch])
    assert str(error.value).splitlines() == [
        "bad.diff does not apply:",
        f"  {FFA}: hunk 2, at line 17, does not match the tree",
        f"  {FFA}: hunk 3, at line 47, does not match the tree",
    ]


def test_a_mail_that_fails_is_named_by_its_subject(repository: Path, tmp_path: Path) -> None:
    mails = git(repository, "format-patch", "--stdout", "base..master")
    patch = write(tmp_path, mails.replace(" int line_41;", " int other;"), "series.mbox")
    with pytest.raises(PatchError, match=r"(?s)series\.mbox: .*2/2\] change forty.*hunk 2"):
        resolve(f"{repository}@base", [patch])


def test_a_patch_of_a_missing_file_names_it(repository: Path, tmp_path: Path) -> None:
    patch = write(tmp_path, git(repository, "diff", "base", "master").replace("ffa.c", "gone.c"))
    with pytest.raises(PatchError, match=r"tee/gone\.c: No such file"):
        resolve(f"{repository}@base", [patch])


def test_a_patch_that_is_there_already_is_recognised(repository: Path, tmp_path: Path) -> None:
    patch = write(tmp_path, git(repository, "diff", "base", "master"))
    with pytest.raises(PatchError, match="already in this tree"):
        resolve(f"{repository}@master", [patch])


def test_a_damaged_patch_is_named(repository: Path, tmp_path: Path) -> None:
    diff = git(repository, "diff", "base", "master")
    with pytest.raises(PatchError, match=r"cut\.diff is damaged.*line \d+"):
        resolve(f"{repository}@base", [write(tmp_path, diff[:-30], "cut.diff")])


@pytest.mark.parametrize("content", ["", "hello\n", "From: a\nSubject: b\n\ntext\n", b"\0\xff\0"])
def test_a_file_without_a_diff_is_refused(
    repository: Path, tmp_path: Path, content: str | bytes
) -> None:
    with pytest.raises(PatchError, match=r"my\.patch holds no patch"):
        resolve(f"{repository}@base", [write(tmp_path, content)])


def test_an_empty_directory_and_a_missing_file_are_refused(
    repository: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(PatchError, match=r"no \*\.patch file"):
        resolve(repository, [tmp_path / "empty"])
    with pytest.raises(PatchError, match=r"cannot read the patch .*gone"):
        resolve(repository, [tmp_path / "gone"])


def test_a_failed_patch_leaves_no_tree_behind(repository: Path, tmp_path: Path) -> None:
    patch = write(tmp_path, git(repository, "diff", "base", "master"))
    with pytest.raises(PatchError):
        resolve(repository, [patch])
    assert list((tmp_path / "cache/trees").iterdir()) == []


def test_a_cache_inside_a_repository_does_not_stop_git(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a subdirectory of a work tree git would skip every file and report success."""
    monkeypatch.setenv("FFASHIM_CACHE", str(repository / "build/cache"))
    patch = write(tmp_path, git(repository, "diff", "base", "master"))
    tree = resolve(f"{repository}@base", [patch])
    assert (tree.root / FFA).read_text() == (repository / FFA).read_text()


def test_a_patch_cannot_write_outside_the_copy(repository: Path, tmp_path: Path) -> None:
    diff = "--- /dev/null\n+++ b/xen/../../../escaped\n@@ -0,0 +1 @@\n+text\n"
    with pytest.raises(PatchError):
        resolve(f"{repository}@base", [write(tmp_path, diff)])
    assert not list(tmp_path.rglob("escaped"))
