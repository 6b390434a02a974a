"""What calls of a run may cost at most, and what they did cost: bounds on prompts, output limits, prices.

Where the budget counts calls only, nothing here is measured: a call is a call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from rlm.core.bounds import MESSAGE_TOKENS, most_tokens, text_bytes
from rlm.core.budget import FRAME_SHARE, SIZE_STEPS, Amounts, Budget, CallSizes, nanos_of
from rlm.core.errors import BudgetExceededError, ConfigurationError
from rlm.core.ids import NodeId
from rlm.core.ledger import NOTHING, Ledger, Need
from rlm.core.messages import Message, Request, Usage
from rlm.ports import Model

PriceOf = Callable[[str, Usage], float | None]
"""Dollars for some tokens of a model, by its full name; None where no price is known."""

OUTPUT_SHARE = 0.15  # of a model's window, where we set the limit: prompt and reply must fit together
MIN_RATE_TOKENS = 16_384  # prices are looked up for sizes of powers of two, from this one
ONE_CALL = Need(Amounts(calls=1))
LAST_WORDS_TOKENS = 600  # what a last turn adds to the conversation besides output: the reminder, marks of what was cut


class PromptCount:
    """The upper bound of one node's prompts. What the provider has counted once need not be bounded again."""

    def __init__(self) -> None:
        self._counted: tuple[Message, ...] = ()
        self._tokens = 0
        self._reply = ""
        self._reply_tokens = 0

    def most_tokens(self, messages: tuple[Message, ...]) -> int:
        known = len(self._counted)
        # Compaction writes a conversation anew; else the same objects stand at its beginning.
        if known and len(messages) >= known and all(a is b for a, b in zip(self._counted, messages, strict=False)):
            follows = messages[known:]
            if follows and follows[0].content == self._reply:
                return self._tokens + self._reply_tokens + most_tokens(follows[1:])
            return self._tokens + most_tokens(follows)
        return most_tokens(messages)

    def counted(self, messages: tuple[Message, ...], reply: str, usage: Usage) -> None:
        """The provider's count of a prompt and of the reply to it, which the next prompt will hold."""
        if usage.input_tokens:
            self._counted, self._tokens = messages, usage.input_tokens
            self._reply = reply
            self._reply_tokens = min(text_bytes(reply), usage.output_tokens) + MESSAGE_TOKENS


