"""A short form for the events that come by the thousand: a leaf call begins, leaves, and is answered; a node's turn, its cell.

Each is a list of its fields in a fixed order: a third of the bytes, and of the time, of the general form in ``codec``. Most come
shorter still, without what an event before them said: the fields that a batch's calls share, those of a call that its answer
repeats, those of a node's turn that are as they were in the turn before. What does not fit takes the general form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from rlm.core.cells import Answer, Cell, CellResult, Variable
from rlm.core.events import AnyEvent, CallReplied, CallSent, CallStarted, CellExecuted, CellStarted
from rlm.core.ids import CallId, NodeId, RunId
from rlm.core.messages import Message, Reply, Request, Task, Usage

Fields: TypeAlias = Sequence[Any]
Write: TypeAlias = Callable[[str], Any]
Read: TypeAlias = Callable[[Any], str]
Brief: TypeAlias = tuple[str, Fields]

BEGUN, LEFT, ANSWERED, TURN, CELL, EXECUTED = "+", ">", "=", "*", "{", "}"
BEGUN_ALIKE, ANSWERED_IT, NEXT_TURN = ",", "-", "~"


class BriefWriter:
    """Writes the events of one run, in order; None where an event has something that its short form cannot say.

    ``text`` writes a text, and keeps a long one apart; ``value`` writes plain data. ``BriefReader`` remembers the same as this
    does, at the same place.
    """

    def __init__(self, text: Write, value: Callable[[object], Any]) -> None:
        self._text = text
        self._value = value
        self._shared: Fields | None = None  # what the last leaf call has in common with others of its batch
        self._cells: dict[NodeId, Cell] = {}

    def begun(self, event: CallStarted) -> Brief | None:
        request = event.request
        messages = request.messages
        if request.schema is not None or event.limit is not None or request.stop or request.cache_key or request.task:
            return None
        if len(messages) != 1 or messages[0].role != "user":
            return None
        content = self._text(messages[0].content)
        shared = (
            event.node, event.depth, event.model, event.turn, event.cell, event.batch, event.prefetched,
            request.depth, request.max_output_tokens, request.temperature, request.shared_chars,
        )  # fmt: skip
        if shared == self._shared:
            return BEGUN_ALIKE, (event.at_s, event.call, event.key, content)
        self._shared = shared
        return BEGUN, (
            event.node, event.at_s, event.call, event.depth, event.model, event.turn, event.cell, event.batch, event.key,
            event.prefetched, content, request.depth, request.max_output_tokens, request.temperature, request.shared_chars,
        )  # fmt: skip

    def answered(self, event: CallReplied, call: CallStarted | None) -> Brief | None:
        """``call`` is how it began, where that is known."""
        if not event.billed:
            return None
        reply, at_s = event.reply, event.at_s
        usage = reply.usage
        content = self._text(reply.text)
        used = (
            usage.calls, usage.input_tokens, usage.cached_tokens,
            usage.cache_write_tokens, usage.output_tokens, usage.reasoning_tokens,
        )  # fmt: skip
        if (
            call is not None
            and event.node == call.node
            and event.model == call.model
            and event.depth == call.depth
            and event.role == call.role
            and event.elapsed_s == at_s - call.at_s
            and not event.cached
        ):
            model = None if reply.model == call.model else reply.model
            return ANSWERED_IT, (at_s, event.call, content, event.cost_usd, reply.cost_usd, model, *used)
        return ANSWERED, (
            event.node, at_s, event.call, event.role, event.depth, event.model, event.cost_usd, event.elapsed_s,
            event.cached, content, reply.model, reply.cost_usd, *used,
        )  # fmt: skip

    def turn(self, event: CallStarted, before: CallStarted | None, kept: int) -> Brief | None:
        """``before`` is the node's turn before, of whose messages it still has the first ``kept``."""
        request, task = event.request, event.request.task
        if task is None or request.schema is not None or event.cell is not None or event.batch is not None or event.key:
            return None
        new = [[each.role, self._text(each.content)] for each in request.messages[kept:]]
        if before is not None and _is_next(event, before):
            return NEXT_TURN, (event.node, event.at_s, event.call, event.turn, event.limit, event.prefetched, kept, new)
        return TURN, (
            event.node, event.at_s, event.call, event.depth, event.model, event.turn, event.limit, event.prefetched,
            None if before is None else (before.call, kept), new,
            request.depth, request.max_output_tokens, request.temperature, [self._text(each) for each in request.stop],
            request.cache_key, request.shared_chars,
            self._text(task.question), task.depth, task.max_depth, task.turn, task.leaf_prompt_chars,
        )  # fmt: skip

    def cell(self, event: CellStarted) -> Brief:
        self._cells[event.node] = event.cell
        return CELL, (event.node, event.at_s, *self._fields(event.cell))

    def executed(self, event: CellExecuted) -> Brief | None:
        known = self._cells.pop(event.node, None) is event.cell
        done, text = event.result, self._text
        if event.dropped:
            return None
        return EXECUTED, (
            event.node, event.at_s, None if known else self._fields(event.cell), text(event.notice),
            done.end, text(done.stdout), text(done.stderr),
            done.echo and text(done.echo), done.error and text(done.error), done.traceback and text(done.traceback),
            [[text(each.name), text(each.type), each.size] for each in done.variables], [text(each) for each in done.notes],
            done.state_lost, done.killed, done.rebuilt, done.elapsed_s, done.waited_s, done.prefetched, done.prefetches_used,
            None if done.answer is None else [self._value(done.answer.value)],
        )  # fmt: skip

    def _fields(self, cell: Cell) -> Fields:
        return (cell.turn, cell.number, self._text(cell.code), cell.clock_s, cell.prefetch)


