"""Formats values and exceptions for the model: bounded in size, and without frames of the scaffold."""

from __future__ import annotations

import asyncio
import concurrent.futures
import linecache
import os
import threading
import traceback
import types

from ..wire.values import type_name

MAX_TRACEBACK_CHARS = 20_000
MAX_ERROR_CHARS = 2_000
MAX_ECHO_CHARS = 100_000

_WORKER_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_LIBRARY_FOLDERS = tuple(os.path.dirname(str(m.__file__)) + os.sep for m in (asyncio, concurrent.futures))
_CELL = "<cell "


def remember_source(filename: str, code: str) -> None:
    """Makes the lines of a cell available to tracebacks, ``inspect`` and ``warnings``."""
    linecache.cache[filename] = (len(code), None, code.splitlines(keepends=True), filename)


def cut_middle(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    head = limit // 2
    return f"{text[:head]}\n... [{len(text) - limit:,} characters left out] ...\n{text[head - limit :]}"


def describe_error(error: BaseException) -> str:
    """Type and message in one line."""
    try:
        message = " ".join(str(error).split("\n"))
    except BaseException as broken:
        message = f"<str() of the exception raised {type_name(broken)}>"
    name = type_name(error)
    return cut_middle(f"{name}: {message}" if message else name, MAX_ERROR_CHARS).replace("\n", " ")


def describe_traceback(error: BaseException) -> str:
    """The traceback to show to the model."""
    try:
        shown = traceback.TracebackException(type(error), error, error.__traceback__, compact=True)
        _drop_frames(shown, set())
        return cut_middle("".join(shown.format()).rstrip("\n"), MAX_TRACEBACK_CHARS)
    except BaseException:  # exceptions whose own methods raise, recursion at the limit, no memory left
        return describe_error(error)


def _drop_frames(shown: traceback.TracebackException, seen: set[int]) -> None:
    if id(shown) in seen:
        return
    seen.add(id(shown))
    in_cell = any(frame.filename.startswith(_CELL) for frame in shown.stack)
    hidden = (_WORKER_FOLDER, *_LIBRARY_FOLDERS, threading.__file__) if in_cell else (_WORKER_FOLDER,)
    shown.stack[:] = [frame for frame in shown.stack if not frame.filename.startswith(hidden)]
    for other in (shown.__cause__, shown.__context__, *(getattr(shown, "exceptions", None) or ())):
        if other is not None:
            _drop_frames(other, seen)


def show_value(value: object, limit: int = MAX_ECHO_CHARS) -> str:
    """``repr`` of a value, cut in the middle. Large plain data is cut before it is formatted."""
    if type(value) in (str, bytes) and len(value) > limit:  # type: ignore[arg-type]
        head, tail = value[: limit // 2], value[-(limit // 2) :]  # type: ignore[index]
        return f"{head!r}\n... [{len(value) - limit:,} left out] ...\n{tail!r}"  # type: ignore[arg-type]
    if type(value) is list and len(value) > limit:
        return f"{cut_middle(repr(value[:limit]), limit)}\n... [list of {len(value):,} items]"
    return cut_middle(str.__str__(repr(value)), limit)


def size_of(value: object) -> int | None:
    """``len(value)``, or None if that would run code of the cell."""
    length = getattr(type(value), "__len__", None)
    if length is None or (isinstance(length, types.FunctionType) and length.__module__ == "__main__"):
        return None
    try:
        return len(value)  # type: ignore[arg-type]
    except Exception:
        return None
