"""Whole runs over a real socket with real workers: answers, trees, failures, and many at once."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from programs import Answer, cell, script

import rlm
from rlm.core.errors import ConfigurationError
from rlm.core.events import CellExecuted, RunFinished, RunStarted
from rlm.testing.scripted import ScriptedModel
from rlm.testing.server import ChatCall, ScriptedReply, ScriptedServer


def engine(server: ScriptedServer, **options: Any) -> rlm.RLM:
    options = {"retries": 0, "sub_model": "gpt-4o-mini", **options}
    return rlm.RLM("gpt-4o", base_url=server.base_url, api_key="not-a-key", **options)


def run(turns: list[Answer], context: object = "text", *, leaf: Any = "leaf", **options: Any) -> rlm.Result:
    with ScriptedServer.in_thread(script(turns, leaf)) as server:
        return engine(server, **options).run("What?", context)


def observation(result: rlm.Result, turn: int) -> str:
    """The prompt of the root's turn."""
    assert result.tree is not None
    return result.tree.turns[turn - 1].prompt


@pytest.mark.parametrize(
    ("context", "code", "answer"),
    [
        ("abc", "FINAL(context.upper())", "ABC"),
        (["a", "b"], "FINAL([type(context).__name__, context[1]])", ["list", "b"]),
        ([{"role": "user", "content": "hi"}], "FINAL(context[0]['content'])", "hi"),
        ({"a": {"b": [1, 2.5, None]}}, "FINAL(context['a'])", {"b": [1, 2.5, None]}),
        (None, "FINAL(context is None)", True),
        ("naïve \N{GRINNING FACE} \r\n \0 end", "FINAL(context)", "naïve \N{GRINNING FACE} \r\n \0 end"),
    ],
)
def test_contexts_arrive_as_they_are(context: object, code: str, answer: object) -> None:
    assert run([cell(code)], context).answer == answer


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("kept = 1\nraise ValueError('bad')", "ValueError: bad"),
        ("kept = 1\nimport sys; sys.exit(3)", "sys.exit"),
        ("kept = 1\nprint('x' * 10_000_000)", "characters left out"),
        ("kept = 1\nwhile True: pass", "time limit"),
    ],
)
def test_failed_cell_is_shown_and_variables_remain(code: str, told: str) -> None:
    result = run([cell(code), cell("FINAL(kept)")], cell_seconds=1.0)
    assert told in observation(result, 2)
    assert result.answer == 1


def test_dead_process_is_replaced_with_its_variables() -> None:
    result = run(
        [cell("x = 1"), cell("import os; os._exit(1)"), cell("FINAL([context, 'x' in globals()])")], "still here"
    )
    assert result.answer == ["still here", True]
    assert "were restored" in observation(result, 3)


def test_classes_and_dataclasses_work_over_several_cells() -> None:
    first = "from dataclasses import dataclass\n@dataclass\nclass Point:\n    x: int\n    def double(self): return helper(self)"
    second = "def helper(point): return Point(point.x * 2)\nFINAL(Point(4).double().x)"
    assert run([cell(first), cell(second)]).answer == 8


def test_failed_calls_stay_in_place_as_failures() -> None:
    def leaf(call: ChatCall) -> Answer:
        return ScriptedReply("no", status=400) if "3" in call.prompt else f"fine {call.prompt}"

    code = "r = llm_query_batch([str(i) for i in range(5)])\nFINAL([type(x).__name__ + ':' + x[:12] for x in r])"
    answer = run([cell(code)], leaf=leaf).answer
    assert answer == ["str:fine 0", "str:fine 1", "str:fine 2", "FailedCall:[call failed", "str:fine 4"]


