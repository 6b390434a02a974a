"""Scorers: how right a reply is, from 0 to 1. Each follows its benchmark's published rule; faults of those are mended and named.

``Score.value`` is ours; ``Score.published`` is what the benchmark's own rule gives for the same reply, so that both can be
reported. Where they differ:

OOLONG (arXiv 2511.02817, its evaluation code)
    1. On a tie only the first of several right answers counted; here any.
    2. ``int("1,234")`` failed, and so scored 0; here separators and a final stop are removed. "40 rows" likewise.
    3. A reply of one sentence without a colon was cut to its last word, which no label of several words can equal.
    4. A short comparison ("a is less common b", under 20 characters) was not reduced to its phrase.
    5. Labels were compared with upper and lower case apart; here not.
    6. A date had to parse as one format reads it; here month and day names, ISO and slashes are read.
    7. A reply that ends in an explanation with a colon lost the answer before it; here the last ``Label:``, ``Answer:``,
       ``User:`` or ``Date:`` counts first.
OOLONG-Pairs (arXiv 2512.24601, appendix D.1): as published. A list of pairs as data scores as its text would.
RULER (arXiv 2404.06654)
    8. A gold value counted inside a longer number or word; here only as a whole.
    9. A reply that dumps the haystack contains everything; here only its first ``cap`` characters count.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from rlm.core.cells import PlainValue
from rlm_evals.item import Item

NUMERIC_BASE = 0.75  # OOLONG: 0.75 ** |error|
COMPARISONS = ("more common", "less common", "same frequency")


@dataclass(frozen=True, slots=True)
class Score:
    """``value`` and ``published`` are from 0 to 1; ``read`` is what was taken for the answer, cut for display."""

    value: float
    published: float
    read: str


def score(item: Item, answer: PlainValue) -> Score:
    """Judges an answer, which may be text or the data that a program gave. None scores 0."""
    if answer is None:
        return Score(0.0, 0.0, "")
    match item.scorer:
        case "oolong":
            return _score_oolong(item.gold, item.answer_type, answer_text(answer))
        case "oolong-real":
            return _score_real(item.gold, answer_text(answer))
        case "pairs":
            return _score_pairs(item.gold, answer)
        case "ruler" | "ruler-any":
            return _score_ruler(item.gold, answer_text(answer), any_one=item.scorer == "ruler-any")
        case "exact":
            return _score_exact(item.gold, answer_text(answer))
        case "list":
            return _score_list(item.gold, answer)


def answer_text(answer: PlainValue) -> str:
    """An answer as a reader would see it."""
    if isinstance(answer, str):
        return answer.strip()
    if isinstance(answer, datetime.date):
        return f"{answer:%m/%d/%Y}"
    if isinstance(answer, Mapping) and len(answer) == 1:
        return f"{next(iter(answer))}: {next(iter(answer.values()))}"
    if isinstance(answer, list | tuple | set | frozenset):
        return ", ".join(answer_text(each) for each in answer)
    return str(answer)


# OOLONG.

_MARKED = re.compile(r"(?:label|answer|user|date)\s*:\s*([^\n]*)", re.IGNORECASE)


def _score_oolong(gold: Sequence[str], answer_type: str, reply: str) -> Score:
    published = _published_oolong(gold[0], answer_type, reply)
    best, read = 0.0, ""
    for candidate in _candidates(reply):
        value = max(_match_oolong(each, answer_type, candidate) for each in gold)
        if value > best or not read:
            best, read = max(best, value), candidate
        if answer_type != "LABEL":
            break  # the alternatives below exist for labels of several words only
    return Score(best, published, read[:200])


def _candidates(reply: str) -> list[str]:
    """What may be the answer: after the last marker, else after the last colon, else the whole; and how a sentence ends."""
    marked = _MARKED.findall(reply)
    if marked and _clean(marked[-1]):
        return [_clean(marked[-1])]
    whole = _clean(reply.rpartition(":")[2])
    words = whole.split()
    return [whole, *(" ".join(words[-count:]) for count in range(1, min(8, len(words))))]


def _clean(text: str) -> str:
    return re.sub(r"[*\[\]`\"]", "", text).strip().strip("'").rstrip(".").strip()


def _match_oolong(gold: str, answer_type: str, candidate: str) -> float:
    lowered = candidate.lower()
    match answer_type:
        case "NUMERIC":
            number = _read_number(candidate)
            return 0.0 if number is None else NUMERIC_BASE ** abs(int(gold) - number)
        case "COMPARISON":
            found = [phrase for phrase in COMPARISONS if phrase in lowered]
            return float(len(found) == 1 and found[0] in gold)
        case "DATE":
            day, expected = read_date(candidate), read_date(gold)
            return float(day is not None and day == expected)
        case "USER":
            return float(re.findall(r"\d+", candidate)[-1:] == [gold])
        case _:
            return float(lowered.strip("' ") == gold.lower())


def _read_number(text: str) -> int | None:
    numbers = re.findall(r"-?\d[\d,]*(?:\.0+)?(?![\d.])", text)
    if not numbers:
        return None
    return int(numbers[0].partition(".")[0].replace(",", ""))


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def read_date(text: str) -> datetime.date | None:
    """A date in one of the forms that people write: ISO, MM/DD/YYYY, ``Jan 5, 2023``, ``5 January 2023``."""
    try:
        if match := re.search(r"(\d{4})-(\d{1,2})-(\d{1,2})", text):
            return datetime.date(int(match[1]), int(match[2]), int(match[3]))
        if match := re.search(r"(\d{1,2})/(\d{1,2})/(\d{4})", text):
            return datetime.date(int(match[3]), int(match[1]), int(match[2]))
        if match := re.search(r"([A-Za-z]{3})[a-z]*\.? (\d{1,2})(?:st|nd|rd|th)?,? (\d{4})", text):
            return datetime.date(int(match[3]), _MONTHS.index(match[1].lower()) + 1, int(match[2]))
        if match := re.search(r"(\d{1,2})(?:st|nd|rd|th)? ([A-Za-z]{3})[a-z]*\.?,? (\d{4})", text):
            return datetime.date(int(match[3]), _MONTHS.index(match[2].lower()) + 1, int(match[1]))
    except ValueError:
        pass
    return None


def _published_oolong(gold: str, answer_type: str, reply: str) -> float:
    """OOLONG's own rule, faults and all."""
    if ":" not in reply:
        words = reply.split()
        candidate = reply if len(reply) < 20 else words[-1] if words else ""
    else:
        candidate = reply.rpartition(":")[2].strip()
        for mark in "*[]":
            candidate = candidate.replace(mark, "")
        if len(candidate) >= 20:
            candidate = next((phrase for phrase in COMPARISONS if phrase in candidate), candidate)
    if candidate == gold:
        return 1.0
    if candidate in COMPARISONS:
        return float(candidate in gold)
    if answer_type == "NUMERIC":
        try:
            return float(NUMERIC_BASE ** abs(int(gold) - int(candidate)))
        except ValueError:
            return 0.0
    if answer_type == "DATE":
        day = read_date(candidate)
        return float(day is not None and day == read_date(gold))
    return 0.0


