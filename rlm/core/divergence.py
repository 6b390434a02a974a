"""Detects divergence between a re-execution and its recording. Addresses of objects in memory do not count."""

from __future__ import annotations

import re

from rlm.core.cells import CellResult
from rlm.core.messages import Request
from rlm.core.plain_repr import plain_text
from rlm.core.redaction import REDACTED as REDACTED

ADDRESS = re.compile(r"0x[0-9a-f]{6,}")
# As ``repr`` writes it: other numbers of this form can be data.
REPR_ADDRESS = re.compile(r"(?<= at 0x)[0-9a-f]{9,16}(?=>)")
TURNS_LEFT = re.compile(
    r"\n\[\d+ turns? left(?: to answer in)?\.\]\Z"
)  # changes when a run is resumed with other limits
STOPPED = ("timeout", "interrupted")
MAX_SHOWN = 120  # characters of a difference


def without_addresses(text: str) -> str:
    """The text with all addresses in memory made equal: they differ between processes."""
    return ADDRESS.sub("0x", text) if "0x" in text else text


def without_repr_addresses(text: str) -> str:
    """The text without addresses as ``repr`` writes them; numbers that can be data stay."""
    return REPR_ADDRESS.sub("", text) if " at 0x" in text else text


def _differ(before: str, after: str) -> bool:
    """Compares two texts. A redacted secret in the first one matches any text."""
    first, *others = before.split(REDACTED)
    if not others:
        return before != after
    at, end = len(first), len(after) - len(others[-1])
    for part in others[:-1]:
        start = after.find(part, at)
        if start < 0:
            return True
        at = start + len(part)
    return at > end or not (after.startswith(first) and after.endswith(others[-1]))


def same_values(old: object, new: object) -> bool:
    """True if two values are equal. Signalling NaNs are not."""
    try:
        return old == new
    except ArithmeticError:  # the comparison of a signalling NaN
        return False


def find_difference(before: CellResult, after: CellResult) -> str | None:
    """The difference between two executions of one cell, in one line. Times do not count."""
    if before.end in STOPPED:  # the point at which it was stopped depends on timing
        return None if after.end in STOPPED else f"it ended with {after.end!r} instead of {before.end!r}"
    for name in ("end", "error", "stdout", "stderr", "echo", "traceback", "notes", "variables", "answer", "citations"):
        old, new = getattr(before, name), getattr(after, name)
        if same_values(old, new):
            continue
        old_text, new_text = (without_addresses(plain_text(value)) for value in (old, new))
        if _differ(old_text, new_text):
            return f"its {name} {_show(old_text, new_text)}"
    return None


def find_other_request(before: Request, after: Request) -> str | None:
    """The difference between two requests of one turn, in one line."""
    if len(before.messages) != len(after.messages):
        return f"the conversation has {len(after.messages)} messages instead of {len(before.messages)}"
    for number, (old, new) in enumerate(zip(before.messages, after.messages, strict=True), 1):
        if old == new:
            continue
        old_text, new_text = (TURNS_LEFT.sub("", without_addresses(message.text)) for message in (old, new))
        if old.images != new.images:
            return f"message {number} ({new.role}) of its conversation has other images"
        if old.role != new.role or _differ(old_text, new_text):
            return f"message {number} ({new.role}) of its conversation {_show(old_text, new_text)}"
    return None


def _show(old: str, new: str) -> str:
    """Both texts from shortly before their first difference."""
    start = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    start = max(0, start - 20)
    return f"is {new[start : start + MAX_SHOWN]!r}, was {old[start : start + MAX_SHOWN]!r}"
