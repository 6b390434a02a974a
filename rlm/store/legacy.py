"""Journals of versions before 0.2 (schema 1 and 2): their rows, converted to objects with all fields by name.

Each row was written by hand, and left out what an event before it had said. Nothing here is ever changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

Row: TypeAlias = Sequence[Any]
Fields: TypeAlias = dict[str, Any]

CELL = ("turn", "number", "code", "clock_s", "prefetch")
RESULT = (
    "end", "stdout", "stderr", "echo", "error", "traceback", "variables", "notes", "state_lost", "killed", "rebuilt",
    "elapsed_s", "waited_s", "prefetched", "prefetches_used",
)  # fmt: skip
USAGE = ("calls", "input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
LIMITS = ("depth", "max_output_tokens", "temperature")


def _named(names: Sequence[str], values: Row) -> Fields:
    return dict(zip(names, values, strict=True))


class Reader:
    """Reads the rows of one run, in order."""

    def __init__(self) -> None:
        self._shared: Row = ()
        self._calls: dict[str, Fields] = {}
        self._turns: dict[str, Fields] = {}
        self._cells: dict[str, Fields] = {}
        self._forms: dict[str, Callable[[Row], tuple[str, Fields]]] = {
            "^": self._leaf, ",": self._next_leaf, "+": self._leaf_1, ">": self._sent, "-": self._replied, "=": self._replied_1,
            "*": self._turn, "~": self._next_turn, "{": self._cell, "}": self._executed, "CallStarted": self._started,
        }  # fmt: skip

    def convert(self, rows: Row) -> Iterator[tuple[str, Fields]]:
        """Kind and fields of each event. In schema 1 every event had a line of its own, and its fields a list."""
        if isinstance(rows[0], str):
            name, fields = rows
            rows = [[name, *fields] if isinstance(fields, list) else rows]
        for name, *fields in rows:
            yield self._forms[name](fields) if name in self._forms else (name, fields[0])

    def _note(self, call: Fields) -> tuple[str, Fields]:
        self._calls[call["call"]] = call
        if call["role"] == "node":
            self._turns[call["node"]] = call
        return "CallStarted", call

    def _before(self, since: Row | None) -> list[Fields]:
        """The first messages of an earlier call."""
        return self._calls[since[0]]["request"]["messages"][: since[1]] if since else []

    def _started(self, row: Row) -> tuple[str, Fields]:
        (call,) = row
        request = call["request"]
        new = [item if isinstance(item, dict) else _named(("role", "content"), item) for item in request["messages"]]
        messages = [*self._before(request.pop("since", None)), *new]
        return self._note({**call, "request": {**request, "messages": messages}})

    def _leaf(self, row: Row) -> tuple[str, Fields]:
        self._shared = row[4:]
        return self._next_leaf(row[:4])

    def _leaf_1(self, row: Row) -> tuple[str, Fields]:
        node, at_s, call, depth, model, turn, cell, batch, key, prefetched, content, *limits = row
        return self._leaf((at_s, call, key, content, node, depth, model, turn, cell, batch, prefetched, *limits, 0))

    def _next_leaf(self, row: Row) -> tuple[str, Fields]:
        at_s, call, key, content = row
        *shared, shared_chars = self._shared
        names = ("node", "depth", "model", "turn", "cell", "batch", "prefetched")
        request = {**_named(LIMITS, shared[len(names) :]), "role": "leaf", "shared_chars": shared_chars}
        request["messages"] = [{"role": "user", "content": content}]
        common = _named(names, shared[: len(names)])
        return self._note({**common, "at_s": at_s, "call": call, "key": key, "role": "leaf", "request": request})

    def _turn(self, row: Row) -> tuple[str, Fields]:
        node, at_s, call, depth, model, turn, limit, prefetched, since, new, *rest = row
        *limits, stop, cache_key, shared_chars, question, task_depth, max_depth, task_turn, leaf_chars = rest
        task = _named(
            ("question", "depth", "max_depth", "turn", "leaf_prompt_chars"),
            (question, task_depth, max_depth, task_turn, leaf_chars),
        )
        messages = [*self._before(since), *(_named(("role", "content"), item) for item in new)]
        request = {
            **_named(LIMITS, limits), "role": "node", "messages": messages, "stop": stop, "cache_key": cache_key,
            "shared_chars": shared_chars, "task": task,
        }  # fmt: skip
        return self._note({
            "node": node, "at_s": at_s, "call": call, "role": "node", "depth": depth, "model": model, "turn": turn,
            "limit": limit, "prefetched": prefetched, "request": request,
        })  # fmt: skip

    def _next_turn(self, row: Row) -> tuple[str, Fields]:
        node, at_s, call, turn, limit, prefetched, same, new = row
        before = self._turns[node]
        request = before["request"]
        messages = [*request["messages"][:same], *(_named(("role", "content"), item) for item in new)]
        request = {**request, "messages": messages, "task": {**request["task"], "turn": turn}}
        changed = {"at_s": at_s, "call": call, "turn": turn, "limit": limit, "prefetched": prefetched}
        return self._note({**before, **changed, "request": request})

    def _sent(self, row: Row) -> tuple[str, Fields]:
        return "CallSent", _named(("node", "at_s", "call", "attempt"), row)

    def _replied(self, row: Row) -> tuple[str, Fields]:
        at_s, call, text, cost_usd, reply_cost_usd, model, *usage = row
        started = self._calls[call]
        reply = {"text": text, "usage": _named(USAGE, usage), "model": model or started["model"]}
        return "CallReplied", {
            "node": started["node"], "at_s": at_s, "call": call, "reply": {**reply, "cost_usd": reply_cost_usd},
            "cost_usd": cost_usd, "elapsed_s": at_s - started["at_s"],
        }  # fmt: skip

    def _replied_1(self, row: Row) -> tuple[str, Fields]:
        node, at_s, call, _role, _depth, _model, cost_usd, elapsed_s, cached, text, model, reply_cost_usd, *usage = row
        return "CallReplied", {
            "node": node, "at_s": at_s, "call": call, "cost_usd": cost_usd, "elapsed_s": elapsed_s, "cached": cached,
            "reply": {"text": text, "usage": _named(USAGE, usage), "model": model, "cost_usd": reply_cost_usd},
        }  # fmt: skip

    def _cell(self, row: Row) -> tuple[str, Fields]:
        node, at_s, *cell = row
        self._cells[node] = _named(CELL, cell)
        return "CellStarted", {"node": node, "at_s": at_s, "cell": self._cells[node]}

    def _executed(self, row: Row) -> tuple[str, Fields]:
        node, at_s, cell, notice, *values = row
        result = _named(RESULT, values[: len(RESULT)])
        result["variables"] = [_named(("name", "type", "size"), variable) for variable in result["variables"]]
        if (answer := values[len(RESULT) :]) and answer[0]:
            result["answer"] = {"value": answer[0][0]}
        return "CellExecuted", {
            "node": node, "at_s": at_s, "cell": self._cells[node] if cell is None else _named(CELL, cell),
            "result": result, "notice": notice,
        }  # fmt: skip
