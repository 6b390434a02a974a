"""Text in a shared memory file as genuine ``str`` objects, without a copy.

The host writes the characters of a context once into a sealed memory file. They have CPython's own form (PEP 393: 1, 2 or 4
bytes each). The file is mapped here, private and read-only, and each string gets a header that points into it. CPython
itself creates such headers for subclasses of ``str``, whose characters are stored apart from the object; ours have the type
``str``.

The offsets of a header's fields are not assumed, but found in a template created by the running interpreter.
``supports_mapped_text`` then checks the result against everything that code does with text. If a check fails (another
implementation, a build without the interpreter lock), the text is decoded in the ordinary way.
"""

from __future__ import annotations

import ctypes
import functools
import json
import mmap
import os
import pickle
import re
import struct
import sys
import types
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from ..wire.values import load

ASCII, LATIN, UCS2, UCS4 = range(4)
"""Forms of a string, ordered by the range of characters that they hold."""
WIDTHS = (1, 1, 2, 4)
CODECS = ("ascii", "latin-1", "utf-16-le", "utf-32-le")
ERRORS = "surrogatepass"  # lone surrogates are legal in a str, and are preserved

_TEMPLATE_CHARS = ("a", "\xe9", "\u0416", "\U0001f600")
_LIST_BODY_AT, _LIST_SIZE = (
    24,
    40,
)  # of CPython's list: count of references, type, length, address of the items, their room
_MAP_FIXED = 0x10  # of mmap, the same on all Linux architectures
_TEMPLATE_LENGTH = 7919  # a prime that no other field of a fresh header holds


class _Elsewhere(str):
    """A subclass whose instances store their characters apart, so they have the kind of header to copy."""

    __slots__ = ()


def open_context(descriptor: int, header: Mapping[str, Any]) -> Any:
    """Opens a shared context, as described by ``rlm.sandbox.shared_memory.Header``. The file can be closed afterwards."""
    if header["shape"] == "plain":
        return load(header["kind"], os.pread(descriptor, header["length"], 0), trusted=True)
    if header["shape"] == "file":
        return open_ascii(descriptor, header["size"])
    open_strings = map_strings if supports_mapped_text() else decode_strings
    texts = open_strings(descriptor, header)
    if header["shape"] == "str":
        return texts[0]
    if header["shape"] == "list":
        return texts
    half = len(texts) // 2
    return dict(zip(texts[:half], texts[half:], strict=True))


def open_ascii(descriptor: int, size: int) -> str:
    """A file of ASCII text, whose bytes are characters in CPython's own form."""
    if not supports_mapped_text():
        with mmap.mmap(descriptor, size, prot=mmap.PROT_READ) as whole:
            return whole[:].decode("ascii")
    return strings_at(map_file(descriptor, size), [(ASCII, array("q", [0]), array("q", [size]))], None)[0]


def map_strings(descriptor: int, header: Mapping[str, Any]) -> list[str]:
    """Opens the strings of a memory file, in order."""
    return strings_at(map_file(descriptor, header["size"]), *_read_table(descriptor, header))


def decode_strings(descriptor: int, header: Mapping[str, Any]) -> list[str]:
    """Copies the strings of a memory file, for interpreters with an unknown layout. Same result as ``map_strings``."""
    columns, order = _read_table(descriptor, header)
    with mmap.mmap(descriptor, header["size"], prot=mmap.PROT_READ) as whole:
        texts = [
            _decode(whole, form, offset, length)
            for form, offsets, lengths in columns
            for offset, length in zip(offsets, lengths, strict=True)
        ]
    return texts if order is None else [texts[number] for number in order]


@functools.cache
def supports_mapped_text() -> bool:
    """True if strings created here behave in all respects like the strings that they stand for."""
    if sys.implementation.name != "cpython" or struct.calcsize("P") != 8 or sys.byteorder != "little":
        return False
    if not getattr(sys, "_is_gil_enabled", lambda: True)() or "t" in sys.abiflags or not hasattr(sys, "getrefcount"):
        return False
    if list.__basicsize__ != _LIST_SIZE:
        return False
    try:
        return all(_passes_checks(text) for text in _SAMPLES)
    except Exception:
        return False


