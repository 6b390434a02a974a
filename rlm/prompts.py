"""What the engine says to models: instructions, the first message, reminders. Pure text from facts; no engine, no provider.

A prompt family is a function from ``PromptFacts`` to the system message. ``choose_family`` picks one by the model's name; a
caller may pass any function of the same shape instead, without touching the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

DEFAULT_QUESTION = (
    "Read through `context`: it holds a question to answer or instructions to follow, "
    "perhaps with the data they speak of."
)

NOTHING_RUN = (
    "[Nothing was run and no answer was given. Write code in a ```repl block, or answer with FINAL(your answer) or "
    "FINAL_VAR(variable_name) at the start of a line, outside code.]"
)
REPLY_CUT = "[Your reply was cut by its token limit and nothing of it was run. Write a shorter one.]"
ANSWER_NOW = (
    "[{met} Answer now from what you have: FINAL(your answer), or FINAL_VAR(name) for a variable. "
    "Sub-calls are no longer possible.]"
)
SUMMARISE = (
    "[This conversation nears its size limit and will be shortened; the REPL keeps all variables. Write, in at most 400 words "
    "and without code, what you need to go on: what was found so far and how, what is still to be done, and which variables "
    "hold what. The variables now: {variables}]"
)
NOT_TAKEN = "[Your answer was not taken, because a cell of the same reply did not end well. Look at the output first.]"
NO_SUCH_VARIABLE = "[FINAL_VAR({name}): there is no variable of this name, so this was not taken as the answer. {hint}]"


@dataclass(frozen=True, slots=True)
class PromptFacts:
    """What a system message can tell.

    ``sub_prompt_chars``: how many characters a sub-prompt may have. ``sub_calls_are_nodes``: whether sub-calls get a REPL of
    their own. ``sub_models``: names that ``model=`` accepts.
    """

    depth: int
    max_depth: int
    can_call: bool
    sub_calls_are_nodes: bool
    sub_prompt_chars: int
    observation_chars: int
    sub_models: tuple[str, ...] = ()


PromptFamily: TypeAlias = Callable[[PromptFacts], str]

_REPL = """\
You answer a question about an input that may be far larger than you can read at once. The input is not in this \
conversation: it is the variable `context` in a Python REPL that you control. Look at it with code, a piece at a time{ask}, \
and answer when you know.

Write code in blocks like this:
```repl
print(type(context), len(context))
print(context[:300])
```
All such blocks of your reply run in order in one namespace that keeps its variables; then you are shown their output, cut \
in the middle beyond {observation_chars:,} characters. So print what you need to see, and keep large things in variables. \
The Python standard library is there; files, network and other processes are not."""

_CALLS = """

From code you can ask other models. They see only the prompt that you pass, so put the text in it; up to about \
{sub_prompt_chars:,} characters each.
- llm_query(prompt) -> str: one question{what}.
- llm_query_batch(prompts) -> list[str], in order: all run in parallel. Prefer it to a loop: 50 prompts take about as long \
as one. A failed item reads "[call failed: ...]" and has `.error`.
- await llm_query_async(prompt), await llm_query_batch_async(prompts): the same in async code; top-level await works.
- Options: context=data (sent beside the prompt), schema={{...}} (a JSON schema; you get data back){recursive}{models}.
```repl
size = 20000
chunks = [context[i:i + size] for i in range(0, len(context), size)]
replies = llm_query_batch([f"List every date mentioned in this text, or write NONE.\\n\\n{{chunk}}" for chunk in chunks])
for number, reply in enumerate(replies):
    print(number, reply[:200])
```
Use models for what needs reading (labels, summaries, meaning) and Python for what needs exactness (search, counting, \
sorting). Put many small items in one prompt, with numbers, and check that every number came back."""

_ANSWER = """

Answer only when you have seen what you need, in one of these forms:
- FINAL(your answer) at the start of a line, outside code;
- FINAL_VAR(name) the same way: the value of that variable is the answer, of any length;
- FINAL(value) or FINAL_VAR("name") in a ```repl block."""

_SMALL = """\
The variable `context` holds a text. Answer the question about it by writing Python code in ```repl blocks. You are shown \
what the code prints. When you know the answer, write a block that calls FINAL(answer).{calls}

Example 1. Question: How many lines mention a whale?
```repl
lines = [line for line in context.splitlines() if "whale" in line.lower()]
FINAL(len(lines))
```

Example 2. Question: What is the invoice number?
```repl
import re
for match in re.finditer(r"[^\\n]*invoice[^\\n]*", context, re.IGNORECASE):
    print(match.group())
```
Output: Invoice number: 7731, due in May
```repl
FINAL("7731")
```

