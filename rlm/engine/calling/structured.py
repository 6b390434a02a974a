"""Requests with a schema, for models of every kind: the reply is validated, and corrected once by its model."""

from __future__ import annotations

from dataclasses import replace

import orjson

from rlm.core.messages import JsonSchema, Reply, Request
from rlm.ports import Model
from rlm.schemas.reading import NotDataError, dump, read_text
from rlm.schemas.recent import RecentSchemas
from rlm.schemas.replies import does_not_fit, find_violation, repair_turns
from rlm.schemas.validator import Validator, compile_schema

_validators = RecentSchemas[Validator]()


async def ask_structured(model: Model, request: Request, schema: JsonSchema) -> Reply:
    """Asks a model. The text of the reply is JSON that follows the schema.

    Models behind HTTP correct their replies themselves, so this finds nothing to correct.

    Raises:
        ReplyDoesNotFitError: the reply is invalid, also after one correction.
        ModelError: as ``Model.ask``.
    """
    validator = _validators.get(schema, compile_schema)
    first = _as_json(await model.ask(request), validator)
    violation = await find_violation(first.text, validator)
    if violation is None:
        return first
    messages = (*request.messages, *repair_turns(first.text, violation))
    second = _as_json(await model.ask(replace(request, messages=messages)), validator)
    usage = first.usage + second.usage
    if (violation := await find_violation(second.text, validator)) is not None:
        raise does_not_fit(model.name, violation, usage)
    costs = (first.cost_usd, second.cost_usd)
    return replace(second, usage=usage, cost_usd=None if None in costs else sum(cost or 0.0 for cost in costs))


def _as_json(reply: Reply, validator: Validator) -> Reply:
    """The reply with its JSON alone, if it has any. Text that the schema asks for can lack its quotation marks."""
    try:
        orjson.loads(reply.text)
        return reply
    except ValueError:
        pass
    try:
        return replace(reply, text=dump(read_text(reply.text)).decode())
    except NotDataError:
        if validator.accepts_text:
            return replace(reply, text=dump(reply.text).decode())
        return reply
