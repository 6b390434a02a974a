"""The question of a run, with the input that it is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from rlm.core.answer_form import AnswerForm
from rlm.core.cells import PlainValue
from rlm.core.errors import ConfigurationError
from rlm.core.messages import Image
from rlm.core.values import frozen
from rlm.prompts import DEFAULT_QUESTION


@frozen
class Question:
    """A query over a context.

    Attributes:
        query: the text of the question. ``Question.of`` fills it in if the context itself holds the question.
        context: str, list of str, list of messages, dict, or other plain data.
        sources: the files that the context was read from; recorded, so that a resumed run can read them again.
        side_table: JSON with places and tables of documents, see ``Corpus``; empty for a context of other data.
        depth: the root's depth: 0, unless an outer tree asks this question.
        continues: the run of the question before, in a session.
        form: the form of the answer; None for any answer.
        images: the images of the context, by id.
    """

    query: str
    context: PlainValue = None
    sources: tuple[str, ...] = ()
    depth: int = 0
    side_table: str = ""
    continues: str = ""
    form: AnswerForm | None = None
    images: Mapping[str, Image] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        query: str | None,
        context: PlainValue = None,
        *,
        sources: tuple[str, ...] = (),
        depth: int = 0,
        side_table: str = "",
        continues: str = "",
        form: AnswerForm | None = None,
    ) -> Question:
        """A question as callers of the public API ask it.

        Raises:
            ConfigurationError: ``query`` is neither text nor None.
        """
        if query is not None and not isinstance(query, str):
            raise ConfigurationError(f"`query` must be text or None; got {type(query).__name__}.")
        query = None if query is None else str.__str__(query)
        return cls(query or DEFAULT_QUESTION, context, sources, depth, side_table, continues, form)
