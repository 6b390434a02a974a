"""Resources of the host process that all REPLs of a sandbox share."""

from __future__ import annotations

from dataclasses import dataclass

from rlm.sandbox.loop_share import StepQueue
from rlm.sandbox.memory.eviction import MemoryWatch


@dataclass(frozen=True, slots=True)
class HostResources:
    """``watch`` evicts REPLs under memory pressure; ``queue`` decodes their large messages."""

    watch: MemoryWatch
    queue: StepQueue
