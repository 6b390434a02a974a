"""Registry of providers; opens a model by its name, ``provider:model``. A bare name means OpenAI.

Adapters are imported only when a model is opened, so parsing names (the CLI's help, a configuration check) does not import an
HTTP client. Other distributions add providers by entry points of the group ``rlm.models``.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from rlm.core.errors import AuthenticationError, ConfigurationError
from rlm.core.values import frozen
from rlm.models.adapt import MinimalModel, adapt_model
from rlm.models.windows import find_window
from rlm.ports import Model

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Api: TypeAlias = Literal["openai_chat", "anthropic"]

ENTRY_POINTS = "rlm.models"
"""The group of entry points: the name is the provider's, the object a factory ``(model_id, **options) -> Model``."""


@frozen
class ModelName:
    """A parsed name; ``str()`` restores it."""

    provider: str
    model: str

    def __str__(self) -> str:
        return f"{self.provider}:{self.model}"


@frozen
class Provider:
    """Connection data of a provider.

    Attributes:
        base_url: the address; ``url_variable`` names the environment variable that replaces it.
        key_variables: environment variables for the key; the first one that is set counts. Empty: no key.
        key_needed: False for servers on the user's machine.
        local: a server on the user's machine: its window is small by default, and its calls cost nothing.
        schema_mode: the form in which it accepts a JSON schema, see ``rlm.models.json_schema``.
        extra_body: added to every request.
        stream_body: added to streamed requests.
        prefix_tokens: see ``rlm.core.model_info.ModelInfo``.
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
        extra_body={"usage": {"include": True}},  # makes it report the cost of each call
    ),
    "groq": Provider(
        "https://api.groq.com/openai/v1",
        ("GROQ_API_KEY",),
        "GROQ_BASE_URL",
        schema_mode="json_object",  # few of its models accept a schema
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
        prefix_tokens=0,  # each slot has its own cache
    ),
}

_ADAPTERS: Mapping[Api, str] = {
    "openai_chat": "rlm.models.openai_chat:OpenAIChat",
    "anthropic": "rlm.models.anthropic:AnthropicMessages",
}

# Models that run on this machine; their factory takes the rest of the name.
_BUILT_IN: Mapping[str, str] = {
    "local": "rlm.models.local:open_local",
    "plan": "rlm.models.plan:open_plan",
}

FREE_PROVIDERS = frozenset({*_BUILT_IN, *(name for name, provider in PROVIDERS.items() if provider.local)})
"""Providers whose calls cost nothing: they run on the user's machine."""


def known_providers() -> list[str]:
    """All providers: built in, and from entry points of installed distributions."""
    return sorted({*PROVIDERS, *_BUILT_IN, *_entry_points()})


def _entry_points() -> Mapping[str, EntryPoint]:
    """Providers of other distributions. A scan takes milliseconds, so it happens for names that are not built in."""
    return _scan_entry_points(tuple(sys.path))


@lru_cache(1)
def _scan_entry_points(_path: tuple[str, ...]) -> Mapping[str, EntryPoint]:
    from importlib.metadata import entry_points  # noqa: PLC0415  20 ms of every start

    return {point.name.lower(): point for point in entry_points(group=ENTRY_POINTS)}


def parse_model_name(name: str) -> ModelName:
    """Splits at the first colon: ``ollama:qwen2.5:7b`` is Ollama's ``qwen2.5:7b``, and ``ft:gpt-4o:org`` is OpenAI's.

    Raises:
        ConfigurationError: the name is empty, or the provider unknown.
    """
    provider, colon, model = name.strip().partition(":")
    if not colon or provider == "ft":  # fine-tuned models of OpenAI have colons in their ids
        provider, model = "openai", name.strip()
    provider = provider.lower()
    if not model:
        raise ConfigurationError(f"`model` must be provider:model, for instance openai:gpt-4o-mini; got {name!r}")
    if provider not in PROVIDERS and provider not in _BUILT_IN and provider not in _entry_points():
        import difflib  # noqa: PLC0415  only for this error

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
        name: ``provider:model``, or the bare name of an OpenAI model.
        api_key: replaces the provider's environment variable.
        base_url: replaces the provider's address.
        env: the environment variables; by default the process's own.
        window_tokens: replaces the figure of the table of model families.
        timeout_s: limit for one whole call; None leaves it to the caller.

    Raises:
        ConfigurationError: the provider is unknown, or the address not usable.
        AuthenticationError: the provider needs a key, and none is set.
    """
    parsed = parse_model_name(name)
    if parsed.provider in _BUILT_IN:
        return cast("Callable[[str], Model]", _load(_BUILT_IN[parsed.provider]))(parsed.model)
    if parsed.provider not in PROVIDERS:
        return _open_entry_point(
            parsed, {"api_key": api_key, "base_url": base_url, "window_tokens": window_tokens, "timeout_s": timeout_s}
        )
    variables = os.environ if env is None else env
    provider = PROVIDERS[parsed.provider]
    address = base_url or (variables.get(provider.url_variable) if provider.url_variable else None) or provider.base_url
    key = api_key or next((variables[name] for name in provider.key_variables if variables.get(name)), None)
    address = address.strip()
    is_own_address = address.rstrip("/") == provider.base_url
    if key is None and provider.key_needed and is_own_address:
        raise AuthenticationError(
            f"{parsed}: no API key. Set {provider.key_variables[0]}, or pass api_key", model=str(parsed)
        )
    key = key.strip() if key else None
    if key and not (key.isascii() and key.isprintable()):
        raise ConfigurationError(f"{parsed}: the API key has characters that no request can carry. Copy it again.")
    options: dict[str, Any] = {
        "api_key": key,
        "base_url": address,
        "provider": parsed.provider,
        "window_tokens": window_tokens or find_window(parsed.model, local=provider.local),
        "extra_body": provider.extra_body,
        "key_variable": provider.key_variables[0],
        "timeout_s": timeout_s,
    }
    if provider.api == "openai_chat":
        options["schema_mode"] = provider.schema_mode
        options["stream_body"] = provider.stream_body
        options["own_machine"] = provider.local
        # The server behind any other address is unknown.
        options["prefix_tokens"] = provider.prefix_tokens if is_own_address or provider.local else None
    return cast("Callable[..., Model]", _load(_ADAPTERS[provider.api]))(parsed.model, **options)


def _open_entry_point(name: ModelName, options: Mapping[str, Any]) -> Model:
    """The model of a provider from another distribution; its factory receives the options that are set."""
    point = _entry_points()[name.provider]
    factory = cast("Callable[..., Model | MinimalModel]", point.load())
    return adapt_model(factory(name.model, **{key: value for key, value in options.items() if value is not None}))


def _load(path: str) -> object:
    module, _, attribute = path.partition(":")
    return cast("object", getattr(importlib.import_module(module), attribute))
