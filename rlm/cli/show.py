"""``rlm show``: one recorded run, as a tree with its cells, calls and costs."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from rlm.cli.exits import Exit
from rlm.cli.records import open_store
from rlm.cli.runs import status_of
from rlm.core.tree import CallRecord, NodeRecord, TreeBuilder
from rlm.core.usage import sum_usage
from rlm.views.escape import one_line, safe_text
from rlm.views.outline import format_cost, format_count, format_seconds

MAX_LINES = 12  # of code or output, unless everything is asked for


def show(
    run: str = "last",
    /,
    *,
    full: Annotated[bool, Parameter(show_default=False)] = False,
    store: str | None = None,
) -> int:
    """Show one recorded run: its tree, cells, calls and costs.

    Parameters
    ----------
    run
        The run's id or a beginning of it; the newest if not given.
    full
        Show code, output, prompts and replies whole.
    store
        The store; RLM_STORE, else the file among your data, if not given.
    """
    opened = open_store(store)
    info = opened.find(run)
    events = opened.events(info.id, lenient=True)
    tree = TreeBuilder()
    for event in events:
        tree.add(event)
    spend = sum_usage(events).total
    lines = [
        f"run {info.id}: {status_of(info)}, {format_count(spend.usage.calls)} calls, "
        f"{format_count(spend.usage.total_tokens)} tokens, {format_cost(spend)}",
        f"question: {one_line(info.question, 200)}",
    ]
    if tree.root is not None:
        _describe_node(tree.root, lines, full)
    sys.stdout.write(safe_text("\n".join(lines)) + "\n")
    return Exit.COMPLETE


def _describe_node(node: NodeRecord, lines: list[str], full: bool) -> None:
    pad = "  " * node.depth
    took = f", {format_seconds(node.ended_s - node.started_s)}" if node.ended_s is not None else ""
    lines.append(f"{pad}node {node.id} ({node.model}): {node.status or 'open'}{took}; {one_line(node.question, 100)}")
    for turn in node.turns:
        lines.append(f"{pad}  turn {turn.turn}: {_describe_call(turn)}")
        if full and turn.reply:
            lines += _block(turn.reply, f"{pad}    | ", full)
        for cell, result in node.cells:
            if cell.turn != turn.turn:
                continue
            lines.append(f"{pad}    cell {cell.name}: {result.end}, {format_seconds(result.elapsed_s)}")
            lines += _block(cell.code, f"{pad}      > ", full)
            lines += _block(result.stdout + (result.echo or "") + (result.traceback or ""), f"{pad}        ", full)
            leaves = [call for call in node.leaves if (call.turn, call.cell) == (cell.turn, cell.number)]
            for call in leaves if full else leaves[:MAX_LINES]:
                lines.append(f"{pad}      call {call.id}: {_describe_call(call)}: {one_line(call.prompt, 60)}")
            if not full and len(leaves) > MAX_LINES:
                lines.append(f"{pad}      ... {len(leaves) - MAX_LINES:,} more calls (--full)")
    for child in node.children:
        _describe_node(child, lines, full)
    if node.status in ("complete", "partial"):
        lines.append(f"{pad}  answer: {one_line(str(node.answer), 200)}")
    elif node.error:
        lines.append(f"{pad}  {one_line(node.error, 200)}")


def _describe_call(call: CallRecord) -> str:
    if call.error is not None:
        return one_line(call.error, 120)
    if call.ended_s is None:
        return "open"
    cost = "" if call.cost_usd is None else f", ${call.cost_usd:.5f}"
    usage = call.usage
    return f"{format_seconds(call.ended_s - call.started_s)}, {usage.input_tokens:,} + {usage.output_tokens:,} tokens{cost}"


def _block(text: str, prefix: str, full: bool) -> list[str]:
    lines = text.splitlines()
    shown = lines if full else lines[:MAX_LINES]
    more = [f"{prefix}... {len(lines) - len(shown):,} more lines (--full)"] if len(lines) > len(shown) else []
    return [prefix + (line if full else line[:160]) for line in shown] + more
