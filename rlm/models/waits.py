"""Waits that a provider asks for, in headers, in its error object or in its prose; its rate limits in headers. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from rlm.core.messages import Headroom, Usage

_UNITS_S: Mapping[str, float] = {"d": 86_400, "h": 3_600, "m": 60, "s": 1, "ms": 0.001}
_DURATION = (
    r"\d{1,9}(?:\.\d{1,9})?\s?(?:milliseconds?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d)(?![a-z])"
)
_PART = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s?([a-z]+)", re.I)
_WHOLE = re.compile(rf"(?:{_DURATION}\s*)+", re.I)
_PROSE = re.compile(
    rf"(?:(?:try|retry|again|wait|resets?|available|retry[-_ ]?after)\b[^.\d\n]{{0,40}}?)((?:{_DURATION}[\s,]*(?:and )?){{1,4}})",
    re.I,
)
_FIELD_UNITS_S: Mapping[str, float] = {
    "retryDelay": 1,
    "retry_after": 1,
    "retry_after_seconds": 1,
    "retryAfter": 1,
    "retry_after_ms": 0.001,
    "retryAfterMs": 0.001,
}
_RESETS = (
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
    ("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"),
    ("anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset"),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
    ("ratelimit-remaining", "ratelimit-reset"),
)
# A reset header without a unit is a number of seconds, or a moment in seconds or milliseconds since 1970.
_FIRST_MOMENT = 1e9
_FIRST_MOMENT_MS = 1e12


def read_retry_after(headers: Mapping[str, str], now_s: float) -> float | None:
    """Seconds to wait, from ``retry-after-ms`` or ``Retry-After`` (seconds or a date); None if absent or unreadable."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("Retry-After")
    seconds = _number(value)
    if seconds is not None or value is None:
        return seconds
    return read_duration(value) or _until(value, now_s)


def read_reset(headers: Mapping[str, str], now_s: float) -> float | None:
    """Seconds until the exhausted limit resets; without ``remaining`` headers, until the last limit does."""
    exhausted: list[float] = []
    unknown: list[float] = []
    for remaining, reset in _RESETS:
        wait_s = _read_moment(headers.get(reset), now_s)
        if wait_s is None:
            continue
        left = _number(headers.get(remaining))
        if left is None:
            unknown.append(wait_s)
        elif left == 0:
            exhausted.append(wait_s)
    return max(exhausted or unknown, default=None)


def read_headroom(headers: Mapping[str, str], now_s: float, usage: Usage) -> Headroom | None:
    """The rate limit that would be met first by calls of this size, or None if the headers report none."""
    first: Headroom | None = None
    for remaining, reset in _RESETS:
        value = headers.get(remaining)
        if value is None or (left := _number(value)) is None:
            continue
        reset_s = _read_moment(headers.get(reset), now_s)
        calls = int(left // _units(remaining, usage))
        if reset_s is not None and (first is None or calls < first.calls):
            first = Headroom(calls, reset_s)
    return first


def _units(header: str, usage: Usage) -> int:
    """Units of the limit in a header that one call takes."""
    if "tokens" not in header:
        return 1
    if "input" in header:
        return max(1, usage.input_tokens - usage.cached_tokens)
    return max(1, usage.output_tokens if "output" in header else usage.total_tokens)


def read_body_wait(data: Mapping[str, Any], message: str) -> float | None:
    """Seconds to wait, from an error object's fields, otherwise from its prose."""
    waits = [wait for wait in _read_fields(data) if wait is not None]
    if waits:
        return max(waits)
    match = _PROSE.search(message[:4000])
    return read_duration(match[1]) if match else None


def read_duration(text: str) -> float | None:
    """Seconds of ``1m30.5s``, ``20ms`` or ``2 minutes 5 seconds``; None for anything else."""
    bare = text.replace(",", " ").replace("and ", " ").strip()
    if not _WHOLE.fullmatch(bare):
        return None
    return sum(float(number) * _unit_s(unit.lower()) for number, unit in _PART.findall(bare))


def _unit_s(unit: str) -> float:
    return _UNITS_S["ms"] if unit == "ms" or unit.startswith("milli") else _UNITS_S[unit[0]]


def _read_fields(data: Mapping[str, Any]) -> Iterator[float | None]:
    inner = data["error"] if isinstance(data.get("error"), dict) else data
    details = inner.get("details")
    rows = [data, inner, inner.get("metadata"), *(details if isinstance(details, list) else ())]
    for row in rows:
        for name, unit_s in _FIELD_UNITS_S.items() if isinstance(row, dict) else ():
            value = row.get(name)
            if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e9:
                yield value * unit_s
            elif isinstance(value, str):
                number = _number(value)
                yield read_duration(value) if number is None else number * unit_s


def _read_moment(text: str | None, now_s: float) -> float | None:
    if text is None:
        return None
    number = _number(text, digits=13)
    if number is None:
        return read_duration(text) if _WHOLE.fullmatch(text.strip()) else _until(text, now_s)
    if number >= _FIRST_MOMENT_MS:
        return max(0.0, number / 1000 - now_s)
    return max(0.0, number - now_s) if number >= _FIRST_MOMENT else number


def _until(text: str, now_s: float) -> float | None:
    """Seconds until a date in the form of RFC 3339 or of HTTP."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        from email.utils import parsedate_to_datetime  # noqa: PLC0415  costs 20 ms, and few servers send dates

        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.fromtimestamp(now_s, UTC)).total_seconds())


def _number(text: str | None, *, digits: int = 9) -> float | None:
    if text is None or not re.fullmatch(rf"\s*\d{{1,{digits}}}(\.\d{{1,9}})?\s*", text):
        return None
    return float(text)
