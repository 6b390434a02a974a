"""The part of earlier questions that the next question of a session continues: the conversation, the cells and the REPL."""

from __future__ import annotations

from dataclasses import field

from rlm.core.cells import Cell, CellResult
from rlm.core.endings import CutRule, find_end
from rlm.core.history import RecordedCell, RecordedNode
from rlm.core.ids import RunId
from rlm.core.messages import Message
from rlm.core.observations import observe
from rlm.core.replies import parse_reply
from rlm.core.values import slotted
from rlm.ports import Repl


@slotted
class Continuation:
    """The state of a session between two questions.

    It is derived from the recorded root nodes alone, so a live session and one that is restored from a store continue alike.
    Turns are numbered through: the first turn of a question follows the last one of the question before.

    Attributes:
        first_run: the run of the session's first question. It seeds the REPL and names the provider's prefix cache.
        messages: the conversation, empty before the first question.
        turns: the turns so far.
        cells: the finished cells of all questions, in order; they rebuild a REPL that was closed or lost.
        output: what the last cells showed, which no model has seen yet.
        repl: the open REPL, or None if the next question must rebuild it.
        keeps_repl: the REPL stays open between questions. Otherwise a run closes it at its end.
    """

    first_run: RunId
    messages: tuple[Message, ...] = ()
    turns: int = 0
    cells: list[RecordedCell] = field(default_factory=list)
    output: str = ""
    repl: Repl | None = None
    keeps_repl: bool = False

    def add(self, root: RecordedNode | None, *, cut_replies: CutRule, observation_chars: int) -> None:
        """Adds the root node of a question that ended, with or without an answer."""
        if root is None or not root.turns:
            return
        self.turns = max(root.turns)
        last = root.turns[self.turns]
        self.messages, self.output = last.request.messages, ""
        finished = [cell for _, cell in sorted(root.cells.items()) if cell.result is not None and not cell.unconfirmed]
        self.cells += finished
        if last.reply is not None:
            text = last.reply.text[: find_end(last.reply.text, cut_replies)]
            reply = text[: parse_reply(text).retained_chars]
            self.messages = (*self.messages, Message("assistant", reply))
            self.output = _observe(finished, self.turns, observation_chars)

    async def aclose(self) -> None:
        """Closes the REPL, if it is open."""
        repl, self.repl = self.repl, None
        if repl is not None:
            await repl.aclose()


def _observe(cells: list[RecordedCell], turn: int, limit_chars: int) -> str:
    executed: list[tuple[Cell, CellResult]] = [
        (recorded.cell, recorded.result)
        for recorded in cells
        if recorded.cell.turn == turn and recorded.result is not None
    ]
    return observe(executed, (), limit_chars=limit_chars) if executed else ""
