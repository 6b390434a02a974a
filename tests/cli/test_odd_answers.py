"""Odd answers at every border: the result, the store, replay, pages, exports and the command line, in one process.

Each answer arrives as it is, or as text that says what it was, or its cell fails and the run goes on.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import NoReturn

import pytest

import rlm
from rlm.cli.main import main
from rlm.cli.running import report
from rlm.core.messages import Request
from rlm.core.plain_repr import plain_repr
from rlm.testing import ScriptedModel
from rlm.views.plain import PlainView

FALLBACK = "the cell failed"
HOSTILE = """
class Hostile({base}):
    def __str__(self): raise RuntimeError('no text')
    def __repr__(self): raise SystemExit
    def __len__(self): return -1
    def __iter__(self): raise KeyboardInterrupt
    def __eq__(self, other): 1 / 0
    def __hash__(self): return 10**30
FINAL(Hostile({value}))"""
ANSWERS: dict[str, object] = {
    "FINAL(10**4300)": 10**4300,
    "v = -(7**9000)\nFINAL_VAR('v')": -(7**9000),
    "FINAL({10**5000: [{10**6000}]})": {10**5000: [{10**6000}]},
    "FINAL([float('nan'), float('-inf'), -0.0])": [float("nan"), float("-inf"), -0.0],
    "FINAL('\\ud83d\\ude00 \\ud800')": "\ud83d\ude00 \ud800",
    "FINAL('a\\0\\x1b[2J\\u202eb')": "a\0\x1b[2J\u202eb",
    "FINAL({1: 'a', '1': 'b', None: 'c', 'None': 'd'})": {1: "a", "1": "b", None: "c", "None": "d"},
    "FINAL({'$': 'tuple', 'v': [1]})": {"$": "tuple", "v": [1]},
    "import decimal\nFINAL(decimal.Decimal('sNaN'))": Decimal("sNaN"),
    "a = []\na.append(a)\nFINAL(a)": ["[[...]]"],
    "import enum\nFINAL(enum.Enum('E', 'A').A)": "E.A",
    "FINAL('</script><!--')": "</script><!--",
    HOSTILE.format(base="list", value="[1]"): [1],
    HOSTILE.format(base="", value=""): "<Hostile object whose str() raised RuntimeError>",
    "class M(type):\n    __name__ = 5\nclass H(metaclass=M): pass\nx = H()\nFINAL(1)": 1,
    "globals()['x' * 50_000] = globals()['\\ud800\\n'] = 1\nFINAL(2)": 2,
    "raise type('E\\x1b[2J' + 'x' * 50_000, (Exception,), {'__str__': lambda self: 1 / 0})": FALLBACK,
    "import sys\nsys.stdout.buffer.write(b'\\xff\\0')\nsys.stdout = None\nprint('x')\nFINAL(3)": 3,
    "raise SystemExit([10**5000])": FALLBACK,
    "FINAL(llm_query('x', context=[10**5000, {10**5000: 1}, float('nan')]))": "a reply",
    "FINAL(llm_query_batch(['a', 5, None, b'x']))": FALLBACK,
    "FINAL(llm_query('x', schema={'properties': 5}))": FALLBACK,
    "FINAL(llm_query('\\ud800', model='\\x1b[2J' * 5_000))": FALLBACK,
    "class S(str):\n    def __len__(self): return 5\ncite(S('x' * 100_000), S('y'))\nFINAL(4)": FALLBACK,
    "s = {'type': 'array'}\nfor _ in range(150): s = {'items': s}\nFINAL(llm_query('x', schema=s))": FALLBACK,
}
"""Cells with their answers."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("odd") / "runs.db"


def script(request: Request) -> str:
    if request.role != "node":
        return "a reply"
    code = request.messages[1].text.partition("#code\n")[2].partition("\n#end")[0]
    is_first = not any(message.role == "assistant" for message in request.messages)
    return f"```repl\n{code if is_first else f'FINAL({FALLBACK!r})'}\n```"


@contextmanager
def captured() -> Iterator[io.BytesIO]:
    """Standard output as bytes."""
    before, data = sys.stdout, io.BytesIO()
    sys.stdout = wrapper = io.TextIOWrapper(data, encoding="utf-8", write_through=True)
    try:
        yield data
    finally:
        sys.stdout = before
        wrapper.detach()


def printed(*tokens: str) -> str:
    with captured() as data:
        assert main(tokens) == 0
    return data.getvalue().decode()


def refuse(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} is not JSON")


@pytest.mark.parametrize("code", ANSWERS, ids=map(str, range(len(ANSWERS))))
def test_odd_answer_passes_every_border(code: str, store: Path) -> None:
    expected = ANSWERS[code]
    stream = io.StringIO()
    with rlm.RLM(ScriptedModel(script), store=store, cell_seconds=30) as engine, PlainView(stream) as view:
        handle = engine.start(f"Question\n#code\n{code}\n#end", "the context", sinks=[view])
        result = handle.result()
        run = result.run_id
        again = engine.replay(run, "the context")
        pages = [rlm.report_html(result), engine.report_html(run), printed("export", run, "--store", str(store))]
        with captured() as answer:
            report(result, engine.model_names, json_output=False, quiet=True)
        with captured() as as_json:
            report(result, engine.model_names, json_output=True, quiet=True)
    with rlm.open_store(store) as stored:
        recorded = stored.result(run)
    for found in (result, recorded, again):
        assert plain_repr(found.answer) == plain_repr(expected)
        assert str(found)
        assert repr(found)
    for page in pages:
        assert page.count("</script") == pages[0].count("</script") == 2
        assert "\x1b" not in page
    assert "\x1b" not in stream.getvalue()
    assert answer.getvalue().endswith(b"\n")
    json.loads(as_json.getvalue(), parse_constant=refuse)
    for line in printed("export", run, "--format", "jsonl", "--store", str(store)).splitlines():
        json.loads(line, parse_constant=refuse)
    for flags in ((), ("--full",)):
        shown = printed("show", run, *flags, "--store", str(store))
        assert "\x1b" not in shown


def test_digits_of_huge_answer_are_printed(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with rlm.RLM(ScriptedModel(["```repl\nFINAL(10**4300)\n```"]), store=None) as engine:
        result = engine.run("q", "c")
        report(result, engine.model_names, json_output=False, quiet=True)
        report(result, engine.model_names, json_output=True, quiet=True)
    plain, as_json = capfdbinary.readouterr().out.splitlines()
    digits = "1" + "0" * 4300
    assert json.loads(plain) == digits
    assert json.loads(as_json)["answer"] == digits
