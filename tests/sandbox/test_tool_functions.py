"""Tools in a real REPL: signatures, help, results, failures and forged frames."""

from __future__ import annotations

import asyncio
import json

import pytest
from repl_kit import open_bench

from rlm.core.cells import Cell, CellResult
from rlm.core.errors import ProtocolViolationError
from rlm.core.repl_spec import ReplLimits
from rlm.core.subcalls import Subcall, SubcallAnswer, SubcallFailure, SubcallOutcome, ToolCall
from rlm.core.tools import ToolParameter, ToolSpec
from rlm.sandbox.protocol import Session
from rlm.sandbox.worker.wire.frames import pack
from rlm.sandbox.worker.wire.values import dump

FIND = ToolSpec(
    "find",
    (ToolParameter("query", annotation="str"), ToolParameter("limit", "keyword", "int", "<unset at 0x1>")),
    "list[str]",
    "Finds things.\n\nMore about finding.",
)


async def execute(*codes: str, outcome: SubcallOutcome | None = None) -> tuple[CellResult, list[ToolCall]]:
    """Runs cells with the tool ``find``. Returns the last result and the calls."""
    calls: list[ToolCall] = []

    async def serve(subcall: Subcall) -> SubcallOutcome:
        assert isinstance(subcall, ToolCall)
        calls.append(subcall)
        await asyncio.sleep(0.01)
        return outcome or SubcallAnswer([subcall.args, dict(subcall.kwargs)])

    async with open_bench(tools=(FIND,)) as bench:
        results = [await bench.repl.execute(Cell(1, number, code), serve) for number, code in enumerate(codes, 1)]
    return results[-1], calls


async def test_tool_returns_plain_value() -> None:
    result, calls = await execute("print(find('a', limit=2))")
    assert (result.end, result.stdout) == ("ok", "[('a',), {'limit': 2}]\n")
    assert calls == [ToolCall(1, "find", ("a",), {"limit": 2})]


async def test_help_shows_signature_and_docstring() -> None:
    result, _ = await execute("help(find)\nimport inspect\nprint(find.__name__, inspect.signature(find))")
    assert "find(query: str, *, limit: int = <unset at 0x1>) -> list[str]" in result.stdout
    assert "More about finding." in result.stdout


async def test_parallel_forms_reach_the_host() -> None:
    code = (
        "import asyncio, threading\n"
        "found = await asyncio.gather(*(find_async(str(n)) for n in range(5)))\n"
        "threads = [threading.Thread(target=lambda n=n: found.append(find(f't{n}'))) for n in range(3)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "print(len(found))"
    )
    result, calls = await execute(code)
    assert (result.stdout, len(calls)) == ("8\n", 8)


async def test_failure_is_tool_error_with_type() -> None:
    code = (
        "try: find('x')\n"
        "except ToolError as error: print(error.type, error, isinstance(error, RuntimeError))\n"
        "try: await find_async('x')\n"
        "except ToolError as error: print(error.type)"
    )
    failure = SubcallFailure("ToolError.KeyError", "find: KeyError: 'x'")
    result, _ = await execute(code, outcome=failure)
    assert result.stdout == "KeyError find: KeyError: 'x' True\nKeyError\n"


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("find()", "TypeError: missing a required argument: 'query'"),
        ("find('a', 'b')", "TypeError: too many positional arguments"),
        ("find('a', other=1)", "TypeError: got an unexpected keyword argument 'other'"),
        ("find(object())", "TypeError: find() takes plain data only"),
        ("find([lambda: 1])", "TypeError: find() takes plain data only"),
        ("find('x' * 9_000_000)", "ValueError: the arguments of find() must be at most 8 MB"),
        ("a = []\na.append(a)\nfind(a)", "TypeError: find() takes plain data only"),
    ],
)
async def test_unusable_arguments_fail_before_they_are_sent(call: str, error: str) -> None:
    result, calls = await execute(call)
    assert result.error is not None
    assert result.error.startswith(error)
    assert calls == []


async def test_overwritten_tool_is_restored() -> None:
    result, calls = await execute("find = 1\nToolError = 2", "print(find('a')); print(ToolError.__name__)")
    assert result.end == "ok"
    assert "Restored find, ToolError" in result.notes[0]
    assert len(calls) == 1


async def test_tools_are_no_variables() -> None:
    result, _ = await execute("value = 1")
    assert [variable.name for variable in result.variables] == ["value"]


def running_session() -> Session:
    session = Session(ReplLimits(open_calls=4))
    list(session.open("context", True, tools=(FIND,)))
    session.receive(pack({"t": "ready"}))
    list(session.start(Cell(1, 1, "code")))
    return session


@pytest.mark.parametrize(
    ("changed", "given"),
    [
        ({"tool": 1}, {"args": [], "kwargs": {}}),
        ({"tool": "x" * 201}, {"args": [], "kwargs": {}}),
        ({"ahead": True}, {"args": [], "kwargs": {}}),
        ({"batch": 1}, {"args": [], "kwargs": {}}),
        ({}, {"args": {}, "kwargs": {}}),
        ({}, {"args": [], "kwargs": []}),
        ({}, {"args": []}),
        ({}, {"args": [], "kwargs": {1: 2}}),
        ({}, {"args": [], "kwargs": {}, "more": 1}),
        ({}, []),
    ],
)
def test_forged_tool_call_is_protocol_violation(changed: dict[str, object], given: object) -> None:
    kind, payload = dump(given)
    frame = pack({"t": "call", "kind": "tool", "first": 1, "tool": "find", "as": kind, **changed}, payload)
    with pytest.raises(ProtocolViolationError):
        running_session().receive(frame)


def test_arguments_beyond_the_limit_are_protocol_violation() -> None:
    payload = json.dumps({"args": ["x" * 9_000_000], "kwargs": {}}).encode()
    frame = pack({"t": "call", "kind": "tool", "first": 1, "tool": "find", "as": "p"}, payload)
    with pytest.raises(ProtocolViolationError, match="too large"):
        running_session().receive(frame)
