"""Scores from 0 to 1. Each scorer follows its benchmark's published rule, with the faults below corrected.

``Score.value`` is ours. ``Score.published`` is the score by the benchmark's own rule, so that reports can quote both.

Faults of OOLONG's evaluation code (arXiv 2511.02817):

1. On a tie only the first of several correct answers counted. Here any counts.
2. ``int("1,234")`` failed and scored 0. Here separators, a final stop and words such as "rows" are removed.
3. A sentence without a colon was truncated to its last word, which never equals a label of several words.
4. A short comparison ("a is less common b", under 20 characters) was not reduced to its phrase.
5. The comparison of labels was case-sensitive.
6. Dates parsed in one format only. Here month names, ISO dates and slashes are read.
7. An explanation with a colon after the answer replaced it. Here the last ``Label:``, ``Answer:``, ``User:`` or ``Date:`` wins.

OOLONG-Pairs (arXiv 2512.24601, appendix D.1) is scored as published. A list of pairs as data scores like its text.

Faults of RULER (arXiv 2404.06654):

8. A gold value counted inside a longer number or word. Here it must be a whole word.
9. A reply that repeats the haystack contains everything. Here only its first ``answer_cap`` characters count.
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
    """Score of one reply, from 0 to 1. ``read`` is the extracted answer, truncated for display."""

    value: float
    published: float
    read: str


def score(item: Item, answer: PlainValue) -> Score:
    """Scores an answer: text, or data from a program. None scores 0."""
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
    """Display text of an answer."""
    if isinstance(answer, str):
        return answer.strip()
    if isinstance(answer, datetime.date):
        return f"{answer:%m/%d/%Y}"
    if isinstance(answer, Mapping) and len(answer) == 1:
        return f"{next(iter(answer))}: {next(iter(answer.values()))}"
    if isinstance(answer, list | tuple | set | frozenset):
        return ", ".join(answer_text(item) for item in answer)
    return str(answer)


# OOLONG.

_MARKED = re.compile(r"(?:label|answer|user|date)\s*:\s*([^\n]*)", re.IGNORECASE)


def _score_oolong(gold: Sequence[str], answer_type: str, reply: str) -> Score:
    published = _published_oolong(gold[0], answer_type, reply)
    best, read = 0.0, ""
    for candidate in _candidates(reply):
        value = max(_match_oolong(accepted, answer_type, candidate) for accepted in gold)
        if value > best or not read:
            best, read = max(best, value), candidate
        if answer_type != "LABEL":
            break  # the other candidates exist for labels of several words only
    return Score(best, published, read[:200])


def _candidates(reply: str) -> list[str]:
    """Possible answers: the text after the last marker, otherwise after the last colon, and the last words of a sentence."""
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
            phrases = [phrase for phrase in COMPARISONS if phrase in lowered]
            return float(len(phrases) == 1 and phrases[0] in gold)
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
    """Parses ISO dates, MM/DD/YYYY, ``Jan 5, 2023`` and ``5 January 2023``. None without a valid date."""
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
    """OOLONG's own rule, with its faults."""
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
    r"""Scores OOLONG-real, whose answer is in ``\boxed{}``: a number by distance, a list by the share found, text by equality."""
    boxed = re.findall(r"\\boxed\{(?:\\text\{)?([^{}]*)\}", reply)
    read = boxed[-1].strip() if boxed else reply.rpartition(":")[2].strip()
    if len(gold) > 1:
        entries = {part.strip().lower() for part in read.split(",")}
        value = len(entries & {entry.lower() for entry in gold}) / len(gold)
    elif re.fullmatch(r"-?\d+", gold[0]):
        number = _read_number(read)
        value = 0.0 if number is None else NUMERIC_BASE ** abs(int(gold[0]) - number)
    else:
        value = float(read.lower() == gold[0].lower())
    return Score(value, value if boxed else 0.0, read[:200])


# Pairs.

_PAIR = re.compile(r"\(\s*(\d+)\s*,\s*(\d+)\s*\)")


def _score_pairs(gold: Sequence[str], answer: PlainValue) -> Score:
    pairs, expected = _read_pairs(answer), _read_pairs("\n".join(gold))
    value = f1(pairs, expected)
    return Score(value, value, f"{len(pairs)} pairs, {len(pairs & expected)} of {len(expected)} right")


def _read_pairs(answer: PlainValue) -> set[tuple[int, int]]:
    if isinstance(answer, str):
        pairs: Iterable[tuple[str, str]] = _PAIR.findall(answer)
    elif isinstance(answer, list | tuple | set | frozenset):
        both = [item for item in answer if isinstance(item, list | tuple | set | frozenset) and len(item) == 2]
        pairs = [(str(first), str(second)) for first, second in both]
        pairs = [*pairs, *_PAIR.findall("\n".join(item for item in answer if isinstance(item, str)))]
    else:
        pairs = _PAIR.findall(str(answer))
    numbers = [(int(first), int(second)) for first, second in pairs if first.isdecimal() and second.isdecimal()]
    return {(min(pair), max(pair)) for pair in numbers if pair[0] != pair[1]}


def f1(given: AbstractSet[object], expected: AbstractSet[object]) -> float:
    """Harmonic mean of precision and recall. Two empty sets give 1."""
    if not given and not expected:
        return 1.0
    return 2 * len(given & expected) / (len(given) + len(expected))


# RULER.


def answer_cap(gold: Sequence[str]) -> int:
    """Number of scored characters: enough for a list with explanations, too few for a haystack."""
    return 1000 + 10 * sum(map(len, gold))


def _score_ruler(gold: Sequence[str], reply: str, *, any_one: bool) -> Score:
    counted = reply[: answer_cap(gold)].lower()
    whole = [bool(re.search(rf"(?<![\w-]){re.escape(value.lower())}(?![\w-])", counted)) for value in gold]
    part = [value.lower() in reply.lower() for value in gold]
    if any_one:
        return Score(float(any(whole)), float(any(part)), reply[:200])
    return Score(sum(whole) / len(gold), sum(part) / len(gold), reply[:200])


# Exact answers and lists.


def _score_exact(gold: Sequence[str], reply: str) -> Score:
    marked = _MARKED.findall(reply)
    read = _clean(marked[-1] if marked else reply.rpartition("\n")[2])
    plain = read.replace(",", "") if re.fullmatch(r"[\d,]+", read) else read
    value = float(any(plain.lower() == accepted.lower() for accepted in gold))
    return Score(value, value, read[:200])


def _score_list(gold: Sequence[str], answer: PlainValue) -> Score:
    """F1 over the entries. Entries of a text are separated by commas, blanks or line ends, after the colon of a heading."""
    if isinstance(answer, list | tuple | set | frozenset):
        entries = {str(item).strip().lower() for item in answer}
    else:
        words = re.split(r"[\s,;]+", answer_text(answer).rpartition(": ")[2])
        entries = {_clean(word).lower().lstrip("-• ") for word in words} - {"", "and", "none"}
    value = f1(entries, {entry.lower() for entry in gold})
    return Score(value, value, ", ".join(sorted(entries))[:200])
