"""Requests, replies and token usage, independent of any provider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Literal, TypeAlias, get_args

from rlm.core.errors import ConfigurationError
from rlm.core.values import frozen

Role: TypeAlias = Literal["system", "user", "assistant"]
CallRole: TypeAlias = Literal["node", "leaf"]

JsonValue: TypeAlias = "str | int | float | bool | Sequence[JsonValue] | Mapping[str, JsonValue] | None"
JsonSchema: TypeAlias = Mapping[str, JsonValue]

ImageType: TypeAlias = Literal["image/png", "image/jpeg", "image/gif", "image/webp"]
"""Media types that both wire formats accept."""


@frozen
class Text:
    """A text part of a message."""

    text: str


@frozen
class Image:
    """An image part of a message: ``data`` is the encoded file."""

    media_type: ImageType
    data: bytes = field(repr=False)

    def __post_init__(self) -> None:
        types: tuple[str, ...] = get_args(ImageType)
        if self.media_type not in types:
            raise ConfigurationError(
                f"`media_type` must be one of {', '.join(types)}; got {self.media_type!r}. Convert the image first"
            )


Part: TypeAlias = Text | Image


@frozen
class Message:
    """One message of a conversation.

    ``content`` is plain text, or parts in order. Plain text, by far the most common, is stored without a part around it: a
    fan-out creates a message for each call.
    """

    role: Role
    content: str | tuple[Part, ...]

    @property
    def text(self) -> str:
        """All text of the message."""
        content = self.content
        return (
            content if isinstance(content, str) else "".join([part.text for part in content if isinstance(part, Text)])
        )

    @property
    def parts(self) -> tuple[Part, ...]:
        return (Text(self.content),) if isinstance(self.content, str) else self.content

    @property
    def images(self) -> tuple[Image, ...]:
        return () if isinstance(self.content, str) else tuple(part for part in self.content if isinstance(part, Image))

    def append(self, text: str) -> Message:
        """The same message with ``text`` at its end."""
        content = self.content
        return Message(self.role, content + text if isinstance(content, str) else (*content, Text(text)))


def append_to_user(messages: tuple[Message, ...], text: str) -> tuple[Message, ...]:
    """The conversation with a message of the user at its end. It becomes part of a last message that no reply followed."""
    if messages[-1].role == "user":
        return (*messages[:-1], messages[-1].append(f"\n\n{text}"))
    return (*messages, Message("user", text))


@frozen
class Usage:
    """Tokens of one call, or of several calls together.

    Attributes:
        input_tokens: all tokens of the prompt.
        cached_tokens: the part of ``input_tokens`` read from the provider's prefix cache.
        cache_write_tokens: the part of ``input_tokens`` written to that cache.
        output_tokens: all tokens of the reply.
        reasoning_tokens: the part of ``output_tokens`` that was hidden reasoning.
    """

    calls: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.calls + other.calls,
            self.input_tokens + other.input_tokens,
            self.cached_tokens + other.cached_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.output_tokens + other.output_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


@frozen
class Task:
    """A node's assignment, for models that are programs (plans); never sent to a provider.

    ``leaf_prompt_chars`` is the maximum length of a sub-prompt in characters. ``earlier_messages`` counts the messages of
    earlier questions of a session, before the message with this question.
    """

    question: str
    depth: int
    max_depth: int
    turn: int
    leaf_prompt_chars: int
    earlier_messages: int = 0


@frozen
class Request:
    """One call to a model.

    Attributes:
        messages: the conversation, oldest first. A node's conversation only grows at its end, byte for byte.
        role: ``"node"`` for a turn of a node, ``"leaf"`` for a plain sub-call.
        depth: the calling node's depth; for a leaf call, the leaf's own level.
        max_output_tokens: the maximum length of the reply; None leaves it to the provider.
        temperature: None leaves it to the provider.
        schema: a JSON schema that the reply must follow; the reply's text is then JSON.
        stop: texts at which the provider should end the reply.
        cache_key: equal for calls that share a long prefix.
        shared_chars: the length of the newest message's prefix that sibling calls share, if it is worth a cache breakpoint.
            It does not change the content.
        task: for a node's turn, its assignment; not sent.
    """

    messages: tuple[Message, ...]
    role: CallRole = "leaf"
    depth: int = 0
    max_output_tokens: int | None = None
    temperature: float | None = None
    schema: JsonSchema | None = None
    stop: tuple[str, ...] = ()
    cache_key: str | None = None
    shared_chars: int = field(default=0, compare=False)
    task: Task | None = field(default=None, compare=False)


@frozen
class Headroom:
    """The rate limit that a provider reports with a reply.

    Attributes:
        calls: further calls of this size that it accepts before the limit resets.
        reset_s: seconds until the limit resets.
    """

    calls: int
    reset_s: float


@frozen
class Reply:
    """A complete, non-empty reply. A truncated, refused, empty or malformed one raises a ``ModelError`` instead.

    ``model`` is the name that the provider reports; ``cost_usd`` is set only if the provider reports a cost. ``headroom`` serves
    the scheduler, and is not recorded.
    """

    text: str
    usage: Usage
    model: str
    cost_usd: float | None = None
    headroom: Headroom | None = field(default=None, compare=False)