def test_a_failed_single_call_raises_in_the_cell() -> None:
    result = run(
        [cell("try:\n    llm_query('x')\nexcept LLMQueryError as e:\n    FINAL(str(e))")],
        leaf=ScriptedReply("", status=200),
    )
    assert "empty" in str(result.answer).lower() or "no text" in str(result.answer).lower()


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (ScriptedReply("bad key", status=401), rlm.AuthenticationError),
        (ScriptedReply("no such model", status=404, error_code="model_not_found"), rlm.ModelNotFoundError),
        (ScriptedReply("broken", status=500), rlm.ProviderUnavailableError),
        (ScriptedReply("slow down", status=429), rlm.RateLimitedError),
        (ScriptedReply(reset=True), rlm.ProviderUnreachableError),
        (ScriptedReply(body=b"<html>"), rlm.MalformedReplyError),
        (ScriptedReply(""), rlm.EmptyReplyError),
        (ScriptedReply("FINAL(half", finish_reason="length"), rlm.TruncatedReplyError),
        (ScriptedReply("", refusal="I will not"), rlm.RefusalError),
        (ScriptedReply(hang=True), rlm.ModelTimeoutError),
    ],
)
def test_root_failure_is_typed_error_without_answer(reply: ScriptedReply, error: type[rlm.RLMError]) -> None:
    with pytest.raises(error) as caught:
        run([reply], call_timeout_s=0.5, retry_seconds=1.0)
    assert caught.value.result is not None
    assert caught.value.result.status == "failed"
    assert caught.value.result.answer is None


def test_an_unreachable_host_says_so() -> None:
    with pytest.raises(rlm.ProviderUnreachableError, match="is the server running"):
        rlm.RLM("gpt-4o", base_url="http://127.0.0.1:9/v1", api_key="x", retries=0).run("q", "c")


@pytest.mark.parametrize("max_depth", [1, 2])
def test_refused_key_in_sub_call_ends_run(max_depth: int) -> None:
    def answer(call: ChatCall) -> Answer:
        if call.model == "gpt-4o":
            return cell("r = llm_query_batch(['a', 'b'])\nFINAL(r)")
        return ScriptedReply("bad key", status=401)

    with ScriptedServer.in_thread(answer) as server, pytest.raises(rlm.AuthenticationError):
        engine(server, max_depth=max_depth).run("q", "c")


@pytest.mark.parametrize(
    ("max_depth", "calls"), [(0, 1), (1, 1 + 3), (2, 1 + 3 + 9), (3, 1 + 3 + 9 + 27), (4, 1 + 3 + 9 + 27 + 81)]
)
def test_the_depth_rule(max_depth: int, calls: int) -> None:
    ask = "r = llm_query_batch(['x'] * 3, on_error='raise')"
    code = f"try:\n    {ask}\nexcept LLMQueryError as e:\n    r = [str(e)]\nFINAL(len(r))"
    with ScriptedServer.in_thread(script([cell(code)], "leaf")) as server:
        result = engine(server, max_depth=max_depth).run("q", "c")
        assert len(server.calls) == calls
    assert result.tree is not None
    assert max(node.depth for node in result.tree.walk()) == max(0, max_depth - 1)


@pytest.mark.parametrize(
    "ask",
    [
        "[llm_query('x')]",
        "llm_query_batch(['x'])",
        "[await llm_query_async('x')]",
        "await llm_query_batch_async(['x'])",
        "llm_query_batched(['x'])",
        "[rlm_query('x')]",
        "rlm_query_batched(['x'])",
    ],
)
def test_all_query_functions_recurse_alike(ask: str) -> None:
    def answer(call: ChatCall) -> Answer:
        if not call.is_root:
            return "leaf"
        return cell(f"FINAL({ask})") if call.model == "gpt-4o" else cell("FINAL('child of ' + llm_query('y'))")

    with ScriptedServer.in_thread(answer) as server:
        assert engine(server, max_depth=2).run("q", "c").answer == ["child of leaf"]
        assert engine(server, max_depth=1).run("q", "c").answer != ["child of leaf"]


def test_recursive_option_is_respected_within_max_depth() -> None:
    at_limit = "try:\n    llm_query('x', recursive=True)\nexcept LLMQueryError as e:\n    b = str(e)"
    first = f"a = llm_query('x', recursive=False)\n{at_limit}"

    def answer(call: ChatCall) -> Answer:
        if not call.is_root:
            return "leaf"
        return (
            cell("FINAL('child')") if call.model == "gpt-4o-mini" else cell(first + "\nFINAL([a, globals().get('b')])")
        )

    with ScriptedServer.in_thread(answer) as server:
        assert engine(server, max_depth=2).run("q", "c").answer == ["leaf", None]
        answer_at_limit = engine(server, max_depth=1).run("q", "c").answer
    assert isinstance(answer_at_limit, list)
    assert "max_depth" in answer_at_limit[1]


