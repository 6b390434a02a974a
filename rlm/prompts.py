"""Text that the engine sends to models: instructions, the first message, notices. Pure functions of facts.

A prompt family is a function from ``PromptFacts`` to the system message. ``choose_family`` picks one by the model's name. A
caller can pass its own function instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

DEFAULT_QUESTION = (
    "Read `context`. It holds a question to answer or instructions to follow, possibly with the data they refer to."
)

NOTHING_RUN = (
    "[No code was run and no answer was given. Write code in a ```repl block, or answer with FINAL(your answer) or "
    "FINAL_VAR(variable_name) at the start of a line, outside code.]"
)
REPLY_EMPTY = (
    "[Your reply held no text. Tools and hidden thoughts are not available here. Write code in a ```repl block, or answer with "
    "FINAL(your answer).]"
)
REPLY_CUT = "[Your reply hit its token limit, and none of it was run. Write a shorter one.]"
ANSWER_NOW = (
    "[{met} Answer now from what you have: FINAL(your answer), or FINAL_VAR(name) for a variable. "
    "Sub-calls are no longer possible.]"
)
SUMMARISE = (
    "[This conversation is close to its size limit and will be shortened. The REPL keeps all variables. In at most 400 words, "
    "without code, write what you need to continue: what you have found and how, what remains to be done, and what each "
    "variable holds. Current variables: {variables}]"
)
TYPED_ANSWER = """
The answer must be a value of this type:
```
{outline}
```
Give it with FINAL(value) in a ```repl block, as Python data (a dict for an object, None for null), or as JSON in \
FINAL(...) outside code."""
DOES_NOT_FIT = (
    "[Your answer was not accepted, because it does not have the required type. Correct it and answer again.]"
)
MAX_QUOTES = 10  # named in one notice
MAX_QUOTE_CHARS = 300
NOT_TAKEN = "[Your answer was not accepted, because a code block of the same reply failed. Look at its output first.]"
NO_SUCH_VARIABLE = "[FINAL_VAR({name}): no variable has this name, so it was not accepted as the answer. {hint}]"


@dataclass(frozen=True, slots=True)
class PromptFacts:
    """Facts for a system message.

    Attributes:
        can_call: sub-calls are possible.
        sub_calls_are_nodes: sub-calls get their own REPL.
        sub_prompt_chars: the maximum length of a sub-prompt.
        observation_chars: the maximum length of an observation.
        sub_models: names that ``model=`` accepts.
        has_documents, has_tables: kinds of the input.
        cites: the answer needs quotes.
        has_images: the input has images.
        tools: the tools that cells can call, one line each: name, signature, and the first line of the docstring.
    """

    depth: int
    max_depth: int
    can_call: bool
    sub_calls_are_nodes: bool
    sub_prompt_chars: int
    observation_chars: int
    sub_models: tuple[str, ...] = ()
    has_documents: bool = False
    has_tables: bool = False
    cites: bool = False
    has_images: bool = False
    tools: tuple[str, ...] = ()


PromptFamily: TypeAlias = Callable[[PromptFacts], str]

_REPL = """\
You answer a question about an input that can be far larger than you can read at once. The input is not in this \
conversation: it is the variable `context` in a Python REPL that you control. Examine it with code, piece by piece{ask}, \
and answer when you know.

Write code in blocks like this:
```repl
print(type(context), len(context))
print(context[:300])
```
All such blocks of a reply run in order, in one namespace that keeps its variables. Then you are shown their output; beyond \
{observation_chars:,} characters its middle is cut. So print what you need to see, and store large values in variables. \
The Python standard library is available; files, network and other processes are not."""

_CALLS = """

Your code can ask other models. They see only the prompt that you pass, so include the text in it, up to about \
{sub_prompt_chars:,} characters per prompt.
- llm_query(prompt) -> str: one question{what}.
- llm_query_batch(prompts) -> list[str]: all prompts in parallel, replies in order. Prefer it to a loop: 50 prompts take \
about as long as one. A failed item reads "[call failed: ...]" and has `.error`.
- await llm_query_async(prompt), await llm_query_batch_async(prompts): the same in async code; top-level await works.
- Options: context=data (sent with the prompt), schema={{...}} (a JSON schema; you get data back){recursive}{models}.
```repl
size = 20000
chunks = [context[i:i + size] for i in range(0, len(context), size)]
replies = llm_query_batch([f"List every date mentioned in this text, or write NONE.\\n\\n{{chunk}}" for chunk in chunks])
for number, reply in enumerate(replies):
    print(number, reply[:200])
