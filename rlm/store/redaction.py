"""Removes secrets from everything that is written to a store. Requests hold none; errors of providers can quote one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rlm.core.divergence import REDACTED

MIN_SECRET_CHARS = 8  # shorter ones would be found in ordinary text


def redactor(secrets: Sequence[str]) -> Callable[[bytes], bytes]:
    """A function that replaces every secret in some bytes."""
    longest_first = sorted(
        {secret.encode() for secret in secrets if len(secret) >= MIN_SECRET_CHARS}, key=len, reverse=True
    )

    def redact(data: bytes) -> bytes:
        for secret in longest_first:
            if secret in data:
                data = data.replace(secret, REDACTED.encode())
        return data

    return redact
