"""Parser for server-sent events: bytes in, events out. Pure; it knows no provider's format.

Lines are split as bytes and decoded only when complete, so a packet can end anywhere, even inside a character.
"""

from __future__ import annotations

from rlm.core.values import frozen

MAX_EVENT_BYTES = 4 * 1024 * 1024  # providers' events are smaller; a larger one could exhaust the memory


_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")


def looks_like_events(head: bytes | bytearray) -> bool | None:
    """True if a body with this beginning is a stream of events; None if more bytes must decide."""
    start = bytes(head[:64]).lstrip(b"\xef\xbb\xbf \t\r\n")[:8]
    if start.startswith(_FIELDS):
        return True
    return None if any(field.startswith(start) for field in _FIELDS) else False


class EventTooLarge(ValueError):
    """An event exceeds ``MAX_EVENT_BYTES``."""


@frozen
class ServerEvent:
    """One event. ``name`` is empty if it has none."""

    name: str
    data: bytes


class EventReader:
    """Parses one stream."""

    def __init__(self) -> None:
        self._pending = b""
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[ServerEvent]:
        """The events that ``data`` completes.

        Raises:
            EventTooLarge: an event exceeds ``MAX_EVENT_BYTES``.
        """
        self._pending += data
        if b"\n" not in data and b"\r" not in data:
            self._check_size(len(self._pending))
            return []
        end = len(self._pending) - self._pending.endswith(b"\r")  # a line feed that follows belongs to it
        whole, rest = self._pending[:end], self._pending[end:]
        *lines, last = whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._pending = last + rest
        return [event for line in lines if (event := self._read_line(line)) is not None]

    def close(self) -> list[ServerEvent]:
        """Ends the stream. An event without its final empty line counts if its last line is complete."""
        lines = [self._pending[:-1], b""] if self._pending.endswith(b"\r") else [b""]
        return [event for line in lines if (event := self._read_line(line)) is not None]

    def _read_line(self, line: bytes) -> ServerEvent | None:
        if not line:
            event = ServerEvent(self._name, b"\n".join(self._data)) if self._data else None
            self._name, self._data, self._size = "", [], 0
            return event
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._check_size(self._size + len(value))
            self._data.append(value)
            self._size += len(value)
        elif field == b"event":
            self._name = value.decode(errors="replace")
        return None  # comments keep connections alive; ids and retries serve reconnection

    def _check_size(self, size: int) -> None:
        if size > MAX_EVENT_BYTES:
            raise EventTooLarge(f"an event of more than {MAX_EVENT_BYTES:,} bytes")
