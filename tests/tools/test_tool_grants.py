"""Tools of deeper nodes: by depth, by a grant of the parent, and never by a forged frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tool_kit import cell

import rlm
from rlm.core.messages import Request
from rlm.events import AnyEvent, NodeStarted, SubcallEnded, ToolStarted
from rlm.testing.scripted import ScriptedModel

CATCH = "\nexcept Exception as error: FINAL(f'{type(error).__name__}: {error}')"


def script(root: str, child: str) -> Callable[[Request], str]:
    return lambda request: cell(root if request.depth == 0 else child)


def run(root: str, child: str, tools: Any, **options: Any) -> tuple[rlm.Result, list[AnyEvent]]:
    """A root and children that execute one cell each."""
    events: list[AnyEvent] = []
    model = ScriptedModel(script(root, child))
    given = {"max_depth": 2, "store": None, "sandbox": "unconfined", **options}
    with rlm.RLM(model, tools=tools, sinks=[events.append], **given) as engine:
        return engine.run("question", "the context"), events


def act(value: int = 1) -> int:
    """Acts."""
    return value


def other() -> str:
    """Does something else."""
    return "other"


def test_tools_are_the_roots_alone() -> None:
    result, events = run("FINAL(llm_query('go'))", "FINAL(str('act' in globals()))", [act])
    assert result.answer == "False"
    assert [event.tools for event in events if isinstance(event, NodeStarted)] == [("act",), ()]


@pytest.mark.parametrize("depth", [1, 5, "all"])
def test_depth_gives_tools_to_deeper_nodes(depth: Any) -> None:
    tools = [rlm.tool(act, depth=depth), other]
    result, _ = run("FINAL(llm_query('go'))", "FINAL([act(4), 'other' in globals()])", tools)
    assert result.answer == "[4, False]"


@pytest.mark.parametrize(
    "query", ["llm_query('go', tools=['act'])", "rlm_query('go', tools=[act])", "llm_query('go', tools='act')"]
)
def test_parent_grants_a_tool(query: str) -> None:
    result, _ = run(f"FINAL({query})", "FINAL([act(5), 'other' in globals()])", [act, other])
    assert result.answer == "[5, False]"


def test_batches_and_async_forms_grant_tools() -> None:
    code = (
        "one = llm_query_batch(['a', 'b'], tools=['act'])\n"
        "two = await llm_query_async('c', tools=['act'])\n"
        "FINAL([*one, two, *await llm_query_batch_async(['d'], tools=['act'])])"
    )
    result, _ = run(code, "FINAL(act(6))", [act])
    assert result.answer == ["6"] * 4


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("llm_query('go', tools=['missing'])", "LLMQueryError: tools='missing' is not a tool of this node"),
        ("llm_query('go', tools=[3])", "TypeError: tools must be names of tools"),
    ],
)
def test_unusable_grants_are_errors(query: str, message: str) -> None:
    result, _ = run(f"try: FINAL({query}){CATCH}", "FINAL(1)", [act])
    assert str(result.answer).startswith(message)


def test_leaf_calls_take_no_tools() -> None:
    result, _ = run(f"try: FINAL(llm_query('go', tools=['act'])){CATCH}", "FINAL(1)", [act], max_depth=1)
    assert str(result.answer).startswith("LLMQueryError: tools= needs a child node")


def test_child_cannot_grant_what_it_lacks() -> None:
    child = f"try: FINAL(llm_query('go', tools=['other'])){CATCH}"
    result, events = run("FINAL(llm_query('go', tools=['act']))", child, [act, other], max_depth=3)
    assert "tools='other' is not a tool of this node" in str(result.answer)
    assert not [event for event in events if isinstance(event, ToolStarted)]


def test_forged_frame_cannot_call_an_ungranted_tool() -> None:
    forge = (
        "import os, stat, json, struct, time\n"
        "body = json.dumps({'args': [], 'kwargs': {}}).encode()\n"
        "head = json.dumps({'t': 'call', 'kind': 'tool', 'first': 1, 'tool': 'act', 'as': 'j'}).encode()\n"
        "for fd in range(3, 1024):\n"
        "    try:\n"
        "        if stat.S_ISSOCK(os.fstat(fd).st_mode):\n"
        "            os.write(fd, struct.pack('>II', len(head), len(body)) + head + body)\n"
        "    except OSError: pass\n"
        "time.sleep(0.5)\n"
        "FINAL('done')"
    )
    result, events = run("FINAL(llm_query('go'))", forge, [act])
    assert result.answer == "done"
    assert result.usage.tool_calls == 0
    (refused,) = [event.failure for event in events if isinstance(event, SubcallEnded) and event.failure]
    assert refused.kind == "ToolError.NotGranted"


def test_children_with_tools_are_not_prefetched() -> None:
    code = "answers = []\nfor n in range(3):\n    answers.append(llm_query(f'go {n}'))\n    if n == 0: break\nFINAL(answers)"
    tool = rlm.tool(act, depth=1)
    result, _ = run(code, "FINAL(act(7))", [tool], sandbox="auto")
    assert (result.answer, result.usage.tool_calls) == (["7"], 1)


def test_prompts_of_children_name_their_tools() -> None:
    model = ScriptedModel(script("FINAL(llm_query('go', tools=['act']))", "FINAL(1)"))
    with rlm.RLM(model, tools=[act, other], max_depth=2, store=None, sandbox="unconfined") as engine:
        engine.run("question", "context")
    root, child = (request.messages[0].text for request in model.requests)
    assert "- other() -> str" in root
    assert "tools=[" in root
    assert "- act(value: int = 1) -> int: Acts." in child
    assert "other()" not in child
