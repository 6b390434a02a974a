"""Child nodes: a model query answered by a node of its own, one level deeper."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from rlm.core.actions import Finish
from rlm.core.answer_form import AnswerForm
from rlm.core.errors import ModelError, NoAnswerError
from rlm.core.ids import NodeId
from rlm.core.plain_repr import plain_text
from rlm.core.subcalls import ModelQuery, SubcallAnswer, SubcallFailure, SubcallOutcome
from rlm.engine.driver.subcall_site import SubcallSite
from rlm.engine.settings import NodeJob
from rlm.ports import Model
from rlm.prompts import DEFAULT_QUESTION

DriveNode: TypeAlias = Callable[[NodeJob], Awaitable[Finish]]
"""Runs a node to its end."""


async def drive_child(
    drive: DriveNode, site: SubcallSite, query: ModelQuery, model: Model, form: AnswerForm | None
) -> SubcallOutcome:
    """Answers a query with a child node. ``form`` is that of its answer.

    Raises:
        RLMError: the child ended with an error that ends the whole run.
    """
    finish = await drive(_child_job(site, query, model, form))
    if finish.error is None:
        keeps_type = isinstance(finish.answer, str) or query.schema is not None
        return SubcallAnswer(finish.answer if keeps_type else plain_text(finish.answer))
    if isinstance(finish.error, NoAnswerError | ModelError):
        return SubcallFailure(type(finish.error).__name__, str(finish.error))
    raise finish.error


def _child_job(site: SubcallSite, query: ModelQuery, model: Model, form: AnswerForm | None) -> NodeJob:
    question, context = (query.prompt, query.context) if query.has_context else (DEFAULT_QUESTION, query.prompt)
    return NodeJob(
        NodeId(site.place.path),
        site.node.depth + 1,
        question,
        context,
        model,
        site.node.id,
        site.batch,
        key=site.key,
        prefetched=query.prefetched,
        form=form,
    )
