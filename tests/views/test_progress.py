"""The fold from events to counts, by table and over whole runs."""

from __future__ import annotations

import pytest
from view_story import Story, long_run

from rlm.core.messages import Usage
from rlm.views.progress import Progress
from rlm.views.state import NodeProgress, Tally


def fold(story: Story) -> Progress:
    progress = Progress()
    for event in story.events:
        progress.add(event)
    return progress


def root_of(progress: Progress) -> NodeProgress:
    assert progress.root is not None
    return progress.root


@pytest.mark.parametrize(
    ("story", "calls"),
    [
        (Story().begin(), Tally()),
        (Story().begin().cell(1).call("c", sent=False), Tally(waiting=1)),
        (Story().begin().cell(1).call("c"), Tally(running=1)),
        (Story().begin().cell(1).call("c").replied("c"), Tally(done=1)),
        (Story().begin().cell(1).call("c").failed("c"), Tally(failed=1)),
        (Story().begin().cell(1).call("c", sent=False).failed("c"), Tally(failed=1)),
        (Story().begin().cell(1).call("c").retried("c"), Tally(waiting=1)),
        (Story().begin().cell(1).call("c").retried("c").sent("c", attempt=2), Tally(running=1)),
        (Story().begin().cell(1).call("c").retried("c").sent("c", attempt=2).replied("c"), Tally(done=1)),
        (Story().begin().cell(1).call("c").sent("c", attempt=2), Tally(running=1)),
        (Story().begin().cell(1).call("c").node_finished(status="cancelled"), Tally(cancelled=1)),
        (Story().begin().cell(1).call("c").node_finished().replied("c"), Tally(cancelled=1)),
        (Story().begin().cell(1).call("c", sent=False).end("cancelled"), Tally(cancelled=1)),
        (Story().begin().call("0@1", role="node").replied("0@1"), Tally(done=1)),
        (Story().begin().replied("never seen").failed("nor this").sent("x").retried("y"), Tally()),
    ],
)
def test_calls_are_counted_by_state(story: Story, calls: Tally) -> None:
    assert fold(story).calls == calls


def test_batch_counts_only_its_own_calls() -> None:
    story = Story().begin().cell(1).call("single").replied("single")
    for number in range(5):
        story.call(f"b{number}", batch=1, sent=number > 0)
    story.replied("b1").failed("b2")
    story.call("other", batch=2)
    groups = root_of(fold(story)).cells[0].groups
    assert groups[None].tally == Tally(done=1)
    assert groups[1].tally == Tally(waiting=1, running=2, done=1, failed=1)
    assert groups[2].tally == Tally(running=1)


def test_batch_numbers_belong_to_one_cell() -> None:
    story = Story().begin().cell(1).call("a", batch=1).replied("a").executed(1)
    story.cell(2).call("b", turn=2, batch=1)
    first, second = root_of(fold(story)).cells
    assert first.groups[1].tally == Tally(done=1)
    assert second.groups[1].tally == Tally(running=1)


def test_child_nodes_count_in_their_batch() -> None:
    story = Story().begin().cell(1)
    for number in range(3):
        story.node(f"0/1.1.{number}", "0", 1, batch=1)
    story.node_finished("0/1.1.0").node_finished("0/1.1.1", status="failed", error="boom")
    progress = fold(story)
    group = root_of(progress).cells[0].groups[1]
    assert group.tally == Tally(running=1, done=1, failed=1)
    assert [child.id for child in group.children] == ["0/1.1.0", "0/1.1.1", "0/1.1.2"]
    assert progress.nodes == Tally(running=2, done=1, failed=1)


def test_calls_of_child_count_in_child_only() -> None:
    story = Story().begin().cell(1).node("0/1.1.1", "0", 1).cell(1, node="0/1.1.1")
    story.call("0/1.1.1/1.1.1", "0/1.1.1", depth=2)
    progress = fold(story)
    child = progress.node(story.events[-1].node)
    assert child is not None
    assert child.cells[0].tally == Tally(running=1)
    assert root_of(progress).cells[0].tally == Tally(running=1)  # the child itself
    assert progress.calls == Tally(running=1)


@pytest.mark.parametrize(
    ("story", "activity"),
    [
        (Story().begin(), "starting"),
        (Story().begin().call("0@1", role="node", sent=False), "queued"),
        (Story().begin().call("0@1", role="node"), "asking"),
        (Story().begin().call("0@1", role="node").retried("0@1"), "queued"),
        (Story().begin().call("0@1", role="node").replied("0@1"), "reading"),
        (Story().begin().cell(1), "executing"),
        (Story().begin().cell(1).call("leaf").replied("leaf"), "executing"),
        (Story().begin().cell(1).executed(1), "reading"),
        (Story().begin().node_finished(), "finished"),
    ],
)
def test_activity_of_root_follows_events(story: Story, activity: str) -> None:
    assert root_of(fold(story)).activity == activity


