"""Names of models: parsing, opening, and providers of other distributions."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import rlm
from rlm.core.errors import AuthenticationError, ConfigurationError
from rlm.core.messages import Message, Request
from rlm.models.adapt import AdaptedModel
from rlm.models.anthropic import AnthropicMessages
from rlm.models.openai_chat import OpenAIChat
from rlm.models.registry import PROVIDERS, ModelName, known_providers, open_model, parse_model_name
from rlm.models.windows import find_window
from rlm.testing import ScriptedModel
from rlm.testing.server import ScriptedReply, ScriptedServer

ASK = Request((Message("user", "x"),))


@pytest.mark.parametrize(
    ("name", "provider", "model"),
    [
        ("gpt-4o-mini", "openai", "gpt-4o-mini"),
        ("openai:gpt-4o", "openai", "gpt-4o"),
        (" OpenAI:gpt-4o ", "openai", "gpt-4o"),
        ("ft:gpt-4o:org::id", "openai", "ft:gpt-4o:org::id"),
        ("openai:ft:gpt-4o:org", "openai", "ft:gpt-4o:org"),
        ("ollama:qwen2.5:7b", "ollama", "qwen2.5:7b"),
        ("openrouter:meta-llama/llama-3:free", "openrouter", "meta-llama/llama-3:free"),
        ("local:/models/a:b.gguf", "local", "/models/a:b.gguf"),
        ("plan:map_reduce", "plan", "map_reduce"),
    ],
)
def test_names_are_parsed(name: str, provider: str, model: str) -> None:
    parsed = parse_model_name(name)
    assert parsed == ModelName(provider, model)
    assert parse_model_name(str(parsed)) == parsed


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("antropic:claude", "Did you mean anthropic:claude"),
        ("nonsense-xyz:m", "Known: anthropic, cerebras"),
        ("openai:", "must be provider:model"),
        ("", "must be provider:model"),
    ],
)
def test_unusable_names_are_rejected(name: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        parse_model_name(name)


@pytest.mark.parametrize("provider", [name for name, provider in PROVIDERS.items() if provider.key_needed])
def test_missing_key_is_reported_before_sending(provider: str) -> None:
    with pytest.raises(AuthenticationError, match=f"Set {PROVIDERS[provider].key_variables[0]}"):
        open_model(f"{provider}:m", env={})


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
def test_every_provider_opens_with_its_key(provider: str) -> None:
    entry = PROVIDERS[provider]
    model = open_model(f"{provider}:some-model", env={entry.key_variables[0]: "key-value-1"})
    assert model.name == f"{provider}:some-model"
    assert isinstance(model, AnthropicMessages if entry.api == "anthropic" else OpenAIChat)
    assert model.info.window_tokens == (8_192 if entry.local else 128_000)
    assert "key-value-1" not in repr(model)


@pytest.mark.parametrize(
    ("env", "api_key", "sent"),
    [
        ({}, None, None),
        ({"OPENAI_API_KEY": "from-env\n"}, None, "Bearer from-env"),
        ({"OPENAI_API_KEY": "from-env"}, "given", "Bearer given"),
        ({"OPENAI_API_KEY": ""}, None, None),
    ],
)
async def test_arguments_precede_environment_variables(
    env: Mapping[str, str], api_key: str | None, sent: str | None
) -> None:
    async with ScriptedServer("ok") as server:
        model = open_model(
            "m", api_key=api_key, env={**env, "OPENAI_BASE_URL": server.base_url + "/"}, window_tokens=99
        )
        assert (await model.ask(ASK)).text == "ok"
        assert model.info.window_tokens == 99
        assert server.calls[0].headers.get("Authorization") == sent
        await model.aclose()


async def test_anthropic_opens_with_own_address() -> None:
    async with ScriptedServer("ok") as server:
        model = open_model("anthropic:claude-x", env={"ANTHROPIC_BASE_URL": server.url, "ANTHROPIC_API_KEY": "k"})
        assert (await model.ask(ASK)).text == "ok"
        assert (server.calls[0].api, server.calls[0].headers["x-api-key"]) == ("anthropic", "k")
        await model.aclose()


async def test_refused_key_names_provider_variable() -> None:
    async with ScriptedServer([ScriptedReply("no", status=401)]) as server:
        model = open_model("groq:llama", base_url=server.base_url, env={})
        with pytest.raises(AuthenticationError, match="Set GROQ_API_KEY"):
            await model.ask(ASK)
        await model.aclose()


def test_parsing_names_imports_no_client_or_prices() -> None:
    heavy = "{'aiohttp', 'genai_prices', 'orjson'}"
    code = f"import sys, rlm.models.registry, rlm.models.prices; print(*sorted({heavy} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == ""


@pytest.mark.parametrize(
    ("model_id", "tokens"),
    [
        ("gpt-3.5-turbo-0125", 16_385),
        ("gpt-4", 8_192),
        ("gpt-4-0613", 8_192),
        ("gpt-4-turbo-preview", 128_000),
        ("gpt-4o-mini-2024-07-18", 128_000),
        ("ft:gpt-4o:org", 128_000),
        ("gpt-4.1-nano", 1_000_000),
        ("gpt-5-mini", 400_000),
        ("gpt-5.6-sol", 1_000_000),
        ("o3-mini", 200_000),
        ("claude-haiku-4-5", 200_000),
        ("claude-opus-4-8", 1_000_000),
        ("claude-sonnet-4-20250514", 200_000),
        ("claude-sonnet-5-5", 1_000_000),
        ("anthropic/claude-3-haiku", 200_000),
        ("meta-llama/Llama-3.3-70B-Instruct-Turbo", 128_000),
        ("something-new", 128_000),
    ],
)
def test_windows_by_model_family(model_id: str, tokens: int) -> None:
    assert find_window(model_id) == tokens


PLUGIN = """
class Parrot:
    window_tokens = 500

    def __init__(self, model_id, options):
        self.name = f"acme:{model_id}"
        self.options = options

    async def ask(self, request):
        from rlm.core.messages import Reply, Usage

        return Reply(request.messages[-1].text, Usage(calls=1), self.name)


def open_parrot(model_id, **options):
    return Parrot(model_id, options)
"""


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution that adds the provider ``acme``."""
    (tmp_path / "acme_models.py").write_text(PLUGIN)
    metadata = tmp_path / "acme_models-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-models\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[rlm.models]\nacme = acme_models:open_parrot\n")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("acme")
async def test_entry_point_adds_a_provider() -> None:
    model = open_model("acme:grey", api_key="k", window_tokens=None)
    assert (model.name, model.info.window_tokens) == ("acme:grey", 500)
    assert isinstance(model, AdaptedModel)
    assert model.inner.options == {"api_key": "k"}  # type: ignore[union-attr]
    assert (await model.ask(ASK)).text == "x"
    assert "acme" in known_providers()


@pytest.mark.usefixtures("acme")
def test_entry_point_serves_a_run() -> None:
    plan = ScriptedModel(["```repl\nFINAL(llm_query('hello'))\n```"])
    assert rlm.ask("Say it.", "x", model=plan, sub_model="acme:grey").answer == "hello"


def test_missing_entry_point_is_an_unknown_provider() -> None:
    with pytest.raises(ConfigurationError, match="unknown provider 'acme'"):
        open_model("acme:grey")