```
Use models for reading (labels, summaries, meaning) and Python for exact work (search, counting, sorting). Put many small \
items into one prompt, number them, and check that every number came back."""

_DOCUMENTS = """

`context` holds documents. These functions cover all of it:
- grep(regex), search(words, k=10): ranked hits that print as "path, place: text", with .path, .place, .start, .end, .text; \
where(text) -> "path, p. 3"; pages(path) -> [(label, text)]."""

_IMAGES = """

`context` holds images as handles with .name, .media_type, .width and .height. Code cannot see their pixels: \
llm_query(prompt, images=[image]) shows them to a model, and so does llm_query_batch(prompts, images=[[first], [second], ...])."""

_TABLES = """
- tables() lists the tables with their columns; sql("SELECT ...") queries them (SQLite); table(name) returns rows as dicts."""

_TOOLS = """

These functions act outside the REPL, so call each one only if you need it:
- {lines}
Await NAME_async(...) for the same in async code; help(NAME) shows more. A failure raises ToolError."""

_GRANTS = """
To let a sub-call use one: llm_query(prompt, tools=["NAME"])."""

_CITE = """

Give evidence: FINAL(value, cite=["exact words of the source", ...]) in a ```repl block, or cite(quote, path) before you answer. \
Copy quotes word for word, one short sentence each; they are looked up in the sources."""

_ANSWER = """

Answer only when you have seen what you need, in one of these forms:
- FINAL(your answer) at the start of a line, outside code;
- FINAL_VAR(name), likewise: the value of that variable is the answer, of any length;
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

_SMALL_CITE = """
Give quotes as evidence: FINAL(answer, cite=["exact words of the text"])."""

_SMALL_CALLS = """
llm_query_batch(prompts) asks another model many questions at once and returns a list of texts. A prompt can have \
{sub_prompt_chars:,} characters and must contain the text that it is about."""


