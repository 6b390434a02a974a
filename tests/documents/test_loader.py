"""``rlm.load``: parsers run confined, one bad file never stops the others, and conversions are cached."""

from __future__ import annotations

import os
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from office_kit import docx, paragraph, pdf, text_lines, zipped

from rlm.core.errors import ContextError
from rlm.documents.cache import ConversionCache
from rlm.documents.loader import outcome_of, plan_groups
from rlm.documents.sources import SourceFile
from rlm.documents.values import document_from
from rlm.runtime.reading import load


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_CACHE_DIR", str(tmp_path / "cache"))


def fill(folder: Path) -> Path:
    folder.mkdir()
    (folder / "a.docx").write_bytes(docx(paragraph("The harbour fee is due in March.")))
    (folder / "b.pdf").write_bytes(
        pdf([text_lines([(72, 700, "Page one text")]), text_lines([(72, 700, "Page two text")])])
    )
    (folder / "c.csv").write_text("Team,Cups\nBlues,1\n")
    (folder / "d.txt").write_bytes("Größe: fünf".encode("cp1252"))
    (folder / "e.bin").write_bytes(bytes(range(256)))
    (folder / "f.docx").write_bytes(b"PK\x03\x04 damaged")
    (folder / "g.zip").write_bytes(zipped({"inside/h.txt": "packed"}))
    return folder


def test_a_folder_of_many_formats_is_read(tmp_path: Path) -> None:
    folder = fill(tmp_path / "in")
    documents = load(folder)
    texts = {os.path.relpath(document.path, folder): document.text for document in documents}
    assert list(texts) == ["a.docx", "b.pdf", "c.csv", "d.txt", "g.zip!/inside/h.txt"]
    assert (texts["d.txt"], texts["g.zip!/inside/h.txt"]) == ("Größe: fünf", "packed")
    assert {os.path.relpath(item.path, folder): item.reason.split(":")[0] for item in documents.left_out} == {
        "e.bin": "not text",
        "f.docx": "damaged ZIP structure",
    }
    second = documents[f"{folder}/b.pdf"]
    assert second.place_at(second.text.index("Page two")) == "p. 2"
    assert documents.summary().startswith("5 documents, 2 pages, ")


def test_a_single_document_is_a_text(tmp_path: Path) -> None:
    folder = fill(tmp_path / "in")
    assert load(folder / "c.csv").context == "Team,Cups\nBlues,1\n"
    assert isinstance(load(folder).context, dict)


def test_progress_counts_files_and_left_out(tmp_path: Path) -> None:
    seen: list[tuple[int, int, int]] = []
    load(fill(tmp_path / "in"), on_progress=lambda *counts: seen.append(counts))
    assert [done for done, _, _ in seen] == list(range(1, 8))
    assert seen[-1] == (7, 7, 2)


def test_conversions_are_cached_by_content(tmp_path: Path) -> None:
    folder = fill(tmp_path / "in")
    first = load(folder / "a.docx")
    cache = ConversionCache()
    assert cache.size_bytes() > 0
    (entry,) = cache.folder.glob("*/*")
    before = entry.stat().st_mtime_ns
    os.utime(entry, (1, 1))
    assert load(folder / "a.docx").context == first.context
    assert entry.stat().st_mtime_ns != 1_000_000_000 != before


def test_copies_of_one_file_have_their_own_paths(tmp_path: Path) -> None:
    folder = fill(tmp_path / "in")
    copies = [folder / "a.docx", folder / "copy.docx", folder / "sub" / "a.docx"]
    (folder / "sub").mkdir()
    for copy in copies[1:]:
        copy.write_bytes(copies[0].read_bytes())
    for _ in range(2):
        assert [document.path for document in load(*copies)] == [str(copy) for copy in copies]


def test_damaged_cache_entries_are_converted_again(tmp_path: Path) -> None:
    folder = fill(tmp_path / "in")
    text = load(folder / "a.docx").context
    for entry in ConversionCache().folder.glob("*/*"):
        entry.write_bytes(b"garbage")
    assert load(folder / "a.docx").context == text


def test_the_cache_stays_within_its_size(tmp_path: Path) -> None:
    cache = ConversionCache(tmp_path / "c", max_bytes=2_000)
    for number in range(20):
        cache.put(cache.key(str(number), "x.pdf"), {"documents": [os.urandom(400).hex()]})
    cache.prune()
    assert 0 < cache.size_bytes() <= 2_000


