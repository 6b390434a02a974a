"""Arguments that the methods of ``RLM`` share: the form of the answer, and keyword arguments for type checkers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, TypeAlias, TypedDict, cast

from rlm.core.answer_form import AnswerForm
from rlm.core.budget import Budget
from rlm.engine.replay.policy import OnDivergence
from rlm.ports import SinkLike

PlainSchema: TypeAlias = Mapping[str, Any] | None
"""A JSON schema, whose answers are plain data; None for any answer."""


class RunOptions(TypedDict, total=False):
    """Further arguments of ``RLM.run``, for type checkers."""

    on_event: SinkLike | None


class QuestionOptions(RunOptions, total=False):
    """Further arguments of ``Session.start``, for type checkers."""

    sinks: Sequence[SinkLike]


class StartOptions(QuestionOptions, total=False):
    """Further arguments of ``RLM.start``, for type checkers."""

    sources: Sequence[str]


class ResumeOptions(TypedDict, total=False):
    """Further arguments of ``RLM.resume``, for type checkers."""

    budget: Budget | None
    on_divergence: OnDivergence


def answer_form(schema: object) -> AnswerForm | None:
    """The form of a ``schema`` argument. It is made in the caller's thread: pydantic takes a moment to load."""
    if schema is None:
        return None
    answer_types: Any = import_module("rlm.runtime.answer_types")  # most runs have no schema
    return cast("AnswerForm", answer_types.form_of(schema))
