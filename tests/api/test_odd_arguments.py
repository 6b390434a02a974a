"""Odd arguments of the public functions: a typed error that names the argument, or the value as it is. Never a hang."""

from __future__ import annotations

import gzip
import io
import math
import sys
from collections import OrderedDict, UserDict, namedtuple
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

import pytest

import rlm
from rlm.core.model_info import ModelInfo
from rlm.options import DECLARED
from rlm.testing import ScriptedModel

HUGE = 10**5000
SHOW_CONTEXT = """
try: shown = repr(context)[:60]
except ValueError: shown = 'digits'
FINAL([type(context).__name__, shown])"""


class Hostile:
    """An object whose methods fail."""

    __hash__ = None  # type: ignore[assignment]

    def _fail(self, *_: object) -> NoReturn:
        raise RuntimeError("hostile")

    __repr__ = __str__ = __bool__ = __eq__ = __float__ = __index__ = __len__ = __iter__ = _fail


class HostileText(str):
    __slots__ = ()
    __repr__ = __str__ = __bool__ = __eq__ = __hash__ = __len__ = __iter__ = Hostile._fail


class HostileList(list[Any]):
    __repr__ = __bool__ = __eq__ = __len__ = __iter__ = Hostile._fail


class HostileDict(dict[str, Any]):
    __repr__ = __bool__ = __eq__ = __len__ = __iter__ = items = keys = Hostile._fail


ODD: dict[str, Any] = {
    "none": None,
    "true": True,
    "nan": math.nan,
    "infinity": math.inf,
    "negative": -1,
    "huge": HUGE,
    "wide": 10**400,
    "half": 1.5,
    "text": "x",
    "empty": "",
    "bytes": b"x",
    "list": [1],
    "dict": {"a": 1},
    "object": Hostile(),
    "decimal": Decimal("sNaN"),
    "fraction": Fraction(1, 3),
    "complex": 1j,
    "function": len,
    "type": int,
    "surrogate": "\ud800",
    "nul": "a\0b",
    "hostile text": HostileText("x"),
    "tuple": (1,),
    "zero": 0,
    "minus zero": -0.0,
}


def model() -> ScriptedModel:
    return ScriptedModel(lambda request: f"```repl\n{SHOW_CONTEXT}\n```")


def fails_typed(act: Callable[[], object]) -> str | None:
    """Runs ``act``; returns the message of its typed error, or None."""
    try:
        act()
    except rlm.RLMError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", ODD)
def test_budget_takes_limits_or_says_what_it_needs(name: str) -> None:
    for limit in ("usd", "tokens", "calls", "seconds", "iterations", "depth", "tool_calls"):
        message = fails_typed(lambda limit=limit: rlm.Budget(**{limit: ODD[name]}))  # type: ignore[misc]
        if name in ("true", "nan", "negative", "huge", "wide", "text", "bytes", "object", "complex", "hostile text"):
            assert message is not None, limit
            assert f"`{limit}`" in message
            assert len(message) < 500


@pytest.mark.parametrize("option", DECLARED)
def test_options_take_values_or_say_what_they_need(option: str) -> None:
    for value in ODD.values():

        def act(value: Any = value) -> None:
            given = {"model": model(), "store": None, option: value}
            with rlm.RLM(**given) as engine:
                assert repr(engine.options)

        if option == "model" and value is None:
            continue  # the default model of this machine
        message = fails_typed(act)
        assert message is None or len(message) < 1_000


def test_secret_of_wrong_type_is_not_quoted() -> None:
    message = fails_typed(lambda: rlm.RLM("openai:x", api_key=b"sk-secret-in-bytes"))  # type: ignore[arg-type]
    assert message is not None
    assert "secret" not in message
    assert "surrogate" not in (
        fails_typed(lambda: rlm.RLM("openai:x", api_key="sk-\ud800-key", store=None)) or "surrogate"
    )


def nested(levels: int, wrap: Callable[[Any], Any]) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = wrap(value)
    return value


def cycle() -> list[Any]:
    items: list[Any] = []
    items.append(items)
    return items


def closed_file() -> io.StringIO:
    file = io.StringIO("x")
    file.close()
    return file


Pair = namedtuple("Pair", "a b")
GOOD: dict[str, tuple[Any, list[str]]] = {
    "huge keys": ({1: HUGE, "1": 2}, ["dict", "digits"]),
    "90 levels": (nested(90, lambda value: [value]), ["list", "[[[[["]),
    "list with hostile methods": (HostileList([1, 2]), ["list", "[1, 2]"]),
    "dict with hostile methods": (HostileDict(a=1), ["dict", "{'a': 1}"]),
    "text with hostile methods": (HostileText("abc"), ["str", "'abc'"]),
    "ordered dict": (OrderedDict(a=1), ["dict", "{'a': 1}"]),
    "named tuple": (Pair(1, 2), ["tuple", "(1, 2)"]),
    "surrogates": ("\ud83d\ude00", ["str", "'\\ud83d\\ude00'"]),
    "bytes in memory": (io.BytesIO(b"\xff"), ["bytes", "b'\\xff'"]),
    "text in memory": (io.StringIO("\ud800"), ["str", "'\\ud800'"]),
    "signalling NaN": ([Decimal("sNaN"), math.nan, -0.0], ["list", "[Decimal('sNaN'), nan, -0.0]"]),
}
BAD: dict[str, Any] = {
    "cycle": cycle(),
    "deep list": nested(100_000, lambda value: [value]),
    "deep dict": nested(20_000, lambda value: {"k": value}),
    "deep tuple": nested(101, lambda value: (value,)),
    "hostile object": Hostile(),
    "hostile item": ["a", Hostile()],
    "other mapping": UserDict(a=1),
    "module": sys,
    "closed file": closed_file(),
    "path with NUL": Path("/a\0b"),
    "path with surrogate": Path("/nonexistent/\ud800"),
}