def test_sources_without_text_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text(" \n")
    with pytest.raises(ContextError, match="no text"):
        load(tmp_path / "empty.txt")
    with pytest.raises(ContextError, match="cannot read"):
        load(tmp_path / "missing.pdf")


def test_fifos_and_huge_sparse_files_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "ok.txt").write_text("fine")
    with (tmp_path / "sparse.pdf").open("wb") as sparse:
        sparse.write(b"%PDF-1.7")
        sparse.truncate(5_000_000_000)
    documents = load(tmp_path / "ok.txt", tmp_path / "sparse.pdf")
    assert documents.left_out[0].reason.startswith("larger than")


@pytest.mark.parametrize(
    "change",
    [
        {"text": 5}, {"places": [[99, "p"]]}, {"places": [[-1, "p"]]}, {"places": [[3, "b"], [1, "a"]]}, {"pages": "many"},
        {"tables": [{"columns": ["a"], "types": []}]}, {"places": [["x"]]},
    ],
)  # fmt: skip
def test_malformed_results_of_workers_are_refused(change: dict[str, Any]) -> None:
    result: dict[str, Any] = {
        "path": "a",
        "kind": "pdf",
        "text": "text",
        "places": [],
        "notes": [],
        "tables": [],
        "pages": None,
    }
    document_from(result, 0)
    with pytest.raises((ValueError, TypeError, KeyError)):
        document_from({**result, **change}, 0)


def test_small_files_are_read_in_groups(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number:02d}.docx").write_bytes(docx(paragraph(f"clause {number}")))
    (folder / "30.docx").write_bytes(b"PK\x03\x04 damaged")
    (folder / "31.eml").write_bytes(pdf_mail())
    documents = load(folder)
    assert [item.path.rpartition("/")[2] for item in documents.left_out] == ["30.docx"]
    assert documents[f"{folder}/59.docx"].text == "clause 59\n"
    assert "Inside the attachment" in documents[f"{folder}/31.eml!/a.pdf"].text
    assert [document.path for document in documents] == sorted(document.path for document in documents)


def pdf_mail() -> bytes:
    message = EmailMessage()
    message["Subject"] = "Needs a worker of its own"
    message.set_content("see the attachment")
    content = pdf([text_lines([(72, 700, "Inside the attachment")])])
    message.add_attachment(content, maintype="application", subtype="pdf", filename="a.pdf")
    return message.as_bytes()


def test_groups_leave_work_for_all_slots(tmp_path: Path) -> None:
    files = []
    for number in range(40):
        path = tmp_path / str(number)
        path.write_bytes(b"x" * (300_000 if number == 20 else 10))
        files.append(SourceFile(str(number), path))
    groups = list(plan_groups(files, 2))
    assert [file for group in groups for file in group] == files
    assert [files[20]] in groups
    assert max(map(len, groups)) == 10


def test_host_decodes_text_of_large_tables(tmp_path: Path) -> None:
    text = "Miasto;Kwota\n" + 'Łódź;"1,50"\n' * 120_000
    (tmp_path / "a.csv").write_bytes(text.encode("cp1250"))
    for _ in range(2):  # the second time from the cache
        (document,) = load(tmp_path / "a.csv")
        assert document.text == text
        assert (document.tables[0].rows, document.place_at(len(text) - 3)) == (120_000, "line 120001")
    assert ConversionCache().size_bytes() < 50_000


@pytest.mark.parametrize(
    "decoding",
    [["idna", "strict", 9, 9], ["utf-8", "strict", 9, 8], ["utf-8", "ignore", 9, 9], ["utf-8", "strict", 4, 9], [7]],
)
def test_untrusted_decodings_are_refused(tmp_path: Path, decoding: list[Any]) -> None:
    (tmp_path / "a.csv").write_text("Team,Cups")
    item = {
        "path": "a",
        "kind": "csv",
        "text": "",
        "decoding": decoding,
        "places": [],
        "notes": [],
        "tables": [],
        "pages": None,
    }
    with (tmp_path / "a.csv").open("rb") as opened:
        outcome = outcome_of({"documents": [item], "left_out": []}, "a", 9, opened)
    assert [item.reason.split(" (")[0] for item in outcome.left_out] == ["conversion failed: malformed result"]


def test_tables_can_exceed_the_text_limit(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("number\n" + "1234567\n" * 8_000_000)
    (document,) = load(tmp_path / "a.csv", cache=False)
    assert (len(document.text), document.tables[0].rows) == (64_000_007, 8_000_000)
