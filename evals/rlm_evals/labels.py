"""Label accuracy of leaf calls, measured from the calls themselves, for any prompt format of the root.

An OOLONG score needs this context: an engine that counts perfectly scores about 0.8 with a leaf that is 95 % accurate. A row is
judged if its reply line can be identified, which is the case for:

- A text on a numbered line, and the same number in the reply.
- Several texts in order, and exactly that number of labels, one per line.
- One text and one label.

Other rows are not judged. ``Labelling.rows`` minus ``judged`` is their number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from rlm.core.tree import NodeRecord

_NUMBERED = re.compile(r"^\W*(?:item |line |row )?(\d+)\s*[:.)\]-]+\s*(.*)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Labelling:
    """Counts of labels: ``rows`` sent to leaves, ``judged`` with a readable reply, ``right`` with the correct label."""

    rows: int = 0
    judged: int = 0
    right: int = 0

    def __add__(self, other: Labelling) -> Labelling:
        return Labelling(self.rows + other.rows, self.judged + other.judged, self.right + other.right)


def measure_labels(truth: Mapping[str, str], tree: NodeRecord | None) -> Labelling:
    """Sum over all leaf calls of a tree."""
    if tree is None or not truth:
        return Labelling()
    labels = tuple(sorted(set(truth.values())))
    calls = [call for node in tree.walk() for call in node.leaves if call.reply]
    return sum((judge_call(truth, labels, call.prompt, call.reply or "") for call in calls), Labelling())


def judge_call(truth: Mapping[str, str], labels: Sequence[str], prompt: str, reply: str) -> Labelling:
    """Compares one reply with the true labels of the texts in its prompt."""
    asked = list(_texts_in(prompt, truth))
    if not asked:
        return Labelling()
    replies = _read_reply(reply, tuple(labels))
    by_number = {number: label for number, label in replies if number is not None}
    if all(number is not None for number, _ in asked) and by_number:
        pairs = [(truth[text], by_number.get(number or 0)) for number, text in asked]
    elif len(replies) == len(asked):
        pairs = [(truth[text], label) for (_, text), (_, label) in zip(asked, replies, strict=True)]
    else:
        pairs = []
    judged = [(right, label) for right, label in pairs if label]
    return Labelling(len(asked), len(judged), sum(right == label for right, label in judged))


def _texts_in(prompt: str, truth: Mapping[str, str]) -> Iterable[tuple[int | None, str]]:
    """Known texts on lines of their own, with the line's number if it has one."""
    for line in prompt.splitlines():
        rest = line.partition("|| Instance: ")[2] or line
        number: int | None = None
        if rest.strip() not in truth and (match := _NUMBERED.match(line)):
            number = int(match[1])
            rest = match[2].partition("|| Instance: ")[2] or match[2]
        text = rest.strip().strip('"')
        if text in truth:
            yield number, text


def _read_reply(reply: str, labels: tuple[str, ...]) -> list[tuple[int | None, str]]:
    """(number or None, label) of each line, or of each entry of a JSON list or object."""
    try:
        data = json.loads(reply)
    except ValueError:
        data = None
    if isinstance(data, list):
        return [(None, _find_label(str(entry), labels) or "") for entry in data]
    if isinstance(data, dict):
        return [
            (int(key) if key.isdecimal() else None, _find_label(str(entry), labels) or "")
            for key, entry in data.items()
        ]
    pairs: list[tuple[int | None, str]] = []
    for line in reply.splitlines():
        match = _NUMBERED.match(line)
        label = _find_label(match[2] if match else line, labels)
        if label:
            pairs.append((int(match[1]) if match else None, label))
    return pairs


def _find_label(text: str, labels: tuple[str, ...]) -> str | None:
    """The single label named in a text. None for zero or several labels."""
    names = {match.lower() for match in _any_of(labels).findall(text)}
    return next(label for label in labels if label.lower() in names) if len(names) == 1 else None


@lru_cache(maxsize=16)
def _any_of(labels: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(labels, key=len, reverse=True)
    return re.compile(rf"\b({'|'.join(map(re.escape, longest_first))})\b", re.IGNORECASE)
