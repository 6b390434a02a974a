"""Generators: the papers' sizes and shares, any length, reproducible items, and clear errors."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from eval_kit import POOLS, write_trec
from rlm_evals import data, ruler
from rlm_evals.pools import MIN_CHARS, SOURCES, Pools
from rlm_evals.tasks import PACKED_SOURCES, known_tasks, make_items
from rlm_evals.windows import count_rows, make_window

from rlm.core.errors import ConfigurationError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("source", "length", "rows"),
    [("trec_coarse", 32_768, 787), ("trec_coarse", 131_072, 3182), ("spam", 131_072, 2177)],
)
def test_window_sizes_match_the_papers(source: str, length: int, rows: int) -> None:
    assert count_rows(source, length) == rows


def test_window_follows_the_paper() -> None:
    window = make_window(POOLS, "mixed", 131_072, 0)
    counts = Counter(row.user for row in window.rows)
    common = sum(count for _, count in counts.most_common(len(window.rows) // 10))
    assert common / len(window.rows) == pytest.approx(0.8, abs=0.01)
    assert set(Counter(row.label for row in window.rows)) == set(window.labels)
    lines = window.context.splitlines()
    assert sum(line.startswith("Date: ") for line in lines) == len(window.rows)
    assert f"contain {len(window.rows)} short texts" in lines[0]
    assert all("Label:" not in row.line() for row in window.rows)


def test_label_shares_differ_between_windows() -> None:
    shares = {Counter(row.label for row in make_window(POOLS, "spam", 8192, seed).rows)["spam"] for seed in range(10)}
    assert len(shares) > 5


@pytest.mark.parametrize("task", known_tasks())
@pytest.mark.parametrize("length", [1024, 32_768, 262_144])
def test_context_has_about_the_requested_length(task: str, length: int) -> None:
    item = next(make_items(task, length, 1))
    assert 1.2 * length < len(item.context) < 5.5 * length
    assert item.gold or task.startswith("pairs")


@pytest.mark.slow
@pytest.mark.parametrize("task", ["oolong/mixed", "ruler/niah_single_2", "ruler/cwe", "records"])
def test_four_million_tokens_are_generated(task: str) -> None:
    item = next(make_items(task, 4_194_304, 1))
    assert len(item.context) > 2.5 * 4_194_304


def test_items_are_identical_across_processes() -> None:
    code = (
        "import hashlib; from rlm_evals.tasks import known_tasks, make_items\n"
        "items = [(i.id, i.question, i.context, i.gold) for t in known_tasks() for i in make_items(t, 2048, 3)]\n"
        "print(hashlib.sha256(repr(items).encode()).hexdigest())"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=True, cwd=ROOT, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1


def test_seed_and_count_select_items_consistently() -> None:
    for task in ("oolong/spam", "pairs/mixed", "ruler/vt", "records"):
        few = [item.context + item.question for item in make_items(task, 2048, 5)]
        many = [item.context + item.question for item in make_items(task, 2048, 30)]
        other = [item.context + item.question for item in make_items(task, 2048, 5, seed=1)]
        assert many[:5] == few
        assert not set(few) & set(other)
        assert len({item.id for item in make_items(task, 2048, 60)}) == 60


def test_needles_appear_once_at_all_depths() -> None:
    places = []
    for item in ruler.make_items(POOLS, "niah_single_2", 4096, 80, 0):
        assert item.context.count(item.gold[0]) == 1
        places.append(item.context.index(item.gold[0]) / len(item.context))
    assert min(places) < 0.1
    assert max(places) > 0.9
    assert len({round(place, 2) for place in places}) > 15


def test_packed_texts_are_clean() -> None:
    for source in PACKED_SOURCES:
        texts = POOLS.texts(source)
        flat = [text for part in texts.values() for text in part]
        assert len(flat) == len(set(flat)) > 5000
        assert all(len(text) >= MIN_CHARS and "||" not in text and "\n" not in text for text in flat)
        assert len(texts) >= 2


def test_credits_name_every_packed_file() -> None:
    folder = Path(data.__file__).parent
    credits_text = (folder / "CREDITS.md").read_text(encoding="utf-8")
    packed = sorted(path.name for path in folder.glob("*.xz"))
    assert len(packed) == 6
    assert [name for name in packed if name not in credits_text] == []
    assert sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) < 3_000_000


def test_unpacked_source_error_names_the_option() -> None:
    with pytest.raises(ConfigurationError, match=r"train_5500\.label.*--data FOLDER"):
        next(make_items("oolong/trec_coarse", 2048, 1))


def test_source_is_read_from_user_folder(tmp_path: Path) -> None:
    own = Pools(write_trec(tmp_path))
    item = next(make_items("oolong/trec_coarse", 2048, 1, pools=own))
    assert "'numeric value'" in item.context
    (tmp_path / "agnews.tsv").write_text(
        "".join(f"Sports\tmatch number {n}\nWorld\tsummit number {n}\n" for n in range(200))
    )
    assert sorted(own.texts("agnews")) == ["Sports", "World"]
    (tmp_path / "haystack.txt").write_text("\n\n".join(f"Sentence number {n} of my own book." for n in range(500)))
    assert "of my own book" in next(make_items("ruler/niah_single_2", 2048, 1, pools=Pools(tmp_path))).context


@pytest.mark.parametrize(
    ("task", "length", "message"),
    [
        ("oolong/nothing", 2048, "source of a task must be one of"),
        ("oolong/spam/nothing", 2048, "group of an oolong task must be one of"),
        ("ruler/nothing", 2048, "name of a ruler task must be one of"),
        ("nothing", 2048, "`task` must be one of"),
        ("records", 10, "must be 1000 to"),
        ("records", 5_000_000, "must be 1000 to"),
        ("pairs/spam", 2048, "six labels"),
        ("pairs/mixed", 524_288, "square"),
    ],
)
def test_impossible_tasks_raise_clear_errors(task: str, length: int, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        next(make_items(task, length, 1))


def test_unpacked_sources_are_marked() -> None:
    assert {name for name, facts in SOURCES.items() if facts.own_folder} == {"trec_coarse", "agnews"}
