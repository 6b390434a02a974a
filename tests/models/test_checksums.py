"""Checksums of large files: right, computed once, and never believed of another file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from rlm.models.checksums import sha256_of

CONTENT = b"weights" * 1_000_000


def plant(folder: Path) -> str:
    """Changes the only cache entry, so that a read differs from a computation."""
    (entry,) = folder.iterdir()
    planted = "0" * 64
    entry.write_text(entry.read_text()[:-64] + planted)
    return planted


def test_unchanged_file_is_hashed_once(tmp_path: Path) -> None:
    path, notes = tmp_path / "weights", tmp_path / "notes"
    path.write_bytes(CONTENT)
    assert sha256_of(path, notes) == hashlib.sha256(CONTENT).hexdigest()
    planted = plant(notes)
    assert sha256_of(path, notes) == planted


def test_changed_file_is_hashed_again(tmp_path: Path) -> None:
    path, notes = tmp_path / "weights", tmp_path / "notes"
    path.write_bytes(CONTENT)
    sha256_of(path, notes)
    before = path.stat()
    with path.open("r+b") as file:  # the same size, inode and time, and one byte of 7 million
        file.seek(5_000_000)
        file.write(b"X")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert sha256_of(path, notes) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_broken_or_unwritable_cache_is_ignored(tmp_path: Path) -> None:
    path, notes = tmp_path / "weights", tmp_path / "notes"
    path.write_bytes(CONTENT)
    right = sha256_of(path, notes)
    for damage in (b"", b"\xff\x00", b"one line", CONTENT):
        next(notes.iterdir()).write_bytes(damage)
        assert sha256_of(path, notes) == right
    assert sha256_of(path, path / "not a folder") == right


def test_unusual_file_names_are_cached(tmp_path: Path) -> None:
    path, notes = tmp_path / os.fsdecode(b"a\xff\nb"), tmp_path / "notes"
    path.write_bytes(b"1")
    assert sha256_of(path, notes) == sha256_of(path, notes) == hashlib.sha256(b"1").hexdigest()
