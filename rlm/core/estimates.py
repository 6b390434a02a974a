"""Estimates of a run's cost before anything is spent: a range from plain assumptions. Only a budget limits the cost.

Low: the root finds the answer with code, without sub-calls. High: sub-calls read every byte of the input once, in pieces of half
the maximum size. The root takes as many turns as in long runs.
"""

from __future__ import annotations

from collections.abc import Callable

from rlm.core.bounds import text_bytes
from rlm.core.cells import PlainValue
from rlm.core.messages import Usage
from rlm.core.plain_repr import plain_repr
from rlm.core.values import frozen

BYTES_PER_TOKEN = 4  # prose and code in Latin script
LOW_TURNS, HIGH_TURNS = 2, 10  # of a node; most published runs took 4 to 12
SYSTEM_TOKENS = 700
TURN_INPUT_TOKENS = 1_000  # added to the conversation by a turn: a reply and an observation
TURN_OUTPUT_TOKENS = 500
LEAF_OUTPUT_TOKENS = 300
PIECE_SHARE = 0.5

PriceOf = Callable[[str, Usage], float | None]


@frozen
class Range:
    """Model calls, tokens and dollars. ``usd`` is None if a price is unknown."""

    calls: int
    tokens: int
    usd: float | None


@frozen
class Estimate:
    """An estimate for one input.

    Attributes:
        size_bytes: the input as text.
        size_tokens: approximate.
        pieces: the sub-prompts that would cover the input.
    """

    size_bytes: int
    size_tokens: int
    pieces: int
    low: Range
    high: Range


def estimate_run(
    context: PlainValue, *, root: str, leaf: str, leaf_prompt_chars: int, max_depth: int, price_of: PriceOf
) -> Estimate:
    """Estimates a run over one input.

    Args:
        root, leaf: full names of the models of the root and of the lowest level.
        leaf_prompt_chars: the maximum length of a sub-prompt.
        max_depth: levels of model calls below the root.
        price_of: dollars for tokens of a model.
    """
    size = _size(context)
    piece = max(1, int(leaf_prompt_chars * PIECE_SHARE))
    pieces = max(1, -(-size // piece)) if size else 0
    low = _turns(LOW_TURNS)
    high = _turns(HIGH_TURNS)
    leaf_calls = pieces if max_depth else 0
    leaves = Usage(
        leaf_calls,
        size // BYTES_PER_TOKEN + 100 * leaf_calls if max_depth else 0,
        output_tokens=leaf_calls * LEAF_OUTPUT_TOKENS,
    )
    node = _turns(LOW_TURNS)
    between = pieces * max(0, max_depth - 1)  # a node for each piece at every level between
    nodes = Usage(node.calls * between, node.input_tokens * between, output_tokens=node.output_tokens * between)
    total = high + nodes + leaves
    return Estimate(
        size,
        size // BYTES_PER_TOKEN,
        pieces,
        Range(low.calls, low.total_tokens, _price(price_of, root, low)),
        Range(
            total.calls, total.total_tokens, _add(_price(price_of, root, high), _price(price_of, leaf, nodes + leaves))
        ),
    )


def _turns(count: int) -> Usage:
    prompts = sum(SYSTEM_TOKENS + turn * TURN_INPUT_TOKENS for turn in range(count))
    return Usage(count, prompts, output_tokens=count * TURN_OUTPUT_TOKENS)


def _size(value: PlainValue) -> int:
    if isinstance(value, str):
        return text_bytes(value)
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, dict):
        return sum(_size(item) for item in value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return sum(_size(item) for item in value)
    return 0 if value is None else len(plain_repr(value))


def _price(price_of: PriceOf, model: str, usage: Usage) -> float | None:
    """Dollars, call by call: some providers charge more per token of a long prompt, and a sum of short ones is not long."""
    if not usage.calls:
        return 0.0
    one = price_of(model, Usage(1, usage.input_tokens // usage.calls, output_tokens=usage.output_tokens // usage.calls))
    return None if one is None else one * usage.calls


def _add(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first + second
