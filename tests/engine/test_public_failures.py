"""Texts of failures that cells and models are shown: no address, port or path of this machine or its endpoints is in them."""

from __future__ import annotations

import inspect
import ssl

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

import rlm
from rlm.core import errors
from rlm.core.errors import ModelError
from rlm.core.public_text import PublicText
from rlm.engine.driver.queries import failure_of
from rlm.models.addresses import parse_address
from rlm.models.http import HttpEndpoint
from rlm.testing.scripted import ScriptedModel

KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, ModelError) and kind is not ModelError
]
LABEL = st.from_regex(r"[a-z][a-z0-9]{2,8}(-[a-z0-9]{1,4})?", fullmatch=True)
HOSTS = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda address: f"[{address}]"),
    st.builds("{}.{}.internal".format, LABEL, LABEL),
    st.builds("{}.{}.com".format, LABEL, LABEL),
    st.just("localhost"),
)
SEGMENT = st.from_regex(r"[a-zA-Z0-9_.-]{3,12}", fullmatch=True).filter(lambda text: set(text) - set("._-"))
PORTS = st.integers(1024, 65535)
SENTENCES = (
    "openai:m: cannot reach {place}: connection refused; is the server running?",
    "upstream connect error at {place}, try again",
    "({place})",
    "'{place}' said: no",
    "error={place}",
    "see {place}. Check it",
)


@given(
    kind=st.sampled_from(KINDS), host=HOSTS, port=PORTS, path=st.lists(SEGMENT, min_size=1, max_size=4), data=st.data()
)
def test_no_error_of_the_tree_shows_an_address(
    kind: type[ModelError], host: str, port: int, path: list[str], data: st.DataObject
) -> None:
    tail = "/" + "/".join(path)
    forms = (
        f"http://{host}:{port}{tail}",
        f"https://user:pass@{host}{tail}?key=1",
        f"{host}:{port}{tail}",
        f"{host}:{port}",
    )
    place = data.draw(st.sampled_from(forms))
    message = data.draw(st.sampled_from(SENTENCES)).format(place=place)
    shown = failure_of(kind(message, model="openai:m")).message
    for private in (host.strip("[]"), str(port), tail):
        assert private not in shown, shown
    assert failure_of(kind(shown, model="openai:m")).message == shown


@given(path=st.lists(SEGMENT, min_size=2, max_size=5), root=st.sampled_from(["/", "~/", "../", "C:\\", "\\\\host\\"]))
def test_no_error_shows_a_file(path: list[str], root: str) -> None:
    place = root + ("\\" if "\\" in root else "/").join(path)
    shown = failure_of(ModelError(f"local:m: cannot open {place!s}: no such file", model="local:m")).message
    assert shown == "local:m: cannot open [path]: no such file" or not any(part in shown for part in path)


def endpoint(url: str) -> HttpEndpoint:
    return HttpEndpoint(parse_address(url), model="openai:m", headers={}, timeout_s=1.0)


URLS = ("http://gpu-box:8123/secret/v1", "https://10.1.2.3:9443/team/v1", "http://[fd00::7]:81/v1", "http://ml.corp/v1")


def client_errors(url: str) -> list[Exception]:
    """The errors of aiohttp, as they arise for an address."""
    parts = URL(url)
    key = ConnectionKey(parts.host or "", parts.port, False, True, None, None, None)
    info = aiohttp.RequestInfo(parts, "POST", {}, parts)  # type: ignore[arg-type]
    refused = ConnectionRefusedError(111, f"Connect call failed ('{parts.host}', {parts.port})")
    return [
        aiohttp.ClientConnectorError(key, refused),
        aiohttp.ClientConnectorDNSError(key, OSError(-2, f"Name or service not known: {parts.host}")),
        aiohttp.ClientConnectorSSLError(key, ssl.SSLError(1, f"certificate of {parts.host} has expired")),
        aiohttp.ClientConnectorCertificateError(key, ValueError(f"hostname {parts.host} does not match")),
        aiohttp.ClientProxyConnectionError(key, refused),
        aiohttp.ClientHttpProxyError(info, (), status=502, message=f"no route to {parts.host}:{parts.port}"),
        aiohttp.ClientResponseError(info, (), status=400, message=f"bad line from {url}"),
        aiohttp.ClientPayloadError(f"payload of {url}"),
        aiohttp.ServerDisconnectedError(f"{parts.host}:{parts.port}"),
        aiohttp.ConnectionTimeoutError(f"Connection timeout to host {url}"),
        aiohttp.ClientOSError(104, f"Connection reset by peer {parts.host}"),
        aiohttp.InvalidURL(url),
    ]


@pytest.mark.parametrize("url", URLS)
def test_no_error_of_the_client_shows_an_address(url: str) -> None:
    parts, source = URL(url), endpoint(url)
    for error in client_errors(url):
        for fault in (source._translate(error), ModelError(str(error), model="openai:m")):
            shown = failure_of(fault).message
            for private in (parts.host or "", f":{parts.port}", "secret", "team"):
                assert private not in shown, (type(error).__name__, shown)


@pytest.mark.parametrize(
    "text",
    [
        "openai:gpt-4.1-mini: the reply was cut at 4,096 tokens; ask for less, or allow 3.5 times more",
        "anthropic.claude-3: status 429. Retry in 2.5 s, at 12:30 and/or later",
        "ollama:llama3.2:70b did not reply with JSON: line 1 column 2 (char 1)",
        "call_timeout_s and Budget(seconds=...) allow more; see rlm.errors",
    ],
)
def test_other_text_stays(text: str) -> None:
    assert PublicText().clean(text, "ollama:llama3.2:70b") == text


def test_cells_see_failures_without_addresses() -> None:
    message = "scripted:root: cannot reach http://10.0.0.7:8123/v1/chat: refused; log in /var/log/gpu/x.log"
    code = "found = llm_query_batch(['a', 'b'])\nprint(found)\nFINAL(str(found[0]))"

    def script(request: rlm.Request) -> str | ModelError:
        return errors.RefusalError(message) if request.role == "leaf" else f"```repl\n{code}\n```"

    result = rlm.RLM(ScriptedModel(script), store=None).run("q", "context")
    assert result.tree is not None
    shown = str(result.answer) + result.tree.cells[0][1].stdout + result.tree.cells[0][1].failure
    assert "refused; log in [path]" in shown
    assert not any(private in shown for private in ("10.0.0.7", "8123", "chat", "gpu"))
    assert any(message in (call.error or "") for call in result.tree.leaves)
