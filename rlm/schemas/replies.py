"""Checks the JSON replies of models against their schemas, without holding the event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from rlm.core.errors import ReplyDoesNotFitError
from rlm.core.messages import Message, Usage
from rlm.schemas.steps import INLINE_STEPS, TooManySteps, beside_loop

if TYPE_CHECKING:
    from rlm.schemas.validator import Validator

INLINE_CHARS = 20_000
STEPS_PER_CHAR = 5
MAX_VIOLATION_CHARS = 1_000


async def find_violation(text: str, validator: Validator) -> str | None:
    """The violations of a schema by a JSON text, in one line; None if it is valid."""
    if len(text) <= INLINE_CHARS:
        try:
            return _check(text, validator, INLINE_STEPS)
        except TooManySteps:
            pass
    return await beside_loop(_check_slowly, text, validator)


def _check(text: str, validator: Validator, steps: int) -> str | None:
    try:
        value = orjson.loads(text)
    except ValueError:
        return "it is not JSON"
    return "; ".join(validator.problems(value, "the reply", steps=steps))[:MAX_VIOLATION_CHARS] or None


def _check_slowly(text: str, validator: Validator) -> str | None:
    try:
        return _check(text, validator, INLINE_STEPS + STEPS_PER_CHAR * len(text))
    except TooManySteps:
        return "it is too large, or nested too deeply, to be checked against its schema"


def repair_turns(reply: str, violation: str) -> tuple[Message, Message]:
    """The messages that return an invalid reply to its model."""
    return (
        Message("assistant", reply),
        Message("user", f"Your reply is not valid: {violation}. Reply again with the corrected JSON alone."),
    )


def does_not_fit(model: str, violation: str, usage: Usage) -> ReplyDoesNotFitError:
    """The error for a reply that is still invalid after its repair. Both replies are billed."""
    error = ReplyDoesNotFitError(
        f"{model}: the reply is not the JSON asked for, also after one correction: {violation}. "
        "Simplify the schema, or use a more capable model",
        model=model,
    )
    error.usage = usage
    return error
