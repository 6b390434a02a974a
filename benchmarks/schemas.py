"""The cost of schemas: validation of one reply, compilation, and leaf calls with a schema beside leaf calls without.

    python -m benchmarks.schemas

``jsonschema`` and ``jsonschema_rs`` are measured if they are installed.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson

import rlm
from rlm.schemas.outline import outline
from rlm.schemas.validator import Validator
from rlm.testing import ScriptedModel

ITEM = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "kind": {"enum": ["payment", "liability", "other"]},
        "amount": {"type": ["number", "null"]},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["name", "kind", "amount", "tags"],
    "additionalProperties": False,
}
LIST = {"type": "array", "items": ITEM}
VALUE = {"name": "Term of payment", "kind": "payment", "amount": 12.5, "tags": ["a", "b", "c"]}
CALLS = 1000
ROUNDS = 5


def best_us(work: Callable[[], object], count: int) -> float:
    """Microseconds of one call, from the fastest of several rounds."""
    rounds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(count):
            work()
        rounds.append(time.perf_counter() - started)
    return min(rounds) / count * 1e6


def make_check(schema: dict[str, Any]) -> Callable[[Any], object]:
    """The check of this package."""
    validator = Validator(schema)
    return lambda value: validator.problems(value, steps=10**7)


def validators() -> dict[str, Callable[[dict[str, Any]], Callable[[Any], object]]]:
    """Makers of a check, by the name of the library."""
    found: dict[str, Callable[[dict[str, Any]], Callable[[Any], object]]] = {"rlm.schemas": make_check}
    for name, make in (
        ("jsonschema", lambda module: lambda schema: module.Draft202012Validator(schema).is_valid),
        ("jsonschema_rs", lambda module: lambda schema: module.validator_for(schema).is_valid),
    ):
        try:
            found[name] = make(importlib.import_module(name))
        except ImportError:
            print(f"{name}: not installed")
    return found


def seconds_of_batch(schema: str) -> float:
    """Seconds of one run whose cell asks ``CALLS`` questions, with a model that answers at once."""
    reply = orjson.dumps(VALUE).decode()
    root = ScriptedModel([f"```repl\nFINAL(len(llm_query_batch(['q'] * {CALLS}, schema={schema})))\n```"])
    leaf = ScriptedModel(lambda _: reply, name="scripted:leaf")
    with rlm.RLM(root, sub_model=leaf, store=None) as engine:
        started = time.perf_counter()
        assert engine.run("q", "c").answer == CALLS
        return time.perf_counter() - started


def main() -> None:
    for name, make in validators().items():
        one_us = best_us(partial(make(ITEM), VALUE), 2000)
        many_us = best_us(partial(make(LIST), [VALUE] * 100), 50)
        print(f"{name:14} one object {one_us:8.1f} us, 100 objects {many_us:9.1f} us")
    print(f"compile        {best_us(lambda: Validator(LIST), 500):8.1f} us")
    print(f"short form     {best_us(lambda: outline(LIST), 500):8.1f} us")
    pairs = [(seconds_of_batch("None"), seconds_of_batch(repr(ITEM))) for _ in range(ROUNDS)]
    plain, typed = (min(times) for times in zip(*pairs, strict=True))
    added_us = (typed - plain) / CALLS * 1e6
    print(f"{CALLS} leaf calls: {plain:.3f} s without a schema, {typed:.3f} s with one: {added_us:.0f} us a call")


if __name__ == "__main__":
    main()
