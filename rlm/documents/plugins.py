"""Converters of other packages, found by the entry point group ``rlm.converters``.

They run in this process, outside the sandbox. ``rlm.load`` uses one only if the caller names it.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from rlm.core.errors import ConfigurationError
from rlm.documents.convert.result import Builder, Limits, Output

GROUP = "rlm.converters"
Converter = Callable[[bytes, str], str]
"""Takes the bytes and the name of a file, and returns its text; form feeds separate pages."""


def load_converter(name: str) -> Converter:
    """The converter of a name.

    Raises:
        ConfigurationError: no installed package has a converter of this name, or it cannot be imported.
    """
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        known = ", ".join(sorted(found)) or "none"
        raise ConfigurationError(f"`converter` must name an entry point of {GROUP}; got {name!r}. Installed: {known}")
    try:
        converter: Any = found[name].load()
    except Exception as error:
        raise ConfigurationError(f"`converter` {name!r} cannot be imported: {error}") from error
    if not callable(converter):
        raise ConfigurationError(f"`converter` {name!r} must be a function of the bytes and the name of a file")
    return converter  # type: ignore[no-any-return]


def convert_with(converter: Converter, data: bytes, name: str, limits: Limits) -> dict[str, Any]:
    """Result of a converter in the form of the built-in ones. Its exceptions become the reason for leaving the file out."""
    output = Output(limits)
    try:
        text = converter(data, name)
    except Exception as error:  # noqa: BLE001  code of another package
        output.skip(name, f"conversion failed: {type(error).__name__}: {str(error)[:300]}")
        return output.plain()
    if not isinstance(text, str):
        output.skip(name, f"conversion failed: the converter returned {type(text).__name__} instead of text")
        return output.plain()
    document = Builder(name, name.rpartition(".")[2].lower()[:30] if "." in name else "text")
    pages = text.split("\f")
    for number, page in enumerate(pages, 1):
        if len(pages) > 1:
            document.place(f"p. {number}")
        document.line(page.rstrip("\n"))
    document.pages = len(pages) if len(pages) > 1 else None
    output.add(document)
    return output.plain()
