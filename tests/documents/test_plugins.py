"""Converters of other packages: found by entry point, run in this process, and never fatal for other files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from office_kit import pdf, text_lines

from rlm.core.errors import ConfigurationError
from rlm.runtime.reading import load

MODULE = """
def pages(data, name):
    return f"{name.rpartition('/')[2]} has {len(data)} bytes\\fsecond page"

def broken(data, name):
    raise ValueError("no model")

def ocr(data, name):
    if data.startswith(b"%PDF-"):
        return "\\f".join(f"recognised {number}" for number in range(data.count(b"/Type /Page ")))
    return f"seen in {name.rpartition('/')[2]}"

def silent(data, name):
    return None

constant = 5
"""
POINTS = """[rlm.converters]
pages = other_package:pages
broken = other_package:broken
silent = other_package:silent
constant = other_package:constant
missing = other_package_without_file:pages
"""


@pytest.fixture(autouse=True)
def installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    info = site / "other_package-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "other_package.py").write_text(MODULE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(str(site))
    sys.modules.pop("other_package", None)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.pdf").write_bytes(b"%PDF-1.4 nothing")
    (tmp_path / "in" / "b.txt").write_text("plain text")


def test_named_converters_read_all_but_plain_text(tmp_path: Path) -> None:
    converted, plain = load(tmp_path / "in", converter="pages")
    assert converted.text == "a.pdf has 16 bytes\nsecond page\n"
    assert (converted.pages, converted.place_at(converted.text.index("second"))) == (2, "p. 2")
    assert plain.text == "plain text"


@pytest.mark.parametrize(
    ("name", "reason"),
    [("broken", "conversion failed: ValueError: no model"),
     ("silent", "conversion failed: the converter returned NoneType instead of text")],
)  # fmt: skip
def test_failures_of_converters_leave_one_file_out(name: str, reason: str, tmp_path: Path) -> None:
    documents = load(tmp_path / "in", converter=name)
    assert [item.reason for item in documents.left_out] == [reason]
    assert documents[0].text == "plain text"


def test_converters_can_read_images(tmp_path: Path) -> None:
    (tmp_path / "in" / "scan.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    documents = load(tmp_path / "in", converter="pages")
    assert "scan.png has 58 bytes" in documents[2].text


@pytest.mark.parametrize("name", ["unknown", "constant", "missing"])
def test_unusable_converters_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="`converter`"):
        load(tmp_path / "in", converter=name)


def test_scanned_pages_and_images_go_to_ocr(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "mixed.pdf").write_bytes(pdf([text_lines([(72, 700, "first")]), "", text_lines([(72, 700, "third")])]))
    (folder / "scan.pdf").write_bytes(pdf(["", ""]))
    (folder / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    assert [Path(item.path).name for item in load(folder).left_out] == ["a.pdf", "photo.png", "scan.pdf"]
    with (tmp_path / "site" / "other_package-1.0.dist-info" / "entry_points.txt").open("a") as points:
        points.write("ocr = other_package:ocr\n")
    documents = load(folder)
    assert [Path(item.path).name for item in documents.left_out] == ["a.pdf"]
    texts = {Path(item.path).name: item for item in documents}
    mixed = texts["mixed.pdf"]
    assert "[Recognised text]\nrecognised 1" in mixed.text
    assert [mixed.place_at(mixed.text.index(word)) for word in ("first", "recognised", "third")] == [
        "p. 1",
        "p. 2",
        "p. 3",
    ]
    assert mixed.notes == ("the converter 'ocr' recognised the text of 1 page",)
    assert texts["scan.pdf"].place_at(texts["scan.pdf"].text.index("recognised 1")) == "p. 2"
    assert texts["photo.png"].text == "seen in photo.png\n"
