"""Limits met at chosen moments, with real workers and a real socket: each gives a partial answer that holds the work so far."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from programs import cell

import rlm
from rlm.testing.server import ChatCall, ScriptedReply, ScriptedServer

Answer = str | ScriptedReply
Script = Callable[[ChatCall], Answer]

COLLECT = """
found = []
for number in range(1000):
    found.append(llm_query(f"item {number}" + " word" * 800))
"""
BATCH = """
found = [reply for reply in llm_query_batch([f"item {n}" + " word" * 800 for n in range(40)]) if not hasattr(reply, "error")]
"""
CATCH = """
found = []
try:
    while True:
        found.append(llm_query("more"))
except BudgetExceeded as limit:
    found.append("caught")
"""
DEAR = {"gpt-4o": (5, 10), "gpt-4o-mini": (10, 20)}  # $0.01 for one of those
SPIN = "found = [1, 2, 3]\nprint('seen', found)\nwhile True:\n    pass"
STUBBORN = "found = [1, 2, 3]\nprint('seen', found, flush=True)\nsum(range(10**12))"
WAIT = "found = [1, 2, 3]\nfound.append(llm_query('hang'))"


def engine(server: ScriptedServer, **options: object) -> rlm.RLM:
    return rlm.RLM("gpt-4o", sub_model="gpt-4o-mini", api_key="x", base_url=server.base_url, **options)  # type: ignore[arg-type]


def program(*turns: str, leaf: Script | Answer = "leaf", last: str = "FINAL_VAR(found)") -> Script:
    """The root writes ``turns`` and, when it is asked to answer now, ``last``; nodes below write the second turn at once."""

    def answer(call: ChatCall) -> Answer:
        if not call.is_root:
            if "hang" in call.prompt:
                return ScriptedReply(hang=True)
            return leaf(call) if callable(leaf) else leaf
        if "Answer now" in call.prompt:
            return last
        return turns[min(call.turn, len(turns)) - 1]

    return answer


def run(script: Script, query: str = "q", **options: object) -> tuple[rlm.Result, ScriptedServer]:
    with ScriptedServer.in_thread(script) as server, engine(server, **options) as shared:
        return shared.run(query, "context"), server


def check_partial(result: rlm.Result, server: ScriptedServer, limit: str) -> None:
    """Partial, by that limit, inside it, and with totals that are what the server counted."""
    assert (result.status, result.limit) == ("partial", limit)
    for name, use in result.used.items():
        slack = 1.0 if name == "seconds" else 0.0
        assert use.allowed is None or use.used <= use.allowed + slack, name
    counted = sum((call.usage for call in server.calls), rlm.Usage())
    assert result.usage.total.usage == counted
    assert result.usage.total.usage == sum((s.usage for s in result.usage.by_depth.values()), rlm.Usage())
    assert result.usage.total.usage == sum((s.usage for s in result.usage.by_model.values()), rlm.Usage())


def test_between_turns_by_calls() -> None:
    result, server = run(program(cell("found = ['first turn']"), cell("x = 1")), budget=rlm.Budget(calls=3))
    check_partial(result, server, "calls")
    assert result.answer == ["first turn"]
    assert len(server.calls) == 3


@pytest.mark.parametrize(
    ("limit", "budget"),
    [
        ("calls", rlm.Budget(calls=12)),
        ("tokens", rlm.Budget(tokens=30_000)),
        ("usd", rlm.Budget(usd=0.30)),
    ],
)
def test_inside_a_cell_that_asks_one_by_one(limit: str, budget: rlm.Budget) -> None:
    result, server = run(program(cell(COLLECT), "FINAL_VAR(found)"), budget=budget, prices=DEAR)
    check_partial(result, server, limit)
    assert isinstance(result.answer, list)
    assert (
        len(result.answer) == len(server.calls) - 2 > 5
    )  # all but the root's two turns: nothing that was paid is lost


LOOP = """
found = []
for number in range(30):
    found.append(llm_query(f"item {number}"))
