"""Sub-calls that a limit or a stop left undone, over a whole record."""

from __future__ import annotations

from record_kit import Record

from rlm.core.events import NodeFinished, RunReopened, SubcallEnded, Superseded
from rlm.core.ids import ROOT, CallId
from rlm.core.subcalls import SubcallFailure
from rlm.core.superseding import is_lifted_by_resume, superseded_by_reopening

CHILD = "0/1.1.1"


class Runs(Record):
    def cut(self, path: str, limit: str, node: str = ROOT, key: str = "k") -> Runs:
        failure = SubcallFailure("BudgetExceeded", "no budget", limit=limit)
        self.add(SubcallEnded, node, call=CallId(path), key=key, failure=failure)
        return self

    def finished(self, node: str, status: str, limit: str | None = None) -> Runs:
        self.add(NodeFinished, node, status=status, answer=None, turns=1, limit=limit)
        return self

    @property
    def limit(self) -> str | None:
        return self.fold().undone.limit


def cut(limit: str = "stopped") -> Runs:
    """A root whose only cell asked one sub-call, which was cut off."""
    runs = Runs()
    runs.turn(1).cell(1, end=None).leaf("0/1.1.1", replied=False).failed("0/1.1.1", "CancelledError")
    runs.cut("0/1.1.1", limit).executed(1)
    return runs


def test_cut_sub_call_is_undone() -> None:
    assert cut("calls").limit == "calls"
    assert cut("iterations").limit is None


def test_superseded_sub_call_is_not_undone() -> None:
    assert cut().add(Superseded, calls=(CallId("0/1.1.1"),)).fold().undone.limit is None
    assert cut().add(Superseded, cells=((1, 1),)).fold().undone.limit is None
    assert cut().add(Superseded, from_turn=1).fold().undone.limit == "stopped"


def test_same_question_answered_later_makes_up_once() -> None:
    runs = cut("calls").cut("0/1.1.2", "calls")
    runs.turn(2).cell(2, end=None).leaf("0/2.1.1")
    assert runs.limit == "calls"
    runs.leaf("0/2.1.2")
    assert runs.limit is None


def test_child_that_answered_early_is_undone() -> None:
    runs = Runs()
    runs.turn(1).cell(1, end=None).node(CHILD).turn(1, CHILD, limit="tokens")
    runs.finished(CHILD, "partial", "tokens").ended(CHILD).executed(1)
    assert runs.limit == "tokens"
    works = {work.node: work for work in superseded_by_reopening(runs.fold()).works}
    assert (works[ROOT].results, works[CHILD].from_turn) == (((1, 1),), 1)  # type: ignore[index]


def test_child_left_by_its_cell_is_not_undone() -> None:
    runs = Runs()
    runs.turn(1).cell(1, end=None).node(CHILD).turn(1, CHILD).cell(1, node=CHILD, end=None)
    runs.cut(f"{CHILD}/1.1.1", "calls", CHILD).finished(CHILD, "cancelled").executed(1, end="error")
    assert runs.limit is None


def test_larger_limits_accept_earlier_cells() -> None:
    runs = cut("tokens").turn(2).cell(2)
    assert runs.add(RunReopened, notice="more").fold().undone.limit is None


def test_resume_lifts_stops_and_time_limits_only() -> None:
    assert is_lifted_by_resume(cut().fold())
    assert is_lifted_by_resume(cut().turn(2, limit="seconds", replied=False).fold())
    assert not is_lifted_by_resume(cut("calls").turn(2, limit="calls").fold())
    assert not is_lifted_by_resume(Record().turn(1).cell(1).turn(2, replied=False).fold())


def test_all_cells_of_a_stopped_turn_run_again() -> None:
    runs = cut()
    runs.cell(1, 2).turn(2, limit="stopped")
    assert [work.results for work in superseded_by_reopening(runs.fold()).works] == [((1, 1), (1, 2))]
