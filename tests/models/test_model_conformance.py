"""The contract of the ``Model`` port, checked over every adapter: providers, local weights, plans, scripts, users' models."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from rlm.core.errors import ConfigurationError, ModelError
from rlm.core.messages import Message, Reply, Request, Task, Usage
from rlm.core.model_info import ModelInfo
from rlm.models.adapt import AdaptedModel, adapt_model, implementation
from rlm.models.anthropic import AnthropicMessages
from rlm.models.local import LocalModel, Weights
from rlm.models.local_process import LocalServer, ServerOrder, ServerPool
from rlm.models.openai_chat import OpenAIChat
from rlm.models.plan import open_plan
from rlm.ports import Model, can_stream
from rlm.repl import CompletionModel
from rlm.testing import ScriptedModel
from rlm.testing.server import ScriptedReply, ScriptedServer

ASK = Request(
    (Message("system", "Be brief."), Message("user", "Say something.")),
    "node",
    task=Task("Say something.", 0, 1, 1, 10_000),
)
ANSWER = "a short answer"


class MinimalModel:
    """The least that a user can write."""

    name = "mine:minimal"
    window_tokens = 1_000

    async def ask(self, request: Request) -> Reply:
        return Reply(ANSWER, Usage(1, 1), self.name)


class StreamingUserModel(MinimalModel):
    """A user's model with the optional parts."""

    slots = 3
    prefix_tokens = 7
    closed = False

    async def stream(self, request: Request, on_text: Callable[[str], bool]) -> Reply:
        on_text(ANSWER)
        return await self.ask(request)

    async def aclose(self) -> None:
        self.closed = True


class Completion:
    def completion(self, context: object, query: str | None = None) -> str:
        return ANSWER


@dataclass
class RunningServer:
    """A running llama.cpp server, as ``LocalModel`` sees it."""

    url: str
    key: str = "k"
    alive: bool = True

    def stop(self) -> None:
        self.alive = False


class OneServer(ServerPool):
    """A pool with one running server."""

    def __init__(self, server: RunningServer) -> None:
        super().__init__()
        self._server = server

    def get(self, order: ServerOrder) -> LocalServer:
        return self._server  # type: ignore[return-value]


async def open_adapter(kind: str, stack: AsyncExitStack, folder: Path) -> Model:
    match kind:
        case "scripted":
            return ScriptedModel(lambda _: ANSWER)
        case "plan":
            plan = folder / "short.py"
            plan.write_text(f"def plan(task):\n    return {ANSWER!r}\n")
            return open_plan(str(plan))
        case "completion":
            return adapt_model(CompletionModel(Completion()))
        case "minimal":
            return adapt_model(MinimalModel())
        case "user, streaming":
            return adapt_model(StreamingUserModel())
    server = await stack.enter_async_context(ScriptedServer(lambda _: ScriptedReply(ANSWER)))
    return open_remote(kind, server, folder)


def open_remote(kind: str, server: ScriptedServer, folder: Path) -> OpenAIChat | AnthropicMessages | LocalModel:
    if kind == "openai":
        return OpenAIChat("m", api_key="k", base_url=server.base_url)
    if kind == "anthropic":
        return AnthropicMessages("claude-opus-4-8", api_key="k", base_url=server.url)
    weights = Weights(folder / "w.gguf", "w", window_tokens=2_048, reply_tokens=128, size=1)
    return LocalModel(weights, servers=OneServer(RunningServer(server.url)))


@pytest.fixture(params=["openai", "anthropic", "local", "plan", "scripted", "completion", "minimal", "user, streaming"])
async def model(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Model]:
    async with AsyncExitStack() as stack:
        model = await open_adapter(request.param, stack, tmp_path)
        yield model
        await model.aclose()


async def test_name_and_info_are_declared(model: Model) -> None:
    provider, colon, name = model.name.partition(":")
    assert (bool(provider), colon, bool(name)) == (True, ":", True)
    assert isinstance(model.info, ModelInfo)
    assert model.info.window_tokens > 0
    assert model.info.slots is None or model.info.slots > 0


async def test_reply_is_complete_and_counted(model: Model) -> None:
    reply = await model.ask(ASK)
    assert reply.text == ANSWER
    assert reply.usage.calls == 1
    assert reply.model


async def test_streamed_reply_equals_whole_reply(model: Model) -> None:
    if not can_stream(model):
        pytest.skip("does not stream")
    pieces: list[str] = []

    def on_text(piece: str) -> bool:
        pieces.append(piece)
        return False

    reply = await model.stream(ASK, on_text)
    assert reply.text == ANSWER
    assert "".join(pieces) == ANSWER
    assert reply.usage.calls == 1


async def test_declared_streaming_matches_methods(model: Model) -> None:
    inner = model.inner if isinstance(model, AdaptedModel) else model
    assert model.info.streams == hasattr(inner, "stream")


async def test_closing_twice_is_safe(model: Model) -> None:
    await model.ask(ASK)
    await model.aclose()
    await model.aclose()


@pytest.mark.parametrize("kind", ["openai", "anthropic", "local"])
@pytest.mark.parametrize("reply", [ScriptedReply("no", status=500), ScriptedReply(""), ScriptedReply("x", cut=True)])
async def test_failures_are_typed_errors_of_the_model(kind: str, reply: ScriptedReply, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(ScriptedServer(lambda _: reply))
        model = open_remote(kind, server, tmp_path)
        for ask in (model.ask, lambda request: model.stream(request, lambda _: False)):
            with pytest.raises(ModelError) as caught:
                await ask(ASK)
            assert caught.value.model == model.name
        await model.aclose()


def test_complete_models_are_not_wrapped() -> None:
    model = ScriptedModel([])
    assert adapt_model(model) is model
    assert implementation(model) is ScriptedModel


async def test_missing_parts_of_user_models_are_filled() -> None:
    minimal, full = MinimalModel(), StreamingUserModel()
    adapted = adapt_model(minimal)
    assert adapted.info == ModelInfo(1_000)
    assert implementation(adapted) is MinimalModel
    assert adapt_model(full).info == ModelInfo(1_000, slots=3, prefix_tokens=7, streams=True)
    await adapt_model(full).aclose()
    assert full.closed


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"name": "a:b", "window_tokens": 10}, "without `ask`"),
        ({"window_tokens": 10, "ask": MinimalModel.ask}, "without `name`"),
        ({"name": "a:b", "ask": MinimalModel.ask}, "`window_tokens` of a:b must be a positive number"),
        ({"name": "a:b", "ask": MinimalModel.ask, "window_tokens": 0}, "got 0"),
    ],
)
def test_incomplete_user_models_are_rejected(attributes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        adapt_model(type("Incomplete", (), attributes)())
