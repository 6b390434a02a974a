"""Ends of replies that go on after their cells, the same for any pieces in which they stream."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlm.core.endings import CutRule, EndFinder, find_end, thinks_aloud
from rlm.core.messages import Message

CELL = "Let me look.\n```repl\nprint(len(context))\n```\n"
NEXT = "```repl\nprint(2)\n```\n"

INVENTED = [
    "Output: 42\nFINAL(42)",
    "**Output:**\n```\n42\n```\nSo it is 42.\nFINAL(42)",
    "The output is:\n42",
    "REPL output (first lines):\n42",
    "Results:\n- 42",
    "> Observation: 42",
    "\n\n```\n42\n```\n" + NEXT,
    "```output\n42\n```",
    '```json\n{"n": 42}\n```\n' + NEXT,
    "[cell 1.1]\n42",
    "[variables] x (int)",
    "[no output]\n" + NEXT,
    "user: 42\nassistant: I see.",
    "<|im_start|>user\n42",
    ">>> print(1)\n1",
    "Out[1]: 42",
]
LEGITIMATE = [
    "",
    NEXT,
    "\n\nThen the second half:\n" + NEXT,
    "This prints how long the input is.",
    "FINAL_VAR(x)",
    "FINAL(The result: 42\nOutput: none)",
    "Next I will output the lines that matter, with numbers: they help.\n" + NEXT,
    "<think>\nOutput: I guess 42\n```\n42\n```\n</think>\n" + NEXT,
]


@pytest.mark.parametrize("tail", INVENTED)
def test_invented_output_is_cut(tail: str) -> None:
    end = find_end(CELL + tail, "invented")
    assert end == len(CELL) + len(tail) - len(tail.lstrip("\n"))
    prose = "This will tell.\n"
    if not tail.lstrip().startswith("```json"):  # away from a cell, a block of data may be an example
        assert find_end(CELL + prose + tail, "invented") == len(prose) + end


@pytest.mark.parametrize("tail", LEGITIMATE)
def test_cells_prose_and_answers_are_not_cut(tail: str) -> None:
    assert find_end(CELL + tail, "invented") == len(CELL + tail)


def test_before_a_cell_nothing_is_cut() -> None:
    text = "Output: what I want to see\n```text\nan example\n```\n```json\n{}\n```\n"
    assert find_end(text, "invented") == len(text)
    assert find_end(text + CELL, "invented") == len(text + CELL)


FIRST = [
    (CELL + NEXT, len(CELL) - 1),
    ("```json\n{}\n```\n" + CELL + NEXT, len("```json\n{}\n```\n" + CELL) - 1),
    ("```repl\n\n```\n" + CELL + NEXT, len("```repl\n\n```\n" + CELL) - 1),  # an empty one is no cell
    ("<think>" + NEXT + "</think>" + CELL, len("<think>" + NEXT + "</think>" + CELL) - 1),
    (NEXT + "</think>" + CELL, len(NEXT + "</think>" + CELL) - 1),
    ("FINAL(1)\n" + CELL, len("FINAL(1)\n" + CELL)),
    ("````repl\ns = '```'\n```\n````\nmore", len("````repl\ns = '```'\n```\n````")),
    ("```repl\nprint(1)", len("```repl\nprint(1)")),
    ("nothing", len("nothing")),
]


@pytest.mark.parametrize(("text", "end"), FIRST)
def test_the_first_cell_and_no_more(text: str, end: int) -> None:
    assert find_end(text, "first_cell") == end
    assert find_end(text, "never") == len(text)


FENCES = ["```repl\n", "```python\n", "```\n", "````\n", "```text\n", "~~~repl\n", "~~~\n"]
WORDS = [
    "x = 1\n",
    "\n",
    "Output",
    ": 1\n",
    "[cell 1.1]\n",
    "Out[1]:",
    "FINAL(1)\n",
    "FINAL(\n",
    "prose ",
    "prose\n",
    "ä",
]
PARTS = st.sampled_from([*FENCES, *WORDS, "<think>", "<think>\n", "</think>"])


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(PARTS, max_size=25).map("".join), st.lists(st.integers(0, 60), max_size=8), st.booleans())
def test_pieces_end_like_the_whole(text: str, cuts: list[int], first: bool) -> None:
    rule: CutRule = "first_cell" if first else "invented"
    end = find_end(text, rule)
    finder = EndFinder(rule, thinking=thinks_aloud("", [Message("assistant", text)]))
    borders = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    received = 0
    for start, stop in itertools.pairwise(borders):
        received = stop
        if finder.feed(text[start:stop]) is not None:
            break
    last = finder.close()
    assert end == (len(text) if last is None else last)
    assert find_end(text[:end], rule) == end, "what was cut once is not cut again"
    assert received >= end


def test_unopened_thoughts_are_predicted() -> None:
    asked = Message("user", "q")
    aloud, not_aloud = Message("assistant", "hm\n</think>\nyes"), Message("assistant", "<think>hm</think>yes")
    assert thinks_aloud("vllm:Qwen/QwQ-32B", [asked])
    assert thinks_aloud("together:deepseek-ai/DeepSeek-R1", [asked])
    assert not thinks_aloud("openai:gpt-4o", [asked])
    assert thinks_aloud("openai:gpt-4o", [asked, aloud, asked])
    assert not thinks_aloud("vllm:Qwen/QwQ-32B", [asked, not_aloud, asked])


@pytest.mark.timeout(10)
def test_small_pieces_of_long_reply_cost_little() -> None:
    finder = EndFinder("invented")
    for character in CELL + "word " * 100_000 + "\n" + "word \n" * 20_000 + "```repl\n" + "x" * 200_000:
        finder.feed(character)
    assert finder.close() is None
