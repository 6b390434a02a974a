"""The worker: one REPL on a connected socket, until the host closes it.

    host -> worker   open (once), then cell, read, variables, counts; while a cell runs only reply.
    worker -> host   ready; while a cell runs out, call, cancel; done ends it; value answers read and variables.

``serve`` is called by a plain process (``__main__``), or through ``boot.warmup`` in a child forked by a zygote. Everything
that a REPL commonly needs is imported here once, so that a fork is cheap and needs no file later.
"""

from __future__ import annotations

import asyncio
import builtins
import os
import random
import resource
import socket
import sys
import threading
import types
from collections import deque
from collections.abc import Iterable
from typing import Any, NoReturn

from .boot import determinism
from .boot.shared_text import open_context
from .calls.open_calls import CELL_ENDED, Calls
from .calls.queries import Queries
from .calls.socket_reader import SocketReader
from .calls.tools import make_tools
from .calls.waiters import ThreadWaiter
from .failures import LLMQueryError
from .lookahead import text_operations
from .lookahead.prefetch import Prefetcher
from .repl import mapped_search, mapped_text
from .repl.capture import Stream
from .repl.event_loop import LoopOwner
from .repl.execution import Executor, Outcome
from .repl.reports import describe_traceback, show_value, size_of
from .repl.scaffold import Scaffold, patch_builtins
from .sigint_guard import SigintGuard
from .typed.instances import to_plain
from .wire.frames import Message, decode_text, encode_text, pack
from .wire.pieces import INLINE_BYTES, dump_value, split
from .wire.values import MAX_NAME_CHARS, TooLarge, dump, json_text, load, type_name

MAX_VALUE_CHARS = 100_000  # of one variable in an answer to "variables"; a larger one is sent as its cut repr
MAX_VARIABLES_CHARS = 8_000_000  # of all variables in that answer; further ones are cut
SHOWN_CHARS = 2_000


