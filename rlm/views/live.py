"""The live tree on a terminal: nodes with their cells and batches, calls, tokens, cost, elapsed time.

Drawn with rich at a fixed rate on a thread of its own, never higher than the terminal. All texts are drawn as plain ``Text``, so
that nothing that a model wrote acts as markup.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from rlm.core.events import AnyEvent
from rlm.views.escape import ascii_only, one_line, speaks_unicode
from rlm.views.feed import RunClock, ThreadedView
from rlm.views.formatting import describe_calls, describe_spend
from rlm.views.layout import Mark, Row, outline
from rlm.views.progress import Progress

REFRESH_S = 0.125
"""Eight frames a second: a spinner looks alive, and redrawing costs about two hundredths of one core."""

MAX_TREE_ROWS = 30
"""The height of the tree on tall terminals: readers cannot follow more rows."""

FOOTER_ROWS = 4
"""Two lines of totals, the cursor's line, and one to spare, so that the shell's prompt never scrolls the tree."""

_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_SPINNER_ASCII = "|/-\\"
_SIGNS: dict[Mark, tuple[str, str, str]] = {
    "running": ("", "", "cyan"),
    "done": ("✓", "+", "green"),
    "failed": ("✗", "x", "red"),
    "partial": ("◐", "~", "yellow"),
    "cancelled": ("■", "#", "yellow"),
    "more": ("…", ".", "dim"),
}


class LiveView(ThreadedView):
    """Shows a run on a terminal while its block is open. ``console`` is stderr by default.

    Example:
        with LiveView() as view:
            rlm.RLM(sinks=[view]).run(question, text)
    """

    def __init__(self, console: Console | None = None, refresh_s: float = REFRESH_S) -> None:
        super().__init__(refresh_s)
        self._console = console or Console(stderr=True)
        self._progress = Progress()
        self._clock = RunClock()
        self._live: Live | None = None

    def show(self, events: list[AnyEvent], *, last: bool) -> None:
        for event in events:
            self._clock.note(event)
            self._progress.add(event)
        if self._progress.started is None:
            return
        if self._live is None:
            self._live = Live(
                console=self._console,
                auto_refresh=False,
                redirect_stdout=False,
                get_renderable=self._draw,
                vertical_overflow="crop",
            )
            self._live.start(refresh=True)
        elif not last:
            self._live.refresh()
        if last:
            self._live.stop()

    def _draw(self) -> RenderableType:
        elapsed_s = self._progress.at_s if self._progress.finished else self._clock.now()
        width, height = self._console.size
        unicode = speaks_unicode(self._console.encoding)
        return draw(self._progress, max(elapsed_s, self._progress.at_s), width=width, height=height, unicode=unicode)


def draw(progress: Progress, elapsed_s: float, *, width: int, height: int, unicode: bool = True) -> RenderableType:
    """One frame of at most ``height`` lines, without wrapped lines."""
    spinner = _SPINNER if unicode else _SPINNER_ASCII
    tick = spinner[int(elapsed_s / REFRESH_S) % len(spinner)]
    root = outline(progress, elapsed_s, min(MAX_TREE_ROWS, max(1, height - FOOTER_ROWS)))
    lines = list(_tree_lines(root, tick, unicode)) if root else []
    totals = f"{describe_calls(progress, elapsed_s)}\n{describe_spend(progress.spend)}"
    if progress.limit:
        totals += f" · limit met: {one_line(progress.limit, 40)}"
    lines.extend(Text(line if unicode else ascii_only(line), style="bold") for line in totals.split("\n"))
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis" if unicode else "crop"
        line.truncate(width, overflow=line.overflow)
    return Group(*lines)


def _tree_lines(row: Row, tick: str, unicode: bool, lead: str = "", below: str = "") -> Iterator[Text]:
    sign, ascii_sign, style = _SIGNS[row.mark]
    line = Text(lead, style="dim")
    line.append((sign if unicode else ascii_sign) or tick, style=style)
    fit = str if unicode else ascii_only
    line.append(fit(f" {row.text}"), style="dim" if row.mark == "more" else "not dim")
    if row.detail:
        line.append(fit(f"  {row.detail}"), style="dim")
    yield line
    fork, last_fork, pipe = ("├─ ", "└─ ", "│  ") if unicode else ("|- ", "`- ", "|  ")
    for index, child in enumerate(row.children):
        at_end = index == len(row.children) - 1
        yield from _tree_lines(
            child, tick, unicode, below + (last_fork if at_end else fork), below + ("   " if at_end else pipe)
        )
