"""The scaffold: names that every cell can use (query functions, FINAL, ``answer``, ``context``), restored if overwritten.

This module must not know how calls or frames travel.
"""

from __future__ import annotations

import asyncio
import builtins
import sys
import types
from typing import Any, NoReturn

from ..calls.queries import Queries
from ..failures import AnswerGiven, BudgetExceeded, FailedCall, LLMQueryError, ToolError
from ..wire.values import type_name
from .documents import REPL_NAMES, DocumentFunctions, Hit
from .reports import size_of

MAX_LISTED = 1000
MAX_QUOTES = 2000
MAX_QUOTE_CHARS = 10_000
_NOTHING = object()


class Listing(str):
    """Text whose ``repr`` is the text itself, for the echo."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class Scaffold:
    """Defines the scaffold names in a namespace, and stores the answer that code gives."""

    def __init__(self, namespace: dict[str, Any], queries: Queries) -> None:
        self._namespace = namespace
        self._context: object = None
        self._answer = {"content": "", "ready": False}
        self._given: object = _NOTHING
        self._names: dict[str, object] = {
            "llm_query": queries.llm_query,
            "llm_query_async": queries.llm_query_async,
            "llm_query_batch": queries.llm_query_batch,
            "llm_query_batch_async": queries.llm_query_batch_async,
            "llm_query_batched": queries.llm_query_batch,
            "rlm_query": queries.llm_query,
            "rlm_query_batched": queries.llm_query_batch,
            "FINAL": self.final,
            "FINAL_VAR": self.final_var,
            "SUBMIT": self.submit,
            "SHOW_VARS": self.show_vars,
            "LLMQueryError": LLMQueryError,
            "BudgetExceeded": BudgetExceeded,
            "FailedCall": FailedCall,
        }
        # Programs use these names for data of their own. Once assigned, they are theirs and are never restored.
        self._documents = DocumentFunctions()
        self._free_names: dict[str, object] = {
            "budget": queries.budget,
            "cite": self.cite,
            **{name: getattr(self._documents, name) for name in REPL_NAMES["text"]},
        }
        self._cited: list[tuple[str, str | None]] = []
        self._answer_cites: list[tuple[str, str | None]] = []
        namespace.update(self._names, **self._free_names, answer=self._answer)

    def set_context(self, context: object, side_table: str = "") -> None:
        """Sets the context. ``side_table`` describes the documents in it, if there are any."""
        self._context = self._namespace["context"] = context
        self._documents.bind(context, side_table)
        if side_table:
            functions = {name: getattr(self._documents, name) for name in REPL_NAMES["documents"]}
            self._free_names.update(functions)
            self._namespace.update(functions)

    def set_tools(self, functions: dict[str, object]) -> None:
        """Adds the tools of this REPL. They are restored like the query functions."""
        self._names.update(functions, ToolError=ToolError)
        self._namespace.update(functions, ToolError=ToolError)

    def restore(self) -> list[str]:
        """Restores names that code overwrote or deleted. Returns notes for the model."""
        lost = [name for name, value in self._names.items() if self._namespace.get(name) is not value]
        for name in lost:
            self._namespace[name] = self._names[name]
        notes = []
        if lost:
            notes.append(
                f"Restored {', '.join(lost)}: these names belong to the REPL; use other names for your own values."
            )
        if "context" not in self._namespace:
            self._namespace["context"] = self._context
            notes.append("Restored `context`, which had been deleted.")
        if "answer" not in self._namespace:
            self._answer.update(content="", ready=False)
            self._namespace["answer"] = self._answer
        return notes

    def cite(self, quote: object, path: object = None) -> None:
        """Gives words of the input as evidence for the answer; ``path`` names their document."""
        self._cited.extend(_read_quotes(quote if path is None else [(quote, path)], len(self._cited)))

    def final(self, value: object, cite: object = ()) -> NoReturn:
        """Gives the answer, of any size and type, and ends the cell. ``cite``: quotes of the input that support it."""
        quotes = _read_quotes(cite, 0)
        if asyncio.iscoroutine(value):
            value.close()
            raise TypeError("FINAL was given a coroutine that was never awaited: write FINAL(await ...)")
        if value is self._answer and self._answer["content"] != "":
            value = self._answer["content"]
        if self._given is _NOTHING:
            self._given = value
            self._answer_cites = quotes
        raise AnswerGiven

    def final_var(self, name: object, cite: object = ()) -> NoReturn:
        """Gives the variable with this name as the answer, and ends the cell."""
        if not isinstance(name, str):
            self.final(name, cite)
        key = name.strip().strip("\"'`").strip()
        if key in self._namespace:
            self.final(self._namespace[key], cite)
        if not key.isidentifier() or any(value is name for value in self._namespace.values()):
            self.final(name, cite)  # the value itself, not a name
        raise NameError(f"FINAL_VAR: there is no variable named {key!r}. Defined: {self._names_defined()}")

    def submit(self, *values: object, **fields: object) -> NoReturn:
        """Gives the answer as FINAL does. Keyword arguments become a dict."""
        if len(values) + bool(fields) != 1:
            raise TypeError("SUBMIT takes one value, or fields by name: SUBMIT(x) or SUBMIT(a=1, b=2)")
        self.final(values[0] if values else fields)

    def show_vars(self) -> str:
        """Lists names, types and sizes of all variables."""
        lines = [f"context: {type_name(self._namespace.get('context'))}{_sized(self._namespace.get('context'))}"]
        lines += [f"{name}: {type_name(value)}{_sized(value)}" for name, value in self.variables()]
        return Listing("\n".join(lines))

    def _names_defined(self) -> str:
        return ", ".join(name for name, _ in self.variables()[:50]) or "none"

    def variables(self) -> list[tuple[str, object]]:
        """Variables defined by code, without scaffold names, modules and names that start with an underscore."""
        scaffold = {**self._names, **self._free_names, "context": self._context, "answer": self._answer}
        return [
            (name, value)
            for name, value in list(self._namespace.items())
            if type(name) is str
            and not name.startswith("_")
            and not isinstance(value, types.ModuleType)
            and scaffold.get(name, _NOTHING) is not value
        ][:MAX_LISTED]

    def take_quotes(self) -> tuple[list[tuple[str, str | None]], list[tuple[str, str | None]]]:
        """The quotes given since the last call: with ``cite``, and with the answer."""
        taken = list(dict.fromkeys(self._cited)), list(dict.fromkeys(self._answer_cites))
        self._cited, self._answer_cites = [], []
        return taken

    def take_answer(self) -> tuple[object] | None:
        """The answer given since the last call, in a tuple of one, or None."""
        given, self._given = self._given, _NOTHING
        if given is not _NOTHING:
            return (given,)
        held = self._namespace.get("answer")
        if isinstance(held, dict) and dict.get(held, "ready") in (True, 1) and dict.__contains__(held, "content"):
            content = dict.get(held, "content")
            dict.update(held, ready=False)
            return (content,)
        return None


def _read_quotes(given: object, count: int) -> list[tuple[str, str | None]]:
    """Quotes as pairs of words and document. A quote is a text, a hit of ``grep`` or ``search``, or such a pair.

    Raises:
        TypeError, ValueError: a quote is of another type, empty, or too long.
    """
    items: list[Any] = [given] if isinstance(given, str) else list(given)  # type: ignore[call-overload]
    if count + len(items) > MAX_QUOTES:
        raise ValueError(f"cite takes at most {MAX_QUOTES} quotes in one cell")
    quotes = []
    for item in items:
        quote, path = item if isinstance(item, tuple) and len(item) == 2 else (item, None)
        if isinstance(quote, Hit):
            hit: Hit = quote
            quote, path = hit.text, path or hit.path
        if not isinstance(quote, str) or not (path is None or isinstance(path, str)):
            raise TypeError(f"cite takes exact words of the input as str; got {type_name(quote)}")
        quote = str.__str__(quote)
        if not quote.strip() or len(quote) > MAX_QUOTE_CHARS:
            raise ValueError(f"a quote must have 1 to {MAX_QUOTE_CHARS:,} characters; got {len(quote):,}")
        quotes.append((quote, None if path is None else str.__str__(path)[:1000]))
    return quotes


def _sized(value: object) -> str:
    size = size_of(value)
    return "" if size is None else f", len {size:,}"


def _no_input(prompt: object = "") -> NoReturn:
    raise RuntimeError("input() is not available. Work with `context` and the variables.")


def _no_breakpoint(*_args: object, **_options: object) -> None:
    print("breakpoint() is not available here; use print().")


def _exit(code: object = None) -> NoReturn:
    raise SystemExit(code)


def _help(*subjects: object) -> None:
    if not subjects:
        print("help() without a subject is not available; use help(something).")
    for subject in subjects:
        try:
            import pydoc  # noqa: PLC0415  saves 7 ms of every start; few cells call it

            print(pydoc.plain(pydoc.render_doc(subject)))
        except Exception:  # sources and docs can be unreadable inside the sandbox
            print(getattr(subject, "__doc__", None) or f"No help found for {subject!r}.")


def patch_builtins() -> None:
    """Replaces builtins that wait for a person."""
    for name, value in {"input": _no_input, "help": _help, "exit": _exit, "quit": _exit}.items():
        setattr(builtins, name, value)
    sys.breakpointhook = _no_breakpoint
