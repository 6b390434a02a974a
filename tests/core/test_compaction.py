"""A conversation near its model's window is shortened once, keeps what it needs, and goes on."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from rlm.core.actions import Action, Ask, AskFailed, Compact, Compacted, Execute, Executed, LimitMet, Replied, Started
from rlm.core.cells import CellResult, Variable
from rlm.core.compaction import COMPACT_TO, estimate_tokens
from rlm.core.errors import ModelTimeoutError
from rlm.core.messages import Message
from rlm.core.node import Node, step
from rlm.core.node_spec import NodeSpec

WINDOW = 8_000
SPEC = NodeSpec("How many?", "a str", "You answer.", max_turns=100, observation_chars=3_000, window_tokens=WINDOW)
CODE = "```repl\nwork()\n```"
RESULT = CellResult("ok", stdout="w" * 2_000, variables=(Variable("rows", "list", 12),))


def until_compaction(spec: NodeSpec = SPEC) -> tuple[Node, Action, int]:
    node, action = step(Node(spec), Started())
    turns = 0
    while isinstance(action, Ask) and turns < 60:
        turns += 1
        node, action = step(node, Replied(f"turn {turns}\n{CODE}"))
        assert isinstance(action, Execute)
        node, action = step(node, Executed(RESULT))
    return node, action, turns


def test_summary_replaces_older_part_and_names_variables() -> None:
    node, action, turns = until_compaction()
    assert isinstance(action, Compact)
    before = node.messages
    assert action.messages[:4] == before[:4]  # as it was, so that it is read from the cache
    assert "rows (list, 12)" in action.messages[-1].text
    node, action = step(node, Compacted("Twelve rows, all read."))
    assert isinstance(action, Ask)
    assert action.turn == turns + 1
    system, first, *tail = action.messages
    assert (system, first.role) == (before[0], "user")
    assert "How many?" in first.text
    assert "Twelve rows, all read." in first.text
    assert "rows (list, 12)" in first.text
    assert tuple(tail) == before[-len(tail) :]
    assert [m.role for m in tail] == ["assistant", "user"] * (len(tail) // 2)
    assert estimate_tokens(action.messages) <= WINDOW * COMPACT_TO
    assert tail


def test_compaction_waits_until_window_fills_again() -> None:
    node, action = step(Node(SPEC), Started())
    compactions = []
    for turn in range(60):
        node, action = step(node, Replied(f"turn {turn}\n{CODE}"))
        node, action = step(node, Executed(RESULT))
        if isinstance(action, Compact):
            compactions.append(turn)
            node, action = step(node, Compacted("so far"))
    gaps = [later - sooner for sooner, later in pairwise(compactions)]
    assert len(compactions) > 2
    assert min(gaps) >= 3  # each turn adds a tenth of the window, each compaction frees a third


def test_missing_summary_leaves_the_variables() -> None:
    node, _, _ = until_compaction()
    for event in (AskFailed(ModelTimeoutError("slow")), LimitMet("calls")):
        _, action = step(node, event)
        assert isinstance(action, Ask)
        assert "was removed" in action.messages[1].text
        assert "rows (list, 12)" in action.messages[1].text


def test_token_count_of_provider_decides() -> None:
    node, action = step(Node(SPEC), Started())
    node, action = step(node, Replied(CODE, tokens=int(WINDOW * 0.8)))
    node, action = step(node, Executed(RESULT))
    assert isinstance(action, Compact)


def test_observation_that_fills_window_is_cut() -> None:
    spec = replace(SPEC, observation_chars=100_000)
    node, action = step(Node(spec), Started())
    node, action = step(node, Replied(CODE))
    node, action = step(node, Executed(CellResult("ok", stdout="w" * 50_000)))
    assert isinstance(action, Compact)
    node, action = step(node, Compacted("so far"))
    assert isinstance(action, Ask)
    assert estimate_tokens(action.messages) <= WINDOW * 0.6
    assert "www" in action.messages[-1].text
    assert [m.role for m in action.messages] == ["system", "user"]


def test_without_a_window_nothing_is_compacted() -> None:
    _, action, turns = until_compaction(replace(SPEC, window_tokens=0))
    assert isinstance(action, Ask)
    assert turns == 60


def test_messages_are_never_rewritten_before_compaction() -> None:
    node, action = step(Node(SPEC), Started())
    seen: tuple[Message, ...] = ()
    while isinstance(action, Ask):
        assert action.messages[: len(seen)] == seen
        seen = action.messages
        node, action = step(node, Replied(CODE))
        node, action = step(node, Executed(RESULT))
