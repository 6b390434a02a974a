"""The pool of shared contexts: decides which values are shared, and shares each text only once."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections import deque

from rlm.core.cells import PlainValue
from rlm.core.file_bytes import FileBytes
from rlm.core.sizes import exceeds
from rlm.sandbox.shared_memory import Header, SharedContext, can_share, is_file, share_context
from rlm.sandbox.text_files import TextFiles

MIN_SHARED_BYTES = 64 * 1024
"""Size below which sending a copy over the socket is faster than a memory file."""
MAX_RETAINED_BYTES = 256 * 1024 * 1024
"""Total size of the recent texts that stay in memory for the next REPL."""
MAX_RETAINED = 16
"""Number of those texts. Each holds a descriptor, so many small ones would use up the process's."""


class ContextPool:
    """Shares large contexts, and each text only once: the children of a tree often receive the same one."""

    def __init__(self) -> None:
        self._alive: weakref.WeakValueDictionary[int, SharedContext] = weakref.WeakValueDictionary()
        self._recent: deque[SharedContext] = deque()
        self._sharing = asyncio.Lock()
        self._files = TextFiles()

    async def share(self, value: PlainValue) -> SharedContext | None:
        """Shares a large value. Returns None for a small one, which a message carries as well.

        Raises:
            ContextError: as ``share_context``.
        """
        if isinstance(value, SharedContext):
            return value
        if isinstance(value, FileBytes):
            return SharedContext(os.dup(value.descriptor), Header("plain", value.size, length=value.size, kind="b"))
        if is_file(value):
            return await asyncio.to_thread(self._files.open, value)
        if not can_share() or not exceeds(value, MIN_SHARED_BYTES):
            return None
        if type(value) is not str:  # it can change between two uses
            return await asyncio.to_thread(share_context, value)
        async with self._sharing:
            shared = self._alive.get(id(value))
            if shared is None:
                shared = await asyncio.to_thread(share_context, value)
                shared.source = value
                self._alive[id(value)] = shared
            self._retain(shared)
        return shared

    def _retain(self, shared: SharedContext) -> None:
        """Retains a context for the next REPL that receives the same text, when no present REPL holds it any more."""
        if shared in self._recent:
            self._recent.remove(shared)
        self._recent.append(shared)
        while (
            len(self._recent) > MAX_RETAINED
            or sum(context.memory_bytes for context in self._recent) > MAX_RETAINED_BYTES
        ):
            self._recent.popleft()
