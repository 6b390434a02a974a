"""Costs of calls: given prices first, then published ones, otherwise unknown."""

from __future__ import annotations

import subprocess
import sys

import pytest

from rlm.core.errors import ConfigurationError
from rlm.core.messages import Usage
from rlm.models.prices import PriceList, cost_usd

MILLION = 1_000_000
USAGE = Usage(2, input_tokens=MILLION, cached_tokens=400_000, cache_write_tokens=100_000, output_tokens=MILLION)


def test_given_prices_precede_published_ones() -> None:
    prices = PriceList({"gpt-4o-mini": (1.0, 2.0), "anthropic:claude-opus-4-8": (4.0, 8.0, 0.4, 5.0)})
    prices.set("mine:model", 10.0, 0.0, cached_per_million=0.0)
    assert prices.cost_usd("openai:gpt-4o-mini", USAGE) == pytest.approx(1.0 + 2.0)
    assert prices.cost_usd("anthropic:claude-opus-4-8", USAGE) == pytest.approx(2.0 + 0.16 + 0.5 + 8.0)
    assert prices.cost_usd("mine:model", USAGE) == pytest.approx(6.0)


def test_local_models_are_free_without_given_price() -> None:
    prices = PriceList({"vllm:qwen": (1.0, 1.0)})
    assert [prices.cost_usd(name, USAGE) for name in ("local:smollm2", "plan:map_reduce", "ollama:x")] == [0.0] * 3
    assert prices.cost_usd("vllm:qwen", USAGE) == pytest.approx(2.0)


def test_published_prices_differ_for_cached_tokens() -> None:
    plain = Usage(1, input_tokens=MILLION)
    cached = Usage(1, input_tokens=MILLION, cached_tokens=MILLION)
    written = Usage(1, input_tokens=MILLION, cache_write_tokens=MILLION)
    whole = cost_usd("openai:gpt-4o-mini", plain)
    assert whole is not None
    assert whole == pytest.approx(0.15, rel=0.5), "a published price of the model's own order of magnitude"
    part = cost_usd("openai:gpt-4o-mini", cached)
    assert part is not None
    assert part < whole
    read, write, base = (cost_usd("anthropic:claude-haiku-4-5", usage) for usage in (cached, written, plain))
    assert read is not None
    assert write is not None
    assert base is not None
    assert read / base == pytest.approx(0.1)
    assert write / base == pytest.approx(1.25)


@pytest.mark.parametrize("model", ["openai:no-such-model-x", "scripted:root", "somebody:model", "fireworks:zzz"])
def test_unknown_price_is_none(model: str) -> None:
    assert cost_usd(model, USAGE) is None
    assert cost_usd(model, USAGE) is None


@pytest.mark.parametrize(
    "provider", ["gemini:gemini-2.5-flash", "xai:grok-4", "deepseek:deepseek-chat", "groq:llama-3.3-70b-versatile"]
)
def test_price_data_knows_our_provider_names(provider: str) -> None:
    assert (cost_usd(provider, USAGE) or 0) > 0


def test_price_with_too_few_figures_is_rejected() -> None:
    with pytest.raises(ConfigurationError, match="2 to 4"):
        PriceList({"m": (1.0,)})


def test_preload_skips_models_without_published_price() -> None:
    code = """
import sys
from rlm.core.messages import Usage
from rlm.models.prices import PriceList
prices = PriceList({"gpt-4o": (1, 1)})
names = ["openai:gpt-4o", "openai:my-own-endpoint", "ollama:qwen", "scripted:root"]
prices.preload(names)
[prices.cost_usd(name, Usage(1, 10)) for name in names]
assert "genai_prices" not in sys.modules
prices.preload(["openai:gpt-4o-mini"])
assert "genai_prices" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