def _score_real(gold: Sequence[str], reply: str) -> Score:
    r"""OOLONG-real: the answer stands in ``\boxed{}``; a number by distance, a list by the share found, text as a whole."""
    boxed = re.findall(r"\\boxed\{(?:\\text\{)?([^{}]*)\}", reply)
    read = boxed[-1].strip() if boxed else reply.rpartition(":")[2].strip()
    if len(gold) > 1:
        told = {part.strip().lower() for part in read.split(",")}
        value = len(told & {each.lower() for each in gold}) / len(gold)
    elif re.fullmatch(r"-?\d+", gold[0]):
        number = _read_number(read)
        value = 0.0 if number is None else NUMERIC_BASE ** abs(int(gold[0]) - number)
    else:
        value = float(read.lower() == gold[0].lower())
    return Score(value, value if boxed else 0.0, read[:200])


# Pairs.

_PAIR = re.compile(r"\(\s*(\d+)\s*,\s*(\d+)\s*\)")


def _score_pairs(gold: Sequence[str], answer: PlainValue) -> Score:
    told, expected = _read_pairs(answer), _read_pairs("\n".join(gold))
    value = f1(told, expected)
    return Score(value, value, f"{len(told)} pairs, {len(told & expected)} of {len(expected)} right")


def _read_pairs(answer: PlainValue) -> set[tuple[int, int]]:
    if isinstance(answer, str):
        found: Iterable[tuple[str, str]] = _PAIR.findall(answer)
    elif isinstance(answer, list | tuple | set | frozenset):
        both = [each for each in answer if isinstance(each, list | tuple | set | frozenset) and len(each) == 2]
        found = [(str(first), str(second)) for first, second in both]
        found = [*found, *_PAIR.findall("\n".join(each for each in answer if isinstance(each, str)))]
    else:
        found = _PAIR.findall(str(answer))
    numbers = [(int(first), int(second)) for first, second in found if first.isdecimal() and second.isdecimal()]
    return {(min(pair), max(pair)) for pair in numbers if pair[0] != pair[1]}


def f1(told: AbstractSet[object], expected: AbstractSet[object]) -> float:
    """The harmonic mean of precision and recall; 1 where both sets are empty."""
    if not told and not expected:
        return 1.0
    return 2 * len(told & expected) / (len(told) + len(expected))


# RULER.


def answer_cap(gold: Sequence[str]) -> int:
    """How many characters of a reply count: ample for a list with explanations, far too few for a haystack."""
    return 1000 + 10 * sum(map(len, gold))


def _score_ruler(gold: Sequence[str], reply: str, *, any_one: bool) -> Score:
    counted = reply[: answer_cap(gold)].lower()
    whole = [bool(re.search(rf"(?<![\w-]){re.escape(each.lower())}(?![\w-])", counted)) for each in gold]
    part = [each.lower() in reply.lower() for each in gold]
    if any_one:
        return Score(float(any(whole)), float(any(part)), reply[:200])
    return Score(sum(whole) / len(gold), sum(part) / len(gold), reply[:200])


# Exact answers and lists.


def _score_exact(gold: Sequence[str], reply: str) -> Score:
    marked = _MARKED.findall(reply)
    read = _clean(marked[-1] if marked else reply.rpartition("\n")[2])
    plain = read.replace(",", "") if re.fullmatch(r"[\d,]+", read) else read
    value = float(any(plain.lower() == each.lower() for each in gold))
    return Score(value, value, read[:200])


def _score_list(gold: Sequence[str], answer: PlainValue) -> Score:
    """F1 over the entries; those of a text stand between commas, blanks or line ends, after the last colon of a heading."""
    if isinstance(answer, list | tuple | set | frozenset):
        told = {str(each).strip().lower() for each in answer}
    else:
        words = re.split(r"[\s,;]+", answer_text(answer).rpartition(": ")[2])
        told = {_clean(word).lower().lstrip("-• ") for word in words} - {"", "and", "none"}
    value = f1(told, {each.lower() for each in gold})
    return Score(value, value, ", ".join(sorted(told))[:200])
