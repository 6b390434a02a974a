"""OOLONG-style questions about a window: counting, user and timeline, with exact answers.

Question forms and their conditions follow Bertsch et al. (arXiv 2511.02817), tables 15 to 17, and the benchmark's published
generator. These faults of that generator are corrected:

- The number of dates with exactly n rows covers all dates, not only the 50 most common ones.
- "These users" are several users; a ``min(1, ...)`` in the original always selects one.
- "First month in which a is more common than b" is omitted, because the original asks it once for every such month.
- Questions about months count calendar months with rows, and a month with a tie counts for no label.
"""

from __future__ import annotations

import datetime
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby
from typing import Literal, TypeAlias

from rlm.core.errors import ConfigurationError
from rlm_evals.item import Item, rng_for
from rlm_evals.pools import Pools
from rlm_evals.windows import MONTH_NAMES, Row, Window, format_date, make_window

Group: TypeAlias = Literal["counting", "user", "timeline"]
GROUPS: tuple[Group, ...] = ("counting", "user", "timeline")
QUESTIONS_PER_WINDOW = 25
MARGIN = 0.02  # a lead of 2 % of the rows in scope, so that a single wrong label rarely changes the answer

ABOVE = "In the above data, "
_USER_FORM = "Give your final answer in the form 'User: [X]', where [X] is the user ID."
_DATE_FORM = "Give your final answer in the form 'Date: [X]', where [X] is the date in the format MM/DD/YYYY."


@dataclass(frozen=True, slots=True)
class Question:
    """Question with its gold answers. ``kind`` names its form."""

    group: Group
    kind: str
    text: str
    gold: tuple[str, ...]
    answer_type: str


