"""Admission of new REPLs by the memory that is free now, not by the sum of all limits.

A REPL of 3 MB has a limit of gigabytes, so a sum of limits would admit a dozen on a machine that fits thousands. The growth
of open REPLs is not considered here: ``eviction`` ends the largest before the machine runs out of memory. A waiting REPL can
be the child of the one whose end it waits for. So the wait is bounded, and ends in an error with a remedy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rlm.core.errors import SandboxUnavailableError
from rlm.descriptors import are_scarce
from rlm.sandbox.memory.meter import Memory

# Memory left for the host and everything beside it: a share of the machine between two bounds. With less, the system is
# busy reading back program pages that it dropped. It kills processes before it reports no free memory (seen with 2 GB).
SHARE = 0.05
LEAST_MB, MOST_MB = 256, 768
WAIT_S = 30.0
POLL_S = 0.1
DESCRIPTORS = 16  # socket, process, input and fork gate of a REPL, with some left for files


def reserve_mb(memory: Memory) -> int:
    """Free memory below which REPLs are evicted."""
    return int(min(MOST_MB, max(LEAST_MB, memory.total * SHARE)))


def floor_mb(memory: Memory) -> int:
    """Free memory below which no REPL is opened. It exceeds the reserve, so that a new REPL is not evicted at once."""
    return reserve_mb(memory) * 3 // 2


class Admission:
    """Delays new REPLs while memory is short."""

    def __init__(self, read: Callable[[], Memory | None]) -> None:
        self._read = read

    async def wait_for_room(self) -> None:
        """Waits until there is memory for one more REPL, and file descriptors.

        Raises:
            SandboxUnavailableError: one of them stayed short for ``WAIT_S`` seconds.
        """
        loop = asyncio.get_running_loop()
        gives_up_at = loop.time() + WAIT_S
        while are_scarce(DESCRIPTORS):
            if loop.time() >= gives_up_at:
                raise SandboxUnavailableError(
                    f"this process has almost no file descriptors left; a REPL needs up to {DESCRIPTORS}. "
                    "Raise the limit (ulimit -n), or run fewer nodes at once."
                )
            await asyncio.sleep(POLL_S)
        while (memory := self._read()) is not None and memory.free < (floor := floor_mb(memory)):
            if loop.time() >= gives_up_at:
                raise SandboxUnavailableError(
                    f"only {memory.free} MiB of memory are free on this machine; a REPL needs at least {floor} MiB. "
                    "Run fewer nodes at once, or give cells less memory with memory_mb."
                )
            await asyncio.sleep(POLL_S)
