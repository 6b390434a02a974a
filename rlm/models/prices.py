"""Prices of calls: the caller's own first, then the published ones of genai-prices.

Importing genai-prices takes 0.2 s, so it is loaded at the first price, or ahead of it by ``preload``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rlm.core.errors import ConfigurationError
from rlm.core.messages import Usage
from rlm.core.patterns import lazy_pattern
from rlm.core.values import frozen
from rlm.models.registry import FREE_PROVIDERS, PROVIDERS

_MILLION = 1_000_000
_FAMILIES = {
    "openai": lazy_pattern(r"(ft:)?(gpt|o\d|chatgpt|codex|computer)"),
    "anthropic": lazy_pattern(r"claude"),
}


@frozen
class Price:
    """US dollars for a million tokens. Cached tokens and cache writes cost as much as input unless given separately."""

    input_per_million: float
    output_per_million: float
    cached_per_million: float | None = None
    cache_write_per_million: float | None = None

    def cost_usd(self, usage: Usage) -> float:
        cached = self.input_per_million if self.cached_per_million is None else self.cached_per_million
        written = self.input_per_million if self.cache_write_per_million is None else self.cache_write_per_million
        plain_tokens = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
        return (
            plain_tokens * self.input_per_million
            + usage.cached_tokens * cached
            + usage.cache_write_tokens * written
            + usage.output_tokens * self.output_per_million
        ) / _MILLION


class PriceList:
    """Prices by full model name (``provider:model``). Prices set here take precedence over published ones.

    Args:
        prices: by model, the arguments of ``set`` after the name: ``{"vllm:qwen": (0.1, 0.4)}``.
    """

    def __init__(self, prices: Mapping[str, tuple[float, ...]] | None = None) -> None:
        self._own: dict[str, Price] = {}
        self._unpriced: set[str] = set()
        for model, figures in (prices or {}).items():
            if not 2 <= len(figures) <= 4:
                raise ConfigurationError(
                    f"the price of {model} must have 2 to 4 figures; got {len(figures)}. Give dollars for a million tokens: "
                    "input, output, and cached input and cache writes if they differ"
                )
            self.set(model, *figures)

    def set(
        self,
        model: str,
        input_per_million: float,
        output_per_million: float,
        cached_per_million: float | None = None,
        cache_write_per_million: float | None = None,
    ) -> None:
        """Sets a model's price in US dollars for a million tokens; a bare name means OpenAI."""
        price = Price(input_per_million, output_per_million, cached_per_million, cache_write_per_million)
        self._own[model if ":" in model and not model.startswith("ft:") else f"openai:{model}"] = price

    def cost_usd(self, model: str, usage: Usage) -> float | None:
        """Dollars of one call, or of several together. None if the price is unknown, 0.0 on the user's machine."""
        own = self._own.get(model)
        if own is not None:
            return own.cost_usd(usage)
        provider, _, model_id = model.partition(":")
        if provider in FREE_PROVIDERS:
            return 0.0
        if model in self._unpriced:
            return None
        cost = _published_cost(provider, model_id, usage) if _can_be_published(model) else None
        if cost is None:
            self._unpriced.add(model)
        return cost

    def preload(self, models: Iterable[str]) -> None:
        """Loads the published prices if one of ``models`` could need them, so that no reply waits for it.

        Blocks for 0.2 s: call it in a thread, during the first call.
        """
        if any(model not in self._own and _can_be_published(model) for model in models):
            _published_cost("openai", "gpt-4o", Usage(calls=1, input_tokens=1))


def _can_be_published(model: str) -> bool:
    """False if the data need not be loaded: the models of private endpoints often have no published price."""
    provider, _, model_id = model.partition(":")
    if provider not in PROVIDERS or provider in FREE_PROVIDERS:
        return False
    families = _FAMILIES.get(provider)
    return families is None or families.match(model_id) is not None


def _published_cost(provider: str, model_id: str, usage: Usage) -> float | None:
    if usage.input_tokens == usage.output_tokens == 0:
        return 0.0
    import genai_prices  # noqa: PLC0415 - takes 0.2 s, and many runs need no price

    tokens = genai_prices.Usage(
        input_tokens=usage.input_tokens,
        cache_read_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        output_tokens=usage.output_tokens,
    )
    try:
        return float(genai_prices.calc_price(tokens, model_id, provider_id=provider).total_price)
    except LookupError:
        return None


_PUBLISHED = PriceList()


def cost_usd(model: str, usage: Usage) -> float | None:
    """Dollars at published prices. See ``PriceList.cost_usd``."""
    return _PUBLISHED.cost_usd(model, usage)
