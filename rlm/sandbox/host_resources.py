"""Resources of the host process that all REPLs of a sandbox share."""

from __future__ import annotations

from rlm.core.values import frozen
from rlm.sandbox.loop_share import StepQueue
from rlm.sandbox.memory.eviction import MemoryWatch
from rlm.sandbox.memory.host_bytes import HostBytes


@frozen
class HostResources:
    """Resources shared by REPLs.

    Attributes:
        watch: evicts REPLs under memory pressure.
        queue: decodes their large messages.
        memory: charges their runs for the sub-calls in flight.
    """

    watch: MemoryWatch
    queue: StepQueue
    memory: HostBytes
