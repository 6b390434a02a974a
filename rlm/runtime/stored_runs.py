"""Stored runs for Python programs: read and deleted without an ``RLM`` object, a model or a sandbox."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from rlm.argument_types import check_type
from rlm.core.cells import PlainValue
from rlm.core.corpus import Corpus
from rlm.core.errors import IncompleteRecordError
from rlm.core.events import AnyEvent, RunFinished, RunStarted
from rlm.core.ids import RunId
from rlm.core.redaction import SECRETS, secrets_of_environment
from rlm.core.result import CoverageOfRun, Result
from rlm.core.runs import RunInfo
from rlm.core.tree import find_unfinished
from rlm.core.tree_builder import TreeBuilder
from rlm.core.usage import sum_usage
from rlm.engine.driver.evidence import ShownTexts
from rlm.ports import Store
from rlm.runtime.journaling import DEFAULT_STORE, RunStore, check_context


class StoredRuns:
    """The runs of one store. A run is named by its id, by a beginning that no other id has, or as "last".

    Connections belong to the process and are shared; leaving the ``with`` block releases nothing that others use.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def runs(self) -> Sequence[RunInfo]:
        """All runs, the newest first."""
        return self._store.runs()

    def events(self, run_id: str = "last") -> Sequence[AnyEvent]:
        """The events of a run, in order. Texts that were not stored are replaced by a mark.

        Raises:
            UnknownRunError: there is no such run.
        """
        return self._store.events(self._store.find(run_id).id, lenient=True)

    def result(self, run_id: str = "last") -> Result:
        """The result of a run that has ended, with its tree and usage; ``used`` is empty.

        Raises:
            UnknownRunError: there is no such run.
            IncompleteRecordError: the run has not ended.
        """
        info = self._store.find(run_id)
        events = self._store.events(info.id, lenient=True)
        return replace(result_of(info.id, events), measurement=recorded_measurement(self._store, info, events))

    def delete(self, *run_ids: str) -> None:
        """Deletes runs.

        Raises:
            UnknownRunError: there is no such run; none is deleted.
        """
        self._store.delete([self._store.find(run_id).id for run_id in run_ids])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def open_store(store: str | Path = DEFAULT_STORE) -> StoredRuns:
    """Opens a store of runs.

        with rlm.open_store() as store:
            print(store.result("last").answer)

    Args:
        store: a path; ``"default"`` is ``RLM_STORE``, or a file among the user's data.

    Raises:
        StoreError: there is no store, or it cannot be opened.
    """
    check_type("store", store, str | Path)
    SECRETS.add(secrets_of_environment(os.environ))
    return StoredRuns(RunStore(store).need_store())


def recorded_measurement(
    store: Store, info: RunInfo, events: Sequence[AnyEvent], context: PlainValue = None
) -> CoverageOfRun | None:
    """The means to measure the coverage of a recorded run over documents; None if its context is not known.

    Args:
        context: read again from its files, if it was too large to be stored.

    Raises:
        IncompleteRecordError: ``context`` differs from the recorded one.
    """
    side_table = next((event.side_table for event in events if isinstance(event, RunStarted)), "")
    if not side_table or (info.context.data is None and context is None):
        return None
    if context is None:
        context = store.context(info)
    else:
        check_context(info, context)
    shown = ShownTexts()
    for event in events:
        shown.emit(event)
    return CoverageOfRun(Corpus(context, side_table), shown.texts)


def result_of(run: RunId, events: Sequence[AnyEvent]) -> Result:
    """The result of a run, from its events.

    Raises:
        IncompleteRecordError: the run has not ended.
    """
    end = events[-1] if events else None
    if not isinstance(end, RunFinished):
        raise IncompleteRecordError(f"run {run} has not ended: resume it first")
    tree = TreeBuilder()
    for event in events:
        tree.add(event)
    return Result(
        answer=end.answer,
        data=end.answer,
        status=end.status,
        usage=sum_usage(events),
        run_id=run,
        tree=tree.root,
        elapsed_s=end.at_s,
        sandbox=next((event.sandbox for event in events if isinstance(event, RunStarted)), ""),
        limit=end.limit,
        error=end.error,
        unfinished=find_unfinished(tree.root, 0),
        citations=end.citations,
    )
