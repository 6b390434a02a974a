"""Reference root: a program behind the ``Model`` port that drives nodes.

Turn 1 inspects the context. Turn 2 gathers findings by leaf calls, or by child nodes if the depth allows. Turn 3 answers with
FINAL_VAR. A child does the same with its part and answers with its findings. Every REPL runs ``program.py`` as setup code.
"""

from __future__ import annotations

from importlib import resources

from rlm.core.depth import can_call, makes_children
from rlm.core.errors import ConfigurationError, RequestRejectedError
from rlm.core.messages import Reply, Request, Task, Usage
from rlm.core.model_info import ModelInfo
from rlm.testing.prefix import estimate_tokens

MAX_PIECE_CHARS = 24_000

PART = "Findings wanted, as JSON, for: "
"""Prefix of a child's question."""

LOOK = """\
I inspect the context first.
```repl
print(type(context).__name__, len(context))
print(context[:300])
```"""

GATHER = """\
I gather the findings that the question needs.
```repl
question, ROWS_PER_PROMPT, PIECE_CHARS = {question!r}, {rows}, {chars}
def ask(prompts):
    return llm_query_batch(prompts, recursive=False)
def child(parts):
    return llm_query_batch([{part!r} + question] * len(parts), context=parts)
findings = gather(question, context, ask, {child})
print(len(findings), findings[:3])
```"""

CONCLUDE = """\
```repl
result = {expression}
print(str(result)[:200])
```
FINAL_VAR(result)"""


def program() -> str:
    """Source code of the program, for ``RLM(setup_code=...)``."""
    return resources.files("rlm_evals.reference").joinpath("program.py").read_text(encoding="utf-8")


class ReferenceRoot:
    """Drives nodes of depth 1 and more. At depth 0 it has no sub-calls to read with.

    Args:
        rows_per_prompt: number of rows that one leaf call labels. Small models need few.
    """

    def __init__(self, rows_per_prompt: int = 40) -> None:
        self.name = "reference:root"
        self.info = ModelInfo(window_tokens=128_000)
        self._rows_per_prompt = rows_per_prompt

    async def ask(self, request: Request) -> Reply:
        """Reply of a node's turn.

        Raises:
            RequestRejectedError: the request is a leaf call, which needs another ``sub_model``.
        """
        if request.task is None:
            raise RequestRejectedError(
                f"{self.name} drives nodes and cannot answer leaf calls. Name a leaf model as `sub_model`.",
                model=self.name,
            )
        text = reply_to(request.task, self._rows_per_prompt)
        prompt_tokens = sum(estimate_tokens(message.text) for message in request.messages)
        return Reply(text, Usage(1, prompt_tokens, output_tokens=estimate_tokens(text)), self.name)

    async def aclose(self) -> None:
        """Does nothing: there are no resources."""


def reply_to(task: Task, rows_per_prompt: int) -> str:
    """Reply of the root in the turn of a task.

    Raises:
        ConfigurationError: the depth allows no sub-calls.
    """
    if not can_call(task.depth, task.max_depth):
        raise ConfigurationError(
            "`max_depth` must be at least 1, because the reference root reads by sub-calls; got 0."
        )
    question = task.question.removeprefix(PART)
    if task.turn == 1:
        return LOOK
    if task.turn == 2:
        child = "child" if makes_children(task.depth, task.max_depth) else "None"
        chars = min(MAX_PIECE_CHARS, task.leaf_prompt_chars // 2)
        return GATHER.format(question=question, rows=rows_per_prompt, chars=chars, part=PART, child=child)
    is_part = task.question.startswith(PART)
    return CONCLUDE.format(expression="json.dumps(findings)" if is_part else "conclude(question, findings)")