def make_items(
    pools: Pools, source: str, length: int, count: int, seed: int, *, group: str | None = None
) -> Iterator[Item]:
    """Generates questions over windows of one source. Every form appears once before any repeats."""
    if group is not None and group not in GROUPS:
        raise ConfigurationError(f"the group of an oolong task must be one of {', '.join(GROUPS)}; got {group!r}.")
    for first in range(0, count, QUESTIONS_PER_WINDOW):
        window = make_window(pools, source, length, seed * 1000 + first // QUESTIONS_PER_WINDOW)
        questions = choose_questions(window, group)
        for number in range(first, min(count, first + QUESTIONS_PER_WINDOW)):
            question = questions[(number - first) % len(questions)]
            yield Item(
                id=f"oolong/{source}{f'/{group}' if group else ''}/{length}/{seed}/{number:03d}",
                task=f"oolong/{source}/{question.group}/{question.kind}",
                length=length,
                question=question.text,
                context=window.context,
                gold=question.gold,
                scorer="oolong",
                answer_type=question.answer_type,
                labels=window.truth,
            )


def choose_questions(window: Window, group: str | None = None) -> list[Question]:
    """Questions of a window, shuffled so that forms alternate and rare ones stay represented."""
    rng = rng_for("questions", window.source, window.length, window.seed)
    pool = [question for question in all_questions(window, rng) if group in (None, question.group)]
    by_kind: dict[str, list[Question]] = {}
    for question in pool:
        by_kind.setdefault(f"{question.group}/{question.kind}", []).append(question)
    lanes = list(by_kind.values())
    rng.shuffle(lanes)
    for lane in lanes:
        rng.shuffle(lane)
    return [lane[turn] for turn in range(max(map(len, lanes))) for lane in lanes if turn < len(lane)]


def all_questions(window: Window, rng: random.Random) -> list[Question]:
    """All possible questions of a window. ``rng`` selects users, dates, months and ranges."""
    rows = window.rows
    questions = _count_questions("counting", "", ABOVE, rows)
    questions += _user_questions(rows, rng)
    questions += _date_questions(rows) + _before_after_questions(rows, rng) + _scoped_by_time(rows, rng)
    questions += _month_questions(rows)
    return questions


# Counting, over all rows or a subset.


def _count_questions(group: Group, prefix: str, scope: str, rows: Sequence[Row]) -> list[Question]:
    counts = Counter(row.label for row in rows)
    labels = sorted(counts)
    margin = MARGIN * len(rows)
    listed = ", ".join(labels)
    ranked = counts.most_common()
    form = f"Give your final answer in the form 'Label: answer' where answer is one of the labels: {listed}."
    questions: list[Question] = []

    def add(kind: str, text: str, gold: Sequence[str], answer_type: str) -> None:
        questions.append(Question(group, prefix + kind, scope + text, tuple(gold), answer_type))

    if len(ranked) == 1 or ranked[0][1] - ranked[1][1] > margin:
        add("MOST_FREQ", f"which of the labels is the most common? {form}", [ranked[0][0]], "LABEL")
    least = [label for label in labels if counts[label] == ranked[-1][1]]
    add("LEAST_FREQ", f"which of the labels is the least common? {form}", least, "LABEL")
    for first, second in combinations(labels, 2):
        lead = counts[first] - counts[second]
        if abs(lead) > margin or lead == 0:
            gold = "more common than" if lead > 0 else "less common than" if lead < 0 else "same frequency as"
            text = (
                f"is label '{first}' more common, less common, or the same frequency as label '{second}'? Give your final "
                f"answer in the form 'Answer: {first} is [X] {second}', where [X] is 'more common than', 'less common than', "
                "or 'same frequency as'."
            )
            add("RELATIVE_FREQ", text, [gold], "COMPARISON")
    for label in labels:
        form = "Give your final answer in the form 'Answer: number'."
        text = f"how many data points should be classified as label '{label}'? {form}"
        add("NUMERIC_ONE_CLASS", text, [str(counts[label])], "NUMERIC")
    return questions


# Users.


def _user_questions(rows: Sequence[Row], rng: random.Random) -> list[Question]:
    counts = Counter(row.user for row in rows)
    questions = [
        Question("user", kind, f"{ABOVE}which user is represented {word}? {_USER_FORM}", (str(user),), "USER")
        for kind, word, user in _leaders(counts)
    ]
    some = sorted(rng.sample(sorted(counts), min(len(counts), rng.randint(2, 10))))
    rows_of_some = [row for row in rows if row.user in some]
    ids = ", ".join(map(str, some))
    questions += [
        Question(
            "user",
            f"SUBSET_{kind}",
            f"{_of_users(ids)}which user is represented {word}? {_USER_FORM}",
            (str(user),),
            "USER",
        )
        for kind, word, user in _leaders(Counter(row.user for row in rows_of_some))
    ]
    scope = (
        f"For the following question, only consider the subset of instances that are associated with user IDs {ids}. Among "
        "instances associated with these users, "
    )
    questions += _count_questions("user", "SUBSET_", scope, rows_of_some)
    for label in sorted({row.label for row in rows}):
        questions += _label_user_questions(label, Counter(row.user for row in rows if row.label == label), rng)
    return questions


def _of_users(ids: str) -> str:
    return f"For the following question, only consider the subset of users with IDs {ids}. Among these users, "


def _label_user_questions(label: str, counts: Counter[int], rng: random.Random) -> list[Question]:
    questions: list[Question] = []
    ranked = counts.most_common(10)
    if len(ranked) > 1 and ranked[0][1] > ranked[1][1]:
        text = f"{ABOVE}which user has the most instances with the label {label}? {_USER_FORM}"
        questions.append(Question("user", "MOST_OF_LABEL", text, (str(ranked[0][0]),), "USER"))
    pairs = [(a, b) for (a, more), (b, less) in combinations(ranked, 2) if more > less + 1]
    if pairs:
        more_user, less_user = rng.choice(pairs)
        first, second = rng.sample([more_user, less_user], 2)
        text = (
            f"{ABOVE}which user has more instances with the label {label}: User {first} or User {second}? {_USER_FORM}"
        )
        questions.append(Question("user", "MORE_OF_LABEL", text, (str(more_user),), "USER"))
    return questions


def _leaders(counts: Counter[int]) -> list[tuple[str, str, int]]:
    """The leader and the runner-up, each only with a strict lead, as (kind, words, id)."""
    ranked = [*counts.most_common(3), (0, 0)]
    leaders = []
    if len(ranked) > 2 and ranked[0][1] > ranked[1][1]:
        leaders.append(("MOST_FREQ", "most often", ranked[0][0]))
        if ranked[1][1] > ranked[2][1]:
            leaders.append(("SECOND_MOST_FREQ", "the second most often", ranked[1][0]))
    return leaders


# Dates.


def _date_questions(rows: Sequence[Row]) -> list[Question]:
    counts = Counter(row.date for row in rows)
    by_number = Counter({day.toordinal(): count for day, count in counts.items()})
    questions = []
    for kind, word, number in _leaders(by_number):
        gold = f"{datetime.date.fromordinal(number):%m/%d/%Y}"
        text = f"{ABOVE}which date is represented {word}? {_DATE_FORM}"
        questions.append(Question("timeline", f"DATE_{kind}", text, (gold,), "DATE"))
    times = counts.most_common(4)[-1][1]
    gold = str(sum(count == times for count in counts.values()))
    text = (
        f"{ABOVE}how many dates are represented exactly {times} times? Give your final answer in the form 'Answer: [X]', where "
        f"[X] is the number of dates represented exactly {times} times."
    )
    questions.append(Question("timeline", "REPRESENTED_N_TIMES", text, (gold,), "NUMERIC"))
    return questions


def _before_after_questions(rows: Sequence[Row], rng: random.Random) -> list[Question]:
    days = sorted(row.date for row in rows)
    questions: list[Question] = []
    for _ in range(3):
        day = days[rng.randint(int(len(days) * 0.15), int(len(days) * 0.75))]
        before = Counter(row.label for row in rows if row.date < day)
        after = Counter(row.label for row in rows if row.date > day)
        if not before or not after:
            continue
        for label in sorted(before):
            # Compared as integers: equal shares can differ as floats.
            lead = before[label] * after.total() - after[label] * before.total()
            if lead and abs(lead) <= MARGIN * before.total() * after.total():
                continue
            gold = "more common" if lead > 0 else "less common" if lead < 0 else "the same frequency"
            text = (
                f"{ABOVE}was label '{label}' more common, less common, or the same frequency before {day}, as compared to "
                f"after {day}? Give your final answer in the form 'Answer: {label} is [X] before {day}', where [X] is "
                "'more common', 'less common', or 'the same frequency'."
            )
            questions.append(Question("timeline", "BEFORE_AFTER", text, (gold,), "COMPARISON"))
    return questions


def _scoped_by_time(rows: Sequence[Row], rng: random.Random) -> list[Question]:
    month = rng.choice(sorted({row.date.month for row in rows}))
    name = MONTH_NAMES[month - 1]
    scope = (
        f"For the following question, only consider the subset of instances that occur in {name} of any year. Among instances "
        f"occuring in {name}, "
    )
    questions = _count_questions("timeline", "MONTH_", scope, [row for row in rows if row.date.month == month])
    days = sorted(row.date for row in rows)
    first = rng.randint(int(len(days) * 0.1), int(len(days) * 0.5))
    last = rng.randint(min(first + 10, len(days) - 1), max(int(len(days) * 0.9), min(first + 10, len(days) - 1)))
    start, end = days[first], days[last]
    scope = (
        f"For the following question, only consider the subset of instances that occur between {format_date(start)} and "
        f"{format_date(end)}, inclusive. Among instances occuring in this date range, "
    )
    return questions + _count_questions("timeline", "RANGE_", scope, [row for row in rows if start <= row.date <= end])


def _month_questions(rows: Sequence[Row]) -> list[Question]:
    ordered = sorted(rows, key=lambda row: row.date)
    months = [
        Counter(row.label for row in part) for _, part in groupby(ordered, lambda row: (row.date.year, row.date.month))
    ]
    labels = sorted({row.label for row in rows})
    questions: list[Question] = []
    for first in labels:
        for second in labels:
            if first != second:
                number = sum(counts[first] > counts[second] for counts in months)
                text = (
                    f"For how many months does the label '{first}' occur more frequently than the label '{second}'? Disregard "
                    "months where there is a tie. Give your final answer in the form 'Answer: [X]', where [X] is the number "
                    f"of months where '{first}' occurs more often than '{second}.'"
                )
                questions.append(Question("timeline", "MONTHS_MORE", text, (str(number),), "NUMERIC"))
        number = sum(all(counts[first] > counts[other] for other in labels if other != first) for counts in months)
        text = (
            f"For how many months is the label '{first}' the single most frequently occuring label? Disregard months where "
            "there is a tie for the most common label. Give your final answer in the form 'Answer: [X]', where [X] is the "
            f"number of months where '{first}' is the most common label."
        )
        questions.append(Question("timeline", "MONTHS_MOST", text, (str(number),), "NUMERIC"))
    return questions
