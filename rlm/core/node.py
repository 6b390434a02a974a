"""A node as a state machine: a conversation with its own REPL, from the question to the answer.

``step(node, event)`` looks up the pair (state, kind of event) in one table. It returns the node's next value and the one
action that follows. A driver performs the action and reports the next event.
"""

# NEW ──Started──> ASKING ──Replied──> EXECUTING ──Executed──> EXECUTING | READING | ASKING | DONE
#                    │                                            ▲
#                    └────────── Replied ──> READING ──ValueRead, ValueMissing──> DONE | ASKING
#
# A typed answer passes through VALIDATING ──Validated──> CHECKING | DONE | ASKING
# An answer with quotes passes through CHECKING ──QuotesChecked──> DONE | ASKING
#
# Near the window of its model a node passes through COMPACTING on its way to ASKING.

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeAlias, cast

from rlm.core.actions import (
    Action,
    Ask,
    AskFailed,
    CheckQuotes,
    Compact,
    Compacted,
    Execute,
    Executed,
    Finish,
    LimitMet,
    NodeEvent,
    QuotesChecked,
    Read,
    Replied,
    Started,
    Validate,
    Validated,
    ValueMissing,
    ValueRead,
)
from rlm.core.cells import Cell, PlainValue, Quote
from rlm.core.compaction import HEAD, compact, estimate_tokens, find_cut, is_near_window, to_summarise
from rlm.core.endings import find_end
from rlm.core.errors import (
    AnswerDoesNotFitError,
    BudgetExceededError,
    EmptyReplyError,
    InvalidTransition,
    ModelError,
    NoAnswerError,
    PromptTooLongError,
    RLMError,
    TruncatedReplyError,
)
from rlm.core.evidence import Citation
from rlm.core.final_quotes import split_quotes
from rlm.core.messages import Message, append_to_user
from rlm.core.node_spec import Node as Node
from rlm.core.node_spec import State
from rlm.core.observations import cut_bytes, list_variables, observe
from rlm.core.replies import FinalText, FinalVariable, parse_reply
from rlm.prompts import (
    NOT_TAKEN,
    NOTHING_RUN,
    REPLY_CUT,
    REPLY_EMPTY,
    SUMMARISE,
    answer_does_not_fit,
    answer_now,
    first_message,
    next_question,
    no_such_variable,
    observation_message,
    quotes_not_found,
)

LEARNT_WINDOW = 0.9  # of a conversation that was too long: its limit is not known, but is below its size
MAX_SHRINKS = 3  # each one learns a smaller window
MAX_STUMBLES = 4  # replies in a row with neither a cell nor an answer; a longer row has never led to one


Step: TypeAlias = tuple[Node, Action]


def step(node: Node, event: NodeEvent) -> Step:
    """Returns the node after ``event`` and the next action.

    Raises:
        InvalidTransition: the table has no entry for this state and event.
    """
    handler = TABLE.get((node.state, type(event)))
    if handler is None:
        raise InvalidTransition(
            f"a node in state {node.state.value!r} must not receive {type(event).__name__}. This is a bug: please report it"
        )
    return handler(node, event)


def _begin(node: Node, event: Started) -> Step:
    spec = node.spec
    if spec.earlier:
        asked = next_question(spec.question, spec.earlier_output, spec.answer_outline)
        messages = append_to_user(spec.earlier, asked)
    else:
        first = first_message(spec.question, spec.context, spec.first_lines, spec.answer_outline)
        messages = (Message("system", spec.system), Message("user", first))
    if spec.max_turns <= spec.earlier_turns:
        return _finish(node, error=NoAnswerError("max_iterations is 0: the model was never asked. Allow at least 1."))
    return _ask(replace(node, messages=messages, turn=spec.earlier_turns))


def _take_reply(node: Node, event: Replied) -> Step:
    text = event.text[: find_end(event.text, node.spec.cut_replies)]
    parsed = parse_reply(text)
    final, quotes = split_quotes(parsed.final)
    messages = (*node.messages, Message("assistant", text[: parsed.retained_chars]))
    node = replace(
        node,
        messages=messages,
        counted=len(messages) if event.tokens else node.counted,
        counted_tokens=event.tokens or node.counted_tokens,
        notice="",
        final=final,
        quotes=(*node.quotes, *quotes),
        prose=parsed.prose,
        executed=(),
        pending=tuple(Cell(node.turn, number, code) for number, code in enumerate(parsed.cells, 1)),
    )
    if node.pending:
        return _execute_next(replace(node, stumbles=0))
    if node.final:
        return _conclude(replace(node, stumbles=0))
    if node.limit and node.prose:
        return _answer(node, node.prose)  # the model was asked for the answer alone
    return _stumble(node, NOTHING_RUN)


