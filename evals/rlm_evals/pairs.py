"""OOLONG-Pairs: all pairs of users that satisfy a predicate over their labels. Answers grow quadratically with the input.

Zhang, Kraska, Khattab: "Recursive Language Models" (arXiv 2512.24601), appendix D.1: twenty tasks over OOLONG's trec_coarse
window. The wording is the paper's. For a source with other labels, the six letters below denote its labels in order.
"""

from __future__ import annotations

import datetime
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, TypeAlias

from rlm.core.errors import ConfigurationError
from rlm_evals.item import Item
from rlm_evals.pools import SOURCES, Pools
from rlm_evals.windows import MONTH_NAMES, Row, Window, make_window

MAX_LENGTH = 262_144
"""Limit in tokens, beyond which a gold answer has millions of pairs."""

LETTERS = {
    "D": "description and abstract concept",
    "E": "entity",
    "H": "human being",
    "N": "numeric value",
    "L": "location",
    "A": "abbreviation",
}


@dataclass(frozen=True, slots=True)
class Both:
    """Both users have one of two labels. With ``dated``, all their rows of that label are before or after a day."""

    labels: str
    dated: str = ""
    side: Literal["after", "before"] = "after"
    day: datetime.date = datetime.date.min


@dataclass(frozen=True, slots=True)
class Sides:
    """One user matches the left description and the other the right one, for instance ``E>=1 A>=1`` and ``E=1``."""

    left: str
    right: str


Predicate: TypeAlias = Both | Sides

TASKS: tuple[Predicate, ...] = (
    Both("NL"),
    Both("EH"),
    Both("DA"),
    Both("HL", "H", "after", datetime.date(2023, 1, 6)),
    Both("EN", "E", "before", datetime.date(2023, 3, 15)),
    Both("LA"),
    Both("DN", "N", "after", datetime.date(2023, 2, 1)),
    Both("HD"),
    Both("EL", "L", "after", datetime.date(2023, 4, 10)),
    Both("NA", "A", "before", datetime.date(2023, 5, 20)),
    Sides("E>=1 A>=1", "E=1"),
    Sides("N>=2", "L>=1 H>=1"),
    Sides("D=1", "A>=1 E>=1"),
    Sides("H>=1 N>=1", "L=2"),
    Sides("E>=1 L>=1 A>=1", "N=1"),
    Sides("D>=1 H>=1", "E>=2 A=1"),
    Sides("N=1", "L>=1 D>=1"),
    Sides("A>=1 H=1", "E>=1 N>=1"),
    Sides("L>=2 E>=1", "D=1 A=1"),
    Sides("N>=1 H>=1", "L>=1 E>=1 A=1"),
)

_TERM = re.compile(r"([A-Z])(>=|=)(\d)")
_NUMBERS = {"1": "one instance", "2": "two instances"}


def make_items(pools: Pools, source: str, length: int, count: int, seed: int) -> Iterator[Item]:
    """Generates the twenty tasks, over as many windows as ``count`` needs.

    Raises:
        ConfigurationError: a source without six labels, or a length beyond ``MAX_LENGTH``.
    """
    if length > MAX_LENGTH:
        raise ConfigurationError(
            f"the length of a pairs task must be at most {MAX_LENGTH} tokens, because pairs grow with its square; got {length}."
        )
    for number in range(count):
        window_number, task = divmod(number, len(TASKS))
        window = make_window(pools, source, length, seed * 1000 + window_number)
        names = name_labels(window)
        yield Item(
            id=f"pairs/{source}/{length}/{seed}/{number:03d}",
            task=f"pairs/{source}/{task + 1:02d}",
            length=length,
            question=ask(TASKS[task], names, SOURCES[source].things),
            context=window.context,
            gold=solve(TASKS[task], names, window.rows),
            scorer="pairs",
            labels=window.truth,
        )