Write one ```repl block now. Never use names that you have not defined."""

_SMALL_CALLS = """
llm_query_batch(prompts) asks another model many questions at once and returns a list of texts; a prompt may have \
{sub_prompt_chars:,} characters and must contain the text that it is about."""


def default_family(facts: PromptFacts) -> str:
    """The prompt for models that can program."""
    text = _REPL.format(
        ask=", ask other models about pieces" if facts.can_call else "", observation_chars=facts.observation_chars
    )
    if facts.can_call:
        text += _CALLS.format(
            sub_prompt_chars=facts.sub_prompt_chars,
            what=(
                ". It is answered by a model with a REPL of its own, in which your prompt (or context=) is `context`: give it "
                "a whole part of the problem"
                if facts.sub_calls_are_nodes
                else ""
            ),
            recursive=(
                ", recursive=False (a plain model call: cheaper, enough for a label or a short text)"
                if facts.sub_calls_are_nodes
                else ""
            ),
            models=f", model= one of {', '.join(facts.sub_models)}" if len(facts.sub_models) > 1 else "",
        )
    return text + _ANSWER


def small_family(facts: PromptFacts) -> str:
    """The prompt for small local models: short, with two worked examples."""
    calls = _SMALL_CALLS.format(sub_prompt_chars=facts.sub_prompt_chars) if facts.can_call else ""
    return _SMALL.format(calls=calls)


FAMILIES: Mapping[str, PromptFamily] = MappingProxyType({"default": default_family, "small": small_family})

# Parts of model names and the family that serves them better than the default one.
_BY_NAME = (("0.5b", "small"), ("1.5b", "small"), ("1b", "small"), ("3b", "small"), ("smollm", "small"))


def choose_family(model: str) -> PromptFamily:
    """The prompt family for a model's name."""
    lowered = model.lower()
    return FAMILIES[next((family for part, family in _BY_NAME if part in lowered), "default")]


def first_message(question: str, context: str) -> str:
    """The first user message: the question, and what kind of thing ``context`` is."""
    return f"Question: {question}\n\n`context` is {context}."


def observation_message(observation: str, turns_left: int) -> str:
    """What follows a turn's output: a reminder only when it matters."""
    if turns_left > 2:
        return observation
    turns = "turn" if turns_left == 1 else "turns"
    return f"{observation}\n[{turns_left} {turns} left to answer in.]"


def describe_limit(limit: str) -> str:
    """The sentence that says which limit was met."""
    if limit == "stopped":
        return "The user asks to finish now."
    return "The time is up." if limit == "seconds" else f"The limit of {limit} is met."


def answer_now(limit: str) -> str:
    """What a model is told before its last turn."""
    return ANSWER_NOW.format(met=describe_limit(limit))


def budget_notice(left: Mapping[str, float], allowed: Mapping[str, float]) -> str:
    """What a model is told when something becomes scarce; nothing when nothing is."""
    if not left:
        return ""
    parts = [
        f"{_amount(limit, amount)} of {_amount(limit, allowed[limit])}{_unit(limit)}" for limit, amount in left.items()
    ]
    return f"[Scarce: {', '.join(parts)} left; budget() tells. Finish soon.]"


def reopened_notice(left: Mapping[str, float]) -> str:
    """What the root is told of a run that had met a limit, and goes on with others."""
    parts = [f"{_amount(limit, amount)}{_unit(limit)}" for limit, amount in left.items()]
    allowed = f" with {', '.join(parts)} left" if parts else ""
    return f"[The run goes on{allowed}. Calls that were refused can be made again.]"


def _amount(limit: str, amount: float) -> str:
    return f"${amount:.4f}" if limit == "usd" else f"{amount:,.0f}"


def _unit(limit: str) -> str:
    return "" if limit == "usd" else f" {limit}"


def summary_message(summary: str | None, variables: str) -> str:
    """What stands for the older part of a conversation."""
    kept = f"All variables are kept: {variables}." if variables else "No variables are defined."
    if summary is None:
        return f"[The earlier part of this conversation was left out to make room. {kept}]"
    return f"[The earlier part of this conversation was replaced by this summary of it. {kept}]\n{summary}"


def no_such_variable(name: str, variables: str) -> str:
    """What a model is told that answered with a variable which does not exist."""
    hint = f"Known: {variables}." if variables else "Assign it first."
    if not name.isidentifier():
        hint = "FINAL_VAR takes a variable's name; for text use FINAL(...)."
    return NO_SUCH_VARIABLE.format(name=name[:80], hint=hint)
