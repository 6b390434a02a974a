"""Everyday use from Python: contexts of any kind, results that show themselves, options of the document's classes, hints."""

from __future__ import annotations

import io
import json
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from programs import cell, script

import rlm
from rlm.core.errors import ConfigurationError
from rlm.core.events import AnyEvent
from rlm.core.result import Result
from rlm.repl import REPLEnv
from rlm.rlm_repl import RLM_REPL
from rlm.runtime import contexts
from rlm.runtime.contexts import plain_context
from rlm.testing.scripted import ScriptedModel
from rlm.testing.server import ScriptedServer


@dataclass
class Ticket:
    number: int
    text: str
    tags: tuple[str, ...] = ()


class Model:
    """An object with the part of a pydantic model that the package uses."""

    def model_dump(self) -> dict[str, object]:
        return {"ticket": Ticket(1, "late"), "n": 2}


def answer_of(context: object, code: str = "FINAL(repr(context))") -> object:
    return rlm.ask("q", context, ScriptedModel([cell(code)]), store=None).answer


def numbers() -> Iterator[int]:
    yield from (1, 2, 3)


@pytest.mark.parametrize(
    ("context", "seen"),
    [
        (Ticket(7, "late", ("a",)), {"number": 7, "text": "late", "tags": ("a",)}),
        ([Ticket(1, "x"), "y"], [{"number": 1, "text": "x", "tags": ()}, "y"]),
        ({"k": {"deep": [Ticket(1, "x")]}}, {"k": {"deep": [{"number": 1, "text": "x", "tags": ()}]}}),
        (Model(), {"ticket": {"number": 1, "text": "late", "tags": ()}, "n": 2}),
        (numbers(), [1, 2, 3]),
        (map(str, [1, 2]), ["1", "2"]),
    ],
)
def test_objects_of_programs_are_contexts(context: object, seen: object) -> None:
    assert answer_of(context) == repr(seen)


def test_paths_are_read_and_text_is_not(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the tide")
    assert answer_of(tmp_path / "a.txt", "FINAL(str(context))") != str(tmp_path / "a.txt")
    assert answer_of(str(tmp_path / "a.txt"), "FINAL(context)") == str(tmp_path / "a.txt")
    assert "the tide" in str(answer_of(iter([tmp_path / "a.txt"]), "FINAL(str(context))"))


async def test_arun_accepts_a_generator() -> None:
    engine = rlm.RLM(ScriptedModel([cell("FINAL(context)")]), store=None)
    assert (await engine.arun("q", numbers())).answer == [1, 2, 3]


def test_containers_without_objects_are_not_copied() -> None:
    for context in (["a", "b"], {"a": "b"}, ["a", ["b", {"c": 1}]], ("a", 1)):
        assert plain_context(context) is context


def test_odd_iterators_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contexts, "MAX_ITEMS", 1_000)
    with pytest.raises(rlm.ContextError, match="more than 1,000 items"):
        plain_context(count())

    async def pages() -> Any:
        yield "a"

    with pytest.raises(rlm.ContextError, match="Collect it first"):
        plain_context(pages())


def test_conversion_of_cyclic_contexts_ends() -> None:
    items: list[object] = [Ticket(1, "x")]
    items.append(items)
    with pytest.raises(rlm.ContextError, match="contains itself"):
        plain_context(items)


@pytest.fixture(scope="module")
def result() -> Result:
    model = ScriptedModel([cell("x = llm_query_batch(['a', 'b'])\nFINAL('<b>' + 'y' * 9000)"), "leaf", "leaf"])
    return rlm.ask("What is <i>said</i>?", "text", model, store=None)


def test_a_result_is_one_line(result: Result) -> None:
    shown = repr(result)
    assert "\n" not in shown
    assert len(shown) < 400
    assert "3 calls" in shown
    assert result.run_id in shown
    assert "\n" not in repr(rlm.ask("q", None, ScriptedModel([cell("FINAL(10 ** 5000)")]), store=None))


def test_a_result_shows_a_card_in_notebooks(result: Result) -> None:
    card = result._repr_html_()
    assert "&lt;b&gt;yyy" in card
    assert "What is &lt;i&gt;said&lt;/i&gt;?" in card
    assert "<b>" not in card
    assert "<script" not in card
    assert len(card) < 8_000
    assert "1 node, 3 calls" in card


