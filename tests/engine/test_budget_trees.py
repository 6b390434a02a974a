"""Whatever happens in a tree, its limits hold: thousands of random trees with random prices, sizes, failures and stops."""

from __future__ import annotations

import pytest
from budget_trees import World, live

from rlm.core.errors import BudgetExceededError, NoAnswerError, RLMError, RunCancelledError
from rlm.core.ledger import NOTHING
from rlm.core.result import Result
from rlm.core.usage import Spend

TREES = 2_000
SLICES = 20


def check(seed: int, world: World, outcome: Result | RLMError) -> None:
    budget, bill, ledger = world.budget, world.bill, world.run.ledger
    where = f"seed {seed}: {budget}"
    # Spending never exceeds any limit, by the provider's own books, whether or not it told us.
    assert budget.usd is None or bill.usd <= budget.usd, where
    assert budget.tokens is None or bill.tokens <= budget.tokens, where
    assert budget.calls is None or bill.calls <= budget.calls, where
    # Nor by ours, which are never below the provider's where sizes count.
    assert ledger.overruns == 0, where
    if budget.counts_tokens:
        assert ledger.spent.tokens >= bill.tokens, where
    if budget.usd is not None:
        assert ledger.spent.usd >= 0.899 * bill.usd, where  # a cost that the provider reports, here 0.9, wins
    # No hold leaks.
    assert (ledger.held, ledger.holds, ledger.kept) == (NOTHING, 0, NOTHING), where
    assert all(repl.closed for repl in world.sandbox.opened), where
    result = outcome if isinstance(outcome, Result) else outcome.result
    assert result is not None, where
    # The time is kept, with what a second of grace the soft stop needs inside it.
    assert budget.seconds is None or result.elapsed_s <= budget.seconds + 1e-6, where
    # Totals are the sums, and what providers reported, failures included.
    usage = result.usage
    assert usage.total.usage == sum((s.usage for s in usage.by_depth.values()), Spend().usage) == bill.known, where
    assert usage.total.usage == sum((s.usage for s in usage.by_model.values()), Spend().usage), where
    # An answer or a typed error in every case; a limit alone never loses the answer.
    if isinstance(outcome, Result):
        assert outcome.status in ("complete", "partial"), where
        assert outcome.answer is not None, where
        assert (outcome.status == "partial") == (outcome.limit is not None), where
        assert outcome.limit is not None or not outcome.unfinished.refused_calls, where
    elif world.flawless and not isinstance(outcome, RunCancelledError | NoAnswerError):
        assert isinstance(outcome, BudgetExceededError), f"{where}: {outcome!r}"
        assert outcome.limit == "seconds" or bill.calls == 0, f"{where}: {outcome}"


@pytest.mark.parametrize("part", range(SLICES))
def test_limits_hold_in_random_trees(part: int) -> None:
    for seed in range(part, TREES, SLICES):
        world, outcome = live(seed)
        check(seed, world, outcome)
