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
    status = "superseded" if node.superseded else node.status or "open"
    lines.append(f"{pad}node {node.id} ({node.model}): {status}{took}; {one_line(node.question, 100)}")
    for turn, calls in node.calls_by_turn():
        lines += [f"{pad}  summary of turns before: {_describe_call(call)}" for call in calls if call.cell is None]
        lines.append(f"{pad}  turn {turn.turn}: {_describe_call(turn)}")
        if full and turn.reply:
            lines += _block(turn.reply, f"{pad}    | ", full)
        cells = [] if turn.superseded else [each for each in node.cells if each[0].turn == turn.turn]
        for cell, result in cells:
            lines.append(f"{pad}    cell {cell.name}: {result.end}, {format_seconds(result.elapsed_s)}")
            lines += _block(cell.code, f"{pad}      > ", full)
            lines += _block(result.stdout + (result.echo or "") + (result.traceback or ""), f"{pad}        ", full)
            lines += _list_calls([call for call in calls if call.cell == cell.number], pad, full)
        finished = {None, *(cell.number for cell, _ in cells)}
        lines += _list_calls([call for call in calls if call.cell not in finished], pad, full)
    for child in node.children:
        _describe_node(child, lines, full)
    if node.status in ("complete", "partial"):
        lines.append(f"{pad}  answer: {one_line(str(node.answer), 200)}")
    elif node.error:
        lines.append(f"{pad}  {one_line(node.error, 200)}")


def _list_calls(calls: list[CallRecord], pad: str, full: bool) -> list[str]:
    shown = calls if full else calls[:MAX_LINES]
    lines = [f"{pad}      call {call.id}: {_describe_call(call)}: {one_line(call.prompt, 60)}" for call in shown]
    more = [f"{pad}      ... {len(calls) - len(shown):,} more calls (--full)"] if len(calls) > len(shown) else []
    return lines + more


def _describe_call(call: CallRecord) -> str:
    again = " (superseded when the run was taken up)" if call.superseded else ""
    if call.error is not None:
        return one_line(call.error, 120) + again
    if call.ended_s is None:
        return "open" + again
    cost = "" if call.cost_usd is None else f", ${call.cost_usd:.5f}"
    tokens = f"{call.usage.input_tokens:,} + {call.usage.output_tokens:,} tokens"
    return f"{format_seconds(call.ended_s - call.started_s)}, {tokens}{cost}{again}"


def _block(text: str, prefix: str, full: bool) -> list[str]:
    lines = text.splitlines()
    shown = lines if full else lines[:MAX_LINES]
    more = [f"{prefix}... {len(lines) - len(shown):,} more lines (--full)"] if len(lines) > len(shown) else []
    return [prefix + (line if full else line[:160]) for line in shown] + more
