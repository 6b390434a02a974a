"""The books of a budget, bounds, and what failed attempts cost."""

from __future__ import annotations

import pytest

from rlm.core.billing import is_unbilled
from rlm.core.bounds import least_tokens, most_tokens
from rlm.core.budget import Amounts, Budget, nanos_of
from rlm.core.errors import (
    ConfigurationError,
    EmptyReplyError,
    ModelError,
    ModelTimeoutError,
    ProviderUnavailableError,
    ProviderUnreachableError,
    RateLimitedError,
)
from rlm.core.ids import NodeId
from rlm.core.ledger import NOTHING, Ledger, Need
from rlm.core.messages import Message, Usage

ROOT, CHILD = NodeId("0"), NodeId("0/1.1.1")


def tokens(count: int, node: NodeId | None = None, keep: int = 0) -> Need:
    return Need(Amounts(1, count), node, Amounts(1, keep) if keep else NOTHING)


@pytest.mark.parametrize(
    "wrong",
    [
        {"usd": 0},
        {"usd": float("nan")},
        {"tokens": 0},
        {"calls": 0},
        {"seconds": -1.0},
        {"iterations": 0},
        {"depth": -1},
    ],
)
def test_a_limit_that_allows_nothing_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Budget(**wrong)  # type: ignore[arg-type]


def test_reserved_amounts_cannot_be_reserved_again() -> None:
    ledger = Ledger(Budget(tokens=100))
    turn = ledger.hold(tokens(30, ROOT, keep=20))
    assert ledger.lacking(tokens(50)) is None
    assert ledger.lacking(tokens(51)) == "tokens"
    assert ledger.lacking(tokens(51), ignore_held=True) is None  # worth waiting for
    assert ledger.lacking(tokens(81), ignore_held=True) == "tokens"  # never
    assert ledger.settle(turn, Amounts(1, 10)) is None
    assert ledger.left("tokens") == 70
    assert ledger.lacking(tokens(90, ROOT)) is None  # its own last turn may use what is kept for it
    assert ledger.lacking(tokens(90, CHILD)) == "tokens"
    ledger.keep(ROOT, NOTHING)
    assert ledger.left("tokens") == 90


def test_underestimated_hold_counts_in_full() -> None:
    ledger = Ledger(Budget(tokens=100))
    assert ledger.settle(ledger.hold(tokens(30)), Amounts(1, 31)) == "tokens"
    assert (ledger.overruns, ledger.spent.tokens) == (1, 31)
    free = Ledger(Budget())
    assert free.settle(free.hold(Need(Amounts(calls=1))), Amounts(1, 31)) is None


def test_a_hold_is_settled_once() -> None:
    ledger = Ledger(Budget())
    hold = ledger.hold(tokens(1))
    ledger.settle(hold, NOTHING)
    with pytest.raises(ValueError, match="once"):
        ledger.settle(hold, NOTHING)


def test_dollars_round_up_to_whole_billionths() -> None:
    assert nanos_of(0.1) == 100_000_000
    assert nanos_of(1e-10) == 1
    ledger = Ledger(Budget(usd=0.3))
    for _ in range(3):
        ledger.settle(ledger.hold(Need(Amounts(1, 0, nanos_of(0.1)))), Amounts(1, 0, nanos_of(0.1)))
    assert ledger.left("usd") == 0.0
    assert ledger.uses()["usd"].used == 0.3


@pytest.mark.parametrize("text", ["plain English words", "日本語のテキスト", "🐳" * 10, "", "\x00\x01", "a" * 1000])
def test_the_upper_bound_counts_every_byte(text: str) -> None:
    assert most_tokens([Message("user", text)]) >= len(text.encode())
    assert least_tokens([Message("user", text)]) * 4 <= len(text.encode())


def test_what_failed_attempts_cost() -> None:
    unreached = ProviderUnreachableError("no connection")
    unreached.reached = False
    empty = EmptyReplyError("nothing")
    empty.usage = Usage(1, 10)
    cases: list[tuple[ModelError, bool]] = [
        (RateLimitedError("429"), True),
        (ProviderUnavailableError("500", status=500), True),
        (ModelTimeoutError("504", status=504), True),
        (unreached, True),
        (ModelTimeoutError("no reply"), False),
        (ProviderUnreachableError("broke off"), False),
        (EmptyReplyError("without a report"), False),
        (empty, False),
    ]
    assert [is_unbilled(error) for error, _ in cases] == [free for _, free in cases]
