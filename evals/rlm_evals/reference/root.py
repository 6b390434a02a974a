"""The reference root: a program that plays a node's model through the ordinary ``Model`` port.

Turn 1 looks at the context, turn 2 gathers findings (leaf calls, or child nodes where the depth allows), turn 3 answers by
FINAL_VAR. A child does the same with its part, and its answer is its findings. The code it relies on is ``program.py``, which
runs in every REPL as setup code.
"""

from __future__ import annotations

from importlib import resources

from rlm.core.depth import can_call, makes_children
from rlm.core.errors import ConfigurationError, RequestRejectedError
from rlm.core.messages import Reply, Request, Task, Usage
from rlm.testing.prefix import estimate_tokens

MAX_PIECE_CHARS = 24_000

PART = "Findings wanted, as JSON, for: "
"""How a child's question begins."""

LOOK = """\
I look at what there is first.
```repl
print(type(context).__name__, len(context))
print(context[:300])
```"""

GATHER = """\
I gather what the question needs.
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
    """The source of the program, for ``RLM(setup_code=...)``."""
    return resources.files("rlm_evals.reference").joinpath("program.py").read_text(encoding="utf-8")


class ReferenceRoot:
    """Drives nodes; a depth of 0 allows no sub-calls, and so it cannot read there.

    Args:
        rows_per_prompt: how many rows one leaf call labels. Small models lose count beyond a few.
    """

    def __init__(self, rows_per_prompt: int = 40) -> None:
        self.name = "reference:root"
        self.window_tokens = 128_000
        self._rows_per_prompt = rows_per_prompt

    async def ask(self, request: Request) -> Reply:
        """The reply of a node's turn.

        Raises:
            RequestRejectedError: a leaf call came here: name another ``sub_model``.
        """
        if request.task is None:
            raise RequestRejectedError(
                f"{self.name} drives nodes and reads nothing: name a leaf model.", model=self.name
            )
        text = reply_to(request.task, self._rows_per_prompt)
        prompt_tokens = sum(estimate_tokens(message.content) for message in request.messages)
        return Reply(text, Usage(1, prompt_tokens, output_tokens=estimate_tokens(text)), self.name)

    async def aclose(self) -> None:
        """Nothing to release."""


def reply_to(task: Task, rows_per_prompt: int) -> str:
    """What the root says in this turn.

    Raises:
        ConfigurationError: at a depth without sub-calls.
    """
    if not can_call(task.depth, task.max_depth):
        raise ConfigurationError("the reference root needs sub-calls to read: max_depth of at least 1.")
    question = task.question.removeprefix(PART)
    if task.turn == 1:
        return LOOK
    if task.turn == 2:
        child = "child" if makes_children(task.depth, task.max_depth) else "None"
        chars = min(MAX_PIECE_CHARS, task.leaf_prompt_chars // 2)
        return GATHER.format(question=question, rows=rows_per_prompt, chars=chars, part=PART, child=child)
    is_part = task.question.startswith(PART)
    return CONCLUDE.format(expression="json.dumps(findings)" if is_part else "conclude(question, findings)")
