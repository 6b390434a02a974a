"""Items of every question form for the tests, and answers without an engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rlm_evals import oolong, pairs, records, ruler
from rlm_evals.item import Item
from rlm_evals.pools import Pools
from rlm_evals.reference.leaf import read
from rlm_evals.reference.program import solve
from rlm_evals.tasks import PACKED_SOURCES

POOLS = Pools()

TREC_QUESTIONS = {
    "NUM": "How many miles is it from here to {}",
    "LOC": "Where is {}",
    "HUM": "Who founded {}",
    "ENTY": "What animal lives in {}",
    "DESC": "Why did people leave {}",
    "ABBR": "What does the sign of {} stand for",
}


def every_task(length: int, seed: int = 0) -> Iterator[Item]:
    """One item of each question form of each family."""
    yield from oolong.make_items(POOLS, "mixed", length, 25, seed)
    for source in PACKED_SOURCES:
        yield next(oolong.make_items(POOLS, source, length, 1, seed))
    yield from pairs.make_items(POOLS, "mixed", length, 20, seed)
    for task in ruler.TASKS:
        yield next(ruler.make_items(POOLS, task, length, 1, seed))
    yield from records.make_items(POOLS, length, 9, seed)


def many_items(count: int) -> Iterator[Item]:
    """At least ``count`` items of all families, lengths and sources."""
    count_so_far = 0
    seed = 0
    while count_so_far < count:
        seed += 1
        for item in _one_round(seed):
            count_so_far += 1
            yield item


def _one_round(seed: int) -> Iterator[Item]:
    for length in (1024, 2048, 4096, 16_384):
        for source in PACKED_SOURCES:
            yield from oolong.make_items(POOLS, source, length, 50, seed)
        yield from pairs.make_items(POOLS, "mixed", length, 20, seed)
        for task in ruler.TASKS:
            yield from ruler.make_items(POOLS, task, length, 3, seed)
        yield from records.make_items(POOLS, length, 20, seed)


def solve_without_engine(item: Item, *, noise: float = 0.0, seed: int = 0) -> object:
    """Answer of the reference program with a perfect leaf, or with a given error rate."""
    return solve(
        item.question,
        item.context,
        lambda prompts: [read(prompt, item.labels, noise=noise, seed=seed) for prompt in prompts],
    )


def write_trec(folder: Path) -> Path:
    """Writes a stand-in for the published TREC file, in its format."""
    places = [f"town number {number} of the county" for number in range(200)]
    lines = [f"{label}:other {text.format(place)} ?" for label, text in TREC_QUESTIONS.items() for place in places]
    (folder / "train_5500.label").write_text("\n".join(lines), encoding="latin-1")
    return folder
