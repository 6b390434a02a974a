"""A result as a small HTML card for notebooks: answer, cost, citations, and the tree folded.

It has no script and loads nothing. All texts are escaped and cut.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from rlm.core.redaction import SECRETS

if TYPE_CHECKING:
    from rlm.core.result import Result
    from rlm.core.tree import NodeRecord

MAX_ANSWER_CHARS = 4_000
MAX_TEXT_CHARS = 200
MAX_CITATIONS = 20
MAX_NODES = 100


def render_card(result: Result) -> str:
    """The HTML of the card, without secrets."""
    parts = [
        f"<pre style='white-space:pre-wrap;margin:0 0 .5em'>{_text(str(result), MAX_ANSWER_CHARS)}</pre>",
        f"<div style='opacity:.7;font-size:90%'>{_text(result.summary(), 500)}</div>",
    ]
    if result.citations:
        shown = "".join(
            f"<li>{_text(', '.join(part for part in (item.path, item.place) if part))}: "
            f"&ldquo;{_text(item.quote)}&rdquo;{'' if item.verified else ' (not found in the sources)'}</li>"
            for item in result.citations[:MAX_CITATIONS]
        )
        more = len(result.citations) - MAX_CITATIONS
        parts.append(f"<ol>{shown}</ol>" + (f"<div>and {more:,} more</div>" if more > 0 else ""))
    if result.tree is not None:
        nodes = result.tree.walk()
        rows = "".join(_row(node) for node in islice(nodes, MAX_NODES))
        rest = f"<div>and {len(nodes) - MAX_NODES:,} more nodes</div>" if len(nodes) > MAX_NODES else ""
        parts.append(
            f"<details><summary>{_count(len(nodes), 'node')}, {_count(len(result.calls), 'call')}</summary>{rows}{rest}</details>"
        )
    card = (
        "<div style='border:1px solid #8884;border-radius:6px;padding:.75em;max-width:60em'>"
        + "".join(parts)
        + "</div>"
    )
    return SECRETS.redact_text(card)


def _row(node: NodeRecord) -> str:
    facts = [node.status or "open", _count(len(node.turns), "turn"), _count(len(node.leaves), "leaf call")]
    if node.ended_s is not None:
        facts.append(f"{node.ended_s - node.started_s:.1f} s")
    return (
        f"<div style='margin-left:{min(node.depth, 12) * 1.5}em'>{_text(node.model, 60)}: {_text(node.question)} "
        f"<span style='opacity:.7'>({', '.join(facts)})</span></div>"
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _text(text: str, limit: int = MAX_TEXT_CHARS) -> str:
    from html import escape  # noqa: PLC0415  two milliseconds, which most processes need not spend

    shown = text if len(text) <= limit else text[:limit] + "…"
    return escape(
        "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in shown)
    )
