"""Batches with a shared prefix, over real sockets: the hits in the prefix cache, and the waiting time."""

from __future__ import annotations

import time

import pytest
from programs import Answer, cell, script

import rlm
from rlm.testing.server import ChatCall, ScriptedReply, ScriptedServer, StreamShape

RULES = "Rules of labelling: " + "a line of the rules. " * 400
BATCH = "out = llm_query_batch([context + f'Item {i}' for i in range(20)])\n"
FIRST_WORD_S, REST_S = 0.15, 0.6


def label(_: ChatCall) -> Answer:
    pieces = ["la", "bel"] + [" and"] * 8
    return ScriptedReply(
        "".join(pieces), latency_s=FIRST_WORD_S, stream=StreamShape(pieces=pieces, delay_s=REST_S / len(pieces))
    )


def play(
    code: str, rule: str, model: str = "gpt-4o-mini", *, prefetch: bool = True
) -> tuple[list[ChatCall], rlm.Result, float]:
    with ScriptedServer.in_thread(script([cell(code + "FINAL(out)")], label)) as server:
        address = server.url if model.startswith("anthropic") else server.base_url
        with rlm.RLM(model, api_key="x", base_url=address, warm_prefixes=rule, prefetch=prefetch) as engine:  # type: ignore[arg-type]
            result = engine.run("q", RULES)
        assert not server.script_errors
        calls = [call for call in server.calls if not call.is_root]
        cell_s = result.tree.cells[0][1].elapsed_s if result.tree else 0.0
        return calls, result, cell_s


def test_one_call_warms_and_nineteen_read() -> None:
    calls, result, cell_s = play(BATCH, "always")
    assert len(calls) == 20
    assert [call.usage.cached_tokens > 1500 for call in calls] == [False] + [True] * 19
    assert all("stream" not in call.body for call in calls[1:])
    released = min(call.started_s for call in calls[1:])
    assert calls[0].started_s + FIRST_WORD_S <= released
    assert calls[0].ended_s is not None
    assert released < calls[0].ended_s, "its first token is enough"
    assert cell_s < FIRST_WORD_S + REST_S + FIRST_WORD_S + 1.0  # plain fan-out, one first token, and a busy machine
    assert result.usage.by_depth[1].usage.cached_tokens == sum(call.usage.cached_tokens for call in calls)


def test_without_it_all_pay() -> None:
    calls, _, _ = play(BATCH, "never")
    assert [call.usage.cached_tokens for call in calls] == [0] * 20


def test_reported_cached_tokens_enable_prefix_warmup() -> None:
    calls, _, _ = play(BATCH * 3, "auto", prefetch=False)  # else all three leave before anything is known
    assert ["stream" in call.body for call in calls[:20]] == [False] * 20
    third = calls[40:]
    assert ["stream" in call.body for call in third] == [True] + [False] * 19
    assert third[0].started_s + FIRST_WORD_S <= min(call.started_s for call in third[1:])


def test_anthropics_marks_stand_where_the_shared_part_ends() -> None:
    calls, _, _ = play(BATCH, "auto", "anthropic:claude-sonnet-4-5")
    for call in calls:
        shared, rest = call.body["messages"][-1]["content"]
        assert shared["cache_control"] == {"type": "ephemeral"}
        assert shared["text"].startswith(RULES)
        assert shared["text"] + rest["text"] == call.prompt
        assert "cache_control" not in rest
    assert calls[0].usage.cache_write_tokens > 1500
    assert all(call.usage.cached_tokens > 1500 and not call.usage.cache_write_tokens for call in calls[1:])


def test_failed_warmup_call_leaves_others_unaffected() -> None:
    def fail_first(call: ChatCall) -> Answer:
        return ScriptedReply("no", status=400) if call.prompt.endswith("Item 0") else "ok"

    with (
        ScriptedServer.in_thread(script([cell(BATCH + "FINAL([str(r)[:5] for r in out])")], fail_first)) as server,
        rlm.RLM("gpt-4o", api_key="x", base_url=server.base_url, warm_prefixes="always") as engine,
    ):
        began = time.monotonic()
        result = engine.run("q", RULES)
        assert time.monotonic() - began < 4
    assert result.answer == ["[call"] + ["ok"] * 19


def test_the_rule_is_one_of_three() -> None:
    with pytest.raises(rlm.ConfigurationError, match="always"):
        rlm.RLM("gpt-4o", api_key="x", warm_prefixes="sometimes")  # type: ignore[arg-type]
