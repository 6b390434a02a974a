"""Chooses what of a run is shown when only so many rows fit: the tree of rows, and the words in them.

Pure. It decides by what a watcher needs: what is going on now stays, what has ended is summed up in one row. Every text
it returns is fit for a terminal; it knows nothing of colours or of rich.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from rlm.core.usage import Spend
from rlm.prompts import DEFAULT_QUESTION
from rlm.views.escape import one_line
from rlm.views.progress import Progress
from rlm.views.state import Group, NodeProgress, Step, Tally

Mark: TypeAlias = Literal["running", "done", "failed", "partial", "cancelled", "more"]


@dataclass(frozen=True, slots=True)
class Row:
    """One row and those below it. ``text`` is what it says, ``aside`` what may be dim beside it."""

    mark: Mark
    text: str
    aside: str = ""
    children: tuple[Row, ...] = ()

    @property
    def height(self) -> int:
        return 1 + sum(child.height for child in self.children)


def outline(progress: Progress, elapsed_s: float, max_rows: int) -> Row | None:
    """The run's tree in at most ``max_rows`` rows; None before its root has started."""
    if progress.root is None:
        return None
    return _node_row(progress.root, max(1, max_rows), elapsed_s)


def describe_calls(progress: Progress, elapsed_s: float) -> str:
    """Time, calls and nodes in one line."""
    parts = [format_seconds(elapsed_s), f"{plural(progress.calls.total, 'call')}: {format_tally(progress.calls)}"]
    if progress.nodes.total > 1:
        parts.append(f"{plural(progress.nodes.total, 'node')}: {format_tally(progress.nodes)}")
    if progress.retries:
        parts.append(plural(progress.retries, "retry", "retries"))
    return " · ".join(parts)


def describe_spend(spend: Spend) -> str:
    """Tokens and money in one line."""
    usage = spend.usage
    cached = f" ({format_count(usage.cached_tokens)} cached)" if usage.cached_tokens else ""
    tokens = f"{format_count(usage.input_tokens)} tokens in{cached}, {format_count(usage.output_tokens)} out"
    return f"{tokens} · {format_cost(spend)}"


def format_cost(spend: Spend) -> str:
    if not spend.unpriced_calls:
        return f"${spend.cost_usd:.4f}"
    if not spend.cost_usd:
        return "no price known"
    return f"${spend.cost_usd:.4f} and {plural(spend.unpriced_calls, 'call')} without a known price"


def format_tally(tally: Tally) -> str:
    """For instance "31 done, 8 running, 1 failed"; what is zero is not named."""
    counts = {
        "done": tally.done,
        "running": tally.running,
        "waiting": tally.waiting,
        "failed": tally.failed,
        "cancelled": tally.dropped,
    }
    return ", ".join(f"{count:,} {word}" for word, count in counts.items() if count) or "none"


def format_seconds(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02}s"
    return f"{minutes // 60}h {minutes % 60:02}m"


def format_count(number: int) -> str:
    if number < 10_000:
        return f"{number:,}"
    return f"{number / 1000:.1f}k" if number < 1_000_000 else f"{number / 1_000_000:.2f}M"


def plural(count: int, word: str, many: str | None = None) -> str:
    return f"{count:,} {word}" if count == 1 else f"{count:,} {many or word + 's'}"


def node_name(node: NodeProgress) -> str:
    return "root" if node.depth == 0 else f"node {one_line(node.id, 40)}"


def describe_step(step: Step) -> str:
    """How a cell stands: its name, its end or its age, and the error it raised."""
    if step.end is None:
        return f"cell {step.name}"
    took = format_seconds((step.ended_s or step.started_s) - step.started_s)
    if step.end == "ok":
        return f"cell {step.name} ok, {took}"
    why = f": {one_line(step.error, 100)}" if step.error else ""
    return f"cell {step.name} {step.end}, {took}{why}"


def _node_row(node: NodeProgress, rows: int, now_s: float) -> Row:
    shown = _step_rows(node.steps, rows - 1, now_s) if rows > 1 else ()
    took = format_seconds((node.ended_s if node.ended_s is not None else now_s) - node.started_s)
    text = f"{node_name(node)} {_describe_activity(node)}, {took}"
    # Children that were given a prompt alone all have the same question: what they look at tells them apart.
    about = f"context: {node.context}" if node.question == DEFAULT_QUESTION else node.question
    aside = f"{one_line(node.model, 40)} · {one_line(about, 160)}"
    return Row(_node_mark(node), text, aside, shown)


def _node_mark(node: NodeProgress) -> Mark:
    match node.status:
        case None:
            return "running"
        case "complete":
            return "done"
        case _:
            return node.status