class Worker:
    """One REPL. A zygote creates it before it has a socket, so that all its children share these pages."""

    def __init__(self) -> None:
        self._pid = 0
        self._inbox: deque[Message] = deque()
        self._idle = ThreadWaiter()
        self._guard = SigintGuard()
        self._reader = SocketReader(self._guard, self._on_message)
        self._calls = Calls(self._reader.send, self._guard)
        self._reader.deliver = self._calls.deliver
        self._stdout = Stream("stdout", lambda text: self._send_output(0, text), self._guard)
        self._stderr = Stream("stderr", lambda text: self._send_output(1, text), self._guard)
        self._output_chars = 0
        self._mapped: mapped_text.MappedText | None = None
        self._main = types.ModuleType("__main__")
        self._namespace: dict[str, Any] = self._main.__dict__
        self._namespace["__builtins__"] = builtins
        self._prefetcher = Prefetcher(self._calls, self._reader, self._namespace, self._mute)
        self._queries = Queries(self._calls, self._reader, self._prefetcher, self._flush)
        self._scaffold = Scaffold(self._namespace, self._queries)
        self._loops = LoopOwner()
        self._executor = Executor(self._namespace, self._scaffold, self._loops, self._guard)

    def warm_up(self, cells: Iterable[str]) -> None:
        """Runs cells without a connection; they must not send anything. The instance cannot be used afterwards."""
        self._namespace.update(asyncio=asyncio, print=lambda *_values: None)
        for code in cells:
            self._executor.execute("0.0", code)
        self._loops.close()

    def prefault(self) -> None:
        """Prepares a pre-forked process, and writes to pages now that it would otherwise copy at its first cell."""
        self._prefault()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self._reader.connect(ours)
            theirs.sendall(pack({"t": "prefault"}))
            self._next_message()
            self._reader.send({"t": "prefaulted"})
            self._reader.disconnect()

    def _prefault(self) -> None:
        self._pid = os.getpid()
        self._guard.install()
        self._take_over()

    def run(self, sock: socket.socket) -> NoReturn:
        if not self._pid:
            self._prefault()
        self._reader.connect(sock)
        while True:
            message = self._next_message()
            if message.type == "open":
                self._open(message)
            elif message.type == "cell":
                self._execute(message)
            elif message.type == "read":
                self._read(message)
            elif message.type == "variables":
                self._send_variables()
            elif message.type == "counts" and self._mapped is not None:
                self._mapped.add_counts(int(message.header["first"]), bytes(message.body))  # type: ignore[call-overload]
            else:
                os._exit(3)

    def _on_message(self, message: Message) -> None:
        """Handles a message, in the thread that reads."""
        if message.type == "reply":
            self._calls.on_reply(message)
        else:
            self._inbox.append(message)
            self._idle.wake()

    def _next_message(self) -> Message:
        while not self._inbox:
            self._idle.done = False
            if not self._inbox:
                self._reader.wait(self._idle, idle=True)
        return self._inbox.popleft()

    def _take_over(self) -> None:
        """Replaces the process's streams, exits and environment with those of a REPL."""
        sys.stdout, sys.stderr = self._stdout, self._stderr
        patch_builtins()
        text_operations.install()
        os.environ.clear()
        random.seed()  # otherwise all children of a zygote would draw the same numbers
        leave = os._exit

        def flush_and_leave(status: int) -> NoReturn:
            self._flush()
            leave(status)

        os._exit = flush_and_leave
        threading.excepthook = _report_thread_error

    def _open(self, message: Message) -> None:
        header: dict[str, Any] = message.header
        limits = header["limits"]
        limit_bytes = _lift_memory_limit(limits["memory_mb"] * 1024 * 1024)
        side_bytes = int(header.get("side", 0))
        tool_bytes = int(header.get("tools", 0))
        end = len(message.body) - side_bytes - tool_bytes
        body = message.body[:end] if side_bytes or tool_bytes else message.body
        if header["context"] == "shared":
            context = self._open_shared(header["fd"], header["shared"])
        else:
            context = load(header["context"], body, trusted=True)
        sys.modules["__main__"] = self._main
        self._calls.window = limits["open_calls"]
        self._output_chars = limits["output_chars"]
        self._prefetcher.ahead = limits["ahead"]
        self._queries.can_call = bool(header["can_call"])
        self._executor.is_typed = bool(header.get("typed"))
        side_table = message.body[end : end + side_bytes]
        self._scaffold.set_context(context, decode_text(side_table) if side_bytes else "")
        if tool_bytes:
            self._scaffold.set_tools(make_tools(message.body[-tool_bytes:], self._queries))
        if header.get("seed") is not None:
            determinism.install(str(header["seed"]))
        _limit_memory(limit_bytes + _size_of_context(header, len(message.body), context))
        del message, body
        self._reader.send({"t": "ready"})

    def _open_shared(self, descriptor: int, header: dict[str, Any]) -> object:
        if header["shape"] == "mapped":
            mapped_search.install()
            self._mapped = mapped_text.open_mapped_text(descriptor, header)
            return self._mapped
        context = open_context(descriptor, header)
        os.close(descriptor)
        return context

    def _execute(self, message: Message) -> None:
        for stream in (self._stdout, self._stderr):
            stream.begin(self._output_chars)
        self._calls.begin()
        determinism.cell_clock.start(float(message.header.get("clock", 0)))  # type: ignore[arg-type]
        code = decode_text(message.body)
        self._prefetcher.begin(code, allowed=message.header.get("prefetch") is not False)
        outcome = self._executor.execute(str(message.header["name"]), code)
        if os.getpid() != self._pid:
            os._exit(0)  # a fork made by the cell has reached the cell's end
        self._prefetcher.end()
        unanswered = self._calls.end()
        if unanswered and outcome.end == "ok" and outcome.answer is None:
            outcome.notes.append(f"{unanswered} sub-calls were still open when the cell ended; they were cancelled.")
        try:
            self._send_done(outcome)
        except MemoryError:
            self._send_done(Outcome("error", error="MemoryError", traceback="MemoryError", notes=outcome.notes))

    def _send_done(self, outcome: Outcome) -> None:
        (cut_out, tail_out), (cut_err, tail_err) = self._stdout.end(), self._stderr.end()
        self._namespace["_stdout"] = self._stdout.full_text()
        report: dict[str, Any] = {
            "echo": outcome.echo,
            "error": outcome.error,
            "traceback": outcome.traceback,
            "notes": outcome.notes,
            "variables": [[name[:MAX_NAME_CHARS], type_name(v), size_of(v)] for name, v in self._scaffold.variables()],
            "omitted": [cut_out, cut_err],
            "tails": [tail_out, tail_err],
            "used": self._prefetcher.used,
        }
        if outcome.cited:
            report["cited"] = [list(quote) for quote in outcome.cited]
        if outcome.answer_cites:
            report["answer_cites"] = [list(quote) for quote in outcome.answer_cites]
        info, report_kind = json_text(report), "j"
        if len(info) > INLINE_BYTES:
            info, report_kind = split(report), "p"
        kind, answer = outcome.answer or (None, b"")
        header = {"t": "done", "end": outcome.end, "info": len(info), "as": report_kind, "answer": kind}
        self._reader.send(header, info + answer)

    def _read(self, message: Message) -> None:
        name = decode_text(message.body)
        if name not in self._namespace:
            self._reader.send({"t": "value", "kind": None})
            return
        value = self._namespace[name]
        try:
            value = to_plain(value) if self._executor.is_typed else value
            kind, payload = dump_value(value, int(message.header["most"]))  # type: ignore[call-overload]
        except TooLarge:
            kind, payload = dump_value(show_value(value))
        self._reader.send({"t": "value", "kind": kind}, payload)

    def _send_variables(self) -> None:
        left = MAX_VARIABLES_CHARS
        variables: dict[str, object] = {}
        for name, value in self._scaffold.variables():
            variables[name], size = _small_plain(value, min(left, MAX_VALUE_CHARS))
            left = max(0, left - size)
        kind, payload = dump_value(variables)
        self._reader.send({"t": "value", "kind": kind}, payload)

    def _send_output(self, stream: int, text: str) -> None:
        self._reader.send({"t": "out", "stream": stream}, encode_text(text))

    def _mute(self) -> None:
        self._stdout.muted = self._stderr.muted = True

    def _flush(self) -> None:
        self._stdout.flush()
        self._stderr.flush()


