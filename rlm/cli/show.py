"""``rlm show``: one recorded run, as a tree with its cells, calls and costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter

from rlm.cli.exits import Exit
from rlm.cli.flags import StoreFlag
from rlm.cli.output import put
from rlm.cli.records import open_store
from rlm.cli.runs import status_of
from rlm.core.cells import Cell
from rlm.core.events import AnswerValidated, AnyEvent, RunStarted
from rlm.core.ids import ROOT
from rlm.core.plain_repr import plain_text
from rlm.core.tree import CallRecord, NodeRecord, ToolRecord
from rlm.core.tree_builder import TreeBuilder
from rlm.core.usage import sum_usage
from rlm.schemas.outline import outline
from rlm.views.escape import one_line, safe_text
from rlm.views.formatting import format_cost, format_count, format_seconds, plural

MAX_LINES = 12  # of code or output, without --full


def show(
    run: str = "last",
    /,
    *,
    full: Annotated[bool, Parameter(show_default=False)] = False,
    store: StoreFlag = None,
) -> int:
    """Show one recorded run: its tree, cells, calls and costs.

    Parameters
    ----------
    run
        The run's id or a prefix of it; the newest if not given.
    full
        Show all calls, and complete code, output, prompts and replies.
    """
    opened = open_store(store)
    info = opened.find(run)
    events = opened.events(info.id, lenient=True)
    tree = TreeBuilder()
    for event in events:
        tree.add(event)
    usage = sum_usage(events)
    spend = usage.total
    tools = f"{plural(usage.tool_calls, 'tool call')}, " if usage.tool_calls else ""
    requests = f" ({plural(spend.requests, 'request')})" if spend.requests > spend.usage.calls else ""
    lines = [
        f"run {info.id}: {status_of(info)}, {plural(spend.usage.calls, 'call')}{requests}, {tools}"
        f"{format_count(spend.usage.total_tokens)} tokens, {format_cost(spend)}",
        f"question: {one_line(info.question, 200)}",
        *_describe_answer_type(events, full=full),
    ]
    if tree.root is not None:
        lines.append(render_tree(tree.root, full=full))
    put("\n".join(lines) + "\n")
    return Exit.COMPLETE


def _describe_answer_type(events: Sequence[AnyEvent], *, full: bool) -> list[str]:
    """The type of the answer and the answers that did not fit; nothing for a run without a schema."""
    started = next((event for event in events if isinstance(event, RunStarted)), None)
    if started is None or started.schema is None:
        return []
    shown = [safe_text(line) for line in outline(started.schema).splitlines()]
    cut = [] if full or len(shown) <= MAX_LINES else [f"  ... {len(shown) - MAX_LINES} more lines, with --full"]
    lines = ["answer type:", *(f"  {line}" for line in (shown if full else shown[:MAX_LINES])), *cut]
    checks = [event for event in events if isinstance(event, AnswerValidated) and event.node == ROOT and event.problems]
    lines += [f"turn {check.turn} did not fit: {one_line('; '.join(check.problems), 400)}" for check in checks]
    return lines


def render_tree(root: NodeRecord, *, full: bool = False) -> str:
    """The lines of a tree."""
    return "\n".join(TreePrinter(full=full).print_node(root))


class TreePrinter:
    """Prints a tree as lines that are safe on a terminal. Unless ``full``, long texts and lists are cut, but not failures."""

    def __init__(self, *, full: bool) -> None:
        self._full = full

    def print_node(self, node: NodeRecord) -> list[str]:
        pad = "  " * node.depth
        took = f", {format_seconds(node.ended_s - node.started_s)}" if node.ended_s is not None else ""
        status = "superseded" if node.superseded else node.status or "open"
        about = self._line(node.question, 100)
        lines = [f"{pad}node {one_line(node.id, 400)} ({one_line(node.model, 100)}): {status}{took}; {about}"]
        for turn, calls in node.calls_by_turn():
            lines += self._print_turn(node, turn, calls, pad + "  ")
        for child in node.children:
            lines += self.print_node(child)
        if node.status in ("complete", "partial"):
            answer = plain_text(node.answer)
            whole = self._full and "\n" in answer
            lines.append(f"{pad}  answer:" if whole else f"{pad}  answer: {self._line(answer, 200)}")
            lines += self._block(answer, pad + "    ") if whole else []
        elif node.error:
            lines.append(f"{pad}  {self._line(node.error, 200)}")
        return lines

    def _print_turn(self, node: NodeRecord, turn: CallRecord, calls: list[CallRecord], pad: str) -> list[str]:
        lines = self._print_summaries([call for call in calls if call.cell is None and call.turn == turn.turn], pad)
        lines += [f"{pad}turn {turn.turn}: {describe_call(turn)}", *self._texts_of(turn, pad)]
        printed: set[int | None] = {None}
        if not turn.superseded:
            for cell, result in node.cells:
                if cell.turn == turn.turn:
                    end = f"{result.end}, {format_seconds(result.elapsed_s)}"
                    lines += self._print_cell(node, cell, end, result.shown, calls, pad + "  ")
                    printed.add(cell.number)
            if (cut := node.open_cell) is not None and cut.turn == turn.turn:
                lines += self._print_cell(node, cut, "has not ended", "", calls, pad + "  ")
                printed.add(cut.number)
        lines += self._print_calls([call for call in calls if call.cell not in printed], pad + "    ")
        return lines + self._print_summaries(
            [call for call in calls if call.cell is None and call.turn != turn.turn], pad
        )

    def _print_summaries(self, calls: list[CallRecord], pad: str) -> list[str]:
        lines: list[str] = []
        for call in calls:
            lines += [f"{pad}summary of the turns before: {describe_call(call)}", *self._texts_of(call, pad)]
        return lines

    def _print_cell(  # noqa: PLR0917
        self, node: NodeRecord, cell: Cell, end: str, shown: str, calls: list[CallRecord], pad: str
    ) -> list[str]:
        refused = node.refused_in(cell)
        return [
            f"{pad}cell {cell.name}: {end}",
            *self._block(cell.code, pad + "  > "),
            *self._block(shown, pad + "    "),
            *self._print_calls([call for call in calls if call.cell == cell.number], pad + "  "),
            *self._print_tools(node.tools_in(cell), pad + "  "),
            *([f"{pad}  {plural(len(refused), 'sub-call')} refused: {self._line(refused[0], 120)}"] if refused else []),
        ]

    def _print_calls(self, calls: list[CallRecord], pad: str) -> list[str]:
        """The first calls, and all that failed."""
        shown = calls if self._full else [call for at, call in enumerate(calls) if at < MAX_LINES or call.error]
        lines: list[str] = []
        for call in shown:
            about = "" if self._full else f": {one_line(call.prompt, 60)}"
            lines += [f"{pad}call {call.id}: {describe_call(call)}{about}", *self._texts_of(call, pad)]
        if len(calls) > len(shown):
            lines.append(f"{pad}... {plural(len(calls) - len(shown), 'more call')} (--full)")
        return lines

    def _print_tools(self, tools: list[ToolRecord], pad: str) -> list[str]:
        """The first tool calls, and all that failed."""
        shown = tools if self._full else [tool for at, tool in enumerate(tools) if at < MAX_LINES or tool.error]
        lines = [f"{pad}tool {tool.id}: {self._line(tool.shown, 100)}: {self._describe_tool(tool)}" for tool in shown]
        if len(tools) > len(shown):
            lines.append(f"{pad}... {plural(len(tools) - len(shown), 'more tool call')} (--full)")
        return lines

    def _describe_tool(self, tool: ToolRecord) -> str:
        if tool.interrupted:
            return f"INTERRUPTED, its effect is unknown: {self._line(tool.error or '', 160)}"
        if tool.ended_s is None:
            return "open"
        took = format_seconds(tool.ended_s - tool.started_s)
        return f"{took}, {self._line(tool.error or tool.result or '', 160)}"

    def _texts_of(self, call: CallRecord, pad: str) -> list[str]:
        """The prompt and the reply, with ``full`` only."""
        if not self._full:
            return []
        return [*self._block(call.prompt, pad + "  < "), *self._block(call.reply or "", pad + "  | ")]

    def _line(self, text: str, limit: int) -> str:
        return one_line(text, max(limit, len(text)) if self._full else limit)

    def _block(self, text: str, prefix: str) -> list[str]:
        lines = safe_text(text).splitlines()
        shown = lines if self._full else lines[:MAX_LINES]
        more = [f"{prefix}... {len(lines) - len(shown):,} more lines (--full)"] if len(lines) > len(shown) else []
        return [prefix + (line if self._full else line[:160]) for line in shown] + more


def describe_call(call: CallRecord) -> str:
    """The time, tokens and cost of a call, or its error."""
    again = " (superseded when the run was resumed)" if call.superseded else ""
    if call.error is not None:
        return one_line(call.error, 120) + again
    if call.ended_s is None:
        return "open" + again
    if call.cached:
        return "from the cache" + again
    cost = "" if call.cost_usd is None else f", ${call.cost_usd:.5f}"
    tokens = f"{call.usage.input_tokens:,} + {call.usage.output_tokens:,} tokens"
    return f"{format_seconds(call.ended_s - call.started_s)}, {tokens}{cost}{again}"
