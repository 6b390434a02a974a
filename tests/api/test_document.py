"""Examples of "Async Execution & Depth > 1 Features", beyond the four tests at the root: constructors, costs, plans, REPLEnv."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from programs import Answer, cell, script

import rlm
from rlm.repl import REPLEnv
from rlm.rlm_repl import RLM_REPL
from rlm.testing.server import ChatCall, ScriptedReply, ScriptedServer
from rlm.utils.prompts import REPL_SYSTEM_PROMPT, PromptFacts, build_system_prompt, default_family, small_family

ROOT = Path(__file__).parents[2]


def test_constructors_have_the_documented_parameters_in_order() -> None:
    parameters = inspect.signature(RLM_REPL).parameters
    assert {name: parameters[name].default for name in list(parameters)[:8]} == {
        "model": "gpt-4o",
        "recursive_model": "gpt-4o-mini",
        "max_iterations": 20,
        "depth": 0,
        "max_depth": 1,
        "enable_logging": True,
        "track_costs": True,
        "api_key": None,
    }
    parameters = inspect.signature(REPLEnv).parameters
    assert {name: parameters[name].default for name in list(parameters)[:8]} == {
        "recursive_model": "gpt-4o-mini",
        "context_json": None,
        "context_str": None,
        "depth": 0,
        "max_depth": 1,
        "enable_logging": False,
        "parent_rlm_class": None,
        "setup_code": None,
    }


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    """A server that the environment names, as it names the real one for users."""
    turns = [cell("n = llm_query('x')\nFINAL(f'{len(context)} {n}')")]
    with ScriptedServer.in_thread(script(turns)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "not-a-key")
        yield server


def test_examples_run_as_written(provider: ScriptedServer, capfd: pytest.CaptureFixture[str]) -> None:
    made = RLM_REPL(model="gpt-4o-mini", max_depth=2, enable_logging=True)
    result = made.completion("Department: Engineering", "Count total employees by department")
    assert result.startswith("23 ")
    assert "rlm:" in capfd.readouterr().err  # enable_logging tells on stderr what happens
    for options in ({}, {"max_depth": 2}, {"model": "gpt-4o-mini", "max_depth": 3, "max_iterations": 15}):
        quiet = RLM_REPL(**options, enable_logging=False)
        assert quiet.completion("abc", "q").startswith("3 ")
    assert capfd.readouterr().err == ""


def test_costs_add_up_over_completions_until_reset(provider: ScriptedServer) -> None:
    tracked = RLM_REPL(enable_logging=False)
    tracked.completion("abc", "q")
    tracked.completion(["a"], "q")
    summary = tracked.cost_summary()
    counted = sum(provider.usage.values(), rlm.Usage())
    assert summary["calls"] == 4
    assert summary["input_tokens"] == counted.input_tokens
    assert summary["output_tokens"] == counted.output_tokens
    assert isinstance(summary["cost_usd"], float)
    by_model = summary["by_model"]
    assert isinstance(by_model, dict)
    assert set(by_model) == {"openai:gpt-4o", "openai:gpt-4o-mini"}
    tracked.reset()
    assert tracked.cost_summary()["calls"] == 0
    with pytest.raises(rlm.ConfigurationError, match="`track_costs` must be True"):
        RLM_REPL(track_costs=False).cost_summary()


def test_a_query_may_be_in_the_context(provider: ScriptedServer) -> None:
    assert RLM_REPL(enable_logging=False).completion("What is 1 + 1?") == "14 leaf"


@pytest.mark.parametrize(("max_depth", "calls", "fan_out"), [(1, 101, (100,)), (2, 111, (10, 10))])
def test_flat_and_nested_plans_make_documented_calls(max_depth: int, calls: int, fan_out: tuple[int, ...]) -> None:
    def answer(call: ChatCall) -> Answer:
        if not call.is_root:
            return "1"
        level = 0 if call.model == "gpt-4o" else 1
        return cell(f"FINAL(sum(map(int, llm_query_batch([f'part {{i}}' for i in range({fan_out[level]})]))))")

    with ScriptedServer.in_thread(answer) as server:
        made = RLM_REPL(max_depth=max_depth, enable_logging=False, api_key="x", base_url=server.base_url)
        assert made.completion("data", "How many leaves?") == "100"
        assert len(server.calls) == calls


def test_depth_is_counted_from_where_the_root_stands(provider: ScriptedServer) -> None:
    inner = RLM_REPL(depth=1, max_depth=2, enable_logging=False)
    inner.completion("abc", "q")
    assert inner.last_result is not None
    assert inner.last_result.tree is not None
    assert (inner.last_result.tree.depth, inner.last_result.tree.children) == (1, [])
    with pytest.raises(rlm.ConfigurationError, match="got 2"):
        RLM_REPL(depth=2, max_depth=1)


def test_the_documents_test_program_runs_by_itself() -> None:
    shown = subprocess.run(
        [sys.executable, "test_async_depth.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "4 passed, 0 failed" in shown.stdout
    assert shown.stderr == ""


# REPLEnv


def test_code_runs_in_own_process_with_lasting_variables(provider: ScriptedServer) -> None:
    with REPLEnv(context_str="some text", setup_code="import math\nTWO = 2") as env:
        first = env.code_execution("x = [len(context), TWO]\nprint('hello')\nx")
        assert first.stdout == "hello\n[9, 2]"
        assert first.locals["x"] == [9, 2]
        assert "context" not in first.locals
        assert first.execution_time < 1
        second = env.code_execution("x.append(math.pi)\n1 / 0")
        assert "ZeroDivisionError" in second.stderr
        assert second.locals["x"] == [9, 2, 3.141592653589793]
        third = env.code_execution("import os, sys\nprint(os.getpid())\nsys.exit()")
        assert third.stdout.strip() != str(__import__("os").getpid())
        assert env.code_execution("FINAL(x[0])").answer == 9


def test_sub_calls_in_a_replenv_are_parallel(provider: ScriptedServer) -> None:
    with (
        ScriptedServer.in_thread("yes", latency_s=0.2) as server,
        REPLEnv(context_json={"a": 1}, base_url=server.base_url, api_key="x") as env,
    ):
        env.code_execution("pass")
        result = env.code_execution("r = llm_query_batch(['q'] * 20)\nprint(len(r), context['a'])")
    assert result.stdout == "20 1"
    assert result.execution_time < 0.4


@pytest.mark.parametrize(("parent", "asked"), [(None, "plain"), (RLM_REPL, "nested")])
def test_replenv_nests_with_a_parent_class(parent: type[RLM_REPL] | None, asked: str) -> None:
    turns = [cell("FINAL('nested')")]
    with (
        ScriptedServer.in_thread(script(turns, "plain")) as server,
        REPLEnv(max_depth=2, parent_rlm_class=parent, base_url=server.base_url, api_key="x") as env,
    ):
        assert env.code_execution("print(llm_query('x'))").stdout == asked


def test_a_replenv_takes_any_class_with_a_completion() -> None:
    class Nested:
        def __init__(self, **options: object) -> None:
            self.options = options

        def completion(self, context: str, query: str | None = None) -> str:
            time.sleep(0.2)
            return f"{context} at {self.options['depth']} of {self.options['max_depth']}"

    with REPLEnv(max_depth=3, parent_rlm_class=Nested, api_key="x") as env:
        result = env.code_execution("print(llm_query_batch(['a'] * 12)[11])")
    assert result.stdout == "a at 1 of 3"
    assert result.execution_time < 1.5  # twelve at once, not one after the other


def test_a_replenv_has_one_context() -> None:
    with pytest.raises(rlm.ConfigurationError, match="must not be combined"):
        REPLEnv(context_str="a", context_json=[1])


def test_errors_of_the_machinery_are_raised_not_printed() -> None:
    with (
        ScriptedServer.in_thread(lambda _: ScriptedReply("bad key", status=401)) as server,
        REPLEnv(base_url=server.base_url, api_key="x") as env,
        pytest.raises(rlm.AuthenticationError),
    ):
        env.code_execution("llm_query('x')")


# Prompts


def facts(**changes: object) -> PromptFacts:
    known: dict[str, object] = {
        "depth": 0,
        "max_depth": 1,
        "can_call": True,
        "sub_calls_are_nodes": False,
        "sub_prompt_chars": 12_345,
        "observation_chars": 16_000,
    }
    return PromptFacts(**{**known, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("family", [default_family, small_family])
def test_prompts_list_functions_and_answer_forms(family: object) -> None:
    assert callable(family)
    text = family(facts())
    assert "12,345 characters" in text
    assert "llm_query_batch" in text
    assert "FINAL" in text
    assert not re.search(r"{[a-z_]+}", text.replace("{chunk}", ""))
    assert "llm_query" not in family(facts(can_call=False))


def test_default_prompt_mentions_nodes_only_for_nesting() -> None:
    assert "with its own REPL" not in default_family(facts())
    assert "with its own REPL" in default_family(facts(sub_calls_are_nodes=True))
    assert "recursive=False" in default_family(facts(sub_calls_are_nodes=True))


def test_older_names_of_the_prompts() -> None:
    assert "parallel" in REPL_SYSTEM_PROMPT
    assert build_system_prompt() == [{"role": "system", "content": REPL_SYSTEM_PROMPT}]


def test_a_prompt_of_ones_own_replaces_the_families() -> None:
    with ScriptedServer.in_thread(script(["FINAL(1)"])) as server:
        engine = rlm.RLM("gpt-4o", api_key="x", base_url=server.base_url, prompt=lambda facts: f"depth {facts.depth}")
        engine.run("q", "c")
        assert server.calls[0].system == "depth 0"