def test_child_context_is_prompt_or_given_context() -> None:
    def answer(call: ChatCall) -> Answer:
        if call.model == "gpt-4o":
            return cell("FINAL([llm_query('one'), llm_query('how many?', context=[1, 2, 3])])")
        return cell(f"FINAL(repr(context) + ' | {'how many?' in call.prompt}')")

    with ScriptedServer.in_thread(answer) as server:
        assert engine(server, max_depth=2).run("q", "c").answer == ["'one' | False", "[1, 2, 3] | True"]


def test_a_schema_gives_data_back() -> None:
    code = "FINAL(llm_query('x', schema={'type': 'object', 'properties': {'n': {'type': 'integer'}}, 'required': ['n']})['n'])"
    assert run([cell(code)], leaf='{"n": 7}').answer == 7


def test_models_by_depth() -> None:
    def answer(call: ChatCall) -> Answer:
        return cell(f"FINAL('{call.model} > ' + llm_query('x'))") if call.is_root else call.model

    with ScriptedServer.in_thread(answer) as server:
        models = ["gpt-4o", "gpt-4o-mini", "gpt-4.1-nano"]
        result = rlm.RLM(models=models, max_depth=2, base_url=server.base_url, api_key="x").run("q", "c")
    assert result.answer == "gpt-4o > gpt-4o-mini > gpt-4.1-nano"
    assert set(result.usage.by_model) == {f"openai:{name}" for name in models}


def test_usage_is_what_the_server_counted() -> None:
    code = "FINAL(len(llm_query_batch(['some prompt of a few words'] * 10)))"
    with ScriptedServer.in_thread(script([cell("x = 1"), cell(code)])) as server:
        result = engine(server, max_depth=2).run("q", "c")
        counted = sum(server.usage.values(), rlm.Usage())
    assert result.usage.total.usage == counted
    assert sum((spend.usage for spend in result.usage.by_model.values()), rlm.Usage()) == counted
    assert sum((spend.usage for spend in result.usage.by_depth.values()), rlm.Usage()) == counted
    assert result.cost_usd is not None
    assert result.cost_usd > 0


def test_answer_is_partial_after_last_turn() -> None:
    result = run([cell("x = 1"), cell("x += 1"), "FINAL_VAR(x)"], max_iterations=2)
    assert (result.answer, result.status, result.limit) == (2, "partial", "iterations")


def test_a_budget_of_calls_holds_and_still_answers() -> None:
    turns: list[Answer] = [
        cell("r = llm_query_batch(['x'] * 50)\nn = sum(not hasattr(i, 'error') for i in r)"),
        "FINAL_VAR(n)",
    ]
    with ScriptedServer.in_thread(script(turns)) as server:
        result = engine(server, budget=rlm.Budget(calls=12)).run("q", "c")
        assert len(server.calls) == 12
    assert (result.answer, result.status, result.limit) == (10, "partial", "calls")


def test_fifty_runs_from_threads_stay_separate() -> None:
    code = "for i in range(20):\n    print(context)\nr = llm_query_batch([context + str(i) for i in range(5)])"

    def leaf(call: ChatCall) -> Answer:
        return "re " + call.prompt

    with ScriptedServer.in_thread(script([cell(code), cell("FINAL(r)")], leaf)) as server:
        shared = rlm.RLM_REPL(enable_logging=False, api_key="x", base_url=server.base_url)

        def one(number: int) -> None:
            separate = engine(server)
            result = separate.run("q", f"run {number} ")
            assert result.answer == [f"re run {number} {i}" for i in range(5)]
            assert result.tree is not None
            assert result.tree.cells[0][1].stdout == f"run {number} \n" * 20
            assert shared.completion(f"run {number} ", "q") == repr(result.answer)

        with ThreadPoolExecutor(50) as pool:
            list(pool.map(one, range(50)))
        assert shared.cost_summary()["calls"] == 50 * 7


async def test_fifty_runs_in_one_loop_stay_separate() -> None:
    turns: list[Answer] = [cell("print(context)\nr = await llm_query_batch_async([context] * 3)\nFINAL(r)")]
    async with ScriptedServer(script(turns, lambda call: call.prompt)) as server:
        shared = engine(server)
        results = await asyncio.gather(*(shared.arun("q", str(number)) for number in range(50)))
    assert [result.answer for result in results] == [[str(number)] * 3 for number in range(50)]
    assert len({result.run_id for result in results}) == 50


