"""Facts about a stored run besides its events: its question, its context, its options."""

from __future__ import annotations

from rlm.core.ids import RunId
from rlm.core.messages import JsonValue
from rlm.core.values import frozen

MAX_CONTEXT_BYTES = 1_000_000  # a larger context is not copied into a store, which has its hash instead


@frozen
class ContextInfo:
    """A run's input.

    Attributes:
        kind, data: the value as bytes; ``data`` is None if it is too large to store, or holds a secret.
        size, digest: its bytes and their hash.
        path: the files that it was read from, for people.
        sources, folder: the same files as they were named, and the folder that relative names start from.
    """

    kind: str
    size: int
    digest: str
    path: str | None = None
    data: bytes | None = None
    sources: tuple[str, ...] = ()
    folder: str = ""


@frozen
class RunInfo:
    """A run in a store, without its events.

    Attributes:
        id: its id.
        started, touched: seconds since 1970.
        status: None while the run goes on, or after its process was killed.
        is_running: a living process writes it.
        question: its beginning; empty if texts are not stored.
        options: the arguments of ``RLM`` that it had.
        context: its input.
        texts_kept: False if only hashes and numbers are stored.
    """

    id: RunId
    started: float
    touched: float
    status: str | None
    question: str
    options: dict[str, JsonValue]
    context: ContextInfo
    texts_kept: bool
    is_running: bool