def test_spend_sums_replies() -> None:
    story = Story().begin().cell(1)
    story.call("a").replied("a", usage=Usage(1, 100, 60, 0, 7), cost_usd=0.25)
    story.call("b").replied("b", usage=Usage(1, 10, 0, 0, 3), cost_usd=None)
    story.call("c").failed("c")
    spend = fold(story).spend
    assert spend.usage == Usage(2, 110, 60, 0, 10)
    assert (spend.cost_usd, spend.unpriced_calls) == (0.25, 1)


def test_cell_retains_end_error_and_identifying_line() -> None:
    story = Story().begin().cell(1, code="# first, look\n\n   parts = context.split()\nprint(parts)")
    story.executed(1, end="error", error="KeyError: 'x'").cell(2, code="# only a comment").executed(2)
    root = root_of(fold(story))
    assert [(cell.name, cell.code, cell.end, cell.error) for cell in root.cells] == [
        ("1.1", "parts = context.split()", "error", "KeyError: 'x'"),
        ("2.1", "# only a comment", "ok", None),
    ]


def test_only_root_retains_cells_when_finished() -> None:
    story = long_run(turns=2, batch=1, children=1)
    child = "0/3.1.0"
    story.node_finished(child).executed(3).node_finished()
    progress = fold(story)
    assert [cell.name for cell in root_of(progress).cells] == ["1.1", "2.1", "3.1"]
    assert root_of(progress).cells[2].groups[1].children[0].cells == []
    assert progress.calls.open == 0


def test_run_end_has_status_and_limit() -> None:
    story = Story().begin()
    assert not fold(story).finished
    progress = fold(story.end("partial", limit="iterations"))
    assert (progress.finished, progress.status, progress.limit) == (True, "partial", "iterations")


def test_events_of_unseen_nodes_are_ignored() -> None:
    story = Story().cell(1, node="0/9").executed(1, node="0/9").call("c", "0/9").node_finished("0/9").end()
    progress = fold(story)
    assert progress.root is None
    assert progress.calls == Tally()


def test_superseded_cells_vanish_and_their_children_end() -> None:
    story = Story().begin().cell(1).executed(1).cell(2).node("0/2.1.1", "0", 1).cell(1, node="0/2.1.1")
    story.call("0/2.1.1/1.1.1", "0/2.1.1", depth=2).superseded(from_turn=2, cells=((2, 1),))
    progress = fold(story)
    assert [cell.name for cell in root_of(progress).cells] == ["1.1"]
    assert (progress.calls, progress.nodes) == (Tally(cancelled=1), Tally(running=1, failed=1))


@pytest.mark.parametrize(("ended", "calls"), [("failed", Tally()), ("replied", Tally(done=1))])
def test_superseded_call_stays_counted_if_paid(ended: str, calls: Tally) -> None:
    story = Story().begin().cell(1).call("0/1.1.1", batch=1)
    getattr(story, ended)("0/1.1.1").superseded(calls=("0/1.1.1",))
    progress = fold(story)
    assert progress.calls == calls
    assert root_of(progress).cells[0].groups[1].tally == Tally()


def test_superseded_child_leaves_its_batch() -> None:
    story = Story().begin().cell(1).node("0/1.1.1", "0", 1, batch=1).node("0/1.1.2", "0", 1, batch=1)
    progress = fold(story.node_finished("0/1.1.1").superseded(calls=("0/1.1.1", "0/1.1.2")))
    group = root_of(progress).cells[0].groups[1]
    assert (group.tally, group.children) == (Tally(), [])
    assert progress.nodes == Tally(running=1, done=1, failed=1)


def test_superseded_result_makes_cell_run_again() -> None:
    story = Story().begin().cell(1).executed(1, end="error", error="BudgetExceeded").superseded(results=((1, 1),))
    (cell,) = root_of(fold(story)).cells
    assert (cell.end, cell.error) == (None, None)


def test_superseded_turn_without_reply_is_not_counted() -> None:
    story = Story().begin().call("0@1", role="node").failed("0@1").superseded(from_turn=1)
    assert fold(story.call("0@1", role="node").replied("0@1")).calls == Tally(done=1)
