"""Recorded options that need the reader's consent: a record is data, and grants no rights.

A store can come from elsewhere. Weaker isolation, code, files, addresses and higher resource limits are restored only if the
caller gives the option too. It knows the rules, and neither stores nor the command line.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from rlm.core.errors import UntrustedRecordError
from rlm.core.messages import JsonValue, Usage
from rlm.models.defaults import EMBEDDED_SUB_MODEL
from rlm.models.plan import known_plans
from rlm.models.prices import PriceList
from rlm.models.registry import PROVIDERS
from rlm.options import DECLARED, DEFAULTS, Options, restore_options
from rlm.sandbox.launchers.levels import NAMES, find_level

Rule = Callable[[Any, Mapping[str, Any]], str]
"""The effect of a recorded value that needs consent; "" if it needs none. The second argument holds all restored options."""

_FIGURES = (  # one for each figure of a price
    Usage(1, 1_000_000),
    Usage(1, output_tokens=1_000_000),
    Usage(1, 1_000_000, cached_tokens=1_000_000),
    Usage(1, 1_000_000, cache_write_tokens=1_000_000),
)


def restore_allowed(
    run: str, record: Mapping[str, JsonValue], given: Mapping[str, Any], *, replay: bool = False
) -> dict[str, Any]:
    """The options of a recorded run with those that the caller gives in their place, as arguments of ``RLM``.

    Args:
        run: its id, for messages.
        record: its recorded options.
        given: the caller's own options. Prices are added to the recorded ones.
        replay: no model is asked, so models, addresses and prices need no consent.

    Raises:
        UntrustedRecordError: a recorded option needs the caller's consent.
        ConfigurationError: the run's prompt was a function.
    """
    recorded = restore_options(record)
    options = recorded | _models(recorded, given) | {name: value for name, value in given.items() if name not in _NAMES}
    if "prices" in given:
        options["prices"] = {**(recorded.get("prices") or {}), **given["prices"]}
    refused: dict[str, tuple[Any, str]] = {}
    for name, rule in (REPLAY_RULES if replay else RULES).items():
        if name not in given and name in recorded and (effect := rule(options[name], options)):
            refused[name] = (options[name], effect)
    if not replay:
        allowed = {given.get(name) for name in _NAMES}
        for depth, model in enumerate(options.get("models") or []):
            if model not in allowed and (effect := _loads(model)):
                refused[_NAMES[min(depth, 1)]] = (model, effect)
    if not replay and (cheap := _cheap_prices(recorded, given)):
        refused["prices"] = (cheap, "counts less than the published price against your limit in dollars")
    if refused:
        raise _refusal(run, refused)
    return options


def consent_options(options: Options) -> dict[str, Any]:
    """The caller's options to repeat when a run with them is resumed."""
    values = {name: getattr(options, name) for name in (*RULES, *_NAMES)}
    given = {name: values[name] for name, rule in RULES.items() if values[name] and rule(values[name], values)}
    for name in _NAMES:
        if isinstance(values[name], str) and _loads(values[name]):
            given[name] = values[name]
    return given


def _refusal(run: str, refused: Mapping[str, tuple[Any, str]]) -> UntrustedRecordError:
    causes = "; ".join(f"{name}={_cut(value)} {effect}" for name, (value, effect) in refused.items())
    flags = tuple(DECLARED[name].flags[0].name for name in refused)
    return UntrustedRecordError(
        f"The record of run {run} must not decide this: {causes}. If you trust it, give {' and '.join(flags)} yourself.",
        options=tuple(refused),
        flags=flags,
    )


