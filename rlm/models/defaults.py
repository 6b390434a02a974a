"""Selection of models by name: the caller's, or the defaults of this environment."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from rlm.core.errors import ConfigurationError
from rlm.core.values import frozen
from rlm.ports import Model

EMBEDDED_MODEL = "plan:map_reduce"
EMBEDDED_SUB_MODEL = "local:smollm2"


@frozen
class DefaultModels:
    """The models used when the caller names none. ``note`` says in one line which ones, and why."""

    model: str
    sub_model: str
    note: str


def default_models(env: Mapping[str, str] | None = None) -> DefaultModels:
    """The default models: ``RLM_MODEL``, then the provider whose key is set, then the embedded model."""
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
    """The models by depth, as the caller named them.

    Raises:
        ConfigurationError: the names contradict each other, or are incomplete.
    """
    if models is not None:
        if model is not None or sub_model is not None:
            raise ConfigurationError(
                "`models` must not be combined with `model` or `sub_model`. Give `models`, one for each depth, "
                "or the other two."
            )
        if isinstance(models, str) or not models:
            raise ConfigurationError(f"`models` must be a list with at least the root's model; got {models!r}.")
        return list(models)
    if model is None:
        defaults = default_models()
        return [defaults.model, sub_model or defaults.sub_model]
    if sub_model is None and isinstance(model, str) and model.startswith("plan:"):
        raise ConfigurationError(f"{model} is a program: name the model that it asks with `sub_model`.")
    return [model] if sub_model is None else [model, sub_model]
