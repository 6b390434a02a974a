"""The default location of the store: a file among the user's data."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "RLM_STORE"
MEMORY = "memory"  # in place of a path: a store that ends with the process

DEFAULT_STORE = "default"
"""``store="default"``: see ``default_location``. If that store fails, a run continues without one."""


def default_location(env: Mapping[str, str] | None = None) -> str | None:
    """``RLM_STORE`` (a path, "memory", or "none" for no store), or ``rlm/runs.db`` in ``XDG_DATA_HOME``."""
    env = os.environ if env is None else env
    named = env.get(VARIABLE)
    if named:
        return None if named == "none" else str(Path(named).expanduser())
    return str(data_folder(env) / "runs.db")


def data_folder(env: Mapping[str, str] | None = None) -> Path:
    """The folder of this package among the user's data: ``rlm`` in ``XDG_DATA_HOME``, or in ``~/.local/share``."""
    env = os.environ if env is None else env
    home = env.get("XDG_DATA_HOME") or ""
    base = Path(home) if Path(home).is_absolute() else Path(env.get("HOME") or "~").expanduser() / ".local" / "share"
    return base / "rlm"
