"""Results and errors of tools as a REPL receives them: plain data, and messages without secrets or paths."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from rlm.core.redaction import SECRETS
from rlm.core.tools import ToolFailure, cut_end, one_line

MAX_LEVELS = 60
MAX_ITEMS = 400_000
MAX_CHARS = 24_000_000  # of all texts in a result
MAX_MESSAGE_CHARS = 500
MAX_KIND_CHARS = 100

_SAME = (bool, type(None), datetime.datetime, datetime.date, datetime.time, datetime.timedelta, Decimal)
_PATH = re.compile(
    r"(?<![\w:/.~\\])(?:~?/(?:[^\s/'\":;,()<>|*?]+/)+[^\s/'\":;,()<>|*?]*|[A-Za-z]:\\[^\s'\":;,()<>|*?]+)"
)


class _Converter:
    """Converts one result, within limits on its parts."""

    def __init__(self, tool: str) -> None:
        self._tool = tool
        self._items = MAX_ITEMS
        self._chars = MAX_CHARS

    def convert(self, value: Any, level: int = 0) -> Any:
        self._items -= 1
        if self._items < 0 or level > MAX_LEVELS:
            raise self._refused("is too large, nested too deep, or contains itself. Return less")
        if isinstance(value, enum.Enum):
            return self.convert(value.value, level + 1)
        if isinstance(value, str | bytes):
            self._chars -= len(value)
            if self._chars < 0:
                raise self._refused("is too large. Return less")
            return str.__str__(value) if isinstance(value, str) else bytes.__getitem__(value, slice(None))
        if type(value) in _SAME:
            return value
        if isinstance(value, int):
            return int.__index__(value)
        if isinstance(value, float):
            return float.__float__(value)
        return self._convert_container(value, level + 1)

    def _convert_container(self, value: Any, level: int) -> Any:
        if isinstance(value, Mapping):
            return {self.convert(key, level): self.convert(item, level) for key, item in value.items()}
        for kind in (list, tuple, frozenset, set):
            if isinstance(value, kind):
                return kind(self.convert(item, level) for item in value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {field.name: self.convert(getattr(value, field.name), level) for field in dataclasses.fields(value)}
        if hasattr(type(value), "__pydantic_fields__"):
            return self.convert(value.model_dump(), level)
        raise self._refused(
            f"holds a {type(value).__module__}.{type(value).__name__}, and a REPL takes plain data. "
            "Return text, numbers, lists, dicts, dataclasses or pydantic models"
        )

    def _refused(self, why: str) -> ToolFailure:
        return ToolFailure("ResultError", f"{self._tool}: it was executed, but its result {why}.")


def to_plain(tool: str, value: object) -> object:
    """The result of a tool as plain data: dataclasses, pydantic models and mappings become dicts.

    Raises:
        ToolFailure: it is not plain data, or too large.
    """
    try:
        return _Converter(tool).convert(value)
    except ToolFailure:
        raise
    except Exception as error:  # noqa: BLE001  methods of the result's own classes
        raise ToolFailure("ResultError", f"{tool}: its result cannot be read: {describe_error(error)[1]}") from None


def describe_error(error: BaseException) -> tuple[str, str]:
    """The class of an exception and its message for a REPL: bounded, without secrets, paths or a traceback."""
    try:
        message = (error.strerror or "") if isinstance(error, OSError) and error.strerror else str(error)
    except Exception:  # noqa: BLE001  a ``__str__`` of the program
        message = ""
    kind = type(error).__name__
    kind = kind if kind.isidentifier() and len(kind) <= MAX_KIND_CHARS else "Exception"
    message = _PATH.sub("[path]", SECRETS.redact_message(cut_end(message, 4 * MAX_MESSAGE_CHARS)))
    return kind, cut_end(one_line(message), MAX_MESSAGE_CHARS)


def failed(tool: str, error: BaseException) -> ToolFailure:
    """The failure of a tool that raised an exception."""
    kind, message = describe_error(error)
    return ToolFailure(kind, f"{tool}: {kind}: {message}" if message else f"{tool}: {kind}")
