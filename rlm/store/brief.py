"""A short form for the events that come by the thousand: a leaf call begins, leaves, and is answered; a node's turn, its cell.

Each is a list of its fields in a fixed order: a third of the bytes, and of the time, of the general form in ``codec``. Most come
shorter still, without what an event before them said: the fields that a batch's calls share, those of a call that its answer
repeats, those of a node's turn that are as they were in the turn before. What does not fit takes the general form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields, replace
from operator import attrgetter
from typing import Any, TypeAlias

from rlm.core.cells import Answer, Cell, CellResult, Variable
from rlm.core.events import (
    AnyEvent,
    CallFailed,
    CallReplied,
    CallSent,
    CallStarted,
    CellExecuted,
    CellStarted,
    NodeFinished,
)
from rlm.core.ids import CallId, NodeId, RunId
from rlm.core.messages import Message, Reply, Request, Task, Usage

Fields: TypeAlias = Sequence[Any]
Entry: TypeAlias = tuple[Any, ...]
Write: TypeAlias = Callable[[str], Any]
Read: TypeAlias = Callable[[Any], str]

BEGUN, BEGUN_ALIKE, LEFT, ANSWERED, TURN, NEXT_TURN, CELL, EXECUTED = "^", ",", ">", "-", "*", "~", "{", "}"
BEGUN_1, ANSWERED_1 = "+", "="  # in stores of schema 1

LONG_CHARS = 1000  # a text longer than this stands apart: a shorter one costs less than a row of its own
AT_ONCE_S = 0.001


WRITTEN: dict[type[Any], str] = {
    CallStarted: "run node at_s call role depth model turn request cell batch key limit prefetched",
    CallSent: "run node at_s call attempt",
    CallReplied: "run node at_s call role depth model reply cost_usd elapsed_s cached billed",
    CellStarted: "run node at_s cell",
    CellExecuted: "run node at_s cell result notice dropped",
    Request: "messages role depth max_output_tokens temperature schema stop cache_key shared_chars task",
    Message: "role content",
    Task: "question depth max_depth turn leaf_prompt_chars",
    Reply: "text usage model cost_usd",
    Usage: "calls input_tokens cached_tokens cache_write_tokens output_tokens reasoning_tokens",
    Cell: "turn number code clock_s prefetch",
    CellResult: "end stdout stderr echo error traceback answer variables notes state_lost killed rebuilt elapsed_s waited_s "
    "prefetched prefetches_used",
    Answer: "value",
    Variable: "name type size",
}
"""The fields that the short forms write or compare. An object with anything in another field takes the general form."""


def is_brief(cls: type[Any]) -> Callable[[Any], bool] | None:
    """A check that no field is set which the short forms do not write; None if they write them all."""
    rest = [field for field in fields(cls) if field.name not in WRITTEN[cls].split()]
    if not rest:
        return None
    defaults = [field.default if field.default_factory is MISSING else field.default_factory() for field in rest]
    get = attrgetter(*(field.name for field in rest), "__class__")
    expected = (*defaults, cls)
    return lambda thing: get(thing) == expected


CHECKS = {cls: check for cls in WRITTEN if (check := is_brief(cls)) is not None}


def fits_short_form(thing: object) -> bool:
    """Whether an object, with all objects in it, has nothing that the short forms would lose."""
    if isinstance(thing, tuple):
        return all(map(fits_short_form, thing))
    if type(thing) not in WRITTEN:
        return True
    check = CHECKS.get(type(thing))
    return (check is None or check(thing)) and all(
        fits_short_form(getattr(thing, field.name))
        for field in fields(thing)  # type: ignore[arg-type]
    )


class ConversationDiff:
    """The conversations of nodes, each at its last turn: of the next one, only what it has more is written."""

    def __init__(self) -> None:
        self._last: dict[NodeId, CallStarted] = {}

    def before(self, turn: CallStarted) -> tuple[CallId, int] | None:
        """The node's turn before, and how many of its messages this one begins with."""
        before = self._last.get(turn.node)
        self._last[turn.node] = turn
        if before is None:
            return None
        talk, known = turn.request.messages, before.request.messages
        kept = len(known)
        if talk[:kept] != known:  # it was compacted
            pairs = zip(talk, known, strict=False)
            kept = next((n for n, (one, other) in enumerate(pairs) if one != other), len(talk))
        return before.call, kept

    def end(self, node: NodeId) -> None:
        self._last.pop(node, None)


