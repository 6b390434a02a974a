"""Reads ten hostile files of each format, with one good file beside them, and prints what became of them.

    python -m benchmarks.hostile_documents [--only pdf,zip]

The files are those of ``tests/documents/hostile_files.py``. Every format is a folder, read by one call of ``rlm.load``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import rlm

GOOD = "The harbour fee is due in March.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="formats, with commas between them")
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "documents"))
    from hostile_files import KINDS, file_name  # noqa: PLC0415  a module of the tests, which is no package

    print("| format | files | read | named | good file | s |")
    print("|---|---|---|---|---|---|")
    for kind in options.only.split(",") if options.only else KINDS:
        with tempfile.TemporaryDirectory() as folder:
            files = {file_name(kind, name): data for name, data in KINDS[kind]().items()}
            for name, data in files.items():
                Path(folder, name).write_bytes(data)
            Path(folder, "zz good.txt").write_text(GOOD)
            start = time.perf_counter()
            documents = rlm.load(folder, cache=False)
            seconds = time.perf_counter() - start
            read = {Path(item.path.partition("!/")[0]).name for item in documents}
            named = {Path(item.path.partition("!/")[0]).name for item in documents.left_out}
            noted = {Path(item.path.partition("!/")[0]).name for item in documents if item.notes}
            missing = files.keys() - read - named
            is_good = any(item.text == GOOD for item in documents)
            row = [kind or "none", len(files), len(read & files.keys()), len((named | noted) & files.keys())]
            print(f"| {' | '.join(map(str, row))} | {'read' if is_good else 'LOST'} | {seconds:.1f} |", flush=True)
            if missing:
                raise SystemExit(f"lost in silence: {', '.join(sorted(missing))}")


if __name__ == "__main__":
    main()