def _fail_ask(node: Node, event: AskFailed) -> Step:
    error = event.error
    if isinstance(error, TruncatedReplyError) and not node.limit:
        return _stumble(_say(node, error.text or "[cut]"), REPLY_CUT, error)
    if isinstance(error, EmptyReplyError) and not node.limit:
        return _stumble(_say(node, "[empty]"), REPLY_EMPTY, error)
    if isinstance(error, PromptTooLongError) and (shorter := _shrink(node)) is not None:
        return _ask_turn(shorter)
    return _finish(node, error=error)


def _shrink(node: Node) -> Node | None:
    """Compacts a conversation that the provider found too long; None if that was tried often, or frees nothing.

    The window is then taken to be smaller than the conversation was.
    """
    window = int(estimate_tokens(node.messages) * LEARNT_WINDOW)
    if node.shrunk >= MAX_SHRINKS or find_cut(node.messages, window) is None:
        return None
    spec = replace(node.spec, window_tokens=window)
    return _compacted(replace(node, spec=spec, shrunk=node.shrunk + 1, counted=0, counted_tokens=0), None)


def _meet_limit(node: Node, event: LimitMet) -> Step:
    if node.limit and (event.shown_bytes is None or node.shortened):
        message = f"The limit of {event.limit} was met with no turn left to answer in. Raise the limit and run again."
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
        quotes=(*node.quotes, *result.citations),
    )
    if result.answer is not None:
        return _answer(node, result.answer.value, result.answer.citations)
    if result.end == "ok" and node.pending:
        return _execute_next(node)
    observation = observe(node.executed, node.pending, limit_chars=node.spec.observation_chars)
    if node.final and result.end == "ok":
        return _conclude(node)
    if node.final:
        observation = f"{observation}\n{NOT_TAKEN}"
    return _next_turn(node, observation)


def _take_value(node: Node, event: ValueRead) -> Step:
    return _answer(node, event.value)


def _miss_value(node: Node, event: ValueMissing) -> Step:
    final = node.final
    if isinstance(final, FinalText):
        return _answer(node, final.text)
    name = final.name if final else ""
    variables = list_variables(node.executed[-1][1].variables) if node.executed else ""
    return _next_turn(node, _after_output(node, no_such_variable(name, variables.removeprefix("[variables] "))))


# Steps that the handlers share.


def _conclude(node: Node) -> Step:
    """Finishes with the answer given in text, or first reads the variable that it names."""
    final = node.final
    if isinstance(final, FinalVariable) or (final and final.name):
        return replace(node, state=State.READING), Read(cast(str, final.name))
    return _answer(node, final.text if final else None)


def _answer(node: Node, value: PlainValue, cited: tuple[Quote, ...] = ()) -> Step:
    """Finishes with an answer, once its form and its quotes were checked."""
    node = replace(node, cited=cited, proposed=value)
    if node.spec.answer_outline:
        return replace(node, state=State.VALIDATING), Validate(value)
    return _accept(node, value)


def _accept(node: Node, value: PlainValue) -> Step:
    """Finishes with a valid answer. Its quotes, and those of earlier cells, are looked up first."""
    quotes = tuple(dict.fromkeys((*node.quotes, *node.cited)))
    if not (quotes and node.spec.checks_quotes):
        return _finish(node, answer=value)
    return replace(node, state=State.CHECKING, proposed=value), CheckQuotes(quotes)


def _take_validation(node: Node, event: Validated) -> Step:
    """Accepts an answer that fits. Any other one goes back to the model with the reasons."""
    if not event.problems:
        return _accept(node, event.data)
    if node.limit:
        return _finish(node, error=_does_not_fit(node, event.problems))
    return _next_turn(node, _after_output(node, answer_does_not_fit(event.problems)))


def _take_citations(node: Node, event: QuotesChecked) -> Step:
    """Accepts the answer. The first one with a quote that is nowhere in the sources goes back to the model."""
    missing = [citation.quote for citation in event.citations if not citation.verified]
    if not missing or node.returned or node.limit or node.turn >= node.spec.max_turns:
        return _finish(node, answer=node.proposed, citations=event.citations)
    quotes = tuple(quote for quote in node.quotes if quote.text not in missing)
    node = replace(node, quotes=quotes, returned=Finish(node.proposed, citations=event.citations))
    return _next_turn(node, _after_output(node, quotes_not_found(missing)))


def _after_output(node: Node, notice: str) -> str:
    """The output of the turn's cells, if there are any, and a notice."""
    if not node.executed:
        return notice
    return observe(node.executed, node.pending, limit_chars=node.spec.observation_chars) + "\n" + notice


def _say(node: Node, text: str) -> Node:
    return replace(node, messages=(*node.messages, Message("assistant", text)))


def _execute_next(node: Node) -> Step:
    return replace(node, state=State.EXECUTING), Execute(node.pending[0], node.limit)


