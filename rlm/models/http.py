"""HTTP transport: one POST of JSON to one endpoint, at low cost, with transport faults translated to the error tree.

One attempt a call: retries and limits on connections are decided above, for the whole run. It knows no provider's format. The key
is in each request's headers and never in an error message.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Mapping
from weakref import WeakKeyDictionary

import aiohttp
from multidict import CIMultiDict

from rlm.core.errors import (
    MalformedReplyError,
    ModelError,
    ModelTimeoutError,
    ProviderUnreachableError,
)
from rlm.core.values import frozen
from rlm.models.addresses import Address, find_proxy
from rlm.models.bodies import (
    ACCEPTED_ENCODINGS,
    MAX_ERROR_BYTES,
    MAX_REPLY_BYTES,
    MAX_STREAM_BYTES,
    BodyDecoder,
    BodyError,
    BodyTooLargeError,
)
from rlm.models.sockets import MAX_RETRY_S, RETRY_S, Connector, gate, is_out_of_descriptors
from rlm.models.sse import looks_like_events

CONNECT_TIMEOUT_S = 10.0
THIS_MACHINE = frozenset({"127.0.0.1", "::1", "localhost"})
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
        address: Address,
        *,
        model: str,
        headers: Mapping[str, str],
        timeout_s: float | None = None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        self._url = address.url
        self._model = model
        # Not in the session: aiohttp also sends a session's headers to a proxy, unencrypted, before the tunnel is up.
        authorization = {"Authorization": address.authorization} if address.authorization else {}
        self._headers = CIMultiDict(
            {
                "Content-Type": "application/json",
                "Accept": "application/json",
                "Accept-Encoding": ACCEPTED_ENCODINGS,
                **headers,
                **authorization,
            }
        )
        self._stream_headers = CIMultiDict({**self._headers, "Accept": _EVENTS})
        self._timeout_s = timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._proxy = find_proxy(self._url)
        self._sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, aiohttp.ClientSession] = WeakKeyDictionary()

    @property
    def address(self) -> str:
        """The URL without its query, fit for error messages."""
        return str(self._url.with_query(None))

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
                return HttpReply(response.status, response.headers, await _read_body(response))
        except (aiohttp.ClientError, TimeoutError, OSError, BodyError) as error:
            fault = self._translate(error)
        finally:
            sockets.release()
        # Raised outside the handler: aiohttp's errors hold the request's headers, and so the key.
        raise fault

    async def post_for_stream(self, body: bytes, feed: Callable[[bytes], bool]) -> HttpReply:
        """Sends ``body`` and passes a streamed response to ``feed`` as it arrives, until ``feed`` returns True.

        The first bytes decide, not the content type. Any other response (an error, a server that does not stream) is read whole.
        After a stream the body of the returned response is empty.

        Raises:
            ProviderUnreachableError, ModelTimeoutError, MalformedReplyError: no HTTP response arrived, or it broke off.
        """
        fault: ModelError
        sockets = gate()
        await sockets.acquire()
        try:
            response = await self._send(body, self._stream_headers)
            async with response:
                whole = await _read_body(response) if response.status != 200 else await _read_events(response, feed)
                return HttpReply(response.status, response.headers, whole)
        except (aiohttp.ClientError, TimeoutError, OSError, BodyError) as error:
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
                auto_decompress=False,  # it would decompress without a limit
            )
        return session

    def _translate(self, error: Exception) -> ModelError:
        if isinstance(error, BodyError):
            return MalformedReplyError(
                f"{self._model}: {self.address} sent {error}. Check that it implements the API of this provider name",
                model=self._model,
            )
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
        if not isinstance(error, aiohttp.ClientConnectorError):
            return fault
        refused_here = isinstance(error.os_error, ConnectionRefusedError) and self._url.host in THIS_MACHINE
        fault.hopeless = refused_here or isinstance(error, aiohttp.ClientConnectorDNSError)
        return _unreached(fault)

    def _translate_proxy(
        self, error: aiohttp.ClientHttpProxyError | aiohttp.ClientProxyConnectionError
    ) -> ProviderUnreachableError:
        if isinstance(error, aiohttp.ClientHttpProxyError):
            reason = f"refused the tunnel ({error.status} {error.message})"
        else:
            reason = f"cannot be reached ({error.os_error.strerror or type(error.os_error).__name__})"
        proxy = self._proxy.with_user(None) if self._proxy is not None else ""
        return ProviderUnreachableError(
            f"{self._model}: the proxy {proxy} {reason}, so nothing was sent to {self.address}. "
            f"Check {self._url.scheme.upper()}_PROXY and NO_PROXY in the environment",
            model=self._model,
        )


def _unreached(fault: ProviderUnreachableError) -> ProviderUnreachableError:
    """Marks a fault before any connection was up, so that nothing can have been billed."""
    fault.reached = False
    return fault


async def _read_body(response: aiohttp.ClientResponse) -> bytes:
    """The body. Of a longer error the beginning is enough.

    Raises:
        BodyError: the body of a reply exceeds its limit, or is damaged.
    """
    is_error = response.status >= 300
    pieces: list[bytes] = []
    try:
        decoder = _open_decoder(response, MAX_ERROR_BYTES if is_error else MAX_REPLY_BYTES)
        async for data in response.content.iter_any():
            pieces.extend(decoder.feed(data))
    except BodyError:
        response.close()
        if not is_error:
            raise
    return b"".join(pieces)


async def _read_events(response: aiohttp.ClientResponse, feed: Callable[[bytes], bool]) -> bytes:
    """Passes a stream of events to ``feed`` and returns nothing, or returns the whole body of any other response."""
    head = bytearray()
    streams: bool | None = None
    try:
        decoder = _open_decoder(response, MAX_STREAM_BYTES)
        async for data in response.content.iter_any():
            for piece in decoder.feed(data):
                if not streams:
                    head += piece
                if streams is None:
                    streams = looks_like_events(head)
                    stop = bool(streams) and feed(bytes(head))
                else:
                    stop = streams and feed(piece)
                if stop:
                    response.close()
                    return b""
                if not streams and len(head) > MAX_REPLY_BYTES:
                    raise BodyTooLargeError(MAX_REPLY_BYTES)
    except BodyError:
        response.close()
        raise
    return b"" if streams else bytes(head)


def _open_decoder(response: aiohttp.ClientResponse, limit: int) -> BodyDecoder:
    return BodyDecoder(response.headers.get("Content-Encoding", ""), limit)
