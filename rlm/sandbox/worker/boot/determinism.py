"""Deterministic clock and randomness for cells, so that a cell executed again makes the same sub-calls.

A cell can be executed again in another process after its host was killed. Its clock starts at a time given by the host. It
advances only by reproducible steps: the time that answers took, sleeps, and a little at every reading. Computing takes no
time on it. All randomness comes from one seed. Only code of cells sees this clock, together with those standard modules that
read it on behalf of the cell or record the time. Other libraries and timeouts use real time.
"""

from __future__ import annotations

import asyncio
import builtins
import concurrent.futures.thread
import ctypes
import datetime as dt
import functools
import gc
import logging
import os
import random
import sys
import time
import uuid
from collections.abc import Callable, Coroutine
from typing import Any

TICK_NS = 1_000  # step of each reading, so that a loop that waits for a time ends
_SECOND_NS = 1_000_000_000
_ID_STEP = 16  # the least distance between addresses of objects
# Files of calling frames that see the cell's clock. "<string>" is the file of generated code, as by dataclasses and exec.
_SEEN_BY = ("<cell ", "<string>", uuid.__file__, logging.__file__, concurrent.futures.thread.__file__)

real_sleep, _real_async_sleep = time.sleep, asyncio.sleep


class CellClock:
    """Nanoseconds since 1970 as a cell sees them. 0 before the host has set it, which selects real time."""

    def __init__(self) -> None:
        self.now_ns = 0

    def start(self, at_s: float) -> None:
        """Starts a cell's time. The clock never goes back."""
        self.now_ns = max(self.now_ns, int(at_s * _SECOND_NS)) if at_s else 0

    def tick(self) -> int:
        self.now_ns += TICK_NS
        return self.now_ns

    def advance_to(self, ns: int) -> None:
        self.now_ns = max(self.now_ns, ns)

    def advance_since(self, start_ns: int, seconds: float) -> None:
        """Advances to ``seconds`` after ``start_ns``. Operations that overlap in time do not add up."""
        if start_ns:
            self.advance_to(start_ns + int(seconds * _SECOND_NS))


cell_clock = CellClock()


def install(seed: str) -> None:
    """Derives all randomness in this process from ``seed``. The host starts the clock later."""
    prepare()
    source = random.Random(f"bytes {seed}")
    _install_seeds(source)
    random.seed(f"random {seed}")
    os.urandom = random._urandom = source.randbytes  # type: ignore[attr-defined]
    if hasattr(os, "getrandom"):
        os.getrandom = lambda size, flags=0: source.randbytes(size)
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed(random.Random(f"numpy {seed}").getrandbits(32))
    uuid._generate_time_safe = None  # type: ignore[attr-defined]
    uuid.getnode = lambda: 0x020000000000 | source.getrandbits(40)


def _install_seeds(source: random.Random) -> None:
    """Seeds generators from ``source`` if they are given no seed, instead of from the system."""
    real = random.Random.seed

    def seed(self: random.Random, a: Any = None, version: int = 2) -> None:
        real(self, source.getrandbits(256) if a is None else a, version)

    random.Random.seed = seed  # type: ignore[method-assign]
    random.seed = random._inst.seed


@functools.cache
def prepare() -> None:
    """Installs the clock. A zygote does this once for all its REPLs, because each would otherwise write to shared pages."""
    _install_clock()
    _install_sleep()
    _install_dates()
    builtins.id = _deterministic_id()


def _in_cell() -> bool:
    """True if the caller of the calling function is code of a cell."""
    return bool(cell_clock.now_ns) and sys._getframe(2).f_code.co_filename.startswith(_SEEN_BY)


