"""Serves the tool calls of cells: grants, limits, the record before and after each execution.

A call is recorded before the tool is executed, and its result before the cell has it. So a tool that is not idempotent is
executed at most once, whatever process is killed. It must not know how a tool is executed.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from rlm.core.cells import PlainValue
from rlm.core.errors import BudgetExceededError
from rlm.core.events import ToolEnded, ToolStarted
from rlm.core.history import RecordedCall
from rlm.core.ids import CallId
from rlm.core.subcalls import SubcallAnswer, SubcallFailure, SubcallOutcome, ToolCall
from rlm.core.tools import INTERRUPTED, TOOL_ERROR, ToolFailure, show_call
from rlm.engine.driver.queries import SubcallSite
from rlm.engine.recorder import Recorder
from rlm.engine.settings import NodeJob
from rlm.engine.spending.reservations import Reservations
from rlm.engine.tools import RunTools
from rlm.ports import Tool

MAX_RECORDED_BYTES = 256 * 1024  # of arguments; larger ones are recorded as a cut text, and found by their hash
SHOWN_CHARS = 2000

STOPPED = "the run was stopped before it ended; whether it took effect is unknown"


class ToolServer:
    """Serves the tool calls of one run."""

    def __init__(self, tools: RunTools, recorder: Recorder, reservations: Reservations) -> None:
        self._tools = tools
        self._recorder = recorder
        self._reservations = reservations

    def grant(self, parent: NodeJob, asked: tuple[str, ...]) -> tuple[str, ...] | SubcallFailure:
        """The tools of a child: those of its depth, and those that its parent has and asks for it."""
        if missing := [name for name in asked if name not in parent.tools]:
            return SubcallFailure(
                "LLMQueryError", f"tools={missing[0][:80]!r} is not a tool of this node, so it cannot grant it"
            )
        names = {*self._tools.granted(parent.depth + 1), *asked}
        return tuple(spec.tool for spec in self._tools.specs if spec.tool in names)

    def refuse_again(self, recorded: RecordedCall) -> SubcallFailure | None:
        """The failure of a recorded call that must not be executed again; None if it can be.

        Its first execution was interrupted, and might have taken effect.
        """
        started = recorded.tool
        if started is None or recorded.tool_outcome is not None:
            return None
        tool = self._tools.find(started.tool)
        if started.idempotent and tool is not None and tool.spec.idempotent:
            return None
        why = "an earlier execution of this call was interrupted, and might have taken effect. It was not repeated."
        return SubcallFailure(INTERRUPTED, f"{started.tool}: {why}")

    async def call(self, site: SubcallSite, call: ToolCall) -> ToolEnded | SubcallFailure:
        """Executes a tool for a cell: its recorded end, or the reason for refusing it, which is not recorded here.

        Raises:
            BudgetExceededError: the run has no tool calls left.
        """
        name = call.tool
        if name not in site.node.tools:
            return refusal("NotGranted", f"this node has no tool {name[:80]!r}")
        tool = self._tools.find(name)
        if tool is None:
            return refusal("Unavailable", f"{name}: this process does not have the tool")
        execution = _Execution(self, self._recorder, site, call, tool)
        try:
            value = await tool.call(call.args, call.kwargs, execution.start)
        except ToolFailure as failure:
            failed = refusal(failure.kind, str(failure))
            return execution.end(failure=failed) if execution.started else failed
        except asyncio.CancelledError:
            if execution.started:
                execution.end(failure=refusal("Interrupted", f"{name}: {STOPPED}"), interrupted=True)
            raise
        return execution.end(value)

    def start(self, site: SubcallSite, call: ToolCall, tool: Tool) -> None:
        """Records that a tool is about to be executed.

        Raises:
            ToolFailure: a limit forbids it.
            BudgetExceededError: the run has no tool calls left.
            StoreError: it cannot be recorded, and must not be executed.
        """
        most = tool.spec.max_calls
        if most is not None and self._tools.counts[call.tool] >= most:
            raise ToolFailure("LimitReached", f"{call.tool} can be called {most:,} times in a run, and was")
        ledger = self._reservations.ledger
        if not ledger.take_tool_call():
            self._reservations.refused["tool_calls"] += 1
            message = f"The limit of {ledger.budget.tool_calls:,} tool calls has been reached. Continue without tools."
            raise BudgetExceededError(message, limit="tool_calls")
        self._tools.counts[call.tool] += 1
        args: PlainValue = call.args
        kwargs: PlainValue = dict(call.kwargs) or None
        if call.size > MAX_RECORDED_BYTES:  # writing them would hold up the event loop
            args, kwargs = (show_call("", args, kwargs, SHOWN_CHARS),), None
        self._recorder.emit(
            ToolStarted,
            site.node.id,
            call=CallId(site.place.path),
            tool=call.tool,
            key=site.key,
            args=args,
            kwargs=kwargs,
            idempotent=tool.spec.idempotent,
        )
        self._recorder.flush()


class _Execution:
    """One execution of a tool."""

    def __init__(self, server: ToolServer, recorder: Recorder, site: SubcallSite, call: ToolCall, tool: Tool) -> None:
        self._server = server
        self._recorder = recorder
        self._site = site
        self._call = call
        self._tool = tool
        self._started_s = 0.0
        self.started = False

    def start(self) -> None:
        """To be called immediately before the tool is executed. See ``ToolServer.start``."""
        self._started_s = self._recorder.at_s
        self._server.start(self._site, self._call, self._tool)
        self.started = True

    def end(
        self, value: PlainValue = None, *, failure: SubcallFailure | None = None, interrupted: bool = False
    ) -> ToolEnded:
        """Records the end of the execution."""
        elapsed_s = round(self._recorder.at_s - self._started_s, 6)
        return self._recorder.emit(
            ToolEnded,
            self._site.node.id,
            call=CallId(self._site.place.path),
            tool=self._call.tool,
            value=value,
            failure=None if failure is None else replace(failure, elapsed_s=elapsed_s),
            elapsed_s=elapsed_s,
            interrupted=interrupted,
        )


def outcome_of(ended: ToolEnded) -> SubcallOutcome:
    """The outcome that a cell receives."""
    return ended.failure or SubcallAnswer(ended.value, ended.elapsed_s)


def refusal(kind: str, message: str) -> SubcallFailure:
    """The failure of a tool call. ``kind`` is an exception's name, or that of the reason."""
    return SubcallFailure(f"{TOOL_ERROR}.{kind}", message)
