"""TLS and proxies over real sockets: what is trusted, what goes through a proxy, and that a proxy of HTTPS sees no key."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme

from rlm.core.errors import ProviderUnreachableError
from rlm.core.messages import Message, Request
from rlm.models.openai_chat import OpenAIChat
from rlm.testing.server import ScriptedServer

KEY = "sk-a-secret-key"
HOST = "models.example"
ASK = """
import asyncio, sys
from rlm.core.messages import Message, Request
from rlm.models.openai_chat import OpenAIChat

async def main():
    model = OpenAIChat("m", api_key="sk-a-secret-key", base_url=sys.argv[1])
    try:
        print((await model.ask(Request((Message("user", "x"),)))).text)
    finally:
        await model.aclose()

asyncio.run(main())
"""
"""Certificates and proxies are found in the environment when a process starts: each case is a process of its own."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def join(one: Streams, other: Streams) -> None:
    await asyncio.gather(pump(one[0], other[1]), pump(other[0], one[1]), return_exceptions=True)


@asynccontextmanager
async def listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()


@asynccontextmanager
async def behind_tls(authority: trustme.CA, server: ScriptedServer, name: str = "localhost") -> AsyncIterator[str]:
    """The server once more, with a certificate of the authority for ``name``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    port = urlsplit(server.base_url).port

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await join((reader, writer), await asyncio.open_connection("127.0.0.1", port))

    async with listening(serve, context) as tls_port:
        yield f"https://localhost:{tls_port}/v1"


@asynccontextmanager
async def proxy(seen: list[bytes], *, refuses: bool = False) -> AsyncIterator[str]:
    """An HTTP proxy that finds every host on this machine. ``seen`` is all that it can read."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        seen.append(head)
        method, target, _ = head.split(b" ", 2)
        if refuses:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        if method == b"CONNECT":
            port = target.decode().rpartition(":")[2]
            onward = await asyncio.open_connection("127.0.0.1", int(port))
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            address = urlsplit(target.decode())
            onward = await asyncio.open_connection("127.0.0.1", address.port)
            onward[1].write(head.replace(target, address.path.encode(), 1))
        await join((reader, writer), onward)

    async with listening(serve) as port:
        yield f"http://127.0.0.1:{port}"


async def ask(base_url: str, **env: str) -> tuple[str, str]:
    """The output and the error output of a new process that sends a request there."""
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ASK, base_url,
        env={**clean, **env}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, complaint = await process.communicate()
    return output.decode().strip(), complaint.decode()


def trusted(authority: trustme.CA, folder: Path) -> dict[str, str]:
    path = folder / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return {"SSL_CERT_FILE": str(path)}


async def test_trusted_certificate_is_accepted(authority: trustme.CA, tmp_path: Path) -> None:
    async with ScriptedServer("over TLS") as server, behind_tls(authority, server) as url:
        assert await ask(url, **trusted(authority, tmp_path)) == ("over TLS", "")


@pytest.mark.parametrize("name", ["localhost", "elsewhere.example"])
async def test_untrusted_server_gets_no_key(authority: trustme.CA, tmp_path: Path, name: str) -> None:
    """An authority that this machine does not know, and one that it knows with a certificate for another host."""
    async with ScriptedServer("never") as server, behind_tls(authority, server, name) as url:
        if name == "localhost":
            model = OpenAIChat("m", api_key=KEY, base_url=url)
            with pytest.raises(ProviderUnreachableError, match=r"TLS handshake failed.*certificates") as caught:
                await model.ask(Request((Message("user", "x"),)))
            assert KEY not in repr(caught.value)
            await model.aclose()
        else:
            output, complaint = await ask(url, **trusted(authority, tmp_path))
            assert output == ""
            assert "the TLS handshake failed" in complaint
            assert KEY not in complaint
        assert not server.calls


async def test_http_requests_use_absolute_address_at_proxy() -> None:
    seen: list[bytes] = []
    async with ScriptedServer("by proxy") as server, proxy(seen) as address:
        url = server.base_url.replace("127.0.0.1", HOST)
        for proxy_address in (address, address.removeprefix("http://"), f" {address}/ "):
            assert await ask(url, http_proxy=proxy_address) == ("by proxy", "")
        assert await ask(url, all_proxy=address) == ("by proxy", "")
        output, complaint = await ask(url, http_proxy=address, no_proxy=HOST)
    assert output == ""
    assert "cannot reach" in complaint, "the last request went around the proxy"
    assert [head.split(b" ")[1].decode() for head in seen] == 4 * [f"{url}/chat/completions"]


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "localhost.", "api.localhost", "127.0.0.1", "127.8.0.1", "127.1"]
)
async def test_loopback_requests_never_use_proxy(host: str) -> None:
    seen: list[bytes] = []
    async with ScriptedServer("direct") as server, proxy(seen) as address:
        port = urlsplit(server.base_url).port
        await ask(f"http://{host}:{port}/v1", http_proxy=address, all_proxy=address)
    assert seen == []


@pytest.mark.parametrize("proxy_address", ["socks5://user:pass-word@127.0.0.1:1080", "socks4a://h:1", "socks5h://h:1"])
@pytest.mark.parametrize("variable", ["http_proxy", "all_proxy"])
async def test_socks_proxy_is_refused_at_once(variable: str, proxy_address: str) -> None:
    output, complaint = await ask(f"http://{HOST}/v1", **{variable: proxy_address})
    assert output == ""
    assert f"ConfigurationError: `{variable.upper()}` must look like http://host:port" in complaint
    assert "SOCKS proxies are not supported" in complaint
    assert "pass-word" not in complaint


async def test_https_proxy_sees_only_host_and_port(authority: trustme.CA, tmp_path: Path) -> None:
    seen: list[bytes] = []
    async with (
        ScriptedServer("in a tunnel") as server,
        behind_tls(authority, server, HOST) as url,
        proxy(seen) as address,
    ):
        named = url.replace("localhost", HOST)
        env = {"https_proxy": address, **trusted(authority, tmp_path)}
        assert await ask(named, **env) == ("in a tunnel", "")
    assert [head.split(b" ")[:2] for head in seen] == [[b"CONNECT", named.removeprefix("https://")[:-3].encode()]]
    assert KEY.encode() not in b"".join(seen)


async def test_failing_proxy_is_named_without_password() -> None:
    async with proxy([], refuses=True) as address:
        named = address.replace("http://", "http://user:pass-word@")
        output, complaint = await ask(f"https://{HOST}:9/v1", https_proxy=named)
    assert output == ""
    assert f"the proxy {address} refused the tunnel (407 Proxy Authentication Required)" in complaint
    assert "Check HTTPS_PROXY and NO_PROXY" in complaint
    output, gone = await ask(f"https://{HOST}:9/v1", https_proxy=named)  # the proxy is gone
    assert output == ""
    assert f"the proxy {address} cannot be reached" in gone
    for secret in ("pass-word", KEY):
        assert secret not in complaint + gone
