"""Many texts written to shared memory at once: millions of documents in a second, in steps that never hold the interpreter's
lock for long.

Texts of one form (see ``worker.boot.shared_text``) are joined and encoded together, because a step for each text would take
microseconds. The table stores the offsets and lengths of each form apart, so that a REPL reads it column by column.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, chain, count, islice

from rlm.core.patterns import lazy_pattern
from rlm.core.values import frozen
from rlm.sandbox.worker.boot.shared_text import ASCII, CODECS, ERRORS, LATIN, UCS2, UCS4, WIDTHS

STEP_TEXTS = 8192
STEP_CHARS = 1 << 20
_beyond_latin = lazy_pattern("[^\x00-\xff]")
_beyond_ucs2 = lazy_pattern("[^\x00-\uffff]")


@frozen
class Group:
    """The texts of one form: ``count`` offsets and then as many lengths, each of 8 bytes, from ``table_at`` on."""

    form: int
    count: int
    table_at: int


class TextTable:
    """Writes texts and their table.

    Args:
        write: appends bytes to the file.
        position: returns the offset at which ``write`` appends.
    """

    def __init__(self, write: Callable[[bytes], None], position: Callable[[], int]) -> None:
        self._write = write
        self._position = position
        self._offsets = [array("q") for _ in WIDTHS]
        self._lengths = [array("q") for _ in WIDTHS]
        self._forms = bytearray()  # of all texts, in order

    def add(self, texts: Sequence[str]) -> None:
        """Adds texts.

        Raises:
            TypeError: one of them is not a ``str``.
        """
        for start in range(0, len(texts), STEP_TEXTS):
            self._add_step(texts[start : start + STEP_TEXTS])

    def _add_step(self, texts: Sequence[str]) -> None:
        lengths = list(map(len, texts))
        if sum(lengths) <= STEP_CHARS:
            self._add_small(texts, lengths)
        elif len(texts) == 1:
            self.add_pieces(lambda: pieces_of(texts[0]))
        else:
            half = len(texts) // 2
            self._add_step(texts[:half])
            self._add_step(texts[half:])

    def _add_small(self, texts: Sequence[str], lengths: Sequence[int]) -> None:
        joined = "\0".join(texts)
        if joined.isascii():
            self._add_alike(ASCII, f"{joined}\0", lengths)
            self._forms += bytes(len(texts))
            return
        forms = bytes(map(form_of, texts))
        self._forms += forms
        for form in sorted(set(forms)):
            chosen = [text for text, own in zip(texts, forms, strict=True) if own == form]
            self._add_alike(form, "\0".join([*chosen, ""]), list(map(len, chosen)))

    def _add_alike(self, form: int, joined: str, lengths: Sequence[int]) -> None:
        """Adds texts of one form, each followed by the zero that CPython expects after every string."""
        self._align()
        width = WIDTHS[form]
        sizes = map(width.__mul__, map((1).__add__, lengths))
        self._offsets[form].extend(islice(accumulate(chain((self._position(),), sizes)), len(lengths)))
        self._lengths[form].extend(lengths)
        self._write(_encode(joined, form))

    def add_pieces(self, pieces: Callable[[], Iterator[str]]) -> None:
        """Adds one text that is too large to be handled as a whole. ``pieces`` starts again at each call."""
        form = length = 0
        for piece in pieces():
            length += len(piece)
            if form < UCS4:
                form = max(form, form_of(piece))
        self._align()
        self._offsets[form].append(self._position())
        self._lengths[form].append(length)
        self._forms.append(form)
        for piece in pieces():
            self._write(_encode(piece, form))
        self._write(bytes(WIDTHS[form]))

    def finish(self) -> tuple[tuple[Group, ...], int]:
        """Writes the table. Returns its groups, and the offset of the order of the texts, or -1 if the groups are in order."""
        groups = []
        for form, (offsets, lengths) in enumerate(zip(self._offsets, self._lengths, strict=True)):
            if offsets:
                self._align()
                groups.append(Group(form, len(offsets), self._position()))
                self._write_words(offsets)
                self._write_words(lengths)
        if len(groups) <= 1:
            return tuple(groups), -1
        self._align()
        order_at = self._position()
        numbers = [count(sum(map(len, self._offsets[:form]))) for form in range(len(WIDTHS))]
        for start in range(0, len(self._forms), STEP_TEXTS):
            forms = self._forms[start : start + STEP_TEXTS]
            self._write(array("q", map(next, map(numbers.__getitem__, forms))).tobytes())
        return tuple(groups), order_at

    def _write_words(self, words: array[int]) -> None:
        for start in range(0, len(words), STEP_CHARS):
            self._write(words[start : start + STEP_CHARS].tobytes())

    def _align(self) -> None:
        self._write(bytes(-self._position() % 8))


def _encode(text: str, form: int) -> bytes:
    return text.encode(CODECS[form], ERRORS if form >= UCS2 else "strict")


def form_of(text: str) -> int:
    """The narrowest form that holds a text, as CPython would choose it."""
    if text.isascii():
        return ASCII
    if not _beyond_latin.search(text):
        return LATIN
    return UCS4 if _beyond_ucs2.search(text) else UCS2


def pieces_of(text: str) -> Iterator[str]:
    return (text[start : start + STEP_CHARS] for start in range(0, len(text), STEP_CHARS))
