"""A short form for the events that come by the thousand: a leaf call begins, leaves, and is answered; a node's turn, its cell.

Each is a list of its fields in a fixed order: a third of the bytes, and of the time, of the general form in ``codec``. What
does not fit it in every respect takes the general form. Texts go through functions of the caller's, which keep long ones apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from rlm.core.cells import Cell, CellResult, Variable
from rlm.core.events import AnyEvent, CallReplied, CallSent, CallStarted, CellExecuted, CellStarted
from rlm.core.ids import CallId, NodeId, RunId
from rlm.core.messages import Message, Reply, Request, Task, Usage

Fields: TypeAlias = list[Any]
Write: TypeAlias = Callable[[str], Any]
Read: TypeAlias = Callable[[Any], str]
Brief: TypeAlias = tuple[str, Fields]

BEGUN, LEFT, ANSWERED, TURN, CELL, EXECUTED = "+", ">", "=", "*", "{", "}"


def _write_answered(event: CallReplied, text: Write) -> Brief | None:
    if not event.billed:
        return None
    reply, usage = event.reply, event.reply.usage
    return ANSWERED, [
        event.node, event.at_s, event.call, event.role, event.depth, event.model, event.cost_usd, event.elapsed_s,
        event.cached, text(reply.text), reply.model, reply.cost_usd, usage.calls, usage.input_tokens, usage.cached_tokens,
        usage.cache_write_tokens, usage.output_tokens, usage.reasoning_tokens,
    ]  # fmt: skip


def _write_begun(event: CallStarted, text: Write) -> Brief | None:
    request = event.request
    if (
        event.role != "leaf"
        or len(request.messages) != 1
        or event.limit is not None
        or request.messages[0].role != "user"
    ):
        return None
    if request.schema is not None or request.stop or request.cache_key or request.task:
        return None
    return BEGUN, [
        event.node, event.at_s, event.call, event.depth, event.model, event.turn, event.cell, event.batch, event.key,
        event.prefetched, text(request.messages[0].content), request.depth, request.max_output_tokens, request.temperature,
    ]  # fmt: skip


def turn_to_brief(
    event: CallStarted, text: Write, talk: Sequence[Message], since: tuple[CallId, int] | None
) -> Brief | None:
    """``talk`` is what the conversation has more than ``since``: an earlier call, and how many of its messages."""
    request, task = event.request, event.request.task
    if task is None or request.schema is not None or event.cell is not None or event.batch is not None or event.key:
        return None
    return TURN, [
        event.node, event.at_s, event.call, event.depth, event.model, event.turn, event.limit, event.prefetched,
        since, [[each.role, text(each.content)] for each in talk],
        request.depth, request.max_output_tokens, request.temperature, request.stop, request.cache_key, request.shared_chars,
        text(task.question), task.depth, task.max_depth, task.turn, task.leaf_prompt_chars,
    ]  # fmt: skip


def _write_cell(cell: Cell, text: Write) -> Fields:
    return [cell.turn, cell.number, text(cell.code), cell.clock_s, cell.prefetch]


def _write_started(event: CellStarted, text: Write) -> Brief:
    return CELL, [event.node, event.at_s, *_write_cell(event.cell, text)]


def _write_executed(event: CellExecuted, text: Write) -> Brief | None:
    done = event.result
    if done.answer is not None or event.dropped:
        return None
    return EXECUTED, [
        event.node, event.at_s, _write_cell(event.cell, text), text(event.notice),
        done.end, text(done.stdout), text(done.stderr),
        done.echo and text(done.echo), done.error and text(done.error), done.traceback and text(done.traceback),
        [[text(each.name), text(each.type), each.size] for each in done.variables], [text(each) for each in done.notes],
        done.state_lost, done.killed, done.rebuilt, done.elapsed_s, done.waited_s, done.prefetched, done.prefetches_used,
    ]  # fmt: skip


TO_BRIEF: dict[type[AnyEvent], Callable[[Any, Write], Brief | None]] = {
    CallStarted: _write_begun,
    CallSent: lambda event, _: (LEFT, [event.node, event.at_s, event.call, event.attempt]),
    CallReplied: _write_answered,
    CellStarted: _write_started,
    CellExecuted: _write_executed,
}
"""Each gives None where an event has something that its short form cannot say. A node's turn has its own, ``turn_to_brief``."""


def _begun(run: RunId, fields: Fields, text: Read) -> CallStarted:
    node, at_s, call, depth, model, turn, cell, batch, key, prefetched, content, request_depth, most, temperature = (
        fields
    )
    request = Request((Message("user", text(content)),), "leaf", request_depth, most, temperature)
    return CallStarted(
        run=run,
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


def turn_from_brief(
    run: RunId, fields: Fields, text: Read, talk: Callable[[tuple[str, int] | None], tuple[Message, ...]]
) -> CallStarted:
    """``talk`` gives the messages that an earlier call had."""
    node, at_s, call, depth, model, turn, limit, prefetched, since, new, *rest = fields
    request_depth, most, temperature, stop, cache_key, shared_chars, question, *task = rest
    messages = (*talk(since), *(Message(role, text(content)) for role, content in new))
    request = Request(
        messages,
        "node",
        request_depth,
        most,
        temperature,
        stop=tuple(stop),
        cache_key=cache_key,
        shared_chars=shared_chars,
        task=Task(text(question), *task),
    )
    return CallStarted(
        run=run,
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


def _left(run: RunId, fields: Fields, text: Read) -> CallSent:
    node, at_s, call, attempt = fields
    return CallSent(run=run, node=NodeId(node), at_s=at_s, call=CallId(call), attempt=attempt)


def _answered(run: RunId, fields: Fields, text: Read) -> CallReplied:
    node, at_s, call, role, depth, model, cost_usd, elapsed_s, cached, said, reply_model, reply_cost, *used = fields
    return CallReplied(
        run=run,
        node=NodeId(node),
        at_s=at_s,
        call=CallId(call),
        role=role,
        depth=depth,
        model=model,
        reply=Reply(text(said), Usage(*used), reply_model, reply_cost),
        cost_usd=cost_usd,
        elapsed_s=elapsed_s,
        cached=cached,
    )


def _read_cell(fields: Fields, text: Read) -> Cell:
    turn, number, code, clock_s, prefetch = fields
    return Cell(turn, number, text(code), clock_s, prefetch)


def _cell(run: RunId, fields: Fields, text: Read) -> CellStarted:
    node, at_s, *cell = fields
    return CellStarted(run=run, node=NodeId(node), at_s=at_s, cell=_read_cell(cell, text))


def _executed(run: RunId, fields: Fields, text: Read) -> CellExecuted:
    node, at_s, cell, notice, end, stdout, stderr, echo, error, traceback, variables, notes, *rest = fields
    state_lost, killed, rebuilt, elapsed_s, waited_s, prefetched, prefetches_used = rest
    result = CellResult(
        end=end,
        stdout=text(stdout),
        stderr=text(stderr),
        echo=echo and text(echo),
        error=error and text(error),
        traceback=traceback and text(traceback),
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
    return CellExecuted(
        run=run, node=NodeId(node), at_s=at_s, cell=_read_cell(cell, text), result=result, notice=text(notice)
    )


FROM_BRIEF: dict[str, Callable[[RunId, Fields, Read], AnyEvent]] = {
    BEGUN: _begun,
    LEFT: _left,
    ANSWERED: _answered,
    CELL: _cell,
    EXECUTED: _executed,
}
