"""Fakes that are part of the product: scripted model and sandbox, a virtual clock, a watchdog of the loop,
and a server (``rlm.testing.server``).

The server is not imported here: it needs aiohttp, which costs more to import than everything else in this folder.
"""

from rlm.testing.clock import VirtualClock
from rlm.testing.sandbox import ScriptedCell, ScriptedSandbox
from rlm.testing.scripted import ScriptedModel
from rlm.testing.watchdog import LoopWatchdog

__all__ = ["LoopWatchdog", "ScriptedCell", "ScriptedModel", "ScriptedSandbox", "VirtualClock"]