def _install_clock() -> None:
    for name in ("time", "monotonic", "perf_counter", "process_time", "thread_time"):
        for suffix, unit in (("", _SECOND_NS), ("_ns", 0)):
            if hasattr(time, name + suffix):
                setattr(time, name + suffix, _deterministic_clock(getattr(time, name + suffix), unit))
    if hasattr(time, "clock_gettime"):
        time.clock_gettime = _deterministic_clock(time.clock_gettime, _SECOND_NS)
        time.clock_gettime_ns = _deterministic_clock(time.clock_gettime_ns, 0)
    for name in ("localtime", "gmtime", "ctime"):
        setattr(time, name, _deterministic_view(getattr(time, name)))
    asctime, strftime, localtime = time.asctime, time.strftime, time.localtime

    def now(in_cell: bool) -> Any:
        return localtime(cell_clock.tick() // _SECOND_NS) if in_cell else localtime()

    def cell_asctime(t: Any = None) -> str:
        return asctime(now(_in_cell()) if t is None else t)

    def cell_strftime(form: str, t: Any = None) -> str:
        return strftime(form, now(_in_cell()) if t is None else t)

    time.asctime, time.strftime = cell_asctime, cell_strftime


def _deterministic_clock(real: Callable[..., Any], unit: int) -> Callable[..., Any]:
    def clock(*which: int) -> Any:
        if not _in_cell():
            return real(*which)
        return cell_clock.tick() / unit if unit else cell_clock.tick()

    clock.__name__ = real.__name__
    return clock


def _deterministic_view(real: Callable[..., Any]) -> Callable[..., Any]:
    def view(seconds: float | None = None) -> Any:
        if seconds is None and _in_cell():
            seconds = cell_clock.tick() // _SECOND_NS
        return real(seconds)

    view.__name__ = real.__name__
    return view


def _install_sleep() -> None:
    def sleep(seconds: Any, /) -> None:
        started_ns = cell_clock.now_ns
        real_sleep(seconds)
        cell_clock.advance_since(started_ns, seconds)

    async def async_sleep(delay: float, result: Any = None) -> Any:
        started_ns = cell_clock.now_ns
        await _real_async_sleep(delay)
        cell_clock.advance_since(started_ns, delay)
        return result

    time.sleep = sleep
    coroutine: Callable[..., Coroutine[Any, Any, Any]] = async_sleep
    asyncio.sleep = coroutine


def _install_dates() -> None:
    """Patches the types themselves, because a subclass would not equal those that libraries have imported already."""

    def seconds() -> float:
        return cell_clock.tick() / _SECOND_NS

    real_now, real_utcnow, real_today = (
        vars(dt.datetime)["now"],
        vars(dt.datetime)["utcnow"],
        vars(dt.date)["today"],
    )

    def deterministic(real: Any, make: Callable[[Any, Any], Any]) -> Any:
        def method(cls: Any, tz: Any = None) -> Any:
            if _in_cell():
                return make(cls, tz)
            return real.__get__(None, cls)(*(() if tz is None else (tz,)))

        return classmethod(method)

    _put(dt.datetime, "now", deterministic(real_now, lambda cls, tz: cls.fromtimestamp(seconds(), tz)))
    _put(dt.datetime, "utcnow", deterministic(real_utcnow, lambda cls, _: cls.utcfromtimestamp(seconds())))
    _put(dt.datetime, "today", deterministic(real_today, lambda cls, _: cls.fromtimestamp(seconds())))
    _put(dt.date, "today", deterministic(real_today, lambda cls, _: cls.fromtimestamp(seconds())))


def _put(cls: type, name: str, value: Any) -> None:
    """Sets an attribute of a type written in C. The garbage collector gives access to the dict behind its read-only view."""
    gc.get_referents(vars(cls))[0][name] = value
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(cls))


def _deterministic_id() -> Callable[[object], int]:
    """Replaces addresses with numbers in the order of first use. They are as unique among living objects as addresses."""
    real, seen = builtins.id, dict[int, int]()

    def cell_id(thing: object, /) -> int:
        address = real(thing)
        if not _in_cell():
            return address
        return seen.setdefault(address, (len(seen) + 1) * _ID_STEP)

    cell_id.__name__ = "id"
    return cell_id
