"""Shared by the commands on recorded runs: opens the store, finds a run, and makes an engine with its options."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import rlm
from rlm.cli.reading import ReadingFlags, read_input, reread
from rlm.core.cells import PlainValue
from rlm.core.errors import ConfigurationError, IncompleteRecordError, StoreError
from rlm.core.messages import Reply, Request
from rlm.core.model_info import ModelInfo
from rlm.core.runs import MAX_CONTEXT_BYTES, ContextInfo, RunInfo
from rlm.documents.sources import STDIN_NAMES
from rlm.options import parse_store
from rlm.ports import SinkLike, Store
from rlm.runtime.authority import restore_allowed
from rlm.runtime.journaling import Records

MAX_BYTES_PER_BYTE = 16
"""The size of recorded files, for each byte of their text: other encodings, documents and skipped binaries are larger."""


def open_store(store: str | None) -> Store:
    """The store that ``--store`` names.

    Raises:
        StoreError: there is no store, or it cannot be opened.
    """
    return Records(parse_store(store)).need_store()


class RecordedModel:
    """The placeholder of a model in a replay, which asks none."""

    def __init__(self, name: str, window_tokens: int) -> None:
        self.name = name
        self.info = ModelInfo(window_tokens)

    async def ask(self, request: Request) -> Reply:
        """Raises IncompleteRecordError."""
        raise IncompleteRecordError(f"the record lacks a reply of {self.name}, and a replay asks no model")

    async def aclose(self) -> None:
        """Nothing to release."""


def open_recorded(
    info: RunInfo, store: str | None, changed: Mapping[str, Any] | None = None, *, sinks: Sequence[SinkLike] = ()
) -> rlm.RLM:
    """An engine with the options of a recorded run, for its resumption.

    Args:
        changed: options from the command line that override recorded ones; prices are added to the recorded ones.

    Raises:
        UntrustedRecordError: a recorded option needs a flag of the caller.
        ConfigurationError: the run needs objects of the program that made it.
        StoreError: its options are not readable.
    """
    options = _restored(info, changed or {})
    return rlm.RLM(**{**options, "budget": recorded_budget(info)}, store=parse_store(store), sinks=sinks)


def open_replay(info: RunInfo, store: str | None, given: Mapping[str, Any]) -> rlm.RLM:
    """An engine with the options of a recorded run, but no limits and no models, for its replay. Raises as ``open_recorded``."""
    options = _restored(info, given, replay=True)
    windows = info.options.get("windows")
    if not isinstance(windows, list) or len(windows) != len(options["models"]):
        raise _unreadable(info)
    models = [RecordedModel(str(name), int(window)) for name, window in zip(options["models"], windows, strict=True)]
    return rlm.RLM(
        **{**options, "models": models, "budget": None, "base_url": None, "cache": False}, store=parse_store(store)
    )


def recorded_budget(info: RunInfo) -> rlm.Budget:
    """The limits that a run started with."""
    budget = info.options.get("budget")
    try:
        return rlm.Budget(**budget) if isinstance(budget, dict) else rlm.Budget()
    except TypeError:
        raise _unreadable(info) from None


def find_context(store: Store, info: RunInfo, files: Sequence[str], encoding: str | None) -> PlainValue:
    """The context of a run that was not stored, read from ``files`` or from the recorded files. None if it was stored.

    Raises:
        IncompleteRecordError: it was not stored, and its files are unknown or have moved.
        ContextError: the files cannot be read.
    """
    if files:
        stdin = sys.stdin.buffer if STDIN_NAMES.intersection(files) and sys.stdin is not None else None
        return read_input(files, stdin, ReadingFlags(encoding=encoding)).context
    recorded = info.context
    if recorded.data is not None:
        return None
    sources = recorded.sources or (recorded.path or "").split("\n")  # an older record has the path alone
    context = reread(sources, recorded.folder, encoding) if _are_recorded_files(recorded, sources) else None
    return store.context(info) if context is None else context


def _are_recorded_files(recorded: ContextInfo, sources: Sequence[str]) -> bool:
    """True if these can be the files of a recorded context.

    A record can name any path. Only files whose digest it has are read, so nothing is disclosed. Devices, and folders that are
    much larger than the context, are not read.
    """
    if not recorded.digest or not all(source and source not in STDIN_NAMES for source in sources):
        return False
    left = MAX_BYTES_PER_BYTE * recorded.size + MAX_CONTEXT_BYTES
    for path in (Path(recorded.folder, source) for source in sources):
        if not path.is_file() and not path.is_dir():
            return False
        for file in [path] if path.is_file() else path.rglob("*"):
            left -= file.stat().st_size if file.is_file() else 0
            if left < 0:
                return False
    return True


def _restored(info: RunInfo, given: Mapping[str, Any], *, replay: bool = False) -> dict[str, Any]:
    try:
        options = restore_allowed(info.id, info.options, given, replay=replay)
    except ConfigurationError:
        raise
    except (TypeError, ValueError, AttributeError):
        raise _unreadable(info) from None
    if not isinstance(options.get("models"), list):
        raise _unreadable(info)
    return options


def _unreadable(info: RunInfo) -> StoreError:
    return StoreError(f"the recorded options of run {info.id} are not readable")