def _cut(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _QUOTE_CHARS else text[:_QUOTE_CHARS] + "..."


_QUOTE_CHARS = 80
_NAMES = ("model", "sub_model")


def _models(recorded: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The models by depth, with the caller's in their places."""
    models = recorded.get("models")
    if not isinstance(models, list) or not models or not any(name in given for name in _NAMES):
        return {}
    root, rest = given.get("model", models[0]), models[1:] or models[:1]
    return {"models": [root, *([given["sub_model"]] if "sub_model" in given else rest)]}


def _weakens(level: object, _: Mapping[str, Any]) -> str:
    if level == "auto":
        return ""
    best = find_level().best
    strength = {name: place for place, name in enumerate(reversed(NAMES))}
    if best is not None and strength.get(str(level), -1) >= strength[best]:
        return ""
    return (
        f"weakens the isolation of its cells, which is {best!r} here" if best else "replaces the isolation of its cells"
    )


def _imports(packages: Collection[str], _: Mapping[str, Any]) -> str:
    return "imports packages before the sandbox is closed" if packages else ""


def _executes(code: object, _: Mapping[str, Any]) -> str:
    return "executes code in every REPL" if code else ""


def _exceeds(name: str) -> Rule:
    default = DEFAULTS[name]

    def rule(value: object, _: Mapping[str, Any]) -> str:
        return "" if isinstance(value, int | float) and value <= default else f"raises the limit of {default:g}"

    return rule


def _redirects(address: object, options: Mapping[str, Any]) -> str:
    if address is None or str(address).rstrip("/") in _own_addresses(options):
        return ""
    return "receives the API key and every prompt"


def _own_addresses(options: Mapping[str, Any]) -> set[str]:
    """The addresses of the root's provider that this machine would use anyway."""
    named = options.get("models") or [options.get("model")]
    provider = PROVIDERS.get(_split(named[0])[0]) if isinstance(named[0], str) else None
    if provider is None:
        return set()
    own = os.environ.get(provider.url_variable) if provider.url_variable else None
    return {(own or provider.base_url).rstrip("/")}


def _loads(name: object) -> str:
    """The effect of a model that is a file, or whose provider another distribution adds."""
    provider, model = _split(str(name))
    if provider == "plan" and model not in known_plans():
        return "executes a file on this machine, outside the sandbox"
    if provider == "local" and f"local:{model}" != EMBEDDED_SUB_MODEL:
        return "loads a file"
    if provider not in PROVIDERS and provider not in ("plan", "local"):
        return f"loads the code of the provider {provider!r}"
    return ""


def _split(name: str) -> tuple[str, str]:
    """Provider and model; a bare name means OpenAI."""
    provider, colon, model = name.strip().partition(":")
    if not colon or provider == "ft":
        return "openai", name.strip()
    return provider.lower(), model.strip()


def _cheap_prices(recorded: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Recorded prices below the published ones, if the caller limits dollars."""
    budget, prices = given.get("budget"), recorded.get("prices")
    if budget is None or budget.usd is None or not isinstance(prices, dict):
        return {}
    own, published = PriceList(prices), PriceList()
    return {
        model: figures
        for model, figures in prices.items()
        if model not in (given.get("prices") or {})
        and any(_costs_less(own, published, model, usage) for usage in _FIGURES)
    }


def _costs_less(own: PriceList, published: PriceList, model: str, usage: Usage) -> bool:
    name = model if ":" in model and not model.startswith("ft:") else f"openai:{model}"
    cost, expected = own.cost_usd(name, usage), published.cost_usd(name, usage)
    return expected is None or cost is None or cost < expected


REPLAY_RULES: Mapping[str, Rule] = {
    "sandbox": _weakens,
    "sandbox_packages": _imports,
    "setup_code": _executes,
    "cell_seconds": _exceeds("cell_seconds"),
    "memory_mb": _exceeds("memory_mb"),
}
"""The options that also matter if no model is asked."""

RULES: Mapping[str, Rule] = {**REPLAY_RULES, "base_url": _redirects}
"""The options that need consent, except prices and models."""

REPLAY_FLAGS: Sequence[str] = tuple(REPLAY_RULES)
RESUME_FLAGS: Sequence[str] = (*REPLAY_RULES, "base_url", "prices", *_NAMES)
"""The options by which a caller consents."""