"""


@pytest.mark.parametrize("prefetch", [True, False])
@pytest.mark.parametrize("catch", [True, False])
def test_prefetches_beyond_the_cell_are_not_refused(prefetch: bool, catch: bool) -> None:
    code = LOOP
    if catch:
        code = (
            LOOP.replace("    found.append", "    try:\n        found.append")
            + "    except BudgetExceeded:\n        pass\n"
        )
    script = program(cell(code), "FINAL_VAR(found)", leaf=lambda _: ScriptedReply("leaf", latency_s=0.05))
    result, server = run(script, budget=rlm.Budget(calls=12), prefetch=prefetch)
    check_partial(result, server, "calls")
    assert result.answer == ["leaf"] * 10
    assert result.unfinished.refused_calls == (20 if catch else 1)  # in the place of a turn came the last one


def test_run_is_complete_if_only_prefetches_were_refused() -> None:
    many = "[llm_query(f'item {n}') for n in range(30)]"
    code = f"first = llm_query('first')\nfound = {many} if first != 'leaf' else ['none']"
    ahead = f"try:\n    llm_query('fail')\n    found = {many}\nexcept LLMQueryError:\n    found = 'gave up'"
    for cells, answer in ((code, ["none"]), (ahead, "gave up")):

        def leaf(call: ChatCall) -> Answer:
            return ScriptedReply("leaf", latency_s=0.1, status=400 if call.prompt == "fail" else 200)

        result, _ = run(program(cell(f"{cells}\nFINAL(found)"), leaf=leaf), budget=rlm.Budget(calls=8))
        assert (result.status, result.answer, result.unfinished.refused_calls) == ("complete", answer, 0)


def test_refused_call_counts_before_later_prefetches_end() -> None:
    """The large one is refused at once, and ends the cell, while the small ones behind it are under way."""
    sizes = "[50, 50, 40_000, 50, 50, 50]"
    code = f"found = []\nfor size in {sizes}:\n    found.append(llm_query('word ' * size))"
    script = program(cell(code), "FINAL_VAR(found)", leaf=lambda _: ScriptedReply("leaf", latency_s=0.05))
    result, server = run(script, budget=rlm.Budget(tokens=60_000), prices=DEAR)
    assert (result.status, result.limit) == ("partial", "tokens")
    # What was under way when the cell ended has no bill: it counts with the most that the server can have counted for it.
    counted = sum((call.usage for call in server.calls), rlm.Usage())
    assert counted.input_tokens + counted.output_tokens <= result.used["tokens"].used <= 60_000
    assert result.answer == ["leaf", "leaf"]


def test_requests_are_counted_apart_from_calls() -> None:
    count = iter(range(1_000))
    script = program(
        cell("found = llm_query_batch(['x'] * 12)\nFINAL(len(found))"),
        leaf=lambda _: ScriptedReply("leaf", status=503 if next(count) % 3 == 0 else 200),
    )
    result, server = run(script, budget=rlm.Budget(calls=30))
    total = result.usage.total
    assert (result.answer, total.usage.calls) == (12, 13)
    assert total.requests == len(server.calls) > 13
    assert total.requests == sum(spend.requests for spend in result.usage.by_depth.values())


def test_code_can_catch_that_the_budget_is_met() -> None:
    result, server = run(program(cell(CATCH), cell("FINAL(found)")), budget=rlm.Budget(calls=8))
    check_partial(result, server, "calls")
    assert result.answer == ["leaf"] * 6 + ["caught"]


@pytest.mark.parametrize(("limit", "budget"), [("calls", rlm.Budget(calls=20)), ("usd", rlm.Budget(usd=0.30))])
def test_in_the_middle_of_a_batch(limit: str, budget: rlm.Budget) -> None:
    result, server = run(program(cell(BATCH), "FINAL_VAR(found)"), budget=budget, prices=DEAR)
    check_partial(result, server, limit)
    assert isinstance(result.answer, list)
    assert len(result.answer) == len(server.calls) - 2 > 5
    assert result.unfinished.refused_calls >= 40 - len(result.answer)


def test_three_levels_down_by_calls() -> None:
    """Nodes below keep what their own last turn needs, so they answer with what they have, and so does the root.

    The 21 nodes take two turns each at most, in any order: of 60 calls 18 are left for leaves, which want 64.
    """

    def answer(call: ChatCall) -> Answer:
        if not call.is_root:
            return "leaf"
        if "Answer now" in call.prompt:
            return "FINAL_VAR(found)"
        return cell(BATCH.replace("40", "4")) if call.turn == 1 else cell("FINAL(found)")

    result, server = run(answer, max_depth=3, budget=rlm.Budget(calls=60))
    check_partial(result, server, "calls")
    assert "leaf" in str(result.answer)
    assert result.unfinished.nodes


@pytest.mark.parametrize(
    ("code", "found"),
    [(SPIN, [1, 2, 3]), (WAIT, [1, 2, 3])],
    ids=["endless loop", "a call that hangs"],
)
def test_the_deadline_in_a_cell(code: str, found: list[int]) -> None:
    result, server = run(program(cell(code)), budget=rlm.Budget(seconds=4))
    check_partial(result, server, "seconds")
    assert result.answer == found
    assert result.elapsed_s < 5


def test_deadline_kills_a_stubborn_cell() -> None:
    script = program(cell(STUBBORN), last="FINAL(1, 2, 3 were seen)")
    result, server = run(script, budget=rlm.Budget(seconds=8))
    check_partial(result, server, "seconds")
    assert result.answer == "1, 2, 3 were seen"
    assert "seen [1, 2, 3]" in server.calls[-1].prompt
    assert result.elapsed_s < 9
    assert result.unfinished.cells == ("0:1.1",)


REGEX = "found = [1, 2, 3]\nimport re\nre.match('(a+)+$', 'a' * 40 + 'b')"
DEAF = "import time\nwhile True:\n    try:\n        time.sleep(1)\n    except BaseException:\n        pass"


@pytest.mark.parametrize(
    ("code", "found"), [(STUBBORN, [0]), (REGEX, [1, 2, 3]), (DEAF, [0])], ids=["C code", "regex", "deaf"]
)
def test_short_deadline_leaves_partial_answer(code: str, found: list[int]) -> None:
    result, server = run(program(cell("found = [0]"), cell(code)), budget=rlm.Budget(seconds=3))
    check_partial(result, server, "seconds")
    assert result.answer == found
    assert result.elapsed_s > 0.7 * 3


def test_the_deadline_three_levels_down_with_everything_hanging() -> None:
    def answer(call: ChatCall) -> Answer:
        if "Answer now" in call.prompt:
            return "FINAL_VAR(found)"
        return cell("found = [1]\nllm_query_batch(['hang'] * 2)") if call.is_root else ScriptedReply(hang=True)

    result, server = run(answer, max_depth=3, budget=rlm.Budget(seconds=4))
    check_partial(result, server, "seconds")
    assert result.answer == [1]
    assert result.elapsed_s < 5
    assert len(result.unfinished.nodes) == 2 + 4


def test_deadline_before_any_reply_is_typed_error() -> None:
    began = time.monotonic()
    with (
        ScriptedServer.in_thread(lambda _: ScriptedReply(hang=True)) as server,
        engine(server, budget=rlm.Budget(seconds=1.5)) as shared,
        pytest.raises(rlm.BudgetExceededError, match=r"1\.5 s") as raised,
    ):
        shared.run("q", "c")
    assert time.monotonic() - began < 4
    assert raised.value.result is not None
    assert raised.value.result.elapsed_s < 2.5
    assert raised.value.result.limit == "seconds"


def test_finish_gives_partial_answer_and_cancel_none() -> None:
    with ScriptedServer.in_thread(program(cell(WAIT))) as server, engine(server) as shared:
        for act in ("finish", "cancel"):
            calls = len(server.calls)
            handle = shared.start("q", "c")
            wait_until(lambda enough=calls + 2: len(server.calls) >= enough)  # type: ignore[misc]
            began = time.monotonic()
            threading.Thread(target=getattr(handle, act)).start()
            if act == "finish":
                result = handle.result(10)
                assert (result.answer, result.status, result.limit) == ([1, 2, 3], "partial", "stopped")
                assert result.unfinished.cancelled_calls == 1
            else:
                with pytest.raises(rlm.RunCancelledError) as raised:
                    handle.result(10)
                assert raised.value.result is not None
                assert raised.value.result.status == "cancelled"
            assert time.monotonic() - began < 3
        wait_until(lambda: server.in_flight == 0)  # no connection is left


def test_budget_below_turn_and_answer_spends_nothing() -> None:
    with (
        ScriptedServer.in_thread("FINAL(1)") as server,
        engine(server, budget=rlm.Budget(usd=0.001)) as shared,
        pytest.raises(rlm.BudgetExceededError, match=r"at least Budget\(usd=0\.0\d+\)") as raised,
    ):
        shared.run("q", "c")
    assert raised.value.limit == "usd"
    assert server.calls == []


def test_dollars_need_prices() -> None:
    with ScriptedServer.in_thread("FINAL(1)") as server:
        options: dict[str, object] = {"budget": rlm.Budget(usd=1), "api_key": "x", "base_url": server.base_url}
        with pytest.raises(rlm.ConfigurationError, match="no price is known for openai:own"):
            rlm.RLM("own", **options).run("q", "c")  # type: ignore[arg-type]
        result = rlm.RLM("own", prices={"own": (1, 2)}, **options).run("q", "c")  # type: ignore[arg-type]
    assert (result.status, result.answer) == ("complete", "1")
    assert result.used["usd"].used == pytest.approx(result.cost_usd)


def test_oversized_prompt_is_refused_with_both_sizes() -> None:
    code = "try:\n    llm_query('word ' * 400_000)\nexcept LLMQueryError as error:\n    FINAL(str(error))"
    result, server = run(program(cell(code)))
    assert "2,000,000 characters" in str(result.answer)
    assert "128,000 tokens" in str(result.answer)
    assert len(server.calls) == 1


def test_budget_function_and_notice_show_remainder() -> None:
    code = "first = budget()\nllm_query_batch(['x'] * 12)\nprint(first, budget())"
    result, server = run(program(cell(code), cell("FINAL(first)")), budget=rlm.Budget(calls=16), max_iterations=9)
    assert result.answer == {"usd": None, "tokens": None, "calls": 14, "seconds": None, "iterations": 8}
    assert "[Budget low: 2 of 16 calls left (see budget()). Finish soon.]" in server.calls[-1].prompt


def test_a_variable_named_budget_belongs_to_the_code() -> None:
    result, _ = run(program(cell("budget = {'rent': 900}"), cell("FINAL(budget)")))
    assert result.answer == {"rent": 900}


def test_failures_are_counted_as_they_are_billed() -> None:
    """Turned away: nothing. Empty and cut replies: what was reported. All of it agrees with the server's own count."""
    seen: dict[str, int] = {}

    def leaf(call: ChatCall) -> Answer:
        seen[call.prompt] = seen.get(call.prompt, 0) + 1
        match call.prompt:
            case "busy" if seen["busy"] < 3:
                return ScriptedReply(status=429, headers={"Retry-After": "0"})
            case "empty" if seen["empty"] < 2:
                return ScriptedReply("")
            case "cut":
                return ScriptedReply("half a", finish_reason="length")
        return "ok"

    code = "found = [str(r) for r in llm_query_batch(['busy', 'empty', 'cut', 'ok'])]\nFINAL(found)"
    result, server = run(program(cell(code), leaf=leaf), budget=rlm.Budget(usd=1))
    assert isinstance(result.answer, list)
    assert [text[:14] for text in result.answer] == ["ok", "ok", "[call failed: ", "ok"]
    counted = sum((call.usage for call in server.calls), rlm.Usage())
    assert result.usage.total.usage == counted
    assert counted.calls == 1 + 5  # the root's turn; busy once, empty twice, cut, ok
    assert result.used["calls"].used == 6
    assert result.used["usd"].used == pytest.approx(result.cost_usd)
    assert result.used["usd"].assumed == 0


def wait_until(true: Callable[[], bool], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)
