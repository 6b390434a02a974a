"""Removes addresses and file paths from the text of a failure before a model or a cell is shown it.

The record keeps the whole text for its user. Providers, proxies and operating systems name hosts and files in their errors. So
the text is searched for everything that looks like one, and for the hosts that this process has called.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

ADDRESS, PATH = "[address]", "[path]"

_SUFFIXES = (
    "internal|intranet|local|localdomain|lan|corp|home|private|svc|cluster|consul|test|invalid|example|onion|arpa|"
    "com|net|org|edu|gov|info|biz|io|ai|dev|app|cloud|co|me|eu|uk|us|de|fr|nl|ch|se|jp|cn|in|au|ca|br|kr|run"
)
_REST = r"(?:/[^\s'\"<>()\[\]{}|,;]*)?"  # the path of an address
_ADDRESSES = re.compile(
    "|".join(
        (
            r"\b[a-z][a-z0-9+.-]{0,30}://[^\s'\"<>{}|,;]+",
            rf"\[[0-9a-f.]*:[0-9a-f:.]+(?:%\w+)?\](?::\d{{1,5}})?{_REST}",
            r"(?<![\w:.])(?:[0-9a-f]{1,4}:){2,7}(?::?[0-9a-f]{1,4}|:)(?:(?::[0-9a-f]{1,4})*)(?:%\w+)?(?![\w:])",
            r"(?<![\w:.])::(?:[0-9a-f]{1,4}(?::[0-9a-f]{1,4})*)(?:%\w+)?(?![\w:])",
            rf"(?<![\w.])(?:[\w.+-]+@)?\d{{1,3}}(?:\.\d{{1,3}}){{3}}(?::\d{{1,5}})?{_REST}",
            rf"(?<![\w.-])(?:[\w.+-]+@)?(?:[\w-]{{1,63}}\.){{1,8}}(?:{_SUFFIXES})(?![\w-])(?::\d{{1,5}})?{_REST}",
            rf"(?<![\w.-])localhost(?![\w-])(?::\d{{1,5}})?{_REST}",
            rf"(?<![\w.:-])[a-z_][\w-]{{0,62}}(?:\.[\w-]{{1,63}}){{0,8}}:\d{{2,5}}(?![\w.-]){_REST}",
            r"\(\s*'[^']{1,255}'\s*,\s*\d{1,5}\s*\)",  # a host and its port, as Python shows socket addresses
            r"\bport[ =]\d{2,5}\b",
        )
    ),
    re.I,
)
_PATHS = re.compile(
    r"\\\\[\w.$-]{1,255}\\[^\s'\"<>|]*"
    r"|\b[a-z]:[\\/][^\s'\"<>|]*"
    r"|(?<![\w/.~<])(?:~[\w-]{0,32}|\.{1,2})?/[\w.@%+=~-]+(?:/[\w.@%+=~-]*)*",
    re.I,
)


class PublicText:
    """Knows the hosts that this process calls, some of which look like ordinary words."""

    def __init__(self) -> None:
        self._hosts: frozenset[str] = frozenset()
        self._pattern: re.Pattern[str] | None = None

    def add_hosts(self, hosts: Iterable[str | None]) -> None:
        """Registers hosts of endpoints and proxies."""
        more = {host for host in hosts if host}
        if more <= self._hosts:
            return
        self._hosts |= more
        longest_first = sorted(self._hosts, key=lambda host: (-len(host), host))
        names = "|".join(map(re.escape, longest_first))
        self._pattern = re.compile(rf"(?<![\w.-])(?:{names})(?![\w-])(?::\d{{1,5}})?{_REST}", re.I)

    def clean(self, text: str, model: str = "") -> str:
        """The text without addresses and paths. The name of ``model`` stays, unless it is a file."""
        if model and "/" not in model and "\\" not in model and model in text:
            return model.join(self._clean(part) for part in text.split(model))
        return self._clean(text)

    def _clean(self, text: str) -> str:
        text = _ADDRESSES.sub(ADDRESS, text)
        if self._pattern is not None:
            text = self._pattern.sub(ADDRESS, text)
        return _PATHS.sub(PATH, text)


PUBLIC = PublicText()
