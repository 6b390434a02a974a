"""Fakes that are part of the product: a scripted model, a virtual clock and (``rlm.testing.server``) a scripted server.

The server is not imported here: it needs aiohttp, which costs more to import than everything else in this folder.
"""

from rlm.testing.clock import VirtualClock
from rlm.testing.scripted import ScriptedModel

__all__ = ["ScriptedModel", "VirtualClock"]
