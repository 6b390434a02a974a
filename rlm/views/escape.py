"""Removes everything from untrusted text that could act on a terminal, such as moving the cursor.

Removed: ANSI and OSC sequences, all other control characters, and the invisible characters that reorder or hide text
(bidirectional overrides, zero-width characters, tags, lone surrogates). It knows nothing of runs or of rich. Code that draws
with rich must also use ``Text``, never markup.
"""

from __future__ import annotations

import re

from rlm.core.redaction import SECRETS

_SEQUENCE = re.compile(
    r"""
      (?:\x1b\[|\x9b) [0-?]* [ -/]* [@-~]                  # CSI: colours, cursor, clear
    | (?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])                 # OSC (titles, links, clipboard), DCS, SOS, PM, APC ...
      [^\n\x07\x1b\x90\x98\x9c-\x9f]{0,4096} (?:\x07|\x1b\\|\x9c)  # ... to its end in the same line, or only the introducer
    | \x1b [ -/]* [0-~]                                    # two-character escapes
    """,
    re.VERBOSE,
)

_HIDDEN = (
    r"\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\U000e0000-\U000e0fff\ud800-\udfff"
)
# Tabs and newlines stay here: ``one_line`` folds them to blanks, ``safe_text`` shows them.
_UNSAFE = re.compile(rf"[\x00-\x08\x0b-\x1f\x7f-\x9f{_HIDDEN}]")
_BLANKS = re.compile(r"\s+")

_LOOK_AHEAD = 4
"""``one_line`` reads this many times its limit and no further: a cell can be megabytes long."""


def safe_text(text: str) -> str:
    """The text with its lines and tabs, without secrets and anything that could act on a terminal."""
    return SECRETS.redact_text(without_controls(text))


def without_controls(text: str) -> str:
    """The text with its lines and tabs, without anything that could act on a terminal."""
    unified = text.replace("\r\n", "\n").replace("\r", "\n")
    return _UNSAFE.sub("", _SEQUENCE.sub("", unified))


def one_line(text: str, limit: int = 120) -> str:
    """The text on one line of at most ``limit`` characters, with an ellipsis if it was cut."""
    head = text[: limit * _LOOK_AHEAD]
    line = _BLANKS.sub(" ", safe_text(head)).strip()
    if len(line) > limit:
        return line[: limit - 1].rstrip() + "…"
    return line + "…" if len(text) > len(head) and len(line) < limit else line


def speaks_unicode(encoding: str | None) -> bool:
    """True if a terminal or stream of this encoding takes any character. Text in memory has no encoding."""
    return encoding is None or encoding.lower().startswith("utf")


def ascii_only(text: str) -> str:
    """The text for a stream that takes only ASCII."""
    return text.replace("…", "...").replace("·", "-").encode("ascii", "replace").decode()
