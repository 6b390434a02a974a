"""Messages of text and images, through everything that handles messages: adapters, the scripted server, the codec, bounds."""

from __future__ import annotations

import pickle
from collections import deque
from pathlib import Path
from typing import Any, Literal

import aiohttp
import pytest

from rlm.core.bounds import least_tokens, most_tokens
from rlm.core.compaction import compact, estimate_tokens, to_summarise
from rlm.core.divergence import find_other_request
from rlm.core.errors import ConfigurationError, ImagesNotSupportedError
from rlm.core.events import CallStarted
from rlm.core.ids import CallId, NodeId, RunId
from rlm.core.messages import Image, Message, Request, Role, Task, Text
from rlm.models.anthropic import AnthropicMessages
from rlm.models.local import LocalModel, Weights
from rlm.models.local_process import ServerPool
from rlm.models.openai_chat import OPENAI_URL, OpenAIChat
from rlm.models.plan import open_plan
from rlm.runtime.leaf_cache import request_key
from rlm.sandbox.worker.wire.values import dump, load
from rlm.store.codec import Decoder, Encoder
from rlm.testing import ScriptedModel
from rlm.testing.server import ScriptedServer

IMAGE = Image("image/png", b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
OTHER = Image("image/png", b"\x89PNG other")
MIXED = Message("user", (Text("before"), IMAGE, Text("after")))
PLAIN = Message("user", "beforeafter")
SYSTEM = Message("system", "Be brief.")
CONVERSATION = (SYSTEM, MIXED, Message("assistant", "a cat"), Message("user", "which colour?"))


def test_plain_message_exposes_one_text_part() -> None:
    assert PLAIN.parts == (Text("beforeafter"),)
    assert PLAIN.text is PLAIN.content
    assert not PLAIN.images
    assert PLAIN.append("!") == Message("user", "beforeafter!")


def test_message_exposes_text_parts_and_images() -> None:
    assert MIXED.text == "beforeafter"
    assert MIXED.parts == (Text("before"), IMAGE, Text("after"))
    assert MIXED.images == (IMAGE,)
    assert MIXED.append("!").parts == (*MIXED.parts, Text("!"))
    assert len({MIXED, PLAIN, Message("user", (Text("before"), OTHER, Text("after")))}) == 3
    assert pickle.loads(pickle.dumps(MIXED)) == MIXED


def test_unusable_images_are_refused_at_construction() -> None:
    with pytest.raises(ConfigurationError, match="`media_type` must be one of"):
        Image("image/tiff", b"II")  # type: ignore[arg-type]


@pytest.mark.parametrize("role", ["system", "assistant"])
async def test_images_outside_user_messages_are_not_sent(role: Role) -> None:
    model = AnthropicMessages("claude-opus-4-8", api_key="k", base_url="http://127.0.0.1:9")
    with pytest.raises(ImagesNotSupportedError, match="must be in a user message"):
        await model.ask(Request((Message(role, (Text("a"), IMAGE)), Message("user", "q"))))


def test_repr_of_message_omits_image_data() -> None:
    assert "PNG" not in repr(MIXED)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("api", ["openai", "anthropic"])
@pytest.mark.parametrize(
    "more",
    [{}, {"shared_chars": 3}, {"cache_key": "k"}, {"schema": {"type": "string"}}, {"role": "node", "cache_key": "k"}],
    ids=["plain", "shared prefix", "cache key", "schema", "node"],
)
async def test_adapters_send_images_in_order(
    api: Literal["openai", "anthropic"], more: dict[str, Any], stream: bool
) -> None:
    conversation = (*CONVERSATION, Message("assistant", "red"), MIXED)
    async with ScriptedServer('{"value": "yes"}') as server:
        model = (
            OpenAIChat("gpt-6", api_key="k", base_url=server.base_url, schema_mode="instruct")
            if api == "openai"
            else AnthropicMessages("claude-3-haiku", api_key="k", base_url=server.url)
        )
        request = Request(conversation, **more)
        await (model.stream(request, lambda _: False) if stream else model.ask(request))
        await model.aclose()
    (call,) = server.calls
    *earlier, newest = call.messages
    assert tuple(earlier) == conversation[:-1]
    assert newest.images == (IMAGE,)
    assert newest.text.startswith("beforeafter")


def test_openai_marks_cache_breakpoint_after_image() -> None:
    model = OpenAIChat("gpt-6", api_key="k", base_url=OPENAI_URL)
    earlier = Message("user", (Text("before"), IMAGE))
    body = model.body(Request((earlier, Message("user", "q")), cache_key="k"), None)
    first, last = body["messages"][0]["content"]
    assert (first["type"], "prompt_cache_breakpoint" in first) == ("text", False)
    assert (last["type"], "prompt_cache_breakpoint" in last) == ("image_url", True)


async def test_server_rejects_image_given_as_address() -> None:
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}],
    }
    async with (
        ScriptedServer() as server,
        aiohttp.ClientSession() as session,
        session.post(f"{server.base_url}/chat/completions", json=body) as response,
    ):
        assert response.status == 400
        assert "given as data" in await response.text()


