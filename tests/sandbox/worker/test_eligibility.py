"""Eligibility for lookahead: only cells that certainly make one call are excluded."""

from __future__ import annotations

import pytest

from rlm.sandbox.worker.lookahead.eligibility import asks_once


@pytest.mark.parametrize(
    "code",
    [
        "print(llm_query('x'))",
        "replies = llm_query_batch([f'Item {i}' for i in range(10)])\nFINAL(len(replies))",
        "import re\nfound = llm_query('x')\nfor line in found.splitlines():\n    print(re.findall('a', line.strip()))",
        "try:\n    a = llm_query('x')\nexcept Exception as e:\n    print(repr(e))",
        "if len(context) > 10:\n    answer = rlm_query(context[:10])",
    ],
)
def test_single_call_cells_are_not_eligible(code: str) -> None:
    assert asks_once(code)


@pytest.mark.parametrize(
    "code",
    [
        "x = 1",
        "a = llm_query('x')\nb = llm_query('y')",
        "for i in range(3):\n    print(llm_query(str(i)))",
        "out = [llm_query(c) for c in chunks]",
        "while True:\n    llm_query_batch(['x'])",
        "def ask(c):\n    return llm_query(c)\nprint(ask('a'), ask('b'))",
        "print(llm_query('x'))\nclassify(context)",  # a helper of an earlier cell can make calls
        "print(llm_query('x'))\nhelper.classify(context)",
        "print(llm_query('x'))\nhelpers[0](context)",
        "print(llm_query('x'))\nlist(map(classify, chunks))",
        "ask = llm_query\nprint(ask('a'), ask('b'))",
        "print(llm_query('x'))\nexec(helper)",
        "reply = await llm_query_async('x')",
        "llm_query('x'",
    ],
)
def test_other_cells_are_eligible(code: str) -> None:
    assert not asks_once(code)