def _describe_activity(node: NodeProgress) -> str:
    match node.activity:
        case "finished":
            why = f" ({one_line(node.error, 100)})" if node.error else ""
            return f"{node.status}{why} after {plural(node.turn, 'turn')}"
        case "queued":
            return f"waits to ask its model, turn {node.turn}"
        case "asking":
            return f"asks its model, turn {node.turn}"
        case "reading":
            return f"reads, turn {node.turn}"
        case "executing":
            return f"runs a cell, turn {node.turn}"
        case "starting":
            return "starts"


def _step_rows(steps: Sequence[Step], rows: int, now_s: float) -> tuple[Row, ...]:
    """The latest step at length, those before it in one row each, the oldest summed up in one."""
    if not steps or rows < 1:
        return ()
    earlier, latest = steps[:-1], steps[-1]
    room = min(len(earlier), max(rows - _wanted_rows(latest), rows // 3), rows - 1)
    cut = len(earlier) - room
    head: list[Row] = []
    if cut and room:
        cut += 1
        head.append(_summed_steps(earlier[:cut]))
    head.extend(_step_row(step, 1, now_s) for step in earlier[cut:] if room)
    return (*head, _step_row(latest, rows - len(head), now_s))


def _wanted_rows(step: Step) -> int:
    return 1 + sum(1 + len(group.children) for group in step.groups.values())


def _summed_steps(steps: Sequence[Step]) -> Row:
    bad = sum(step.end not in (None, "ok") for step in steps)
    calls = sum((step.tally for step in steps), Tally())
    told = [plural(len(steps), "earlier cell")]
    if bad:
        told.append(f"{bad:,} with an error")
    if calls.total:
        told.append(f"{plural(calls.total, 'sub-call')}: {format_tally(calls)}")
    return Row("more", "; ".join(told))


def _step_row(step: Step, rows: int, now_s: float) -> Row:
    mark: Mark = "running" if step.end is None else "done" if step.end == "ok" else "failed"
    text = describe_step(step)
    if step.end is None:
        text = f"{text}, {format_seconds(now_s - step.started_s)}"
    groups = list(step.groups.values())
    if rows == 1 and groups:
        tally = step.tally
        text = f"{text}; {plural(tally.total, 'sub-call')}: {format_tally(tally)}"
    return Row(mark, text, one_line(step.code, 160), _group_rows(groups, rows - 1, now_s))


def _group_rows(groups: Sequence[Group], rows: int, now_s: float) -> tuple[Row, ...]:
    if not groups or rows < 1:
        return ()
    cut = max(0, len(groups) - rows)
    head: list[Row] = []
    if cut:
        cut += 1
        tally = sum((group.tally for group in groups[:cut]), Tally())
        head.append(Row("more", f"{plural(cut, 'earlier group')} of sub-calls: {format_tally(tally)}"))
    shown = groups[cut:]
    spare = rows - len(head) - len(shown)
    for group in shown:
        row = _group_row(group, 1 + spare, now_s)
        spare -= row.height - 1
        head.append(row)
    return tuple(head)


def _group_row(group: Group, rows: int, now_s: float) -> Row:
    tally = group.tally
    what = f"batch of {tally.total:,}" if group.batch is not None else plural(tally.total, "sub-call")
    mark: Mark = "running" if tally.open else "failed" if tally.failed else "done"
    return Row(mark, f"{what}: {format_tally(tally)}", "", _child_rows(group.children, rows - 1, now_s))


def _child_rows(children: Sequence[NodeProgress], rows: int, now_s: float) -> tuple[Row, ...]:
    """Those at work before those that have ended; a last row counts the rest."""
    if not children or rows < 1:
        return ()
    running = [node for node in children if node.status is None]
    chosen = running if len(running) >= rows else [*running, *(node for node in children if node.status is not None)]
    fits = rows if len(children) <= rows else rows - 1
    picked = {id(node) for node in chosen[:fits]}
    shown = [node for node in children if id(node) in picked]
    spare = rows - len(shown) - (len(children) > fits)
    told: list[Row] = []
    for place, node in enumerate(shown):
        # What one child leaves unused goes to those after it.
        share = spare // (len(shown) - place)
        row = _node_row(node, 1 + share, now_s)
        spare -= row.height - 1
        told.append(row)
    if len(children) > fits:
        told.append(_summed_nodes(children, shown))
    return tuple(told)


def _summed_nodes(children: Sequence[NodeProgress], shown: Sequence[NodeProgress]) -> Row:
    left_out = {id(node) for node in shown}
    tally = Tally()
    for node in children:
        if id(node) in left_out:
            continue
        if node.status is None:
            tally.running += 1
        elif node.status in ("complete", "partial"):
            tally.done += 1
        else:
            tally.failed += 1
    return Row("more", f"{plural(tally.total, 'more node')}: {format_tally(tally)}")
