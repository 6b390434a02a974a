"""Downloads of addresses that the user names. Private addresses are refused by default; sizes and redirects are bounded."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urljoin, urlsplit

import aiohttp

from rlm.core.errors import ContextError

MAX_BYTES = 200_000_000
MAX_REDIRECTS = 5
TIMEOUT_S = 120.0
_CHUNK = 1 << 16
_SCHEMES = ("http", "https")


class _NamedOrPublicResolver(aiohttp.abc.AbstractResolver):
    """Resolves names to public addresses only, at the moment of connecting, so that a name cannot change in between."""

    def __init__(self, allowed: frozenset[str]) -> None:
        self._allowed = allowed
        self._inner = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[aiohttp.abc.ResolveResult]:
        results = await self._inner.resolve(host, port, family)
        if host in self._allowed:
            return results
        public = [item for item in results if is_public(item["host"])]
        if not public:
            raise OSError(f"{host} is a private address; name it as a source yourself to read it")
        return public

    async def close(self) -> None:
        await self._inner.close()


def is_public(address: str) -> bool:
    """True if an IP address is reachable on the public internet: not private, link-local, loopback or reserved."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_global and not parsed.is_multicast


async def download(address: str, *, max_bytes: int = MAX_BYTES) -> tuple[bytes, str]:
    """Bytes of an address and its content type.

    The host that the user named can be private. A redirect can only lead to that host or to public ones.

    Raises:
        ContextError: it cannot be fetched, is too large, or a redirect leads to a private address.
    """
    host = urlsplit(address).hostname or ""
    resolver = _NamedOrPublicResolver(frozenset({host}))
    connector = aiohttp.TCPConnector(resolver=resolver)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=True) as session:
            return await _follow(session, address, host, max_bytes)
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
        raise ContextError(f"cannot fetch {_shown(address)}: {str(error) or type(error).__name__}") from error


async def _follow(session: aiohttp.ClientSession, address: str, named_host: str, max_bytes: int) -> tuple[bytes, str]:
    for _ in range(MAX_REDIRECTS + 1):
        parts = urlsplit(address)
        if parts.scheme not in _SCHEMES:
            raise ContextError(f"cannot fetch {_shown(address)}: only http and https are supported")
        literal = (parts.hostname or "").strip("[]")
        if literal != named_host and _is_literal(literal) and not is_public(literal):
            raise ContextError(f"cannot fetch {_shown(address)}: a redirect leads to a private address")
        async with session.get(address, allow_redirects=False) as response:
            if response.status in (301, 302, 303, 307, 308) and "Location" in response.headers:
                address = urljoin(address, response.headers["Location"])
                continue
            if response.status != 200:
                raise ContextError(f"cannot fetch {_shown(address)}: HTTP status {response.status}")
            return await _read(response, address, max_bytes), response.content_type
    raise ContextError(f"cannot fetch {_shown(address)}: more than {MAX_REDIRECTS} redirects")


async def _read(response: aiohttp.ClientResponse, address: str, max_bytes: int) -> bytes:
    parts, total = [], 0
    async for chunk in response.content.iter_chunked(_CHUNK):
        total += len(chunk)
        if total > max_bytes:
            raise ContextError(f"cannot fetch {_shown(address)}: larger than {max_bytes:,} bytes")
        parts.append(chunk)
    return b"".join(parts)


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _shown(address: str) -> str:
    """An address without user name, password and query, which can hold secrets."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path}"[:300]