def _report_thread_error(args: threading.ExceptHookArgs) -> None:
    """Reports a thread that ended with an error, unless its call was cut off by the end of its cell.

    That cell has reported the open call, and the time at which such a thread ends is random.
    """
    error = args.exc_value or args.exc_type()
    if isinstance(error, LLMQueryError) and error.kind == CELL_ENDED:
        return
    name = args.thread.name if args.thread else "a thread"
    print(f"Exception in {name}:\n{describe_traceback(error)}", file=sys.stderr)


def _small_plain(value: object, max_chars: int) -> tuple[object, int]:
    """A value, or its cut ``repr`` if it is too large, and its size."""
    try:
        _, payload = dump(value, max_chars=max_chars)
    except TooLarge:
        return show_value(value, SHOWN_CHARS if max_chars == MAX_VALUE_CHARS else 100), SHOWN_CHARS
    return value, len(payload)


def _lift_memory_limit(limit_bytes: int) -> int:
    """Lifts the limit so that the context fits, whose size is added to it; returns the limit to set afterwards.

    A zygote has set a soft limit that counts the interpreter and imported packages.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    return limit_bytes if soft == resource.RLIM_INFINITY else soft


def _size_of_context(header: dict[str, Any], body_bytes: int, context: object) -> int:
    """Address space of the context. It belongs to the caller, so it does not count against the limit of the code."""
    shared = header.get("shared")
    own = sys.getsizeof(context)
    if shared is None:
        return own + body_bytes * (4 if header["context"] == "j" else 1)
    if shared["shape"] == "plain":
        return own + int(shared["length"]) * (4 if shared["kind"] == "j" else 1)
    headers = int(shared["count"]) * str.__basicsize__ * 2
    return int(shared["size"]) + headers + (0 if isinstance(context, str) else own)


def _limit_memory(limit_bytes: int) -> None:
    """Limits address space. Sets the hard limit too, so that no cell can raise it."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard != resource.RLIM_INFINITY:
        limit_bytes = min(limit_bytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))


def serve(sock: socket.socket, worker: Worker | None = None) -> NoReturn:
    """Runs one REPL on ``sock`` until the host closes it, then ends this process. ``worker`` is a prepared instance."""
    sock.setblocking(True)
    (worker or Worker()).run(sock)
