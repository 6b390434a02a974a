"""The meter: bounds on calls and turns, output limits, prices, and their agreement with what calls cost."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rlm.core.bounds import MESSAGE_TOKENS, most_tokens
from rlm.core.budget import FRAME_SHARE, SIZE_STEPS, Amounts, Budget
from rlm.core.errors import BudgetExceededError, ConfigurationError
from rlm.core.ids import ROOT
from rlm.core.ledger import NOTHING, Ledger, Need
from rlm.core.messages import Message, Request, Usage
from rlm.engine.spending.meter import OUTPUT_SHARE, Meter, PromptCount
from rlm.testing import ScriptedModel

MODEL = ScriptedModel([], window_tokens=100_000)
SYSTEM, QUESTION = Message("system", "s" * 100), Message("user", "q" * 50)
INPUT, CACHE_WRITE, OUTPUT = 1e-6, 1.25e-6, 5e-6  # dollars a token


def price(_: str, usage: Usage) -> float:
    plain = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
    cached = usage.cached_tokens * INPUT * 0.1
    return plain * INPUT + cached + usage.cache_write_tokens * CACHE_WRITE + usage.output_tokens * OUTPUT


def meter_of(budget: Budget, max_output_tokens: int | None = None) -> Meter:
    return Meter(budget, price, Ledger(budget), max_output_tokens)


def turn(meter: Meter, count: PromptCount, messages: tuple[Message, ...], *, last: bool = False) -> Need:
    return meter.turn_need(MODEL, ROOT, count, messages, last=last, final=False)


def test_without_token_limits_a_call_is_a_call() -> None:
    meter = meter_of(Budget(calls=10))
    request = Request((QUESTION,))
    assert meter.call_need(MODEL, request).worst == Amounts(calls=1)
    assert meter.output_limit(MODEL) is None
    need = turn(meter, PromptCount(), (SYSTEM, QUESTION))
    assert (need.worst, need.keep) == (Amounts(calls=1), Amounts(calls=1))
    assert turn(meter, PromptCount(), (SYSTEM, QUESTION), last=True).keep == NOTHING


def test_output_limit_fits_the_window() -> None:
    meter = meter_of(Budget(tokens=1_000_000))
    assert meter.output_limit(MODEL) == SIZE_STEPS[0].output_tokens
    assert meter.output_limit(ScriptedModel([], window_tokens=1_000)) == int(1_000 * OUTPUT_SHARE)
    assert meter_of(Budget(tokens=1_000_000), 77).output_limit(MODEL) == 77


@settings(deadline=None, max_examples=60)
@example(prompt="p" * 200, share=1.0, cached=0.0, written=1.0, output=500)
@given(
    prompt=st.text(max_size=200),
    share=st.floats(0.01, 1.0),
    cached=st.floats(0.0, 1.0),
    written=st.floats(0.0, 1.0),
    output=st.integers(0, 500),
)
def test_no_usage_costs_more_than_the_reservation(
    prompt: str, share: float, cached: float, written: float, output: int
) -> None:
    meter = meter_of(Budget(usd=1.0), 500)
    request = Request((Message("user", prompt),), max_output_tokens=500)
    worst = meter.call_need(MODEL, request).worst
    tokens = int(most_tokens(request.messages) * share)
    from_cache = int(tokens * cached)
    usage = Usage(1, tokens, from_cache, int((tokens - from_cache) * written), output)
    usd, cost = meter.cost(MODEL.name, usage)
    assert usd == pytest.approx(price("", usage))
    assert cost.tokens <= worst.tokens
    assert cost.nanos <= worst.nanos


def test_reported_dollars_replace_the_price() -> None:
    usd, cost = meter_of(Budget(usd=1.0)).cost(MODEL.name, Usage(1, 1_000), reported_usd=0.5)
    assert (usd, cost) == (0.5, Amounts(1, 1_000, 500_000_000))


def test_unknown_price_is_counted_as_zero_dollars() -> None:
    meter = Meter(Budget(tokens=10), lambda *_: None, Ledger(Budget(tokens=10)), None)
    assert meter.cost("m", Usage(1, 7)) == (None, Amounts(1, 7))


def test_limit_in_dollars_needs_a_price() -> None:
    def price_of(name: str, usage: Usage) -> float | None:
        return None if name == "unpriced" else 1.0

    Meter(Budget(tokens=1), price_of, Ledger(Budget(tokens=1)), None).check_prices(["unpriced"])
    meter = Meter(Budget(usd=1), price_of, Ledger(Budget(usd=1)), None)
    meter.check_prices(["priced"])
    with pytest.raises(ConfigurationError, match=r"for unpriced.*prices="):
        meter.check_prices(["priced", "unpriced"])


def test_counted_messages_are_not_bounded_again() -> None:
    count = PromptCount()
    first = (SYSTEM, QUESTION)
    reply = Message("assistant", "r" * 400)
    new = Message("user", "output")
    assert count.most_tokens(first) == most_tokens(first)
    count.record(first, reply.text, Usage(1, 60, output_tokens=100))
    bound = count.most_tokens((*first, reply, new))
    assert bound == 60 + 100 + MESSAGE_TOKENS + most_tokens((new,))
    assert bound < most_tokens((*first, reply, new))


def test_replaced_reply_is_bounded_by_its_own_text() -> None:
    """The message after the counted ones is not the recorded reply, as when a truncated reply is annotated."""
    count = PromptCount()
    count.record((SYSTEM, QUESTION), "r", Usage(1, 60, output_tokens=1))
    other = Message("assistant", "x" * 500)
    assert count.most_tokens((SYSTEM, QUESTION, other)) == 60 + most_tokens((other,))


def test_rewritten_conversation_is_bounded_again() -> None:
    count = PromptCount()
    count.record((SYSTEM, QUESTION), "r", Usage(1, 60, output_tokens=1))
    rewritten = (SYSTEM, Message("user", "summary"), QUESTION)
    assert count.most_tokens(rewritten) == most_tokens(rewritten)


def test_last_turn_fits_what_the_turn_before_retained() -> None:
    """The conversation grows by a whole reply and by the smallest output that a last turn shows."""
    budget = Budget(tokens=50_000)
    meter = meter_of(budget)
    messages = (SYSTEM, QUESTION)
    meter.fit_sizes(MODEL, messages)
    retained = turn(meter, PromptCount(), messages).keep
    output = meter.output_limit(MODEL) or 0
    least_shown = next(step.observation_bytes for step in SIZE_STEPS if step.output_tokens == output)
    grown = (*messages, Message("assistant", "r" * output), Message("user", "o" * least_shown))
    last = meter.last_turn_need(MODEL, ROOT, PromptCount(), grown)(0)
    assert last.worst.tokens <= retained.tokens


@pytest.mark.parametrize("tokens", [10_000, 20_000, 60_000, 1_000_000])
def test_output_limits_leave_most_of_the_budget(tokens: int) -> None:
    meter = meter_of(Budget(tokens=tokens))
    meter.fit_sizes(MODEL, (SYSTEM, QUESTION))
    need = turn(meter, PromptCount(), (SYSTEM, QUESTION))
    frame = need.worst.tokens + need.keep.tokens
    smallest = meter.output_limit(MODEL) == SIZE_STEPS[-1].output_tokens
    assert frame <= tokens * FRAME_SHARE or smallest


def test_too_small_budget_is_refused_with_the_least() -> None:
    with pytest.raises(BudgetExceededError, match=r"Budget\(tokens=(\d+)\)") as raised:
        meter_of(Budget(tokens=100)).fit_sizes(MODEL, (SYSTEM, QUESTION))
    assert raised.value.limit == "tokens"
    least = int(str(raised.value).split("Budget(tokens=")[1].split(")")[0])
    meter_of(Budget(tokens=least)).fit_sizes(MODEL, (SYSTEM, QUESTION))
    with pytest.raises(BudgetExceededError):
        meter_of(Budget(tokens=least - 1)).fit_sizes(MODEL, (SYSTEM, QUESTION))


def test_affordable_output_shrinks_with_the_budget() -> None:
    shown = []
    for tokens in (200_000, 40_000, 10_000):
        meter = meter_of(Budget(tokens=tokens), 100)
        messages = (SYSTEM, QUESTION, Message("assistant", "r"), Message("user", "o" * 60_000))
        need_for = meter.last_turn_need(MODEL, ROOT, PromptCount(), messages)
        shown.append(meter.affordable_bytes(need_for, 60_000))
    assert shown[0] is None
    assert shown[1] is not None
    assert shown[2] is not None
    assert 60_000 > shown[1] > shown[2] >= SIZE_STEPS[0].observation_bytes


def test_calls_with_schema_reserve_one_correction() -> None:
    typed = Request((QUESTION,), schema={"type": "integer"}, max_output_tokens=100)
    plain = Request((QUESTION,), max_output_tokens=100)
    by_calls, by_tokens = meter_of(Budget(calls=10)), meter_of(Budget(tokens=100_000), 100)
    assert by_calls.call_need(MODEL, typed).worst == Amounts(calls=2)
    assert by_calls.call_need(MODEL, plain).worst == Amounts(calls=1)
    assert by_tokens.call_need(MODEL, typed).worst.tokens > 2 * by_tokens.call_need(MODEL, plain).worst.tokens + 100
