"""One streamed reply, put together: what both wire formats have in common. Pure.

The stream becomes the very object that a reply in one piece would have been, so that it is read, and mistrusted, by the same
code. A provider's format says what an event adds (``add``) and when the reply is whole.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import orjson

from rlm.core.errors import ModelError, ProviderUnreachableError
from rlm.models.bad_replies import malformed
from rlm.models.faults import Speaker, make_fault, quote_provider, read_error_object
from rlm.models.sse import EventReader, EventTooLarge, ServerEvent
from rlm.ports import OnText


class ReplyStream(ABC):
    """Takes the bytes of one stream.

    Attributes:
        whole: the provider has said that the reply is complete.
        fault: what went wrong, if something did; nothing is taken in after it.
        heard_enough: ``hear`` needs no more of the text.
        usage_is_current: the usage so far is exact, so that nothing is lost by hanging up.
    """

    def __init__(self, speaker: Speaker, hear: OnText) -> None:
        self._speaker = speaker
        self._hear = hear
        self._reader = EventReader()
        self.text: list[str] = []
        self.whole = False
        self.fault: ModelError | None = None
        self.heard_enough = False
        self.usage_is_current = False
        self.began = False

    def take(self, data: bytes) -> bool:
        """Takes the next bytes; True means that the connection may be closed."""
        self.began = True
        try:
            for event in self._reader.feed(data):
                self._take_event(event)
        except EventTooLarge as error:
            self._fail(malformed(self._speaker, str(error), b""))
        return self.fault is not None or (self.heard_enough and self.usage_is_current)

    def finish(self) -> None:
        """The stream is over.

        Raises:
            ModelError: it broke off, or was no reply. What was sent of one is billed, by how much nobody says.
        """
        for event in self._reader.close():
            self._take_event(event)
        if self.fault is not None:
            raise self.fault
        if not self.whole and not (self.heard_enough and self.usage_is_current):
            raise ProviderUnreachableError(
                f"{self._speaker.model}: the stream from {self._speaker.address} ended in the middle of the reply; "
                "usually it passes",
                model=self._speaker.model,
            )

    @abstractmethod
    def add(self, name: str, data: dict[str, Any]) -> None:
        """Takes in one event. KeyError, TypeError, IndexError and AttributeError mean that it is none."""

    @abstractmethod
    def as_body(self) -> dict[str, Any]:
        """The reply as it would have come in one piece."""

    def _say(self, text: object) -> None:
        if isinstance(text, str) and text:
            self.text.append(text)
            self.heard_enough = self._hear(text)

    def _take_event(self, event: ServerEvent) -> None:
        if self.fault is not None:
            return
        if event.data.strip() == b"[DONE]":
            self.whole = True
            return
        try:
            data = orjson.loads(event.data)
            if not isinstance(data, dict):
                raise TypeError
            if data.get("error") and not self.whole:
                self._fail(self._read_fault(data))
            else:
                self.add(event.name, data)
        except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, AttributeError):
            if not self.whole:  # after its end nothing can make a reply wrong
                self._fail(malformed(self._speaker, "an event in the middle of a reply that is none", event.data))

    def _read_fault(self, data: dict[str, Any]) -> ModelError:
        """An error inside a stream. Once the reply has begun it is billed, whatever the error says: a broken stream."""
        error = read_error_object(data)
        if not self.text:
            return make_fault(self._speaker, error.status or 502, error)
        said = quote_provider(error.message, self._speaker.api_key)
        return ProviderUnreachableError(
            f"{self._speaker.model}: the reply broke off with an error; usually it passes. The provider says: {said}",
            model=self._speaker.model,
        )

    def _fail(self, fault: ModelError) -> None:
        if self.fault is None:
            self.fault = fault
