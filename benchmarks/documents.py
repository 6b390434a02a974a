"""Time, memory and fidelity of ``rlm.load`` beside other converters, over a corpus with known content.

    python -m benchmarks.documents --writers PYTHON --peers PYTHON [--files 8] [--only pdf,docx] [--real FOLDER]

``--writers`` is an interpreter with python-docx, openpyxl, python-pptx, reportlab, odfpy and xlwt, ``--peers`` one with
markitdown and kreuzberg. Every measurement is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SAMPLE_SECONDS = 0.03
_MARKER = re.compile(
    r"<!-- (?:PAGE|Slide number:|slide) (?P<page>\d+)(?: \(hidden\))? -->"
    r"|^(?:## |\*\*)?(?P<sheet>(?:Quarter \d|North|South))(?:\*\*)?$",
    re.MULTILINE,
)
_SIGNS = str.maketrans({"|": " ", "*": "", "\\": "", ",": " ", ";": " ", '"': " ", "\u00a0": " "})


@dataclass(frozen=True)
class Score:
    """Shares of one reader over the files of one format."""

    seconds: float
    process_seconds: float
    peak_mb: float
    needles: float
    rows: float
    places: float


def measure(python: str, reader: str, folder: Path) -> tuple[dict[str, Any], float, float]:
    """Output of a reader process, its seconds, and the peak of the memory of all its processes in MB."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        start = time.perf_counter()
        process = subprocess.Popen(
            [python, str(HERE / "document_reader.py"), reader, str(folder), out.name],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        peak = 0
        while process.poll() is None:
            peak = max(peak, _tree_kb(process.pid))
            time.sleep(SAMPLE_SECONDS)
        seconds = time.perf_counter() - start
        if process.returncode:
            raise SystemExit(f"{reader} failed over {folder}")
        return json.loads(Path(out.name).read_bytes()), seconds, peak / 1024


def _tree_kb(pid: int) -> int:
    """Proportional memory of a process and its descendants: shared pages count once."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0
    match = re.search(r"^Pss:\s+(\d+)", rollup, re.MULTILINE)
    return (int(match.group(1)) if match else 0) + sum(_tree_kb(int(child)) for child in children)


def score(texts: dict[str, list[dict[str, Any]]], truth: dict[str, Any], folder: str) -> tuple[float, float, float]:
    """Shares of needles, rows and places that the texts show."""
    found = {"needles": 0, "rows": 0, "places": 0}
    total = dict.fromkeys(found, 0)
    for name, facts in truth.items():
        if not name.startswith(folder + "/"):
            continue
        documents = [_Searchable(item) for item in texts.get(name.partition("/")[2], [])]
        for kind in ("needles", "rows"):
            for wanted, place in facts[kind]:
                found_place = next((at for document in documents if (at := document.find(wanted)) is not None), None)
                total[kind] += 1
                found[kind] += found_place is not None
                if place:
                    total["places"] += 1
                    found["places"] += found_place == place or (found_place or "").startswith(f"sheet {place}")
    shares = [found[kind] / total[kind] if total[kind] else float("nan") for kind in found]
    return shares[0], shares[1], shares[2]


class _Searchable:
    """A text without markup and with single spaces, and the place of each offset."""

    def __init__(self, document: dict[str, Any]) -> None:
        text = document["text"]
        places = document["places"] or [
            [match.start(), f"p. {match['page']}" if match["page"] else match["sheet"]]
            for match in _MARKER.finditer(text)
        ]
        self.starts, self.labels = [], []
        parts, length, done = [], 0, 0
        for start, label in [*places, [len(text), ""]]:
            part = " ".join(text[done:start].translate(_SIGNS).split()) + " "
            parts.append(part)
            length += len(part)
            done = start
            self.starts.append(length)
            self.labels.append(label)
        self.text = "".join(parts)
        self.lines = [(" ".join(line.translate(_SIGNS).split())) for line in text.splitlines()]

    def find(self, wanted: str | list[str]) -> str | None:
        if isinstance(wanted, list):
            cells = [" ".join(cell.translate(_SIGNS).split()) for cell in wanted]
            if not any(_holds(line, cells) for line in self.lines):
                return None
            at = self.text.find(cells[0])
        else:
            at = self.text.find(" ".join(wanted.translate(_SIGNS).split()))
        if at < 0:
            return None
        number = bisect_right(self.starts, at) - 1
        label = self.labels[number] if number >= 0 else ""
        return label.replace("slide ", "p. ") if label.startswith("slide ") else label


def _holds(line: str, cells: list[str]) -> bool:
    at = 0
    for cell in cells:
        at = line.find(cell, at)
        if at < 0:
            return False
        at += len(cell)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--writers", required=True, help="interpreter that writes the corpus")
    parser.add_argument("--peers", help="interpreter with markitdown and kreuzberg")
    parser.add_argument("--files", type=int, default=8, help="of each format")
    parser.add_argument("--only", default="", help="formats, with commas between them")
    parser.add_argument("--real", type=Path, help="folder of other files: time and memory alone")
    options = parser.parse_args()
    readers = {
        "arbor": sys.executable,
        **(dict.fromkeys(("markitdown", "kreuzberg"), options.peers) if options.peers else {}),
    }
    with tempfile.TemporaryDirectory() as temporary:
        corpus = Path(temporary)
        subprocess.run(
            [options.writers, str(HERE / "document_corpus.py"), str(corpus), "--files", str(options.files)], check=True
        )
        truth = json.loads((corpus / "truth.json").read_text())
        truth = {
            name: {
                kind: [(wanted, place.replace("slide ", "p. ")) for wanted, place in facts[kind]]
                for kind in ("needles", "rows")
            }
            for name, facts in truth.items()
        }
        print("| format | reader | ms a file | process, s | peak MB | sentences | rows | places |")
        print("|---|---|---|---|---|---|---|---|")
        only = options.only.split(",") if options.only else sorted({name.partition("/")[0] for name in truth})
        for kind in only:
            for reader, python in readers.items():
                result, seconds, peak = measure(python, reader, corpus / kind)
                shares = score(result["texts"], truth, kind)
                _print_row(kind, reader, result["seconds"] / options.files, seconds, peak, shares)
        if options.real:
            count = sum(path.is_file() for path in options.real.iterdir())
            for reader, python in readers.items():
                result, seconds, peak = measure(python, reader, options.real)
                _print_row(f"{count} real files", reader, result["seconds"] / count, seconds, peak, ())


def _print_row(kind: str, reader: str, each: float, process: float, peak: float, shares: tuple[float, ...]) -> None:
    cells = ["" if share != share else f"{share:.0%}" for share in shares] or ["", "", ""]
    print(f"| {kind} | {reader} | {each * 1000:.1f} | {process:.2f} | {peak:.0f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
