"""HTTP transport: one POST of JSON to one endpoint, at low cost, with transport faults translated to the error tree.

One attempt a call: retries and limits on connections are decided above, for the whole run. It knows no provider's format. The key
is in each request's headers and never in an error message.
"""

from __future__ import annotations

import asyncio
import io
import urllib.request
from collections.abc import Callable, Mapping
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
from rlm.core.values import frozen
from rlm.models.sockets import MAX_RETRY_S, RETRY_S, Connector, gate, is_out_of_descriptors

CONNECT_TIMEOUT_S = 10.0
_DNS_TTL_S = 300
_EVENTS = "text/event-stream"
_ONE_WRITE_BYTES = 1 << 20  # aiohttp warns about larger bodies in one piece, because writing them blocks the loop


@frozen
class HttpReply:
    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpEndpoint:
    """An endpoint with persistent connections, and no connection limit of its own: ``sockets`` has that of the process.

    Connections belong to an event loop, so each loop gets its own session at its first call. Proxies come from the environment
    (``HTTPS_PROXY``, ``NO_PROXY``), read once. Without ``timeout_s`` the caller sets the deadline.
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
        # Not in the session: aiohttp also sends a session's headers to a proxy, unencrypted, before the tunnel is up.
        self._headers = CIMultiDict({"Content-Type": "application/json", "Accept": "application/json", **headers})
        self._stream_headers = CIMultiDict({**self._headers, "Accept": _EVENTS})
        self._timeout_s = timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._proxy = _proxy_for(self._url)
        self._sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, aiohttp.ClientSession] = WeakKeyDictionary()

    @property
    def address(self) -> str:
        """The URL without user, password and query, fit for error messages."""
        return str(self._url.with_user(None).with_query(None))

    async def post(self, body: bytes) -> HttpReply:
        """Sends ``body`` and reads the whole response, whatever its status. Cancelling closes the connection.

        Raises:
            ProviderUnreachableError, ModelTimeoutError, MalformedReplyError: no complete HTTP response arrived.
        """
        fault: ModelError
        sockets = gate()
        await sockets.acquire()
        try:
            # Awaited before the context is entered: otherwise every waiting call would hold one more coroutine.
            response = await self._send(body, self._headers)
            async with response:
                return HttpReply(response.status, response.headers, await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            fault = self._translate(error)
        finally:
            sockets.release()
        # Raised outside the handler: aiohttp's errors hold the request's headers, and so the key.
        raise fault

    async def post_for_stream(self, body: bytes, feed: Callable[[bytes], bool]) -> HttpReply:
        """Sends ``body`` and passes a streamed response to ``feed`` as it arrives, until ``feed`` returns True.

        Any other response (an error, a server that does not stream) is read whole, as by ``post``. After a stream the body of the
        returned response is empty.

        Raises:
            ProviderUnreachableError, ModelTimeoutError, MalformedReplyError: no HTTP response arrived, or it broke off.
        """
        fault: ModelError
        sockets = gate()
        await sockets.acquire()
        try:
            response = await self._send(body, self._stream_headers)
            async with response:
                if response.status != 200 or response.content_type != _EVENTS:
                    return HttpReply(response.status, response.headers, await response.read())
                async for piece in response.content.iter_any():
                    if feed(piece):
                        response.close()
                        break
                return HttpReply(response.status, response.headers, b"")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            fault = self._translate(error)
        finally:
            sockets.release()
        raise fault

    async def _send(self, body: bytes, headers: CIMultiDict[str]) -> aiohttp.ClientResponse:
        """The response of one request, its body not read. Waits while the process has no descriptor for a connection."""
        delay_s = RETRY_S
        while True:
            data = body if len(body) <= _ONE_WRITE_BYTES else io.BytesIO(body)
            try:
                # Redirects are not followed: one would turn the POST into a GET, or send the prompt to another host.
                return await self._session().post(self._url, data=data, headers=headers, allow_redirects=False)
            except OSError as error:
                if not is_out_of_descriptors(error):
                    raise
            gate().drop_all_idle()
            await asyncio.sleep(delay_s)  # bounded by the deadline of the call
            delay_s = min(2 * delay_s, MAX_RETRY_S)

    async def aclose(self) -> None:
        """Closes the connections of this loop, and those of other loops that still run."""
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
            connector = Connector(limit=0, ttl_dns_cache=_DNS_TTL_S)
            gate().connectors.add(connector)
            session = self._sessions[loop] = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=self._timeout_s, sock_connect=self._connect_timeout_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                proxy=self._proxy,
                auto_decompress=True,
            )
        return session

    def _translate(self, error: Exception) -> ModelError:
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return _unreached(
                ProviderUnreachableError(
                    f"{self._model}: no connection to {self.address} within {self._connect_timeout_s:g} s. "
                    "Check the address, the network and any proxy",
                    model=self._model,
                )
            )
        if isinstance(error, TimeoutError) and self._timeout_s is not None:
            return ModelTimeoutError(
                f"{self._model}: no complete reply within {self._timeout_s:g} s. "
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
                f"{self._model}: {self.address} does not answer in HTTP ({error.message}). Check the address",
                model=self._model,
            )
        else:
            reason, advice = f"the connection broke ({type(error).__name__})", "usually a retry succeeds"
        fault = ProviderUnreachableError(
            f"{self._model}: cannot reach {self.address}: {reason}; {advice}", model=self._model
        )
        return _unreached(fault) if isinstance(error, aiohttp.ClientConnectorError) else fault

    def _translate_proxy(
        self, error: aiohttp.ClientHttpProxyError | aiohttp.ClientProxyConnectionError
    ) -> ProviderUnreachableError:
        if isinstance(error, aiohttp.ClientHttpProxyError):
            reason = f"refused the tunnel ({error.status} {error.message})"
        else:
            reason = f"cannot be reached ({error.os_error.strerror or type(error.os_error).__name__})"
        proxy = URL(self._proxy or "").with_user(None)
        return ProviderUnreachableError(
            f"{self._model}: the proxy {proxy} {reason}, so nothing was sent to {self.address}. "
            f"Check {self._url.scheme.upper()}_PROXY and NO_PROXY in the environment",
            model=self._model,
        )


def _unreached(fault: ProviderUnreachableError) -> ProviderUnreachableError:
    """Marks a fault before any connection was up, so that nothing can have been billed."""
    fault.reached = False
    return fault


def _checked_url(text: str) -> URL:
    try:
        url = URL(text)
    except ValueError:
        url = URL()
    if url.scheme not in {"http", "https"} or not url.host:
        raise ConfigurationError(f"`base_url` must look like https://host/v1; got {text!r}")
    return url


def _proxy_for(url: URL) -> str | None:
    if url.host in {"127.0.0.1", "::1"}:
        return None  # local models: their requests must not leave this machine
    if urllib.request.proxy_bypass(f"{url.host}:{url.port}"):
        return None
    return urllib.request.getproxies().get(url.scheme)
