"""Placeholders: values without content, which a lookahead copy uses in place of answers that have not arrived.

A ``Placeholder`` supports all operations that keep it text: strip, slice, format, concatenate, replace, print. An operation
that depends on its content ends the copy: ``==``, ``in``, ``len``, truth, iteration, hashing, ``split``. Methods catch most of
them. C code can read the characters of a ``str`` without calling a method (``re``, ``json``, ``int``, a join). It then meets
an unreadable page of memory, which ends the copy as well. So no result can depend on content that does not exist. This
module must not know how prompts travel.
"""

from __future__ import annotations

import ctypes
import mmap
import operator
import os
import signal
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

_exit = os._exit  # the worker replaces os._exit later with one that flushes
_HAS_WSTR = sys.version_info < (3, 12)
_SIZE, _UTF8_AT, _DATA_AT = (
    (80, 56, 72) if _HAS_WSTR else (64, 48, 56)
)  # of a ``str`` whose characters are stored apart


def exit_copy(*_args: object, **_options: object) -> NoReturn:
    """Ends this copy: from here on it would need an answer."""
    _exit(0)


class Placeholder(str):
    """An unknown text. Every operation returns a new one, because equality is unknown."""

    __slots__ = ()
    __class__ = property(exit_copy)  # isinstance reads it if the true class does not match

    def __str__(self) -> str:
        return self

    def _changed(self) -> Placeholder:
        return unknown_text()

    lower = upper = title = capitalize = casefold = swapcase = __repr__ = _changed

    def _changed_by_texts(self, *texts: object) -> Placeholder:
        return unknown_text() if all(text is None or isinstance(text, str) for text in texts) else exit_copy()

    strip = lstrip = rstrip = removeprefix = removesuffix = _changed_by_texts

    def _changed_by_width(self, width: object = 8, fill: object = " ") -> Placeholder:
        return unknown_text() if type(width) is int and type(fill) is str and len(fill) == 1 else exit_copy()

    center = ljust = rjust = zfill = _changed_by_width

    def replace(self, old: object, new: object, count: object = -1) -> Placeholder:
        return unknown_text() if isinstance(old, str) and isinstance(new, str) and type(count) is int else exit_copy()

    def join(self, parts: Iterable[str]) -> Placeholder:
        return self._changed_by_texts(*parts)

    def __format__(self, spec: str) -> Placeholder:
        if type(spec) is not str:
            exit_copy()
        format("", spec)  # raises if the original will
        return unknown_text()

    def __add__(self, other: object) -> Placeholder:
        return unknown_text() if isinstance(other, str) else NotImplemented

    __radd__ = __add__

    def __mul__(self, times: object) -> Placeholder:
        return unknown_text() if type(times) is int and times > 0 else exit_copy()

    __rmul__ = __mul__

    def __rmod__(self, template: object) -> Placeholder:
        text: Placeholder = apply_mod(template, self)
        return text

    def __getitem__(self, index: object) -> Placeholder:
        if type(index) is not slice or index.step == 0:
            exit_copy()
        parts = (index.start, index.stop, index.step)
        return unknown_text() if all(part is None or type(part) is int for part in parts) else exit_copy()

    def __getattr__(self, _name: str) -> NoReturn:
        exit_copy()


class Data:
    """An unknown value that follows a JSON schema. It supports access to its required fields; anything more ends the copy."""

    __slots__ = ("_schema",)
    __class__ = property(exit_copy)

    def __init__(self, schema: Mapping[str, Any]) -> None:
        object.__setattr__(self, "_schema", schema)

    def __getitem__(self, key: object) -> object:
        schema = object.__getattribute__(self, "_schema")
        fields = schema.get("properties")
        if type(key) is not str or not isinstance(fields, dict) or key not in (schema.get("required") or ()):
            exit_copy()
        return unknown_value(fields.get(key))

    def __str__(self) -> str:
        return unknown_text()

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        return unknown_text() if not spec else exit_copy()


class Moment:
    """An unknown time or duration. It supports arithmetic and formatting; a decision that depends on it ends the copy."""

    __slots__ = ()
    __class__ = property(exit_copy)

    def _computed(self, other: object = 0) -> Moment:
        return Moment() if type(other) in (int, float, Moment) else exit_copy()

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __round__ = _computed

    def __truediv__(self, other: object) -> Moment:
        return Moment() if type(other) in (int, float) and other else exit_copy()

    def __str__(self) -> str:
        return unknown_text()

    __repr__ = __str__

    def __format__(self, _spec: str) -> str:
        return unknown_text()


