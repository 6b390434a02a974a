"""Reader for one streamed reply, shared by both wire formats. Pure.

A stream becomes the same JSON that a whole reply would have been, so the same code reads and checks it. A wire format says what
each event adds (``add``) and when the reply is complete.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from rlm.core.errors import ModelError, ProviderUnreachableError
from rlm.models.bad_replies import malformed
from rlm.models.faults import ErrorBody, Source, make_fault, quote_provider, read_error_object
from rlm.models.loose_json import join_halves, load_json
from rlm.models.sse import EventReader, EventTooLarge, ServerEvent
from rlm.ports import OnText


class ReplyStream(ABC):
    """Reads the bytes of one stream.

    Attributes:
        text: the pieces of the reply's text so far.
        complete: the provider has finished the reply.
        fault: the first error; nothing is read after it.
        cut: ``on_text`` needs no more of the text.
        usage_is_exact: the usage so far is exact, so a disconnect loses nothing.
        began: some bytes have arrived.
        refusal: the error object of a stream that ended with it before any text.
    """

    def __init__(self, source: Source, on_text: OnText) -> None:
        self._source = source
        self._on_text = on_text
        self._reader = EventReader()
        self.text: list[str] = []
        self.complete = False
        self.fault: ModelError | None = None
        self.cut = False
        self.usage_is_exact = False
        self.began = False
        self._half = ""
        self.refusal: ErrorBody | None = None

    def feed(self, data: bytes) -> bool:
        """Reads the next bytes; returns True if the connection can be closed."""
        self.began = True
        try:
            for event in self._reader.feed(data):
                self._read_event(event)
        except EventTooLarge as error:
            self._fail(malformed(self._source, str(error), b""))
        return self.fault is not None or (self.cut and self.usage_is_exact)

    def close(self) -> None:
        """Reads what the end of the stream completes."""
        for event in self._reader.close():
            self._read_event(event)
        if self._half:
            self.text.append("\ufffd")
            self._half = ""

    @property
    def lacks_end(self) -> bool:
        """True for text from a server that closed the stream without any mark of its end."""
        return bool(self.text) and self.fault is None and not self.complete and not self.cut

    def finish(self) -> None:
        """Ends the stream.

        Raises:
            ModelError: it broke off, or was not a reply. Text that arrived is billed, at an unknown cost.
        """
        self.close()
        if self.fault is not None:
            raise self.fault
        if not self.complete and not (self.cut and self.usage_is_exact):
            raise ProviderUnreachableError(
                f"{self._source.model}: the stream from {self._source.address} ended in the middle of the reply. "
                "Usually a retry succeeds",
                model=self._source.model,
            )

    @abstractmethod
    def add(self, name: str, data: dict[str, Any]) -> None:
        """Adds one event. KeyError, TypeError, IndexError and AttributeError mean that it is malformed."""

    @abstractmethod
    def as_body(self) -> dict[str, Any]:
        """The JSON of the reply, as if it had arrived whole."""

    def add_text(self, text: object) -> None:
        """Adds a piece of the reply's text; anything but a non-empty text is ignored."""
        if isinstance(text, str) and text:
            text, self._half = join_halves(self._half + text)
        if isinstance(text, str) and text:
            self.text.append(text)
            self.cut = self._on_text(text)

    def _read_event(self, event: ServerEvent) -> None:
        if self.fault is not None:
            return
        if event.data.strip() == b"[DONE]":
            self.complete = True
            return
        try:
            data = load_json(event.data)
            if not isinstance(data, dict):
                raise TypeError
            if data.get("error") and not self.complete:
                self._fail(self._read_fault(data))
            else:
                self.add(event.name, data)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError):
            if not self.complete:  # nothing after its end can invalidate a reply
                self._fail(malformed(self._source, "a malformed event in the middle of a reply", event.data))

    def _read_fault(self, data: dict[str, Any]) -> ModelError:
        """The error of an error event. Once text has arrived it is a broken stream, whatever the event says: it is billed."""
        error = read_error_object(data)
        if not self.text:
            self.refusal = error
            return make_fault(self._source, error.status or 502, error)
        quote = quote_provider(error.message, self._source.api_key)
        return ProviderUnreachableError(
            f"{self._source.model}: the reply broke off with an error. Usually a retry succeeds. The provider says: {quote}",
            model=self._source.model,
        )

    def _fail(self, fault: ModelError) -> None:
        if self.fault is None:
            self.fault = fault