@pytest.mark.parametrize("name", GOOD)
def test_odd_contexts_arrive(name: str) -> None:
    context, (kind, start) = GOOD[name]
    with rlm.RLM(model(), store="memory") as engine:
        answer: Any = engine.run("q", context).answer
    assert answer[0] == kind
    assert answer[1].startswith(start)


@pytest.mark.parametrize("name", BAD)
def test_unusable_contexts_are_named(name: str) -> None:
    with rlm.RLM(model(), store="memory") as engine:
        with pytest.raises(rlm.RLMError):
            engine.run("q", BAD[name])
        fails_typed(lambda: engine.estimate(BAD[name]))


def test_compressed_file_is_read_as_its_content(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.gz", "wt") as file:
        file.write("the content")
    with rlm.RLM(model(), store="memory") as engine, gzip.open(tmp_path / "a.gz", "rt") as text:
        answer: Any = engine.run("q", text).answer
    assert answer == ["str", "'the content'"]


def test_other_arguments_fail_typed(tmp_path: Path) -> None:
    store = tmp_path / "runs.db"
    with rlm.RLM(model(), store=store) as engine:
        engine.run("q", "c")
        stored = rlm.open_store(store)
        for value in ODD.values():
            for act in (
                engine.resume,
                engine.replay,
                engine.report_html,
                stored.result,
                stored.delete,
                rlm.report_html,
            ):
                if not isinstance(value, str) or len(str.__str__(value)) > 0:
                    assert fails_typed(lambda act=act, value=value: act(value)) is not None  # type: ignore[misc]
            fails_typed(lambda value=value: engine.start("q", "c", sinks=value).result(20))  # type: ignore[misc]
            fails_typed(lambda value=value: engine.start("q", "c", sinks=[value]).result(20))  # type: ignore[misc]
            fails_typed(lambda value=value: engine.start("q", "c", sources=value).result(20))  # type: ignore[misc]
            fails_typed(lambda value=value: engine.run(value, "c"))  # type: ignore[misc]
            if not isinstance(value, Hostile):  # an error of the caller's own iterator is the caller's
                fails_typed(lambda value=value: rlm.load(value))  # type: ignore[misc]
            if not isinstance(value, str):
                fails_typed(lambda value=value: rlm.open_store(value))  # type: ignore[misc]
        assert "path" in (fails_typed(lambda: rlm.open_store("a\0b")) or "")


class OwnModel:
    """A model whose code returns or raises anything."""

    name = "own:model"
    info = ModelInfo(window_tokens=100_000)

    def __init__(self, outcome: Any) -> None:
        self._outcome = outcome

    async def ask(self, request: rlm.Request) -> rlm.Reply:
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome  # type: ignore[no-any-return]

    async def aclose(self) -> None:
        pass


OUTCOMES: dict[str, Any] = {
    **ODD,
    "no text": rlm.Reply(None, rlm.Usage(), "x"),  # type: ignore[arg-type]
    "no usage": rlm.Reply("FINAL(1)", None, "x"),  # type: ignore[arg-type]
    "negative usage": rlm.Reply("FINAL(1)", rlm.Usage(input_tokens=-5), "x"),
    "usage that is no number": rlm.Reply("FINAL(1)", rlm.Usage(output_tokens=math.nan), "x"),  # type: ignore[arg-type]
    "huge usage": rlm.Reply("FINAL(1)", rlm.Usage(output_tokens=HUGE), "x"),
    "endless cost": rlm.Reply("FINAL(1)", rlm.Usage(), "x", cost_usd=math.inf),
    "ValueError": ValueError("x"),
    "hostile error": type("Odd", (Exception,), {"__str__": lambda self: 1 / 0})(),
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_defects_of_users_models_are_typed(name: str) -> None:
    with (
        rlm.RLM(OwnModel(OUTCOMES[name]), store=None, retries=0) as engine,
        pytest.raises(rlm.ModelError, match="own:model"),
    ):
        engine.run("q", "c")


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_exit_in_users_code_stops_no_other_run(error: BaseException) -> None:
    def sink(_: object) -> None:
        raise error

    with rlm.RLM(OwnModel(error), store=None) as engine, pytest.raises(type(error)):
        engine.run("q", "c")
    with rlm.RLM(model(), store=None, sinks=[sink]) as engine:
        assert engine.run("q", "c").status == "complete"