def _stumble(node: Node, notice: str, cause: ModelError | None = None) -> Step:
    """Answers a reply without cell or answer. A truncated one is forgiven once, an idle or empty one a few times."""
    node = replace(node, stumbles=node.stumbles + 1)
    if isinstance(cause, TruncatedReplyError) and node.stumbles > 1:
        return _finish(node, error=cause)
    if cause is not None and node.stumbles >= MAX_STUMBLES:
        return _finish(node, error=cause)
    if node.stumbles >= MAX_STUMBLES:
        message = f"{MAX_STUMBLES} replies in a row held neither a cell nor an answer. Try a more capable model."
        return _finish(node, error=NoAnswerError(message))
    return _next_turn(node, notice)


def _next_turn(node: Node, observation: str) -> Step:
    """Shows the model the result of its turn and asks for the next, or for the answer if no other turn is left."""
    if node.limit:
        return _finish(node, error=_no_answer(node))
    turns_left = node.spec.max_turns - node.turn
    if turns_left <= 0:
        return _last_turn(node, "iterations", observation)
    shown = observation_message(f"{observation}\n{node.notice}".rstrip("\n"), turns_left)
    return _ask(replace(node, messages=(*node.messages, Message("user", shown))))


def _last_turn(node: Node, limit: str, observation: str, shown_bytes: int | None = None) -> Step:
    shown = f"{observation}\n{answer_now(limit)}".lstrip()
    messages = node.messages
    if messages[-1].role == "user":  # a limit forbade the turn, so the model has not seen this message
        seen = messages[-1].text.removesuffix(answer_now(limit)).rstrip("\n")
        if shown_bytes is not None and len(messages) > HEAD:
            seen = cut_bytes(seen, shown_bytes)
        shown = f"{seen}\n{shown}"
        messages = messages[:-1]
    return _ask(replace(node, messages=(*messages, Message("user", shown)), limit=limit))


def _ask(node: Node) -> Step:
    """Asks for the next turn. Near the model's window the older part is summarised first, without a call for the last turn."""
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


def _compact_without_summary(node: Node, event: AskFailed | LimitMet) -> Step:
    return _ask_turn(_compacted(node, None))


def _compacted(node: Node, summary: str | None) -> Node:
    window = _window_by_estimate(node)
    cut = find_cut(node.messages, window) or len(node.messages)
    question = node.spec.question if node.spec.earlier else ""  # an earlier question stands at the start
    messages = compact(node.messages, cut, summary, _variables_of(node), window, question=question)
    return replace(node, messages=messages, counted=0, counted_tokens=0)


def _window_by_estimate(node: Node) -> int:
    """Returns the window in estimated tokens. It shrinks if the provider counts more tokens than the estimate."""
    estimated = estimate_tokens(node.messages[: node.counted])
    factor = max(1.0, node.counted_tokens / estimated) if estimated else 1.0
    return int(node.spec.window_tokens / factor)


def _variables_of(node: Node) -> str:
    return list_variables(node.variables).removeprefix("[variables] ")


def _no_answer(node: Node) -> NoAnswerError:
    why, advice = f"The limit of {node.limit} was met", "Raise the limit and run again."
    if node.limit == "stopped":
        why, advice = "The run was asked to finish early", "Resume it to let it go on."
    return NoAnswerError(f"{why}, and the model gave no answer in its last turn. {advice}", node.limit)


def _does_not_fit(node: Node, problems: tuple[str, ...]) -> AnswerDoesNotFitError:
    shown = "; ".join(problems)
    message = (
        f"The limit of {node.limit} was met, and the last answer does not fit its schema: {shown}. Raise the limit."
    )
    return AnswerDoesNotFitError(message, node.limit, problems=problems, value=node.proposed)


def _finish(
    node: Node, *, answer: PlainValue = None, error: RLMError | None = None, citations: tuple[Citation, ...] = ()
) -> Step:
    finish = Finish(answer, node.limit, error, citations)
    if error is not None and node.returned is not None:
        finish = replace(node.returned, limit=node.limit)
    return replace(node, state=State.DONE), finish


Handler: TypeAlias = Callable[[Node, NodeEvent], Step]

# A handler receives only the kind of event that its key names.
TABLE: Mapping[tuple[State, type[NodeEvent]], Handler] = MappingProxyType(
    cast(
        "dict[tuple[State, type[NodeEvent]], Handler]",
        {
            (State.NEW, Started): _begin,
            (State.ASKING, Replied): _take_reply,
            (State.ASKING, AskFailed): _fail_ask,
            (State.ASKING, LimitMet): _meet_limit,
            (State.COMPACTING, Compacted): _take_summary,
            (State.COMPACTING, AskFailed): _compact_without_summary,
            (State.COMPACTING, LimitMet): _compact_without_summary,
            (State.EXECUTING, Executed): _take_result,
            (State.READING, ValueRead): _take_value,
            (State.READING, ValueMissing): _miss_value,
            (State.VALIDATING, Validated): _take_validation,
            (State.CHECKING, QuotesChecked): _take_citations,
        },
    )
)