def test_a_result_is_data(result: Result) -> None:
    data = result.to_dict()
    assert json.loads(json.dumps(data)) == data
    assert (data["status"], data["run_id"]) == ("complete", result.run_id)
    assert [call.role for call in result.calls] == ["node", "leaf", "leaf"]
    starts = [call.started_s for call in result.calls]
    assert starts == sorted(starts)


def test_events_of_one_run_reach_its_callable() -> None:
    engine = rlm.RLM(ScriptedModel([cell("FINAL(1)")] * 3), store=None)
    first: list[AnyEvent] = []
    second: list[AnyEvent] = []
    engine.run("q", "c", on_event=first.append)
    engine.start("q", "c", on_event=second.append).result()
    assert type(first[-1]).__name__ == type(second[-1]).__name__ == "RunFinished"
    assert {event.run for event in first}.isdisjoint(event.run for event in second)


def test_verbose_writes_lines_about_each_run(capfd: pytest.CaptureFixture[str]) -> None:
    engine = rlm.RLM(ScriptedModel([cell("FINAL(1)")] * 3), store=None, verbose=True)
    for _ in range(2):
        engine.run("q", "c")
    shown, until = "", time.monotonic() + 5
    while shown.count("complete") < 2 and time.monotonic() < until:
        shown += capfd.readouterr().err
    assert len(re.findall(r"rlm: \[.*complete", shown)) == 2
    assert shown.count("sandbox") == 2


def test_instructions_end_every_system_message() -> None:
    with ScriptedServer.in_thread(script([cell("FINAL('x')")])) as server:
        for prompt in (None, "small"):
            engine = rlm.RLM(
                "openai:m", base_url=server.base_url, api_key="x", store=None, prompt=prompt, instructions="Use SI."
            )
            engine.run("q", "c")
    for call in server.calls:
        assert call.messages[0].text.endswith("Instructions of the user:\nUse SI.")


def test_the_documents_class_takes_every_option() -> None:
    with ScriptedServer.in_thread(script([cell("import time; time.sleep(9)"), cell("FINAL('x')")])) as server:
        made = RLM_REPL(
            enable_logging=False,
            api_key="x",
            base_url=server.base_url,
            cell_seconds=0.2,
            call_timeout_s=5.0,
            store=None,
        )
        seen: list[AnyEvent] = []
        assert made.completion([Ticket(1, "a")], "q", on_event=seen.append) == "x"
    assert seen
    with pytest.raises(ConfigurationError, match="recursive_model"):
        RLM_REPL(sub_model="x", api_key="k")
    with pytest.raises(TypeError, match="Did you mean `cell_seconds`"):
        RLM_REPL(cell_second=1, api_key="k")


def test_a_replenv_needs_no_key_until_it_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with REPLEnv(context_str="abc", cell_seconds=30.0) as env:
        assert env.code_execution("print(len(context))").stdout == "3"
        with pytest.raises(rlm.AuthenticationError, match="Set OPENAI_API_KEY"):
            env.code_execution("llm_query('x')")


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("backend", "anthropic:"),
        ("backend_kwargs", "api_key"),
        ("sub_lm", "`sub_model`"),
        ("max_llm_calls", "Budget(calls="),
        ("max_budget", "Budget(usd="),
        ("custom_system_prompt", "`instructions`"),
        ("environment", "`sandbox`"),
    ],
)
def test_foreign_options_are_answered_with_ours(name: str, word: str) -> None:
    with pytest.raises(TypeError, match=re.escape(word)):
        rlm.RLM("openai:m", api_key="k", **{name: "x"})  # type: ignore[arg-type]


def test_foreign_methods_and_attributes_are_answered_with_ours(result: Result) -> None:
    engine: Any = rlm.RLM("openai:m", api_key="k")
    given: Any = result
    with pytest.raises(AttributeError, match=re.escape("run(query, context)")):
        engine.completion("x")
    with pytest.raises(AttributeError, match=re.escape("`.answer`")):
        print(given.response)
    with ScriptedServer.in_thread(script([cell("FINAL('x')")])) as server:
        text: Any = RLM_REPL(enable_logging=False, api_key="x", base_url=server.base_url, store=None).completion(
            "c", "q"
        )
    with pytest.raises(AttributeError, match="answer as text"):
        print(text.response)
    assert not hasattr(given, "nothing_like_it")
    assert not hasattr(engine, "__deepcopy__")
    assert isinstance(text, str)
    assert json.dumps(text) == '"x"'
    assert io.StringIO().write(text) == 1
    assert sys.intern(str(text)) == "x"
