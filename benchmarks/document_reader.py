"""Reads all files of a folder with one converter and writes the texts as JSON: ``python document_reader.py READER FOLDER OUT``.

Runs in the converter's own environment, so it imports nothing of this repository but the package itself.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

Text = dict[str, object]


def _one_by_one(files: list[Path], read: Callable[[str], str]) -> dict[str, list[Text]]:
    texts: dict[str, list[Text]] = {}
    for file in files:
        try:
            texts[file.name] = [{"text": read(str(file)), "places": []}]
        except Exception as error:  # a peer that fails has no text
            texts[file.name] = [{"text": "", "places": [], "error": f"{type(error).__name__}: {error}"[:300]}]
    return texts


def read_markitdown(files: list[Path]) -> dict[str, list[Text]]:
    from markitdown import MarkItDown

    converter = MarkItDown()
    return _one_by_one(files, lambda path: converter.convert(path).text_content)


def read_kreuzberg(files: list[Path]) -> dict[str, list[Text]]:
    import kreuzberg

    config = kreuzberg.ExtractionConfig(
        use_cache=False,
        pages=kreuzberg.PageConfig(extract_pages=True, insert_page_markers=True),
        output_format="markdown",
    )
    return _one_by_one(files, lambda path: kreuzberg.extract_file_sync(path, config=config).content)


def read_arbor(files: list[Path]) -> dict[str, list[Text]]:
    import rlm

    texts: dict[str, list[Text]] = {file.name: [] for file in files}
    for document in rlm.load(*files, cache=False):
        name = Path(document.path.partition("!/")[0]).name
        texts[name].append({"text": document.text, "places": [[place.start, place.label] for place in document.places]})
    return texts


READERS = {"arbor": read_arbor, "markitdown": read_markitdown, "kreuzberg": read_kreuzberg}


def main() -> None:
    warnings.simplefilter("ignore")
    name, folder, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    files = sorted(path for path in folder.iterdir() if path.is_file())
    READERS[name](files[:1])  # imports, and whatever starts once
    start = time.perf_counter()
    texts = READERS[name](files)
    seconds = time.perf_counter() - start
    out.write_text(json.dumps({"seconds": seconds, "texts": texts}))


if __name__ == "__main__":
    main()
