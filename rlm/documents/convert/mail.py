"""Mail: single messages (eml) and mailboxes (mbox), with headers, text and attachments as documents of their own."""

from __future__ import annotations

import email
import email.policy
import re
from collections.abc import Callable, Iterator
from email.message import EmailMessage, MIMEPart

from .encodings import decode
from .html import page_text
from .result import Builder, Output

_HEADERS = ("From", "To", "Cc", "Bcc", "Reply-To", "Date", "Subject", "Message-ID", "In-Reply-To")
_START = re.compile(rb"^From .*\r?\n(?=[A-Za-z-]+:)", re.MULTILINE)
Attach = Callable[[bytes, str, Output], None]


def convert(data: bytes, path: str, output: Output, attach: Attach) -> None:
    """Adds a message to ``output``; ``attach`` converts its attachments."""
    _add(data, path, output, attach)


def convert_mailbox(data: bytes, path: str, output: Output, attach: Attach) -> None:
    """Adds every message of a mailbox as a document ``path!/0001.eml``."""
    for number, message in enumerate(_messages(data), 1):
        output.charge(len(message), 1)
        _add(message, f"{path}!/{number:04d}.eml", output, attach)


def _messages(data: bytes) -> Iterator[bytes]:
    starts = [match.start() for match in _START.finditer(data)]
    for start, end in zip(starts, [*starts[1:], len(data)], strict=True):
        yield data[data.index(b"\n", start) + 1 : end]


def _add(data: bytes, path: str, output: Output, attach: Attach) -> None:
    message = email.message_from_bytes(data, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    document = Builder(path, "mail")
    for name in _HEADERS:
        value = _header(message, name)
        if value:
            document.line(f"{name}: {value}")
    document.line()
    body = _body(message)
    document.write(body.strip() + "\n")
    names: list[str] = []
    attachments: list[tuple[bytes, str]] = []
    for part in _attachments(message):
        name = " ".join((part.get_filename() or f"part {len(names) + 1}").replace("/", "_").split())[:200]
        names.append(name)
        attachments.append((_payload(part), f"{path}!/{name}"))
    if names:
        document.line("\n[Attachments] " + ", ".join(names))
    output.add(document)
    for content, name in attachments:
        output.charge(len(content), 1)
        attach(content, name, output)


def _header(message: EmailMessage, name: str) -> str:
    try:
        values = message.get_all(name, [])
        return ", ".join(" ".join(str(value).split()) for value in values)
    except Exception:  # noqa: BLE001  the standard parser raises many types for malformed headers
        raw = [value for key, value in message.raw_items() if key.lower() == name.lower()]
        return ", ".join(" ".join(str(value).split()) for value in raw)


def _body(message: EmailMessage) -> str:
    try:
        part = message.get_body(preferencelist=("plain", "html"))
    except Exception:  # noqa: BLE001
        part = None
    if part is None:
        return "" if message.is_multipart() or message.get_content_maintype() != "text" else _text(message)
    text = _text(part)
    return page_text(text)[0] if part.get_content_subtype() == "html" else text


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


def _attachments(message: EmailMessage) -> Iterator[MIMEPart]:
    for part in message.walk():
        if part.is_multipart() and part.get_content_type() != "message/rfc822":
            continue
        if part.get_content_disposition() == "attachment" or part.get_filename():
            yield part
