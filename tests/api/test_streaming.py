"""Streamed replies of nodes: cells start early, inventions never count, the accounting is exact. Real sockets and workers."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from programs import Answer, cell, script

import rlm
from rlm.core import errors
from rlm.core.events import AnyEvent, CallBilled, CallReplied, CallStarted, CellStarted
from rlm.testing.prefix import AppendOnly
from rlm.testing.server import ChatCall, ScriptedReply, ScriptedServer, StreamShape

INVENTION = "\nOutput:\n42\n\nSo the answer is 42.\nFINAL(42)" + "\nand so on" * 30
ASKING = "```repl\nx = llm_query('what is x?')\nprint(x)\n```"


class Events:
    def __init__(self) -> None:
        self.seen: list[AnyEvent] = []

    def emit(self, event: AnyEvent) -> None:
        self.seen.append(event)

    def of(self, kind: type[AnyEvent]) -> Sequence[AnyEvent]:
        return [event for event in self.seen if isinstance(event, kind)]


def slowly(text: str, seconds: float = 1.0, **shape: object) -> ScriptedReply:
    """Streamed line by line: the lines up to an invention at once, as one event."""
    known, _, rest = text.partition("\n42")
    pieces = [known, *(f"\n{line}" for line in ("42" + rest).split("\n"))] if rest else [text]
    delay_s = seconds / len(pieces)
    return ScriptedReply(text, stream=StreamShape(pieces=pieces, delay_s=delay_s, **shape))  # type: ignore[arg-type]


def play(
    turns: Sequence[Answer], leaf: Callable[[ChatCall], Answer] | Answer = "seven", **options: object
) -> tuple[rlm.Result, ScriptedServer, Events]:
    events = Events()
    with (
        ScriptedServer.in_thread(script(turns, leaf)) as server,
        rlm.RLM("gpt-4o", api_key="x", base_url=server.base_url, sinks=(events,), **options) as engine,  # type: ignore[arg-type]
    ):
        result = engine.run("q", "context")
        time.sleep(0.05)  # the server's own end of the last stream
    conversations = AppendOnly()
    for call in server.calls:
        if call.is_root:
            conversations.check("root", call.messages)
    return result, server, events


def check_books(result: rlm.Result, server: ScriptedServer) -> None:
    """Totals, by model and by depth, are what the server counted."""
    counted = sum((call.usage for call in server.calls), rlm.Usage())
    assert result.usage.total.usage == counted
    assert result.usage.by_depth[0].usage == sum((c.usage for c in server.calls if c.is_root), rlm.Usage())
    assert result.tree is not None
    assert sum((call.usage for node in result.tree.walk() for call in node.calls), rlm.Usage()) == counted


def test_cell_starts_during_reply_and_invention_is_cut() -> None:
    result, server, events = play([slowly(ASKING + INVENTION), cell("FINAL(x)")])
    root, leaf, second = server.calls
    assert result.answer == "seven"
    assert root.ended_s is not None
    assert leaf.started_s < root.ended_s - 0.5, "the cell asked while its reply was still being streamed"
    assert second.messages[-2].text == ASKING, "what is in the history is what the model wrote, cut"
    assert "seven" in second.messages[-1].text
    assert "42" not in "".join(message.text for message in second.messages)
    check_books(result, server)
    replied = [event for event in events.of(CallReplied) if isinstance(event, CallReplied) and "@" in event.call]
    assert [event.billed for event in replied] == [False, True]
    kinds = [type(event) for event in events.seen]
    assert kinds.index(CallReplied) < kinds.index(CellStarted) < kinds.index(CallBilled)


@pytest.mark.parametrize("streams", [True, False])
def test_streamed_and_whole_replies_give_same_turn(streams: bool) -> None:
    reply = slowly(ASKING + INVENTION, 0.0) if streams else ScriptedReply(ASKING + INVENTION, stream=None)
    result, server, _ = play([reply, cell("FINAL(x)")])
    assert result.answer == "seven"
    assert server.calls[-1].messages[-2].text == ASKING
    check_books(result, server)


def test_consecutive_cells_and_answer_are_one_turn() -> None:
    text = "First:\n```repl\na = 1\n```\nThen:\n```repl\na += 1\n```\nFINAL_VAR(a)"
    result, server, _ = play([ScriptedReply(text, stream=StreamShape(pieces=list(text)))])
    assert (result.answer, len(server.calls)) == (2, 1)
    check_books(result, server)


def test_first_cell_rule_ends_the_turn() -> None:
    text = "```repl\na = 1\n```\n```repl\na += 1\n```\nFINAL_VAR(a)"
    result, server, _ = play(
        [ScriptedReply(text, stream=StreamShape(pieces=list(text))), cell("FINAL(a)")], cut_replies="first_cell"
    )
    assert (result.answer, len(server.calls)) == (1, 2)
    assert server.calls[1].messages[-2].text == "```repl\na = 1\n```"
    check_books(result, server)


def test_never_rule_takes_whole_replies() -> None:
    result, server, _ = play([slowly(ASKING + INVENTION)], cut_replies="never")
    assert result.answer == "42"
    assert "stream" not in server.calls[0].body
    with pytest.raises(errors.ConfigurationError, match="first_cell"):
        rlm.RLM("gpt-4o", api_key="x", cut_replies="sometimes")  # type: ignore[arg-type]


def test_leaf_calls_are_not_streamed() -> None:
    _, server, _ = play([ASKING, cell("FINAL(x)")])
    assert ["stream" in call.body for call in server.calls] == [True, False, True]


@pytest.mark.parametrize(
    "shape", [{"break_after": 1}, {"garbage_after": 1}, {"reason": False, "done": False, "usage": False}]
)
def test_broken_stream_is_retried_and_half_dropped(
    shape: dict[str, object],
) -> None:
    attempts: list[int] = []
    broken = slowly("```repl\nFINAL('half')\n```", 0.0, **shape)

    def answer(_: ChatCall) -> Answer:
        attempts.append(1)
        return broken if len(attempts) == 1 else cell("FINAL('whole')")

    with (
        ScriptedServer.in_thread(answer) as server,
        rlm.RLM("gpt-4o", api_key="x", base_url=server.base_url) as engine,
    ):
        assert engine.run("q", "c").answer == "whole"
        assert len(server.calls) == 2


def test_repeatedly_broken_stream_is_a_typed_error() -> None:
    with pytest.raises(errors.ProviderUnreachableError):
        play([slowly("```repl\nFINAL('half')\n```", 0.0, break_after=1)], retries=0)


BUDGET = rlm.Budget(tokens=100_000)


def test_stream_broken_after_cut_costs_its_bound() -> None:
    reply = slowly(ASKING + INVENTION, 0.5, break_after=12)
    result, server, events = play([reply, cell("FINAL(x)")], budget=BUDGET)
    assert result.answer == "seven"
    assert len(server.calls) == 3, "the turn was taken already, and is not asked for again"
    bill = events.of(CallBilled)[0]
    assert isinstance(bill, CallBilled)
    assert bill.assumed_tokens > server.calls[0].usage.total_tokens
    assert result.used["tokens"].used >= sum(call.usage.total_tokens for call in server.calls)
    assert result.used["tokens"].assumed == bill.assumed_tokens


def test_finished_run_waits_for_stream_usage() -> None:
    result, server, _ = play([slowly("```repl\nFINAL('early')\n```" + INVENTION, 0.6)], budget=BUDGET)
    assert result.answer == "early"
    assert server.calls[0].ended_s is not None
    check_books(result, server)
    assert result.used["tokens"].used == server.calls[0].usage.total_tokens
    assert result.used["tokens"].assumed == 0


def test_cancelled_run_closes_its_streams() -> None:
    def hang(_: ChatCall) -> Answer:
        return ScriptedReply(hang=True)

    events = Events()
    with (
        ScriptedServer.in_thread(script([slowly(ASKING + INVENTION, 30.0)], hang)) as server,
        rlm.RLM("gpt-4o", api_key="x", base_url=server.base_url, sinks=(events,), budget=BUDGET) as engine,
    ):
        handle = engine.start("q", "c")
        while len(server.calls) < 2:
            time.sleep(0.01)
        handle.cancel()
        began = time.monotonic()
        with pytest.raises(errors.RunCancelledError) as caught:
            handle.result(20)
        assert time.monotonic() - began < 4
    result = caught.value.result
    assert result is not None
    assert result.used["tokens"].assumed > 0
    assert isinstance(events.seen[-2], CallBilled)


KILLED = """
import os, signal, sys, rlm
from rlm.core.events import CellStarted

