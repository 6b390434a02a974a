"""Independent solver: answers an item from its question and its text.

Its author had not seen `rlm_evals`, and used only the papers' definitions, `docs/evals.md` and the text of items. It imports
nothing of `rlm` and reads no task, gold answer or label of an item. It parses the packed label files itself.

An answer is a set of strings. For a question with one answer, the set holds every correct one (several on a tie). For a question
that asks for a list, it holds the whole list. An unreadable or unanswerable question raises `Unanswerable`.
"""

from __future__ import annotations

import json
import lzma
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import NamedTuple, TypeVar

# Packed files of each source, and the header names of their labels.
SOURCES = (
    {"sms_spam": {"ham": "ham", "spam": "spam"}},
    {"cornell_polarity": {"positive": "positive", "negative": "negative"}},
    {"cornell_subjectivity": {"subjective": "subjective", "objective": "objective"}},
    {"liu_pros_cons": {"pro": "pro", "con": "con"}},
    {  # merged; its header describes the six kinds: "a critic's opinion of a film", "a sentence of a film's plot", and so on
        "sms_spam": {"ham": "personal message", "spam": "advertising message"},
        "cornell_subjectivity": {"subjective": "film opinion", "objective": "film plot"},
        "liu_pros_cons": {"pro": "product advantage", "con": "product drawback"},
    },
)
NUMBERS = {"one": 1, "two": 2}
UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"

Key = TypeVar("Key")


class Unanswerable(Exception):
    """The question has an unknown form, or its text does not determine an answer."""


class Row(NamedTuple):
    day: date
    user: str
    label: str


