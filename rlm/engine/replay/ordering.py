"""Delivers the recorded answers of a cell that is executed again, in their recorded order.

The order matters because threads and event loops of the cell react to answers in the order in which they come.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque

from rlm.core.divergence import STOPPED
from rlm.core.history import RecordedCall, RecordedCell
from rlm.core.subcall_key import key_without_addresses
from rlm.core.subcalls import SubcallFailure
from rlm.log import get_logger

logger = get_logger(__name__)

# An answer waits this long for earlier ones. Code that differs from the recording never asks for them.
ORDER_GRACE_S = 2.0
# A cell that had ended before an answer came gets this many times its recorded duration, and the grace, to do so again.
END_PATIENCE, END_GRACE_S = 10.0, 20.0
# Answers recorded further apart than this are delivered apart, so that threads react in the recorded order.
SMALLEST_GAP_S = 0.001


class RecordedAnswers:
    """The recorded answers of one execution of a cell; ``recorded`` is None for a new cell.

    A recorded failure is delivered again only if the cell had finished. Otherwise its sub-call is tried again, unless it is the
    failure of a tool, which has acted.

    The calls that threads make while an error or a stop ends their cell depend on timing. So a cell that ``failed`` or was
    ``stopped`` can ask for less or more than its recording, if its output is the same.
    """

    def __init__(self, recorded: RecordedCell | None = None) -> None:
        result = recorded.result if recorded else None
        self.is_new = recorded is None
        self.finished = result is not None
        self.stopped = result is not None and result.end in STOPPED
        self.failed = result is not None and result.end == "error"
        self._end_patience_s = END_GRACE_S + END_PATIENCE * (result.elapsed_s if result else 0.0)
        self._last_number = recorded.last_number if recorded else 0
        calls = recorded.numbers.values() if recorded else ()
        self._unclaimed = defaultdict[str, deque[RecordedCall]](deque)
        for call in calls:
            self._unclaimed[key_without_addresses(call.key)].append(call)
        # Refusals that were recorded together, beside the one that gives its place to all of them.
        self._refusals = [call.ended for call in calls if call.ended is not None and call.ended.times > 1]
        self._refusals_left = sum(event.times - 1 for event in self._refusals)
        # Prefetched calls were answered ahead of time: their order says nothing about the cell.
        self._ranks = sorted(call.rank for call in calls if self.has_answer(call) and not call.prefetched)
        self._waiting: dict[int, tuple[RecordedCall, asyncio.Future[None]]] = {}
        self._next = 0  # index of the next rank to deliver
        self._delivered_s = 0.0  # recorded time of the latest delivery
        self._pausing = False
        self._grace: asyncio.TimerHandle | None = None
        self._new: list[asyncio.Future[None]] = []

    def claim(self, key: str, number: int) -> tuple[int, RecordedCall | None]:
        """Matches a sub-call with the recording. Returns its recorded number and recording, or a new number and None.

        ``number`` counts in this execution. If calls differ only in addresses, the one with the same addresses goes first.
        """
        candidates = self._unclaimed.get(key_without_addresses(key))
        if candidates:
            call = next((candidate for candidate in candidates if candidate.key == key), candidates[0])
            candidates.remove(call)
            return call.number, call
        return self._last_number + number, None

    def claim_refusal(self) -> SubcallFailure | None:
        """The failure of a sub-call that was recorded together with others; None if there are no more."""
        if not (self.finished and self._refusals_left):
            return None
        self._refusals_left -= 1
        return self._refusals[-1].failure

    def has_answer(self, call: RecordedCall) -> bool:
        """True if the recording of a call has an answer to deliver."""
        if call.tool_outcome is not None:
            return True
        if call.ended is not None and call.ended.failure is not None:
            return self.finished
        return call.reply is not None or call.ended is not None

    def unclaimed(self) -> list[RecordedCall]:
        """The answered calls that this execution has not asked for."""
        calls = [call for calls in self._unclaimed.values() for call in calls]
        return [call for call in calls if self.has_answer(call) and not call.prefetched]

    def unclaimed_refusals(self) -> list[RecordedCall]:
        """The calls that a limit or a stop refused, and that this execution has not asked for."""
        return [call for calls in self._unclaimed.values() for call in calls if call.was_refused]

    async def wait_for_end(self) -> None:
        """Waits for the cell to end without an answer, as it had ended before.

        Returns when that is long overdue. A stopped cell is waited for without a limit.
        """
        await (asyncio.get_running_loop().create_future() if self.stopped else asyncio.sleep(self._end_patience_s))

    async def wait_in_order(self, call: RecordedCall) -> None:
        """Waits until all answers recorded before this one are delivered."""
        if call.prefetched:
            return
        if self._next == len(self._ranks) or call.rank < self._ranks[self._next] or call.rank > self._ranks[-1]:
            await self.wait_for_all()  # its turn has passed, or its answer came after this execution started
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting[call.rank] = (call, future)
        self._deliver()
        await future

    async def wait_for_all(self) -> None:
        """Waits until all recorded answers are delivered: a new answer comes after them, however fast it is."""
        if self._ranks:
            future = asyncio.get_running_loop().create_future()
            self._new.append(future)
            self._deliver()
            await future

    def _deliver(self) -> None:
        while not self._pausing and self._waiting and self._next < len(self._ranks):
            entry = self._waiting.pop(self._ranks[self._next], None)
            if entry is None:
                break
            self._next += 1
            call, future = entry
            _release(future)
            others_wait = bool(self._waiting or self._new)
            if call.batch is None and others_wait and call.ended_s - self._delivered_s > SMALLEST_GAP_S:
                self._pausing = True
                asyncio.get_running_loop().call_later(SMALLEST_GAP_S, self._continue)
            self._delivered_s = call.ended_s
        if self._next == len(self._ranks) and not self._pausing:
            for future in self._new:
                _release(future)
            self._new.clear()
        self._start_grace()

    def _continue(self) -> None:
        self._pausing = False
        self._deliver()

    def _start_grace(self) -> None:
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
        if (self._waiting or self._new) and not self._pausing:
            self._grace = asyncio.get_running_loop().call_later(ORDER_GRACE_S, self._skip)

    def _skip(self) -> None:
        """Skips answers that were not asked for in time: the order is lost, the answers are not."""
        logger.warning(
            "a cell that is executed again gets its answers out of order: %d of them", len(self._ranks) - self._next
        )
        self._next = self._ranks.index(min(self._waiting)) if self._waiting else len(self._ranks)
        self._deliver()


def _release(future: asyncio.Future[None]) -> None:
    """Resolves a future through the loop's queue: a caller that has not started to wait must not overtake the others."""

    def resolve() -> None:
        if not future.done():
            future.set_result(None)

    asyncio.get_running_loop().call_soon(resolve)
