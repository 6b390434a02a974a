"""One POST of JSON to one endpoint, with transport faults translated to the error tree.

One attempt a call: no retry and no limit on connections live here; both are decided above, for the whole run.
It must not know any provider's format. The key travels in headers and appears in no message.
"""

from __future__ import annotations

import asyncio
import base64
import importlib
import os
import ssl
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import SplitResult, quote, unquote, urlsplit
from weakref import WeakKeyDictionary

from rlm.core.errors import (
    ConfigurationError,
    MalformedReplyError,
    ModelError,
    ModelTimeoutError,
    ProviderUnreachableError,
)
from rlm.models.http1 import ConnectFailedError, ConnectTimeoutError, NotHttpError, Pool

CALL_TIMEOUT_S = 600.0  # a long reply of a reasoning model takes minutes
CONNECT_TIMEOUT_S = 10.0
_URL_SAFE = "/?&=%:@!$'()*+,;~-._"


@dataclass(frozen=True, slots=True)
class HttpReply:
    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpEndpoint:
    """An address that JSON is posted to, with connections that are kept alive and never queued for.

    Connections belong to an event loop, so each loop that asks gets a pool of its own, made at its first call.
    Proxies come from the environment (``HTTPS_PROXY``, ``NO_PROXY``), read once.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str,
        headers: Mapping[str, str],
        timeout_s: float = CALL_TIMEOUT_S,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        self._url = _checked_url(url)
        self._model = model
        self._timeout_s = timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._headers = _all_headers(self._url, headers)
        self._head = _request_head(self._url, self._headers)
        self._proxy = _proxy_for(self._url)
        self._pools: WeakKeyDictionary[asyncio.AbstractEventLoop, Pool] = WeakKeyDictionary()
        self._proxied: Any = None

    @property
    def address(self) -> str:
        """The URL without user, password and query, fit for messages."""
        return _without_secrets(self._url)

    async def post(self, body: bytes) -> HttpReply:
        """Sends ``body`` and reads the whole reply, whatever its status. Cancelling closes the connection.

        Redirects are not followed: one would turn the POST into a GET, or carry the prompt to another host.

        Raises:
            ProviderUnreachableError, ModelTimeoutError, MalformedReplyError: when no whole HTTP reply came back.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                if self._proxy is not None:
                    return await self._post_by_proxy(body)
                head = b"%sContent-Length: %d\r\n\r\n" % (self._head, len(body))
                reply = await self._pool().post(head, body, self._connect_timeout_s)
                return HttpReply(reply.status, reply.headers, reply.text())
        except (
            ConnectFailedError,
            ConnectTimeoutError,
            NotHttpError,
            OSError,
        ) as error:  # OSError: also TimeoutError and errors of TLS
            fault = self._translate(error)
        # Raised outside the handler: what is raised inside may hold the request's headers, and with them the key.
        raise fault

    async def aclose(self) -> None:
        """Closes this loop's connections, and those of other loops as far as they still run."""
        here = asyncio.get_running_loop()
        for loop, pool in list(self._pools.items()):
            if loop is here:
                pool.close()
                await asyncio.sleep(0)  # transports end in the loop's next turn
            elif loop.is_running():
                loop.call_soon_threadsafe(pool.close)
        self._pools.clear()
        if self._proxied is not None:
            await self._proxied.aclose()
            self._proxied = None

    def _pool(self) -> Pool:
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None:
            tls = self._url.scheme == "https"
            port = self._url.port or (443 if tls else 80)
            pool = self._pools[loop] = Pool(cast("str", self._url.hostname), port, tls=tls)
        return pool

    async def _post_by_proxy(self, body: bytes) -> HttpReply:
        if self._proxied is None:  # loaded only where it is needed: it takes longer than all else together
            client = importlib.import_module("rlm.models.http_proxy").ProxiedEndpoint
            self._proxied = client(self._url.geturl(), self._proxy, self._headers, self._connect_timeout_s)
        status, headers, data = await self._proxied.post(body)
        return HttpReply(status, headers, data)

    def _translate(self, error: Exception) -> ModelError:
        where = f"{self._model}: "
        if isinstance(error, ConnectTimeoutError):
            return _unreached(
                ProviderUnreachableError(
                    f"{where}no connection to {self.address} within {self._connect_timeout_s:g} s. "
                    "Check the address, the network and any proxy",
                    model=self._model,
                )
            )
        if isinstance(error, TimeoutError):
            return ModelTimeoutError(
                f"{where}no whole reply within {self._timeout_s:g} s. "
                "Allow more time (timeout_s), or ask for a shorter reply",
                model=self._model,
            )
        if isinstance(error, NotHttpError):
            return MalformedReplyError(
                f"{where}{self.address} does not answer in HTTP ({error}). Check the address", model=self._model
            )
        connected = not isinstance(error, ConnectFailedError)
        if isinstance(error, ConnectFailedError):
            error = error.cause
        if isinstance(error, ssl.SSLError):
            reason, advice = "the TLS handshake failed", "check the address and the certificates of this machine"
        elif not connected:
            reason = getattr(error, "strerror", None) or type(error).__name__
            advice = "is the server running, and is the address right?"
        else:
            reason, advice = f"the connection broke ({type(error).__name__})", "usually it passes"
        fault = ProviderUnreachableError(f"{where}cannot reach {self.address}: {reason}; {advice}", model=self._model)
        return fault if connected else _unreached(fault)


def _unreached(fault: ProviderUnreachableError) -> ProviderUnreachableError:
    """Marks a fault after which nothing can have been billed: there was no connection to send on."""
    fault.reached = False
    return fault


def _checked_url(text: str) -> SplitResult:
    try:
        url = urlsplit(text)
        usable = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:
        url, usable = SplitResult("", "", "", "", ""), False
    if not usable:
        raise ConfigurationError(f"{text!r} is no usable base URL. It must look like https://host/v1")
    return url


def _without_secrets(url: SplitResult) -> str:
    return url._replace(netloc=url.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _all_headers(url: SplitResult, headers: Mapping[str, str]) -> dict[str, str]:
    made = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "rlm-arbor"}
    if url.username is not None:
        user = f"{unquote(url.username)}:{unquote(url.password or '')}"
        made["Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
    made |= headers
    for name, value in made.items():
        if not name.isascii() or any(character in name + value for character in "\r\n\0"):
            raise ConfigurationError(f"the header {name!r} holds a character that no header may hold")
    return made


def _request_head(url: SplitResult, headers: Mapping[str, str]) -> bytes:
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    host = url.netloc.rpartition("@")[2].encode("idna" if not url.netloc.isascii() else "ascii").decode()
    lines = [f"POST {quote(target, safe=_URL_SAFE)} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "".join(f"{line}\r\n" for line in lines).encode("utf-8")


def _proxy_for(url: SplitResult) -> str | None:
    if sys.platform == "linux" and not any(name.lower().endswith("_proxy") for name in os.environ):
        return None  # elsewhere the system has settings of its own
    import urllib.request  # noqa: PLC0415  40 ms of every start, for the few who have a proxy

    if urllib.request.proxy_bypass(url.netloc.rpartition("@")[2]):
        return None
    return urllib.request.getproxies().get(url.scheme)
