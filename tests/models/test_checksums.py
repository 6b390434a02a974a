"""Checksums of large files: right, computed once, and never believed of another file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from rlm.models.checksums import sha256_of

CONTENT = b"weights" * 1_000_000


def plant(note_folder: Path) -> str:
    """Changes the only note, so that whoever reads it can be told from who computes."""
    (note,) = note_folder.iterdir()
    planted = "0" * 64
    note.write_text(note.read_text()[:-64] + planted)
    return planted


def test_the_sum_is_computed_once_for_a_file_that_does_not_change(tmp_path: Path) -> None:
    path, notes = tmp_path / "weights", tmp_path / "notes"
    path.write_bytes(CONTENT)
    assert sha256_of(path, notes) == hashlib.sha256(CONTENT).hexdigest()
    planted = plant(notes)
    assert sha256_of(path, notes) == planted


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    path, notes = tmp_path / "weights", tmp_path / "notes"
    path.write_bytes(CONTENT)
    sha256_of(path, notes)
    before = path.stat()
    with path.open("r+b") as file:  # the same size, inode and time, and one byte of 7 million
        file.seek(5_000_000)
        file.write(b"X")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert sha256_of(path, notes) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_notes_that_are_broken_or_cannot_be_written_do_no_harm(tmp_path: Path) -> None:
    path, notes = tmp_path / "weights", tmp_path / "notes"
    path.write_bytes(CONTENT)
    right = sha256_of(path, notes)
    for damage in (b"", b"\xff\x00", b"one line", CONTENT):
        next(notes.iterdir()).write_bytes(damage)
        assert sha256_of(path, notes) == right
    assert sha256_of(path, path / "not a folder") == right


def test_odd_names(tmp_path: Path) -> None:
    path, notes = tmp_path / os.fsdecode(b"a\xff\nb"), tmp_path / "notes"
    path.write_bytes(b"1")
    assert sha256_of(path, notes) == sha256_of(path, notes) == hashlib.sha256(b"1").hexdigest()
