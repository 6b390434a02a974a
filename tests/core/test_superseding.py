"""The decisions about superseded work."""

from __future__ import annotations

import pytest
from record_kit import Record

from rlm.core.events import Superseded
from rlm.core.ids import ROOT, CallId, NodeId, SubcallPlace
from rlm.core.superseding import (
    SupersededWork,
    superseded_by_call,
    superseded_by_cell,
    superseded_by_reopening,
    superseded_by_reply,
    superseded_by_summary,
    superseded_by_turn,
)


def test_new_work_supersedes_nothing() -> None:
    history = Record().turn(1).cell(1).fold()
    assert not superseded_by_turn(history, ROOT, 2)
    assert not superseded_by_turn(history, NodeId("0/1.1.1"), 1)
    assert not superseded_by_summary(history, ROOT, 2)
    assert not superseded_by_cell(history, ROOT, (1, 2))
    assert not superseded_by_call(history, SubcallPlace(ROOT, 1, 1, 1))
    assert not superseded_by_reply(history, ROOT)


def test_turn_asked_again_supersedes_later_cells() -> None:
    history = Record().turn(1).cell(1).turn(2).cell(2).turn(3).cell(3).fold()
    assert superseded_by_turn(history, ROOT, 2) == SupersededWork(ROOT, 2, ((3, 1),))


def test_reply_supersedes_cells_that_it_omits() -> None:
    record = Record().turn(1).cell(1).turn(2).cell(2, 1).cell(2, 2).add(Superseded, from_turn=2).turn(2).executed(2, 1)
    history = record.fold()
    assert not superseded_by_reply(history, ROOT, 2)
    assert superseded_by_reply(history, ROOT, 3) == SupersededWork(ROOT, cells=((2, 2),))
    assert superseded_by_reply(history, ROOT) == SupersededWork(ROOT, cells=((2, 2),))


def test_lost_call_is_superseded_but_open_child_continues() -> None:
    record = Record().turn(1).cell(1, end=None).leaf("0/1.1.1", replied=False).node("0/1.1.2").refused("0/1.1.3")
    history = record.fold()
    superseded = [superseded_by_call(history, SubcallPlace(ROOT, 1, 1, number)).calls for number in (1, 2, 3)]
    assert superseded == [(CallId("0/1.1.1"),), (), (CallId("0/1.1.3"),)]


def test_larger_limits_supersede_the_last_turn() -> None:
    history = Record().turn(1).cell(1).turn(2, limit="calls").cell(2).fold()
    reopening = superseded_by_reopening(history)
    assert reopening.works == (SupersededWork(ROOT, 2, ((2, 1),)),)
    assert reopening.shows_notice


@pytest.mark.parametrize("end", ["interrupted", "ok"])
def test_cell_cut_short_by_a_limit_runs_again(end: str) -> None:
    record = Record().turn(1).cell(1, end=None).node("0/1.1.1").turn(1, "0/1.1.1", limit="calls")
    record.refused("0/1.1.1").executed(1, end=end).turn(2, limit="calls")  # type: ignore[arg-type]
    reopening = superseded_by_reopening(record.fold())
    assert reopening.works == (SupersededWork(ROOT, 2, results=((1, 1),)), SupersededWork(NodeId("0/1.1.1"), 1))
    assert not reopening.shows_notice


def test_run_without_a_limit_supersedes_nothing_when_reopened() -> None:
    reopening = superseded_by_reopening(Record().turn(1).cell(1).turn(2, replied=False).fold())
    assert (reopening.works, reopening.shows_notice) == ((), True)


def test_reopening_before_any_cell_shows_no_notice() -> None:
    assert not superseded_by_reopening(Record().turn(1).fold()).shows_notice
