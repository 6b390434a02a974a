"""The answer cache as one run sees it: equal requests are counted, so that five of them take five answers, not one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from rlm.core.events import AnyEvent, CallStarted
from rlm.core.messages import Request
from rlm.ports import AnswerCache


class CountingCache:
    """An answer cache with the occurrences of each request in this run.

    The requests of ``past``, the recorded events of a resumed run, count too. It would otherwise get its own answers.
    """

    def __init__(self, cache: AnswerCache, past: Sequence[AnyEvent] = ()) -> None:
        self.get = cache.get
        self.put = cache.put
        self._occurrences = Counter[tuple[str, Request]]()
        leaf_calls = {event.call: event for event in past if isinstance(event, CallStarted) and event.cell is not None}
        for event in leaf_calls.values():
            self.count(event.model, event.request)

    def count(self, model: str, request: Request) -> int:
        """Count a request. Returns its occurrence, from 1."""
        key = (model, replace(request, schema=None, depth=0, cache_key=str(request.schema)))
        self._occurrences[key] += 1
        return self._occurrences[key]
