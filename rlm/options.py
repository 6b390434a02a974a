"""What a caller chose, and what holds where nothing was chosen: models by depth, prompts, and whether the choices can be used."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from rlm.core.budget import Budget
from rlm.core.endings import CutRule
from rlm.core.errors import ConfigurationError
from rlm.engine.calling.prefix_warmup import WarmRule
from rlm.ports import Model
from rlm.prompts import FAMILIES, PromptFamily, choose_family

EMBEDDED_MODEL = "plan:map_reduce"
EMBEDDED_SUB_MODEL = "local:smollm2"

# Where None stands for no limit, it is none of these.
_POSITIVE = (
    "concurrency", "call_timeout_s", "cell_seconds", "memory_mb", "observation_chars", "max_iterations",
    "requests_per_minute", "tokens_per_minute",
)  # fmt: skip
_NOT_NEGATIVE = ("max_depth", "retries")
_CHOICES = {"cut_replies": get_args(CutRule), "warm_prefixes": get_args(WarmRule)}


@dataclass(frozen=True, slots=True)
class DefaultModels:
    """The models used when the caller names none. ``note`` says in one line which, and why."""

    model: str
    sub_model: str
    note: str


def default_models(env: Mapping[str, str] | None = None) -> DefaultModels:
    """What to use when no model is named: ``RLM_MODEL``, else the provider whose key is set, else the embedded default."""
    env = os.environ if env is None else env
    if named := env.get("RLM_MODEL"):
        sub_model = env.get("RLM_SUB_MODEL") or (EMBEDDED_SUB_MODEL if named.startswith("plan:") else named)
        return DefaultModels(named, sub_model, f"using {named} and {sub_model} (RLM_MODEL, RLM_SUB_MODEL)")
    for key, model, sub_model in (
        ("OPENAI_API_KEY", "openai:gpt-4o", "openai:gpt-4o-mini"),
        ("OPENAI_BASE_URL", "openai:gpt-4o", "openai:gpt-4o-mini"),
        ("ANTHROPIC_API_KEY", "anthropic:claude-sonnet-4-5", "anthropic:claude-haiku-4-5"),
    ):
        if env.get(key):
            return DefaultModels(
                model, sub_model, f"no model named: using {model} and {sub_model}, because {key} is set"
            )
    return DefaultModels(
        EMBEDDED_MODEL,
        EMBEDDED_SUB_MODEL,
        "no model configured: using the embedded 135M model (local:smollm2) with a fixed plan. It finds sentences that "
        "answer simple questions; it cannot reason, count or summarise. Name a better one with --model or RLM_MODEL.",
    )


def name_models(
    model: str | Model | None, sub_model: str | Model | None, models: Sequence[str | Model] | None
) -> list[str | Model]:
    """The models by depth, as the caller named them."""
    if models is not None:
        if model is not None or sub_model is not None:
            raise ConfigurationError("Give either models=[...], one for each depth, or model= and sub_model=.")
        if not models:
            raise ConfigurationError("models=[] is empty: name at least the root's model.")
        return list(models)
    if model is None:
        defaults = default_models()
        return [defaults.model, sub_model or defaults.sub_model]
    if sub_model is None and isinstance(model, str) and model.startswith("plan:"):
        raise ConfigurationError(f"{model} is a program, not a model to ask: name the model it asks with sub_model=.")
    return [model] if sub_model is None else [model, sub_model]


def choose_prompt(prompt: str | PromptFamily | None) -> Callable[[str], PromptFamily]:
    if prompt is None:
        return choose_family
    if isinstance(prompt, str):
        if prompt not in FAMILIES:
            raise ConfigurationError(f"prompt={prompt!r} is not a prompt family. Known: {', '.join(sorted(FAMILIES))}.")
        family = FAMILIES[prompt]
    else:
        family = prompt
    return lambda _: family


def check_options(options: Mapping[str, object]) -> None:
    """Whether the arguments of ``RLM`` can be used, by their names.

    Raises:
        ConfigurationError: one cannot.
    """
    for name in (*_POSITIVE, *_NOT_NEGATIVE):
        value = options[name]
        if isinstance(value, int | float) and (value < 0 or (value == 0 and name in _POSITIVE)):
            rule = "more than 0" if name in _POSITIVE else "0 or more"
            raise ConfigurationError(f"{name}={value} must be {rule}.")
    for name, known in _CHOICES.items():
        check_choice(name, options[name], known)


def check_choice(name: str, value: object, known: Sequence[str]) -> None:
    """Raises ConfigurationError when a value is none of those that are known."""
    if value not in known:
        raise ConfigurationError(f"{name}={value!r} is none of {', '.join(known)}.")


def check_budget(budget: object) -> None:
    """Raises ConfigurationError when it is none."""
    if budget is not None and not isinstance(budget, Budget):
        raise ConfigurationError(f"budget={budget!r} is no Budget: give rlm.Budget(calls=..., usd=...).")


def check_query(query: object) -> None:
    """Raises ConfigurationError when it is no text."""
    if query is not None and not isinstance(query, str):
        raise ConfigurationError(f"the question is a {type(query).__name__}; it must be text, or None.")
