"""The settings shared by all nodes of a run, and the job of a single node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field, replace

from rlm.core.answer_form import AnswerForm
from rlm.core.budget import Budget
from rlm.core.cells import PlainValue
from rlm.core.endings import CutRule
from rlm.core.ids import NodeId
from rlm.core.repl_spec import ReplLimits
from rlm.core.values import frozen
from rlm.engine.calling.prefix_warmup import WarmRule
from rlm.ports import Model
from rlm.prompts import PromptFamily

CHARS_PER_TOKEN = 3  # fewer than prose and code in Latin script have
REPLY_SHARE = 0.15  # of a model's window, left for its reply


@frozen
class TreeSettings:
    """The settings of every node of a run.

    Attributes:
        models: the model of each depth; the last entry serves all deeper levels.
        family_of: chooses the prompt family for a model's name.
        cut_replies: the rule by which a node's reply ends after its cells.
        warm_prefixes: the rule by which a batch with a long shared prefix sends one call first.
        citations: ask for quotes in the answer; None asks if the context has documents.
        hedge: stragglers of a batch are asked a second time.
        max_open_repls: nodes of one depth that can have a REPL at once.
    """

    models: Sequence[Model]
    family_of: Callable[[str], PromptFamily]
    max_depth: int
    max_turns: int
    observation_chars: int
    limits: ReplLimits = field(default_factory=ReplLimits)
    temperature: float | None = None
    max_output_tokens: int | None = None
    max_open_repls: int = 64
    setup_code: str | None = None
    cut_replies: CutRule = "invented"
    warm_prefixes: WarmRule = "auto"
    citations: bool | None = None
    hedge: bool = True

    def within(self, budget: Budget) -> TreeSettings:
        """These settings with the depth and the turns that a budget allows."""
        depth = self.max_depth if budget.depth is None else min(self.max_depth, budget.depth)
        return replace(self, max_depth=depth, max_turns=budget.iterations or self.max_turns)

    def model_at(self, depth: int) -> Model:
        """The model of a depth."""
        return self.models[min(depth, len(self.models) - 1)]

    def sub_prompt_chars(self, depth: int) -> int:
        """Longest sub-prompt of a node at this depth, in characters."""
        window = self.model_at(depth + 1).info.window_tokens
        return int(window * (1 - REPLY_SHARE)) * CHARS_PER_TOKEN


@frozen
class NodeJob:
    """One node to be driven: its place in the tree, its question, and the form of its answer.

    ``tools`` are the names of those it can call. ``earlier_turns`` counts those of earlier questions of a session.
    """

    id: NodeId
    depth: int
    question: str
    context: PlainValue
    model: Model
    parent: NodeId | None = None
    batch: int | None = None
    key: str = ""
    prefetched: bool = False
    tools: tuple[str, ...] = ()
    form: AnswerForm | None = None
    earlier_turns: int = 0
