"""Words and numbers of a view: seconds, counts, tallies, and one line for a node, a cell or a group of sub-calls.

Every text that it returns is fit for a terminal. It decides nothing about which rows are shown.
"""

from __future__ import annotations

from collections.abc import Sequence

from rlm.core.usage import Spend
from rlm.prompts import DEFAULT_QUESTION
from rlm.views.escape import one_line
from rlm.views.progress import Progress
from rlm.views.state import CellProgress, NodeProgress, SubcallGroup, Tally


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


def format_cost(spend: Spend) -> str:
    if not spend.unpriced_calls:
        return f"${spend.cost_usd:.4f}"
    if not spend.cost_usd:
        return "no price known"
    return f"${spend.cost_usd:.4f} and {plural(spend.unpriced_calls, 'call')} without a known price"


def format_tally(tally: Tally) -> str:
    """The counts that are not zero, for instance "31 done, 8 running, 1 failed"."""
    counts = {
        "done": tally.done,
        "running": tally.running,
        "waiting": tally.waiting,
        "failed": tally.failed,
        "cancelled": tally.cancelled,
    }
    return ", ".join(f"{count:,} {word}" for word, count in counts.items() if count) or "none"


def describe_calls(progress: Progress, elapsed_s: float) -> str:
    """Time, calls and nodes in one line."""
    parts = [format_seconds(elapsed_s), f"{plural(progress.calls.total, 'call')}: {format_tally(progress.calls)}"]
    if progress.nodes.total > 1:
        parts.append(f"{plural(progress.nodes.total, 'node')}: {format_tally(progress.nodes)}")
    if progress.tools.total:
        parts.append(describe_subcalls(progress.tools, "tool call"))
    if progress.retries:
        parts.append(plural(progress.retries, "retry", "retries"))
    return " · ".join(parts)


def describe_spend(spend: Spend) -> str:
    """Tokens and money in one line."""
    usage = spend.usage
    cached = f" ({format_count(usage.cached_tokens)} cached)" if usage.cached_tokens else ""
    tokens = f"{format_count(usage.input_tokens)} tokens in{cached}, {format_count(usage.output_tokens)} out"
    return f"{tokens} · {format_cost(spend)}"


def node_name(node: NodeProgress) -> str:
    return "root" if node.depth == 0 else f"node {one_line(node.id, 40)}"


def describe_node(node: NodeProgress, now_s: float) -> str:
    """The name of a node, its activity and its duration."""
    duration = format_seconds((node.ended_s if node.ended_s is not None else now_s) - node.started_s)
    return f"{node_name(node)} {_describe_activity(node)}, {duration}"


def describe_task(node: NodeProgress) -> str:
    """The model of a node and its question.

    Children that were given only a prompt share one question: their contexts tell them apart.
    """
    task = f"context: {node.context}" if node.question == DEFAULT_QUESTION else node.question
    return f"{one_line(node.model, 40)} · {one_line(task, 160)}"


def _describe_activity(node: NodeProgress) -> str:
    match node.activity:
        case "finished":
            error = f" ({one_line(node.error, 100)})" if node.error else ""
            return f"{node.status}{error} after {plural(node.turn, 'turn')}"
        case "queued":
            return f"waiting for a slot, turn {node.turn}"
        case "asking":
            return f"waiting for its model, turn {node.turn}"
        case "reading":
            return f"reading, turn {node.turn}"
        case "executing":
            return f"running a cell, turn {node.turn}"
        case "starting":
            return f"waiting for memory, place {node.place:,}" if node.place else "starting"


def describe_cell(cell: CellProgress) -> str:
    """The name of a cell; once it ended, its end, its duration and its error."""
    tools = f"; {describe_subcalls(cell.tools, 'tool call')}" if cell.tools.total else ""
    if cell.end is None:
        return f"cell {cell.name}{tools}"
    duration = format_seconds((cell.ended_s or cell.started_s) - cell.started_s)
    if cell.end == "ok":
        return f"cell {cell.name} ok, {duration}{tools}"
    error = f": {one_line(cell.error, 100)}" if cell.error else ""
    return f"cell {cell.name} {cell.end}, {duration}{error}{tools}"


def describe_subcalls(tally: Tally, word: str = "sub-call") -> str:
    return f"{plural(tally.total, word)}: {format_tally(tally)}"


def describe_group(group: SubcallGroup) -> str:
    """A batch, or the single sub-calls of a cell."""
    if group.batch is None:
        return describe_subcalls(group.tally)
    return f"batch of {group.tally.total:,}: {format_tally(group.tally)}"


def describe_earlier_cells(cells: Sequence[CellProgress]) -> str:
    """Several cells in one line."""
    failed = sum(cell.end not in (None, "ok") for cell in cells)
    calls = sum((cell.tally for cell in cells), Tally())
    parts = [plural(len(cells), "earlier cell")]
    if failed:
        parts.append(f"{failed:,} with an error")
    if calls.total:
        parts.append(describe_subcalls(calls))
    return "; ".join(parts)


def describe_earlier_groups(groups: Sequence[SubcallGroup]) -> str:
    """Several groups of sub-calls in one line."""
    tally = sum((group.tally for group in groups), Tally())
    return f"{plural(len(groups), 'earlier group')} of sub-calls: {format_tally(tally)}"


def describe_more_nodes(nodes: Sequence[NodeProgress]) -> str:
    """Several nodes in one line."""
    tally = Tally()
    for node in nodes:
        if node.end is None:
            tally.running += 1
        else:
            tally.count(node.end)
    return describe_subcalls(tally, "more node")
