"""Fakes that are part of the product: scripted model and sandbox, a virtual clock and (``rlm.testing.server``) a server.

The server is not imported here: it needs aiohttp, which costs more to import than everything else in this folder.
"""

from rlm.testing.clock import VirtualClock
from rlm.testing.sandbox import ScriptedCell, ScriptedSandbox
from rlm.testing.scripted import ScriptedModel

__all__ = ["ScriptedCell", "ScriptedModel", "ScriptedSandbox", "VirtualClock"]
