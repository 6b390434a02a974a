"""Which model a name means, and opening it: ``provider:model``, where a bare name means OpenAI.

The table of providers is here; what speaks to them is loaded only when a model is opened, so that looking at names
(the CLI's help, a configuration check) costs no import of an HTTP client or of model weights.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, cast

from rlm.core.errors import AuthenticationError, ConfigurationError
from rlm.models.windows import window_tokens as known_window
from rlm.ports import Model

Api: TypeAlias = Literal["openai_chat", "anthropic"]


@dataclass(frozen=True, slots=True)
class ModelName:
    """``str()`` gives the full name back."""

    provider: str
    model: str

    def __str__(self) -> str:
        return f"{self.provider}:{self.model}"


@dataclass(frozen=True, slots=True)
class Provider:
    """How to reach a provider.

    Attributes:
        base_url: the address; ``url_variable`` names the environment variable that replaces it.
        key_variables: environment variables that may hold the key, the first that is set counts. Empty: no key.
        key_needed: False for servers on one's own machine.
        local: a server on one's own machine: its window is small unless told otherwise, and its calls cost nothing.
        schema_mode: how it is told a JSON schema, see ``rlm.models.json_schema``.
        extra_body: sent with every request.
        stream_body: sent with those that are streamed.
        prefix_tokens: from how many tokens on a beginning that calls share is cached; 0: to no use; None: not known.
    """

    base_url: str
    key_variables: tuple[str, ...] = ()
    url_variable: str | None = None
    key_needed: bool = True
    local: bool = False
    api: Api = "openai_chat"
    schema_mode: str = "json_schema"
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    stream_body: Mapping[str, Any] = field(default_factory=dict)
    prefix_tokens: int | None = None


PROVIDERS: Mapping[str, Provider] = {
    "openai": Provider("https://api.openai.com/v1", ("OPENAI_API_KEY",), "OPENAI_BASE_URL", prefix_tokens=1024),
    "anthropic": Provider("https://api.anthropic.com", ("ANTHROPIC_API_KEY",), "ANTHROPIC_BASE_URL", api="anthropic"),
    "gemini": Provider(
        "https://generativelanguage.googleapis.com/v1beta/openai",
        ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        "GEMINI_BASE_URL",
    ),
    "openrouter": Provider(
        "https://openrouter.ai/api/v1",
        ("OPENROUTER_API_KEY",),
        "OPENROUTER_BASE_URL",
        extra_body={"usage": {"include": True}},  # its own figure of what a call cost
    ),
    "groq": Provider(
        "https://api.groq.com/openai/v1",
        ("GROQ_API_KEY",),
        "GROQ_BASE_URL",
        schema_mode="json_object",  # the schema itself works with few of its models
    ),
    "together": Provider("https://api.together.xyz/v1", ("TOGETHER_API_KEY",), "TOGETHER_BASE_URL"),
    "fireworks": Provider("https://api.fireworks.ai/inference/v1", ("FIREWORKS_API_KEY",), "FIREWORKS_BASE_URL"),
    "deepseek": Provider(
        "https://api.deepseek.com/v1",
        ("DEEPSEEK_API_KEY",),
        "DEEPSEEK_BASE_URL",
        schema_mode="json_object",
        prefix_tokens=1024,
    ),
    "mistral": Provider("https://api.mistral.ai/v1", ("MISTRAL_API_KEY",), "MISTRAL_BASE_URL"),
    "xai": Provider("https://api.x.ai/v1", ("XAI_API_KEY",), "XAI_BASE_URL"),
    "cerebras": Provider("https://api.cerebras.ai/v1", ("CEREBRAS_API_KEY",), "CEREBRAS_BASE_URL"),
    "ollama": Provider(
        "http://localhost:11434/v1",
        ("OLLAMA_API_KEY",),
        "OLLAMA_BASE_URL",
        key_needed=False,
        local=True,
        prefix_tokens=0,
    ),
    "vllm": Provider(
        "http://localhost:8000/v1",
        ("VLLM_API_KEY",),
        "VLLM_BASE_URL",
        key_needed=False,
        local=True,
        stream_body={"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
    ),
    "llamacpp": Provider(
        "http://localhost:8080/v1",
        ("LLAMA_API_KEY",),
        "LLAMACPP_BASE_URL",
        key_needed=False,
        local=True,
        stream_body={"timings_per_token": True},
        prefix_tokens=0,  # each of its slots pays for a beginning once
    ),
}

_ADAPTERS: Mapping[Api, str] = {
    "openai_chat": "rlm.models.openai_chat:OpenAIChat",
    "anthropic": "rlm.models.anthropic:AnthropicMessages",
}

# Models that run inside this process; they take the rest of the name and nothing else.
_BUILT_IN: Mapping[str, str] = {
    "local": "rlm.models.local:open_local",
    "plan": "rlm.models.plan:open_plan",
}

FREE_PROVIDERS = frozenset({*_BUILT_IN, *(name for name, provider in PROVIDERS.items() if provider.local)})
"""Providers whose calls cost nothing: they run on the user's own machines."""


