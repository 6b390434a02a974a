"""Posting through a proxy, by aiohttp: for those who need one. Faults come out as the exceptions that ``http1`` raises."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Mapping
from weakref import WeakKeyDictionary

import aiohttp

from rlm.models.http1 import WRITE_BYTES, ConnectFailedError, ConnectTimeoutError, NotHttpError


class ProxiedEndpoint:
    """An address behind a proxy. Each event loop gets a session of its own."""

    def __init__(self, url: str, proxy: str, headers: Mapping[str, str], connect_timeout_s: float) -> None:
        self._url = url
        self._proxy = proxy
        self._headers = headers
        self._connect_timeout_s = connect_timeout_s
        self._sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, aiohttp.ClientSession] = WeakKeyDictionary()

    async def post(self, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of the reply.

        Raises:
            ConnectFailedError, ConnectTimeoutError, NotHttpError, OSError: as ``http1`` has them.
        """
        data = body if len(body) <= WRITE_BYTES else io.BytesIO(body)
        fault: Exception
        try:
            async with self._session().post(self._url, data=data, allow_redirects=False) as response:
                return response.status, response.headers, await response.read()
        except aiohttp.ConnectionTimeoutError:
            fault = ConnectTimeoutError()
        except aiohttp.ClientConnectorError as error:  # also of TLS
            fault = ConnectFailedError(error.os_error)
        except aiohttp.ClientResponseError as error:
            fault = NotHttpError(error.message)
        except aiohttp.ClientError as error:
            fault = ConnectionResetError(type(error).__name__)
        raise fault

    async def aclose(self) -> None:
        """Closes this loop's session, and those of other loops as far as they still run."""
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
                connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_timeout_s),
                headers=self._headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                proxy=self._proxy,
            )
        return session
