"""Chooses the part of a run that fits on the screen, as a tree of rows.

Pure. What runs now stays visible; what has ended is summed up in one row. It knows nothing of colours or of rich.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from rlm.core.values import frozen
from rlm.views.escape import one_line
from rlm.views.formatting import (
    describe_cell,
    describe_earlier_cells,
    describe_earlier_groups,
    describe_group,
    describe_more_nodes,
    describe_node,
    describe_subcalls,
    describe_task,
    format_seconds,
)
from rlm.views.progress import Progress
from rlm.views.state import CellProgress, NodeProgress, SubcallGroup

Mark: TypeAlias = Literal["running", "done", "failed", "partial", "cancelled", "more"]


@frozen
class Row:
    """One row with the rows below it. ``detail`` can be drawn dim beside ``text``."""

    mark: Mark
    text: str
    detail: str = ""
    children: tuple[Row, ...] = ()

    @property
    def height(self) -> int:
        return 1 + sum(child.height for child in self.children)


def outline(progress: Progress, elapsed_s: float, max_rows: int) -> Row | None:
    """The tree of a run in at most ``max_rows`` rows; None before its root has started."""
    if progress.root is None:
        return None
    return _node_row(progress.root, max(1, max_rows), elapsed_s)


def _node_row(node: NodeProgress, rows: int, now_s: float) -> Row:
    cells = _cell_rows(node.cells, rows - 1, now_s) if rows > 1 else ()
    return Row(_node_mark(node), describe_node(node, now_s), describe_task(node), cells)


def _node_mark(node: NodeProgress) -> Mark:
    match node.status:
        case None:
            return "running"
        case "complete":
            return "done"
        case _:
            return node.status


def _cell_rows(cells: Sequence[CellProgress], rows: int, now_s: float) -> tuple[Row, ...]:
    """The latest cell at length, earlier ones in one row each, the oldest in one row together."""
    if not cells or rows < 1:
        return ()
    earlier, latest = cells[:-1], cells[-1]
    room = min(len(earlier), max(rows - _wanted_rows(latest), rows // 3), rows - 1)
    cut = len(earlier) - room
    head: list[Row] = []
    if cut and room:
        cut += 1
        head.append(Row("more", describe_earlier_cells(earlier[:cut])))
    head.extend(_cell_row(cell, 1, now_s) for cell in earlier[cut:] if room)
    return (*head, _cell_row(latest, rows - len(head), now_s))


def _wanted_rows(cell: CellProgress) -> int:
    return 1 + sum(1 + len(group.children) for group in cell.groups.values())


def _cell_row(cell: CellProgress, rows: int, now_s: float) -> Row:
    mark: Mark = "running" if cell.end is None else "done" if cell.end == "ok" else "failed"
    text = describe_cell(cell)
    if cell.end is None:
        text = f"{text}, {format_seconds(now_s - cell.started_s)}"
    groups = list(cell.groups.values())
    if rows == 1 and groups:
        text = f"{text}; {describe_subcalls(cell.tally)}"
    return Row(mark, text, one_line(cell.code, 160), _group_rows(groups, rows - 1, now_s))


def _group_rows(groups: Sequence[SubcallGroup], rows: int, now_s: float) -> tuple[Row, ...]:
    if not groups or rows < 1:
        return ()
    cut = max(0, len(groups) - rows)
    head: list[Row] = []
    if cut:
        cut += 1
        head.append(Row("more", describe_earlier_groups(groups[:cut])))
    shown = groups[cut:]
    spare = rows - len(head) - len(shown)
    for group in shown:
        row = _group_row(group, 1 + spare, now_s)
        spare -= row.height - 1
        head.append(row)
    return tuple(head)


def _group_row(group: SubcallGroup, rows: int, now_s: float) -> Row:
    mark: Mark = "running" if group.tally.open else "failed" if group.tally.failed else "done"
    return Row(mark, describe_group(group), "", _child_rows(group.children, rows - 1, now_s))


def _child_rows(children: Sequence[NodeProgress], rows: int, now_s: float) -> tuple[Row, ...]:
    """Running children before ended ones; a last row counts the rest."""
    if not children or rows < 1:
        return ()
    running = [node for node in children if node.status is None]
    chosen = running if len(running) >= rows else [*running, *(node for node in children if node.status is not None)]
    fits = rows if len(children) <= rows else rows - 1
    picked = {id(node) for node in chosen[:fits]}
    shown = [node for node in children if id(node) in picked]
    spare = rows - len(shown) - (len(children) > fits)
    child_rows: list[Row] = []
    for index, node in enumerate(shown):
        # The rows that one child leaves unused go to those after it.
        share = spare // (len(shown) - index)
        row = _node_row(node, 1 + share, now_s)
        spare -= row.height - 1
        child_rows.append(row)
    if len(children) > fits:
        child_rows.append(Row("more", describe_more_nodes([node for node in children if id(node) not in picked])))
    return tuple(child_rows)
