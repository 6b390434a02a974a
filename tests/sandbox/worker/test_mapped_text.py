"""Text that is decoded when it is used behaves like a ``str`` of the whole text."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from rlm.sandbox.worker.boot import file_blocks
from rlm.sandbox.worker.lookahead.copies import set_methods
from rlm.sandbox.worker.repl import mapped_search, mapped_text, text_parts
from rlm.sandbox.worker.repl.mapped_text import MappedText

OPERATIONS = """
len(c) | bool(c) | isinstance(c, str) | c[:5] | c[-5:] | c[3:50] | c[3:50:7] | c[::-1] | c[-60:-3] | c[5:-5]
c[10**6:] | c[7:3] | c[0] | c[-1] | c[99999] | c.find("a") | c.find("é") | c.find("b", 7) | c.find("b", 7, 20)
c.find("b", -20, -3) | c.rfind("a") | c.rfind("é", 3, 40) | c.count("a") | c.count("ab") | c.count("aa")
c.count("") | c.count("\\n", 2, 70) | c.index("zz") | "ab" in c | "é😀" in c | "zz" in c | 3 in c | list(c)
list(c.split("\\n")) | list(c.splitlines()) | list(c.splitlines(True)) | list(c.split()) | list(c.split("ab"))
c.split("a", 2) | c.split(None, 0) if c.isascii() else 0 | c.split("") | len(c.splitlines()) | c.splitlines()[0]
c.splitlines()[-1] | c.splitlines()[1:9] | c.splitlines()[::-1] | c.split("a")[3:7] | c.splitlines()[99999]
[m.span() for m in re.finditer("a+", c)] | re.findall(r"\\w+", c) | re.findall("(a)(b)?", c)
[m.span() for m in re.finditer("x*", c)] | [m.span() for m in re.finditer("(?m)^.*$", c)]
[m.span() for m in re.finditer("(?<=a)b", c)] | [m.span() for m in re.finditer("^a|b$", c)]
re.compile("b").search(c, 9).span() | re.search("a(b)?", c).groups() | re.match("a", c).span()
re.search("(?P<x>a)(b)?", c).groupdict() | re.search("(a)(b)?", c).group(1, 2)
re.search("é", c)[0] | [m.span() for m in re.compile("a").finditer(c, 5, 50)]
re.compile("a").search(string=c).start() | c == t | c == t + "x" | c != t | c.startswith(t[:3])
c.startswith("b", 1) | c.endswith(t[-3:]) | c.startswith(("q", "a")) | c < "b" | c > "b" | c == 3
"""


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pieces of a few bytes, so that short texts have many, and patterns as they were before."""
    originals = {name: getattr(re.Pattern, name) for name in ("search", "match", "fullmatch", "findall", "finditer")}
    originals |= {name: getattr(re.Pattern, name) for name in ("split", "sub", "subn")}
    monkeypatch.setattr(file_blocks, "BLOCK_BYTES", 64)
    monkeypatch.setattr(mapped_text, "BLOCK_BYTES", 64)
    monkeypatch.setattr(mapped_text, "WINDOW_BYTES", 128)
    monkeypatch.setattr(mapped_search, "WINDOW_BYTES", 512)
    monkeypatch.setattr(mapped_search, "TAIL_CHARS", 64)
    monkeypatch.setattr(mapped_search, "LEAD_CHARS", 8)
    monkeypatch.setattr(text_parts, "PIECE_BYTES", 128)
    mapped_search.install()
    yield
    set_methods(re.Pattern, originals)
    mapped_search._originals.clear()


def mapped(folder: Path, data: bytes) -> MappedText:
    file = folder / "text"
    file.write_bytes(data)
    return MappedText(os.open(file, os.O_RDONLY), len(data))


def texts() -> Iterator[str]:
    rng = random.Random(3)
    for size in (1, 63, 64, 65, 200, 1000, 4000):
        yield "".join(rng.choice("abc \n") for _ in range(size))
        yield "".join(rng.choice("abc \n\r,.éЖ€😀\x85\u2028") for _ in range(size))
        yield "".join(rng.choice("ab\n") for _ in range(size // 2)) + "é😀" + ("x" * 30 + "\n") * (size // 62)


def outcome(operation: str, context: object, text: str) -> object:
    try:
        return eval(operation, {"c": context, "t": text, "re": re})
    except Exception as error:  # the same kind of error is the same behaviour
        return type(error)


@pytest.mark.parametrize("text", tuple(texts()), ids=lambda text: f"{len(text)}-{len(text.encode())}")
def test_mapped_text_behaves_like_str(tmp_path: Path, text: str) -> None:
    for operation in OPERATIONS.replace("\n", " | ").split(" | "):
        if operation.strip():
            context = mapped(tmp_path, text.encode())  # with nothing counted yet
            expected = outcome(operation.strip(), text, text)
            assert outcome(operation.strip(), context, text) == expected, operation


def test_copy_of_ascii_is_a_view(tmp_path: Path) -> None:
    text = mapped(tmp_path, b"abc\n" * 100)
    assert type(str(text)) is str
    assert (str(text), text.upper(), f"{text}x") == ("abc\n" * 100, "ABC\n" * 100, "abc\n" * 100 + "x")
    assert "y" + text == "y" + "abc\n" * 100
    assert re.sub("a", "q", cast("str", text)) == "qbc\n" * 100


def test_copy_of_other_text_is_refused(tmp_path: Path) -> None:
    text = mapped(tmp_path, "abcé\n".encode() * 100)
    with pytest.raises(MemoryError, match="use slices"):
        str(text)
    with pytest.raises(MemoryError, match="use slices"):
        text.upper()


def test_wrong_byte_is_named_when_it_is_reached(tmp_path: Path) -> None:
    text = mapped(tmp_path, b"a" * 1000 + b"\xff" + b"b" * 100)
    assert text[:10] == "a" * 10
    with pytest.raises(ValueError, match="byte 0xff at offset 1,000"):
        len(text)


def test_counts_of_another_process_continue_the_index(tmp_path: Path) -> None:
    data = "éa😀\n".encode() * 100
    first, second = mapped(tmp_path, data)._blocks, mapped(tmp_path, data)._blocks
    for _ in range(5):
        first.count_next()
    second.count_next()
    second.add_counts(0, first.counts(0))
    assert (second.counted, second.counts(0)) == (5, first.counts(0))
    second.add_counts(9, first.counts(0))  # a gap is not filled
    assert second.counted == 5
    assert second.total_chars() == first.total_chars() == 400
