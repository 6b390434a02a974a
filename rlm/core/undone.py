"""Sub-calls that a limit or a stop refused or cut off, as far as nothing has made up for them: a fold over events.

A run with such sub-calls is not complete, in whichever process they were refused.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import field

from rlm.core.events import NodeFinished, SubcallEnded, Superseded
from rlm.core.ids import CallId, NodeId, SubcallPlace
from rlm.core.values import slotted

LAST_TURN = "iterations"
"""The limit whose last turn forbids sub-calls by design: they leave nothing undone."""


@slotted
class _Undone:
    """The undone sub-calls of one node, each with the limit. ``by_key`` can name calls that are no longer undone.

    ``answered_early`` is the limit that made a child answer in a last turn.
    """

    answered_early: str | None = None
    limits: dict[CallId, str] = field(default_factory=dict)
    by_key: defaultdict[str, list[CallId]] = field(default_factory=lambda: defaultdict(list))


class UndoneSubcalls:
    """The undone sub-calls of a run, by node."""

    def __init__(self) -> None:
        self._nodes: dict[NodeId, _Undone] = {}

    @property
    def limit(self) -> str | None:
        """The limit that left a sub-call undone; None if there is none."""
        undone = next(iter(self._nodes.values()), None)
        return None if undone is None else undone.answered_early or next(iter(undone.limits.values()))

    def is_below(self, node: NodeId) -> bool:
        """True if sub-calls of a node, or of nodes below it, are undone."""
        return any(_is_at_or_below(other, node) for other in self._nodes)

    def first_turn(self, node: NodeId) -> int | None:
        """The first turn of a node with undone sub-calls of its own."""
        undone = self._nodes.get(node)
        return None if undone is None else min((SubcallPlace.parse(call).turn for call in undone.limits), default=None)

    def note_ended(self, event: SubcallEnded) -> None:
        """Notes the end of a sub-call that its cell has asked for."""
        self._remove(event.node, event.call)
        limit = None if event.failure is None else event.failure.limit
        if limit and limit != LAST_TURN:
            undone = self._nodes.setdefault(event.node, _Undone())
            undone.limits[event.call] = limit
            undone.by_key[event.key].append(event.call)

    def note_child(self, event: NodeFinished) -> None:
        """Notes the end of a child.

        One that a limit made answer early has left its further turns undone. A cancelled one leaves nothing undone: its cell
        ended without its answer, or was refused it.
        """
        if event.status == "cancelled":
            self.drop_node(event.node)
        elif event.limit and event.limit != LAST_TURN and event.status == "partial":
            self._nodes.setdefault(event.node, _Undone()).answered_early = event.limit

    def note_answer(self, node: NodeId, key: str) -> None:
        """Notes an answer. It makes up for one sub-call of the same content that its node asked for earlier."""
        undone = self._nodes.get(node)
        calls = None if undone is None else undone.by_key.get(key)
        while calls:
            call = calls.pop()
            if undone is not None and call in undone.limits:
                self._remove(node, call)
                return

    def drop(self, event: Superseded) -> None:
        """Drops the sub-calls that are superseded, and those of nodes below them."""
        undone = self._nodes.get(event.node)
        if undone is not None and (event.cells or event.from_turn is not None):
            cells, turn = frozenset(event.cells), event.from_turn
            if turn is not None:
                undone.answered_early = None
                self._discard(event.node, undone)
            for call in list(undone.limits):
                place = SubcallPlace.parse(call)
                if (place.turn, place.cell) in cells or (turn is not None and place.turn > turn):
                    self._remove(event.node, call)
        for call in event.calls:
            self._remove(event.node, call)
            self.drop_node(NodeId(call))

    def accept(self, goes_on_from: Callable[[SubcallPlace], bool]) -> None:
        """Drops the sub-calls of cells whose nodes have gone on. Their models know that they can ask again."""
        for node, undone in list(self._nodes.items()):
            if undone.answered_early and goes_on_from(SubcallPlace.parse(node)):
                undone.answered_early = None
                self._discard(node, undone)
            for call in list(undone.limits):
                if goes_on_from(SubcallPlace.parse(call)):
                    self._remove(node, call)

    def drop_node(self, node: NodeId) -> None:
        """Drops the sub-calls of a node and of nodes below it."""
        for other in [other for other in self._nodes if _is_at_or_below(other, node)]:
            del self._nodes[other]

    def _remove(self, node: NodeId, call: CallId) -> None:
        undone = self._nodes.get(node)
        if undone is not None and undone.limits.pop(call, None) is not None:
            self._discard(node, undone)

    def _discard(self, node: NodeId, undone: _Undone) -> None:
        if not (undone.limits or undone.answered_early):
            self._nodes.pop(node, None)


def _is_at_or_below(node: NodeId, ancestor: NodeId) -> bool:
    return node == ancestor or node.startswith(f"{ancestor}/")
