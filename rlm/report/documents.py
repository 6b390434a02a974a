"""The sources of a run as data of its page: their texts in segments that are marked as read or cited.

A page cannot hold every text of a run over gigabytes. Surroundings of citations come first, then small documents as a whole, then
the surroundings of what was read, then small documents that were not read. The rest is left out with its length.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TypeAlias

from rlm.core.corpus import Corpus
from rlm.core.evidence import Citation, Coverage
from rlm.core.values import frozen

MAX_PAGE_CHARS = 4_000_000
MAX_UNREAD_CHARS = 1_000_000
MAX_DOCUMENT_CHARS = 400_000
SMALL_DOCUMENT_CHARS = 60_000
MAX_DOCUMENTS = 5_000
MAX_CITATIONS = 2_000
_AROUND_CITATION = 2_000
_AROUND_READ = 300
_MAX_SEGMENTS = 20_000  # of one document
Span: TypeAlias = tuple[int, int]


@frozen
class _Text:
    path: str
    text: str
    read: Sequence[Span]
    cited: Sequence[tuple[int, int, int]]
    """Start, end and number of each citation."""


def describe_documents(
    corpus: Corpus, citations: Sequence[Citation], coverage: Coverage | None
) -> list[dict[str, object]]:
    """The documents of a page: path, kind, characters, and segments in their order.

    A segment is ``[text, is_read, [numbers of citations]]``, ``[label]`` where a place begins, or ``[number of characters]`` for
    a part that is left out.
    """
    texts = list(_gather(corpus, citations, coverage))
    kinds = {str(item["path"]): str(item["kind"]) for item in corpus.items}
    kept: dict[str, list[Span]] = {item.path: [] for item in texts}
    left = MAX_PAGE_CHARS
    for around in (_around_citations, _whole_if_read, _around_read, _whole):
        left = min(left, MAX_UNREAD_CHARS) if around is _whole else left
        for item in texts:
            before = _size(kept[item.path])
            added = _first_chars(_joined(around(item)), min(left, MAX_DOCUMENT_CHARS - before))
            kept[item.path] = _joined([*kept[item.path], *added])
            left -= _size(kept[item.path]) - before
    return [
        {
            "path": item.path,
            "kind": kinds.get(item.path, ""),
            "chars": len(item.text),
            "segments": list(_segments(item, kept[item.path], corpus)),
        }
        for item in texts
    ]


def _gather(corpus: Corpus, citations: Sequence[Citation], coverage: Coverage | None) -> Iterator[_Text]:
    """Documents with their marks: cited ones first, then those that were read, then the others."""
    read = {item.path: item.ranges for item in coverage.documents} if coverage else {}
    cited: dict[str, list[tuple[int, int, int]]] = {}
    for number, citation in enumerate(citations[:MAX_CITATIONS]):
        if citation.verified and 0 <= citation.start < citation.end <= len(corpus.texts.get(citation.path, "")):
            cited.setdefault(citation.path, []).append((citation.start, citation.end, number))
    order = sorted(corpus.texts, key=lambda path: (path not in cited, not read.get(path)))
    for path in order[:MAX_DOCUMENTS]:
        yield _Text(path, corpus.texts[path], read.get(path, ()), cited.get(path, ()))


def _around_citations(item: _Text) -> list[Span]:
    return [_widened(start, end, _AROUND_CITATION, item.text) for start, end, _ in item.cited]


def _whole_if_read(item: _Text) -> list[Span]:
    return _whole(item) if item.cited or item.read else []


def _whole(item: _Text) -> list[Span]:
    return [(0, len(item.text))] if len(item.text) <= SMALL_DOCUMENT_CHARS else []


def _around_read(item: _Text) -> list[Span]:
    return [_widened(start, end, _AROUND_READ, item.text) for start, end in item.read]


def _widened(start: int, end: int, by: int, text: str) -> Span:
    """A span with its surroundings, from the start of a line if one is near."""
    first = max(start - by, 0)
    line = text.find("\n", first, start)
    return (line + 1 if first and line >= 0 else first), min(end + by, len(text))


def _joined(spans: Sequence[Span]) -> list[Span]:
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((start, end))
    return joined


def _size(spans: Sequence[Span]) -> int:
    return sum(end - start for start, end in spans)


def _first_chars(spans: Sequence[Span], chars: int) -> list[Span]:
    kept: list[Span] = []
    for start, end in spans:
        if chars <= 0:
            break
        kept.append((start, min(end, start + chars)))
        chars -= end - start
    return kept


def _segments(item: _Text, spans: Sequence[Span], corpus: Corpus) -> Iterator[list[object]]:
    starts, labels = corpus.places_of(item.path)
    changes: dict[int, list[int]] = {}  # citations that begin or end at an offset
    for begin, stop, number in item.cited:
        changes.setdefault(begin, []).append(number)
        changes.setdefault(stop, []).append(number)
    marks = sorted({*changes, *(point for span in item.read for point in span)})
    done = count = 0
    active: set[int] = set()
    for start, end in spans:
        if start > done:
            yield [start - done]
        places = {starts[at]: labels[at] for at in range(bisect_left(starts, start), bisect_left(starts, end))}
        if start not in places:
            yield [corpus.place_at(item.path, start)]
        inside = marks[bisect_right(marks, start) : bisect_left(marks, end)]
        points = sorted({start, end, *inside, *places})
        for first, last in pairwise(points):
            count += 1
            if count > _MAX_SEGMENTS:
                yield [len(item.text) - first]
                return
            active.symmetric_difference_update(changes.pop(first, ()))
            if first in places:
                yield [places[first]]
            yield [item.text[first:last], _is_inside(first, item.read), sorted(active)]
        active.symmetric_difference_update(changes.pop(end, ()))
        done = end
    if done < len(item.text):
        yield [len(item.text) - done]


def _is_inside(offset: int, ranges: Sequence[Span]) -> bool:
    at = bisect_right(ranges, offset, key=lambda span: span[0]) - 1
    return at >= 0 and offset < ranges[at][1]
