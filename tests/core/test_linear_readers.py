"""Readers of model text take linear time: twice the input takes about twice the time, whatever the text."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm.core.endings import EndFinder, find_end
from rlm.core.observations import cut_middle
from rlm.core.replies import parse_reply

SIZE = 10_000
DOUBLED_SIZE = 40_000
MAX_SECONDS = 0.12  # of this thread; a linear reader takes under 0.03 s
MAX_RATIO = 3.5  # linear is 2, quadratic is 4

PIECES = [
    *("</think>", "<think>", "<think>x</think>", "[THINK]", "[/THINK]", "<thinking ", "</s>", "<", "<|", "<|im_end|>"),
    *(
        "<|channel|>",
        "<|channel|>analysis<|message|>",
        "<|channel|>final<|message|>",
        "<|start|>assistant",
        "<|im_end|>x",
    ),
    *("```", "```\n", "```repl\n", "```python\n", "```x```", "~~~", "~~~x</think>", "````\n```\n", "`", "` "),
    *("FINAL(", "FINAL(\n", "FINAL_VAR(", "FINAL_VAR(x) ", "FINAL(1) and\n", "FINAL(1)\n", "FINAL('", 'FINAL("""'),
    *("(", ")", ")x", "( ", "()", "[", "{", '"', "'", '"""', "'''", '"""\n', "\\", '\\"', "\\\n", "#", ".", "*"),
    *(
        "Output:",
        "Output:\n",
        "the repl output ",
        "user:",
        ">>> ",
        "In [1]:",
        "\r\n",
        "\r",
        "\n",
        " ",
        "\t",
        " \n",
        "a",
    ),
]
PREFIXES = [
    "",
    "FINAL('a' ",
    "```repl\nx = 1\n```\n",
    "```repl\n",
    '```repl\nx = """\n```\n',
    "<think>",
    "x</think>",
]


def read(text: str) -> None:
    parse_reply(text)
    find_end(text, "invented")
    find_end(text, "first_cell")
    cut_middle(text, 1_000)


def stream(text: str) -> None:
    finder = EndFinder("invented")
    for start in range(0, len(text), 40):
        finder.feed(text[start : start + 40])
    finder.close()


def seconds(reader: Callable[[str], None], text: str) -> float:
    start = time.thread_time()
    reader(text)
    return time.thread_time() - start


def assert_linear(reader: Callable[[str], None], unit: str, prefix: str) -> None:
    """Compares the times of an input and of its double; times too short to compare are linear enough."""
    half, whole = prefix + unit * (DOUBLED_SIZE // 2 // len(unit)), prefix + unit * (DOUBLED_SIZE // len(unit))
    shorter = longer = 0.0
    for _attempt in range(3):
        shorter, longer = seconds(reader, half), seconds(reader, whole)
        if longer < 0.05 or longer / shorter < MAX_RATIO:
            return
    pytest.fail(f"{prefix!r} and {unit!r}: {shorter:.3f} s for the half, {longer:.3f} s for the whole")


@pytest.mark.parametrize("prefix", PREFIXES)
def test_hostile_replies_take_linear_time(prefix: str) -> None:
    for unit in PIECES:
        text = prefix + unit * (SIZE // len(unit))
        assert (taken := seconds(read, text)) < MAX_SECONDS, (unit, taken)
        assert (taken := seconds(stream, text)) < MAX_SECONDS, (unit, taken)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=4).map("".join), st.sampled_from(PREFIXES))
def test_doubled_input_doubles_the_time(unit: str, prefix: str) -> None:
    assert_linear(read, unit, prefix)


@pytest.mark.parametrize(
    ("opening", "close"),
    list(itertools.product(["</think>", "FINAL(1) ", "```repl\n"], ["</think>", "FINAL(1)", "\r\n```"])),
)
def test_long_middle_takes_linear_time(opening: str, close: str) -> None:
    for unit in (" ", "`", "\\", "<", ")", "\n", "[THINK"):
        assert seconds(read, opening + unit * SIZE + close) < MAX_SECONDS, unit
