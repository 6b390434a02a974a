"""Emits ``Superseded`` before new work takes the place of recorded work. ``core/superseding.py`` decides what the events name."""

from __future__ import annotations

from rlm.core.cells import Cell
from rlm.core.events import Superseded
from rlm.core.history import History
from rlm.core.ids import NodeId, SubcallPlace
from rlm.core.superseding import (
    SupersededWork,
    superseded_by_call,
    superseded_by_cell,
    superseded_by_reopening,
    superseded_by_reply,
    superseded_by_summary,
    superseded_by_turn,
)
from rlm.engine.recorder import Recorder


class Superseding:
    """The superseded work of one run. ``history`` is None in a replay, which supersedes nothing."""

    def __init__(self, history: History | None, recorder: Recorder) -> None:
        self._history = history
        self._recorder = recorder

    def ask_turn(self, node: NodeId, turn: int) -> None:
        """To be called before a turn is asked for."""
        if self._history is not None:
            self._emit(superseded_by_turn(self._history, node, turn))

    def settle_reply(self, node: NodeId, before_turn: int | None = None) -> None:
        """To be called when the replies before this turn have run their cells. None stands for all replies."""
        if self._history is not None:
            self._emit(superseded_by_reply(self._history, node, before_turn))

    def summarise(self, node: NodeId, turn: int) -> None:
        """To be called before a summary is asked for."""
        if self._history is not None:
            self._emit(superseded_by_summary(self._history, node, turn))

    def start_cell(self, node: NodeId, cell: Cell) -> None:
        """To be called before a cell that is not recorded starts."""
        if self._history is not None:
            self._emit(superseded_by_cell(self._history, node, cell.place))

    def ask_subcall(self, place: SubcallPlace) -> None:
        """To be called before a recorded sub-call is asked again."""
        if self._history is not None:
            self._emit(superseded_by_call(self._history, place))

    def drop_subcalls(self, work: SupersededWork) -> None:
        """To be called when a cell that was executed again no longer made some of its sub-calls."""
        if self._history is not None:
            self._emit(work)

    def reopen(self) -> bool:
        """To be called when a run is resumed with larger limits. Whether its root can be shown a notice about them."""
        if self._history is None:
            return False
        reopening = superseded_by_reopening(self._history)
        for work in reopening.works:
            self._emit(work)
        return reopening.shows_notice

    def _emit(self, work: SupersededWork) -> None:
        if work:
            self._recorder.emit(
                Superseded,
                work.node,
                from_turn=work.from_turn,
                cells=work.cells,
                calls=work.calls,
                results=work.results,
            )
