"""Mail: single messages (eml) and mailboxes (mbox), with headers, text and attachments as documents of their own."""

from __future__ import annotations

import email
import email.header
import email.policy
import re
from collections.abc import Callable, Iterator
from email.message import EmailMessage, MIMEPart
from typing import Any

from .encodings import decode
from .html import page_text
from .result import Builder, Output

_HEADERS = ("From", "To", "Cc", "Bcc", "Reply-To", "Date", "Subject", "Message-ID", "In-Reply-To")
_START = re.compile(
    rb"(?:\A|(?<=\n\n)|(?<=\n\r\n))From [^\r\n]*\d{1,2}:\d{2}[^\r\n]*\r?\n(?=>?[!-9;-~]+(?::|[ \t]))"
)  # with a blank line before and a time: a sentence of a body that begins with "From" has neither
_LOOSE_START = re.compile(rb"^From .*\r?\n(?=[A-Za-z-]+:)", re.MULTILINE)
_QUOTED_START = re.compile(rb"^>(>*From )", re.MULTILINE)
_MAX_HEADER_CHARS = 5_000
_RICHER_WORDS = 4  # times as many words: the plain text only says that the message is HTML
Attach = Callable[[bytes, str, Output], None]


class _BoundedPolicy(email.policy.EmailPolicy):
    """Leaves long headers as they were sent: the standard parser takes quadratic time and more for them."""

    def header_fetch_parse(self, name: str, value: str) -> Any:
        if len(value) <= _MAX_HEADER_CHARS:
            return super().header_fetch_parse(name, value)
        return _decoded(" ".join(value.split()))


def _decoded(value: str) -> str:
    try:
        parts = email.header.decode_header(value)
        return "".join(
            part if isinstance(part, str) else part.decode(charset or "ascii", "replace") for part, charset in parts
        )
    except Exception:  # noqa: BLE001  unknown charsets, malformed words
        return value


_POLICY = _BoundedPolicy()


def convert(data: bytes, path: str, output: Output, attach: Attach) -> None:
    """Adds a message to ``output``; ``attach`` converts its attachments."""
    _add(data, path, output, attach)


def convert_mailbox(data: bytes, path: str, output: Output, attach: Attach) -> None:
    """Adds every message of a mailbox as a document ``path!/0001.eml``."""
    for number, message in enumerate(_messages(data), 1):
        output.charge(len(message), 1)
        _add(message, f"{path}!/{number:04d}.eml", output, attach)


def _messages(data: bytes) -> Iterator[bytes]:
    starts = [match.start() for match in _START.finditer(data)] or [
        match.start() for match in _LOOSE_START.finditer(data)
    ]
    for start, end in zip(starts, [*starts[1:], len(data)], strict=True):
        yield _QUOTED_START.sub(rb"\1", data[data.index(b"\n", start) + 1 : end])


def _add(data: bytes, path: str, output: Output, attach: Attach) -> None:
    message = email.message_from_bytes(data, policy=_POLICY)
    assert isinstance(message, EmailMessage)
    document = Builder(path, "mail")
    document.place("headers")
    for name in _HEADERS:
        value = _header(message, name)
        if value:
            document.line(f"{name}: {value}")
    document.line()
    body = _body(message)
    document.place("body, line 1")
    document.write(body.strip() + "\n")
    names: list[str] = []
    attachments: list[tuple[bytes, str]] = []
    for part in _attachments(message):
        default = f"part {len(names) + 1}" + (".eml" if part.get_content_type() == "message/rfc822" else "")
        name = " ".join(_repaired(part.get_filename() or default).replace("/", "_").split())[:200]
        names.append(name)
        attachments.append((_payload(part), f"{path}!/{name}"))
    if names:
        document.line()
        document.place("attachments")
        document.line("[Attachments] " + ", ".join(names))
    output.add(document)
    for content, name in attachments:
        output.charge(len(content), 1)
        attach(content, name, output)


def _header(message: EmailMessage, name: str) -> str:
    raw = [str(value) for key, value in message.raw_items() if key.lower() == name.lower()]
    try:
        values = raw if any(map(_is_unencoded, raw)) else [str(value) for value in message.get_all(name, [])]
    except Exception:  # noqa: BLE001  the standard parser raises many types for malformed headers
        values = raw
    return ", ".join(" ".join(_repaired(value).split()) for value in values)


def _repaired(value: str) -> str:
    """A header whose bytes beyond ASCII were sent without an encoding."""
    if not _is_unencoded(value):
        return value
    return decode(value.encode("utf-8", "surrogateescape"))


def _is_unencoded(value: str) -> bool:
    return any("\udc80" <= sign <= "\udcff" for sign in value)


def _body(part: MIMEPart) -> str:
    """Text of a message or of a part of one. Of alternatives, the plain text is shown unless the HTML says much more."""
    kind = part.get_content_type()
    if part.get_content_disposition() == "attachment" or kind == "message/rfc822":
        return ""
    if not part.is_multipart():
        if part.get_filename() or part.get_content_maintype() != "text":
            return _inline_note(part)
        text = _text(part)
        return page_text(text)[0] if part.get_content_subtype() == "html" else text
    texts = [_body(item) for item in part.iter_parts()]
    if kind == "multipart/alternative":
        texts = [text for text in texts if text.strip()]
        longest = max(texts, key=lambda text: len(text.split()), default="")
        first = texts[0] if texts else ""
        return longest if len(longest.split()) > _RICHER_WORDS * len(first.split()) else first
    return "\n\n".join(text.strip("\r\n") for text in texts if text.strip())


def _inline_note(part: MIMEPart) -> str:
    """Marker of an image inside the text; other parts are listed as attachments."""
    if part.get_content_maintype() != "image" or not part.get("Content-ID"):
        return ""
    return f"[Inline image: {' '.join(str(part.get_filename() or 'without a name').split())}]"


def _text(part: MIMEPart) -> str:
    return decode(_payload(part), declared=part.get_content_charset() or "")


def _payload(part: MIMEPart) -> bytes:
    try:
        if part.get_content_type() == "message/rfc822":
            inner = part.get_payload(0)
            return inner.as_bytes()  # type: ignore[union-attr]
        payload = part.get_payload(decode=True)
    except Exception:  # noqa: BLE001
        payload = None
    return payload if isinstance(payload, bytes) else b""


def _attachments(message: MIMEPart) -> Iterator[MIMEPart]:
    """Attached files and messages. Those of an attached message are its own."""
    for part in message.iter_parts() if message.is_multipart() else ():
        if part.get_content_type() == "message/rfc822" or part.get_content_disposition() == "attachment":
            yield part
        elif part.is_multipart():
            yield from _attachments(part)
        elif part.get_filename() or part.get_content_maintype() not in ("text", "multipart", "image"):
            yield part
