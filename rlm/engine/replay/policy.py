"""Doing again what a run has done: which answers are there already, in which order a cell gets them, and what may differ.

It decides nothing about what is new: a sub-call that is not recorded is made by those who make sub-calls.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Literal, TypeAlias

import orjson

from rlm.core import errors
from rlm.core.actions import Ask
from rlm.core.cells import Cell
from rlm.core.divergence import STOPPED, find_other_request, without_addresses, without_repr_addresses
from rlm.core.errors import BudgetExceededError, DivergenceError, IncompleteRecordError, ModelError
from rlm.core.events import CallFailed
from rlm.core.history import History, RecordedCall, RecordedCell
from rlm.core.ids import NodeId, SubcallPlace
from rlm.core.messages import Reply, Request
from rlm.core.subcalls import BudgetQuery, ModelQuery, Subcall, SubcallOutcome
from rlm.ports import Repl

logger = logging.getLogger(__name__)

Purpose: TypeAlias = Literal["run", "replay"]
OnDivergence: TypeAlias = Literal["stop", "pay"]
CellWatch: TypeAlias = Callable[[NodeId, Cell, Repl], Awaitable[None]]

# A recorded answer waits so long for those that came before it; code that is not the same never asks.
ORDER_GRACE_S = 2.0
# A cell that had ended without an answer has so many times as long as it had taken then, and this, to do so again.
END_PATIENCE, END_GRACE_S = 10.0, 20.0
# Answers that came further apart than this are handed over apart, so that threads keep their order.
SMALLEST_GAP_S = 0.001


@dataclass(slots=True)
class Repetition:
    """What is done again, and how strictly.

    Attributes:
        history: what has been done; it grows while the run goes on.
        purpose: "run" takes answers of sub-calls from the history and goes on from its end; "replay" executes everything
            again, children too, and asks no model at all.
        on_divergence: whether a difference stops the run, or is asked and paid for anew.
        watch: is awaited after each cell that was executed again.
    """

    history: History = field(default_factory=History)
    purpose: Purpose = "run"
    on_divergence: OnDivergence = "stop"
    watch: CellWatch | None = None

    @property
    def strict(self) -> bool:
        return self.purpose == "replay" or self.on_divergence == "stop"

    def turn(self, node: NodeId, action: Ask, request: Request) -> Reply | None:
        """The reply to a turn that was made before; None where it is new, or has to be made anew.

        Raises:
            BudgetExceededError: a limit forbade the turn, and made the next one the last.
            ModelError: what the turn ended with, where the node went on after it.
            DivergenceError: the model would now be asked something else.
            IncompleteRecordError: a replay has come to the end of the record.
        """
        known = self.history.nodes.get(node)
        recorded = known.turns.get(action.turn) if known else None
        if known is not None and recorded is not None and (recorded.reply or recorded.failure):
            if recorded.limit and not action.last:
                raise BudgetExceededError(f"The limit of {recorded.limit} was met here.", limit=recorded.limit)
            # What a last turn shows depends on what was left to pay for it; nothing comes after it.
            difference = None if action.last else find_other_request(recorded.request, request)
            if difference is not None and self.strict:
                raise DivergenceError(node, action.turn, 0, difference)
            if difference is None and recorded.reply is not None:
                return recorded.reply
            went_on = action.turn + 1 in known.turns or self.purpose == "replay"
            if difference is None and recorded.failure is not None and went_on:
                raise revive_error(recorded.failure, recorded.model)
        if self.purpose == "replay":
            raise IncompleteRecordError(
                f"the record of this run ends at turn {action.turn} of node {node}: resume it first"
            )
        return None

    def turns_on_record(self, node: NodeId) -> int:
        """How many turns a node must be allowed to come to where its record ends, whatever limit it has now."""
        turns = known.turns if (known := self.history.nodes.get(node)) else {}
        last = max(
            (turn for turn, each in turns.items() if each.reply or (each.failure and turn + 1 in turns)), default=0
        )
        return last - 1 if last and turns[last].limit == "iterations" else last

    def summary(self, node: NodeId, turn: int) -> Reply | None:
        """The summary that was made before a turn. Raises what it ended with.

        Raises:
            BudgetExceededError: a limit forbade it.
            ModelError: what it ended with.
            IncompleteRecordError: a replay has come to the end of the record.
        """
        known = self.history.nodes.get(node)
        recorded = known.summaries.get(turn) if known else None
        made = known.turns.get(turn) if known else None
        if recorded is None and made is not None and (made.reply or made.failure):
            limit = made.limit or "calls"
            raise BudgetExceededError(f"The limit of {limit} was met here.", limit=limit)
        if made is not None and recorded is not None and recorded.failure is not None and recorded.reply is None:
            raise revive_error(recorded.failure, recorded.model)
        if self.purpose == "replay" and (recorded is None or recorded.reply is None):
            raise IncompleteRecordError(
                f"the record of this run ends before turn {turn} of node {node}: resume it first"
            )
        return recorded.reply if recorded else None

    def refuse(self, place: SubcallPlace, difference: str) -> None:
        """Raises DivergenceError, unless a difference may be paid for."""
        if self.strict:
            raise DivergenceError(place.node, place.turn, place.cell, difference)

    def check_outcome(self, place: SubcallPlace, before: SubcallOutcome, after: SubcallOutcome) -> None:
        """Compares what a child that was driven again gave. Raises DivergenceError."""
        if before != after and without_addresses(repr(before)) != without_addresses(repr(after)):
            self.refuse(
                place, f"its child {place.path} answered {str(after)[:80]!r}, and had answered {str(before)[:80]!r}"
            )


class CellRun:
    """One execution of a cell that may have been executed before.

    A failure is handed over again where the cell came to its end with it; in a cell that did not, it is tried again.

    Which calls the threads of a cell make while an error ends it is chance, as is where a cell is ``stopped``. So a cell that
    ``failed`` may ask for less or more than it had, if what it shows is the same.
    """

    def __init__(self, recorded: RecordedCell | None = None) -> None:
        result = recorded.result if recorded else None
        self.is_new = recorded is None
        self._finished = result is not None
        self.stopped = result is not None and result.end in STOPPED
        self.failed = result is not None and result.end == "error"
        self._patience_s = END_GRACE_S + END_PATIENCE * (result.elapsed_s if result else 0.0)
        self._base = recorded.last_number if recorded else 0
        known = recorded.numbers.values() if recorded else ()
        self._unclaimed = defaultdict[str, deque[RecordedCall]](deque)
        for call in known:
            self._unclaimed[_alike(call.key)].append(call)
        # What was asked ahead of time was answered ahead of time, too: its order says nothing about the cell.
        self._ranks = sorted(call.rank for call in known if self.has_answer(call) and not call.prefetched)
        self._waiting: dict[int, tuple[RecordedCall, asyncio.Future[None]]] = {}
        self._next = 0
        self._handed_over_s = 0.0
        self._pausing = False
        self._grace: asyncio.TimerHandle | None = None
        self._new: list[asyncio.Future[None]] = []

    def claim(self, key: str, number: int) -> tuple[int, RecordedCall | None]:
        """The number under which a sub-call is known, and what is recorded of it. ``number`` counts in this execution.

        Of several that are alike but for addresses it is the one with the same, else the first.
        """
        left = self._unclaimed.get(_alike(key))
        if left:
            call = next((each for each in left if each.key == key), left[0])
            left.remove(call)
            return call.number, call
        return self._base + number, None

    def has_answer(self, call: RecordedCall) -> bool:
        """Whether what is recorded of a call is to be handed over."""
        if call.ended is not None and call.ended.failure is not None:
            return self._finished
        return call.reply is not None or call.ended is not None

    @property
    def finished(self) -> bool:
        """Whether the cell had come to its end: then it can ask for nothing new."""
        return self._finished

    async def end(self) -> None:
        """Waits for the cell to end, as it had without an answer; returns when it should have long ago, unless it is stopped."""
        await (asyncio.get_running_loop().create_future() if self.stopped else asyncio.sleep(self._patience_s))

    def unclaimed(self) -> list[RecordedCall]:
        """What was answered before and not asked for now."""
        left = [call for calls in self._unclaimed.values() for call in calls]
        return [call for call in left if self.has_answer(call) and not call.prefetched]

    async def in_order(self, call: RecordedCall) -> None:
        """Waits until all that were answered before this one have been handed over."""
        if call.prefetched:
            return
        if self._next == len(self._ranks) or call.rank < self._ranks[self._next] or call.rank > self._ranks[-1]:
            await self.after_recorded()  # its turn has passed, or it was answered since this began
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting[call.rank] = (call, future)
        self._hand_over()
        await future

    async def after_recorded(self) -> None:
        """Waits until all recorded answers have been handed over: a new one comes after them, however fast it is."""
        if self._ranks:
            future = asyncio.get_running_loop().create_future()
            self._new.append(future)
            self._hand_over()
            await future

    def _hand_over(self) -> None:
        while not self._pausing and self._waiting and self._next < len(self._ranks):
            found = self._waiting.pop(self._ranks[self._next], None)
            if found is None:
                break
            self._next += 1
            call, future = found
            _release(future)
            if (
                call.batch is None
                and (self._waiting or self._new)
                and call.ended_s - self._handed_over_s > SMALLEST_GAP_S
            ):
                self._pausing = True
                asyncio.get_running_loop().call_later(SMALLEST_GAP_S, self._go_on)
            self._handed_over_s = call.ended_s
        if self._next == len(self._ranks) and not self._pausing:
            for future in self._new:
                _release(future)
            self._new.clear()
        self._watch()

    def _go_on(self) -> None:
        self._pausing = False
        self._hand_over()

    def _watch(self) -> None:
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
        if (self._waiting or self._new) and not self._pausing:
            self._grace = asyncio.get_running_loop().call_later(ORDER_GRACE_S, self._skip)

    def _skip(self) -> None:
        """Those that were answered earlier have not been asked for: the order is lost, the answers are not."""
        logger.warning(
            "the answers of a cell that runs again are out of order: %d of them", len(self._ranks) - self._next
        )
        self._next = self._ranks.index(min(self._waiting)) if self._waiting else len(self._ranks)
        self._hand_over()


def _release(future: asyncio.Future[None]) -> None:
    """Lets a waiter go on by way of the loop's queue, all alike: one that has not begun to wait would else overtake."""

    def resolve() -> None:
        if not future.done():
            future.set_result(None)

    asyncio.get_running_loop().call_soon(resolve)