_SAMPLES = (
    "plain words, numbers 12 and words\n" * 9,
    "caf\xe9 cr\xe8me, na\xefve words\r\n" * 9,
    "\u0416\u0443\u043a words \u20ac 5, \ud800 alone\n" * 9,
    "smile \U0001f600 words \x00 zero, \xdf\n" * 9,
)


def _passes_checks(text: str) -> bool:
    form = next(form for form in range(4) if _fits(text, form))
    body = text.encode(CODECS[form], ERRORS if form >= UCS2 else "strict")
    buffer = ctypes.create_string_buffer(body + bytes(4))
    _make_immortal(buffer)
    copy = strings_at(ctypes.addressof(buffer), [(form, array("q", [0]), array("q", [len(text)]))], None)[0]
    if type(copy) is not str or copy is text:
        return False
    lines = copy.splitlines()
    checks = (
        copy == text and text == copy and len(copy) == len(text) and copy is copy[:],
        hash(copy) == hash(text) and {text: 1}[copy] == 1 and {copy: 2}[text] == 2,
        copy[3] == text[3] and copy[-1:] == "\n" and copy[2:20:3] == text[2:20:3] and copy[:] == text,
        copy.split() == text.split() and lines == text.splitlines() and "".join(lines) == "".join(text.splitlines()),
        copy.find("words") == text.find("words") and copy.rfind("s") == text.rfind("s") and "words" in copy,
        copy.count("w") == text.count("w") and copy.replace("words", "w") == text.replace("words", "w"),
        copy.upper() == text.upper() and copy.title() == text.title() and copy.strip() == text.strip(),
        re.findall(r"\w+", copy) == re.findall(r"\w+", text) and re.sub(r"\s", "", copy) == re.sub(r"\s", "", text),
        copy + "x" == text + "x" and "x" + copy == "x" + text and copy * 2 == text * 2 and f"{copy}!" == f"{text}!",
        json.loads(json.dumps(copy)) == text and json.dumps({copy: copy}) == json.dumps({text: text}),
        pickle.loads(pickle.dumps(copy)) == text and repr(copy) == repr(text) and format(copy, ">400") == format(text, ">400"),
        copy.encode("utf-8", ERRORS) == text.encode("utf-8", ERRORS) and str(copy) == text and list(copy) == list(text),
        copy.isascii() == text.isascii() and max(copy) == max(text) and sorted(copy) == sorted(text),
        copy.partition("words") == text.partition("words") and copy.startswith(text[:9]) and copy.endswith(text[-9:]),
        copy.translate({119: "W"}) == text.translate({119: "W"}) and copy.casefold() == text.casefold(),
        (copy < text + "x") and not (copy < text) and sys.intern(copy) == text and copy.zfill(500) == text.zfill(500),
        getattr(types.SimpleNamespace(**{copy: 7}), copy) == 7 and bytes(copy, "utf-8", ERRORS) == bytes(text, "utf-8", ERRORS),
    )  # fmt: skip
    return all(checks)


def _fits(text: str, form: int) -> bool:
    if form == ASCII:
        return text.isascii()
    return ord(max(text)) < 1 << (8 * WIDTHS[form])


Column: TypeAlias = "tuple[int, array[int], array[int]]"
"""Form, offsets and lengths of some strings."""


def strings_at(address: int, columns: Sequence[Column], order: array[int] | None) -> list[str]:
    """Creates headers for all entries of a table, and returns the strings. Offsets count from ``address``.

    It works column by column, not string by string, so that millions of documents open in a fraction of a second.
    """
    words, *more = [_headers(address, *column) for column in columns] or [array("q")]
    for block in more:
        words.extend(block)
    _make_immortal(words)
    start, size = words.buffer_info()[0], str.__basicsize__
    if order is None:
        return _list_of(array("q", range(start, start + words.itemsize * len(words), size)))
    return _list_of(_linear(order, size, start))


