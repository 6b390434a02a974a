"""Aggregation over many small JSON documents: filters, group-bys, joins and lists, with answers exact by construction.

Our own task, after the text aggregation of "Oolong" (arXiv 2511.02817). Documents are records of CISA's catalogue of exploited
vulnerabilities. Beyond its 1,404 records (299 thousand tokens), further ones repeat them with new identifiers and dates.
"""

from __future__ import annotations

import datetime
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias, cast

from rlm.core.errors import ConfigurationError
from rlm_evals.item import Item, ScorerName, rng_for
from rlm_evals.pools import Pools

Record: TypeAlias = Mapping[str, object]

CHARS_PER_TOKEN = 3.7  # measured with the o200k vocabulary
RESERVED_TOKENS = 200
QUESTIONS_PER_CONTEXT = 20
FIRST_DAY = datetime.date(2021, 11, 3)
DAYS = (datetime.date(2025, 8, 25) - FIRST_DAY).days
FORM = "Give your final answer in the form 'Answer: [X]'."


@dataclass(frozen=True, slots=True)
class Question:
    kind: str
    text: str
    gold: tuple[str, ...]
    scorer: ScorerName = "exact"


def make_items(pools: Pools, length: int, count: int, seed: int) -> Iterator[Item]:
    """Generates questions over contexts of records. Twenty share one context."""
    if length < 1000:
        raise ConfigurationError(f"`length` must be at least 1000 tokens for records; got {length}.")
    for number in range(count):
        context_number, place = divmod(number, QUESTIONS_PER_CONTEXT)
        questions, context = _make_context(pools, length, seed * 1000 + context_number)
        question = questions[place % len(questions)]
        yield Item(
            id=f"records/{length}/{seed}/{number:03d}",
            task=f"records/{question.kind}",
            length=length,
            question=question.text,
            context=context,
            gold=question.gold,
            scorer=question.scorer,
            preamble="The following is a JSON array of records of exploited vulnerabilities.",
        )


@lru_cache(maxsize=4)
def _make_context(pools: Pools, length: int, seed: int) -> tuple[list[Question], str]:
    rng = rng_for("records", length, seed)
    records = _draw_records(pools.records, rng, (length - RESERVED_TOKENS) * CHARS_PER_TOKEN)
    context = "[\n" + ",\n".join(json.dumps(record, ensure_ascii=False) for record in records) + "\n]"
    return _ask_in_turns(records, rng), context


def _draw_records(pool: Sequence[Record], rng: random.Random, chars: float) -> list[Record]:
    drawn: list[Record] = []
    generation = 0
    while True:
        for record in rng.sample(pool, len(pool)):
            fresh = record if generation == 0 else _renew(record, rng, generation)
            chars -= len(json.dumps(fresh, ensure_ascii=False)) + 2
            if chars < 0 and drawn:
                return drawn
            drawn.append(fresh)
        generation += 1


def _renew(record: Record, rng: random.Random, generation: int) -> Record:
    year, number = str(record["cveID"]).split("-")[1:]
    added = FIRST_DAY + datetime.timedelta(days=rng.randint(0, DAYS))
    due = added + datetime.timedelta(days=rng.choice([7, 14, 21, 180]))
    # No real number has seven digits, so a renewed record cannot collide with one of the catalogue.
    fresh = {"cveID": f"CVE-{year}-{generation:02d}{int(number):05d}", "dateAdded": str(added), "dueDate": str(due)}
    return {**record, **fresh}


def _ask_in_turns(records: Sequence[Record], rng: random.Random) -> list[Question]:
    """Draws questions of all forms in turn, and skips forms without an exact answer."""
    questions: list[Question] = []
    for _ in range(4):
        for form in FORMS:
            question = form(records, rng)
            if question and question not in questions:
                questions.append(question)
    return questions[:QUESTIONS_PER_CONTEXT]


# Fields of a record.


def _vendor(record: Record) -> str:
    return str(record["vendorProject"])


def _cwes(record: Record) -> list[str]:
    return cast("list[str]", record["cwes"])


def _added(record: Record) -> str:
    return str(record["dateAdded"])


def _known(record: Record) -> bool:
    return record["knownRansomwareCampaignUse"] == "Known"


def _single_leader(counts: Counter[str]) -> str | None:
    ranked = counts.most_common(2)
    if not ranked or (len(ranked) > 1 and ranked[0][1] == ranked[1][1]):
        return None
    return ranked[0][0]


def _draw_vendor(records: Sequence[Record], rng: random.Random) -> str:
    return _vendor(rng.choice(records))  # weighted by frequency


def _draw_cwe(records: Sequence[Record], rng: random.Random) -> str | None:
    having = [record for record in records if _cwes(record)]
    return rng.choice(_cwes(rng.choice(having))) if having else None


