"""What is known of a run besides its events: how it was asked for, over what, and by whom it is written."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path

from rlm.core.cells import PlainValue
from rlm.core.ids import RunId
from rlm.core.messages import JsonValue

KEPT_CONTEXT_BYTES = 1_000_000  # a larger context is not copied: it is asked for again, and told by its hash
_SLICE_CHARS = 4_000_000


@dataclass(frozen=True, slots=True)
class ContextInfo:
    """A run's input.

    Attributes:
        data: None where it is too large to keep, or holds a secret.
        path: where it was read from, for people.
        sources, folder: the same as it was named, and the folder from which.
    """

    kind: str
    size: int
    digest: str
    path: str | None = None
    data: bytes | None = None
    sources: tuple[str, ...] = ()
    folder: str = ""


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A line of ``rlm runs``. ``status`` is None while a run goes on, or when its process was killed."""

    id: RunId
    started: float
    touched: float
    status: str | None
    question: str
    options: dict[str, JsonValue]
    context: ContextInfo
    texts_kept: bool
    owner: str | None

    @property
    def is_running(self) -> bool:
        return self.status is None and self.owner is not None and is_alive(self.owner)


def this_process() -> str:
    """Names a process for as long as the machine runs: a process id alone is used again."""
    return _name_of(os.getpid())


@cache
def _name_of(pid: int) -> str:
    return f"{socket.gethostname()}:{pid}:{_start_time(pid)}"


def is_of_this_machine(owner: str) -> bool:
    return owner.partition(":")[0] == socket.gethostname()


def is_alive(owner: str) -> bool:
    """Whether the process of this name still runs; one of another machine is taken to."""
    _, pid, start = owner.split(":")
    if not is_of_this_machine(owner):
        return True
    return _start_time(int(pid)) == start if start else False


def _start_time(pid: int) -> str:
    """From the kernel; where it does not tell, "-" for a process that is there. "" for one that is not, or has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(") ")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        return "-"
    return "-"


def digest_context(value: PlainValue) -> tuple[int, str]:
    """Size in bytes (about, for what is not text) and hash of a context, without a second copy of it."""
    digest = blake2b(digest_size=16)
    return _feed(digest, value), digest.hexdigest()


def _feed(digest: blake2b, value: object) -> int:
    if isinstance(value, str):
        return _feed_text(digest, value)
    if isinstance(value, bytes | bytearray):
        digest.update(b"b%d:" % len(value))
        digest.update(value)
        return len(value)
    if isinstance(value, dict):
        digest.update(b"d%d:" % len(value))
        return sum(_feed(digest, key) + _feed(digest, item) for key, item in value.items())
    if isinstance(value, list | tuple):
        digest.update(b"l%d:" % len(value))
        return sum(_feed(digest, item) for item in value)
    if isinstance(value, set | frozenset):
        return _feed(digest, sorted(map(repr, value)))
    return _feed_text(digest, f"{type(value).__name__} {value!r}")


def _feed_text(digest: blake2b, text: str) -> int:
    digest.update(b"s%d:" % len(text))
    size = 0
    for start in range(0, len(text), _SLICE_CHARS):
        data = text[start : start + _SLICE_CHARS].encode("utf-8", "surrogatepass")
        digest.update(data)
        size += len(data)
    return size
