"""The history of a run: recorded work by place, and the work that is superseded."""

from __future__ import annotations

import pytest
from record_kit import Record

from rlm.core.cells import Cell
from rlm.core.events import RunReopened, Superseded
from rlm.core.history import LOST
from rlm.core.ids import ROOT, CallId, NodeId, SubcallPlace


def test_answers_are_ranked_in_order_of_arrival() -> None:
    record = Record().turn(1).cell(1, end=None)
    record.leaf("0/1.1.1", replied=False).leaf("0/1.1.2").reply("0/1.1.1").ended("0/1.1.3")
    numbers = record.fold().nodes[ROOT].cells[1, 1].numbers
    assert {number: call.rank for number, call in numbers.items()} == {1: 1, 2: 0, 3: 2}


@pytest.mark.parametrize(("error", "has_outcome"), [(LOST, False), ("CancelledError", False), ("ModelError", True)])
def test_cut_turns_have_no_outcome(error: str, has_outcome: bool) -> None:
    record = Record().turn(1, replied=False).failed("0@1", error)
    assert record.fold().nodes[ROOT].turns[1].has_outcome is has_outcome


def test_cell_with_other_code_is_unknown() -> None:
    history = Record().turn(1).cell(1, code="x").fold()
    assert history.cell(ROOT, Cell(1, 1, "x")) is not None
    assert history.cell(ROOT, Cell(1, 1, "y")) is None


def test_child_is_forgotten_with_its_answer() -> None:
    record = Record().turn(1).cell(1, end=None).node("0/1.1.1").turn(1, "0/1.1.1")
    assert NodeId("0/1.1.1") in record.fold().nodes
    assert NodeId("0/1.1.1") not in record.ended("0/1.1.1").fold().nodes


def test_child_that_failed_and_continued_is_ranked_again() -> None:
    record = Record().turn(1).cell(1, end=None).node("0/1.1.1").refused("0/1.1.1").leaf("0/1.1.2").ended("0/1.1.1")
    call = record.fold().call(SubcallPlace(ROOT, 1, 1, 1))
    assert call is not None
    assert (call.was_refused, call.rank) == (False, 2)


def test_superseded_turns_drop_later_work() -> None:
    record = Record().turn(1).cell(1).summary(2).turn(2).cell(2).summary(3).turn(3).cell(3)
    node = record.add(Superseded, from_turn=2, cells=((3, 1),)).fold().nodes[ROOT]
    assert (list(node.turns), list(node.summaries), list(node.cells)) == ([1], [2], [(1, 1), (2, 1)])
    assert [cell.unconfirmed for cell in node.cells.values()] == [False, True]


def test_executing_a_cell_confirms_it() -> None:
    record = Record().turn(1).cell(1).add(Superseded, from_turn=1).turn(1).executed(1)
    assert not record.fold().nodes[ROOT].cells[1, 1].unconfirmed


def test_superseded_cells_take_their_children_along() -> None:
    record = Record().turn(1).cell(1, end=None).node("0/1.1.1").node("0/1.1.1/1.1.1")
    record.turn(2).cell(2, end=None).node("0/2.1.1")
    assert list(record.add(Superseded, cells=((1, 1),)).fold().nodes) == [ROOT, "0/2.1.1"]


def test_superseded_calls_are_unknown() -> None:
    record = Record().turn(1).cell(1, end=None).leaf("0/1.1.1").leaf("0/1.1.2").node("0/1.1.3")
    calls = (CallId("0/1.1.2"), CallId("0/1.1.3"), CallId("0@1.summary"))
    history = record.add(Superseded, calls=calls).fold()
    assert list(history.nodes[ROOT].cells[1, 1].numbers) == [1]
    assert list(history.nodes) == [ROOT]


def test_superseded_result_leaves_answers() -> None:
    record = Record().turn(1).cell(1, end=None).leaf("0/1.1.1").executed(1).add(Superseded, results=((1, 1),))
    cell = record.fold().nodes[ROOT].cells[1, 1]
    assert cell.result is None
    assert cell.numbers[1].reply is not None


@pytest.mark.parametrize(("notice", "shown"), [("more calls", "more calls"), (None, "")])
def test_notice_is_shown_after_last_cell(notice: str | None, shown: str) -> None:
    record = Record().turn(1).cell(1).turn(2).cell(2).add(RunReopened, notice=notice)
    cells = record.fold().nodes[ROOT].cells
    assert (cells[1, 1].notice, cells[2, 1].notice) == ("", shown)