async def test_run_works_inside_loop_and_arun_cancels() -> None:
    with ScriptedServer.in_thread(script([cell("while True: pass")])) as server:
        shared = engine(server)
        task = asyncio.create_task(shared.arun("q", "c"))
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    with ScriptedServer.in_thread(script(["FINAL(1)"])) as server:
        assert engine(server).run("q", "c").answer == "1"  # blocks this loop, as asked, and works


async def test_stream_gives_every_event_and_the_result() -> None:
    async with ScriptedServer(script([cell("print('hi')"), "FINAL(done)"])) as server:
        stream = engine(server).stream("q", "c")
        events = [event async for event in stream]
    assert isinstance(events[0], RunStarted)
    assert isinstance(events[-1], RunFinished)
    assert [event.result.stdout for event in events if isinstance(event, CellExecuted)] == ["hi\n"]
    assert [event.at_s for event in events] == sorted(event.at_s for event in events)
    assert stream.result.answer == "done"


async def test_leaving_a_stream_early_cancels_run() -> None:
    def slow(call: ChatCall) -> Answer:
        return ScriptedReply("FINAL(late)", latency_s=30)

    async with ScriptedServer(slow) as server:
        async for _ in engine(server).stream("q", "c"):
            break
        async with asyncio.timeout(5):
            while server.in_flight:
                await asyncio.sleep(0.01)


def test_a_broken_sink_does_not_end_a_run(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def emit(self, event: object) -> None:
            raise RuntimeError("broken view")

    assert run(["FINAL(1)"], sinks=[Broken()]).answer == "1"
    assert "a sink failed" in caplog.text


@pytest.mark.parametrize(
    "options",
    [
        {"model": "gpt-4o", "models": ["gpt-4o"]},
        {"models": []},
        {"model": "gpt-4o", "max_depth": -1},
        {"model": "gpt-4o", "concurrency": 0},
        {"model": "gpt-4o", "prompt": "no such family"},
        {"model": "gpt-4o", "sandbox": "no such level"},
        {"model": "nobody:gpt"},
        {"model": "plan:map_reduce"},
    ],
)
def test_bad_arguments_are_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(rlm.ConfigurationError):
        rlm.RLM(**options, api_key="x")


def test_a_key_is_not_shown_to_another_provider() -> None:
    with pytest.raises(rlm.AuthenticationError, match="ANTHROPIC_API_KEY"):
        rlm.RLM("gpt-4o", sub_model="anthropic:claude-haiku-4-5", api_key="for-openai")


def test_nothing_is_left_when_runs_have_ended() -> None:
    before = threading.active_count()
    with ScriptedServer.in_thread(script([cell("FINAL(llm_query('x'))")])) as server, engine(server) as shared:
        for _ in range(5):
            shared.run("q", "c")
    deadline = time.monotonic() + 5
    while threading.active_count() > before + 1 and time.monotonic() < deadline:  # the engine's own thread may be new
        time.sleep(0.01)
    assert threading.active_count() <= before + 1


def test_only_requested_packages_can_be_imported() -> None:
    code = "import yarl\ntry:\n    import aiohttp\nexcept ImportError:\n    FINAL(yarl.URL('http://a/b').path)"
    assert run([cell(code)], sandbox_packages=["yarl"]).answer == "/b"
    with pytest.raises(rlm.ConfigurationError, match="no_such_package"):
        run([cell("pass")], sandbox_packages=["no_such_package"])


def test_closed_engine_leaves_models_to_running_runs() -> None:
    closed = threading.Event()

    def answer(request: rlm.Request) -> str:
        if request.role == "leaf":
            assert closed.wait(10)
            return "leaf"
        return cell("found = llm_query('x')") if len(request.messages) == 2 else cell("FINAL(found)")

    with rlm.RLM(ScriptedModel(lambda request: asyncio.to_thread(answer, request))) as shared:
        handle = shared.start("What?", "text")
    closed.set()
    assert handle.result().answer == "leaf"
    with pytest.raises(ConfigurationError, match="was closed"):
        shared.run("What?", "text")
