"""The write-ahead file beside the database."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from rlm.core.errors import StoreError
from rlm.store.tail import Leftovers, Tail, count_tails, left_behind, mark_of, unpack

RUN = mark_of("run-1")


def place(folder: Path) -> str:
    return str(folder / "runs.db")


def filled(folder: Path) -> Tail:
    tail = Tail(place(folder))
    tail.append_row(RUN, b"row")
    tail.append_line(RUN, 0, b"first", {b"h" * 16: b"text"})
    tail.append_line(mark_of("run-2"), 0, b"other", {})
    tail.append_line(RUN, 1, b"second", {})
    return tail


def contents(runs: dict[str, Leftovers]) -> dict[str, tuple[object, ...]]:
    return {run: (left.row, left.texts, left.groups) for run, left in runs.items()}


WHOLE = {
    "run-1": (b"row", {b"h" * 16: b"text"}, [(0, b"first"), (1, b"second")]),
    "run-2": (None, {}, [(0, b"other")]),
}


def test_left_tail_is_read_once(tmp_path: Path) -> None:
    filled(tmp_path).leave()
    with left_behind(place(tmp_path)) as runs:
        assert contents(runs) == WHOLE
    with left_behind(place(tmp_path)) as runs:
        assert runs == {}


def test_tail_of_a_living_process_is_not_read(tmp_path: Path) -> None:
    tail = filled(tmp_path)
    with left_behind(place(tmp_path)) as runs:
        assert runs == {}
    assert count_tails(place(tmp_path)) == 1
    tail.remove()
    assert count_tails(place(tmp_path)) == 0


def test_failed_read_keeps_the_tail(tmp_path: Path) -> None:
    filled(tmp_path).leave()
    with pytest.raises(StoreError), left_behind(place(tmp_path)):
        raise StoreError("locked")
    with left_behind(place(tmp_path)) as runs:
        assert contents(runs) == WHOLE


def test_cleared_tail_is_reused(tmp_path: Path) -> None:
    tail = filled(tmp_path)
    assert not tail.is_empty
    tail.clear()
    assert tail.is_empty
    tail.append_line(RUN, 2, b"third", {})
    tail.leave()
    with left_behind(place(tmp_path)) as runs:
        assert contents(runs) == {"run-1": (None, {}, [(2, b"third")])}


def test_every_torn_tail_is_a_prefix(tmp_path: Path) -> None:
    filled(tmp_path).leave()
    (path,) = tmp_path.iterdir()
    data = path.read_bytes()
    sizes = set()
    for size in range(len(data) + 1):
        runs = defaultdict[str, Leftovers](Leftovers)
        unpack(data[:size] + b"garbage" * (size % 2), runs)
        groups = [group for left in runs.values() for group in left.groups]
        assert all(group in {(0, b"first"), (0, b"other"), (1, b"second")} for group in groups)
        sizes.add(len(groups))
    assert sizes == {0, 1, 2, 3}


def test_flipped_bit_ends_the_tail(tmp_path: Path) -> None:
    filled(tmp_path).leave()
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    data[data.index(b"other")] ^= 1
    runs = defaultdict[str, Leftovers](Leftovers)
    unpack(bytes(data), runs)
    assert contents(runs) == {"run-1": (b"row", {b"h" * 16: b"text"}, [(0, b"first")])}


def test_missing_folder_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot be created: .*--store"):
        Tail(place(tmp_path / "missing"))
