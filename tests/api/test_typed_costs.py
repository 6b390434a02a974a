"""Costs of typed answers: none for runs without a schema, and no long step on the event loop for hostile ones."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator

import pytest

import rlm
from rlm.core.messages import Request
from rlm.runtime.loop import BACKGROUND
from rlm.testing import LoopWatchdog, ScriptedModel

UNTYPED = """
import sys
import rlm
from rlm.testing import ScriptedModel
root = ScriptedModel(["```repl\\nFINAL(llm_query('q'))\\n```"])
with rlm.RLM(root, sub_model=ScriptedModel(["a"], name="scripted:leaf"), store=None) as engine:
    print(engine.run("q", "c").answer)
print([name for name in sys.modules if name.startswith(("rlm.schemas.", "rlm.runtime.answer", "pydantic."))])
"""
FIRST = """
import rlm
from rlm.testing import ScriptedModel
root = ScriptedModel(["```repl\\nFINAL(sum(llm_query_batch(['q'] * 200, schema=int)))\\n```"])
with rlm.RLM(root, sub_model=ScriptedModel(lambda _: "1", name="scripted:leaf"), store=None) as engine:
    print(engine.run("q", "c").answer)
"""
MOST_S = 0.25  # of processor time; all threads of this process count, also those that check beside the loop
HOSTILE = [
    "{'anyOf': [{'pattern': f'^(a|a{n})*$'} for n in range(300)]}",
    "{'$ref': '#/$defs/a0', '$defs': {f'a{n}': {'anyOf': [{'$ref': f'#/$defs/a{(n + 1) % 40}'}] * 2} for n in range(40)}}",
    "{'type': 'array', 'uniqueItems': True, 'items': {'enum': list(range(5000))}}",
    "{'type': 'object', 'properties': {f'p{n}': {'type': 'string'} for n in range(1500)}, 'additionalProperties': False}",
    "{'items': {'anyOf': [{'$ref': '#'}, {'$ref': '#'}]}, 'type': 'array', 'minItems': 1}",
]  # fmt: skip


def test_untyped_run_loads_no_schemas() -> None:
    shown = subprocess.run([sys.executable, "-c", UNTYPED], capture_output=True, text=True, check=True)
    answer, loaded = shown.stdout.splitlines()
    assert answer == "a"
    assert set(loaded.strip("[]").replace("'", "").split(", ")) <= {"rlm.schemas.replies", "rlm.schemas.steps", ""}


def test_first_schema_of_process_can_be_a_batch() -> None:
    """The calls of the batch wait together until the validator is loaded."""
    shown = subprocess.run([sys.executable, "-c", FIRST], capture_output=True, text=True, check=False)
    assert shown.stdout.strip() == "200", shown.stderr


@pytest.fixture
def young_heap() -> Iterator[None]:
    """Hides the objects of the test session from the collector: to visit them takes longer than what is measured."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("young_heap")
@pytest.mark.parametrize("schema", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_schema_does_not_hold_the_loop(schema: str) -> None:
    """The reply is large, and the cell makes 20 calls and gives a large answer of its own."""
    nested = "[" * 60 + "]" * 60
    replies = {"long": '"' + "a" * 100_000 + 'b"', "list": str([[n] for n in range(20_000)]), "deep": nested}

    def reply(request: Request) -> str:
        return replies[request.messages[0].text]

    loop = (
        "for kind in ('long', 'list', 'deep'):\n    got = llm_query_batch([kind] * 5, schema=schema)\nFINAL(len(got))"
    )
    code = f"schema = {schema}\n{loop}"
    leaf = ScriptedModel(reply, name="scripted:leaf")
    with rlm.RLM(ScriptedModel([f"```repl\n{code}\n```"]), sub_model=leaf, store=None) as engine:

        async def watched() -> tuple[object, float]:
            with LoopWatchdog() as watchdog:
                result = await engine.execute("q", "c")
            return result.answer, watchdog.longest_cpu_s

        answer, longest_cpu_s = BACKGROUND.wait(watched())
    assert answer == 5
    assert longest_cpu_s < MOST_S
