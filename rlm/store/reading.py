"""Reads a run's events and context from what a store holds, with the errors that all stores share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple
from typing import Any

import orjson

from rlm.core.errors import ConfigurationError, IncompleteRecordError, StoreError, UnknownRunError
from rlm.core.events import AnyEvent, CallBilled, CallReplied, NodeStarted
from rlm.core.ids import RunId
from rlm.core.messages import JsonValue
from rlm.core.runs import MAX_CONTEXT_BYTES, RunInfo
from rlm.store.codec import Decoder
from rlm.store.forms import LoadValue, MissingTextError
from rlm.store.upgrade import upgrade

NO_TEXTS = "run {} was stored without its texts (--no-store-texts), so it cannot be executed again"


def decode_events(
    run: RunId, lines: Iterable[bytes], find_text: Callable[[bytes], bytes | None], load: LoadValue, *, lenient: bool
) -> list[AnyEvent]:
    """The events of a run, in order.

    Raises:
        IncompleteRecordError: its texts were not stored.
        StoreError: the record is damaged.
    """
    decoder = Decoder(run, find_text, load, lenient=lenient)
    try:
        events = upgrade([event for line in lines for event in decoder.decode(line)])
    except MissingTextError:
        raise IncompleteRecordError(NO_TEXTS.format(run)) from None
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise StoreError(f"the record of run {run} is damaged: {error!r}") from error
    if not lenient:
        for event in events:
            _check_numbers(event)
    return events


def _check_numbers(event: AnyEvent) -> None:
    """Raises StoreError if a number would widen the limits of a resumed run: a negative cost pays for calls."""
    numbers: tuple[Any, ...]
    match event:
        case NodeStarted():
            numbers = (event.depth,)
        case CallReplied():
            numbers = (*astuple(event.reply.usage), event.cost_usd or 0)
        case CallBilled():
            numbers = (*astuple(event.usage), event.cost_usd or 0, event.assumed_tokens, event.assumed_usd)
        case _:
            return
    if not all(isinstance(number, int | float) and 0 <= number < math.inf for number in numbers):
        raise StoreError(f"the record of run {event.run} is damaged: {type(event).__name__} has an impossible number")


def load_context(info: RunInfo, load: LoadValue) -> object:
    """The context of a run.

    Raises:
        IncompleteRecordError: it was too large to store, holds a secret, or no texts were to be stored.
    """
    context = info.context
    if context.data is not None:
        return load(context.kind, context.data)
    if not info.texts_kept:
        raise IncompleteRecordError(NO_TEXTS.format(info.id))
    why = "holds a secret and " if context.size <= MAX_CONTEXT_BYTES and context.kind else ""
    source = f" It was read from {context.path}." if context.path else ""
    raise IncompleteRecordError(
        f"the context of run {info.id} ({context.size:,} bytes) {why}was not stored: give it again.{source}"
    )


def read_run_id(run: object) -> str:
    """The id of a run as given by a caller, or "last"; text that no database stores has escapes.

    Raises:
        ConfigurationError: it is not text.
    """
    if not isinstance(run, str):
        raise ConfigurationError(f'a run is named by its id as text, or by "last"; got a {type(run).__name__}.')
    return str.__str__(run).encode("utf-8", "backslashreplace").decode()


def choose_run(place: str, run: str, matches: Sequence[RunInfo]) -> RunInfo:
    """The run of this id, otherwise the only one whose id starts with it.

    Raises:
        UnknownRunError: there is none, or there are several.
    """
    if not (matches and run):
        raise no_run(place, run)
    exact = [info for info in matches if info.id == run]
    if len(matches) > 1 and not exact:
        raise UnknownRunError(f"several runs start with {run}: give more of the id")
    return (exact or matches)[0]


def resumed_elsewhere(run: RunId) -> StoreError:
    return StoreError(f"run {run} was resumed elsewhere since it was read: see rlm show {run}")


def change_options(
    recorded: Mapping[str, JsonValue], given: Mapping[str, JsonValue] | None, redact: Callable[[bytes], bytes]
) -> bytes:
    """The options of a resumed run as JSON, free of secrets."""
    return redact(orjson.dumps({**recorded, **(given or {})}))


def no_run(place: str, run: str) -> UnknownRunError:
    """The error for a run that a store does not have."""
    if run == "last":
        return UnknownRunError(f"the store {place} has no runs yet")
    return UnknownRunError(f"the store {place} has no run {run}. See: rlm runs")