class Solver:
    """Solves items of all tasks.

    Args:
        folder: the packed label files.
        brought: text to label, for a source that is not packed.
    """

    def __init__(self, folder: Path, brought: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._brought = brought or {}
        self._labels: dict[frozenset[str], Mapping[str, str]] = {}

    def solve(self, question: str, context: str) -> set[str]:
        if "|| Instance: " in context:
            rows = self._rows(context)
            return pairs(question, rows) if "list all pairs of user IDs" in question else statistics(question, rows)
        if "special magic" in question:
            return needles(question, context)
        if match := re.search(r"assigned the value (\d+)", question):
            return variables(match[1], context)
        if match := re.search(r"What are the (\d+) most common words in the above list", question):
            return most_common(re.findall(r"\d+\. (\S+)", context), int(match[1]))
        if "three most frequently appeared words" in question:
            return most_common((word for word in context.split() if set(word) != {"."}), 3)
        return records(question, json.loads(context))

    def _rows(self, context: str) -> list[Row]:
        header, _, _ = context.partition("\nDate: ")
        named = frozenset(re.findall(r"(?<=[ ])'([a-z ]+)'(?=[,.])", header))
        labels = self._labels_of(named)
        rows = []
        for line in context.split("\n"):
            if line.startswith("Date: "):
                day, user, text = line.split(" || ", 2)
                text = text.removeprefix("Instance: ")
                rows.append(Row(day_of(day.removeprefix("Date: ")), user.removeprefix("User: "), labels[text]))
        count = re.search(r"The following lines contain ([\d,]+) ", header)
        if count is None or int(count[1].replace(",", "")) != len(rows):
            raise Unanswerable(f"the header must give the number of rows, {len(rows)}; got {header}")
        return rows

    def _labels_of(self, named: frozenset[str]) -> Mapping[str, str]:
        """Text to label, for the source with the labels of a header."""
        if named not in self._labels:
            fitting = [
                source for source in SOURCES if named == {name for names in source.values() for name in names.values()}
            ]
            self._labels[named] = read_labels(self._folder, fitting[0]) if fitting else self._brought
        return self._labels[named]


def read_labels(folder: Path, source: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Text to label. A text with two labels is ambiguous and left out."""
    seen: dict[str, set[str]] = defaultdict(set)
    for file, names in source.items():
        with lzma.open(folder / f"{file}.tsv.xz", "rt", encoding="utf-8", newline="\n") as lines:
            for line in lines:
                label, _, text = line.rstrip("\n").partition("\t")
                seen[text].add(names[label])
    return {text: next(iter(labels)) for text, labels in seen.items() if len(labels) == 1}


@cache
def day_of(text: str) -> date:
    for form in ("%b %d, %Y", "%B %d, %Y", "%Y-%m-%d"):
        try:
            return datetime.strptime(text, form).date()
        except ValueError:
            continue
    raise Unanswerable(f"no date: {text}")


# Labels, users and dates (OOLONG)


def statistics(question: str, rows: list[Row]) -> set[str]:
    rows = in_scope(question, rows)
    labels = Counter(row.label for row in rows)
    users = Counter(row.user for row in rows)
    days = Counter(row.day for row in rows)
    if match := re.search(r"which of the labels is the (most|least) common\?.* one of the labels: (.+?)\.$", question):
        shown = {label: labels[label] for label in match[2].split(", ")}
        extreme = max(shown.values()) if match[1] == "most" else min(shown.values())
        return {label for label, count in shown.items() if count == extreme}
    if match := re.search(
        r"is label '(.+?)' more common, less common, or the same frequency as label '(.+?)'\?", question
    ):
        a, b = labels[match[1]], labels[match[2]]
        return {"more common than" if a > b else "less common than" if a < b else "same frequency as"}
    if match := re.search(r"how many data points should be classified as label '(.+?)'\?", question):
        return {str(labels[match[1]])}
    if match := re.search(r"which (user|date) is represented (most|the second most) often\?", question):
        place = 1 if match[2] == "most" else 2
        return at_place(users, place) if match[1] == "user" else {f"{day:%m/%d/%Y}" for day in at_place(days, place)}
    if match := re.search(r"which user has the most instances with the label (.+?)\?", question):
        return at_place(Counter(row.user for row in rows if row.label == match[1]), 1)
    if match := re.search(r"which user has more instances with the label (.+?): User (\d+) or User (\d+)\?", question):
        counts = Counter(row.user for row in rows if row.label == match[1])
        return at_place(Counter({user: counts[user] for user in (match[2], match[3])}), 1)
    if match := re.search(r"how many dates are represented exactly (\d+) times\?", question):
        return {str(sum(count == int(match[1]) for count in days.values()))}
    if match := re.search(
        r"was label '(.+?)' more common, less common, .* before (\S+), as compared to after (\S+)\?", question
    ):
        return {before_and_after(rows, match[1], day_of(match[2]), day_of(match[3]))}
    return {str(months(question, rows))}


def in_scope(question: str, rows: list[Row]) -> list[Row]:
    """Rows in the scope that a question states first."""
    if not question.startswith("For the following question, only consider"):
        return rows
    limit, _, _ = question.partition(". Among ")
    if match := re.search(r"occur between (.+) and (.+), inclusive$", limit):
        first, last = day_of(match[1]), day_of(match[2])
        return [row for row in rows if first <= row.day <= last]
    if match := re.search(r"occur in (\w+) of any year$", limit):
        return [row for row in rows if f"{row.day:%B}" == match[1]]
    if match := re.search(r"(?:with user|users with) IDs? ([\d, ]+)$", limit):
        users = set(match[1].split(", "))
        return [row for row in rows if row.user in users]
    raise Unanswerable(question)


def at_place(counts: Counter[Key], place: int) -> set[Key]:
    """Keys with the frequency of a rank; several on a tie."""
    ordered = sorted(counts.values(), reverse=True)
    if len(ordered) < place or ordered[place - 1] == 0:
        raise Unanswerable(f"nothing at place {place}")
    return {key for key, count in counts.items() if count == ordered[place - 1]}


def before_and_after(rows: list[Row], label: str, before: date, after: date) -> str:
    """Compares a label's share before a day with its share after it. The day itself belongs to neither."""
    early = [row.label for row in rows if row.day < before]
    late = [row.label for row in rows if row.day > after]
    if not early or not late:
        raise Unanswerable(f"no share of nothing: {len(early)} rows before {before}, {len(late)} after {after}")
    left, right = early.count(label) * len(late), late.count(label) * len(early)
    return "more common" if left > right else "less common" if left < right else "the same frequency"


def months(question: str, rows: list[Row]) -> int:
    """Number of months, counted per year, that satisfy a question."""
    by_month: dict[tuple[int, int], Counter[str]] = defaultdict(Counter)
    for row in rows:
        by_month[row.day.year, row.day.month][row.label] += 1
    if match := re.search(
        r"how many months does the label '(.+?)' occur more frequently than the label '(.+?)'\?", question
    ):
        return sum(counts[match[1]] > counts[match[2]] for counts in by_month.values())
    if match := re.search(
        r"how many months is the label '(.+?)' the single most frequently occuring label\?", question
    ):
        return sum(at_place(counts, 1) == {match[1]} for counts in by_month.values())
    raise Unanswerable(question)


# Pairs of users (OOLONG-Pairs)


def pairs(question: str, rows: list[Row]) -> set[str]:
    by_user: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        by_user[int(row.user)].append(row)
    left, right = predicates(question)
    fits_left = {user for user, own in by_user.items() if left(own)}
    fits_right = {user for user, own in by_user.items() if right(own)}
    return {
        f"({a}, {b})"
        for a, b in combinations(sorted(by_user), 2)
        if (a in fits_left and b in fits_right) or (b in fits_left and a in fits_right)
    }


Predicate = Callable[[list[Row]], bool]


def predicates(question: str) -> tuple[Predicate, Predicate]:
    """Predicates of the two users of a pair; identical if both must satisfy the same."""
    stated = re.search(r"one of the labels \(.*?\): (.+?)\.", question)
    asked = re.search(r"list lower ID first\) (.+?)\. Each of the \w+ can be labelled", question)
    if stated is None or asked is None:
        raise Unanswerable(question)
    label = "(" + "|".join(map(re.escape, stated[1].split(", "))) + ")"
    if match := re.fullmatch(rf"where both users have at least one instance with an? {label} or {label}(.*)", asked[1]):
        return (both(label, {match[1], match[2]}, match[3]),) * 2
    one, middle, other = asked[1].partition(", and the other user has ")
    if not middle or not one.startswith("such that one user has "):
        raise Unanswerable(question)
    return several(label, one.removeprefix("such that one user has ")), several(label, other)


def both(label: str, wanted: set[str], rest: str) -> Predicate:
    if not rest:
        return lambda rows: any(row.label in wanted for row in rows)
    limit = re.fullmatch(rf", and all instances that are an? {label} for both users must be (after|before) (.+)", rest)
    if limit is None:
        raise Unanswerable(rest)
    name, side, day = limit[1], limit[2], day_of(limit[3])
    return lambda rows: (
        any(row.label in wanted for row in rows)
        and not any(row.label == name and (row.day <= day if side == "after" else row.day >= day) for row in rows)
    )


def several(label: str, words: str) -> Predicate:
    """Conjunction of counts: "at least one instance with A and exactly two instances with B"."""
    terms = re.findall(rf"(at least|exactly) (one|two) instances? with {label}", words)
    if len(terms) != words.count(" with "):
        raise Unanswerable(words)

    def holds(rows: list[Row]) -> bool:
        counts = Counter(row.label for row in rows)
        return all(
            counts[name] == NUMBERS[number] if how == "exactly" else counts[name] >= NUMBERS[number]
            for how, number, name in terms
        )

    return holds


# Needles, variables, words (RULER)


def needles(question: str, context: str) -> set[str]:
    asked = re.fullmatch(r"What are all the special magic (\w+?)s? for (.+) mentioned in the provided text\?", question)
    if asked is None:
        raise Unanswerable(question)
    keys = re.split(r", and |, | and ", asked[2])
    values = set()
    for key in keys:
        matches = re.findall(rf"One of the special magic {asked[1]}s? for {re.escape(key)} is: ({UUID}|\d+)\.", context)
        if not matches:
            raise Unanswerable(f"nothing is said of {key}")
        values.update(matches)
    return values


def variables(value: str, context: str) -> set[str]:
    """Names with the value after all statements are executed in order."""
    held: dict[str, str] = {}
    for name, other, number in re.findall(r"VAR (\w+) = (?:VAR (\w+)|(\d+))", context):
        held[name] = number or held[other]
    return {name for name, content in held.items() if content == value}


def most_common(words: Iterable[str], number: int) -> set[str]:
    counts = Counter(words)
    least = sorted(counts.values(), reverse=True)[number - 1]
    return {word for word, count in counts.items() if count >= least}


# Records in JSON


Record = dict[str, str | list[str]]


def records(question: str, table: list[Record]) -> set[str]:
    if match := re.match(r"How many records have the (\w+) '(.+)' and the (\w+) '(.+)'\?", question):
        return {str(sum(record[match[1]] == match[2] and record[match[3]] == match[4] for record in table))}
    if match := re.match(r"How many records have a (\w+) from (\S+) to (\S+), both inclusive\?", question):
        first, last = day_of(match[2]), day_of(match[3])
        return {str(sum(first <= day_in(record, match[1]) <= last for record in table))}
    if match := re.match(r"How many different vendorProjects have a record whose cwes include '(.+)'\?", question):
        return {str(len(vendors_with(match[1], table)))}
    if match := re.match(
        r"How many vendorProjects have both a record whose cwes include '(.+)' and .* '(.+)'\?", question
    ):
        return {str(len(vendors_with(match[1], table) & vendors_with(match[2], table)))}
    if match := re.match(
        r"List the cveID of every record that has the (\w+) '(.+)' and whose cwes include '(.+)',", question
    ):
        return {str(record["cveID"]) for record in table if record[match[1]] == match[2] and match[3] in record["cwes"]}
    if match := re.match(r"Which (\w+) has the most records with a (\w+) in (\d{4})\?", question):
        return at_place(
            Counter(str(record[match[1]]) for record in table if day_in(record, match[2]).year == int(match[3])), 1
        )
    if match := re.match(r"In which month of which year were the most records with the (\w+) '(.+)' added,", question):
        return at_place(
            Counter(f"{day_in(record, 'dateAdded'):%Y-%m}" for record in table if record[match[1]] == match[2]), 1
        )
    if match := re.match(
        r"Of the records with the (\w+) '(.+)', which has the most days from (\w+) to (\w+)\?", question
    ):
        own = [record for record in table if record[match[1]] == match[2]]
        return at_place(
            Counter(
                {str(record["cveID"]): (day_in(record, match[4]) - day_in(record, match[3])).days for record in own}
            ),
            1,
        )
    if match := re.match(r"What is the earliest (\w+) of the records with the (\w+) '(.+)'\?", question):
        return {str(min(day_in(record, match[1]) for record in table if record[match[2]] == match[3]))}
    raise Unanswerable(question)


def day_in(record: Record, field: str) -> date:
    return day_of(str(record[field]))


def vendors_with(weakness: str, table: list[Record]) -> set[str]:
    return {str(one["vendorProject"]) for one in table if weakness in one["cwes"]}
