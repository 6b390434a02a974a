"""OOLONG's context windows: dated rows of users, with hidden labels.

Bertsch et al.: "Oolong: Evaluating Long Context Reasoning and Aggregation Capabilities" (arXiv 2511.02817). Section 2.2 and the
appendix define the number of rows, label shares, dates, and users (80 % of the rows from 10 % of the ids).
"""

from __future__ import annotations

import datetime
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from rlm.core.errors import ConfigurationError
from rlm_evals.item import rng_for
from rlm_evals.pools import SOURCES, Pools, SourceFacts

FIRST_DAY = datetime.date(2022, 2, 16)
LAST_DAY = datetime.date(2025, 6, 21)
DAYS = (LAST_DAY - FIRST_DAY).days

MONTH_NAMES = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)

RESERVED_TOKENS = 250  # for question and reply, in the paper's formula
MIN_ROWS = 8


@dataclass(frozen=True, slots=True)
class Row:
    """Row of a window."""

    date: datetime.date
    user: int
    text: str
    label: str

    def line(self) -> str:
        return f"Date: {format_date(self.date)} || User: {self.user} || Instance: {self.text}"


@dataclass(frozen=True, slots=True)
class Window:
    """Context window. ``labels`` are those of the source, in the header's order. ``truth`` is the label of each text."""

    source: str
    length: int
    seed: int
    labels: tuple[str, ...]
    rows: tuple[Row, ...]
    context: str
    truth: Mapping[str, str]


def format_date(day: datetime.date) -> str:
    """Date as ``Jan 05, 2023``, in any locale."""
    return f"{MONTH_NAMES[day.month - 1][:3]} {day.day:02d}, {day.year}"


def count_rows(source: str, length: int) -> int:
    """Number of rows in a window of a nominal length.

    Raises:
        ConfigurationError: the length is too short for ``MIN_ROWS``.
    """
    frame, row = SOURCES[source].tokens
    rows = math.floor((0.95 * length - frame - RESERVED_TOKENS) / row)
    if rows < MIN_ROWS:
        raise ConfigurationError(
            f"`length` must be at least 1024 tokens for {source}; got {length}, which holds {max(rows, 0)} rows."
        )
    return rows


@lru_cache(maxsize=4)
def make_window(pools: Pools, source: str, length: int, seed: int) -> Window:
    """Window for a seed. Twenty-five questions share one."""
    if source not in SOURCES:
        raise ConfigurationError(f"the source of a task must be one of {', '.join(SOURCES)}; got {source!r}.")
    rng = rng_for("window", source, length, seed)
    total = count_rows(source, length)
    texts = pools.texts(source)
    drawn = _draw_texts(rng, texts, total)
    users = _draw_users(rng, total)
    rows = tuple(
        Row(FIRST_DAY + datetime.timedelta(days=rng.randint(0, DAYS)), user, text, label)
        for (label, text), user in zip(drawn, users, strict=True)
    )
    labels = tuple(texts)
    truth = {row.text: row.label for row in rows}
    return Window(source, length, seed, labels, rows, render(SOURCES[source], labels, rows), truth)


def render(facts: SourceFacts, labels: Sequence[str], rows: Sequence[Row]) -> str:
    """Context text: header, rows, and the header again."""
    named = ", ".join(f"'{label}'" for label in labels)
    what = (
        f"contain {len(rows)} {facts.things}, one per line, each with a date and a user ID. "
        f"Each {facts.each} {facts.rule} {named}."
    )
    order = (
        f"You will be asked to answer questions about the aggregate label statistics across all {len(rows)} examples in this "
        "dataset. Do not try to guess, estimate, or approximate the result. Calculate the exact answer given these datapoints."
    )
    body = "\n".join(row.line() for row in rows)
    return f"The following lines {what}\n\n{order}\n\n{body}\nRecall: the preceding lines {what}\n\n{order}\n"


def _draw_texts(rng: random.Random, texts: Mapping[str, list[str]], total: int) -> list[tuple[str, str]]:
    """Draws (label, text) pairs with shares that vary by window. A small pool is reused."""
    temperature = rng.randint(2, 6)
    weights = [rng.randint(1, 30) ** (1 / temperature) for _ in texts]
    scale = sum(map(math.exp, weights))
    counts = [round(math.exp(weight) / scale * total) for weight in weights]
    counts[rng.randrange(len(counts))] += total - sum(counts)
    while min(counts) < 0:  # rounding removed more than the count of a rare label
        counts[counts.index(max(counts))] += min(counts)
        counts[counts.index(min(counts))] = 0
    drawn: list[tuple[str, str]] = []
    for (label, pool), count in zip(texts.items(), counts, strict=True):
        whole, rest = divmod(count, len(pool))
        drawn += [(label, text) for text in pool * whole + rng.sample(pool, rest)]
    rng.shuffle(drawn)
    return drawn


def _draw_users(rng: random.Random, total: int) -> list[int]:
    ids = iter(rng.sample(range(10_000, 100_000), min(total, 90_000)))
    common = [next(ids) for _ in range(max(1, math.floor(0.1 * total)) if total < 450_000 else 45_000)]
    users = [rng.choice(common) for _ in range(math.floor(0.8 * total))]
    users += [next(ids, None) or rng.choice(common) for _ in range(total - len(users))]
    rng.shuffle(users)
    return users
