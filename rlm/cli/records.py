"""What the commands on recorded runs share: opening the store, finding a run, making an engine as it was."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import rlm
from rlm.cli.inputs import STDIN_NAMES, STDIN_PATH, read_inputs
from rlm.core.cells import PlainValue
from rlm.core.errors import ConfigurationError, IncompleteRecordError, StoreError
from rlm.core.messages import Reply, Request
from rlm.core.runs import RunInfo
from rlm.ports import Model, Sink, Store
from rlm.runtime.journaling import DEFAULT_STORE, KEPT_OPTIONS, Records


def choose_store(named: str | None) -> str | None:
    """What ``--store`` means: the default one where it is not given, no store for "none"."""
    return DEFAULT_STORE if named is None else None if named == "none" else named


def open_store(store: str | None) -> Store:
    """Raises StoreError: there is none, or it cannot be opened."""
    return Records(choose_store(store)).need_store()


class RecordedModel:
    """Stands for a model in a replay, where none is asked."""

    def __init__(self, name: str, window_tokens: int) -> None:
        self.name = name
        self.window_tokens = window_tokens

    async def ask(self, request: Request) -> Reply:
        """Raises IncompleteRecordError."""
        raise IncompleteRecordError(f"{self.name} is not asked in a replay")

    async def aclose(self) -> None:
        """Reservations nothing."""


def engine_of(
    info: RunInfo, store: str | None, *, live: bool, sinks: Sequence[Sink] = (), **changed: object
) -> rlm.RLM:
    """An engine with the options of a recorded run. ``live``: its models are opened, else only named.

    Raises:
        ConfigurationError: the run was made by a program, with things of its own that no command line can name.
    """
    options = info.options
    prompt = options.get("prompt")
    if prompt == "custom":
        raise ConfigurationError(
            f"run {info.id} had a prompt that is a function: use RLM(...).resume() in that program"
        )
    names, windows = options.get("models"), options.get("windows")
    if not isinstance(names, list) or not isinstance(windows, list):
        raise StoreError(f"the options of run {info.id} are not readable")
    models: list[str | Model] = (
        [*names] if live else [RecordedModel(*each) for each in zip(names, windows, strict=True)]
    )
    given: dict[str, object] = {name: options[name] for name in KEPT_OPTIONS if name in options}
    if live:
        given |= {name: options.get(name) for name in ("base_url", "window_tokens", "cache") if options.get(name)}
    given |= {name: value for name, value in changed.items() if value is not None}
    return rlm.RLM(
        models=models,
        store=choose_store(store),
        budget=recorded_budget(info) if live else rlm.Budget(),
        prompt=prompt if isinstance(prompt, str) else None,
        sinks=sinks,
        **given,  # type: ignore[arg-type]
    )


def recorded_budget(info: RunInfo) -> rlm.Budget:
    """The limits that a run began with."""
    budget = info.options.get("budget")
    return rlm.Budget(**budget) if isinstance(budget, dict) else rlm.Budget()


def find_context(store: Store, info: RunInfo, files: Sequence[str], encoding: str) -> PlainValue:
    """The context to give again: None where it was kept; else read from the files named now, or from those named then.

    Raises:
        IncompleteRecordError: it was not kept, and nobody says where it is.
        ContextError: the files cannot be read.
    """
    if files:
        stdin = sys.stdin.buffer if STDIN_NAMES.intersection(files) and sys.stdin is not None else None
        return read_inputs(files, stdin, encoding=encoding).context
    known = info.context
    if known.data is not None:
        return None
    sources = known.sources or (known.path or "").split("\n")  # an older record has the path alone
    if all(source not in ("", STDIN_PATH) and Path(known.folder, source).exists() for source in sources):
        return read_inputs(sources, None, encoding=encoding, folder=known.folder).context
    return store.context(info)
