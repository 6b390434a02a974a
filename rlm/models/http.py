"""One POST of JSON to one endpoint, as cheaply as aiohttp allows, with transport faults translated to the error tree.

One attempt a call: no retry and no limit on connections live here; both are decided above, for the whole run.
It must not know any provider's format. The key travels in each request's headers and appears in no message.
"""

from __future__ import annotations

import asyncio
import io
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from rlm.core.errors import (
    ConfigurationError,
    MalformedReplyError,
    ModelError,
    ModelTimeoutError,
    ProviderUnreachableError,
)

CONNECT_TIMEOUT_S = 10.0
_DNS_TTL_S = 300
_EVENTS = "text/event-stream"
_ONE_WRITE_BYTES = 1 << 20  # aiohttp warns about larger bodies in one piece, since writing them holds up the loop


@dataclass(frozen=True, slots=True)
class HttpReply:
    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpEndpoint:
    """An address that JSON is posted to, with connections that are kept alive and never queued for.

    Connections belong to an event loop, so each loop that asks gets a session of its own, made at its first call.
    Proxies come from the environment (``HTTPS_PROXY``, ``NO_PROXY``), read once. Without ``timeout_s`` whoever asks has the
    deadline: a run's scheduler, which knows what its caller allows.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str,
        headers: Mapping[str, str],
        timeout_s: float | None = None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        self._url = _checked_url(url)
        self._model = model
        # Not the session's: those aiohttp also sends to a proxy, in the clear, before there is a tunnel.
        self._headers = CIMultiDict({"Content-Type": "application/json", "Accept": "application/json", **headers})
        self._stream_headers = CIMultiDict({**self._headers, "Accept": _EVENTS})
        self._timeout_s = timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._proxy = _proxy_for(self._url)
        self._sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, aiohttp.ClientSession] = WeakKeyDictionary()

    @property
    def address(self) -> str:
        """The URL without user, password and query, fit for messages."""
        return str(self._url.with_user(None).with_query(None))

    async def post(self, body: bytes) -> HttpReply:
        """Sends ``body`` and reads the whole reply, whatever its status. Cancelling closes the connection.

        Raises:
            ProviderUnreachableError, ModelTimeoutError, MalformedReplyError: when no whole HTTP reply came back.
        """
        fault: ModelError
        data = body if len(body) <= _ONE_WRITE_BYTES else io.BytesIO(body)
        try:
            # Redirects are not followed: one would turn the POST into a GET, or carry the prompt to another host.
            # Awaited apart from the context that it is: else every call that waits would hold one more coroutine.
            response = await self._session().post(self._url, data=data, headers=self._headers, allow_redirects=False)
            async with response:
                return HttpReply(response.status, response.headers, await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            fault = self._translate(error)
        # Raised outside the handler: aiohttp's errors hold the request's headers, and with them the key.
        raise fault

    async def post_for_stream(self, body: bytes, take: Callable[[bytes], bool]) -> HttpReply:
        """Sends ``body``; where events come back, ``take`` is given their bytes as they arrive, and says when to hang up.

        What is no stream of events (an error, a server that does not stream) is read whole, as by ``post``; of a stream the reply
        holds no body.

        Raises:
            ProviderUnreachableError, ModelTimeoutError, MalformedReplyError: when no HTTP reply came back, or it broke off.
        """
        fault: ModelError
        data = body if len(body) <= _ONE_WRITE_BYTES else io.BytesIO(body)
        headers = self._stream_headers
        try:
            async with self._session().post(self._url, data=data, headers=headers, allow_redirects=False) as response:
                if response.status != 200 or response.content_type != _EVENTS:
                    return HttpReply(response.status, response.headers, await response.read())
                async for piece in response.content.iter_any():
                    if take(piece):
                        response.close()
                        break
                return HttpReply(response.status, response.headers, b"")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            fault = self._translate(error)
        raise fault

    async def aclose(self) -> None:
        """Closes this loop's connections, and those of other loops as far as they still run."""
        here = asyncio.get_running_loop()
        for loop, session in list(self._sessions.items()):
            if loop is here:
                await session.close()
            elif session.connector is not None and loop.is_running():
                loop.call_soon_threadsafe(session.connector.close)
            elif session.connector is not None:
                session.connector.close()
        self._sessions.clear()

    def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None:
            session = self._sessions[loop] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=_DNS_TTL_S),
                timeout=aiohttp.ClientTimeout(total=self._timeout_s, sock_connect=self._connect_timeout_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                proxy=self._proxy,
                auto_decompress=True,
            )
        return session

    def _translate(self, error: Exception) -> ModelError:
        where = f"{self._model}: "
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return _unreached(
                ProviderUnreachableError(
                    f"{where}no connection to {self.address} within {self._connect_timeout_s:g} s. "
                    "Check the address, the network and any proxy",
                    model=self._model,
                )
            )
        if isinstance(error, TimeoutError) and self._timeout_s is not None:
            return ModelTimeoutError(
                f"{where}no whole reply within {self._timeout_s:g} s. "
                "Allow more time (timeout_s), or ask for a shorter reply",
                model=self._model,
            )
        if isinstance(error, aiohttp.ClientHttpProxyError | aiohttp.ClientProxyConnectionError):
            return _unreached(self._translate_proxy(error))
        if isinstance(error, aiohttp.ClientSSLError):
            reason, advice = "the TLS handshake failed", "check the address and the certificates of this machine"
        elif isinstance(error, aiohttp.ClientConnectorError):
            reason = error.os_error.strerror or type(error.os_error).__name__
            advice = "is the server running, and is the address right?"
        elif isinstance(error, aiohttp.ClientResponseError):
            return MalformedReplyError(
                f"{where}{self.address} does not answer in HTTP ({error.message}). Check the address", model=self._model
            )
        else:
            reason, advice = f"the connection broke ({type(error).__name__})", "usually it passes"
        fault = ProviderUnreachableError(f"{where}cannot reach {self.address}: {reason}; {advice}", model=self._model)
        return _unreached(fault) if isinstance(error, aiohttp.ClientConnectorError) else fault

    def _translate_proxy(
        self, error: aiohttp.ClientHttpProxyError | aiohttp.ClientProxyConnectionError
    ) -> ProviderUnreachableError:
        if isinstance(error, aiohttp.ClientHttpProxyError):
            reason = f"refused the way ({error.status} {error.message})"
        else:
            reason = f"cannot be reached ({error.os_error.strerror or type(error.os_error).__name__})"
        proxy = URL(self._proxy or "").with_user(None)
        return ProviderUnreachableError(
            f"{self._model}: the proxy {proxy} {reason}, so {self.address} was not asked. "
            f"Check {self._url.scheme.upper()}_PROXY and NO_PROXY in the environment",
            model=self._model,
        )


def _unreached(fault: ProviderUnreachableError) -> ProviderUnreachableError:
    """Marks a fault after which nothing can have been billed: there was no connection to send on."""
    fault.reached = False
    return fault


def _checked_url(text: str) -> URL:
    try:
        url = URL(text)
    except ValueError:
        url = URL()
    if url.scheme not in {"http", "https"} or not url.host:
        raise ConfigurationError(f"{text!r} is no usable base URL. It must look like https://host/v1")
    return url


def _proxy_for(url: URL) -> str | None:
    if url.host in {"127.0.0.1", "::1"}:
        return None  # this machine, where local models run: what is asked here must not leave it
    if urllib.request.proxy_bypass(f"{url.host}:{url.port}"):
        return None
    return urllib.request.getproxies().get(url.scheme)
