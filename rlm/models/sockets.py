"""Limits the sockets of model calls below the process's limit of descriptors. A call waits for a socket instead of failing.

Idle connections count as well, and are closed first. Each event loop has its own connections, and so its own share.
"""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from weakref import WeakKeyDictionary, WeakSet

import aiohttp

from rlm.descriptors import raise_limit, socket_capacity

RETRY_S = 0.05
MAX_RETRY_S = 1.0


class Connector(aiohttp.TCPConnector):
    """A connector whose idle connections can be closed at any time."""

    @property
    def idle(self) -> int:
        return sum(len(connections) for connections in self._conns.values())

    def close_idle(self, count: int) -> int:
        """Closes up to ``count`` idle connections, the oldest first. Returns the number of closed ones."""
        closed = 0
        for connections in self._conns.values():
            while connections and closed < count:
                protocol, _ = connections.popleft()
                protocol.close()
                closed += 1
        return closed


class SocketGate:
    """The sockets of one event loop. Take one with ``acquire`` for each request, and give it back with ``release``."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.connectors: WeakSet[Connector] = WeakSet()
        self._in_use = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def acquire(self) -> None:
        """Waits until a socket is free."""
        if not self.try_acquire():
            await self._wait()
            self._close_idle()

    def try_acquire(self) -> bool:
        """Takes a socket if one is free and no call waits."""
        if self._in_use >= self.capacity or self._waiting:
            return False
        self._in_use += 1
        if self._in_use * 2 > self.capacity:
            self._close_idle()
        return True

    def release(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)  # the socket changes hands, so the count stays
                return
        self._in_use -= 1

    def drop_all_idle(self) -> None:
        """Closes every idle connection, because the process has no descriptor left."""
        for connector in self.connectors:
            connector.close_idle(self.capacity)

    async def _wait(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.release()
            raise

    def _close_idle(self) -> None:
        surplus = self._in_use + sum(connector.idle for connector in self.connectors) - self.capacity
        for connector in self.connectors if surplus > 0 else ():
            surplus -= connector.close_idle(surplus)


_gates: WeakKeyDictionary[asyncio.AbstractEventLoop, SocketGate] = WeakKeyDictionary()


def gate() -> SocketGate:
    """The sockets of the running event loop."""
    loop = asyncio.get_running_loop()
    sockets = _gates.get(loop)
    if sockets is None:
        raise_limit()
        sockets = _gates[loop] = SocketGate(socket_capacity())
    return sockets


def is_out_of_descriptors(error: BaseException) -> bool:
    """True if a connection failed because this process, or the system, has no descriptor left."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    return isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE)
