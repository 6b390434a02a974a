"""Failures that a run survives: failed sub-calls, empty replies, prompts that are too long, sinks of any form."""

from __future__ import annotations

from programs import Answer, cell

import rlm
from rlm.testing.server import ChatCall, ScriptedReply, ScriptedServer


def engine(server: ScriptedServer, **options: object) -> rlm.RLM:
    chosen = {"retries": 0, **options}
    return rlm.RLM("gpt-4o", base_url=server.base_url, api_key="not-a-key", **chosen)  # type: ignore[arg-type]


def test_observation_counts_failures_that_code_ignored() -> None:
    seen: list[str] = []

    def answer(call: ChatCall) -> Answer:
        if call.is_root:
            seen.append(call.messages[-1].text)
            return cell("r = llm_query_batch([f'item {i}' for i in range(10)])") if call.turn == 1 else "FINAL(done)"
        return ScriptedReply("broken", status=500) if "item 3" in call.prompt or "item 7" in call.prompt else "fine"

    with ScriptedServer.in_thread(answer) as server:
        engine(server).run("q", "c")
    assert "[2 of 10 sub-calls failed: ProviderUnavailableError" in seen[1]


def test_empty_reply_does_not_end_the_run() -> None:
    def answer(call: ChatCall) -> Answer:
        return ScriptedReply("") if call.turn == 1 else "FINAL(recovered)"

    with ScriptedServer.in_thread(answer) as server:
        assert engine(server).run("q", "c").answer == "recovered"


def test_learnt_window_holds_for_the_run() -> None:
    sizes: list[int] = []

    def answer(call: ChatCall) -> Answer:
        sizes.append(sum(len(message.text) for message in call.messages))
        if sizes[-1] > 40_000:
            text = "This model's maximum context length is exceeded"
            return ScriptedReply(text, status=400, error_code="context_length_exceeded")
        return cell("print('x' * 6_000)") if len(sizes) < 14 else "FINAL(done)"

    with ScriptedServer.in_thread(answer) as server:
        result = engine(server, max_iterations=30).run("q", "c")
    assert result.answer == "done"
    assert sum(size > 40_000 for size in sizes) == 1


def test_sinks_can_be_plain_functions() -> None:
    names: list[str] = []
    with ScriptedServer.in_thread(lambda _: "FINAL(1)") as server:
        engine(server, sinks=[lambda event: names.append(type(event).__name__)]).run("q", "c")
    assert names[0] == "RunStarted"
    assert names[-1] == "RunFinished"
