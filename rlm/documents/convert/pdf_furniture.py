"""Headers and footers that repeat on the pages of a document, and words that are hyphenated across pages."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

_MIN_REPEATS = 3
_EDGE_LINES = 2
_MAX_EDGE_CHARS = 200
_NUMBER = re.compile(r"\d+")
_PAGE_NUMBER = re.compile(
    r"\W*(?:page|seite|p\.|pagina|página)?\s*\d+\s*(?:(?:of|/|von|de|sur|di)\s*\d+)?\W*", re.IGNORECASE
)
_HYPHEN = re.compile(r"(\w)(?:[\u00ad\u2010\ufffe\u0002]|-)\r?\n(?=[a-zà-öø-ÿα-ωа-я])")
_HYPHEN_AT_END = re.compile(r"(\w)[\u00ad\u2010-]\s*$")
_WORD_AT_START = re.compile(r"\s*([a-zà-öø-ÿα-ωа-я]\S*)\s?")


def split_furniture(pages: Sequence[list[str]]) -> tuple[list[str], list[list[str]]]:
    """Lines that repeat at the edges of pages, each shown once, and the pages without them.

    Numbers in such a line must be the same on all pages or count with the pages. A line whose numbers differ otherwise
    is content, for instance an account number.
    """
    if len(pages) < _MIN_REPEATS:
        return [], list(pages)
    places: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    for number, page in enumerate(pages):
        for at, key, line in _edges(page):
            places[key].append((number, at, line))
    least = max(_MIN_REPEATS, len(pages) // 2)
    shown: list[tuple[int, str]] = []
    removed: dict[int, set[int]] = defaultdict(set)
    for lines_at in places.values():
        on_pages = {number for number, _, _ in lines_at}
        if len(on_pages) < least or not _counts_with_pages(lines_at):
            continue
        shown.append((-len(on_pages), _shown(lines_at)))
        for number, at, _ in lines_at:
            removed[number].add(at)
    kept = [[line for at, line in enumerate(page) if at not in removed[number]] for number, page in enumerate(pages)]
    return [line for _, line in sorted(shown)[:10]], kept


def _edges(page: list[str]) -> list[tuple[int, str, str]]:
    """Lines at the top and bottom of a page: number of the line, form without page numbers, text."""
    filled = [(at, " ".join(line.split())) for at, line in enumerate(page) if line.strip()]
    near = {at: line for at, line in (*filled[:_EDGE_LINES], *filled[-_EDGE_LINES:]) if len(line) < _MAX_EDGE_CHARS}
    outermost = {at for at, _ in filled[:1] + filled[-1:]}
    return [
        (at, _NUMBER.sub("#", line) if at in outermost or _PAGE_NUMBER.fullmatch(line) else line, line)
        for at, line in near.items()
    ]


def _columns(found: Sequence[tuple[int, int, str]]) -> list[list[str]]:
    return [list(column) for column in zip(*(_NUMBER.findall(line) for _, _, line in found), strict=True)]


def _counts_with_pages(found: Sequence[tuple[int, int, str]]) -> bool:
    if len({line for _, _, line in found}) == 1:
        return True
    if any(len(number) > 9 for _, _, line in found for number in _NUMBER.findall(line)):
        return False
    steps = [{int(text) - page for text, (page, _, _) in zip(column, found, strict=True)} for column in _columns(found)]
    return all(len(set(column)) == 1 or len(step) <= 2 for column, step in zip(_columns(found), steps, strict=True))


def _shown(found: Sequence[tuple[int, int, str]]) -> str:
    """The line, with ``#`` for numbers that count."""
    line = found[0][2]
    if len({other for _, _, other in found}) == 1:
        return line
    counting = iter([len(set(column)) > 1 for column in _columns(found)])
    return _NUMBER.sub(lambda match: "#" if next(counting) else match[0], line)


def join_hyphens(text: str) -> str:
    """Joins words that are hyphenated at line ends."""
    return _HYPHEN.sub(r"\1", text).replace("\u00ad\n", "").replace("\u00ad", "")


def join_pages(pages: list[str]) -> list[str]:
    """Joins words that are hyphenated across pages, on the page of their first half."""
    joined = list(pages)
    for at in range(len(joined) - 1):
        if _HYPHEN_AT_END.search(joined[at]) and (rest := _WORD_AT_START.match(joined[at + 1])):
            joined[at] = _HYPHEN_AT_END.sub(r"\1", joined[at]) + rest[1]
            joined[at + 1] = joined[at + 1][rest.end() :]
    return joined
