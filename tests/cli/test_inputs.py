"""Files, folders and standard input become a context; what cannot be read is named."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from rlm.cli.inputs import STDIN_KEY, read_inputs
from rlm.core.errors import ConfigurationError, ContextError


def test_one_file_is_its_text(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes("Grüße\r\nzwei\n".encode())
    assert read_inputs([str(file)], None).context == "Grüße\r\nzwei\n"


def test_several_files_become_dict_in_given_order(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).write_text(name.upper())
    sources = [str(tmp_path / "b"), str(tmp_path / "a"), str(tmp_path / "b")]
    context = read_inputs(sources, None).context
    assert isinstance(context, dict)
    assert list(context.items()) == [(sources[0], "B"), (sources[1], "A")]


def test_folder_gives_text_files_and_skipped_names(tmp_path: Path) -> None:
    (tmp_path / "sub" / "deep").mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "z.txt").write_text("z")
    (tmp_path / "sub" / "deep" / "a.md").write_text("a")
    (tmp_path / "sub" / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    (tmp_path / "sub" / "raw.dat").write_bytes(bytes(range(256)))
    (tmp_path / "paper.pdf").write_bytes(b"%PDF-1.7 all ascii")
    (tmp_path / ".env").write_text("SECRET=1")
    (tmp_path / ".git" / "config").write_text("hidden")
    (tmp_path / "__pycache__" / "x.txt").write_text("made by a machine")
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for ever
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    inputs = read_inputs([str(tmp_path)], None)
    assert inputs.context == {str(tmp_path / "z.txt"): "z", str(tmp_path / "sub" / "deep" / "a.md"): "a"}
    assert len(inputs.notes) == 1
    assert "2 text files, 2 characters" in inputs.notes[0]
    assert "3 not text" in inputs.notes[0]
    assert "3 hidden or generated" in inputs.notes[0]


def test_folder_with_one_file_is_still_dict(tmp_path: Path) -> None:
    (tmp_path / "only.txt").write_text("text")
    assert read_inputs([str(tmp_path)], None).context == {str(tmp_path / "only.txt"): "text"}


def test_a_hidden_file_that_is_named_is_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=1")
    assert read_inputs([str(tmp_path / ".env")], None).context == "A=1"


@pytest.mark.parametrize("sources", [[], ["-"]])
def test_standard_input_is_read_when_piped(sources: list[str]) -> None:
    assert read_inputs(sources, io.BytesIO(b"piped")).context == "piped"


def test_standard_input_joins_files_in_dict(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("A")
    context = read_inputs(["-", str(tmp_path / "a")], io.BytesIO(b"piped")).context
    assert context == {STDIN_KEY: "piped", str(tmp_path / "a"): "A"}


def test_files_leave_standard_input_alone(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("A")
    stdin = io.BytesIO(b"not asked for")
    assert read_inputs([str(tmp_path / "a")], stdin).context == "A"
    assert stdin.tell() == 0


@pytest.mark.parametrize("sources", [[], ["-"]])
def test_nothing_to_read_is_an_error_of_usage(sources: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="nothing"):
        read_inputs(sources, None)


def test_empty_input_is_an_error() -> None:
    with pytest.raises(ContextError, match="no text in standard input"):
        read_inputs(["-"], io.BytesIO(b" \n"))


def test_undecodable_byte_is_reported_with_place(tmp_path: Path) -> None:
    file = tmp_path / "latin.txt"
    file.write_bytes(b"0123456789 caf\xe9 au lait")
    with pytest.raises(ContextError, match=r"latin\.txt is not utf-8: byte 0xe9 at offset 14\. .*--encoding cp1252"):
        read_inputs([str(file)], None)
    assert read_inputs([str(file)], None, encoding="latin-1").context == "0123456789 café au lait"


def test_folder_rejects_text_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("déjà vu".encode("latin-1"))
    with pytest.raises(ContextError, match="offset 1"):
        read_inputs([str(tmp_path)], None)


def test_utf_16_is_recognised_and_advised(tmp_path: Path) -> None:
    file = tmp_path / "wide.txt"
    file.write_bytes("wide".encode("utf-16"))
    with pytest.raises(ContextError, match="--encoding utf-16"):
        read_inputs([str(file)], None)
    assert read_inputs([str(file)], None, encoding="UTF-16").context == "wide"
    assert read_inputs([str(tmp_path)], None, encoding="utf-16").context == {str(file): "wide"}


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "bom.txt"
    file.write_bytes(b"\xef\xbb\xbftext")
    assert read_inputs([str(file)], None).context == "text"


def test_named_binary_file_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    with pytest.raises(ContextError, match="does not look like text"):
        read_inputs([str(file)], None)


@pytest.mark.parametrize("encoding", ["klingon", "base64", "rot13", "utf\x00-8", ""])
def test_an_unknown_encoding_is_an_error_of_usage(encoding: str) -> None:
    with pytest.raises(ConfigurationError, match="encoding"):
        read_inputs(["-"], io.BytesIO(b"x"), encoding=encoding)


def test_missing_file_is_named_without_control_characters(tmp_path: Path) -> None:
    with pytest.raises(ContextError, match=r"cannot read .*no such thing: No such file"):
        read_inputs([str(tmp_path / "no \x1b[31msuch thing")], None)
    with pytest.raises(ContextError, match="null"):
        read_inputs(["nul\0name"], None)
