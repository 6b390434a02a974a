"""The tools of one run: opens their sources, knows which node has which, and closes the sources with the run."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

from rlm.core.errors import ConfigurationError
from rlm.core.events import AnyEvent, ToolStarted
from rlm.core.tools import MAX_TOOLS, ToolSpec
from rlm.log import get_logger
from rlm.ports import Tool, ToolSession, ToolSource

logger = get_logger(__name__)

CLOSE_S = 5.0  # for a source to end its processes and connections

AnyTool: TypeAlias = Tool | ToolSource


class RunTools:
    """The tools of one run. ``recorded`` are those of the run's record: a resumed run keeps their descriptions.

    ``replays``: nothing is opened, because every result is recorded. Depths of tools count from ``root_depth``.
    """

    def __init__(
        self,
        given: Sequence[AnyTool] = (),
        recorded: Sequence[ToolSpec] | None = None,
        *,
        replays: bool = False,
        root_depth: int = 0,
    ):
        self._given = given
        self._root_depth = root_depth
        self._recorded = recorded
        self._replays = replays
        self._sessions: list[ToolSession] = []
        self._tools: dict[str, Tool] = {}
        self.specs: tuple[ToolSpec, ...] = tuple(recorded or ())
        self.counts = Counter[str]()  # executions in this run, by tool

    async def open(self) -> None:
        """Opens all sources.

        Raises:
            ConfigurationError: two tools have one name, there are too many, or a recorded tool is missing.
            ToolSourceError: a source cannot be opened.
        """
        if self._replays or (not self._given and not self.specs):
            return
        tools: list[Tool] = []
        for item in self._given if self._recorded is None or self._recorded else ():
            if isinstance(item, ToolSource):
                session = await item.open()
                self._sessions.append(session)
                tools += session.tools
            else:
                tools.append(item)
        self._tools = _by_name(tools)
        if self._recorded is None:
            self.specs = tuple(tool.spec for tool in tools)
        elif missing := [spec.tool for spec in self._recorded if spec.tool not in self._tools]:
            raise ConfigurationError(
                f"This run has the tools {', '.join(missing)}, which were not given. Resume it with RLM(tools=[...]), "
                "or with --mcp for the tools of a server."
            )

    async def aclose(self) -> None:
        """Closes all sources. Never raises an error of a source."""
        sessions, self._sessions = self._sessions, []
        for session in sessions:
            try:
                async with asyncio.timeout(CLOSE_S):
                    await session.aclose()
            except Exception:
                logger.warning("the tools of a server could not be closed", exc_info=True)

    def restore(self, past: Sequence[AnyEvent]) -> None:
        """Counts the executions of an earlier process."""
        self.counts.update(event.tool for event in past if isinstance(event, ToolStarted))

    def find(self, name: str) -> Tool | None:
        """The implementation of a tool; None if this process does not have it."""
        return self._tools.get(name)

    def granted(self, depth: int) -> tuple[str, ...]:
        """The names of the tools that nodes of a depth have without a grant."""
        return tuple(spec.tool for spec in self.specs if spec.at_depth(depth - self._root_depth))

    def described(self, names: Sequence[str]) -> tuple[ToolSpec, ...]:
        """The descriptions of the named tools, in the order of the run's tools."""
        return tuple(spec for spec in self.specs if spec.tool in names)


def _by_name(tools: Sequence[Tool]) -> dict[str, Tool]:
    """Raises ConfigurationError for names that are used twice, and for too many tools."""
    if len(tools) > MAX_TOOLS:
        raise ConfigurationError(f"A run can have at most {MAX_TOOLS} tools; got {len(tools)}. Give fewer.")
    by_name: dict[str, Tool] = {}
    for tool in tools:
        name = tool.spec.tool
        for taken in (name, f"{name}_async", name.removesuffix("_async")):
            if taken in by_name:
                raise ConfigurationError(
                    f"`tools` has two functions for the name {name!r} (each tool also has NAME_async). "
                    "Rename one: rlm.tool(fn, name=...)."
                )
        by_name[name] = tool
    return by_name
