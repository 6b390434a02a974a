"""Checks answers against their schemas: on the event loop if that is quick, otherwise in a thread, in bounded time."""

from __future__ import annotations

import asyncio

from rlm.core.actions import Validated
from rlm.core.answer_form import AnswerForm, Fit
from rlm.core.cells import PlainValue
from rlm.core.events import AnswerValidated
from rlm.core.messages import JsonSchema
from rlm.core.plain import dump_json
from rlm.engine.recorder import Recorder
from rlm.engine.replay.policy import ReplayPolicy
from rlm.engine.settings import NodeJob
from rlm.schemas.form import TOO_LARGE, JsonForm
from rlm.schemas.validator import INLINE_STEPS, STEPS_PER_PART, TooManySteps
from rlm.schemas.values import count_parts

INLINE_PARTS = 1_000  # of a value that is checked on the event loop
INLINE_CHARS = 20_000
INLINE_SCHEMA_CHARS = 2_000
MAX_PARTS = 5_000_000


class AnswerChecker:
    """Checks the answers of a run's nodes, and records each check: a resume repeats none that user code decided."""

    def __init__(self, recorder: Recorder, policy: ReplayPolicy) -> None:
        self._recorder = recorder
        self._policy = policy

    async def check(self, job: NodeJob, turn: int, value: PlainValue) -> Validated:
        """The outcome of a turn's answer, from the record if it is there."""
        recorded = self._policy.history.nodes.get(job.id)
        known = recorded.answers.get(turn) if recorded else None
        if known is not None:
            if self._policy.purpose == "replay":
                self._emit(job, turn, Fit(known.answer, known.problems))
            return Validated(known.answer, known.problems)
        fit = Fit(value) if job.form is None else await fit_answer(job.form, value)
        self._emit(job, turn, fit)
        return Validated(fit.data, fit.problems)

    def _emit(self, job: NodeJob, turn: int, fit: Fit) -> None:
        self._recorder.emit(AnswerValidated, job.id, turn=turn, answer=fit.data, problems=fit.problems)


async def fit_answer(form: AnswerForm, value: PlainValue) -> Fit:
    """Reads an answer, without holding the event loop."""
    if not form.runs_user_code and _is_small(value):
        try:
            return form.fit(value, INLINE_STEPS)
        except TooManySteps:
            pass
    return await asyncio.to_thread(_fit_slowly, form, value)


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
    text = dump_json(schema)
    if len(text) <= INLINE_SCHEMA_CHARS and '"pattern' not in text:
        return JsonForm(schema)
    return await asyncio.to_thread(JsonForm, schema)
