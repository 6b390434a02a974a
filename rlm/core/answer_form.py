"""The form that an answer must have. ``rlm.schemas`` and ``rlm.runtime`` implement it."""

from __future__ import annotations

from typing import Protocol

from rlm.core.cells import PlainValue
from rlm.core.messages import JsonSchema
from rlm.core.values import frozen


@frozen
class Fit:
    """An answer in JSON types, or the ``problems`` that keep it from fitting, each with its path."""

    data: PlainValue = None
    problems: tuple[str, ...] = ()


class AnswerForm(Protocol):
    """The form of an answer: a JSON schema, and the Python type behind it if there is one."""

    @property
    def schema(self) -> JsonSchema:
        """The schema, for models and for the record."""
        ...

    @property
    def outline(self) -> str:
        """The schema in the short form that models read."""
        ...

    @property
    def runs_user_code(self) -> bool:
        """True if ``fit`` calls methods of the user's classes. It is then called outside the event loop."""
        ...

    def fit(self, value: PlainValue, steps: int) -> Fit:
        """Reads an answer of a model, in at most ``steps`` steps of validation.

        Raises:
            TooManySteps: it needs more.
        """
        ...

    def build(self, data: PlainValue) -> object:
        """The answer that a program receives, made of the data of ``fit``."""
        ...
