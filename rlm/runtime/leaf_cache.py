"""The cache of leaf answers in a store, and the key of a request."""

from __future__ import annotations

import asyncio
import contextlib
from hashlib import blake2b

import orjson

from rlm.core.errors import StoreError
from rlm.core.messages import Part, Reply, Request, Text, Usage
from rlm.core.redaction import SECRETS
from rlm.models.adapt import implementation
from rlm.ports import Model, Store


class LeafCache:
    """Implements AnswerCache in a store.

    ``scope`` is the address of the models, which decides answers besides the request. ``adds=False`` only reads answers, for runs
    whose texts are not stored. An answer with a secret is not added: a redacted one would be another answer.
    """

    def __init__(self, store: Store, scope: str, *, adds: bool = True) -> None:
        self._store = store
        self._scope = scope
        self._adds = adds

    async def get(self, model: Model, request: Request, occurrence: int) -> Reply | None:
        text = await asyncio.to_thread(self._store.cached_answer, self._key(model, request, occurrence))
        return None if text is None else Reply(text, Usage(), model.name, 0.0)

    def put(self, model: Model, request: Request, occurrence: int, reply: Reply) -> None:
        if not self._adds or SECRETS.redact(data := reply.text.encode("utf-8", "surrogatepass")) != data:
            return
        key = self._key(model, request, occurrence)
        asyncio.get_running_loop().run_in_executor(None, self._store_answer, key, reply.text)

    def _store_answer(self, key: bytes, text: str) -> None:
        with contextlib.suppress(StoreError):  # an answer that is not cached costs another call
            self._store.cache_answer(key, text)

    def _key(self, model: Model, request: Request, occurrence: int) -> bytes:
        return blake2b(
            f"{self._scope}\0{implementation(model).__qualname__}\0{occurrence}\0{request_key(model, request)}".encode()
        ).digest()


def request_key(model: Model, request: Request) -> str:
    """The hash of everything in a request that decides its answer."""
    texts = [[message.role, *_describe(message.content)] for message in request.messages]
    rest = [request.temperature, request.max_output_tokens, request.schema, request.stop]
    encoded = orjson.dumps([model.name, texts, rest], default=str, option=orjson.OPT_SORT_KEYS)
    return blake2b(encoded, digest_size=16).hexdigest()


def _describe(content: str | tuple[Part, ...]) -> list[str]:
    if isinstance(content, str):
        return [content.encode("utf-8", "surrogatepass").hex()]
    texts_and_hashes = (part.text if isinstance(part, Text) else blake2b(part.data).hexdigest() for part in content)
    return ["parts", *(_describe(text)[0] for text in texts_and_hashes)]
