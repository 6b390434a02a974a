"""Every shape of a reply that models are known to write, and the traps in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm.core.replies import FinalText, FinalVariable, parse_reply

FINALS = [
    ("plain", "FINAL(42)", FinalText("42")),
    ("after prose", "I am sure now.\nFINAL(42)", FinalText("42")),
    ("indented and bold", "  **FINAL(42)**", FinalText("42")),
    ("parentheses inside", "FINAL(f(x) = (a + b) * (c))", FinalText("f(x) = (a + b) * (c)")),
    ("double quotes", 'FINAL("yes, it is")', FinalText("yes, it is")),
    ("single quotes and a parenthesis", "FINAL('a ) b')", FinalText("a ) b")),
    ("triple quotes over lines", 'FINAL("""one\ntwo (2\n""")', FinalText("one\ntwo (2")),
    ("several lines", "FINAL(one\ntwo (and a half)\nthree)", FinalText("one\ntwo (and a half)\nthree")),
    ("apostrophe", "FINAL(It's the whale (a sperm whale))", FinalText("It's the whale (a sperm whale)")),
    ("quote that opens only", 'FINAL("Moby Dick" by Melville)', FinalText('"Moby Dick" by Melville')),
    ("emoticon", "FINAL(good :) is 5)", FinalText("good :) is 5")),
    ("opening parenthesis too many", "FINAL(sad :( but 5)", FinalText("sad :( but 5")),
    ("trailing full stop", "FINAL(42).", FinalText("42")),
    ("the first of two", "FINAL(1)\nFINAL(2)", FinalText("1")),
    ("a block inside", 'FINAL(\n```json\n{"a": 1}\n```\n)', FinalText('```json\n{"a": 1}\n```')),
    ("bare name", "FINAL(result)", FinalText("result", name="result")),
    ("quoted name is text", 'FINAL("result")', FinalText("result")),
    ("space before the parenthesis", "FINAL (42)", FinalText("42")),
    ("variable", "FINAL_VAR(result)", FinalVariable("result")),
    ("variable in quotes", "FINAL_VAR('result')", FinalVariable("result")),
    ("variable in backticks", "FINAL_VAR(`result`)", FinalVariable("result")),
    ("not a name at all", "FINAL_VAR(The answer is 5)", FinalVariable("The answer is 5")),
    ("answer after a thought", "<think>FINAL(1)</think>FINAL(2)", FinalText("2")),
    ("thought without its opening", "FINAL(1) hm\nFINAL(1)\n</think>\nFINAL(2)", FinalText("2")),
    ("after a cell", "```repl\nx = 1\n```\nFINAL_VAR(x)", FinalVariable("x")),
    # traps
    ("mention in a sentence", "I will call FINAL(42) later", None),
    ("mention that begins a line", "FINAL(42) is what I would say, but first I look", None),
    ("mention, and a later line that ends in a parenthesis", "FINAL(x) comes later.\nNow look (again)", None),
    ("inside a thought", "<think>\nFINAL(42)\n</think>\nLet me look.", None),
    ("inside an unclosed thought", "<think>\nFINAL(42)", None),
    ("inside a cell", "```repl\nFINAL(42)\n```", None),
    ("inside another block", "```text\nFINAL(42)\n```", None),
    ("inline code in a sentence", "Use `FINAL(42)` to answer", None),
    ("placeholder", "FINAL(...)", None),
    ("empty", "FINAL()", None),
    ("never closed", "FINAL(42", None),
    ("other words", "FINALLY(42)\nFINAL_ANSWER(42)", None),
]


@pytest.mark.parametrize(("text", "expected"), [row[1:] for row in FINALS], ids=[row[0] for row in FINALS])
def test_answers_in_text(text: str, expected: object) -> None:
    assert parse_reply(text).final == expected


CELLS = [
    ("repl", "```repl\nx = 1\n```", ("x = 1",)),
    ("two", "```repl\na\n```\ntext\n```repl\nb\n```", ("a", "b")),
    ("python instead", "```python\nx = 1\n```", ("x = 1",)),
    ("upper case", "```Python\nx\n```", ("x",)),
    ("repl wins over python", "```python\nshown\n```\n```repl\nrun\n```", ("run",)),
    ("unmarked", "```\nx = 1\n```", ("x = 1",)),
    ("unmarked beside an answer", "```\nquote\n```\nFINAL(1)", ()),
    ("other languages are not run", "```json\n{}\n```\n```bash\nls\n```", ()),
    ("unclosed", "```repl\nx = 1\ny = 2", ("x = 1\ny = 2",)),
    ("tildes", "~~~repl\nx\n~~~", ("x",)),
    ("longer fence around a fence", '````repl\ns = """\n```\n"""\n````', ('s = """\n```\n"""',)),
    ("repl inside python", "```python\n```repl\nx = 1\n```\n```", ("x = 1",)),
    ("indented", "  ```repl\nx\n  ```", ("x",)),
    ("empty", "```repl\n\n```", ()),
    ("inside a thought", "<think>\n```repl\nx\n```\n</think>\nhm", ()),
    ("thought tags inside a cell are code", '```repl\nt = "</think>"\n```', ('t = "</think>"',)),
    ("inline fence is prose", "```repl x``` is how", ()),
    ("windows line ends", "```repl\r\nx = 1\r\n```\r\n", ("x = 1",)),
]


@pytest.mark.parametrize(("text", "expected"), [row[1:] for row in CELLS], ids=[row[0] for row in CELLS])
def test_cells(text: str, expected: tuple[str, ...]) -> None:
    assert parse_reply(text).cells == expected


@given(st.text(st.sampled_from(list("`~FINAL_VR()repl\n\"' <>/think*.x")), max_size=200))
def test_any_text_is_read_to_its_end(text: str) -> None:
    parsed = parse_reply(text)
    assert all(cell.strip() for cell in parsed.cells)


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "line", ["FINAL(\n", "```repl\n", "```python\n", "<think>x", "FINAL('\n", "```x```\n", "(((", "))"]
)
def test_strange_replies_take_no_time(line: str) -> None:
    parse_reply("start\n" + line * 50_000)
    parse_reply(line * 50_000)


def retained(text: str) -> str:
    return text[: parse_reply(text).retained_chars]


def test_text_after_last_cell_is_dropped() -> None:
    cell = "Let me look.\n```repl\nprint(1)\n```"
    assert retained(f"{cell}\nOutput:\n1\n\nSo the answer is 1.") == cell
    assert retained(cell) == cell
    two = f"{cell}\nThen:\n```repl\nprint(2)\n```"
    assert retained(f"{two}\n[variables] x (int)\n2") == two


def test_answer_after_cells_is_retained() -> None:
    text = "```repl\nx = 1\n```\nFINAL_VAR(x)"
    assert retained(text) == text
    assert retained("no cell, no answer") == "no cell, no answer"
    assert retained("```repl\nprint(1)") == "```repl\nprint(1)"
