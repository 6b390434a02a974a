"""Generators: the papers' sizes and shares, any length, the same items in every process, and clear errors."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from eval_kit import POOLS, write_trec
from rlm_evals import ruler
from rlm_evals.pools import MIN_CHARS, SOURCES, Pools
from rlm_evals.tasks import PACKED_SOURCES, known_tasks, make_items
from rlm_evals.windows import count_rows, make_window

from rlm.core.errors import ConfigurationError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("source", "length", "rows"),
    [("trec_coarse", 32_768, 787), ("trec_coarse", 131_072, 3182), ("spam", 131_072, 2177)],
)
def test_windows_have_as_many_rows_as_the_papers(source: str, length: int, rows: int) -> None:
    assert count_rows(source, length) == rows


def test_a_window_is_made_as_the_paper_says() -> None:
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
def test_a_context_is_about_as_long_as_asked_for(task: str, length: int) -> None:
    item = next(make_items(task, length, 1))
    assert 1.2 * length < len(item.context) < 5.5 * length
    assert item.gold or task.startswith("pairs")


@pytest.mark.slow
@pytest.mark.parametrize("task", ["oolong/mixed", "ruler/niah_single_2", "ruler/cwe", "records"])
def test_four_million_tokens(task: str) -> None:
    item = next(make_items(task, 4_194_304, 1))
    assert len(item.context) > 2.5 * 4_194_304


def test_items_are_the_same_in_another_process() -> None:
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


def test_seeds_make_other_items_and_more_items_change_none_before_them() -> None:
    for task in ("oolong/spam", "pairs/mixed", "ruler/vt", "records"):
        few = [item.context + item.question for item in make_items(task, 2048, 5)]
        many = [item.context + item.question for item in make_items(task, 2048, 30)]
        other = [item.context + item.question for item in make_items(task, 2048, 5, seed=1)]
        assert many[:5] == few
        assert not set(few) & set(other)
        assert len({item.id for item in make_items(task, 2048, 60)}) == 60


def test_needles_stand_at_all_depths_and_once() -> None:
    places = []
    for item in ruler.make_items(POOLS, "niah_single_2", 4096, 80, 0):
        assert item.context.count(item.gold[0]) == 1
        places.append(item.context.index(item.gold[0]) / len(item.context))
    assert min(places) < 0.1
    assert max(places) > 0.9
    assert len({round(place, 2) for place in places}) > 15


def test_the_packed_texts_are_clean() -> None:
    for source in PACKED_SOURCES:
        texts = POOLS.texts(source)
        flat = [text for part in texts.values() for text in part]
        assert len(flat) == len(set(flat)) > 5000
        assert all(len(text) >= MIN_CHARS and "||" not in text and "\n" not in text for text in flat)
        assert len(texts) >= 2


def test_credits_name_every_packed_file() -> None:
    folder = ROOT / "rlm" / "evals" / "data"
    told = (folder / "CREDITS.md").read_text()
    packed = sorted(path.name for path in folder.glob("*.xz"))
    assert len(packed) == 6
    assert [name for name in packed if name not in told] == []
    assert sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) < 3_000_000


def test_a_source_that_is_not_packed_says_what_to_pass() -> None:
    with pytest.raises(ConfigurationError, match=r"train_5500\.label.*--data FOLDER"):
        next(make_items("oolong/trec_coarse", 2048, 1))


def test_a_source_is_read_from_the_users_folder(tmp_path: Path) -> None:
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
    ("task", "length", "said"),
    [
        ("oolong/nothing", 2048, "unknown source"),
        ("oolong/spam/nothing", 2048, "no group"),
        ("ruler/nothing", 2048, "no task"),
        ("nothing", 2048, "unknown task"),
        ("records", 10, "give 1000 to"),
        ("records", 5_000_000, "give 1000 to"),
        ("pairs/spam", 2048, "six labels"),
        ("pairs/mixed", 524_288, "square"),
    ],
)
def test_what_cannot_be_made_says_why(task: str, length: int, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        next(make_items(task, length, 1))


def test_every_known_source_has_its_sizes() -> None:
    assert {name for name, facts in SOURCES.items() if facts.own_folder} == {"trec_coarse", "agnews"}
