"""Whether this machine has room for one more REPL: by the memory that is free now, not by the sum of all limits.

REPLs of 3 MB each have limits of gigabytes, so a sum of limits would let a dozen run where thousands fit. What those that are
open may still take is no concern here: ``pressure`` ends the largest before the machine has none left. And a REPL that waits
for another to end may be the parent of the one that waits: so the wait is bounded, and ends in an error that says what to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rlm.core.errors import SandboxUnavailableError
from rlm.sandbox.memory.meter import Memory

# What must be left for the host and everything else, a share of the machine between two bounds. With less the system is busy
# reading back the programs that it dropped, and ends processes before it says that nothing is free (seen with 2 GB).
SHARE = 0.05
LEAST_MB, MOST_MB = 256, 768
WAIT_S = 30.0
POLL_S = 0.1


def reserve_mb(memory: Memory) -> int:
    """Where less is free, REPLs are ended (``pressure``)."""
    return int(min(MOST_MB, max(LEAST_MB, memory.total * SHARE)))


def floor_mb(memory: Memory) -> int:
    """Where less is free, no REPL is opened: a distance from the reserve, so that none is ended as soon as it is there."""
    return reserve_mb(memory) * 3 // 2


class Admission:
    """Lets REPLs open while there is memory, and holds the next one back while there is not."""

    def __init__(self, read: Callable[[], Memory | None]) -> None:
        self._read = read

    async def wait_for_room(self) -> None:
        """Returns when there is room for one more REPL.

        Raises:
            SandboxUnavailableError: there was none for ``WAIT_S`` seconds.
        """
        loop = asyncio.get_running_loop()
        gives_up_at = loop.time() + WAIT_S
        while (memory := self._read()) is not None and memory.free < (floor := floor_mb(memory)):
            if loop.time() >= gives_up_at:
                raise SandboxUnavailableError(
                    f"only {memory.free} MiB of memory are free on this machine, and a REPL is opened where at least {floor} "
                    "are. Run fewer nodes at once, or give cells less memory with memory_mb."
                )
            await asyncio.sleep(POLL_S)
