"""Images in contexts: handles in the REPL, pixels for the models that cells ask."""

from __future__ import annotations

import asyncio
import base64
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st
from programs import cell, script

import rlm
from rlm.core.image_size import image_size, image_type
from rlm.core.messages import Request
from rlm.runtime import images
from rlm.sandbox.protocol import finish
from rlm.sandbox.worker.wire.frames import WireError
from rlm.sandbox.worker.wire.images import ImageHandle
from rlm.sandbox.worker.wire.pieces import dump_value, read_value
from rlm.sandbox.worker.wire.values import load
from rlm.testing.scripted import ScriptedModel
from rlm.testing.server import ScriptedServer


def png(width: int, height: int) -> bytes:
    rows = b"".join(b"\0" + b"\xff\0\0" * width for _ in range(height))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


RED, BLUE = png(4, 3), png(5, 5)


def seeing(code: str) -> ScriptedModel:
    """A root that writes one cell, and leaf calls that tell the sizes of the images that they are shown."""

    def reply(request: Request) -> str:
        if request.role == "node":
            return cell(code)
        message = request.messages[0]
        return f"{message.text}: {[len(image.data) for image in message.images]}"

    return ScriptedModel(reply)


def test_cells_show_images_to_models() -> None:
    code = """
one = llm_query("a", images=[context["chart"]])
single = llm_query("b", images=context["chart"], context="data")
shared = llm_query_batch(["c", "d"], images=[context["chart"]])
own = llm_query_batch(["e", "f"], images=[[context["chart"]], context["more"]], context=["x", "y"])
later = await llm_query_async("g", images=context["more"])
batch = await llm_query_batch_async(["h"], images=context["more"])
FINAL([one, single, shared, own, later, batch])
"""
    context = {"chart": rlm.Image(RED, name="chart.png"), "more": [rlm.Image(BLUE)]}
    red, blue = len(RED), len(BLUE)
    assert rlm.ask("q", context, seeing(code), store=None).answer == [
        f"a: [{red}]",
        f"b\n\ndata: [{red}]",
        [f"c: [{red}]", f"d: [{red}]"],
        [f"e\n\nx: [{red}]", f"f\n\ny: [{blue}]"],
        f"g: [{blue}]",
        [f"h: [{blue}]"],
    ]


def test_a_loop_over_images_is_prefetched() -> None:
    code = "out = []\nfor image in context:\n    out.append(llm_query('what', images=[image]))\nFINAL(out)"
    context = [rlm.Image(png(1, height)) for height in range(1, 21)]
    answer = rlm.ask("q", context, seeing(code), store=None).answer
    assert answer == [f"what: [{image.size}]" for image in context]


def test_images_are_small_handles_in_the_repl() -> None:
    code = (
        "i = context\nFINAL([i.name, i.media_type, i.size, i.width, i.height, repr(i), hasattr(i, 'data'), i.source])"
    )
    image = rlm.Image(RED, name="a.png")
    name, media_type, size, width, height, shown, has_data, source = rlm.ask(
        "q", image, seeing(code), store=None
    ).answer
    assert (name, media_type, size, width, height) == ("a.png", "image/png", len(RED), 4, 3)
    assert shown.startswith("<image 'a.png': image/png, 4x3")
    assert (has_data, source) == (False, None)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("llm_query('a', images='chart.png')", "TypeError: images must be a list of images of the input, not str"),
        ("llm_query('a', images=[b'x'])", "TypeError: images must hold images of the input, not bytes"),
        ("llm_query('a', images=[context] * 65)", "ValueError: images must be at most 64"),
        ("llm_query_batch(['a', 'b'], images=[[context]])", "ValueError: images has 1 lists for 2 prompts"),
        ("context.name = 'x'", "AttributeError: an image cannot be changed"),
        ("llm_query('a', images=[type(context)('0' * 32, 'x', 'image/png', 1)])", "not part of this run's input"),
    ],
)
def test_wrong_images_are_errors_in_the_cell(code: str, error: str) -> None:
    wrapped = f"try:\n    {code}\nexcept Exception as error:\n    FINAL(f'{{type(error).__name__}}: {{error}}')"
    assert error in str(rlm.ask("q", rlm.Image(RED), seeing(wrapped), store=None).answer)


def test_a_child_is_given_images_in_its_context() -> None:
    def reply(request: Request) -> str:
        if request.depth == 0:
            return cell(
                "a = llm_query_batch(['x'], images=[context])\nFINAL([str(a[0]), llm_query('look', context={'i': context})])"
            )
        if request.role == "node":
            return cell("FINAL(llm_query('see', images=[context['i']]))")
        return f"{len(request.messages[0].images)} image"

    refused, seen = rlm.ask("q", rlm.Image(RED), ScriptedModel(reply), store=None, max_depth=2).answer
    assert "recursive=False" in refused
    assert seen == "1 image"


def test_prompts_describe_images_only_where_there_are_any() -> None:
    with ScriptedServer.in_thread(script([cell("FINAL(1)")])) as server:
        engine = rlm.RLM("openai:m", base_url=server.base_url, api_key="x", store=None)
        engine.run("q", [rlm.Image(RED)])
        engine.run("q", "text")
    first, second = (call.messages[0].text for call in server.calls)
    assert "images=[image]" in first
    assert "images=" not in second


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_images_reach_providers_in_their_form(provider: str) -> None:
    with ScriptedServer.in_thread(script([cell("FINAL(llm_query('see', images=[context]))")])) as server:
        base_url = server.base_url if provider == "openai" else server.url
        result = rlm.ask("q", rlm.Image(RED), f"{provider}:model-4", base_url=base_url, api_key="x", store=None)
    assert result.answer == "leaf"
    (shown,) = [image for call in server.calls for image in call.messages[-1].images]
    assert (shown.media_type, shown.data) == ("image/png", RED)


