"""The meter of a run: the most that calls can cost and what they did cost, from prompt bounds, output limits and prices.

If the budget counts calls only, nothing is measured here: a call is a call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from rlm.core.bounds import MESSAGE_TOKENS, most_tokens, text_bytes
from rlm.core.budget import FRAME_SHARE, SIZE_STEPS, Amounts, Budget, CallSizes, nanos_of
from rlm.core.errors import BudgetExceededError, ConfigurationError
from rlm.core.ids import NodeId
from rlm.core.ledger import NOTHING, Ledger, Need
from rlm.core.messages import Message, Request, Usage
from rlm.core.pool import left_of
from rlm.ports import Model

PriceOf = Callable[[str, Usage], float | None]
"""Dollars for the usage of a model, by its full name. None if its price is unknown."""

OUTPUT_SHARE = 0.15  # of a model's window, if the caller sets no limit: prompt and reply have to fit together
MIN_RATE_TOKENS = 16_384  # prices are looked up for prompt sizes of powers of two, from this one
ONE_CALL = Need(Amounts(calls=1))
TWO_CALLS = Need(Amounts(calls=2))  # a reply with a schema can be corrected once
CORRECTION_TOKENS = 4_500  # the request for a correction, with its violations, besides the first reply
LAST_TURN_TOKENS = 600  # added to the conversation by a last turn besides output: the reminder, marks of cut output


class PromptCount:
    """An upper bound on the prompts of one node. Messages that the provider has counted are not bounded again."""

    def __init__(self) -> None:
        self._counted: tuple[Message, ...] = ()
        self._tokens = 0
        self._reply = ""
        self._reply_tokens = 0

    def most_tokens(self, messages: tuple[Message, ...]) -> int:
        """Upper bound on the tokens of a prompt."""
        counted = len(self._counted)
        # Compaction rewrites a conversation. Otherwise it starts with the same objects.
        if counted and len(messages) >= counted and all(a is b for a, b in zip(self._counted, messages, strict=False)):
            new = messages[counted:]
            if new and new[0].text == self._reply:
                return self._tokens + self._reply_tokens + most_tokens(new[1:])
            return self._tokens + most_tokens(new)
        return most_tokens(messages)

    def record(self, messages: tuple[Message, ...], reply: str, usage: Usage) -> None:
        """Record the provider's count of a prompt and of its reply, which the next prompt contains."""
        if usage.input_tokens:
            self._counted, self._tokens = messages, usage.input_tokens
            self._reply = reply
            self._reply_tokens = min(text_bytes(reply), usage.output_tokens) + MESSAGE_TOKENS