# Question forms.


def _count_filtered(records: Sequence[Record], rng: random.Random) -> Question:
    vendor = _draw_vendor(records, rng)
    use = rng.choice(["Known", "Unknown"])
    number = sum(_vendor(item) == vendor and _known(item) == (use == "Known") for item in records)
    text = f"How many records have the vendorProject '{vendor}' and the knownRansomwareCampaignUse '{use}'? {FORM}"
    return Question("COUNT_FILTERED", text, (str(number),))


def _count_range(records: Sequence[Record], rng: random.Random) -> Question:
    first, last = sorted(_added(rng.choice(records)) for _ in range(2))
    number = sum(first <= _added(item) <= last for item in records)
    text = f"How many records have a dateAdded from {first} to {last}, both inclusive? {FORM}"
    return Question("COUNT_RANGE", text, (str(number),))


def _top_vendor(records: Sequence[Record], rng: random.Random) -> Question | None:
    year = _added(rng.choice(records))[:4]
    leader = _single_leader(Counter(_vendor(item) for item in records if _added(item).startswith(year)))
    text = f"Which vendorProject has the most records with a dateAdded in {year}? {FORM}"
    return Question("TOP_VENDOR", text, (leader,)) if leader else None


def _top_month(records: Sequence[Record], rng: random.Random) -> Question | None:
    use = rng.choice(["Known", "Unknown"])
    months = Counter(_added(item)[:7] for item in records if _known(item) == (use == "Known"))
    leader = _single_leader(months)
    text = (
        f"In which month of which year were the most records with the knownRansomwareCampaignUse '{use}' added, by dateAdded? "
        "Give your final answer in the form 'Answer: YYYY-MM'."
    )
    return Question("TOP_MONTH", text, (leader,)) if leader else None


def _distinct_vendors(records: Sequence[Record], rng: random.Random) -> Question | None:
    cwe = _draw_cwe(records, rng)
    if cwe is None:
        return None
    number = len({_vendor(item) for item in records if cwe in _cwes(item)})
    text = f"How many different vendorProjects have a record whose cwes include '{cwe}'? {FORM}"
    return Question("DISTINCT_VENDORS", text, (str(number),))


def _join_vendors(records: Sequence[Record], rng: random.Random) -> Question | None:
    first, second = _draw_cwe(records, rng), _draw_cwe(records, rng)
    if first is None or second is None or first == second:
        return None
    with_first = {_vendor(item) for item in records if first in _cwes(item)}
    with_second = {_vendor(item) for item in records if second in _cwes(item)}
    text = (
        f"How many vendorProjects have both a record whose cwes include '{first}' and a record whose cwes include '{second}'? "
        f"{FORM}"
    )
    return Question("JOIN_VENDORS", text, (str(len(with_first & with_second)),))


def _list_ids(records: Sequence[Record], rng: random.Random) -> Question | None:
    record = rng.choice(records)
    if not _cwes(record):
        return None
    vendor, cwe = _vendor(record), rng.choice(_cwes(record))
    ids = sorted(str(item["cveID"]) for item in records if _vendor(item) == vendor and cwe in _cwes(item))
    text = (
        f"List the cveID of every record that has the vendorProject '{vendor}' and whose cwes include '{cwe}', separated by "
        "commas."
    )
    return Question("LIST_IDS", text, tuple(ids), "list")


def _longest_due(records: Sequence[Record], rng: random.Random) -> Question | None:
    vendor = _draw_vendor(records, rng)
    days = {
        str(item["cveID"]): (
            datetime.date.fromisoformat(str(item["dueDate"])) - datetime.date.fromisoformat(_added(item))
        ).days
        for item in records
        if _vendor(item) == vendor
    }
    longest = [name for name, number in days.items() if number == max(days.values())]
    text = (
        f"Of the records with the vendorProject '{vendor}', which has the most days from dateAdded to dueDate? Give your final "
        "answer in the form 'Answer: cveID'."
    )
    return Question("LONGEST_DUE", text, (longest[0],)) if len(longest) == 1 else None


def _first_added(records: Sequence[Record], rng: random.Random) -> Question | None:
    vendor = _draw_vendor(records, rng)
    days = [_added(item) for item in records if _vendor(item) == vendor]
    text = (
        f"What is the earliest dateAdded of the records with the vendorProject '{vendor}'? Give your final answer in the form "
        "'Answer: YYYY-MM-DD'."
    )
    return Question("FIRST_ADDED", text, (min(days),))


FORMS: tuple[Callable[[Sequence[Record], random.Random], Question | None], ...] = (
    _count_filtered,
    _top_vendor,
    _count_range,
    _list_ids,
    _distinct_vendors,
    _top_month,
    _join_vendors,
    _longest_due,
    _first_added,
)