def test_text_only_models_are_refused_before_any_call() -> None:
    with ScriptedServer.in_thread(script([cell("FINAL(1)")])) as server:
        engine = rlm.RLM("openai:gpt-3.5-turbo", base_url=server.base_url, api_key="x", store=None)
        with pytest.raises(rlm.ImagesNotSupportedError, match="text only"):
            engine.run("q", {"a": [rlm.Image(RED)]})
    assert server.calls == []


def test_a_budget_bounds_the_tokens_of_images() -> None:
    with ScriptedServer.in_thread(
        script([cell("FINAL(str(llm_query_batch(['see'], images=[context])[0]))")])
    ) as server:
        engine = rlm.RLM(
            "openai:m", base_url=server.base_url, api_key="x", store=None, budget=rlm.Budget(tokens=30_000)
        )
        assert "budget" in str(engine.run("q", rlm.Image(RED)).answer).lower()
    assert not any(call.messages[-1].images for call in server.calls)


def test_replays_need_the_same_images(tmp_path: Path) -> None:
    engine = rlm.RLM(seeing("FINAL([llm_query('a', images=[context]), context])"), store=tmp_path / "runs.db")
    result = engine.run("q", rlm.Image(RED))
    with rlm.open_store(tmp_path / "runs.db") as store:
        assert store.result().answer == result.answer
    with pytest.raises(rlm.IncompleteRecordError):
        engine.replay(result.run_id)
    with pytest.raises(rlm.IncompleteRecordError):
        engine.replay(result.run_id, rlm.Image(BLUE))
    assert engine.replay(result.run_id, rlm.Image(RED)).answer == result.answer
    assert RED not in (tmp_path / "runs.db").read_bytes()


async def test_images_are_read_from_paths_and_addresses(tmp_path: Path) -> None:
    path = tmp_path / "a b.png"
    path.write_bytes(RED)
    assert rlm.Image(path).name == rlm.Image(str(path)).name == "a b.png"
    assert pickle.loads(pickle.dumps(rlm.Image(path))) == rlm.Image(RED)
    with pytest.raises(rlm.ContextError, match="cannot be read"):
        rlm.Image(tmp_path / "none.png")
    with pytest.raises(rlm.ContextError, match="not a PNG"):
        rlm.Image(b"%PDF-1.7")
    with pytest.raises(rlm.ConfigurationError, match="must be a path"):
        rlm.Image(7)  # type: ignore[arg-type]

    async def serve(_: web.Request) -> web.Response:
        return web.Response(body=BLUE)

    app = web.Application()
    app.router.add_get("/x/chart.png", serve)
    async with TestServer(app) as server:
        image = await asyncio.to_thread(rlm.Image, str(server.make_url("/x/chart.png?v=1")))
    assert (image.name, image.width) == ("chart.png", 5)


def test_large_images_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_IMAGE_BYTES", 50)
    with pytest.raises(rlm.ContextError, match="can have 50"):
        rlm.Image(RED)


@pytest.mark.parametrize(
    ("data", "kind", "size"),
    [
        (RED, "image/png", (4, 3)),
        (b"GIF89a" + struct.pack("<HH", 7, 9), "image/gif", (7, 9)),
        (
            base64.b64decode("/9j/4AAQSkZJRgABAQAAAQABAAD/wAARCAAJAAcDASIAAhEBAxEB/9k="),
            "image/jpeg",
            (7, 9),
        ),
        (b"RIFF\0\0\0\0WEBPVP8X" + bytes(8) + b"\x06\0\0\x08\0\0", "image/webp", (7, 9)),
        (b"plain text", None, (0, 0)),
        (b"\x89PNG\r\n\x1a\n", "image/png", (0, 0)),
        (b"\xff\xd8\xff", "image/jpeg", (0, 0)),
    ],
)
def test_type_and_size_are_read_from_the_file(data: bytes, kind: str | None, size: tuple[int, int]) -> None:
    assert (image_type(data), image_size(data)) == (kind, size)


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"RIFF\0\0\0\0WEBPVP8L"]),
)
def test_no_bytes_break_the_readers(data: bytes, start: bytes) -> None:
    width, height = image_size(start + data)
    assert width >= 0
    assert height >= 0


@pytest.mark.parametrize(
    "items",
    ["[]", '["a",1,"b",1,1,1]', '["a","b","c",-1,0,0]', '["a","b","c",true,0,0]', '{"x":1}', '["a","b","c",1,1,1,1]'],
)
def test_malformed_images_on_the_wire_are_refused(items: str) -> None:
    for kind in ("image", "images"):
        with pytest.raises(WireError):
            load("j", f'{{"$":"{kind}","v":{items}}}'.encode())


def test_images_in_large_values_survive_the_wire() -> None:
    handle = ImageHandle("1" * 32, "n", "image/png", 5, 1, 2)
    value: Any = {"texts": ["x" * 100] * 2_000, "images": [handle] * 3}
    kind, data = dump_value(value)
    assert kind == "p"
    read: Any = finish(read_value(kind, memoryview(data)))
    assert read["images"] == value["images"]
    assert [image.height for image in read["images"]] == [2, 2, 2]
