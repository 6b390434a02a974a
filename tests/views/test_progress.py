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
        (Story().begin().cell(1).call("c").node_finished(status="cancelled"), Tally(dropped=1)),
        (Story().begin().cell(1).call("c").node_finished().replied("c"), Tally(dropped=1)),
        (Story().begin().cell(1).call("c", sent=False).end("cancelled"), Tally(dropped=1)),
        (Story().begin().call("0@1", role="node").replied("0@1"), Tally(done=1)),
        (Story().begin().replied("never seen").failed("nor this").sent("x").retried("y"), Tally()),
    ],
)
def test_calls_are_counted_by_where_they_stand(story: Story, calls: Tally) -> None:
    assert fold(story).calls == calls


def test_a_batch_counts_its_own_calls_apart_from_those_around_it() -> None:
    story = Story().begin().cell(1).call("single").replied("single")
    for number in range(5):
        story.call(f"b{number}", batch=1, sent=number > 0)
    story.replied("b1").failed("b2")
    story.call("other", batch=2)
    groups = root_of(fold(story)).steps[0].groups
    assert groups[None].tally == Tally(done=1)
    assert groups[1].tally == Tally(waiting=1, running=2, done=1, failed=1)
    assert groups[2].tally == Tally(running=1)


def test_the_same_batch_number_in_two_cells_is_two_batches() -> None:
    story = Story().begin().cell(1).call("a", batch=1).replied("a").executed(1)
    story.cell(2).call("b", turn=2, batch=1)
    first, second = root_of(fold(story)).steps
    assert first.groups[1].tally == Tally(done=1)
    assert second.groups[1].tally == Tally(running=1)


def test_child_nodes_are_items_of_the_batch_that_asked_for_them() -> None:
    story = Story().begin().cell(1)
    for number in range(3):
        story.node(f"0/1.1.{number}", "0", 1, batch=1)
    story.node_finished("0/1.1.0").node_finished("0/1.1.1", status="failed", error="boom")
    progress = fold(story)
    group = root_of(progress).steps[0].groups[1]
    assert group.tally == Tally(running=1, done=1, failed=1)
    assert [child.id for child in group.children] == ["0/1.1.0", "0/1.1.1", "0/1.1.2"]
    assert progress.nodes == Tally(running=2, done=1, failed=1)


def test_calls_of_a_child_belong_to_the_child_alone() -> None:
    story = Story().begin().cell(1).node("0/1.1.1", "0", 1).cell(1, node="0/1.1.1")
    story.call("0/1.1.1/1.1.1", "0/1.1.1", depth=2)
    progress = fold(story)
    child = progress.node(story.events[-1].node)
    assert child is not None
    assert child.steps[0].tally == Tally(running=1)
    assert root_of(progress).steps[0].tally == Tally(running=1)  # the child itself
    assert progress.calls == Tally(running=1)
    assert progress.deepest == 2


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
def test_it_knows_what_the_root_is_doing(story: Story, activity: str) -> None:
    assert root_of(fold(story)).activity == activity


def test_tokens_and_money_are_sums_of_the_replies() -> None:
    story = Story().begin().cell(1)
    story.call("a").replied("a", usage=Usage(1, 100, 60, 0, 7), cost_usd=0.25)
    story.call("b").replied("b", usage=Usage(1, 10, 0, 0, 3), cost_usd=None)
    story.call("c").failed("c")
    spend = fold(story).spend
    assert spend.usage == Usage(2, 110, 60, 0, 10)
    assert (spend.cost_usd, spend.unpriced_calls) == (0.25, 1)


def test_cells_keep_their_end_their_error_and_the_line_that_tells_them_apart() -> None:
    story = Story().begin().cell(1, code="# first, look\n\n   parts = context.split()\nprint(parts)")
    story.executed(1, end="error", error="KeyError: 'x'").cell(2, code="# only a comment").executed(2)
    root = root_of(fold(story))
    assert [(step.name, step.code, step.end, step.error) for step in root.steps] == [
        ("1.1", "parts = context.split()", "error", "KeyError: 'x'"),
        ("2.1", "# only a comment", "ok", None),
    ]
    assert (root.cells, root.cell_errors) == (2, 1)


def test_a_finished_child_forgets_its_steps_and_the_root_keeps_them() -> None:
    story = long_run(turns=2, batch=1, children=1)
    child = "0/3.1.0"
    story.node_finished(child).executed(3).node_finished()
    progress = fold(story)
    assert [step.name for step in root_of(progress).steps] == ["1.1", "2.1", "3.1"]
    assert root_of(progress).steps[2].groups[1].children[0].steps == []
    assert progress.calls.open == 0


def test_the_end_of_the_run_is_known_with_its_status_and_limit() -> None:
    story = Story().begin()
    assert not fold(story).finished
    progress = fold(story.end("partial", limit="iterations"))
    assert (progress.finished, progress.status, progress.limit) == (True, "partial", "iterations")


def test_events_of_nodes_never_seen_are_left_out() -> None:
    story = Story().cell(1, node="0/9").executed(1, node="0/9").call("c", "0/9").node_finished("0/9").end()
    progress = fold(story)
    assert progress.root is None
    assert progress.calls == Tally()
