"""Shared by the commands on recorded runs: opens the store, finds a run, and makes an engine with its options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import rlm
from rlm.cli.contexts import find_context
from rlm.cli.flags import read_flags
from rlm.core.cells import PlainValue
from rlm.core.errors import ConfigurationError, IncompleteRecordError, StoreError
from rlm.core.messages import Reply, Request
from rlm.core.model_info import ModelInfo
from rlm.core.runs import RunInfo
from rlm.options import SHARED_BUDGET, parse_store
from rlm.ports import SinkLike, Store
from rlm.runtime.authority import restore_allowed
from rlm.runtime.journaling import RunStore


def open_store(store: str | None) -> Store:
    """The store that ``--store`` names.

    Raises:
        StoreError: there is no store, or it cannot be opened.
    """
    return RunStore(parse_store(store)).need_store()


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
    """The limits that a run started with.

    Raises:
        ConfigurationError: it shared a budget with other runs of a program.
    """
    budget = info.options.get("budget")
    if isinstance(budget, dict) and SHARED_BUDGET in budget:
        raise ConfigurationError(
            f"Run {info.id} spends from a budget that a Python program shares: call resume() there."
        )
    try:
        return rlm.Budget(**budget) if isinstance(budget, dict) else rlm.Budget()
    except TypeError:
        raise _unreadable(info) from None


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


def continue_session(
    run: str, files: Sequence[str], given: Mapping[str, Any]
) -> tuple[rlm.RLM, rlm.Session, PlainValue]:
    """The session of a recorded run, with its engine and, if it was not stored, its context.

    Args:
        run: the run's id, a prefix of it, or "last".
        files: the input, if it was too large to be stored and has moved.
        given: the flags of the command line.

    Raises:
        RLMError: as ``open_recorded`` and ``RLM.resume_session``.
    """
    place = given.get("store")
    opened = open_store(place)
    info = opened.find(run)
    context = find_context(opened, info, files, None)
    changed = {name: value for name, value in read_flags(given).items() if name != "store"}
    engine = open_recorded(info, place, changed)
    return engine, engine.resume_session(info.id, context), context
