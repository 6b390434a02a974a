"""Files, folders and standard input become a context; files that cannot be read are named."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from rlm.cli.reading import ReadingFlags, describe_reading, is_path, list_documents, read_input, reread
from rlm.core.errors import ConfigurationError, ContextError
from rlm.documents import large_text
from rlm.sandbox.shared_memory import is_file


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_CACHE_DIR", str(tmp_path / ".cache"))


def test_one_file_is_its_text(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes("Grüße\r\nzwei\n".encode())
    assert read_input([str(file)], None).context.context == "Grüße\r\nzwei\n"  # type: ignore[attr-defined]


def test_several_files_become_dict_in_given_order(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).write_text(name.upper())
    sources = [str(tmp_path / "b"), str(tmp_path / "a"), str(tmp_path / "b")]
    read = read_input(sources, None)
    assert read.documents is not None
    assert list(read.documents.context.items()) == [(sources[0], "B"), (sources[1], "A")]  # type: ignore[union-attr]
    assert read.sources == tuple(sources[:2])


def test_odd_files_are_noted_and_skipped(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    (folder / ".git").mkdir()
    (folder / "z.txt").write_text("z")
    (folder / "sub" / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    (folder / "sub" / "raw.dat").write_bytes(bytes(range(256)))
    (folder / ".env").write_text("SECRET=1")
    (folder / ".git" / "config").write_text("hidden")
    os.mkfifo(folder / "pipe")  # opening it would wait for ever
    (folder / "loop").symlink_to(folder)
    (folder / "dangling").symlink_to(folder / "nothing")
    (folder / "sealed.txt").write_text("sealed")
    documents = read_input([str(folder)], None).documents
    assert documents is not None
    assert {os.path.relpath(item.path, folder): item.text for item in documents} == {
        "z.txt": "z",
        "sealed.txt": "sealed",
    }
    left_out = {os.path.relpath(item.path, folder) for item in documents.left_out}
    assert left_out == {"sub/image.png", "sub/raw.dat", "pipe", "dangling"}
    table = list_documents(documents)
    assert "left out" in table
    assert "an image" in table
    assert "4 more" not in describe_reading(documents)
    assert "and 1 more" in describe_reading(documents)


def test_filters_choose_files_and_sources(tmp_path: Path) -> None:
    for name in ("a.md", "b.md", "c.txt", ".hidden.md"):
        (tmp_path / name).write_text(name)
    flags = ReadingFlags(include=("*.md",), exclude=("b.*",), no_ignore=True)
    read = read_input([str(tmp_path)], None, flags)
    assert sorted(Path(source).name for source in read.sources) == [".hidden.md", "a.md"]
    assert reread(read.sources, "") == read.documents.context  # type: ignore[union-attr]


def test_patterns_name_files(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("A")
    read = read_input([str(tmp_path / "*.md")], None)
    assert read.documents is not None
    assert read.documents.context == "A"
    with pytest.raises(ContextError, match="no file matches"):
        read_input([str(tmp_path / "*.rst")], None)


@pytest.mark.parametrize("sources", [[], ["-"], ["/dev/stdin"]])
def test_standard_input_is_read_when_piped(sources: list[str]) -> None:
    read = read_input(sources, io.BytesIO(b"piped"))
    assert read.documents is not None
    assert read.documents.context == "piped"
    assert reread(read.sources, "") is None


def test_files_leave_standard_input_alone(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("A")
    stdin = io.BytesIO(b"not asked for")
    read_input([str(tmp_path / "a")], stdin)
    assert stdin.tell() == 0


@pytest.mark.parametrize("sources", [[], ["-"]])
def test_nothing_to_read_is_an_error_of_usage(sources: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="nothing"):
        read_input(sources, None)


def test_empty_input_is_an_error() -> None:
    with pytest.raises(ContextError, match="no text to ask about"):
        read_input(["-"], io.BytesIO(b" \n"))


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-8-sig"])
def test_encodings_are_detected(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "odd.txt"
    file.write_bytes("déjà vu at the café".encode(encoding))
    assert read_input([str(file)], None).documents.context == "déjà vu at the café"  # type: ignore[union-attr]


@pytest.mark.parametrize("encoding", ["klingon", "base64", "rot13", "utf\x00-8", ""])
def test_an_unknown_encoding_is_an_error_of_usage(encoding: str) -> None:
    with pytest.raises(ConfigurationError, match="encoding"):
        read_input(["-"], io.BytesIO(b"x"), ReadingFlags(encoding=encoding))


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ContextError, match="No such file"):
        read_input([str(tmp_path / "no such thing")], None)
    with pytest.raises(ContextError, match="null"):
        read_input(["nul\0name"], None)


@pytest.mark.parametrize("name", ["x" * 260, "nul\0name", "a/" * 3000, "", "\ud800"])
def test_questions_are_not_paths(name: str) -> None:
    assert not is_path(name) or not name


def test_large_text_is_handed_over_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_text, "OPEN_FILE_BYTES", 1000)
    file = tmp_path / "large.txt"
    file.write_text("line of text\n" * 100)
    read = read_input([str(file)], None)
    assert is_file(read.context)
    read.context.close()
    assert (read.documents, read.sources) == (None, (str(file),))
    for other in ("latin.txt", "page.html", "data.csv"):
        (tmp_path / other).write_bytes(b"<html> caf\xe9, or so\n" * 100)
        assert read_input([str(tmp_path / other)], None).documents is not None
