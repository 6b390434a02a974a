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
from ..failures import AnswerGiven, BudgetExceeded, FailedCall, LLMQueryError
from .reports import size_of

MAX_LISTED = 1000
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
        # Programs use this name for data of their own. Once assigned, it is theirs and is never restored.
        self._budget = queries.budget
        namespace.update(self._names, answer=self._answer, budget=self._budget)

    def set_context(self, context: object) -> None:
        self._context = self._namespace["context"] = context

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

    def final(self, value: object) -> NoReturn:
        """Gives the answer, of any size and type, and ends the cell."""
        if asyncio.iscoroutine(value):
            value.close()
            raise TypeError("FINAL was given a coroutine that was never awaited: write FINAL(await ...)")
        if value is self._answer and self._answer["content"] != "":
            value = self._answer["content"]
        if self._given is _NOTHING:
            self._given = value
        raise AnswerGiven

    def final_var(self, name: object) -> NoReturn:
        """Gives the variable with this name as the answer, and ends the cell."""
        if not isinstance(name, str):
            self.final(name)
        key = name.strip().strip("\"'`").strip()
        if key in self._namespace:
            self.final(self._namespace[key])
        if not key.isidentifier() or any(value is name for value in self._namespace.values()):
            self.final(name)  # the value itself, not a name
        raise NameError(f"FINAL_VAR: there is no variable named {key!r}. Defined: {self._names_defined()}")

    def submit(self, *values: object, **fields: object) -> NoReturn:
        """Gives the answer as FINAL does. Keyword arguments become a dict."""
        if len(values) + bool(fields) != 1:
            raise TypeError("SUBMIT takes one value, or fields by name: SUBMIT(x) or SUBMIT(a=1, b=2)")
        self.final(values[0] if values else fields)

    def show_vars(self) -> str:
        """Lists names, types and sizes of all variables."""
        lines = [f"context: {type(self._namespace.get('context')).__name__}{_sized(self._namespace.get('context'))}"]
        lines += [f"{name}: {type(value).__name__}{_sized(value)}" for name, value in self.variables()]
        return Listing("\n".join(lines))

    def _names_defined(self) -> str:
        return ", ".join(name for name, _ in self.variables()[:50]) or "none"

    def variables(self) -> list[tuple[str, object]]:
        """Variables defined by code, without scaffold names, modules and names that start with an underscore."""
        scaffold = {**self._names, "context": self._context, "answer": self._answer, "budget": self._budget}
        return [
            (name, value)
            for name, value in list(self._namespace.items())
            if type(name) is str
            and not name.startswith("_")
            and not isinstance(value, types.ModuleType)
            and scaffold.get(name, _NOTHING) is not value
        ][:MAX_LISTED]

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