class Meter:
    """The meter of one run.

    Args:
        max_output_tokens: the caller's own limit on a reply, or None.
    """

    def __init__(self, budget: Budget, price_of: PriceOf, ledger: Ledger, max_output_tokens: int | None) -> None:
        self._own = budget
        self._budget = budget if ledger.pool is None else budget.tightened(ledger.pool.spec.limits)
        self._price_of = price_of
        self._ledger = ledger
        self._max_output_tokens = max_output_tokens
        steps: tuple[CallSizes, ...] = SIZE_STEPS
        if max_output_tokens is not None:
            steps = tuple(CallSizes(max_output_tokens, step.observation_bytes) for step in SIZE_STEPS)
        self._steps = steps
        self._sizes = steps[0]
        self._rates_by_size: dict[tuple[str, int], tuple[float, float]] = {}  # a price look-up takes 0.1 ms

    @property
    def counts_tokens(self) -> bool:
        """True if the size of a call matters to the run's own budget, or to a shared one."""
        return self._budget.counts_tokens

    def check_prices(self, models: Iterable[str]) -> None:
        """Check that a limit in dollars can be enforced.

        Raises:
            ConfigurationError: a model has no known price.
        """
        if self._budget.usd is None:
            return
        for name in models:
            if self._price_of(name, Usage(1, 1_000, output_tokens=1_000)) is None:
                raise ConfigurationError(
                    f"Budget(usd={self._budget.usd:g}) needs prices, and no price is known for {name}. Give it in dollars for a "
                    f'million tokens, prices={{"{name}": (input, output)}}, or limit tokens or calls instead.'
                )

    def output_limit(self, model: Model) -> int | None:
        """The token limit that a request sets for its reply. None leaves it to the provider."""
        if self._max_output_tokens is not None or not self._budget.counts_tokens:
            return self._max_output_tokens
        return max(16, min(self._sizes.output_tokens, int(model.info.window_tokens * OUTPUT_SHARE)))

    def call_need(self, model: Model, request: Request) -> Need:
        """Budget of a single call: a leaf call or a summary. With a schema it includes one correction."""
        if not self._budget.counts_tokens:
            return ONE_CALL if request.schema is None else TWO_CALLS
        prompt, output = most_tokens(request.messages, request.schema), request.max_output_tokens or 0
        worst = self._worst(model, prompt, output)
        if request.schema is not None:
            worst += self._worst(model, prompt + output + CORRECTION_TOKENS, output)
        return Need(worst)

    def turn_need(
        self, model: Model, node: NodeId, count: PromptCount, messages: tuple[Message, ...], *, last: bool, final: bool
    ) -> Need:
        """Budget of a node's turn, with what is retained for the last turn that can follow it."""
        if not self._budget.counts_tokens:
            return Need(Amounts(calls=1), node, NOTHING if last else Amounts(calls=1), final)
        prompt, output = count.most_tokens(messages), self.output_limit(model) or 0
        worst = self._worst(model, prompt, output)
        return Need(worst, node, NOTHING if last else self._last_turn(model, prompt, output), final)

    def last_turn_after(self, model: Model, usage: Usage) -> Amounts:
        """The most that the last turn can cost after a turn of known usage."""
        if not self._budget.counts_tokens:
            return Amounts(calls=1)
        return self._last_turn(model, usage.input_tokens, usage.output_tokens)

    def fit_sizes(self, model: Model, messages: Sequence[Message]) -> None:
        """Choose output limits that leave most of the budget for work.

        Raises:
            BudgetExceededError: the root's first turn and its last one do not fit. Nothing has been spent.
        """
        pool = self._ledger.pool
        # What other runs have left decides the sizes of calls. Whether a call fits is decided when it is made.
        need, own = Need(NOTHING), Ledger(self._own)
        empty = own if pool is None else Ledger(self._own.tightened(left_of(pool)))
        prompt = most_tokens(messages) if self._budget.counts_tokens else 0
        share = round(1 / FRAME_SHARE)
        for step in self._steps:
            self._sizes = step
            output = self.output_limit(model) or 0
            frame = self._worst(model, prompt, output) + self._last_turn(model, prompt, output)
            need = Need(frame)
            spacious = Amounts(frame.calls, frame.tokens * share, frame.nanos * share)
            if empty.lacking(Need(spacious)) is None:
                return
        if (limit := own.lacking(need)) is not None:
            least = need.worst
            figure = {"usd": f"${least.usd:.4g}", "tokens": f"{least.tokens:,}", "calls": str(least.calls)}[limit]
            raise BudgetExceededError(
                f"The budget is too small: one turn of {model.name} and its answer can take {limit} {figure}. Nothing was "
                f"spent. Allow at least Budget({limit}={figure.lstrip('$').replace(',', '')}), and more for the work itself.",
                limit=limit,
            )

    def affordable_bytes(self, need_for: Callable[[int], Need], whole_bytes: int) -> int | None:
        """Bytes of unseen output that a last turn can pay for, or None if all of it fits."""
        size = whole_bytes
        while size > self._sizes.observation_bytes and self._ledger.lacking(need_for(whole_bytes - size)) is not None:
            size = max(size // 2, self._sizes.observation_bytes)
        return None if size >= whole_bytes else size

    def last_turn_need(
        self, model: Model, node: NodeId, count: PromptCount, messages: tuple[Message, ...]
    ) -> Callable[[int], Need]:
        """Budget of the last turn, as a function of the bytes left out of the newest message."""
        prompt = count.most_tokens(messages) if self._budget.counts_tokens else 0

        def need_for(left_out: int) -> Need:
            worst = self._worst(model, prompt + LAST_TURN_TOKENS - left_out, self.output_limit(model) or 0)
            return Need(worst, node)

        return need_for

    def cost(self, model: str, usage: Usage, reported_usd: float | None = None) -> tuple[float | None, Amounts]:
        """Cost of a usage: in dollars, if the price is known, and as counted against the budget."""
        usd = reported_usd if reported_usd is not None else self._price_of(model, usage)
        return usd, Amounts(max(1, usage.calls), usage.total_tokens, nanos_of(usd or 0.0))

    def _last_turn(self, model: Model, prompt: int, reply: int) -> Amounts:
        conversation = prompt + reply + 2 * MESSAGE_TOKENS + most_tokens(())
        output = self.output_limit(model) or 0
        return self._worst(model, conversation + self._sizes.observation_bytes + LAST_TURN_TOKENS, output)

    def _worst(self, model: Model, prompt: int, output: int) -> Amounts:
        if self._budget.usd is None:
            return Amounts(1, prompt + output, 0)
        input_rate, output_rate = self._rates(model.name, max(MIN_RATE_TOKENS, 1 << prompt.bit_length()))
        # Two billionths cover the rounding of floats.
        return Amounts(1, prompt + output, nanos_of(input_rate * prompt + output_rate * output) + 2)

    def _rates(self, model: str, prompt: int) -> tuple[float, float]:
        """Highest dollars per token of a prompt up to this size, and of its reply. Long prompts never cost less per token."""
        rates = self._rates_by_size.get((model, prompt))
        if rates is None:
            plain = self._price_of(model, Usage(1, prompt)) or 0.0
            # Writing to a cache costs more than plain input on some providers.
            cache_write = self._price_of(model, Usage(1, prompt, 0, prompt)) or 0.0
            both = self._price_of(model, Usage(1, prompt, output_tokens=prompt)) or 0.0
            rates = (max(plain, cache_write) / prompt, (both - plain) / prompt)
            self._rates_by_size[model, prompt] = rates
        return rates
