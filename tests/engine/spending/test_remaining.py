"""The remaining amounts of a run's limits, for ``budget()`` and for prompts."""

from __future__ import annotations

from rlm.core.budget import Amounts, Budget
from rlm.core.ledger import Ledger, Need
from rlm.engine.spending.limits import LOW_SHARE, Remaining
from rlm.engine.spending.stop import Deadline, Stop
from rlm.testing import VirtualClock


def test_budget_shows_none_without_a_limit() -> None:
    budget = Budget(tokens=1_000)
    ledger = Ledger(budget)
    ledger.hold(Need(Amounts(1, 300)))
    left = Remaining(budget, ledger, None).as_dict(5)
    assert left == {"usd": None, "tokens": 700, "calls": None, "seconds": None, "iterations": 5}


def test_seconds_left_follow_the_deadline() -> None:
    async def main() -> float | None:
        budget = Budget(seconds=60)
        deadline = Deadline(Stop(), 60)
        deadline.start()
        return Remaining(budget, Ledger(budget), deadline).as_dict(0)["seconds"]

    assert VirtualClock().run(main()) == 60


def test_notice_names_only_low_limits() -> None:
    budget = Budget(tokens=1_000, calls=100)
    ledger = Ledger(budget)
    remaining = Remaining(budget, ledger, None)
    hold = ledger.hold(Need(Amounts(1, int(1_000 * (1 - LOW_SHARE)))))
    assert remaining.notice() == ""
    ledger.settle(hold, hold.worst)
    ledger.hold(Need(Amounts(1, 1)))
    assert "tokens" in remaining.notice()
    assert "calls" not in remaining.notice()
    assert Remaining(Budget(), Ledger(Budget()), None).notice() == ""


def test_reopening_notice_counts_all_seconds_as_left() -> None:
    budget = Budget(seconds=60, calls=10)
    notice = Remaining(budget, Ledger(budget), Deadline(Stop(), 60)).notice_at_reopening()
    assert "60 seconds" in notice
    assert "10 calls" in notice