def name_labels(window: Window) -> Mapping[str, str]:
    """Label of each letter."""
    if set(window.labels) == set(LETTERS.values()):
        return LETTERS
    if len(window.labels) < len(LETTERS):
        raise ConfigurationError(
            f"the source of a pairs task must have six labels; got {window.source} with {len(window.labels)}. Use pairs/mixed."
        )
    return dict(zip(LETTERS, window.labels, strict=False))


def ask(predicate: Predicate, names: Mapping[str, str], things: str) -> str:
    """Question in the paper's words."""
    condition = _describe_both(predicate, names) if isinstance(predicate, Both) else _describe_sides(predicate, names)
    each = "question" if "questions" in things else "instance"
    return (
        f"In the above data, list all pairs of user IDs (no duplicate pairs, list lower ID first) {condition}. Each of the "
        f"{each}s can be labelled as one of the labels (the data does not provide the labels, you need to figure out the label "
        f"from the semantics of the {each}): {', '.join(names.values())}. In your answer, list all pairs in the format "
        "(user_id_1, user_id_2), separated by newlines."
    )


def _describe_both(predicate: Both, names: Mapping[str, str]) -> str:
    first, second = (names[letter] for letter in predicate.labels)
    condition = f"where both users have at least one instance with {_a(first)} or {second}"
    if not predicate.dated:
        return condition
    day = predicate.day
    return (
        f"{condition}, and all instances that are {_a(names[predicate.dated])} for both users must be {predicate.side} "
        f"{MONTH_NAMES[day.month - 1]} {day.day}, {day.year}"
    )


def solve(predicate: Predicate, names: Mapping[str, str], rows: Sequence[Row]) -> tuple[str, ...]:
    """All matching pairs as ``(lower, higher)``, in order."""
    by_user: dict[int, list[Row]] = {}
    for row in rows:
        by_user.setdefault(row.user, []).append(row)
    users = sorted(by_user)
    match predicate:
        case Both():
            fitting = [user for user in users if _fits_both(predicate, names, by_user[user])]
            return tuple(f"({a}, {b})" for a, b in combinations(fitting, 2))
        case Sides(left, right):
            fits_left, fits_right = _matcher(left, names), _matcher(right, names)
            counts = {user: Counter(row.label for row in by_user[user]) for user in users}
            on_left = {user for user in users if fits_left(counts[user])}
            on_right = {user for user in users if fits_right(counts[user])}
            pairs = {(min(a, b), max(a, b)) for a in on_left for b in on_right if a != b}
            return tuple(f"({a}, {b})" for a, b in sorted(pairs))


def _describe_sides(predicate: Sides, names: Mapping[str, str]) -> str:
    left, right = (_describe(side, names) for side in (predicate.left, predicate.right))
    return f"such that one user has {left}, and the other user has {right}"


def _fits_both(predicate: Both, names: Mapping[str, str], rows: Sequence[Row]) -> bool:
    wanted = {names[letter] for letter in predicate.labels}
    if not any(row.label in wanted for row in rows):
        return False
    if not predicate.dated:
        return True
    days = [row.date for row in rows if row.label == names[predicate.dated]]
    return all(day > predicate.day if predicate.side == "after" else day < predicate.day for day in days)


def _matcher(description: str, names: Mapping[str, str]) -> Callable[[Counter[str]], bool]:
    terms = [(names[letter], sign, int(number)) for letter, sign, number in _TERM.findall(description)]
    return lambda counts: all(
        counts[label] >= number if sign == ">=" else counts[label] == number for label, sign, number in terms
    )


def _describe(description: str, names: Mapping[str, str]) -> str:
    parts = [
        f"{'at least' if sign == '>=' else 'exactly'} {_NUMBERS[number]} with {names[letter]}"
        for letter, sign, number in _TERM.findall(description)
    ]
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])}{',' if len(parts) > 2 else ''} and {parts[-1]}"


def _a(label: str) -> str:
    return f"{'an' if label[0] in 'aeiou' else 'a'} {label}"
