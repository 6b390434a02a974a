"""Captures the output of cells in place of the process's own streams, and sends it in chunks. Thread-safe.

The head is sent as it is printed, so that it survives the death of the process. Beyond half the limit only the tail is
retained, and the host receives the number of characters dropped in between. This module must not know the wire.
"""

from __future__ import annotations

import io
import threading
import time
from collections import deque
from collections.abc import Callable

from ..sigint_guard import SigintGuard

CHUNK_CHARS = 8 * 1024
FLUSH_S = 0.05  # age of printed text at which the next print sends it
QUICK_FLUSHES = 32  # the first lines of a cell are sent one by one; most cells print fewer
LATE_PIECES = 10_000
MAX_FULL_CHARS = 16_000_000  # of ``_stdout``, the full text that code can read again


class Stream(io.TextIOBase):
    """Replaces ``sys.stdout`` or ``sys.stderr``."""

    def __init__(self, name: str, send: Callable[[str], None], guard: SigintGuard) -> None:
        self._name = name
        self._send = send
        self._guard = guard
        self._lock = threading.Lock()
        self._bytes = _Bytes(self)
        self._limit = CHUNK_CHARS
        self._live = False
        self._late: deque[str] = deque(maxlen=LATE_PIECES)  # printed by finalizers while the worker's own code ran
        self.muted = False  # in a lookahead copy
        self._reset()

    def _reset(self) -> None:
        self._waiting: list[str] = []
        self._waiting_chars = 0
        self._sent = 0
        self._tail: list[str] = []
        self._tail_chars = 0
        self._omitted = 0
        self._flushes = 0
        self._flushed_at = 0.0
        self._full: list[str] = []
        self._full_chars = 0

    def begin(self, limit_chars: int) -> None:
        """Starts a cell. It includes the output of leftover threads since the last one."""
        with self._guard, self._lock:
            early = "".join(self._waiting)[-CHUNK_CHARS:]
            self._reset()
            self._limit, self._live = max(2, limit_chars), True
            self._take_late()
            if early:
                self._add(early)

    def end(self) -> tuple[int, str]:
        """Ends the cell and sends the rest of the head. Returns the number of dropped characters and the text after them."""
        with self._guard, self._lock:
            self._take_late()
            self._send_waiting()
            self._live = False
            self._cut_tail()
            return self._omitted, self._tail[0]

    def full_text(self) -> str:
        with self._lock:
            return "".join(self._full)

    def write(self, text: str) -> int:
        if self.muted:
            return 0
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        text = str.__str__(text)
        if self._guard.entered:
            self._late.append(text)
            return len(text)
        with self._guard, self._lock:
            self._take_late()
            self._add(text)
        return len(text)

    def _take_late(self) -> None:
        while self._late:
            self._add(self._late.popleft())

    def _add(self, text: str) -> None:
        if not self._live:
            if self._waiting_chars < CHUNK_CHARS:
                self._hold(text[:CHUNK_CHARS])
            return
        if self._full_chars < MAX_FULL_CHARS:
            self._full.append(text)
            self._full_chars += len(text)
        room = self._limit // 2 - self._sent - self._waiting_chars
        if room > 0:
            self._hold(text[:room])
            self._maybe_send(text)
        if room < len(text):
            self._keep_tail(text[max(0, room) :])

    def _hold(self, text: str) -> None:
        self._waiting.append(text)
        self._waiting_chars += len(text)

    def _maybe_send(self, text: str) -> None:
        if self._waiting_chars < CHUNK_CHARS:
            if "\n" not in text:
                return
            now = time.monotonic()
            if self._flushes >= QUICK_FLUSHES and now - self._flushed_at < FLUSH_S:
                return
            self._flushed_at = now
            self._flushes += 1
        self._send_waiting()

    def _send_waiting(self) -> None:
        if not self._waiting:
            return
        text = "".join(self._waiting)
        self._waiting, self._waiting_chars = [], 0
        self._sent += len(text)
        self._send(text)

    def _keep_tail(self, text: str) -> None:
        self._tail.append(text)
        self._tail_chars += len(text)
        if (
            self._tail_chars > 2 * self._limit
        ):  # not at every print, because a join costs time in proportion to the text
            self._cut_tail()

    def _cut_tail(self) -> None:
        tail = "".join(self._tail)
        kept = tail[-(self._limit - self._limit // 2) :]
        self._omitted += len(tail) - len(kept)
        self._tail, self._tail_chars = [kept], len(kept)

    def flush(self) -> None:
        if not (self._waiting or self._late) or self._guard.entered or self.muted:
            return
        with self._guard, self._lock:
            if self._live:
                self._take_late()
                self._send_waiting()

    @property
    def name(self) -> str:
        return f"<{self._name}>"

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        return "surrogatepass"

    @property
    def buffer(self) -> io.RawIOBase:
        return self._bytes

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def close(self) -> None:
        """Does nothing, because a closed stdout would lose all later output."""


class _Bytes(io.RawIOBase):
    """Replaces ``sys.stdout.buffer``; its bytes are decoded to text."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def write(self, data: object) -> int:
        raw = bytes(data)  # type: ignore[call-overload]
        self._stream.write(raw.decode("utf-8", "replace"))
        return len(raw)

    def flush(self) -> None:
        self._stream.flush()

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        """See Stream.close."""
