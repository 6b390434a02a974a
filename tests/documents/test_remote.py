"""Addresses of other file systems are read by fsspec: files, folders and patterns."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlm.core.errors import ContextError
from rlm.documents.remote import show_address
from rlm.documents.sources import list_files
from rlm.runtime.reading import load

fsspec = pytest.importorskip("fsspec")
FILES = {
    "/deals/a.txt": b"alpha",
    "/deals/deep/b.csv": b"Team,Cups\nBlues,1\n",
    "/deals/.git/config": b"x",
    "/deals/c.bin": bytes(range(256)),
}


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_CACHE_DIR", str(tmp_path / "cache"))
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pipe(FILES)


def test_a_folder_is_read_with_its_places() -> None:
    documents = load("memory://deals")
    assert [(item.path, item.kind) for item in documents] == [
        ("memory:///deals/a.txt", "text"),
        ("memory:///deals/deep/b.csv", "csv"),
    ]
    assert [item.path for item in documents.left_out] == ["memory:///deals/c.bin"]
    assert documents.ignored == 1


def test_patterns_and_filters_choose_files() -> None:
    assert [item.name for item in list_files(["memory://deals/**/*.csv"]).files] == ["memory:///deals/deep/b.csv"]
    assert [item.name for item in list_files(["memory://deals"], include=["*.txt"]).files] == ["memory:///deals/a.txt"]
    assert [item.name for item in list_files(["memory://deals/a.txt"]).files] == ["memory:///deals/a.txt"]


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("memory://nowhere", "cannot read memory://nowhere: no such file or folder"),
        ("memory://deals/*.pdf", "no file matches memory://deals/"),
        ("unknown://bucket/a", "cannot read unknown://bucket/a: Protocol not known"),
    ],
)
def test_what_cannot_be_read_is_named(address: str, reason: str) -> None:
    with pytest.raises(ContextError) as caught:
        list_files([address])
    assert str(caught.value).startswith(reason)


def test_a_large_file_is_refused() -> None:
    (file,) = list_files(["memory://deals/deep/b.csv"]).files
    assert file.remote is not None
    assert file.remote.read(18) == FILES["/deals/deep/b.csv"]
    with pytest.raises(ContextError, match="larger than 17 bytes"):
        file.remote.read(17)


def test_credentials_of_an_address_are_not_shown() -> None:
    assert show_address("s3://key:secret@bucket/folder/a.pdf?token=x") == "s3://bucket/folder/a.pdf"