class BriefWriter:
    """Writes the events of one run, in order, each as a kind and its fields.

    ``text`` writes a long text, ``value`` plain data, ``whole`` any event in its general form, which it takes where an event has
    something that its short form cannot say. ``BriefReader`` remembers the same as this does, at the same place.

    Most of what a journal costs is spent here, a few microseconds for each event: hence the long lists, and no calls for what is
    short anyway.
    """

    def __init__(
        self, text: Write, value: Callable[[object], Any], whole: Callable[..., Entry], talks: ConversationDiff
    ) -> None:
        self._text = text
        self._value = value
        self._whole = whole
        self._talks = talks
        self._calls: dict[CallId, CallStarted] = {}  # on their way
        self._cells: dict[NodeId, Cell] = {}  # being executed
        self._alike: Fields | None = None  # what the last leaf call has in common with others of its batch
        self._turns: dict[NodeId, Fields] = {}  # what a node's last turn has in common with its next
        self.forms: dict[type[AnyEvent], Callable[[Any], Entry | None]] = {
            CallStarted: self._started, CallSent: self._sent, CallReplied: self._replied, CallFailed: self._failed,
            CellStarted: self._cell, CellExecuted: self._executed, NodeFinished: self._finished,
        }  # fmt: skip
        if CHECKS:
            self.forms |= {kind: self._checked(form) for kind, form in self.forms.items() if kind in WRITTEN}

    def _checked(self, form: Callable[[Any], Entry | None]) -> Callable[[Any], Entry | None]:
        """The same form, for events that it can write; the general one for others."""

        def write(event: Any) -> Entry | None:
            if fits_short_form(event):
                return form(event)
            since = None
            match event:
                case CallStarted():
                    self._calls[event.call] = event
                    if event.role == "node":
                        self._turns.pop(event.node, None)
                        since = self._talks.before(event)
                case CallReplied():
                    self._calls.pop(event.call, None)
                case CellStarted():
                    self._cells.pop(event.node, None)
                case _:
                    pass
            return self._whole(event, since)

        return write

    def _started(self, event: CallStarted) -> Entry:
        self._calls[event.call] = event
        if event.role == "node":
            return self._turn(event)
        request = event.request
        messages = request.messages
        if len(messages) != 1 or messages[0].role != "user" or request.role != "leaf":
            return self._whole(event)
        content = messages[0].content
        if len(content) > LONG_CHARS:
            content = self._text(content)
        alike = (
            event.node, event.depth, event.model, event.turn, event.cell, event.batch, event.prefetched,
            request.depth, request.max_output_tokens, request.temperature, request.shared_chars,
            event.limit, request.schema, request.stop, request.cache_key, request.task,
        )  # fmt: skip
        if alike != self._alike:
            if any(alike[-5:]) or request.schema is not None:
                return self._whole(event)
            self._alike = alike
            return BEGUN, event.at_s, event.call, event.key, content, *alike[:-5]
        return BEGUN_ALIKE, event.at_s, event.call, event.key, content

    def _turn(self, event: CallStarted) -> Entry:
        since = self._talks.before(event)
        request, node, text = event.request, event.node, self._text
        task, known = request.task, self._turns.pop(node, None)
        if task is None or request.role != "node":
            return self._whole(event, since)
        new = [[each.role, text(each.content)] for each in request.messages[since[1] if since else 0 :]]
        alike = (
            event.depth, event.model, request.depth, request.max_output_tokens, request.temperature, request.stop,
            request.cache_key, request.shared_chars, task.question, task.depth, task.max_depth, task.leaf_prompt_chars,
            event.key, event.cell, event.batch, request.schema,
        )  # fmt: skip
        if since is not None and alike == known and task.turn == event.turn:
            self._turns[node] = known
            return NEXT_TURN, node, event.at_s, event.call, event.turn, event.limit, event.prefetched, since[1], new
        if alike[-4:] != ("", None, None, None):
            return self._whole(event, since)
        self._turns[node] = alike
        return (
            TURN, node, event.at_s, event.call, event.depth, event.model, event.turn, event.limit, event.prefetched,
            since, new,
            request.depth, request.max_output_tokens, request.temperature, [text(each) for each in request.stop],
            request.cache_key, request.shared_chars,
            text(task.question), task.depth, task.max_depth, task.turn, task.leaf_prompt_chars,
        )  # fmt: skip

    def _sent(self, event: CallSent) -> Entry | None:
        """Where it had to wait for that, or left again: else it says nothing that its beginning does not."""
        begun = self._calls.get(event.call)
        if (
            begun is not None
            and 0 <= event.at_s - begun.at_s < AT_ONCE_S
            and event.attempt == 1
            and event.node == begun.node
        ):
            return None
        return LEFT, event.node, event.at_s, event.call, event.attempt

    def _replied(self, event: CallReplied) -> Entry:
        """A call has the node, the depth and the role that it began with."""
        begun = self._calls.pop(event.call, None)
        at_s, model, reply = event.at_s, event.model, event.reply
        if (
            begun is None
            or event.cached
            or not event.billed
            or model != begun.model
            or event.elapsed_s != at_s - begun.at_s
            or event.depth != begun.depth
            or event.role != begun.role
            or event.node != begun.node
        ):
            return self._whole(event)
        content, usage = reply.text, reply.usage
        if len(content) > LONG_CHARS:
            content = self._text(content)
        return (
            ANSWERED, at_s, event.call, content, event.cost_usd, reply.cost_usd,
            None if reply.model == model else reply.model,
            usage.calls, usage.input_tokens, usage.cached_tokens,
            usage.cache_write_tokens, usage.output_tokens, usage.reasoning_tokens,
        )  # fmt: skip

    def _failed(self, event: CallFailed) -> Entry:
        self._calls.pop(event.call, None)
        return self._whole(event)

    def _cell(self, event: CellStarted) -> Entry:
        cell = self._cells[event.node] = event.cell
        return CELL, event.node, event.at_s, cell.turn, cell.number, self._text(cell.code), cell.clock_s, cell.prefetch

    def _executed(self, event: CellExecuted) -> Entry:
        cell, done, text = event.cell, event.result, self._text
        known = self._cells.pop(event.node, None) is cell
        if event.dropped:
            return self._whole(event)
        return (
            EXECUTED, event.node, event.at_s,
            None if known else (cell.turn, cell.number, text(cell.code), cell.clock_s, cell.prefetch),
            event.notice and text(event.notice),
            done.end, done.stdout and text(done.stdout), done.stderr and text(done.stderr),
            done.echo and text(done.echo), done.error and text(done.error), done.traceback and text(done.traceback),
            [[text(each.name), text(each.type), each.size] for each in done.variables], [text(each) for each in done.notes],
            done.state_lost, done.killed, done.rebuilt, done.elapsed_s, done.waited_s, done.prefetched, done.prefetches_used,
            None if done.answer is None else [self._value(done.answer.value)],
        )  # fmt: skip

    def _finished(self, event: NodeFinished) -> Entry:
        self._talks.end(event.node)
        self._turns.pop(event.node, None)
        return self._whole(event)


