"""The policy of a resume or a replay: which recorded turns and summaries are used again, and what happens on divergence.

It decides nothing about new work.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import field
from typing import Literal, TypeAlias

from rlm.core import errors
from rlm.core.actions import Ask
from rlm.core.cells import Cell
from rlm.core.divergence import find_other_request, same_values, without_addresses
from rlm.core.errors import BudgetExceededError, DivergenceError, IncompleteRecordError, ModelError
from rlm.core.events import CallFailed
from rlm.core.history import History
from rlm.core.ids import NodeId, SubcallPlace
from rlm.core.messages import Reply, Request
from rlm.core.plain_repr import plain_repr
from rlm.core.subcalls import SubcallOutcome
from rlm.core.values import slotted
from rlm.ports import Repl

Purpose: TypeAlias = Literal["run", "replay"]
OnDivergence: TypeAlias = Literal["stop", "pay"]
CellWatch: TypeAlias = Callable[[NodeId, Cell, Repl], Awaitable[None]]


@slotted
class ReplayPolicy:
    """The rules for recorded work.

    Attributes:
        history: the recorded work; it grows while a run goes on.
        purpose: "run" uses recorded answers and goes on from the end of the record. "replay" executes everything again,
            children too, and asks no model.
        on_divergence: "stop" ends the run on a difference; "pay" asks models again from there.
        watch: awaited after each cell that was executed again.
    """

    history: History = field(default_factory=History)
    purpose: Purpose = "run"
    on_divergence: OnDivergence = "stop"
    watch: CellWatch | None = None

    @property
    def strict(self) -> bool:
        """True if a difference ends the run."""
        return self.purpose == "replay" or self.on_divergence == "stop"

    def turn(self, node: NodeId, action: Ask, request: Request) -> Reply | None:
        """The recorded reply to a turn; None if the turn must be asked.

        Raises:
            BudgetExceededError: a limit forbade the turn, and made the next one the last.
            ModelError: the recorded failure of the turn, if the node went on after it.
            DivergenceError: the model would now be asked something different.
            IncompleteRecordError: a replay has reached the end of the record.
        """
        recorded_node = self.history.nodes.get(node)
        recorded = recorded_node.turns.get(action.turn) if recorded_node else None
        if recorded_node is not None and recorded is not None and recorded.has_outcome:
            if recorded.limit and not action.last:
                raise BudgetExceededError(f"The limit of {recorded.limit} was met here.", limit=recorded.limit)
            # The prompt of a last turn depends on the budget left to pay for it. Nothing comes after it.
            difference = None if action.last else find_other_request(recorded.request, request)
            if difference is not None and self.strict:
                raise DivergenceError(node, action.turn, 0, difference)
            if difference is None and recorded.reply is not None:
                return recorded.reply
            went_on = action.turn + 1 in recorded_node.turns or self.purpose == "replay"
            if difference is None and recorded.failure is not None and went_on:
                raise revive_error(recorded.failure, recorded.model)
        if self.purpose == "replay":
            raise IncompleteRecordError(
                f"the record of this run ends at turn {action.turn} of node {node}: resume it first"
            )
        return None

    def recorded_turns(self, node: NodeId) -> int:
        """The number of turns that a node needs to reach the end of its record, whatever its present limit."""
        turns = recorded_node.turns if (recorded_node := self.history.nodes.get(node)) else {}
        answered = (n for n, turn in turns.items() if turn.reply or (turn.failure and n + 1 in turns))
        last = max(answered, default=0)
        return last - 1 if last and turns[last].limit == "iterations" else last

    def summary(self, node: NodeId, turn: int) -> Reply | None:
        """The recorded summary before a turn; None if it must be asked.

        Raises:
            BudgetExceededError: a limit forbade it.
            ModelError: its recorded failure.
            IncompleteRecordError: a replay has reached the end of the record.
        """
        recorded_node = self.history.nodes.get(node)
        recorded = recorded_node.summaries.get(turn) if recorded_node else None
        next_turn = recorded_node.turns.get(turn) if recorded_node else None
        if recorded is None and next_turn is not None and next_turn.has_outcome:
            limit = next_turn.limit or "calls"
            raise BudgetExceededError(f"The limit of {limit} was met here.", limit=limit)
        if next_turn is not None and recorded is not None and recorded.failure is not None and recorded.reply is None:
            raise revive_error(recorded.failure, recorded.model)
        if self.purpose == "replay" and (recorded is None or recorded.reply is None):
            raise IncompleteRecordError(
                f"the record of this run ends before turn {turn} of node {node}: resume it first"
            )
        return recorded.reply if recorded else None

    def refuse(self, place: SubcallPlace, difference: str) -> None:
        """Raises DivergenceError, unless a difference can be paid for."""
        if self.strict:
            raise DivergenceError(place.node, place.turn, place.cell, difference)

    def check_outcome(self, place: SubcallPlace, before: SubcallOutcome, after: SubcallOutcome) -> None:
        """Compares the outcomes of a child that was driven again. Raises DivergenceError."""
        if same_values(before, after):
            return
        old_text, new_text = plain_repr(before), plain_repr(after)
        if without_addresses(old_text) != without_addresses(new_text):
            self.refuse(place, f"its child {place.path} answered {new_text[:80]!r}, and had answered {old_text[:80]!r}")


def revive_error(failed: CallFailed, model: str) -> ModelError:
    """The error that a recorded call ended with."""
    kind = getattr(errors, failed.error, ModelError)
    if kind is errors.TruncatedReplyError:
        return errors.TruncatedReplyError(failed.message, text=failed.text, model=model)
    if isinstance(kind, type) and issubclass(kind, ModelError):
        return kind(failed.message, model=model)
    return ModelError(f"{failed.error}: {failed.message}", model=model)
