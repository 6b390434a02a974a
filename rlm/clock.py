"""The real time, behind the ``Clock`` port. ``rlm.testing.clock`` has the one that tests own."""

from __future__ import annotations

import asyncio
import time


class MonotonicClock:
    """Seconds since an arbitrary start; never goes back."""

    def now(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
