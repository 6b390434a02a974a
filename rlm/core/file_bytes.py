"""Bytes of an open file as the context of a REPL, mapped there and never copied by the host."""

from __future__ import annotations

from rlm.core.values import frozen


@frozen
class FileBytes:
    """The first ``size`` bytes of the file behind ``descriptor``, which stays the caller's to close."""

    descriptor: int
    size: int