def known_providers() -> list[str]:
    return sorted({*PROVIDERS, *_BUILT_IN})


def parse_model_name(name: str) -> ModelName:
    """Splits at the first colon: ``ollama:qwen2.5:7b`` is Ollama's ``qwen2.5:7b``; ``ft:gpt-4o:org`` is OpenAI's.

    Raises:
        ConfigurationError: when the name is empty or the provider unknown.
    """
    provider, colon, model = name.strip().partition(":")
    if not colon or provider == "ft":  # fine-tuned models of OpenAI have colons in their ids
        provider, model = "openai", name.strip()
    provider = provider.lower()
    if not model:
        raise ConfigurationError(f"{name!r} names no model. Write provider:model, for instance openai:gpt-4o-mini")
    if provider not in PROVIDERS and provider not in _BUILT_IN:
        import difflib  # noqa: PLC0415  for a mistake only

        near = difflib.get_close_matches(provider, known_providers(), n=1)
        hint = f"Did you mean {near[0]}:{model}? " if near else ""
        raise ConfigurationError(
            f"unknown provider {provider!r} in {name!r}. {hint}Known: {', '.join(known_providers())}"
        )
    return ModelName(provider, model)


def open_model(
    name: str,
    *,
    api_key: str | None = None,
    base_url: str | None = None,
    env: Mapping[str, str] | None = None,
    window_tokens: int | None = None,
    timeout_s: float | None = None,
) -> Model:
    """Opens a model by name; nothing is sent yet.

    Args:
        name: ``provider:model``, or a bare name of an OpenAI model.
        api_key: instead of the provider's environment variable.
        base_url: instead of the provider's address.
        env: where variables are looked up; the process's environment by default.
        window_tokens: instead of what the table of model families says.
        timeout_s: for one whole call; None leaves it to whoever asks.

    Raises:
        ConfigurationError: an unknown provider, or an address that is none.
        AuthenticationError: the provider needs a key and there is none.
    """
    parsed = parse_model_name(name)
    if parsed.provider in _BUILT_IN:
        return cast("Callable[[str], Model]", _load(_BUILT_IN[parsed.provider]))(parsed.model)
    variables = os.environ if env is None else env
    provider = PROVIDERS[parsed.provider]
    address = base_url or (variables.get(provider.url_variable) if provider.url_variable else None) or provider.base_url
    key = api_key or next((variables[name] for name in provider.key_variables if variables.get(name)), None)
    is_own_address = address.rstrip("/") == provider.base_url
    if key is None and provider.key_needed and is_own_address:
        raise AuthenticationError(
            f"{parsed}: no API key. Set {provider.key_variables[0]}, or pass api_key", model=str(parsed)
        )
    options: dict[str, Any] = {
        "api_key": key.strip() if key else None,
        "base_url": address,
        "provider": parsed.provider,
        "window_tokens": window_tokens or known_window(parsed.model, local=provider.local),
        "extra_body": provider.extra_body,
        "key_variable": provider.key_variables[0],
        "timeout_s": timeout_s,
    }
    if provider.api == "openai_chat":
        options["schema_mode"] = provider.schema_mode
        options["stream_body"] = provider.stream_body
        options["own_machine"] = provider.local
        # What stands behind another address than the provider's own is not known.
        options["prefix_tokens"] = provider.prefix_tokens if is_own_address or provider.local else None
    return cast("Callable[..., Model]", _load(_ADAPTERS[provider.api]))(parsed.model, **options)


def _load(path: str) -> object:
    module, _, attribute = path.partition(":")
    return cast("object", getattr(importlib.import_module(module), attribute))
