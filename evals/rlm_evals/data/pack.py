"""Builds the packed data from the original files: ``python -m rlm_evals.data.pack FOLDER``.

FOLDER has one folder per source. For maintainers; the package does not import this module.
"""

from __future__ import annotations

import html
import json
import lzma
import re
import sys
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).parent
Labelled = Iterable[tuple[str, str]]


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _sms(folder: Path) -> Labelled:
    for line in _read(folder / "sms_spam" / "sms.tsv").splitlines():
        label, _, text = line.partition("\t")
        yield label, html.unescape(text)


def _by_file(folder: Path, files: dict[str, str]) -> Labelled:
    for label, name in files.items():
        for line in _read(folder / name).splitlines():
            yield label, line


def _pros_cons(folder: Path) -> Labelled:
    for label, name in (("pro", "IntegratedPros.txt"), ("con", "IntegratedCons.txt")):
        for match in re.finditer(r"<(?:Pros|Cons)>(.*?)</(?:Pros|Cons)>", _read(folder / "liu_pros_cons" / name)):
            yield label, html.unescape(match[1])


def _write(name: str, text: str) -> None:
    path = HERE / f"{name}.xz"
    path.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
    print(f"{path.name}: {len(text.encode()):,} -> {path.stat().st_size:,} bytes")


def _write_labelled(name: str, rows: Labelled) -> None:
    """Packs all rows with line breaks removed. ``rlm_evals.pools`` filters them."""
    _write(name, "".join(f"{label}\t{' '.join(text.split())}\n" for label, text in rows))


def main() -> None:
    """Packs every source."""
    folder = Path(sys.argv[1])
    _write_labelled("sms_spam.tsv", _sms(folder))
    polarity = {"positive": "cornell_polarity/rt-polarity.pos", "negative": "cornell_polarity/rt-polarity.neg"}
    _write_labelled("cornell_polarity.tsv", _by_file(folder, polarity))
    kinds = {"subjective": "quote.tok.gt9.5000", "objective": "plot.tok.gt9.5000"}
    subjectivity = {label: f"cornell_subjectivity/{name}" for label, name in kinds.items()}
    _write_labelled("cornell_subjectivity.tsv", _by_file(folder, subjectivity))
    _write_labelled("liu_pros_cons.tsv", _pros_cons(folder))
    records = json.loads(_read(folder / "kev_cve_json" / "known_exploited_vulnerabilities.json"))["vulnerabilities"]
    _write("kev_cve.jsonl", "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    novel = _read(folder / "gutenberg_books" / "moby-dick_2701.txt")
    novel = novel[novel.index("CHAPTER 1. Loomings.", novel.index("EXTRACTS (Supplied") + 2000) :]
    novel = re.split(r"\n.*End of (?:the )?Project Gutenberg|\n\*\*\* ?END OF", novel, flags=re.IGNORECASE)[0]
    _write("moby_dick.txt", novel)


if __name__ == "__main__":
    main()
