"""What is said to a model and what comes back, independent of any provider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Role: TypeAlias = Literal["system", "user", "assistant"]
CallRole: TypeAlias = Literal["node", "leaf"]

JsonValue: TypeAlias = "str | int | float | bool | Sequence[JsonValue] | Mapping[str, JsonValue] | None"
JsonSchema: TypeAlias = Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call or the sum of several.

    ``input_tokens`` counts all tokens of the prompt; ``cached_tokens`` are those of them that the provider read from its
    prefix cache and ``cache_write_tokens`` those it wrote there. ``output_tokens`` counts all tokens of the reply;
    ``reasoning_tokens`` are those of them that were hidden reasoning.
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


@dataclass(frozen=True, slots=True)
class Task:
    """What a node was asked to do: told to models that are programs (plans), never sent to a provider.

    ``leaf_prompt_chars`` is the number of characters that a sub-prompt may have.
    """

    question: str
    depth: int
    max_depth: int
    turn: int
    leaf_prompt_chars: int


@dataclass(frozen=True, slots=True)
class Request:
    """One call to a model.

    Attributes:
        messages: the conversation, oldest first. A node's only ever grows at its end, byte for byte.
        role: ``"node"`` for a turn of a node, ``"leaf"`` for a plain sub-call.
        depth: the depth of the node that speaks (for a leaf call: of the level the leaf stands on).
        max_output_tokens: the reply's limit; None leaves it to the provider.
        temperature: None leaves it to the provider.
        schema: a JSON schema that the reply must follow; the reply's text is then JSON.
        stop: texts at which the provider should end the reply.
        cache_key: equal for calls that share a long prefix.
        shared_chars: how many characters at the start of the newest message calls beside this one have as well, where that is
            worth a place in the provider's cache. It changes nothing of what is said.
        task: for a node's turn, what the node was asked; not part of what is sent.
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


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole, non-empty reply. Whatever is cut, refused, empty or malformed is a ``ModelError`` instead.

    ``model`` is the name the provider says it used; ``cost_usd`` is set only where the provider itself reports a cost.
    """

    text: str
    usage: Usage
    model: str
    cost_usd: float | None = None