async def test_text_only_models_reject_images_before_sending(tmp_path: Path) -> None:
    weights = Weights(tmp_path / "missing.gguf", "m", window_tokens=8_192, reply_tokens=100, size=1)
    servers = ServerPool()
    async with ScriptedServer() as server:
        for model in (
            OpenAIChat("gpt-3.5-turbo", api_key="k", base_url=server.base_url),
            LocalModel(weights, servers=servers),
        ):
            for ask in (model.ask, lambda request, model=model: model.stream(request, lambda _: False)):
                with pytest.raises(ImagesNotSupportedError, match="accepts text only") as caught:
                    await ask(Request(CONVERSATION))
                assert caught.value.model == model.name
            await model.aclose()
    assert not server.calls
    assert not servers.running()


async def test_scripted_model_counts_images_as_part_of_prefix() -> None:
    model = ScriptedModel(lambda _: "ok")
    long = Message("user", (IMAGE, Text("word " * 400)))
    other = Message("user", (OTHER, Text("word " * 400)))
    cached = [(await model.ask(Request((message,)))).usage.cached_tokens for message in (long, long, other)]
    assert cached[0] == 0
    assert cached[1] > 0
    assert cached[2] == 0


async def test_plan_reads_text_of_mixed_observation(tmp_path: Path) -> None:
    plan = tmp_path / "p.py"
    plan.write_text("def plan(task):\n    shown = yield 'first'\n    yield f'saw {shown}'\n")
    talk = (SYSTEM, Message("user", "q"), Message("assistant", "first"), MIXED)
    reply = await open_plan(str(plan)).ask(Request(talk, "node", task=Task("q", 0, 1, 2, 1000)))
    assert reply.text == "saw beforeafter"


@pytest.mark.parametrize("role", ["node", "leaf"])
@pytest.mark.parametrize("task", [None, Task("q", 0, 1, 1, 1000)], ids=["general form", "short form"])
@pytest.mark.parametrize("keep_texts", [True, False])
def test_codec_restores_images(role: Literal["node", "leaf"], task: Task | None, keep_texts: bool) -> None:
    talks = [CONVERSATION[:2], CONVERSATION, (MIXED,), (Message("user", (OTHER, Text("x" * 5_000))),)]
    started = [
        CallStarted(
            run=RunId("r"),
            node=NodeId("0"),
            at_s=0.5,
            call=CallId(f"0@{turn}"),
            role=role,
            depth=0,
            model="m",
            turn=turn,
            request=Request(talk, role, task=task),
        )
        for turn, talk in enumerate(talks, start=1)
    ]
    encoder = Encoder(dump, keep_texts=keep_texts)
    lines = [encoder.encode(deque([event])) for event in started]
    decoder = Decoder(RunId("r"), encoder.take_texts().get, load, lenient=not keep_texts)
    decoded = [event for line in lines for event in decoder.decode(line)]
    if keep_texts:
        assert decoded == started
    else:
        assert all(isinstance(event, CallStarted) for event in decoded)
        assert b"PNG" not in b"".join(lines)


def test_bounds_count_images() -> None:
    assert most_tokens((MIXED,)) - most_tokens((PLAIN,)) > 36_835
    assert least_tokens((MIXED,)) == least_tokens((PLAIN,))
    assert estimate_tokens((MIXED,)) > estimate_tokens((PLAIN,))


def test_compaction_retains_images_of_head_and_newest_output() -> None:
    head = (SYSTEM, MIXED)
    newest = Message("user", (Text("output"), OTHER))
    talk = (*head, Message("assistant", "code"), newest)
    *_, asked = to_summarise(talk, len(talk), "Summarise.")
    assert asked.images == (OTHER,)
    assert asked.text == "output\n\nSummarise."
    _, first = compact(talk, len(talk), "summary", "x (int)", 10_000)
    assert first.images == (IMAGE, OTHER)
    assert first.text.endswith("output")


def test_divergence_and_cache_key_distinguish_images() -> None:
    before, after = (Request((Message("user", (Text("a"), image)),)) for image in (IMAGE, OTHER))
    assert find_other_request(before, before) is None
    assert "other images" in (find_other_request(before, after) or "")
    model = ScriptedModel([])
    requests = [before, after, Request((Message("user", "a"),)), Request((Message("user", (IMAGE, Text("a"))),))]
    assert len({request_key(model, request) for request in requests}) == 4
