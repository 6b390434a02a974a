"""A node as a state machine: a conversation with its own REPL, from the question to the answer.

    NEW ──Begun──> ASKING ──Replied──> EXECUTING ──Executed──> EXECUTING | READING | ASKING | DONE
                     │                                            ▲
                     └────────── Replied ──> READING ──ValueRead, ValueMissing──> DONE | ASKING

Near the window of its model a node passes through COMPACTING on its way to ASKING.

``step(node, event)`` looks the pair (state, kind of event) up in one table and returns the node's next value and the one
action that follows. Nothing here awaits, reads a clock or does I/O; a driver performs the actions and reports back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from types import MappingProxyType
from typing import TypeAlias, cast

from rlm.core.actions import (
    Action,
    Ask,
    AskFailed,
    Begun,
    Compact,
    Compacted,
    Execute,
    Executed,
    Finish,
    LimitMet,
    NodeEvent,
    Read,
    Replied,
    ValueMissing,
    ValueRead,
)
from rlm.core.bounds import text_bytes
from rlm.core.cells import Cell, CellResult, PlainValue, Variable
from rlm.core.compaction import HEAD, compact, estimate_tokens, find_cut, is_near_window, to_summarise
from rlm.core.endings import CutRule, find_end
from rlm.core.errors import (
    BudgetExceededError,
    InvalidTransition,
    ModelError,
    NoAnswerError,
    RLMError,
    TruncatedReplyError,
)
from rlm.core.messages import Message
from rlm.core.observations import cut_middle, list_variables, observe
from rlm.core.replies import Final, FinalText, FinalVariable, parse_reply
from rlm.prompts import (
    NOT_TAKEN,
    NOTHING_RUN,
    REPLY_CUT,
    SUMMARISE,
    answer_now,
    first_message,
    no_such_variable,
    observation_message,
)

MAX_STUMBLES = 4  # replies in a row with neither a cell nor an answer: more have never led to an answer


class State(Enum):
    NEW = "new"
    ASKING = "asking"
    COMPACTING = "compacting"
    EXECUTING = "executing"
    READING = "reading"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """What a node is asked and how far it may go. ``context`` describes the input in one line.

    ``window_tokens``: of its model; 0 never compacts the conversation. ``cut_replies``: where its replies end.
    """

    question: str
    context: str
    system: str
    max_turns: int
    observation_chars: int
    window_tokens: int = 0
    cut_replies: CutRule = "invented"


@dataclass(frozen=True, slots=True)
class Node:
    """All that a node knows. ``messages`` only grows at its end, unless it is compacted near the model's window.

    ``pending`` are the cells of the current turn still to run, ``executed`` those that have. ``final`` is the answer that the
    current reply gives in text; it is looked at once the cells have run. ``limit`` is set from the moment a limit is met.
    ``counted`` messages have ``counted_tokens``, by the provider's own count. ``variables`` are those after the last cell.
    ``shortened``: the last turn's newest message was cut to what the budget can pay for.
    """

    spec: NodeSpec
    state: State = State.NEW
    messages: tuple[Message, ...] = ()
    turn: int = 0
    pending: tuple[Cell, ...] = ()
    executed: tuple[tuple[Cell, CellResult], ...] = ()
    final: Final | None = None
    prose: str = ""
    stumbles: int = 0
    limit: str | None = None
    counted: int = 0
    counted_tokens: int = 0
    variables: tuple[Variable, ...] = ()
    notice: str = ""
    shortened: bool = False


Step: TypeAlias = tuple[Node, Action]


def step(node: Node, event: NodeEvent) -> Step:
    """The node after ``event``, and what to do next.

    Raises:
        InvalidTransition: the table has no entry for this state and event.
    """
    handler = TABLE.get((node.state, type(event)))
    if handler is None:
        raise InvalidTransition(
            f"a node in state {node.state.value} cannot take {type(event).__name__}; please report this"
        )
    return handler(node, event)


def _begin(node: Node, event: Begun) -> Step:
    spec = node.spec
    messages = (Message("system", spec.system), Message("user", first_message(spec.question, spec.context)))
    if spec.max_turns < 1:
        return _finish(node, error=NoAnswerError("max_iterations is 0: the model was never asked. Allow at least 1."))
    return _ask(replace(node, messages=messages))


def _take_reply(node: Node, event: Replied) -> Step:
    text = event.text[: find_end(event.text, node.spec.cut_replies)]
    parsed = parse_reply(text)
    messages = (*node.messages, Message("assistant", text[: parsed.heard_chars]))
    node = replace(
        node,
        messages=messages,
        counted=len(messages) if event.tokens else node.counted,
        counted_tokens=event.tokens or node.counted_tokens,
        notice="",
        final=parsed.final,
        prose=parsed.prose,
        executed=(),
        pending=tuple(Cell(node.turn, number, code) for number, code in enumerate(parsed.cells, 1)),
    )
    if node.pending:
        return _execute_next(replace(node, stumbles=0))
    if node.final:
        return _conclude(replace(node, stumbles=0))
    if node.limit and node.prose:
        return _finish(node, answer=node.prose)  # asked for nothing but the answer, it wrote this
    return _stumble(node, NOTHING_RUN)


def _fail_ask(node: Node, event: AskFailed) -> Step:
    error = event.error
    if isinstance(error, TruncatedReplyError) and not node.limit:
        text = error.text or "[cut]"
        return _stumble(replace(node, messages=(*node.messages, Message("assistant", text))), REPLY_CUT, error)
    return _finish(node, error=error)


def _meet_limit(node: Node, event: LimitMet) -> Step:
    if node.limit and (event.shown_bytes is None or node.shortened):
        message = f"The limit of {event.limit} was met, and no turn was left to answer in. Raise it and run again."
        return _finish(node, error=BudgetExceededError(message, limit=event.limit))
    shortened = event.shown_bytes is not None
    node = replace(node, turn=node.turn - 1, shortened=shortened)
    return _last_turn(node, node.limit or event.limit, "", event.shown_bytes)


def _take_result(node: Node, event: Executed) -> Step:
    cell, result = node.pending[0], event.result
    node = replace(
        node,
        pending=node.pending[1:],
        executed=(*node.executed, (cell, result)),
        variables=result.variables,
        notice=event.notice,
    )
    if result.answer is not None:
        return _finish(node, answer=result.answer.value)
    if result.end == "ok" and node.pending:
        return _execute_next(node)
    observation = observe(node.executed, node.pending, limit_chars=node.spec.observation_chars)
    if node.final and result.end == "ok":
        return _conclude(node)
    if node.final:
        observation = f"{observation}\n{NOT_TAKEN}"
    return _next_turn(node, observation)


def _take_value(node: Node, event: ValueRead) -> Step:
    return _finish(node, answer=event.value)


def _miss_value(node: Node, event: ValueMissing) -> Step:
    final = node.final
    if isinstance(final, FinalText):
        return _finish(node, answer=final.text)
    name = final.name if final else ""
    known = list_variables(node.executed[-1][1].variables) if node.executed else ""
    told = no_such_variable(name, known.removeprefix("[variables] "))
    if node.executed:
        told = observe(node.executed, node.pending, limit_chars=node.spec.observation_chars) + "\n" + told
    return _next_turn(node, told)


# What the handlers share.


def _conclude(node: Node) -> Step:
    """The answer given in text: taken as it is, or looked up where it names a variable."""
    final = node.final
    if isinstance(final, FinalVariable) or (final and final.name):
        return replace(node, state=State.READING), Read(cast(str, final.name))
    return _finish(node, answer=final.text if final else None)


def _execute_next(node: Node) -> Step:
    return replace(node, state=State.EXECUTING), Execute(node.pending[0], node.limit)


def _stumble(node: Node, told: str, cause: ModelError | None = None) -> Step:
    """A reply of which nothing could be used. A cut one is forgiven once, an idle one a few times."""
    node = replace(node, stumbles=node.stumbles + 1)
    if cause is not None and node.stumbles > 1:
        return _finish(node, error=cause)
    if node.stumbles >= MAX_STUMBLES:
        message = f"{MAX_STUMBLES} replies in a row held neither a cell nor an answer. Try a more capable model."
        return _finish(node, error=NoAnswerError(message))
    return _next_turn(node, told)


def _next_turn(node: Node, observation: str) -> Step:
    """Shows the model what came of its turn and asks for the next, or for its answer when that was the last but one."""
    if node.limit:
        return _finish(node, error=_no_answer(node))
    turns_left = node.spec.max_turns - node.turn
    if turns_left <= 0:
        return _last_turn(node, "iterations", observation)
    told = observation_message(f"{observation}\n{node.notice}".rstrip("\n"), turns_left)
    return _ask(replace(node, messages=(*node.messages, Message("user", told))))


def _last_turn(node: Node, limit: str, observation: str, shown_bytes: int | None = None) -> Step:
    told = f"{observation}\n{answer_now(limit)}".lstrip()
    messages = node.messages
    if messages[-1].role == "user":  # the turn that a limit forbade was never made
        seen = messages[-1].content.removesuffix(answer_now(limit)).rstrip("\n")
        if shown_bytes is not None and len(messages) > HEAD:
            seen = _cut_bytes(seen, shown_bytes)
        told = f"{seen}\n{told}"
        messages = messages[:-1]
    return _ask(replace(node, messages=(*messages, Message("user", told)), limit=limit))


def _ask(node: Node) -> Step:
    """The next turn; before it, near the model's window, a summary of the older part. A last turn does without the model's."""
    tokens = node.counted_tokens + estimate_tokens(node.messages[node.counted :])
    near = is_near_window(tokens, node.spec.window_tokens)
    if near and (cut := find_cut(node.messages, _window_by_estimate(node))) is not None:
        if not node.limit:
            request = SUMMARISE.format(variables=_variables_of(node) or "none")
            return replace(node, state=State.COMPACTING), Compact(
                to_summarise(node.messages, cut, request), node.turn + 1
            )
        node = _compacted(node, None)
    return _ask_turn(node)


def _ask_turn(node: Node) -> Step:
    node = replace(node, state=State.ASKING, turn=node.turn + 1)
    return node, Ask(node.messages, node.turn, last=node.limit is not None, limit=node.limit)


def _take_summary(node: Node, event: Compacted) -> Step:
    return _ask_turn(_compacted(node, event.summary))


def _go_on_without_summary(node: Node, event: AskFailed | LimitMet) -> Step:
    return _ask_turn(_compacted(node, None))


def _compacted(node: Node, summary: str | None) -> Node:
    window = _window_by_estimate(node)
    cut = find_cut(node.messages, window) or len(node.messages)
    messages = compact(node.messages, cut, summary, _variables_of(node), window)
    return replace(node, messages=messages, counted=0, counted_tokens=0)


def _window_by_estimate(node: Node) -> int:
    """The window in our own count of tokens, where the provider has counted more of them than we estimate."""
    estimated = estimate_tokens(node.messages[: node.counted])
    factor = max(1.0, node.counted_tokens / estimated) if estimated else 1.0
    return int(node.spec.window_tokens / factor)


def _variables_of(node: Node) -> str:
    return list_variables(node.variables).removeprefix("[variables] ")


def _cut_bytes(text: str, limit: int) -> str:
    """The text with its middle left out until it has about ``limit`` bytes, not counting the mark in its middle."""
    size = text_bytes(text)
    if size <= limit:
        return text
    chars = limit * len(text) // size
    while chars > 3 and text_bytes(text[: chars * 2 // 3]) + text_bytes(text[-(chars - chars * 2 // 3) :]) > limit:
        chars = chars * 9 // 10
    return cut_middle(text, chars)


def _no_answer(node: Node) -> NoAnswerError:
    why, advice = f"The limit of {node.limit} was met", "Raise the limit and run again."
    if node.limit == "stopped":
        why, advice = "The run was told to finish", "Take it up again to let it go on."
    return NoAnswerError(f"{why}, and the model gave no answer in its last turn. {advice}", node.limit)


def _finish(node: Node, *, answer: PlainValue = None, error: RLMError | None = None) -> Step:
    return replace(node, state=State.DONE), Finish(answer, node.limit, error)


Handler: TypeAlias = Callable[[Node, NodeEvent], Step]

# Each handler takes the one kind of event that its key names.
TABLE: Mapping[tuple[State, type[NodeEvent]], Handler] = MappingProxyType(
    cast(
        "dict[tuple[State, type[NodeEvent]], Handler]",
        {
            (State.NEW, Begun): _begin,
            (State.ASKING, Replied): _take_reply,
            (State.ASKING, AskFailed): _fail_ask,
            (State.ASKING, LimitMet): _meet_limit,
            (State.COMPACTING, Compacted): _take_summary,
            (State.COMPACTING, AskFailed): _go_on_without_summary,
            (State.COMPACTING, LimitMet): _go_on_without_summary,
            (State.EXECUTING, Executed): _take_result,
            (State.READING, ValueRead): _take_value,
            (State.READING, ValueMissing): _miss_value,
        },
    )
)
