"""Whether this machine has room for one more REPL: by the memory that is free now, not by the sum of all limits.

REPLs of 3 MB each have limits of gigabytes, so a sum of limits would let a dozen run where thousands fit. And a REPL that waits
for another to end may be the parent of the one that waits: so the wait is bounded, and ends in an error that says what to do.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rlm.core.errors import SandboxUnavailableError
from rlm.ports import Clock

MEMINFO = Path("/proc/meminfo")
FLOOR_MB = 256  # what must be left for the host and everything else on the machine
WAIT_S = 30.0
POLL_S = 0.1


def available_mb() -> int | None:
    """Memory that could be used without swapping, in MiB; None where the system does not tell (macOS)."""
    try:
        lines = MEMINFO.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("MemAvailable:")), None)


class Admission:
    """Lets REPLs open while there is memory, and holds the next one back while there is not."""

    def __init__(self, clock: Clock, available: Callable[[], int | None] = available_mb) -> None:
        self._clock = clock
        self._available = available

    async def enter(self) -> None:
        """Returns when there is room for one more REPL.

        Raises:
            SandboxUnavailableError: there was none for ``WAIT_S`` seconds.
        """
        gives_up_at = self._clock.now() + WAIT_S
        while (free := self._available()) is not None and free < FLOOR_MB:
            if self._clock.now() >= gives_up_at:
                raise SandboxUnavailableError(
                    f"only {free} MiB of memory are free on this machine, and a REPL is opened where at least {FLOOR_MB} are. "
                    "Run fewer nodes at once, or give cells less memory with memory_mb."
                )
            await self._clock.sleep(POLL_S)