class Meter:
    """The measures of one run.

    Args:
        max_output_tokens: the caller's own limit of a reply, or None.
    """

    def __init__(self, budget: Budget, price_of: PriceOf, ledger: Ledger, max_output_tokens: int | None) -> None:
        self._budget = budget
        self._price_of = price_of
        self._ledger = ledger
        self._max_output_tokens = max_output_tokens
        steps: tuple[CallSizes, ...] = SIZE_STEPS
        if max_output_tokens is not None:
            steps = tuple(CallSizes(max_output_tokens, step.observation_bytes) for step in SIZE_STEPS)
        self._steps = steps
        self._sizes = steps[0]
        self._known_rates: dict[tuple[str, int], tuple[float, float]] = {}  # looking a price up takes 0.1 ms

    def check_prices(self, models: Iterable[str]) -> None:
        """Raises ConfigurationError where a limit in dollars could not be kept."""
        if self._budget.usd is None:
            return
        for name in models:
            if self._price_of(name, Usage(1, 1_000, output_tokens=1_000)) is None:
                raise ConfigurationError(
                    f"Budget(usd={self._budget.usd:g}) cannot be kept: no price is known for {name}. Give one in dollars for "
                    f'a million tokens, prices={{"{name}": (input, output)}}, or limit tokens or calls instead.'
                )

    def output_limit(self, model: Model) -> int | None:
        """What a request says its reply may have at most; None leaves it to the provider."""
        if self._max_output_tokens is not None or not self._budget.counts_tokens:
            return self._max_output_tokens
        return max(16, min(self._sizes.output_tokens, int(model.window_tokens * OUTPUT_SHARE)))

    def call_need(self, model: Model, request: Request) -> Need:
        """Of a call that stands alone: a leaf call, a summary."""
        if not self._budget.counts_tokens:
            return ONE_CALL
        prompt = most_tokens(request.messages, request.schema)
        return Need(self._worst(model, prompt, request.max_output_tokens or 0))

    def turn_need(
        self, model: Model, node: NodeId, count: PromptCount, messages: tuple[Message, ...], *, last: bool, final: bool
    ) -> Need:
        """Of a node's turn, with what is kept for the last turn that may follow it."""
        if not self._budget.counts_tokens:
            return Need(Amounts(calls=1), node, NOTHING if last else Amounts(calls=1), final)
        prompt, output = count.most_tokens(messages), self.output_limit(model) or 0
        worst = self._worst(model, prompt, output)
        return Need(worst, node, NOTHING if last else self._last_turn(model, prompt, output), final)

    def kept_after(self, model: Model, usage: Usage) -> Amounts:
        """What the last turn needs once a turn has been made and counted."""
        if not self._budget.counts_tokens:
            return Amounts(calls=1)
        return self._last_turn(model, usage.input_tokens, usage.output_tokens)

    def fit_sizes(self, model: Model, messages: Sequence[Message]) -> None:
        """Chooses output limits that leave most of the budget for work.

        Raises:
            BudgetExceededError: not even the root's first turn and its last one fit. Nothing has been spent.
        """
        need, empty = Need(NOTHING), Ledger(self._budget)
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
        if (limit := empty.lacking(need)) is not None:
            least = need.worst
            figure = {"usd": f"${least.usd:.4g}", "tokens": f"{least.tokens:,}", "calls": str(least.calls)}[limit]
            raise BudgetExceededError(
                f"The budget is too small: one turn of {model.name} and its answer may take {limit} {figure}. Nothing was "
                f"spent. Allow at least Budget({limit}={figure.lstrip('$').replace(',', '')}), and more for the work itself.",
                limit=limit,
            )

    def shown_bytes(self, need_for: Callable[[int], Need], whole_bytes: int) -> int | None:
        """How many bytes of unseen output a last turn can pay for; None: all of them."""
        size = whole_bytes
        while size > self._sizes.observation_bytes and self._ledger.lacking(need_for(whole_bytes - size)) is not None:
            size = max(size // 2, self._sizes.observation_bytes)
        return None if size >= whole_bytes else size

    def last_turn_of(
        self, model: Model, node: NodeId, count: PromptCount, messages: tuple[Message, ...]
    ) -> Callable[[int], Need]:
        """The need of the last turn, by how many bytes of the newest message are left out."""
        prompt = count.most_tokens(messages) if self._budget.counts_tokens else 0

        def need_for(left_out: int) -> Need:
            worst = self._worst(model, prompt + LAST_WORDS_TOKENS - left_out, self.output_limit(model) or 0)
            return Need(worst, node)

        return need_for

    def cost(self, model: str, usage: Usage, reported_usd: float | None = None) -> tuple[float | None, Amounts]:
        """What tokens cost, in dollars where that is known, and as it counts against the budget."""
        usd = reported_usd if reported_usd is not None else self._price_of(model, usage)
        return usd, Amounts(max(1, usage.calls), usage.total_tokens, nanos_of(usd or 0.0))

    def _last_turn(self, model: Model, prompt: int, reply: int) -> Amounts:
        conversation = prompt + reply + 2 * MESSAGE_TOKENS + most_tokens(())
        output = self.output_limit(model) or 0
        return self._worst(model, conversation + self._sizes.observation_bytes + LAST_WORDS_TOKENS, output)

    def _worst(self, model: Model, prompt: int, output: int) -> Amounts:
        if self._budget.usd is None:
            return Amounts(1, prompt + output, 0)
        given, replied = self._rates(model.name, max(MIN_RATE_TOKENS, 1 << prompt.bit_length()))
        # Two billionths for what floats leave over.
        return Amounts(1, prompt + output, nanos_of(given * prompt + replied * output) + 2)

    def _rates(self, model: str, prompt: int) -> tuple[float, float]:
        """Dollars at most for a token of a prompt up to this size, and of its reply: long prompts cost more a token, not less."""
        found = self._known_rates.get((model, prompt))
        if found is None:
            plain = self._price_of(model, Usage(1, prompt)) or 0.0
            # Writing to a cache costs more than plain input on some providers.
            written = self._price_of(model, Usage(1, prompt, 0, prompt)) or 0.0
            both = self._price_of(model, Usage(1, prompt, output_tokens=prompt)) or 0.0
            found = self._known_rates[model, prompt] = (max(plain, written) / prompt, (both - plain) / prompt)
        return found
