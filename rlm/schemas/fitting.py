"""Checks answers on the event loop if that is quick, otherwise in a thread, and always in bounded time."""

from __future__ import annotations

from rlm.core.answer_form import AnswerForm, Fit
from rlm.core.cells import PlainValue
from rlm.core.messages import JsonSchema
from rlm.core.plain import dump_json
from rlm.schemas.form import TOO_LARGE, JsonForm
from rlm.schemas.recent import RecentSchemas
from rlm.schemas.steps import INLINE_STEPS, STEPS_PER_PART, TooManySteps, beside_loop
from rlm.schemas.values import count_parts

INLINE_PARTS = 1_000  # of a value that is checked on the event loop
INLINE_CHARS = 20_000
INLINE_SCHEMA_CHARS = 2_000
MAX_PARTS = 5_000_000

_forms = RecentSchemas[JsonForm]()


async def fit_answer(form: AnswerForm, value: PlainValue) -> Fit:
    """Reads an answer, without holding the event loop."""
    if not form.runs_user_code and _is_small(value):
        try:
            return form.fit(value, INLINE_STEPS)
        except TooManySteps:
            pass
    return await beside_loop(_fit_slowly, form, value)


def _is_small(value: PlainValue) -> bool:
    if isinstance(value, str | bytes):
        return len(value) <= INLINE_CHARS
    return count_parts(value, INLINE_PARTS) <= INLINE_PARTS


def _fit_slowly(form: AnswerForm, value: PlainValue) -> Fit:
    parts = len(value) // 4 if isinstance(value, str | bytes) else count_parts(value, MAX_PARTS)
    try:
        return form.fit(value, INLINE_STEPS + STEPS_PER_PART * min(parts, MAX_PARTS))
    except TooManySteps:
        return Fit(problems=(TOO_LARGE,))


async def open_form(schema: JsonSchema) -> JsonForm:
    """The form of a schema from a cell. A large schema is compiled in a thread.

    Raises:
        SchemaError: the schema cannot be used.
    """
    form = _forms.find(schema)
    if form is not None:
        return form
    text = dump_json(schema)
    if len(text) <= INLINE_SCHEMA_CHARS and '"pattern' not in text:
        return _forms.add(schema, JsonForm(schema))
    return _forms.add(schema, await beside_loop(JsonForm, schema))