def subcall_key(subcall: Subcall) -> str:
    """The hash of everything that was asked.

    Where that names addresses of objects, which differ from process to process, it has two parts: without them, and with them.
    """
    if isinstance(subcall, BudgetQuery):
        return "budget"
    exact = _hash(subcall)
    prompt, context = without_repr_addresses(subcall.prompt), subcall.context
    if isinstance(context, str):
        context = without_repr_addresses(context)
    if prompt is subcall.prompt and context is subcall.context:
        return exact
    return f"{_hash(replace(subcall, prompt=prompt, context=context))}.{exact}"


def _alike(key: str) -> str:
    return key.partition(".")[0]


def _hash(subcall: ModelQuery) -> str:
    digest = blake2b(subcall.prompt.encode("utf-8", "surrogatepass"), digest_size=16)
    if subcall.has_context:
        digest.update(b"\0context\0" + _as_bytes(subcall.context))
    if subcall.model or subcall.schema is not None or subcall.recursive is not None:
        digest.update(b"\0options\0" + _as_bytes([subcall.model, subcall.schema, subcall.recursive]))
    return digest.hexdigest()


def _as_bytes(value: object) -> bytes:
    if not isinstance(value, str):
        try:
            return orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_SORT_KEYS)
        except (TypeError, ValueError):  # numbers beyond 64 bits, lone surrogates
            value = repr(value)
    return value.encode("utf-8", "surrogatepass")


def _plain(value: object) -> object:
    """Sets have no order that two processes would agree on."""
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    if isinstance(value, tuple):
        return list(value)
    return repr(value)


def revive_error(failed: CallFailed, model: str) -> ModelError:
    """The error that a recorded call ended with."""
    kind = getattr(errors, failed.error, ModelError)
    if kind is errors.TruncatedReplyError:
        return errors.TruncatedReplyError(failed.message, text=failed.text, model=model)
    if isinstance(kind, type) and issubclass(kind, ModelError):
        return kind(failed.message, model=model)
    return ModelError(f"{failed.error}: {failed.message}", model=model)
