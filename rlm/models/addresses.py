"""Addresses of endpoints, and the proxies between them and this machine. Pure, except that proxies come from the environment."""

from __future__ import annotations

import base64
import socket
import urllib.request
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import unquote

from yarl import URL

from rlm.core.errors import ConfigurationError
from rlm.core.values import frozen

_OPERATIONS = ("/chat/completions", "/completions", "/responses", "/v1/messages", "/messages", "/models")
_SCHEMES = frozenset({"http", "https"})


@frozen
class Address:
    """The address of one operation.

    Attributes:
        url: without user and password.
        authorization: the header for its user and password; None without them.
    """

    url: URL
    authorization: str | None


def parse_address(base_url: str, operation: str = "") -> Address:
    """The address of ``operation`` below ``base_url``; by default ``base_url`` itself.

    Blanks around it, a final slash, the operation itself and a fragment are accepted. The query stays.

    Raises:
        ConfigurationError: it is not an absolute HTTP address.
    """
    text = base_url.strip()
    url = _parse_url(text)
    if url is None or any(character.isspace() for character in text):
        raise ConfigurationError(f"`base_url` must look like https://host/v1; got {_without_password(text)!r}")
    authorization = None
    if url.user is not None or url.password is not None:
        pair = f"{url.user or ''}:{url.password or ''}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode()
    path = url.raw_path.rstrip("/")
    if operation:
        path = next((path.removesuffix(end) for end in (operation, *_OPERATIONS) if path.endswith(end)), path)
    if operation.startswith("/v1/"):
        path = path.removesuffix("/v1")
    authority = url.with_user(None).raw_authority
    query = url.raw_query_string
    return Address(
        URL.build(scheme=url.scheme, authority=authority, path=path + operation, query_string=query, encoded=True),
        authorization,
    )


def _parse_url(text: str) -> URL | None:
    """An absolute HTTP address; None for anything else."""
    try:
        url = URL(text)
        return url if url.scheme in _SCHEMES and url.host and url.port is not None else None
    except ValueError:
        return None


def _without_password(text: str) -> str:
    head, at, host = text.rpartition("@")
    return f"{head.partition('://')[0]}://[hidden]@{host}" if at else text


def is_azure(url: URL) -> bool:
    """True for an Azure deployment, which takes its key in a header of its own."""
    return (url.host or "").endswith(".openai.azure.com") or "/openai/deployments/" in url.path


def is_loopback(host: str | None) -> bool:
    """True for this machine: its names, 127.0.0.0/8 in any notation, ``::1`` and the unspecified address."""
    name = (host or "").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address: IPv4Address | IPv6Address
    try:
        address = ip_address(name.partition("%")[0])
    except ValueError:
        try:
            address = IPv4Address(socket.inet_aton(name))  # 127.1, 0x7f.1, 2130706433
        except (OSError, ValueError):
            return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback or address.is_unspecified


def find_proxy(url: URL) -> URL | None:
    """The proxy for ``url`` by the variables of the environment; None for this machine and for exceptions.

    Raises:
        ConfigurationError: the proxy is not an HTTP proxy.
    """
    if is_loopback(url.host) or urllib.request.proxy_bypass(f"{url.host}:{url.port}"):
        return None
    proxies = urllib.request.getproxies()
    name = url.scheme if proxies.get(url.scheme) else "all"
    text = (proxies.get(name) or "").strip()
    if not text:
        return None
    variable = f"{name.upper()}_PROXY"
    proxy = _parse_url(text if "://" in text else f"http://{text.removeprefix('//')}")
    if proxy is not None:
        return proxy
    advice = "SOCKS proxies are not supported: use an HTTP proxy" if text.lower().startswith("socks") else "Correct it"
    raise ConfigurationError(
        f"`{variable}` must look like http://host:port; got {_without_password(unquote(text))!r}. {advice}, "
        f"or add {url.host} to NO_PROXY"
    )
