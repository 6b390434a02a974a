"""Redacts secrets in everything that a run leaves behind: journals, pages, exports, logs and errors.

The process registers its secrets in ``SECRETS`` before it uses them. This module reads neither files nor the environment.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterable, Mapping

REDACTED = "[redacted]"

_NAME = re.compile(
    r"(^|_)(API_?KEY|(ACCESS|SECRET|PRIVATE|AUTH|SUBSCRIPTION)_?KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|PAT|PWD)$"
    r"|^PGPASSWORD$",
    re.I,
)
_USER = re.compile(r"(?<=://)[^/\s@?#]*@")
_PARAMETER = re.compile(
    r"([?&;](?:[\w-]*[_-])?(?:api-?key|key|token|secret|password|passwd|pwd|signature|sig|auth|code)=)([^&;#\s'\"]+)",
    re.I,
)
_PROXY_USER = re.compile(r"^[^/\s@]+@")  # a proxy's address can lack its scheme

_MIN_CHARS = 8  # shorter secrets would be found in ordinary text,
_MIN_MIXED_CHARS = 6  # except those that mix letters with other characters
_MIN_DIGITS = 16  # and numbers would be found in other numbers


def redact_address(text: str) -> str:
    """Removes user, password and secret parameters from every address in a text."""
    return _PARAMETER.sub(rf"\1{REDACTED}", _USER.sub(f"{REDACTED}@", text))


def secrets_of_address(address: str) -> list[str]:
    """Password and secret parameters of an address, as written and decoded. A user without a password is a token."""
    secrets = [match.group(2) for match in _PARAMETER.finditer(address)]
    users = [match.group()[:-1] for match in (_USER.search(address), _PROXY_USER.search(address)) if match]
    for user in users:
        name, colon, password = user.partition(":")
        secrets.append(password if colon else name)
    return [text for secret in secrets for text in (secret, _decode_percent(secret))]


def secrets_of_environment(env: Mapping[str, str]) -> list[str]:
    """Secrets in environment variables: keys, tokens and passwords by name, and passwords in addresses."""
    secrets: list[str] = []
    for name, value in env.items():
        if _NAME.search(name):
            secrets += [value, value.strip()]
        elif "://" in value or name.upper().endswith("_PROXY"):
            secrets += secrets_of_address(value)
    return secrets


def redactor(secrets: Iterable[str]) -> Callable[[bytes], bytes]:
    """A function that replaces every secret in some bytes, in each form that JSON, HTML and addresses give it."""
    usable = {secret for secret in secrets if _is_usable(secret)}
    forms = {_bytes_of(form) for secret in usable for form in _forms(secret)}
    longest_first = sorted(forms, key=lambda form: (-len(form), form))
    mark = REDACTED.encode()

    def redact(data: bytes) -> bytes:
        for secret in longest_first:
            if secret in data:
                data = data.replace(secret, mark)
        return data

    return redact


def _bytes_of(text: str) -> bytes:
    """Text of the environment has its undecodable bytes as surrogates; other surrogates are written as the store does."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _is_usable(secret: str) -> bool:
    if secret.isdigit():
        return len(secret) >= _MIN_DIGITS
    return len(secret) >= (_MIN_CHARS if secret.isalpha() else _MIN_MIXED_CHARS)


def _forms(secret: str) -> set[str]:
    forms = {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
    forms |= {html.escape(secret), html.escape(secret, quote=False), _encode_percent(secret)}
    return forms | {form.replace("<", "\\u003c") for form in forms}


def _encode_percent(text: str) -> str:
    return re.sub(
        r"[^\w.~-]",
        lambda match: "".join(f"%{byte:02X}" for byte in _bytes_of(match.group())),
        text,
        flags=re.ASCII,
    )


def _decode_percent(text: str) -> str:
    data = re.sub(
        rb"%([0-9a-fA-F]{2})", lambda match: bytes([int(match.group(1), 16)]), text.encode("utf-8", "replace")
    )
    return data.decode("utf-8", "replace")


class Secrets:
    """The secrets that a process has used. They are never forgotten: a journal can outlive the engine that knew them."""

    def __init__(self) -> None:
        self._texts: frozenset[str] = frozenset()
        self._redact = redactor(())

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(self._texts)

    def add(self, texts: Iterable[str | None]) -> None:
        more = {text for text in texts if text and _is_usable(text)}
        if not more <= self._texts:
            self._texts |= more
            self._redact = redactor(self._texts)

    def redact(self, data: bytes) -> bytes:
        """The bytes without any secret."""
        return self._redact(data)

    def redact_text(self, text: str) -> str:
        """The text without any secret."""
        data = text.encode("utf-8", "surrogatepass")
        redacted = self._redact(data)
        return text if redacted is data else redacted.decode("utf-8", "surrogatepass")

    def redact_message(self, text: str) -> str:
        """A message of this package without any secret, and without passwords in addresses."""
        return redact_address(self.redact_text(text))


SECRETS = Secrets()
