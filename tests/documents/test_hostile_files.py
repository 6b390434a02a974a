"""Hostile files end in bounded time and memory, are named, and never stop the files beside them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hostile_files import KINDS, file_name

from rlm.runtime.reading import load

MAX_SECONDS = 60


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_files_are_bounded_and_named(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_CACHE_DIR", str(tmp_path / "cache"))
    folder = tmp_path / "in"
    folder.mkdir()
    names = []
    for key, data in KINDS[kind]().items():
        names.append(file_name(kind, key))
        (folder / names[-1]).write_bytes(data)
    (folder / "zz.txt").write_text("the rest is read")
    start = time.monotonic()
    documents = load(folder, cache=False)
    assert time.monotonic() - start < MAX_SECONDS
    assert documents[f"{folder}/zz.txt"].text == "the rest is read"
    reported = [item.path for item in documents.left_out] + [document.path for document in documents]
    for name in names:
        assert any(os.path.relpath(path, folder).startswith(name) for path in reported), name
    assert not any("root:" in document.text for document in documents)
    assert documents.chars < 50_000_000
