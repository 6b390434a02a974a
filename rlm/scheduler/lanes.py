"""The lanes of a process, one for each endpoint, key and model. Futures belong to a loop, so each loop has lanes of its own."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Hashable
from weakref import WeakKeyDictionary

from rlm.ports import Model
from rlm.scheduler.limit import CEILING
from rlm.scheduler.slots import Lane


class Lanes:
    """All lanes that runs share. A model without an ``endpoint`` has a lane of its own for as long as it lives."""

    def __init__(self) -> None:
        self._by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, Lane]] = WeakKeyDictionary()

    def lane(self, model: Model) -> Lane:
        """The lane of a model on the running loop."""
        lanes = self._by_loop.setdefault(asyncio.get_running_loop(), {})
        subject: object = getattr(model, "inner", model)  # every ``RLM`` wraps a user's model again
        key = (model.info.endpoint, model.name) if model.info.endpoint else id(subject)
        lane = lanes.get(key)
        if lane is None:
            # Calls beyond the slots of a local model would only wait there, with their deadline running.
            lane = Lane(model.info.slots or CEILING)
            if isinstance(key, int):
                try:
                    weakref.finalize(subject, lanes.pop, key, None)  # ids are used again
                except TypeError:
                    return lane  # not weakly referable: a lane for this run alone
            lanes[key] = lane
        return lane
