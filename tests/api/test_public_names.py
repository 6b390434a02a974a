"""``rlm.__all__`` is a promise: what is there stays, and loads when it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import rlm

PROMISED = {
    "RLM",
    "RLM_REPL",
    "ask",
    "default_models",
    "Budget",
    "Result",
    "Stream",
    "Model",
    "Sink",
    "Message",
    "Request",
    "Reply",
    "Task",
    "Usage",
    "RLMError",
    "ConfigurationError",
    "ModelError",
    "SandboxError",
    "NoAnswerError",
}


def test_promised_names_are_there() -> None:
    assert set(rlm.__all__) >= PROMISED
    for name in rlm.__all__:
        assert getattr(rlm, name) is not None


def test_every_error_of_the_tree_is_public() -> None:
    errors = {cls.__name__ for cls in _descendants(rlm.RLMError) if cls.__module__ == "rlm.core.errors"}
    assert errors <= set(rlm.__all__)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = rlm.no_such_thing


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import rlm, sys; print([m for m in ('asyncio', 'aiohttp', 'rich', 'pydantic') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def _descendants(cls: type[Exception]) -> set[type[Exception]]:
    found = {cls}
    for child in cls.__subclasses__():
        found |= _descendants(child)
    return found
