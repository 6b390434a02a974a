"""Server-sent events, as providers stream replies: bytes in, events out. Pure; knows no provider's words.

Lines are taken apart as bytes and decoded only when complete, so it does not matter where a packet ends, not even inside a
character.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_EVENT_BYTES = 4 * 1024 * 1024  # no provider's event is larger; what is would fill the memory


class EventTooLarge(ValueError):
    """One event is larger than any that a provider sends."""


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """``name`` is empty where the event has none."""

    name: str
    data: bytes


class EventReader:
    """Reads one stream."""

    def __init__(self) -> None:
        self._rest = b""
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[ServerEvent]:
        """The events that ``data`` completes.

        Raises:
            EventTooLarge: an event goes on and on.
        """
        self._rest += data
        if b"\n" not in data and b"\r" not in data:
            self._check_size(len(self._rest))
            return []
        end = len(self._rest) - self._rest.endswith(b"\r")  # a line feed may follow, and belongs to it
        whole, rest = self._rest[:end], self._rest[end:]
        *lines, last = whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = last + rest
        return [event for line in lines if (event := self._take(line)) is not None]

    def close(self) -> list[ServerEvent]:
        """The stream has ended: an event whose empty line is missing counts if its last line is complete."""
        lines = [self._rest[:-1], b""] if self._rest.endswith(b"\r") else [b""]
        return [event for line in lines if (event := self._take(line)) is not None]

    def _take(self, line: bytes) -> ServerEvent | None:
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
        return None  # comments keep connections alive; ids and retries are for those who reconnect

    def _check_size(self, size: int) -> None:
        if size > MAX_EVENT_BYTES:
            raise EventTooLarge(f"an event of more than {MAX_EVENT_BYTES:,} bytes")