class Killer:
    def emit(self, event):
        if isinstance(event, CellStarted):
            os.kill(os.getpid(), signal.SIGKILL)

rlm.RLM("gpt-4o", api_key="x", base_url=sys.argv[1], store=sys.argv[2], sinks=(Killer(),)).run("q", "context")
"""


def test_resumed_run_assumes_unreported_usage(tmp_path: Path) -> None:
    events = Events()
    with ScriptedServer.in_thread(script([slowly(ASKING + INVENTION, 0.6), cell("FINAL(x)")], "seven")) as server:
        place = tmp_path / "runs.db"
        killed = subprocess.run([sys.executable, "-c", KILLED, server.base_url, str(place)], check=False)
        assert killed.returncode == -signal.SIGKILL
        options = {"api_key": "x", "base_url": server.base_url, "store": place, "sinks": (events,), "budget": BUDGET}
        with rlm.RLM("gpt-4o", **options) as engine:  # type: ignore[arg-type]
            result = engine.resume("last")
    assert result.answer == "seven"
    turns = [event.turn for event in events.of(CallStarted) if isinstance(event, CallStarted) and event.role == "node"]
    assert turns == [1, 2]
    assert [call.turn for call in server.calls if call.is_root] == [1, 2], (
        "a turn that was taken is not asked for again"
    )
    assert result.used["tokens"].used >= sum(call.usage.total_tokens for call in server.calls)
    assert (result.used["calls"].used, result.usage.total.usage.calls) == (3, 3)
    assert result.usage.total.assumed_tokens > server.calls[0].usage.total_tokens
