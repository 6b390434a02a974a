"""Regular expressions that are compiled on first use: many serve one family of models only, and each takes a millisecond."""

from __future__ import annotations

import re
from functools import partial
from typing import Any, cast

_METHODS = ("match", "search", "fullmatch", "finditer", "sub")


class _LazyPattern:
    """Stands for a compiled pattern. After its first use, it holds the methods of the compiled pattern themselves."""

    __slots__ = ("_flags", "pattern", *_METHODS)

    def __init__(self, pattern: str, flags: int) -> None:
        self.pattern = pattern
        self._flags = flags
        for method in _METHODS:
            setattr(self, method, partial(self._compile, method))

    def _compile(self, method: str, *args: Any) -> Any:
        compiled = re.compile(self.pattern, self._flags)
        for name in _METHODS:
            setattr(self, name, getattr(compiled, name))
        return getattr(compiled, method)(*args)


def lazy_pattern(pattern: str, flags: int = 0) -> re.Pattern[str]:
    """The equivalent of ``re.compile`` for the methods in ``_METHODS``."""
    return cast("re.Pattern[str]", _LazyPattern(pattern, flags))
