"""Recorded answers reach a cell that is executed again in their recorded order."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from rlm.core.cells import Cell, CellEnd, CellResult
from rlm.core.events import SubcallEnded
from rlm.core.history import RecordedCall, RecordedCell
from rlm.core.ids import ROOT, CallId, RunId
from rlm.core.messages import Reply, Usage
from rlm.core.subcalls import SubcallFailure
from rlm.engine.replay.ordering import ORDER_GRACE_S, RecordedAnswers
from rlm.testing import VirtualClock


def answered(number: int, key: str, rank: int, *, prefetched: bool = False) -> RecordedCall:
    return RecordedCall(
        number,
        key,
        prefetched=prefetched,
        reply=Reply(key, Usage(), "m"),
        rank=rank,
        ended_s=float(rank),
        elapsed_s=1.0,
    )


def failed(number: int, key: str, rank: int) -> RecordedCall:
    ended = SubcallEnded(
        run=RunId("r"), node=ROOT, at_s=1.0, call=CallId(f"0/1.1.{number}"), key=key, failure=SubcallFailure("E", "why")
    )
    return RecordedCall(number, key, ended=ended, rank=rank)


def cell_of(*calls: RecordedCall, end: CellEnd | None = "ok") -> RecordedCell:
    result = None if end is None else CellResult(end, elapsed_s=1.0)
    return RecordedCell(Cell(1, 1, "x"), result, numbers={call.number: call for call in calls}, answered=len(calls))


def run(main: Coroutine[Any, Any, None]) -> float:
    """Runs to the end in virtual time; returns the time it took."""
    clock = VirtualClock()
    clock.run(main)
    return clock.now()


@pytest.mark.parametrize("asked", [(1, 2, 3), (3, 2, 1), (2, 3, 1)])
def test_answers_come_in_recorded_order(asked: tuple[int, ...]) -> None:
    calls = {1: answered(1, "a", 2), 2: answered(2, "b", 0), 3: answered(3, "c", 1)}
    delivered: list[str] = []

    async def main() -> None:
        answers = RecordedAnswers(cell_of(*calls.values()))

        async def ask(key: str) -> None:
            _, call = answers.claim(key, 1)
            assert call is not None
            await answers.wait_in_order(call)
            delivered.append(key)

        await asyncio.gather(*(ask(calls[number].key) for number in asked))

    assert run(main()) < ORDER_GRACE_S
    assert delivered == ["b", "c", "a"]


def test_new_answer_comes_after_recorded_ones() -> None:
    delivered: list[str] = []

    async def main() -> None:
        call = answered(1, "a", 0)
        answers = RecordedAnswers(cell_of(call))

        async def recorded() -> None:
            await asyncio.sleep(0.5)
            await answers.wait_in_order(call)
            delivered.append("recorded")

        async def new() -> None:
            await answers.wait_for_all()
            delivered.append("new")

        await asyncio.gather(new(), recorded())

    run(main())
    assert delivered == ["recorded", "new"]


def test_missing_answer_is_skipped_after_grace() -> None:
    async def main() -> None:
        later = answered(2, "b", 1)
        await RecordedAnswers(cell_of(answered(1, "never asked", 0), later)).wait_in_order(later)

    assert run(main()) == pytest.approx(ORDER_GRACE_S)


def test_prefetched_answer_does_not_wait() -> None:
    async def main() -> None:
        ahead = answered(2, "b", 1, prefetched=True)
        await RecordedAnswers(cell_of(answered(1, "a", 0), ahead)).wait_in_order(ahead)

    assert run(main()) == 0.0


def test_equal_subcalls_are_claimed_in_recorded_order() -> None:
    answers = RecordedAnswers(cell_of(answered(1, "same", 0), answered(2, "same", 1)))
    assert [answers.claim("same", number)[0] for number in (1, 2, 3)] == [1, 2, 2 + 3]


def test_same_address_is_claimed_first() -> None:
    answers = RecordedAnswers(cell_of(answered(1, "hash.first", 0), answered(2, "hash.second", 1)))
    assert answers.claim("hash.second", 1)[0] == 2
    assert answers.claim("hash.third", 2)[0] == 1


@pytest.mark.parametrize(("end", "delivered"), [("ok", True), (None, False)])
def test_failure_is_delivered_only_to_finished_cells(end: CellEnd | None, delivered: bool) -> None:
    call = failed(1, "a", 0)
    assert RecordedAnswers(cell_of(call, end=end)).has_answer(call) is delivered


def test_unclaimed_answers_are_those_not_asked_for() -> None:
    calls = answered(1, "a", 0), answered(2, "b", 1), answered(3, "c", 2, prefetched=True), RecordedCall(4, "d")
    answers = RecordedAnswers(cell_of(*calls))
    answers.claim("a", 1)
    assert [call.number for call in answers.unclaimed()] == [2]


def test_new_cell_has_no_recorded_answers() -> None:
    answers = RecordedAnswers(None)
    assert (answers.is_new, answers.claim("a", 7)) == (True, (7, None))
    assert run(answers.wait_for_all()) == 0.0
