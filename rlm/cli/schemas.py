"""The ``--schema`` flag: a file, a short form, inline JSON, or a class of the user's own code."""

from __future__ import annotations

import json
import re
import sys
from importlib import import_module
from pathlib import Path

from rlm.core.errors import SchemaError
from rlm.schemas.limits import MAX_BYTES
from rlm.schemas.shorthand import read_shorthand

_CLASS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def read_schema(text: str | None) -> object:
    """The JSON schema or the type that the flag names; None without a flag.

    A class is imported from the current folder or the installed packages. Only this flag can name one, never a record.

    Raises:
        SchemaError: there is no such file or class, or the text is not a schema.
    """
    if text is None:
        return None
    if text.endswith(".json") or _is_file(text):
        return _read_file(Path(text))
    if _CLASS.fullmatch(text):
        return _import_class(text)
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except ValueError:
            pass  # braces are also part of the short form
    return read_shorthand(text)


def _is_file(text: str) -> bool:
    try:
        return "\n" not in text and Path(text).is_file()
    except (OSError, ValueError):
        return False


def _read_file(path: Path) -> object:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SchemaError(f"{path} must have at most {MAX_BYTES:,} bytes")
        schema = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SchemaError(f"cannot read the schema {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise SchemaError(f"{path} must hold a JSON schema; got {error}") from None
    if not isinstance(schema, dict):
        raise SchemaError(f"{path} must hold a JSON schema, which is an object; got {type(schema).__name__}")
    return schema


def _import_class(text: str) -> object:
    module, _, names = text.partition(":")
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        thing: object = import_module(module)
        for name in names.split("."):
            thing = getattr(thing, name)
    except Exception as error:  # noqa: BLE001  the user's module can raise anything
        raise SchemaError(f"cannot import the schema {text}: {type(error).__name__}: {error}") from None
    finally:
        sys.path.remove(folder)
    return thing
