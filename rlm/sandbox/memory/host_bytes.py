"""Memory of the host that the sub-calls of REPLs use, charged to their runs.

A prompt leaves the memory of its REPL when the host reads it. Without a limit, one REPL of 512 MB fills the host with prompts
that wait for their models. So each run has an account. A REPL of a run over its limit is not read until the run has room
again. Other runs have accounts of their own.

A REPL without open sub-calls is always read, because other REPLs of its run can wait for its answer. So the limits can be
exceeded by one message for each REPL.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable

from rlm.sandbox.memory.meter import Memory

COPIES = 3  # of a prompt while its call is open: as text, in the request, and as bytes on their way
SHARE = 1 / 16  # of the machine's memory, for all runs together
LEAST_BYTES, MOST_BYTES = 256 * 1024 * 1024, 2 * 1024 * 1024 * 1024
RECEIVERS = 2  # large messages that one run receives at the same time


def choose_limit(memory: Memory | None) -> int:
    """The limit for all runs together."""
    if memory is None:
        return LEAST_BYTES
    return int(min(MOST_BYTES, max(LEAST_BYTES, memory.total * 1024 * 1024 * SHARE)))


class HostBytes:
    """Accounts of all runs. ``limit_bytes`` is for all together; one run gets half of it at most."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._accounts: weakref.WeakValueDictionary[str, RunBytes] = weakref.WeakValueDictionary()

    def account(self, run: str) -> RunBytes:
        """The account of a run, shared by its REPLs."""
        account = self._accounts.get(run)
        if account is None:
            account = self._accounts[run] = RunBytes(self)
        return account

    def fair_bytes(self) -> int:
        """Bytes that a run can use even if all runs together are at the limit."""
        active = sum(account.used_bytes > 0 for account in self._accounts.values())
        return self.limit_bytes // max(2, active)

    def wake_waiting(self) -> None:
        for account in list(self._accounts.values()):
            account.wake_waiting()


class RunBytes:
    """Account of one run."""

    def __init__(self, host: HostBytes) -> None:
        self._host = host
        self.used_bytes = 0
        self._waiting: list[Callable[[], None]] = []
        self._receivers = 0

    @property
    def is_full(self) -> bool:
        """True if no further message should be read for this run."""
        host = self._host
        if self.used_bytes > host.limit_bytes // 2:
            return True
        return host.used_bytes > host.limit_bytes and self.used_bytes > host.fair_bytes()

    def charge(self, size: int) -> None:
        self.used_bytes += size
        self._host.used_bytes += size

    def refund(self, size: int) -> None:
        was_full = self._host.used_bytes > self._host.limit_bytes
        self.used_bytes -= size
        self._host.used_bytes -= size
        if was_full:
            self._host.wake_waiting()
        else:
            self.wake_waiting()

    def start_receiving(self) -> bool:
        """Counts a REPL that sends a large message. Returns False if too many of the run do so already."""
        if self._receivers >= RECEIVERS:
            return False
        self._receivers += 1
        return True

    def end_receiving(self) -> None:
        self._receivers -= 1
        self._wake_all()

    def wait_for_room(self, on_room: Callable[[], None]) -> None:
        """Calls ``on_room`` once, when the account has changed so that a retry is worth it."""
        self._waiting.append(on_room)

    def wake_waiting(self) -> None:
        if self._waiting and not self.is_full:
            self._wake_all()

    def _wake_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        for on_room in waiting:
            on_room()
