"""The tree of a run with ten thousands of calls."""

from __future__ import annotations

from rlm.core.events import CallStarted, NodeStarted
from rlm.core.ids import ROOT, CallId, RunId
from rlm.core.messages import CallRole, Message, Request
from rlm.core.tree_builder import CUT_PROMPT_CHARS, MAX_PROMPT_CHARS, TreeBuilder

RUN = RunId("run")


def started(number: int, prompt: str, role: CallRole = "leaf") -> CallStarted:
    request = Request((Message("user", prompt),), role=role)
    return CallStarted(
        run=RUN,
        node=ROOT,
        at_s=0.0,
        call=CallId(f"0/1.1.{number}"),
        role=role,
        depth=1,
        model="m",
        turn=1,
        request=request,
    )


def test_later_long_prompts_are_cut() -> None:
    tree = TreeBuilder()
    tree.add(NodeStarted(run=RUN, node=ROOT, at_s=0.0, parent=None, depth=0, model="m", question="q", context="c"))
    size = MAX_PROMPT_CHARS // 8
    for number in range(10):
        tree.add(started(number, f"first {number} " + "x" * size + f" last {number}"))
    tree.add(started(10, "short"))
    tree.add(started(11, "y" * size, role="node"))
    assert tree.root is not None
    prompts = [call.prompt for call in tree.root.calls]
    assert [len(prompt) >= size for prompt in prompts] == [True] * 7 + [False] * 4 + [True]
    assert len(prompts[8]) < 2 * CUT_PROMPT_CHARS
    assert prompts[8].startswith("first 8 ")
    assert prompts[8].endswith(" last 8")
    assert prompts[10] == "short"
