"""Dialects of endpoints: parameters that a model refuses, recognised from its refusal and adapted in later requests. Pure.

Providers and gateways refuse parameters under any model name, each in its own words. A refusal names the parameter in its error
object or in its prose. The parameter is left out or translated, and the process remembers it for the endpoint and the model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from rlm.core.messages import Message, Request, Text
from rlm.core.values import frozen
from rlm.models.faults import ErrorBody

Json: TypeAlias = dict[str, Any]

MAX_CHANGES = 8
"""The maximum number of changes for one call: enough for all optional parameters, one at a time."""

_STATUSES = frozenset({400, 404, 405, 415, 422, 500, 501})
_LIMITS = ("max_tokens", "max_completion_tokens")
_FORMATS = ("response_format", "output_config")
# The optional parameters of both wire formats, and the words that refusals use for them.
_WORDS: Mapping[str, str] = {
    "stream_options": r"stream_options|include_usage|continuous_usage_stats",
    "stream": r"stream(?:ing|ed|s)?",
    "stop_sequences": r"stop[_ ]?sequences?",
    "stop": r"stop(?:[_ ]?(?:sequences?|words?))?",
    "temperature": r"temperature|sampling parameters?",
    "max_completion_tokens": r"max_completion_tokens",
    "max_tokens": r"max_tokens|max_output_tokens|maxTokens",
    "response_format": r"response[_ ]?format|json_schema|json_object|json[_ ]mode|structured outputs?",
    "output_config": r"output_config|output_format|json_schema|structured outputs?",
    "prompt_cache_key": r"prompt_cache_key",
    "prompt_cache_breakpoint": r"prompt_cache_breakpoint",
    "cache_control": r"cache_control",
    "timings_per_token": r"timings_per_token",
    "usage": r"usage",
    "system": r"(?:system|developer)[ _-]?(?:roles?|messages?|prompts?|instructions?)|roles? .{0,20}\b(?:system|developer)"
    r"|messages[.\[]\d+\]?\.role|only user (?:and|or) assistant roles|roles must alternate|'(?:system|developer)'",
}
_PATTERNS = {name: re.compile(rf"(?<![\w-])(?:{words})(?![\w-])", re.I) for name, words in _WORDS.items()}
_REFUSES = re.compile(
    r"un(?:supported|recogni[sz]ed|known|expected|permitted|available)|extra(?:neous| inputs| fields)|additional propert"
    r"|(?:not|n't|never|no longer|cannot|only) (?:\w+ ){0,3}?(?:support|permit|allow|accept|recogni[sz]|enabl|implement|valid"
    r"|available|provid|expect|exist|stream|be|work|understood|compatible|applicable|a known)"
    r"|only user|no (?:support|such)|deprecat|disallow|forbid|invalid|incompatible|reject|remov|must (?:be|not|alternate)"
    r"|to stream|cannot find field|use .{1,40} instead|too (?:large|high|many)|at most|maximum",
    re.I,
)
_UNNAMED = re.compile(
    r"(?:un(?:supported|recogni[sz]ed|known|expected)|extra|additional|invalid) (?:\w+ )?"
    r"(?:param|arg|field|input|propert|option|key)"
    r"|(?:param|arg|field|input|propert|option)\w* (?:\w+ ){0,2}(?:not|un)[ ]?(?:support|permit|allow|recogni|known)",
    re.I,
)
# Text after these words lists what is accepted instead.
_ACCEPTED = re.compile(
    r"expected one of|expected: |instead|(?:supported|allowed|valid|permitted|accepted|available) "
    r"(?:param\w*|arg\w*|fields?|values?|options?|keys?)(?: are| is)?\s*:|did you mean|supports only|only supports",
    re.I,
)
_LARGEST = re.compile(
    r"(?:\d+ >|at most|maximum(?: \w+){0,4}? (?:is|of)|less than or equal to|up to|<=?|range[^\d]{0,20}\[?\d+,)"
    r"[\s:`'\"]*(\d[\d,]{1,8})\b"
    r"|(?:limit|maximum)[^\d]{0,30}?(\d[\d,]{1,8})\b",
    re.I,
)
# Never left out because of a refusal that does not name it: the reservation of the call depends on the limit.
_ALWAYS_NAMED = frozenset({*_LIMITS, "stream", "system", "cache_control"})


@frozen
class Dialect:
    """Changes that an endpoint needs for one model.

    Attributes:
        left_out: parameters that are not sent. ``"system"`` turns system messages into user text.
        limit_name: the accepted name of the limit on output tokens, if it differs from ours.
        limit_tokens: the largest limit that the model accepts.
        ignores_schema: ``response_format`` has no effect, so the schema is also in the prompt.
    """

    left_out: frozenset[str] = frozenset()
    limit_name: str | None = None
    limit_tokens: int | None = None
    ignores_schema: bool = False

    @property
    def streams(self) -> bool:
        return "stream" not in self.left_out

    @property
    def schema_in_prompt(self) -> bool:
        return self.ignores_schema or any(name in self.left_out for name in _FORMATS)

    def leave_out(self, name: str) -> Dialect:
        return replace(self, left_out=self.left_out | {name})

    def merge(self, other: Dialect) -> Dialect:
        """Both sets of changes; concurrent calls can learn different ones."""
        limits = [limit for limit in (self.limit_tokens, other.limit_tokens) if limit is not None]
        return Dialect(
            self.left_out | other.left_out,
            other.limit_name or self.limit_name,
            min(limits, default=None),
            self.ignores_schema or other.ignores_schema,
        )


COMMON = Dialect()
_learnt: dict[tuple[str, str], Dialect] = {}


def recall(address: str, model: str) -> Dialect:
    """The dialect that this process has learnt for a model at an address."""
    return _learnt.get((address, model), COMMON)


def remember(address: str, model: str, dialect: Dialect) -> None:
    """Adds the changes of ``dialect`` to those of a model at an address."""
    _learnt[address, model] = recall(address, model).merge(dialect)


def forget_all() -> None:
    """Clears everything learnt, for tests."""
    _learnt.clear()


def adapt_request(request: Request, dialect: Dialect) -> Request:
    """The request with its system messages as user text, if the model refuses the role."""
    if "system" not in dialect.left_out or all(message.role != "system" for message in request.messages):
        return request
    return replace(request, messages=tuple(_without_system(request.messages)))


def _without_system(messages: tuple[Message, ...]) -> Iterator[Message]:
    """The conversation with each system message in front of the user message that follows it: roles alternate."""
    pending: list[str] = []
    for message in messages:
        if message.role == "system":
            pending.append(message.text)
            continue
        if pending and message.role == "user":
            yield _prepend("\n\n".join(pending) + "\n\n", message)
        else:
            if pending:
                yield Message("user", "\n\n".join(pending))
            yield message
        pending = []
    if pending:
        yield Message("user", "\n\n".join(pending))


def _prepend(text: str, message: Message) -> Message:
    content = message.content
    return Message(message.role, text + content if isinstance(content, str) else (Text(text), *content))


def adapt_body(body: Json, dialect: Dialect) -> Json:
    """The body without the parameters that the model refuses, with its limit translated."""
    if dialect is COMMON:
        return body
    for name in dialect.left_out:
        body.pop(name, None)
    for mark in ("cache_control", "prompt_cache_breakpoint"):
        if mark in dialect.left_out:
            _remove_marks(body, mark)
    if "stream" in dialect.left_out:
        body.pop("stream_options", None)
    sent = next((name for name in _LIMITS if name in body), None)
    if sent is not None:
        limit = body.pop(sent)
        body[dialect.limit_name or sent] = limit if dialect.limit_tokens is None else min(limit, dialect.limit_tokens)
    return body


def _remove_marks(part: Any, mark: str) -> None:
    if isinstance(part, dict):
        part.pop(mark, None)
        for value in part.values():
            _remove_marks(value, mark)
    elif isinstance(part, list):
        for value in part:
            _remove_marks(value, mark)


def learn(dialect: Dialect, status: int, error: ErrorBody, body: Json) -> Dialect | None:
    """The dialect that avoids a refusal; None if it names nothing that could be changed in ``body``."""
    if status not in _STATUSES:
        return None
    present = _present(body)
    name = _named(error.parameters, present)
    if name is None and (
        _REFUSES.search(error.message) or error.words & {"unsupported_parameter", "unsupported_value"}
    ):
        name = _mentioned(error.message, present)
    if name is not None:
        return _change(dialect, name, error.message, body)
    optional = present - _ALWAYS_NAMED
    if status in {400, 422} and optional and _UNNAMED.search(error.message):
        return replace(dialect, left_out=dialect.left_out | optional)
    return None


def _change(dialect: Dialect, name: str, message: str, body: Json) -> Dialect:
    if name not in _LIMITS:
        return dialect.leave_out(name)
    for match in _LARGEST.finditer(message):
        largest = int((match[1] or match[2]).replace(",", ""))
        if 0 < largest < body[name]:
            return replace(dialect, limit_tokens=largest)
    other = _LIMITS[1 - _LIMITS.index(name)]
    if dialect.limit_name is None:
        return replace(dialect, limit_name=other)
    return replace(dialect, limit_name=None, left_out=dialect.left_out | set(_LIMITS))


def _present(body: Json) -> frozenset[str]:
    """The adaptable parameters of a body."""
    names = {name for name in _WORDS if name in body}
    messages = body.get("messages", [])
    if any(message.get("role") == "system" for message in messages) and len(messages) > 1:
        names.add("system")
    parts = [part for message in messages if isinstance(message["content"], list) for part in message["content"]]
    if isinstance(body.get("system"), list):
        names.discard("system")
        parts += body["system"]
    names |= {mark for mark in ("cache_control", "prompt_cache_breakpoint") if any(mark in part for part in parts)}
    return frozenset(names)


def _named(parameters: tuple[str, ...], present: frozenset[str]) -> str | None:
    """The parameter that an error object names, for instance ``stream_options.include_usage`` or ``messages[0].role``."""
    for parameter in parameters:
        path = [part for part in re.split(r"[.\[\]/#\s]+", parameter) if part and part != "body"]
        if path and path[0] in present:
            return path[0]
        if path and path[0] == "messages" and path[-1] == "role" and "system" in present:
            return "system"
        for mark in ("cache_control", "prompt_cache_breakpoint"):
            if mark in path and mark in present:
                return mark
    return None


def _mentioned(message: str, present: frozenset[str]) -> str | None:
    """The first parameter that the prose of a refusal names."""
    accepted = _ACCEPTED.search(message)
    for text in (message[: accepted.start()] if accepted else message, message):
        places = [
            (match.start(), name) for name in _WORDS if name in present and (match := _PATTERNS[name].search(text))
        ]
        if places:
            return min(places)[1]
    return None
