"""Evidence of an answer: citations that were looked up in the sources, and the coverage of the sources by prompts.

Both are computed from texts alone: what a model claims about its sources is never taken for granted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from functools import lru_cache
from typing import NamedTuple

from rlm.core.values import frozen, slotted

WINDOW_CHARS = 32
"""Length of the pieces by which a prompt is aligned with a source; shorter matches are not counted."""
_MAX_WINDOWS = 1_000_000
_MIN_STRIDE = 8
_SURE_CHARS = 256  # a match of this length is not compared with others
_MAX_SPLIT_WORDS = 2  # words of a quote that a line end can cut apart in the source
_MAX_TRIES = 40
_REACH = 4  # windows that a match is extended back over: repeated windows are indexed at their first place only
_SPACE = "[\\s\u00a0\u2007\u202f]"
_HYPHEN = "[-\u00ad\u2010\u2011]"
_ALIKE = {
    "'": "['\u2018\u2019\u201b\u2032]", "\u2019": "['\u2018\u2019\u201b\u2032]", "\u2018": "['\u2018\u2019\u201b\u2032]",
    '"': '["\u201c\u201d\u201e\u2033]', "\u201c": '["\u201c\u201d\u201e\u2033]', "\u201d": '["\u201c\u201d\u201e\u2033]',
    "-": "[-\u2010\u2011\u2012\u2013\u2014\u2212]", "\u2013": "[-\u2010\u2011\u2012\u2013\u2014\u2212]",
    "\u2014": "[-\u2010\u2011\u2012\u2013\u2014\u2212]",
}  # fmt: skip


@frozen
class Citation:
    """A quote and its place in the sources.

    Attributes:
        path: the document; empty if the quote was not found and none was named.
        place: page, sheet and row, or line, for instance "p. 3".
        quote: as the model gave it.
        start, end: offsets in the document's text; 0 if it was not found.
        verified: the quote stands in the document word for word.
        exact: it stands there character by character; otherwise white space, hyphens or quotation marks differ.
    """

    path: str
    place: str
    quote: str
    start: int = 0
    end: int = 0
    verified: bool = False
    exact: bool = False


def find_quote(quote: str, texts: Mapping[str, str], path: str | None = None) -> tuple[str, int, int, bool] | None:
    """Finds a quote in the sources, first as it is, then with other white space, hyphens and quotation marks.

    Args:
        quote: at least one word.
        texts: sources by path.
        path: the source that is searched first.

    Returns:
        Path, start, end, and True if the match is exact; None if the quote is nowhere.
    """
    wanted = quote.strip().strip("\u2026").removeprefix("...").removesuffix("...").strip()
    if not wanted:
        return None
    order = [path] if path is not None and path in texts else []
    order += [name for name in texts if name != path]
    for name in order:
        start = texts[name].find(wanted)
        if start >= 0:
            return name, start, start + len(wanted), True
    words = list(dict.fromkeys(re.findall(r"\w+", wanted)))
    for name in order:
        span = _find_loose(wanted, words, texts[name])
        if span is not None:
            return name, *span, False
    return None


@lru_cache(maxsize=8)  # compiled only if a window has all words, which most invented quotes lack
def _loose_pattern(quote: str) -> re.Pattern[str]:
    words = re.split(f"{_SPACE}+", quote)
    loose = []
    for word in words:
        signs = [_ALIKE.get(sign, re.escape(sign)) for sign in word]
        loose.append(f"(?:{_HYPHEN}?{_SPACE}*\n{_SPACE}*|\u00ad)?".join(signs))
    return re.compile(f"{_SPACE}+".join(loose))


@lru_cache(maxsize=8)
def _spaced_pattern(quote: str) -> re.Pattern[str]:
    """The quote with other white space: the most frequent difference, and cheap to compile."""
    return re.compile(f"{_SPACE}+".join(map(re.escape, re.split(f"{_SPACE}+", quote))))


def _find_loose(quote: str, words: Sequence[str], text: str) -> tuple[int, int] | None:
    """Tries the pattern near occurrences of the quote's rarest word that have its other words near by."""
    counts = {word: text.count(word) for word in words}
    present = [word for word in words if counts[word]]
    if not present or len(words) - len(present) > _MAX_SPLIT_WORDS:
        return None
    rarest = min(present, key=lambda word: counts[word])
    reach = 2 * len(quote) + 200
    tries = 0
    at = text.find(rarest)
    while at >= 0 and tries < _MAX_TRIES:
        start, end = max(at - reach, 0), min(at + reach, len(text))
        window = text[start:end]
        if all(word in window for word in present):
            tries += 1
            match = _spaced_pattern(quote).search(text, start, end) or _loose_pattern(quote).search(text, start, end)
            if match is not None:
                return match.span()
        at = text.find(rarest, at + (reach if tries > _MAX_TRIES // 2 else 1))
    return None


@frozen
class DocumentCoverage:
    """Coverage of one document: ``ranges`` are the offsets, in order and apart, that a model was shown."""

    path: str
    chars: int
    ranges: tuple[tuple[int, int], ...]

    @property
    def read_chars(self) -> int:
        return sum(end - start for start, end in self.ranges)

    def unread(self) -> tuple[tuple[int, int], ...]:
        """Offsets of the parts that no model was shown."""
        gaps, done = [], 0
        for start, end in self.ranges:
            if start > done:
                gaps.append((done, start))
            done = max(done, end)
        if done < self.chars:
            gaps.append((done, self.chars))
        return tuple(gaps)


@frozen
class Coverage:
    """Parts of the sources that were shown to any model, in prompts or observations."""

    documents: tuple[DocumentCoverage, ...] = ()

    @property
    def share(self) -> float:
        """Share of all characters that were shown, from 0 to 1."""
        total = sum(item.chars for item in self.documents)
        return sum(item.read_chars for item in self.documents) / total if total else 1.0

    @property
    def unopened(self) -> tuple[str, ...]:
        """Documents of which nothing was shown."""
        return tuple(item.path for item in self.documents if not item.ranges and item.chars)

    def summary(self) -> str:
        """One line such as "read 98 % of 12 files" and the files that were not opened."""
        count = len(self.documents)
        line = f"read {_percent(self.share)} of {count:,} file{'' if count == 1 else 's'}"
        unopened = self.unopened
        if unopened:
            line += f"; not opened: {', '.join(unopened[:3])}" + (
                f", and {len(unopened) - 3:,} more" if len(unopened) > 3 else ""
            )
        return line


def _percent(share: float) -> str:
    if 0 < share < 0.01:
        return "less than 1 %"
    return f"{min(int(share * 100), 99) if share < 1 else 100} %"


class _Match(NamedTuple):
    """A piece of a sent text, from ``begin`` to ``end``, that stands in a source at ``start``."""

    begin: int
    end: int
    number: int
    start: int

    @property
    def size(self) -> int:
        return self.end - self.begin

    def overlaps(self, other: _Match) -> bool:
        return self.begin < other.end and other.begin < self.end

    def excludes(self, other: _Match) -> bool:
        """True if this match can be counted beside the other, or in place of it."""
        return self.size > other.size or not self.overlaps(other)


@slotted
class CoverageMeter:
    """Finds which parts of some sources stand in texts that were sent.

    A window of every ``stride`` characters of the sources is indexed. A text is scanned for these windows; each match is
    extended to both sides. The cost is small for text that stems from the sources, and one look-up a character otherwise.
    """

    texts: Mapping[str, str]
    stride: int = 0
    _sources: list[str] = field(default_factory=list)
    _index: dict[int, tuple[int, int]] = field(default_factory=dict)
    _ranges: list[list[tuple[int, int]]] = field(default_factory=list)
    _short: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._sources = list(self.texts.values())
        self._ranges = [[] for _ in self._sources]
        total = sum(map(len, self._sources))
        self.stride = self.stride or max(_MIN_STRIDE, total // _MAX_WINDOWS)
        self._short = [
            number
            for number, text in enumerate(self._sources)
            if text.strip() and len(text) < WINDOW_CHARS + self.stride
        ]
        index = self._index
        for number, text in enumerate(self._sources):
            for start in range(0, len(text) - WINDOW_CHARS + 1, self.stride):
                index.setdefault(hash(text[start : start + WINDOW_CHARS]), (number, start))

    def add(self, text: str) -> None:
        """Counts everything of the sources that stands in ``text``."""
        self._add_short_sources(text)
        at, done, last = 0, 0, len(text) - WINDOW_CHARS
        place_of, reach = self._index.get, _REACH * (self.stride + WINDOW_CHARS)
        pending: list[_Match] = []  # short matches: a longer one that begins before them can still be found
        while at <= last:
            window = place_of(hash(text[at : at + WINDOW_CHARS]))
            match = None if window is None else self._match(text, at, done, *window)
            at += 1
            if match is not None and all(match.excludes(other) for other in pending):
                pending = [other for other in pending if not match.overlaps(other)]
                pending.append(match)
                if match.size >= _SURE_CHARS:
                    self._count_all(pending)
                    at, done, pending = max(at, match.end), match.end, []
            elif pending and at > pending[0].end + reach:
                done = pending[0].end
                self._count_all([pending.pop(0)])
        self._count_all(pending)

    def _match(self, text: str, at: int, done: int, number: int, start: int) -> _Match | None:
        """The longest equal piece around a window; None if only the hashes are equal."""
        source = self._sources[number]
        if source[start : start + WINDOW_CHARS] != text[at : at + WINDOW_CHARS]:
            return None
        before = _equal_before(text, at, source, start, min(at - done, _REACH * (self.stride + WINDOW_CHARS)))
        after = WINDOW_CHARS + _equal_after(text, at + WINDOW_CHARS, source, start + WINDOW_CHARS)
        return _Match(at - before, at + after, number, start - before)

    def _count_all(self, matches: Iterable[_Match]) -> None:
        for match in matches:
            self._ranges[match.number].append((match.start, match.start + match.size))

    def _add_short_sources(self, text: str) -> None:
        """Counts sources that are too short for an index entry and stand in the text as a whole."""
        for number in self._short:
            if self._sources[number].strip() in text:
                self._ranges[number].append((0, len(self._sources[number])))

    def coverage(self) -> Coverage:
        return Coverage(
            tuple(
                DocumentCoverage(path, len(text), tuple(_joined(ranges)))
                for (path, text), ranges in zip(self.texts.items(), self._ranges, strict=True)
            )
        )


def measure_coverage(texts: Mapping[str, str], sent: Iterable[str]) -> Coverage:
    """Coverage of the sources ``texts`` by the texts that were sent to models."""
    meter = CoverageMeter(texts)
    for text in dict.fromkeys(sent):
        meter.add(text)
    return meter.coverage()


def _equal_after(text: str, at: int, source: str, start: int) -> int:
    """Number of equal characters from two positions on, by comparing pieces that double and then halve."""
    most = min(len(text) - at, len(source) - start)
    length, step, growing = 0, 64, True
    while step and length < most:
        size = min(step, most - length)
        if text[at + length : at + length + size] == source[start + length : start + length + size]:
            length += size
            step = step * 2 if growing else max(step // 2, 1)
        else:
            growing = False
            step = size // 2
    return length


def _equal_before(text: str, at: int, source: str, start: int, most: int) -> int:
    """Number of equal characters just before two positions."""
    most = min(most, at, start)
    length = 0
    while length < most and text[at - length - 1] == source[start - length - 1]:
        length += 1
    return length


def _joined(ranges: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    current: tuple[int, int] | None = None
    for start, end in sorted(ranges):
        if current is None:
            current = start, end
        elif start <= current[1]:
            current = current[0], max(current[1], end)
        else:
            yield current
            current = start, end
    if current is not None:
        yield current
