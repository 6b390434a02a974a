"""The host's protocol against lying workers: only legal messages with valid numbers are accepted."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm.core.cells import Cell, CellResult
from rlm.core.errors import ProtocolViolationError, SandboxUnavailableError
from rlm.core.repl_spec import ReplLimits, ReplSpec
from rlm.core.subcalls import ModelQuery, Subcall, SubcallAnswer, SubcallFailure, SubcallOutcome
from rlm.sandbox.messages import Called, Done, Printed, Ready, Value, Withdrew
from rlm.sandbox.protocol import LEGAL, Session, State
from rlm.sandbox.sandbox import WorkerSandbox
from rlm.sandbox.worker.wire.frames import Decoder, Message, pack, pack_message
from rlm.sandbox.worker.wire.values import dump

STEADY = settings(deadline=None)  # a busy machine is not a failure
LIMITS = ReplLimits(open_calls=4, output_chars=100)
INFO = {
    "echo": None,
    "error": None,
    "traceback": None,
    "notes": [],
    "variables": [],
    "omitted": [0, 0],
    "tails": ["", ""],
}


def say(header: dict[str, object], body: bytes = b"") -> bytes:
    return b"".join(pack_message(header, body))


def done(end: object = "ok", **info: object) -> bytes:
    body = json.dumps({**INFO, **info}).encode()
    return say({"t": "done", "end": end, "info": len(body), "answer": None}, body)


def call(first: object, *prompts: str, **header: object) -> bytes:
    bodies = [prompt.encode() for prompt in prompts]
    return say(
        {"t": "call", "kind": "model", "first": first, "prompts": [len(body) for body in bodies], **header},
        b"".join(bodies),
    )


def session_in(state: State) -> Session:
    session = Session(LIMITS)
    if state == "new":
        return session
    list(session.open("context", True))
    if state != "opening":
        assert session.receive(say({"t": "ready"})) == [Ready()]
    if state == "running":
        list(session.start(Cell(1, 1, "code")))
    if state == "asking":
        list(session.ask("x"))
    assert session.state == state
    return session


GOOD: dict[str, bytes] = {
    "ready": say({"t": "ready"}),
    "out": say({"t": "out", "stream": 0}, b"text"),
    "call": call(1, "p"),
    "cancel": say({"t": "cancel", "calls": []}),
    "done": done(),
    "value": say({"t": "value", "kind": "s"}, b"v"),
    "unknown": say({"t": "unknown"}),
}


@pytest.mark.parametrize("state", LEGAL)
@pytest.mark.parametrize("kind", GOOD)
def test_state_accepts_only_its_own_messages(state: State, kind: str) -> None:
    session = session_in(state)
    if kind in LEGAL[state]:
        assert len(session.receive(GOOD[kind])) == 1
    else:
        with pytest.raises(ProtocolViolationError, match=f"sent '{kind}' while {state}"):
            session.receive(GOOD[kind])


@pytest.mark.parametrize("state", LEGAL)
def test_host_requests_need_idle_state(state: State) -> None:
    acts: list[Callable[[Session], Iterator[bytes]]] = [lambda s: s.start(Cell(1, 1, "")), lambda s: s.ask(None)]
    for act in acts:
        session = session_in(state)
        if state == "idle":
            list(act(session))
        else:
            with pytest.raises(RuntimeError):
                act(session)


def test_legal_cell_conversation() -> None:
    session = session_in("running")
    assert session.receive(GOOD["out"]) == [Printed("stdout", "text")]
    assert session.receive(call(1, "a", "bc", batch=1)) == [
        Called((ModelQuery(1, "a", batch=1), ModelQuery(2, "bc", batch=1)))
    ]
    assert session.open_calls == 2
    sent = b"".join(session.answer([(2, SubcallAnswer("x")), (9, SubcallAnswer("never asked"))]))
    assert Decoder().feed(sent) == [Message({"t": "reply", "items": [[2, "s", 1]]}, b"x")]
    assert b"".join(session.answer([(2, SubcallAnswer("again"))])) == b""
    assert session.receive(say({"t": "cancel", "calls": [1, 2]})) == [Withdrew((1,))]
    assert session.open_calls == 0
    (end,) = session.receive(done("error", error="E", notes=["n"]))
    assert isinstance(end, Done)
    assert (end.end, end.error, end.notes, end.answer) == ("error", "E", ("n",), None)
    list(session.start(Cell(1, 2, "")))
    assert session.receive(call(3, "p")) == [Called((ModelQuery(1, "p"),))]
    session.receive(done())
    list(session.ask("x"))
    assert session.receive(say({"t": "value", "kind": None})) == [Value(None)]


def test_contexts_and_options_are_decoded() -> None:
    session = session_in("running")
    options, context = dump({"model": "m", "recursive": True})[1], dump((1, "x"))
    body = options + context[1] + b"pq"
    header: dict[str, object] = {"t": "call", "kind": "model", "first": 1, "prompts": [1, 1], "options": len(options)}
    header["contexts"] = [[context[0], len(context[1])]]
    (called,) = session.receive(say(header, body))
    assert isinstance(called, Called)
    assert called.subcalls == (
        ModelQuery(1, "p", (1, "x"), has_context=True, model="m", recursive=True),
        ModelQuery(2, "q", (1, "x"), has_context=True, model="m", recursive=True),
    )


def options_of(value: object) -> bytes:
    data = json.dumps(value).encode()
    return say({"t": "call", "kind": "model", "first": 1, "prompts": [0], "options": len(data)}, data)


LIES: dict[str, bytes] = {
    "id out of order": call(2, "p"),
    "id of another type": call("1", "p"),
    "no prompts": call(1),
    "more calls than allowed": call(1, *"abcde"),
    "lengths too short": say({"t": "call", "kind": "model", "first": 1, "prompts": [1]}, b"pq"),
    "lengths too long": say({"t": "call", "kind": "model", "first": 1, "prompts": [3]}, b"pq"),
    "negative length": say({"t": "call", "kind": "model", "first": 1, "prompts": [-1, 3]}, b"pq"),
    "length is true": say({"t": "call", "kind": "model", "first": 1, "prompts": [True]}, b"p"),
    "prompts no list": say({"t": "call", "kind": "model", "first": 1, "prompts": 5}, b"p"),
    "prompt not UTF-8": say({"t": "call", "kind": "model", "first": 1, "prompts": [1]}, b"\xff"),
    "contexts do not match": call(1, "a", "b", "c", contexts=[["s", 0], ["s", 0]]),
    "context of unknown kind": call(1, "a", contexts=[["x", 0]]),
    "context no pair": call(1, "a", contexts=[["s"]]),
    "batch no number": call(1, "a", batch="b"),
    "options unknown": options_of({"shell": "rm"}),
    "options no dict": options_of([]),
    "schema no dict": options_of({"schema": 5}),
    "recursive no bool": options_of({"recursive": 1}),
    "model no text": options_of({"model": 5}),
    "cancel of a call never made": say({"t": "cancel", "calls": [1]}),
    "cancel no list": say({"t": "cancel", "calls": None}),
    "too much output": say({"t": "out", "stream": 0}, b"x" * 70_000),
    "output of a third stream": say({"t": "out", "stream": 2}, b"x"),
    "output not UTF-8": say({"t": "out", "stream": 0}, b"\xff"),
    "end unknown": done("won"),
    "end no text": done(["ok"]),
    "report no dict": say({"t": "done", "end": "ok", "info": 2, "answer": None}, b"[]"),
    "report longer than the body": say({"t": "done", "end": "ok", "info": 20, "answer": None}, b"{}"),
    "answer of unknown kind": say({"t": "done", "end": "ok", "info": 0, "answer": "p"}, b"x"),
    "echo too long": done(echo="x" * 300_000),
    "echo no text": done(echo=[1]),
    "note no text": done(notes=[1]),
    "too many notes": done(notes=["n"] * 1000),
    "tail over its limit": done(tails=["x" * 101, ""]),
    "one tail": done(tails=[""]),
    "omitted negative": done(omitted=[-1, 0]),
    "variable no triple": done(variables=[["a", "b"]]),
    "variable of a negative size": done(variables=[["a", "b", -1]]),
    "too many variables": done(variables=[["a", "b", 1]] * 5000),
}


@pytest.mark.parametrize("name", LIES)
def test_malformed_messages_are_violations(name: str) -> None:
    session = session_in("running")
    with pytest.raises(ProtocolViolationError):
        session.receive(LIES[name])


SCALARS = (
    st.none() | st.booleans() | st.integers(-3, 300) | st.sampled_from(["", "s", "j", "ok", "x", "model", "budget"])
)
HEADERS = st.fixed_dictionaries(
    {"t": st.sampled_from(["ready", "out", "call", "cancel", "done", "value", "part", "x"])},
    optional={
        name: SCALARS | st.lists(SCALARS | st.lists(SCALARS, max_size=3), max_size=4)
        for name in (
            "first",
            "prompts",
            "options",
            "contexts",
            "batch",
            "calls",
            "stream",
            "end",
            "info",
            "answer",
            "kind",
        )
    },
)


@STEADY
@given(st.sampled_from(list(LEGAL)), st.lists(st.tuples(HEADERS, st.binary(max_size=40)), max_size=6))
def test_random_messages_are_accepted_or_violations(
    state: State, messages: list[tuple[dict[str, object], bytes]]
) -> None:
    session = session_in(state)
    try:
        for header, body in messages:
            session.receive(pack(header, body))
            assert session.open_calls <= LIMITS.open_calls
    except ProtocolViolationError:
        pass


@STEADY
@given(st.lists(st.sampled_from(["answer", "fail", "call", "cancel"]), max_size=30), st.data())
def test_open_calls_are_counted_exactly(steps: list[str], data: st.DataObject) -> None:
    """A model of the window: in any order of steps, the session knows exactly which calls are open."""
    session, open_, count = session_in("running"), set[int](), 0
    for step in steps:
        if step == "call" and len(open_) < LIMITS.open_calls:
            session.receive(call(count + 1, "p"))
            count += 1
            open_.add(count)
        elif step == "cancel" and count:
            number = data.draw(st.integers(1, count))
            session.receive(say({"t": "cancel", "calls": [number]}))
            open_.discard(number)
        elif count:
            number = data.draw(st.integers(1, count))
            outcome: SubcallOutcome = SubcallAnswer("a") if step == "answer" else SubcallFailure("E", "m")
            assert bool(list(session.answer([(number, outcome)]))) == (number in open_)
            open_.discard(number)
        assert session.open_calls == len(open_)


class FakeProcess:
    """A worker played by the test: its end of the socket, and the signals that it received."""

    pid = 1
    shared_fd = None

    def __init__(self) -> None:
        self.sock, self.theirs = socket.socketpair()
        self.sock.setblocking(False)
        self.theirs.setblocking(False)
        self.done_to: list[str] = []
        self.ended = asyncio.Event()

    def interrupt(self) -> None:
        self.done_to.append("interrupt")

    def pause(self) -> None:
        self.done_to.append("pause")

    def resume(self) -> None:
        self.done_to.append("resume")

    def kill(self) -> None:
        self.done_to.append("kill")
        self.ended.set()

    async def wait(self) -> str:
        await self.ended.wait()
        return "killed by the test"


class FakeLauncher:
    level = "fake"

    def __init__(self) -> None:
        self.processes: list[FakeProcess] = []

    async def launch(self, limits: ReplLimits, shared: int | None = None) -> FakeProcess:
        self.processes.append(FakeProcess())
        return self.processes[-1]

    async def aclose(self) -> None:
        for process in self.processes:
            process.theirs.close()


@asynccontextmanager
async def fake_worker(
    play: Callable[[FakeProcess], bytes],
) -> AsyncIterator[tuple[asyncio.Task[CellResult], FakeProcess]]:
    """A running cell whose worker answers "open" correctly, and the cell with the bytes that ``play`` returns."""
    launcher = FakeLauncher()
    sandbox = WorkerSandbox(launcher)
    loop = asyncio.get_running_loop()

    async def serve(subcall: Subcall) -> SubcallOutcome:
        assert isinstance(subcall, ModelQuery)
        return SubcallAnswer(subcall.prompt)

    opening = asyncio.create_task(sandbox.open(ReplSpec("c", limits=ReplLimits(cell_seconds=0.2, open_calls=4))))
    while not launcher.processes:
        await asyncio.sleep(0)
    process = launcher.processes[0]
    await loop.sock_recv(process.theirs, 65536)
    await loop.sock_sendall(process.theirs, say({"t": "ready"}))
    repl = await opening
    running = asyncio.create_task(repl.execute(Cell(1, 1, "code"), serve))
    await loop.sock_recv(process.theirs, 65536)
    await loop.sock_sendall(process.theirs, play(process))
    try:
        yield running, process
    finally:
        await sandbox.aclose()


@pytest.mark.parametrize(
    "garbage", [os.urandom(4096), b"\0" * 100, b"GET / HTTP/1.1\r\n\r\n", call(7, "p"), done("won")], ids=len
)
async def test_garbage_ends_the_worker(garbage: bytes) -> None:
    async with fake_worker(lambda _: garbage) as (running, process):
        with pytest.raises(ProtocolViolationError):
            await running
        assert "kill" in process.done_to


async def test_incomplete_frame_ends_in_timeout() -> None:
    async with fake_worker(lambda _: done()[:-3]) as (running, process):
        while "kill" not in process.done_to:
            await asyncio.sleep(0.01)
        assert process.done_to[:4] == ["interrupt", "interrupt", "interrupt", "kill"]
        running.cancel()


async def test_worker_that_never_reads_cannot_block_host() -> None:
    """Its answers queue, while the event loop and the time limit continue."""
    async with fake_worker(lambda _: call(1, *["p" * 1_000_000] * 4)) as (running, process):
        while "kill" not in process.done_to:
            await asyncio.sleep(0.01)
        assert process.done_to[:4] == ["interrupt", "interrupt", "interrupt", "kill"]
        running.cancel()


async def test_worker_that_never_becomes_ready_is_error() -> None:
    launcher = FakeLauncher()
    sandbox = WorkerSandbox(launcher)
    opening = asyncio.create_task(sandbox.open(ReplSpec("c")))
    while not launcher.processes:
        await asyncio.sleep(0)
    launcher.processes[0].theirs.close()
    with pytest.raises(SandboxUnavailableError, match="killed by the test"):
        await opening
    await sandbox.aclose()
