"""Conformance of the tagged sub-calls: worker, host and engine agree on every kind."""

from __future__ import annotations

import typing

import pytest
from repl_kit import open_bench

from rlm.core.cells import Cell
from rlm.core.errors import ProtocolViolationError
from rlm.core.repl_spec import ReplLimits
from rlm.core.subcalls import BudgetQuery, ModelQuery, Subcall, SubcallAnswer, SubcallOutcome, ToolCall
from rlm.core.tools import ToolParameter, ToolSpec
from rlm.sandbox.messages import Called
from rlm.sandbox.protocol import Session
from rlm.sandbox.worker.calls.open_calls import Calls, Group, Job, SubcallKind, encode_prompt
from rlm.sandbox.worker.calls.options import make_options
from rlm.sandbox.worker.calls.tools import ToolFeed
from rlm.sandbox.worker.sigint_guard import SigintGuard
from rlm.sandbox.worker.wire.frames import Decoder, pack
from rlm.sandbox.worker.wire.values import dump

SAMPLES: dict[SubcallKind, tuple[str, Subcall]] = {
    "model": (
        "llm_query('p', context=[1], model='m', schema={'type': 'integer'}, recursive=False)",
        ModelQuery(1, "p", [1], has_context=True, model="m", schema={"type": "integer"}, recursive=False),
    ),
    "budget": ("budget()", BudgetQuery(1)),
    "tool": ("look((1, 2), b'x', limit={3})", ToolCall(1, "look", ((1, 2), b"x"), {"limit": {3}})),
}


LOOK = ToolSpec(
    "look", (ToolParameter("args", "rest"), ToolParameter("limit", "keyword", "set[int]")), doc="Looks it up."
)


def running_session() -> Session:
    session = Session(ReplLimits(open_calls=4))
    list(session.open("context", True))
    session.receive(pack({"t": "ready"}))
    list(session.start(Cell(1, 1, "code")))
    return session


def worker_calls() -> tuple[Calls, bytearray]:
    sent = bytearray()
    calls = Calls(lambda header, body: sent.extend(pack(header, body)), SigintGuard())
    calls.window = 4
    calls.begin()
    return calls, sent


def worker_job(kind: SubcallKind) -> Job:
    if kind == "budget":
        return Job(Group(fed=True), 0, [b""], kind="budget")
    options = make_options("m", {"type": "integer"}, False).payload
    if kind == "tool":
        return ToolFeed("look", [(1, 2), b"x"], {"limit": {3}}).take(Group(), 1, b"")
    return Job(Group(fed=True), 0, [encode_prompt("p")], options, [dump([1])])


def test_samples_cover_every_kind() -> None:
    assert set(SAMPLES) == set(typing.get_args(SubcallKind))
    assert {type(sample) for _, sample in SAMPLES.values()} == set(typing.get_args(Subcall))


@pytest.mark.parametrize("kind", typing.get_args(SubcallKind))
def test_kind_round_trips_between_worker_and_host(kind: SubcallKind) -> None:
    calls, sent = worker_calls()
    job = worker_job(kind)
    calls.start(job)
    session = running_session()
    assert session.receive(bytes(sent)) == [Called((SAMPLES[kind][1],))]
    (reply,) = Decoder().feed(b"".join(session.answer([(1, SubcallAnswer(7))])))
    calls.on_reply(reply)
    assert job.group.complete
    assert job.group.results == {0: 7}


@pytest.mark.parametrize("kind", typing.get_args(SubcallKind))
async def test_real_worker_sends_kind_and_gets_answer(kind: SubcallKind) -> None:
    code, expected = SAMPLES[kind]
    received: list[Subcall] = []

    async def serve(subcall: Subcall) -> SubcallOutcome:
        received.append(subcall)
        return SubcallAnswer(7)

    async with open_bench(tools=(LOOK,)) as bench:
        result = await bench.repl.execute(Cell(1, 1, f"print({code})"), serve)
    assert received == [expected]
    assert (result.end, result.stdout) == ("ok", "7\n")


@pytest.mark.parametrize("kind", ["tools", "", None, 1, ["model"], "MODEL"])
def test_unknown_kind_is_protocol_violation(kind: object) -> None:
    with pytest.raises(ProtocolViolationError, match="unknown kind"):
        running_session().receive(pack({"t": "call", "kind": kind, "first": 1, "prompts": [1]}, b"p"))


def test_missing_kind_is_protocol_violation() -> None:
    with pytest.raises(ProtocolViolationError, match="unknown kind"):
        running_session().receive(pack({"t": "call", "first": 1, "prompts": [1]}, b"p"))


@pytest.mark.parametrize(
    ("extra", "body"),
    [({"prompts": [1]}, b"p"), ({"options": 2}, b"{}"), ({"batch": 1}, b""), ({"ahead": True}, b""), ({}, b"p")],
)
def test_budget_query_with_other_fields_is_violation(extra: dict[str, object], body: bytes) -> None:
    with pytest.raises(ProtocolViolationError, match="budget query"):
        running_session().receive(pack({"t": "call", "kind": "budget", "first": 1, **extra}, body))


@pytest.mark.parametrize("first", [2, 0, "1", True, None])
def test_budget_query_out_of_order_is_violation(first: object) -> None:
    with pytest.raises(ProtocolViolationError, match="out of order"):
        running_session().receive(pack({"t": "call", "kind": "budget", "first": first}))


def test_budget_queries_count_against_open_calls() -> None:
    session = running_session()
    for first in range(1, 5):
        session.receive(pack({"t": "call", "kind": "budget", "first": first}))
    with pytest.raises(ProtocolViolationError, match="more than 4"):
        session.receive(pack({"t": "call", "kind": "budget", "first": 5}))


async def test_unknown_kind_from_real_worker_ends_repl() -> None:
    """Forges a frame on the worker's own socket, as hostile code can."""
    forge = (
        "import os, stat, json, struct\n"
        "head = json.dumps({'t': 'call', 'kind': 'other', 'first': 1, 'prompts': [0]}).encode()\n"
        "frame = struct.pack('>II', len(head), 0) + head\n"
        "for fd in range(3, 1024):\n"
        "    try:\n"
        "        if stat.S_ISSOCK(os.fstat(fd).st_mode): os.write(fd, frame)\n"
        "    except OSError: pass\n"
        "import time; time.sleep(20)\n"
    )
    async with open_bench() as bench:
        with pytest.raises(ProtocolViolationError, match="unknown kind"):
            await bench.run(forge)
        with pytest.raises(Exception, match="closed"):
            await bench.run("1")
