"""The form of answers that a JSON schema describes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from rlm.core.answer_form import Fit
from rlm.core.cells import PlainValue
from rlm.core.messages import JsonSchema
from rlm.schemas.outline import outline
from rlm.schemas.reading import NotDataError, readings
from rlm.schemas.validator import TooManySteps, Validator, compile_schema
from rlm.schemas.values import show

TOO_LARGE = "the answer is too large, or nested too deeply, to be checked against its schema"


class SchemaForm(ABC):
    """An answer whose form a JSON schema describes: ``AnswerForm`` without ``build``.

    Raises:
        SchemaError: the schema is invalid, or exceeds a limit.
    """

    runs_user_code = True

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._validator = compile_schema(schema)

    @property
    def schema(self) -> JsonSchema:
        return self._validator.schema

    @property
    def outline(self) -> str:
        """See ``AnswerForm.outline``."""
        return outline(self._validator.schema)

    def fit(self, value: PlainValue, steps: int) -> Fit:
        """See ``AnswerForm.fit``."""
        return fit_answer(value, self._validator, lambda data: self._check(data, steps))

    @abstractmethod
    def _check(self, data: Any, steps: int) -> Fit:
        """Checks one reading of an answer within a number of steps."""

    @abstractmethod
    def build(self, data: PlainValue) -> object:
        """See ``AnswerForm.build``."""


class JsonForm(SchemaForm):
    """Plain data that follows a JSON schema."""

    runs_user_code = False

    def _check(self, data: Any, steps: int) -> Fit:
        problems = self._validator.problems(data, steps=steps)
        return Fit(problems=problems) if problems else Fit(data)

    def build(self, data: PlainValue) -> object:
        """See ``AnswerForm.build``: the data itself."""
        return data


def fit_answer(value: PlainValue, validator: Validator, check: Callable[[Any], Fit]) -> Fit:
    """The first reading of an answer that fits; the problems of the last one if none does."""
    fit = Fit()
    try:
        for data in readings(value, accepts_text=validator.accepts_text):
            fit = check(data)
            if not fit.problems:
                return fit
    except NotDataError:
        expected = validator.problems(value)
        wanted = expected[0].partition("; got ")[0] if expected else "the answer must be JSON"
        return Fit(problems=(f"{wanted}; got text that is not JSON: {show(value)}",))
    except RecursionError:
        raise TooManySteps from None
    return fit
