"""Reads runs of older versions as this version records them.

Older versions had no ``Superseded`` event: each reader inferred what was superseded. Here the events are added, by the decisions
that the engine takes today. A record that has them gains none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from rlm.core.events import (
    AnyEvent,
    CallStarted,
    CellExecuted,
    CellStarted,
    NodeFinished,
    NodeStarted,
    RunReopened,
    RunResumed,
)
from rlm.core.history import History
from rlm.core.ids import CallId, SubcallPlace
from rlm.core.superseding import (
    SupersededWork,
    superseded_by_call,
    superseded_by_cell,
    superseded_by_reopening,
    superseded_by_reply,
    superseded_by_summary,
    superseded_by_turn,
)
from rlm.core.values import frozen


@frozen(kw_only=True)
class OldReopened(RunReopened):
    """``told`` was the notice, whether or not the root could be shown it."""

    told: str


@frozen(kw_only=True)
class OldExecuted(CellExecuted):
    """``dropped`` were the numbers of sub-calls that the cell no longer made when it was executed again."""

    dropped: tuple[int, ...]


OLD_KINDS: Mapping[str, tuple[str, type[AnyEvent]]] = MappingProxyType(
    {
        "RunReopened": ("told", OldReopened),
        "CellExecuted": ("dropped", OldExecuted),
    }
)
"""Kinds whose older form is known by a field that they no longer have."""


def upgrade(events: list[AnyEvent]) -> list[AnyEvent]:
    """The same record with the ``Superseded`` events that an older version left out."""
    return list(_upgraded(events)) if _can_supersede(events) else events


def _can_supersede(events: Sequence[AnyEvent]) -> bool:
    """Work is superseded after a resume, or if a call is asked again."""
    started = set[CallId]()
    for event in events:
        if isinstance(event, RunResumed | OldExecuted):
            return True
        if isinstance(event, CallStarted):
            if event.call in started:
                return True
            started.add(event.call)
    return False


def _upgraded(events: Sequence[AnyEvent]) -> Iterator[AnyEvent]:
    history = History()
    for event in events:
        shows_notice = isinstance(event, OldReopened) and superseded_by_reopening(history).shows_notice
        for work in _superseded_by(history, event):
            if work:
                superseded = work.as_event(event.run, event.at_s)
                history.note(superseded)
                yield superseded
        current = _in_current_form(event, shows_notice)
        history.note(current)
        yield current


def _superseded_by(history: History, event: AnyEvent) -> Iterator[SupersededWork]:
    match event:
        case CallStarted(cell=None, role="node"):
            yield superseded_by_reply(history, event.node, event.turn)
            yield superseded_by_turn(history, event.node, event.turn)
        case CallStarted(cell=None):
            yield superseded_by_summary(history, event.node, event.turn)
        case CallStarted():
            yield superseded_by_call(history, SubcallPlace.parse(event.call))
        case NodeStarted() if event.parent is not None:
            yield superseded_by_call(history, SubcallPlace.parse(event.node))
        case CellStarted():
            yield superseded_by_cell(history, event.node, event.cell.place)
        case OldExecuted(dropped=numbers):
            paths = (SubcallPlace(event.node, *event.cell.place, number).path for number in numbers)
            yield SupersededWork(event.node, calls=tuple(map(CallId, paths)))
        case NodeFinished(status="complete" | "partial"):
            yield superseded_by_reply(history, event.node)
        case OldReopened():
            yield from superseded_by_reopening(history).works
        case _:
            pass


def _in_current_form(event: AnyEvent, shows_notice: bool) -> AnyEvent:
    match event:
        case OldExecuted():
            return CellExecuted(
                run=event.run,
                node=event.node,
                at_s=event.at_s,
                seq=event.seq,
                cell=event.cell,
                result=event.result,
                notice=event.notice,
            )
        case OldReopened():
            notice = event.told if shows_notice else None
            return RunReopened(run=event.run, node=event.node, at_s=event.at_s, seq=event.seq, notice=notice)
        case _:
            return event
