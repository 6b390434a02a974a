"""Tools in runs that are resumed, replayed, interrupted and diverge."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tool_kit import cell, outputs

import rlm
from rlm.core.messages import Request
from rlm.events import ToolStarted
from rlm.testing.scripted import ScriptedModel

CATCH = "\nexcept ToolError as error: print(error.type, error)"


class Failing(rlm.ModelError):
    """Ends a run, which can then be resumed."""

    ends_run = True


def script(codes: list[str], *, broken: bool) -> Callable[[Request], Any]:
    """A root that executes ``codes`` and answers; if it is ``broken``, the provider fails in place of the answer."""

    def reply(request: Request) -> Any:
        turn = sum(message.role == "assistant" for message in request.messages)
        if turn < len(codes):
            return cell(codes[turn])
        return Failing("the provider is gone") if broken else "FINAL(done)"

    return reply


def engine(store: Path, codes: list[str], tools: Any, *, broken: bool = False, **options: Any) -> rlm.RLM:
    model = ScriptedModel(script(codes, broken=broken))
    return rlm.RLM(model, tools=tools, store=store, sandbox="unconfined", **options)


def break_off(store: Path, codes: list[str], tools: Any, **options: Any) -> None:
    with engine(store, codes, tools, broken=True, **options) as broken, pytest.raises(Failing):
        broken.run("question", "context")


class Counting:
    """Tools that count their executions."""

    def __init__(self) -> None:
        self.count = 0
        self.release = threading.Event()
        self.began = threading.Event()

    def act(self, value: int = 1) -> int:
        """Acts."""
        self.count += 1
        return value

    def fail(self) -> None:
        """Acts and fails."""
        self.count += 1
        raise ValueError("failed")

    def hang(self) -> int:
        """Acts and does not end."""
        self.count += 1
        self.began.set()
        self.release.wait(20)
        return self.count


def test_resume_executes_no_finished_call_again(tmp_path: Path) -> None:
    tools = Counting()
    codes = ["print(act(5))\ntry: fail()" + CATCH]
    store = tmp_path / "runs.db"
    break_off(store, codes, [tools.act, tools.fail])
    assert tools.count == 2
    with engine(store, codes, [tools.act, tools.fail]) as again:
        result = again.resume("last")
    assert tools.count == 2
    assert outputs(result)[0].stdout == "5\nValueError fail: ValueError: failed\n"
    assert result.usage.tool_calls == 2
    assert result.unfinished.tools == ()


def test_replay_needs_no_tool(tmp_path: Path) -> None:
    tools = Counting()
    codes = ["help(act)\nprint(act(5))\ntry: fail()" + CATCH]
    store = tmp_path / "runs.db"
    with engine(store, codes, [tools.act, tools.fail]) as first:
        first.run("question", "context")
    with engine(store, codes, ()) as second:  # it compares each output with the record
        assert second.replay("last").answer == "done"
    assert tools.count == 2


def test_resume_without_the_tools_names_them(tmp_path: Path) -> None:
    tools = Counting()
    store = tmp_path / "runs.db"
    break_off(store, ["act()"], [tools.act])
    with (
        engine(store, ["act()"], ()) as again,
        pytest.raises(rlm.ConfigurationError, match="has the tools act, which were not"),
    ):
        again.resume("last")
    with engine(store, ["act()"], [tools.act]) as again:  # nothing was written by the refused attempt
        assert again.resume("last").status == "complete"


def test_resumed_run_keeps_the_recorded_descriptions(tmp_path: Path) -> None:
    def act(value: int = 1, more: str = "") -> int:
        """Another docstring."""
        return value

    tools = Counting()
    store = tmp_path / "runs.db"
    break_off(store, ["print(act())"], [tools.act])
    with engine(store, ["print(act())", "print(act.__doc__)"], [act]) as again:
        assert outputs(again.resume("last"))[1].stdout == "Acts.\n"


@pytest.mark.parametrize("idempotent", [False, True])
def test_call_interrupted_by_cancellation(tmp_path: Path, idempotent: bool) -> None:
    tools = Counting()
    tool = rlm.tool(tools.hang, idempotent=idempotent)
    codes = ["try: print(hang())" + CATCH]
    store = tmp_path / "runs.db"
    with engine(store, codes, [tool]) as first:
        handle = first.start("question", "context")
        assert tools.began.wait(20)
        handle.cancel()
        with pytest.raises(rlm.RunCancelledError) as caught:
            handle.result()
    tools.release.set()
    assert caught.value.result is not None
    assert caught.value.result.unfinished.tools == ("hang()",)
    for _ in range(2):  # and the same when it is resumed again
        with engine(store, codes, [tool]) as again:
            result = again.resume("last")
        shown = outputs(result)[0].stdout
        if idempotent:
            assert (tools.count, shown, result.unfinished.tools) == (2, "2\n", ())
        else:
            assert shown.startswith("Interrupted hang: an earlier execution of this call was interrupted")
            assert (tools.count, result.unfinished.tools) == (1, ("hang()",))


def test_idempotent_flag_counts_in_both_processes(tmp_path: Path) -> None:
    tools = Counting()
    codes = ["try: print(hang())" + CATCH]
    store = tmp_path / "runs.db"
    with engine(store, codes, [rlm.tool(tools.hang, idempotent=True)]) as first:
        handle = first.start("question", "context")
        assert tools.began.wait(20)
        handle.cancel()
        with pytest.raises(rlm.RunCancelledError):
            handle.result()
    tools.release.set()
    with engine(store, codes, [tools.hang]) as again:
        assert outputs(again.resume("last"))[0].stdout.startswith("Interrupted")
    assert tools.count == 1


def test_call_that_its_cell_abandoned_is_not_repeated(tmp_path: Path) -> None:
    tools = Counting()
    code = (
        "import asyncio\n"
        "try: await asyncio.wait_for(hang_async(), 0.2)\n"
        "except TimeoutError: print('gave up')\n"
        "print(act(3))"
    )
    store = tmp_path / "runs.db"
    given = [tools.hang, tools.act]
    break_off(store, [code], given)
    tools.release.set()
    with engine(store, [code], given) as again:
        result = again.resume("last")
    assert outputs(result)[0].stdout == "gave up\n3\n"
    assert tools.count == 2


def test_divergence_stops_before_a_new_call(tmp_path: Path) -> None:
    tools = Counting()
    path = tmp_path / "state"
    path.write_text("1")
    code = f"print(act(int(open({str(path)!r}).read())))"
    store = tmp_path / "runs.db"
    break_off(store, [code], [tools.act])
    path.write_text("2")
    with engine(store, [code], [tools.act]) as again, pytest.raises(rlm.DivergenceError, match=r"act\(2\)"):
        again.resume("last")
    assert tools.count == 1
    with engine(store, [code], [tools.act]) as again:
        assert outputs(again.resume("last", on_divergence="pay"))[0].stdout == "2\n"
    assert tools.count == 2


def test_lost_repl_is_rebuilt_without_its_tools(tmp_path: Path) -> None:
    tools = Counting()
    codes = ["value = act(7)", "import os\nos._exit(1)", "print(value, act(8))"]
    with engine(tmp_path / "runs.db", codes, [tools.act]) as first:
        result = first.run("question", "context")
    assert outputs(result)[2].stdout == "7 8\n"
    assert tools.count == 2


def test_raised_budget_continues_refused_tool_calls(tmp_path: Path) -> None:
    tools = Counting()
    code = (
        "for n in range(4):\n    try: print(act(n))\n    except BudgetExceeded as error: print('refused')\nFINAL('end')"
    )
    store = tmp_path / "runs.db"
    with engine(store, [code], [tools.act], budget=rlm.Budget(tool_calls=2)) as first:
        assert first.run("question", "context").limit == "tool_calls"
    with engine(store, [code], [tools.act]) as again:
        result = again.resume("last", budget=rlm.Budget(tool_calls=10))
    assert outputs(result)[0].stdout == "0\n1\n2\n3\n"
    assert (tools.count, result.used["tool_calls"].used) == (4, 4)


def test_limit_of_calls_holds_across_processes(tmp_path: Path) -> None:
    tools = Counting()
    tool = rlm.tool(tools.act, max_calls=3)
    store = tmp_path / "runs.db"
    break_off(store, ["act(); act()"], [tool])
    codes = ["act(); act()", "try:\n    act()\n    act()" + CATCH]
    with engine(store, codes, [tool]) as again:
        assert outputs(again.resume("last"))[1].stdout.startswith("LimitReached")
    assert tools.count == 3


def test_intent_is_durable_before_the_tool_acts(tmp_path: Path) -> None:
    store = tmp_path / "runs.db"
    seen: list[list[str]] = []

    def look() -> None:
        opened = rlm.open_store(store)
        seen.append([type(event).__name__ for event in opened.events("last")])

    with engine(store, ["look()", "1"], [look]) as first:
        first.run("question", "context")
    assert seen[0][-1] == "ToolStarted"


def test_stop_at_a_deadline_interrupts_tools(tmp_path: Path) -> None:
    tools = Counting()
    codes = ["try: hang()\nexcept BudgetExceeded as error: print('stopped')"]
    with engine(tmp_path / "runs.db", codes, [tools.hang], budget=rlm.Budget(seconds=3)) as first:
        began = time.monotonic()
        result = first.run("question", "context")
    tools.release.set()
    assert time.monotonic() - began < 10
    assert (result.status, result.limit, result.unfinished.tools) == ("partial", "seconds", ("hang()",))


def test_results_keep_their_types_across_a_resume(tmp_path: Path) -> None:
    def give() -> Any:
        """Gives values of many types."""
        return {"set": {1}, 2: (b"x", None), "text": "é\ud800" + "x" * 5000, "big": 10**40}

    codes = ["value = give()\nprint(sorted(map(repr, value.items())))"]
    store = tmp_path / "runs.db"
    break_off(store, codes, [give])
    with engine(store, codes, [give]) as again:
        shown = outputs(again.resume("last"))[0].stdout
    assert "(2, (b'x', None))" in shown
    assert "{1}" in shown
    kinds = [type(event).__name__ for event in rlm.open_store(store).events("last")]
    assert [kind for kind in kinds if kind.startswith("Tool")] == ["ToolStarted", "ToolEnded"]


def test_large_arguments_are_found_again(tmp_path: Path) -> None:
    tools = Counting()

    def measure(values: list[str]) -> int:
        """Measures its argument."""
        tools.count += 1
        return sum(map(len, values))

    codes = ["print(measure(['x' * 100 for _ in range(50_000)]))"]
    store = tmp_path / "runs.db"
    break_off(store, codes, [measure])
    with engine(store, codes, [measure]) as again:
        assert outputs(again.resume("last"))[0].stdout == "5000000\n"
    assert tools.count == 1
    (started,) = [event for event in rlm.open_store(store).events("last") if isinstance(event, ToolStarted)]
    assert isinstance(started.args, tuple)
    assert len(started.args[0]) < 3000
