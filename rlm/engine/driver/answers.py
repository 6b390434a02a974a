"""Checks the answers of nodes against their schemas, and records each check.

Runs without a schema load nothing for it.
"""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Any, cast

from rlm.core.actions import Validated
from rlm.core.answer_form import AnswerForm, Fit
from rlm.core.cells import PlainValue
from rlm.core.events import AnswerValidated
from rlm.core.messages import JsonSchema
from rlm.engine.recorder import Recorder
from rlm.engine.replay.policy import ReplayPolicy
from rlm.engine.settings import NodeJob

_loaded: dict[str, object] = {}


class AnswerChecker:
    """Checks the answers of a run's nodes, and records each check: a resume repeats none that user code decided."""

    def __init__(self, recorder: Recorder, policy: ReplayPolicy) -> None:
        self._recorder = recorder
        self._policy = policy

    async def check(self, job: NodeJob, turn: int, value: PlainValue) -> Validated:
        """The outcome of a turn's answer, from the record if it is there."""
        recorded = self._policy.history.nodes.get(job.id)
        outcome = recorded.answers.get(turn) if recorded else None
        if outcome is not None:
            if self._policy.purpose == "replay":
                self._emit(job, turn, Fit(outcome.answer, outcome.problems))
            return Validated(outcome.answer, outcome.problems)
        fit = Fit(value) if job.form is None else await _fit(job.form, value)
        self._emit(job, turn, fit)
        return Validated(fit.data, fit.problems)

    def _emit(self, job: NodeJob, turn: int, fit: Fit) -> None:
        self._recorder.emit(AnswerValidated, job.id, turn=turn, answer=fit.data, problems=fit.problems)


async def _fit(form: AnswerForm, value: PlainValue) -> Fit:
    fitting: Any = await _load("rlm.schemas.fitting")
    return cast("Fit", await fitting.fit_answer(form, value))


async def open_form(schema: JsonSchema) -> AnswerForm:
    """The form of a schema from a cell.

    Raises:
        SchemaError: the schema cannot be used.
    """
    fitting: Any = await _load("rlm.schemas.fitting")
    return cast("AnswerForm", await fitting.open_form(schema))


async def _load(name: str) -> object:
    """A module, loaded in a thread at its first use. ``sys.modules`` has it before it is complete."""
    if name not in _loaded:
        _loaded[name] = await asyncio.to_thread(import_module, name)
    return _loaded[name]
