"""Files are found in folders, patterns and repositories; ignore rules hold as in git."""

from __future__ import annotations

import io
import os
import subprocess
from pathlib import Path

import pytest

from rlm.core.errors import ConfigurationError, ContextError
from rlm.documents.download import is_public
from rlm.documents.sources import Listing, list_files


def make(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def names(listing: Listing, root: Path) -> list[str]:
    return [os.path.relpath(file.name, root) for file in listing.files]


def test_nested_ignore_files_agree_with_git(tmp_path: Path) -> None:
    files = {
        ".gitignore": "*.log\n!keep.log\n/build/\ndocs/*.tmp\n", "a.log": "", "keep.log": "", "build/x.txt": "",
        "sub/build/y.txt": "",
        "docs/a.tmp": "", "docs/deep/b.tmp": "", "sub/.gitignore": "!a.log\nsecret.txt\n", "sub/a.log": "", "sub/secret.txt": "",
        "secret.txt": "", "sub/deeper/secret.txt": "", "sub/deeper/.gitignore": "!secret.txt\n", "ä ö.txt": "",
    }  # fmt: skip
    root = make(tmp_path / "repo", files)
    subprocess.run(["git", "init", "-q", root], check=True)
    command = ["git", "-C", str(root), "-c", "core.quotePath=false", "ls-files", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    visible = sorted(name for name in listed if not Path(name).name.startswith("."))
    assert sorted(names(list_files([root]), root)) == visible


def test_rules_of_folders_above_apply_inside_a_repository(tmp_path: Path) -> None:
    root = make(tmp_path / "repo", {".gitignore": "*.log\n", "sub/a.log": "", "sub/b.txt": ""})
    subprocess.run(["git", "init", "-q", root], check=True)
    assert names(list_files([root / "sub"]), root / "sub") == ["b.txt"]


def test_no_ignore_reads_hidden_and_ignored_files(tmp_path: Path) -> None:
    root = make(tmp_path, {".ignore": "x.txt\n", "x.txt": "", ".hidden/y.txt": "", "node_modules/z.js": ""})
    assert names(list_files([root]), root) == []
    assert names(list_files([root], no_ignore=True), root) == [".hidden/y.txt", ".ignore", "x.txt"]


def test_include_and_exclude_select_files(tmp_path: Path) -> None:
    root = make(tmp_path, {"a.pdf": "", "b.txt": "", "old/c.pdf": "", "deep/er/d.pdf": ""})
    assert names(list_files([root], include=["*.pdf"], exclude=["old/"]), root) == ["a.pdf", "deep/er/d.pdf"]


def test_patterns_name_files(tmp_path: Path) -> None:
    root = make(tmp_path, {"a.txt": "", "b.md": "", "sub/c.txt": "", "we[ird].txt": ""})
    assert names(list_files([f"{root}/*.txt"]), root) == ["a.txt", "we[ird].txt"]
    assert names(list_files([f"{root}/**/*.txt"]), root) == ["a.txt", "sub/c.txt", "we[ird].txt"]
    assert names(list_files([f"{root}/we[ird].txt"]), root) == ["we[ird].txt"]
    with pytest.raises(ContextError, match="no file matches"):
        list_files([f"{root}/*.pdf"])


def test_missing_sources_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ContextError, match="cannot read"):
        list_files([tmp_path / "missing.txt"])
    with pytest.raises(ContextError, match="cannot read"):
        list_files(["a\0b"])
    with pytest.raises(ContextError, match="device"):
        list_files(["/dev/null"])


def test_broken_links_and_loops_are_left_out(tmp_path: Path) -> None:
    root = make(tmp_path, {"a.txt": "", "sub/b.txt": ""})
    (root / "dead").symlink_to(root / "nowhere")
    (root / "sub" / "loop").symlink_to(root)
    os.mkfifo(root / "pipe")
    listing = list_files([root])
    assert names(listing, root) == ["a.txt", "sub/b.txt"]
    assert sorted(os.path.relpath(item.path, root) for item in listing.left_out) == ["dead", "pipe"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_unreadable_folders_are_left_out(tmp_path: Path) -> None:
    root = make(tmp_path, {"a.txt": "", "shut/b.txt": ""})
    (root / "shut").chmod(0)
    assert [item.reason for item in list_files([root]).left_out] == ["cannot read: Permission denied"]


def test_standard_input_is_a_source() -> None:
    (file,) = list_files(["-"], stdin=io.BytesIO(b"piped")).files
    assert (file.name, file.data) == ("standard input", b"piped")
    with pytest.raises(ConfigurationError, match="nothing is piped"):
        list_files(["-"])


def test_git_repositories_are_cloned(tmp_path: Path) -> None:
    root = make(tmp_path / "origin", {"a.txt": "cloned"})
    for words in (["init", "-q"], ["add", "."], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "x"]):
        subprocess.run(["git", "-C", str(root), *words], check=True)
    with list_files([f"git+file://{root}"]) as listing:
        (file,) = listing.files
        assert (file.name, file.path.read_text() if file.path else "") == ("origin/a.txt", "cloned")
    assert file.path is not None
    assert not file.path.exists()
    with pytest.raises(ContextError, match="cannot clone"):
        list_files([f"git+file://{tmp_path}/nothing"])
    with pytest.raises(ContextError, match="cannot clone"):
        list_files(["git+ext::sh -c id"])


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True), ("127.0.0.1", False), ("10.1.2.3", False), ("169.254.169.254", False), ("192.168.0.1", False),
        ("::1", False), ("fe80::1%eth0", False), ("::ffff:127.0.0.1", False), ("0.0.0.0", False), ("2606:4700::1111", True),
        ("224.0.0.1", False), ("100.64.0.1", False), ("not an address", False),
    ],
)  # fmt: skip
def test_private_addresses_are_recognised(address: str, public: bool) -> None:
    assert is_public(address) is public
