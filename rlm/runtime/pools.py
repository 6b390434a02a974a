"""The usage of shared budgets in this process: one account for each budget, whichever object of ``RLM`` uses it."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from weakref import WeakKeyDictionary

from rlm.core.pool import BudgetPool, MemoryPool, Pool
from rlm.runtime.loop import BACKGROUND
from rlm.store.shared_budget import FilePool


class Pools:
    """The open accounts. Those in files are found by path, name and limits, the others belong to their budget object."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_memory: WeakKeyDictionary[BudgetPool, MemoryPool] = WeakKeyDictionary()
        self._in_files: dict[tuple[object, ...], FilePool] = {}

    def open(self, spec: BudgetPool) -> Pool:
        """The account of a shared budget.

        Raises:
            StoreError: its file cannot be used.
        """
        with self._lock:
            if spec.path is None:
                pool = self._in_memory.get(spec)
                if pool is None:
                    pool = self._in_memory[spec] = MemoryPool(spec, _loop_time)
                return pool
            place = os.path.realpath(Path(spec.path).expanduser())
            key = (place, spec.name, spec.usd, spec.tokens, spec.calls, spec.per_s)
            if key not in self._in_files:
                named = BudgetPool(spec.usd, spec.tokens, spec.calls, spec.per_s, spec.name, place)
                self._in_files[key] = FilePool(named)
            return self._in_files[key]

    async def aclose(self) -> None:
        """Closes all files at the end of the process."""
        with self._lock:
            pools, self._in_files = list(self._in_files.values()), {}
        for pool in pools:
            pool.close()


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


POOLS = Pools()
BACKGROUND.at_end(POOLS.aclose)