def _is_next(event: CallStarted, before: CallStarted) -> bool:
    """Whether a turn is as the one before it, but for its number and what was said since."""
    now, then = event.request, before.request
    task, last = now.task, then.task
    return (
        task is not None
        and last is not None
        and task.turn == event.turn
        and task.question == last.question
        and now.stop == then.stop
        and now.cache_key == then.cache_key
        and event.model == before.model
        and event.depth == before.depth
        and (task.depth, task.max_depth, task.leaf_prompt_chars) == (last.depth, last.max_depth, last.leaf_prompt_chars)
        and (now.depth, now.max_output_tokens, now.temperature, now.shared_chars)
        == (then.depth, then.max_output_tokens, then.temperature, then.shared_chars)
    )


class BriefReader:
    """Reads the events of one run, in order. ``calls`` are those that began; ``note`` tells of those in the general form."""

    def __init__(self, run: RunId, text: Read, value: Callable[[Any], Any]) -> None:
        self._run = run
        self._text = text
        self._value = value
        self._shared: Fields = ()
        self._turns: dict[NodeId, CallStarted] = {}
        self._cells: dict[NodeId, Cell] = {}
        self.calls: dict[str, CallStarted] = {}
        self.forms: dict[str, Callable[[Fields], AnyEvent]] = {
            BEGUN: self._begun, BEGUN_ALIKE: self._begun_alike, LEFT: self._left, ANSWERED: self._answered,
            ANSWERED_IT: self._answered_it, TURN: self._turn, NEXT_TURN: self._next_turn, CELL: self._cell,
            EXECUTED: self._executed,
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
        node, at_s, call, depth, model, turn, cell, batch, key, prefetched, content, *limits = fields
        self._shared = (node, depth, model, turn, cell, batch, prefetched, *limits)
        return self._begun_alike((at_s, call, key, content))

    def _begun_alike(self, fields: Fields) -> CallStarted:
        at_s, call, key, content = fields
        node, depth, model, turn, cell, batch, prefetched, request_depth, most, temperature, *shared = self._shared
        request = Request((Message("user", self._text(content)),), "leaf", request_depth, most, temperature)
        if any(shared):
            request = replace(request, shared_chars=shared[0])
        return self.note(
            CallStarted(
                run=self._run,
                node=NodeId(node),
                at_s=at_s,
                call=CallId(call),
                role="leaf",
                depth=depth,
                model=model,
                turn=turn,
                request=request,
                cell=cell,
                batch=batch,
                key=key,
                prefetched=prefetched,
            )
        )

    def _left(self, fields: Fields) -> CallSent:
        node, at_s, call, attempt = fields
        return CallSent(run=self._run, node=NodeId(node), at_s=at_s, call=CallId(call), attempt=attempt)

    def _answered(self, fields: Fields) -> CallReplied:
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

    def _answered_it(self, fields: Fields) -> CallReplied:
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
        return self.note(
            CallStarted(
                run=self._run,
                node=NodeId(node),
                at_s=at_s,
                call=CallId(call),
                role="node",
                depth=depth,
                model=model,
                turn=turn,
                request=request,
                limit=limit,
                prefetched=prefetched,
            )
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