class BriefReader:
    """Reads the events of one run, in order. ``calls`` are those that began; ``note`` tells of those in the general form."""

    def __init__(self, run: RunId, text: Read, value: Callable[[Any], Any]) -> None:
        self._run = run
        self._text = text
        self._value = value
        self._alike: Fields = ()
        self._turns: dict[NodeId, CallStarted] = {}
        self._cells: dict[NodeId, Cell] = {}
        self.calls: dict[str, CallStarted] = {}
        self.forms: dict[str, Callable[[Fields], AnyEvent]] = {
            BEGUN: self._begun, BEGUN_ALIKE: self._begun_alike, LEFT: self._left, ANSWERED: self._answered,
            TURN: self._turn, NEXT_TURN: self._next_turn, CELL: self._cell, EXECUTED: self._executed,
            BEGUN_1: self._begun_1, ANSWERED_1: self._answered_1,
        }  # fmt: skip

    def note(self, call: CallStarted) -> CallStarted:
        self.calls[call.call] = call
        if call.role == "node":
            self._turns[call.node] = call
        return call

    def before(self, since: tuple[str, int] | None) -> tuple[Message, ...]:
        """The messages that an earlier call had, the first so many of them."""
        return self.calls[since[0]].request.messages[: since[1]] if since else ()

    def _begun(self, fields: Fields) -> CallStarted:
        at_s, call, key, content, *self._alike = fields
        return self._begun_alike((at_s, call, key, content))

    def _begun_1(self, fields: Fields) -> CallStarted:
        node, at_s, call, depth, model, turn, cell, batch, key, prefetched, content, *limits = fields
        return self._begun((at_s, call, key, content, node, depth, model, turn, cell, batch, prefetched, *limits, 0))

    def _begun_alike(self, fields: Fields) -> CallStarted:
        at_s, call, key, content = fields
        node, depth, model, turn, cell, batch, prefetched, request_depth, most, temperature, shared_chars = self._alike
        request = Request(
            (Message("user", self._text(content)),),
            "leaf",
            request_depth,
            most,
            temperature,
            shared_chars=shared_chars,
        )
        return self._called(
            request, node, call, at_s=at_s, depth=depth, model=model, turn=turn, cell=cell, batch=batch, key=key,
            prefetched=prefetched,
        )  # fmt: skip

    def _called(self, request: Request, node: str, call: str, **rest: Any) -> CallStarted:
        return self.note(
            CallStarted(run=self._run, node=NodeId(node), call=CallId(call), role=request.role, request=request, **rest)
        )

    def _left(self, fields: Fields) -> CallSent:
        node, at_s, call, attempt = fields
        return CallSent(run=self._run, node=NodeId(node), at_s=at_s, call=CallId(call), attempt=attempt)

    def _answered_1(self, fields: Fields) -> CallReplied:
        node, at_s, call, role, depth, model, cost_usd, elapsed_s, cached, said, reply_model, reply_cost, *used = fields
        return CallReplied(
            run=self._run,
            node=NodeId(node),
            at_s=at_s,
            call=CallId(call),
            role=role,
            depth=depth,
            model=model,
            reply=Reply(self._text(said), Usage(*used), reply_model, reply_cost),
            cost_usd=cost_usd,
            elapsed_s=elapsed_s,
            cached=cached,
        )

    def _answered(self, fields: Fields) -> CallReplied:
        at_s, call, said, cost_usd, reply_cost, model, *used = fields
        begun = self.calls[call]
        return CallReplied(
            run=self._run,
            node=begun.node,
            at_s=at_s,
            call=begun.call,
            role=begun.role,
            depth=begun.depth,
            model=begun.model,
            reply=Reply(self._text(said), Usage(*used), model or begun.model, reply_cost),
            cost_usd=cost_usd,
            elapsed_s=at_s - begun.at_s,
        )

    def _turn(self, fields: Fields) -> CallStarted:
        node, at_s, call, depth, model, turn, limit, prefetched, since, new, *rest = fields
        request_depth, most, temperature, stop, cache_key, shared_chars, question, *task = rest
        request = Request(
            (*self.before(since), *self._messages(new)),
            "node",
            request_depth,
            most,
            temperature,
            stop=tuple(map(self._text, stop)),
            cache_key=cache_key,
            shared_chars=shared_chars,
            task=Task(self._text(question), *task),
        )
        return self._called(
            request, node, call, at_s=at_s, depth=depth, model=model, turn=turn, limit=limit, prefetched=prefetched
        )

    def _next_turn(self, fields: Fields) -> CallStarted:
        node, at_s, call, turn, limit, prefetched, kept, new = fields
        before = self._turns[NodeId(node)]
        request = before.request
        assert request.task is not None
        request = replace(
            request,
            messages=(*request.messages[:kept], *self._messages(new)),
            task=replace(request.task, turn=turn),
        )
        return self.note(
            replace(
                before, at_s=at_s, call=CallId(call), turn=turn, limit=limit, prefetched=prefetched, request=request
            )
        )

    def _messages(self, written: Fields) -> list[Message]:
        return [Message(role, self._text(content)) for role, content in written]

    def _read_cell(self, fields: Fields) -> Cell:
        turn, number, code, clock_s, prefetch = fields
        return Cell(turn, number, self._text(code), clock_s, prefetch)

    def _cell(self, fields: Fields) -> CellStarted:
        node, at_s, *written = fields
        cell = self._cells[NodeId(node)] = self._read_cell(written)
        return CellStarted(run=self._run, node=NodeId(node), at_s=at_s, cell=cell)

    def _executed(self, fields: Fields) -> CellExecuted:
        node, at_s, cell, notice, *done = fields
        text = self._text
        end, stdout, stderr, echo, error, traceback, variables, notes, *rest = done
        state_lost, killed, rebuilt, elapsed_s, waited_s, prefetched, prefetches_used, *answer = rest
        result = CellResult(
            end=end,
            stdout=text(stdout),
            stderr=text(stderr),
            echo=echo and text(echo),
            error=error and text(error),
            traceback=traceback and text(traceback),
            answer=Answer(self._value(answer[0][0])) if answer and answer[0] else None,
            variables=tuple(Variable(text(name), text(kind), size) for name, kind, size in variables),
            notes=tuple(map(text, notes)),
            state_lost=state_lost,
            killed=killed,
            rebuilt=rebuilt,
            elapsed_s=elapsed_s,
            waited_s=waited_s,
            prefetched=prefetched,
            prefetches_used=prefetches_used,
        )
        executed = self._cells[NodeId(node)] if cell is None else self._read_cell(cell)
        return CellExecuted(
            run=self._run, node=NodeId(node), at_s=at_s, cell=executed, result=result, notice=text(notice)
        )
