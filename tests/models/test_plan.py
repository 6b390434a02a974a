"""Plans as models: a user's file is replayed from the conversation, and its faults are reported by file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

import rlm
from rlm.core.errors import ConfigurationError
from rlm.core.messages import Message, Request, Task
from rlm.models.plan import known_plans, open_plan
from rlm.plans import cell
from rlm.testing import ScriptedModel

TASK = Task("How long?", depth=0, max_depth=1, turn=1, leaf_prompt_chars=10_000)

TWO_TURNS = """
from dataclasses import dataclass
from rlm.plans import Task, cell

@dataclass
class Found:
    text: str

def plan(task: Task):
    shown = yield cell("print(len(context))", "I measure it.")
    found = Found(shown.strip().splitlines()[0])
    yield cell(f"FINAL({task.question + ' ' + found.text!r})")
"""


def write(folder: Path, text: str) -> str:
    path = folder / "my_plan.py"
    path.write_text(text)
    return str(path)


def conversation(*said_and_shown: str) -> tuple[Message, ...]:
    opening = (Message("system", "instructions"), Message("user", "the question"))
    turns = (Message("user" if n % 2 else "assistant", text) for n, text in enumerate(said_and_shown))
    return (*opening, *turns)


async def ask(plan: str, *said_and_shown: str, task: Task | None = TASK) -> str:
    return (await open_plan(plan).ask(Request(conversation(*said_and_shown), role="node", task=task))).text


async def test_plan_replies_per_turn_and_receives_observations(tmp_path: Path) -> None:
    plan = write(tmp_path, TWO_TURNS)
    first = await ask(plan)
    assert first == "I measure it.\n\n```repl\nprint(len(context))\n```"
    assert await ask(plan, first, "4096\n[variables] none") == "```repl\nFINAL('How long? 4096')\n```"
    # The same object, asked anew: nothing is kept between asks.
    assert await ask(plan) == first


async def test_plan_costs_no_tokens(tmp_path: Path) -> None:
    model = open_plan(write(tmp_path, TWO_TURNS))
    reply = await model.ask(Request(conversation(), role="node", task=TASK))
    assert (reply.usage.calls, reply.usage.total_tokens) == (1, 0)
    assert model.name == reply.model == "plan:my_plan"


async def test_plan_of_one_turn_can_return_reply(tmp_path: Path) -> None:
    assert await ask(write(tmp_path, "def plan(task):\n    return 'FINAL(42)'\n")) == "FINAL(42)"


async def test_generator_can_return_last_reply(tmp_path: Path) -> None:
    plan = write(tmp_path, "def plan(task):\n    shown = yield 'one'\n    return 'two ' + shown\n")
    assert await ask(plan, "one", "seen") == "two seen"


@pytest.mark.parametrize(
    ("text", "said_and_shown", "told"),
    [
        ("def plan(task):\n    yield cell('1')\n", (), "NameError.*my_plan.py, line 2"),
        ("def plan(task):\n    shown = yield 'a'\n    int(shown)\n    yield 'b'\n", ("a", "x"), "ValueError.*line 3"),
        ("import json\n\ndef plan(task):\n    json.loads('{')\n    yield 'a'\n", (), "my_plan.py, line 4"),
        ("def plan(task)\n    yield 1\n", (), "SyntaxError.*my_plan.py, line 1"),
        ("import no_such_module\n", (), "no_such_module.*line 1"),
        ("def plans(task):\n    yield 'a'\n", (), "must define a function plan"),
        ("def plan(task):\n    yield 'a'\n", ("a", "the output"), "ended after 1 replies.*FINAL.*the output"),
        ("def plan(task):\n    yield 7\n", (), "got 7"),
        ("def plan(task):\n    yield '  '\n", (), "non-empty text"),
        ("def plan(task):\n    return ['a']\n", (), "got list"),
        ("def plan(task):\n    yield 'other'\n", ("first", "x"), "must be deterministic"),
    ],
)
async def test_faulty_plan_is_reported(tmp_path: Path, text: str, said_and_shown: tuple[str, ...], told: str) -> None:
    plan = write(tmp_path, text)
    with pytest.raises(ConfigurationError, match=f"(?s){told}"):
        await ask(plan, *said_and_shown)


async def test_plan_rejects_plain_calls(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="must be used as `model`"):
        await ask(write(tmp_path, TWO_TURNS), task=None)


def test_unknown_plan_lists_known_ones() -> None:
    assert "map_reduce" in known_plans()
    with pytest.raises(ConfigurationError, match=r"map_reduce.*got 'map_redcue'.*plan:\./my_plan\.py"):
        open_plan("map_redcue")


def test_cell_is_one_fenced_block() -> None:
    assert cell("\nprint(1)\n", "First.") == "First.\n\n```repl\nprint(1)\n```"


async def test_user_plan_drives_root_of_run(tmp_path: Path) -> None:
    plan = write(
        tmp_path,
        """
from rlm.plans import cell

def plan(task):
    shown = yield cell("replies = llm_query_batch([f'Label: {line}' for line in context.splitlines()])\\nprint(replies)")
    yield cell("FINAL({'labels': replies, 'shown': %r})" % shown.splitlines()[0])
""",
    )
    leaf = ScriptedModel(lambda request: request.messages[-1].text[-1].upper(), name="scripted:leaf")
    result = await rlm.RLM(f"plan:{plan}", sub_model=leaf).arun("Label them", "a\nb\nc")
    assert result.answer == {"labels": ["A", "B", "C"], "shown": "['A', 'B', 'C']"}
    assert result.usage.by_model["plan:my_plan"].usage.calls == 2
    assert result.usage.total.usage.calls == 5