def default_family(facts: PromptFacts) -> str:
    """The system message for models that can program."""
    text = _REPL.format(
        ask=", ask other models about the pieces" if facts.can_call else "", observation_chars=facts.observation_chars
    )
    if facts.can_call:
        text += _CALLS.format(
            sub_prompt_chars=facts.sub_prompt_chars,
            what=(
                ". A model with its own REPL answers it; there, your prompt (or context=) is `context`. Give it a whole part "
                "of the problem"
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
    return text + _about_input(facts) + _about_tools(facts) + _ANSWER + (_CITE if facts.cites else "")


def _about_input(facts: PromptFacts) -> str:
    """The functions on documents and images, as far as they apply."""
    return _about_documents(facts) + (_IMAGES if facts.has_images else "")


def _about_documents(facts: PromptFacts) -> str:
    """The functions on documents, as far as they apply."""
    if not facts.has_documents:
        return ""
    return _DOCUMENTS + (_TABLES if facts.has_tables else "")


def _about_tools(facts: PromptFacts) -> str:
    if not facts.tools:
        return ""
    return _TOOLS.format(lines="\n- ".join(facts.tools)) + (_GRANTS if facts.sub_calls_are_nodes else "")


def small_family(facts: PromptFacts) -> str:
    """The system message for small local models: short, with two worked examples."""
    calls = _SMALL_CALLS.format(sub_prompt_chars=facts.sub_prompt_chars) if facts.can_call else ""
    cites = _SMALL_CITE if facts.cites else ""
    return _SMALL.format(calls=calls + _about_tools(facts) + cites)


FAMILIES: Mapping[str, PromptFamily] = MappingProxyType({"default": default_family, "small": small_family})

# Parts of model names, with the family that suits them better than the default one.
_BY_NAME = (("0.5b", "small"), ("1.5b", "small"), ("1b", "small"), ("3b", "small"), ("smollm", "small"))


def choose_family(model: str) -> PromptFamily:
    """The prompt family for a model's name."""
    lowered = model.lower()
    return FAMILIES[next((family for part, family in _BY_NAME if part in lowered), "default")]


def with_instructions(family_of: Callable[[str], PromptFamily], instructions: str) -> Callable[[str], PromptFamily]:
    """The families with the user's instructions at the end of their system messages."""

    def choose(model: str) -> PromptFamily:
        family = family_of(model)
        return lambda facts: f"{family(facts).rstrip()}\n\nInstructions of the user:\n{instructions.strip()}"

    return choose


def first_message(question: str, context: str, first_lines: Sequence[tuple[str, str]] = (), outline: str = "") -> str:
    """The first user message: the question, ``context`` with the first lines of its documents, and the type of the answer."""
    shown = "".join(f"\n{path[:MAX_QUOTE_CHARS]!r}: {text!r}" for path, text in first_lines if text)
    message = f"Question: {question}\n\n`context` is {context}." + (f"\nFirst lines:{shown}" if shown else "")
    return f"{message}\n{TYPED_ANSWER.format(outline=outline)}" if outline else message


def next_question(question: str, output: str, outline: str = "") -> str:
    """The user message with the next question of a session. ``output`` is what the last cells of the question before showed."""
    shown = f"{output}\n\n" if output else ""
    message = f"{shown}Next question: {question}\n\n`context` is the same, and the REPL still has all variables."
    return f"{message}\n{TYPED_ANSWER.format(outline=outline)}" if outline else message


def observation_message(observation: str, turns_left: int) -> str:
    """The output of a turn, with a reminder if few turns are left."""
    if turns_left > 2:
        return observation
    turns = "turn" if turns_left == 1 else "turns"
    return f"{observation}\n[{turns_left} {turns} left.]"


def describe_limit(limit: str) -> str:
    """One sentence that names the limit."""
    if limit == "stopped":
        return "The user asked to finish now."
    return "Time is up." if limit == "seconds" else f"The limit of {limit} has been reached."


def answer_now(limit: str) -> str:
    """The notice before a last turn."""
    return ANSWER_NOW.format(met=describe_limit(limit))


def budget_notice(left: Mapping[str, float], allowed: Mapping[str, float]) -> str:
    """The notice when little of a budget is left; empty otherwise."""
    if not left:
        return ""
    parts = [
        f"{_amount(limit, amount)} of {_amount(limit, allowed[limit])}{_unit(limit)}" for limit, amount in left.items()
    ]
    return f"[Budget low: {', '.join(parts)} left (see budget()). Finish soon.]"


def reopened_notice(left: Mapping[str, float]) -> str:
    """The notice to the root of a run that continues with a larger budget."""
    parts = [f"{_amount(limit, amount)}{_unit(limit)}" for limit, amount in left.items()]
    allowed = f" with {', '.join(parts)} left" if parts else ""
    return f"[The run continues{allowed}. Calls that were refused can be repeated.]"


def _amount(limit: str, amount: float) -> str:
    return f"${amount:.4f}" if limit == "usd" else f"{amount:,.0f}"


def _unit(limit: str) -> str:
    return "" if limit == "usd" else f" {limit}"


def summary_message(summary: str | None, variables: str) -> str:
    """The replacement for the older part of a conversation."""
    state = f"The REPL still has all variables: {variables}." if variables else "No variables are defined."
    if summary is None:
        return f"[The earlier part of this conversation was removed to make room. {state}]"
    return f"[The earlier part of this conversation was replaced by this summary. {state}]\n{summary}"


def no_such_variable(name: str, variables: str) -> str:
    """The notice after FINAL_VAR with an unknown name."""
    hint = f"Variables: {variables}." if variables else "Assign it first."
    if not name.isidentifier():
        hint = "FINAL_VAR takes the name of a variable. For text use FINAL(...)."
    return NO_SUCH_VARIABLE.format(name=name[:80], hint=hint)


def quotes_not_found(quotes: Sequence[str]) -> str:
    """The notice that an answer comes back because its quotes are not in the sources."""
    shown = "\n".join(f"- {quote[:MAX_QUOTE_CHARS]}" for quote in quotes[:MAX_QUOTES])
    more = f"\n- and {len(quotes) - MAX_QUOTES:,} more" if len(quotes) > MAX_QUOTES else ""
    return (
        "[Your answer was not accepted yet: these quotes are not in `context`, word for word. Check them, then answer again "
        f"with exact quotes, or without them.]\n{shown}{more}"
    )


def answer_does_not_fit(problems: Sequence[str]) -> str:
    """The notice that an answer comes back because it violates its schema."""
    return "\n".join([DOES_NOT_FIT, *(f"- {problem}" for problem in problems)])
