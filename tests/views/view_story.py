"""Hand-written runs for the views' tests: each method appends the events that the engine would emit."""

from __future__ import annotations

from rlm.core.cells import Cell, CellEnd, CellResult
from rlm.core.events import (
    AnyEvent,
    CallFailed,
    CallReplied,
    CallRetried,
    CallSent,
    CallStarted,
    CellExecuted,
    CellStarted,
    NodeFinished,
    NodeStarted,
    RunFinished,
    RunStarted,
    Status,
    Superseded,
)
from rlm.core.ids import ROOT, CallId, NodeId, RunId
from rlm.core.messages import CallRole, Message, Reply, Request, Usage

RUN = RunId("run-1")
_REQUEST = Request((Message("user", "prompt"),))


class Story:
    """Events of one run, in order. ``now`` is the time the next event gets."""

    def __init__(self) -> None:
        self.events: list[AnyEvent] = []
        self.now = 0.0

    def begin(self, question: str = "What is it?", model: str = "openai:big") -> Story:
        self.events.append(
            RunStarted(
                run=RUN,
                node=ROOT,
                at_s=self.now,
                question=question,
                context="str, 9 characters",
                models=(model, "openai:small"),
                max_depth=2,
                sandbox="process",
            )
        )
        return self.node("0", None, 0, question=question, model=model)

    def node(
        self,
        node: str,
        parent: str | None,
        depth: int,
        *,
        batch: int | None = None,
        question: str = "Part?",
        model: str = "openai:big",
    ) -> Story:
        self.events.append(
            NodeStarted(
                run=RUN,
                node=NodeId(node),
                at_s=self.now,
                parent=NodeId(parent) if parent is not None else None,
                depth=depth,
                model=model,
                question=question,
                context="str, 9 characters",
                batch=batch,
            )
        )
        return self

    def call(
        self,
        call: str,
        node: str = "0",
        *,
        role: CallRole = "leaf",
        turn: int = 1,
        cell: int | None = 1,
        batch: int | None = None,
        depth: int = 1,
        sent: bool = True,
    ) -> Story:
        self.events.append(
            CallStarted(
                run=RUN,
                node=NodeId(node),
                at_s=self.now,
                call=CallId(call),
                role=role,
                depth=depth,
                model="openai:small",
                turn=turn,
                request=_REQUEST,
                cell=None if role == "node" else cell,
                batch=batch,
            )
        )
        return self.sent(call, node) if sent else self

    def sent(self, call: str, node: str = "0", attempt: int = 1) -> Story:
        self.events.append(CallSent(run=RUN, node=NodeId(node), at_s=self.now, call=CallId(call), attempt=attempt))
        return self

    def retried(self, call: str, reason: str = "429", node: str = "0") -> Story:
        self.events.append(
            CallRetried(
                run=RUN, node=NodeId(node), at_s=self.now, call=CallId(call), attempt=1, delay_s=0.5, reason=reason
            )
        )
        return self

    def replied(
        self,
        call: str,
        node: str = "0",
        *,
        usage: Usage = Usage(1, 100, 40, 0, 10),
        cost_usd: float | None = 0.001,
    ) -> Story:
        self.events.append(
            CallReplied(
                run=RUN,
                node=NodeId(node),
                at_s=self.now,
                call=CallId(call),
                reply=Reply("yes", usage, "small"),
                cost_usd=cost_usd,
                elapsed_s=0.1,
            )
        )
        return self

    def failed(self, call: str, message: str = "no reply", node: str = "0") -> Story:
        self.events.append(
            CallFailed(
                run=RUN,
                node=NodeId(node),
                at_s=self.now,
                call=CallId(call),
                error="ModelTimeoutError",
                message=message,
                elapsed_s=0.1,
            )
        )
        return self

    def cell(self, turn: int, number: int = 1, code: str = "x = 1", node: str = "0") -> Story:
        self.events.append(
            CellStarted(run=RUN, node=NodeId(node), at_s=self.now, cell=Cell(turn, number, code)),
        )
        return self

    def executed(
        self, turn: int, number: int = 1, end: CellEnd = "ok", error: str | None = None, node: str = "0"
    ) -> Story:
        self.events.append(
            CellExecuted(
                run=RUN,
                node=NodeId(node),
                at_s=self.now,
                cell=Cell(turn, number, ""),
                result=CellResult(end, error=error),
            )
        )
        return self

    def node_finished(self, node: str = "0", status: Status = "complete", error: str | None = None) -> Story:
        self.events.append(
            NodeFinished(run=RUN, node=NodeId(node), at_s=self.now, status=status, answer="a", turns=2, error=error)
        )
        return self

    def superseded(
        self,
        node: str = "0",
        *,
        from_turn: int | None = None,
        cells: tuple[tuple[int, int], ...] = (),
        calls: tuple[str, ...] = (),
        results: tuple[tuple[int, int], ...] = (),
    ) -> Story:
        self.events.append(
            Superseded(
                run=RUN,
                node=NodeId(node),
                at_s=self.now,
                from_turn=from_turn,
                cells=cells,
                calls=tuple(map(CallId, calls)),
                results=results,
            )
        )
        return self

    def end(self, status: Status = "complete", limit: str | None = None) -> Story:
        self.events.append(RunFinished(run=RUN, node=ROOT, at_s=self.now, status=status, answer="a", limit=limit))
        return self


def long_run(turns: int, batch: int, children: int) -> Story:
    """A root with ``turns`` cells, each a finished batch; the last one holds ``children`` open nodes, each at work."""
    story = Story().begin()
    for turn in range(1, turns + 1):
        story.cell(turn, code=f"# turn {turn}\nout = llm_query_batch(prompts[{turn}])")
        for number in range(batch):
            story.call(f"0/{turn}.1.{number}", turn=turn, batch=1)
            story.replied(f"0/{turn}.1.{number}")
        story.executed(turn)
        story.now += 1.0
    last = turns + 1
    story.cell(last, code="deep = llm_query_batch(parts)")
    for number in range(children):
        node = f"0/{last}.1.{number}"
        story.node(node, "0", 1, batch=1)
        story.cell(1, code="look(context)", node=node)
        for call in range(3):
            story.call(f"{node}/1.1.{call}", node, batch=1, depth=2, sent=call > 0)
    return story