def _headers(address: int, form: int, offsets: array[int], lengths: array[int]) -> array[int]:
    header, lengths_at, bodies_at = _template(form)
    words = array("q", header) * len(offsets)
    bodies = _linear(offsets, 1, address)
    for values, places in ((lengths, lengths_at), (bodies, bodies_at)):
        for place in places:
            words[place :: len(header)] = values
    return words


def _list_of(pointers: array[int]) -> list[str]:
    """A list of the immortal objects at these addresses. Their reference counts are not written, so no page is copied."""
    items: list[Any] = [None] * len(pointers)
    if items:
        body = ctypes.c_uint64.from_address(id(items) + _LIST_BODY_AT).value
        ctypes.memmove(body, pointers.buffer_info()[0], len(pointers) * pointers.itemsize)
    return items


def _linear(values: array[int], factor: int, offset: int) -> array[int]:
    """``value * factor + offset`` for all values at once, as one long number whose digits never carry."""
    ones = int.from_bytes((array("q", [1]) * len(values)).tobytes(), "little")
    total = int.from_bytes(values.tobytes(), "little") * factor + ones * offset
    result = array("q")
    result.frombytes(total.to_bytes(len(values) * 8, "little"))
    return result


def _make_immortal(memory: object) -> None:
    """Keeps memory alive until the process ends, because its strings can be referenced from anywhere.

    A module-level reference is not enough: at exit the interpreter visits interned strings after it has cleared all modules.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(memory))


@functools.cache
def _template(form: int) -> tuple[array[int], tuple[int, ...], tuple[int, ...]]:
    """A header of this form as words, and the indexes of its length and of its characters' address."""
    model = _Elsewhere(_TEMPLATE_CHARS[form] * _TEMPLATE_LENGTH)
    words = array("q", ctypes.string_at(id(model), str.__basicsize__))
    body = words[-1]
    expected = model.encode(CODECS[form])
    if words[1] != id(_Elsewhere) or words[2] != _TEMPLATE_LENGTH or ctypes.string_at(body, len(expected)) != expected:
        raise TypeError("this interpreter has another string layout")
    lengths = tuple(i for i, word in enumerate(words) if i > 1 and word == _TEMPLATE_LENGTH)
    bodies = tuple(i for i, word in enumerate(words) if i > 1 and word == body)
    words[0], words[1], words[3] = _immortal(), id(str), -1  # the hash is not known yet
    return words, lengths, bodies


def _immortal() -> int:
    """A reference count that never falls to zero: the interpreter's own from 3.12 on."""
    if sys.version_info >= (3, 12):
        return int.from_bytes(ctypes.string_at(id(None), 4), "little")
    return 1 << 60


def _read_table(descriptor: int, header: Mapping[str, Any]) -> tuple[list[Column], array[int] | None]:
    """The columns of all groups, and the order of the strings, or None if they are in order."""
    columns = []
    for group in header["groups"]:
        count, at = group["count"], group["table_at"]
        offsets, lengths = _read_words(descriptor, count, at), _read_words(descriptor, count, at + 8 * count)
        columns.append((group["form"], offsets, lengths))
    order_at = header["order_at"]
    return columns, None if order_at < 0 else _read_words(descriptor, header["count"], order_at)


def _read_words(descriptor: int, count: int, at: int) -> array[int]:
    words = array("q")
    words.frombytes(os.pread(descriptor, 8 * count, at))
    return words


def map_file(descriptor: int, size: int) -> int:
    """Maps a file read-only for the rest of the process's life; returns its address. A page of zeros follows its last byte."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    address = _mmap(None, size + mmap.PAGESIZE, flags, -1)
    if size:
        _mmap(address, size, mmap.MAP_PRIVATE | _MAP_FIXED, descriptor)
    return address


def _mmap(at: int | None, size: int, flags: int, descriptor: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
    address = libc.mmap(at, size, mmap.PROT_READ, flags, descriptor, 0)
    if address is None or address == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "mmap of the context")
    return int(address)


def _decode(whole: mmap.mmap, form: int, offset: int, length: int) -> str:
    body = whole[offset : offset + length * WIDTHS[form]]
    return body.decode(CODECS[form], ERRORS if form >= UCS2 else "strict")
