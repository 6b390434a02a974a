"""Limits of one validation, and the threads for long ones. Loads without the validator, which most runs do not need."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple
from weakref import WeakKeyDictionary

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

MOST_THREADS = 2  # more would keep the interpreter's lock from the event loop
INLINE_STEPS = 5_000  # 5 to 10 ms on the event loop
STEPS_PER_PART = 200  # of a value, beyond a fixed allowance


class TooManySteps(Exception):
    """Validation exceeded its limit of steps."""


_gates: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


async def beside_loop(work: Callable[[*Ts], T], *arguments: *Ts) -> T:
    """Runs a check in a thread. Further checks wait while ``MOST_THREADS`` of them run."""
    gate = _gates.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(MOST_THREADS))
    async with gate:
        return await asyncio.to_thread(work, *arguments)