_MACHINERY = frozenset(
    "__new__ __init__ __init_subclass__ __subclasshook__ __getattribute__ __setattr__ __delattr__ __slots__ __doc__ "
    "__module__ __class__ __qualname__ __weakref__ __dict__".split()
)
_DECIDING = (
    "__bool__ __int__ __float__ __complex__ __index__ __hash__ __eq__ __ne__ __lt__ __le__ __gt__ __ge__ __len__ __iter__ "
    "__contains__ __getitem__ __reversed__ __call__ __getattr__ __add__ __radd__ __sub__ __rsub__ __mul__ __rmul__ __mod__ "
    "__rmod__ __truediv__ __rtruediv__ __floordiv__ __rfloordiv__ __pow__ __neg__ __abs__ __floor__ __ceil__ __trunc__ "
    "__round__ __fspath__ __enter__ __next__ __await__ __copy__ __deepcopy__ __setitem__ __delitem__ __or__ __and__ __divmod__"
).split()


def _close_all_but_own(kind: type, base: type) -> None:
    """Makes every operation that the class does not define end the copy."""
    for name in {*dir(base), *(_DECIDING if base is object else ("__bool__", "__int__", "__float__", "__rmod__"))}:
        if name not in _MACHINERY and name not in kind.__dict__:
            setattr(kind, name, exit_copy)


_close_all_but_own(Placeholder, str)
_close_all_but_own(Data, object)
_close_all_but_own(Moment, object)
Placeholder.__name__ = Placeholder.__qualname__ = "str"
Placeholder.__module__ = "builtins"

_never_freed: list[object] = []  # references that must never be freed, because their memory was never allocated
_page: list[int] = []  # the address of the unreadable page


def unknown_text() -> Placeholder:
    text = str.__new__(Placeholder, "?")  # of length 1, so that a comparison of equal lengths reads the character too
    _never_freed.append(text)
    word, at = ctypes.c_void_p.from_address, id(text)
    word(at + _UTF8_AT).value = word(at + _DATA_AT).value = _page[0]
    return text


def unknown_value(schema: object) -> object:
    """The placeholder for a reply that follows ``schema``; text if there is no schema."""
    if schema is None:
        return unknown_text()
    if not isinstance(schema, dict):
        exit_copy()
    return unknown_text() if schema.get("type") == "string" else Data(schema)


def prepare() -> None:
    """Prepares a copy. Ends it if this interpreter has another layout of ``str``."""
    libc = ctypes.CDLL(None)
    libc.signal.argtypes, libc.signal.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    handler = ctypes.cast(
        libc._exit, ctypes.c_void_p
    )  # called with the signal's number, it ends the process with that status
    for number in (signal.SIGSEGV, signal.SIGBUS):
        libc.signal(number, handler)
    page = mmap.mmap(-1, mmap.PAGESIZE)
    _never_freed.extend((page, libc))
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    text = str.__new__(Placeholder, "?")
    word, at = ctypes.c_void_p.from_address, id(text)
    characters = word(at + _DATA_AT).value
    if str.__basicsize__ != _SIZE or not characters or word(at + _UTF8_AT).value != characters:
        exit_copy()
    libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    if ctypes.string_at(characters, 2) != b"?\0" or libc.mprotect(address, mmap.PAGESIZE, 0):
        exit_copy()
    _page.append(address)


# Implementations, in the copy, of the text operations that cells are compiled to (see ``text_operations``).


def is_unknown(value: object) -> bool:
    return type(value) in (Placeholder, Data, Moment)


def join_parts(parts: tuple[str, ...]) -> str:
    return unknown_text() if any(type(part) is Placeholder for part in parts) else "".join(parts)


def join_with(separator: str, parts: Iterable[str]) -> str:
    items = list(parts)
    if any(type(item) is Placeholder for item in items):
        return unknown_text() if all(isinstance(item, str) for item in items) else exit_copy()
    return separator.join(items)


def apply_format(template: str, *values: object, **fields: object) -> str:
    if not any(map(is_unknown, (*values, *fields.values()))):
        return template.format(*values, **fields)
    try:
        template.format(
            *("xy" if is_unknown(value) else value for value in values),
            **{name: "xy" if is_unknown(value) else value for name, value in fields.items()},
        )
    except Exception:
        exit_copy()
    return unknown_text()


def apply_mod(template: object, values: object) -> Any:
    operands = values if type(values) is tuple else (values,)
    if not any(map(is_unknown, operands)):
        return operator.mod(template, values)
    if type(template) is not str or any(type(value) in (Data, Moment) for value in operands):
        exit_copy()
    try:
        operator.mod(template, tuple("xy" if is_unknown(value) else value for value in operands))
    except Exception:
        exit_copy()
    return unknown_text()
