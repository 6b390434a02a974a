"""``rlm.__all__`` is a promise: what is there stays, and loads when it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import rlm
import rlm.errors

PROMISED = {
    "AsyncSession",
    "AnswerDoesNotFitError",
    "AuthenticationError",
    "BlockingCallError",
    "Budget",
    "BudgetExceededError",
    "CallRecord",
    "ConfigurationError",
    "ContextError",
    "DEFAULT_STORE",
    "DefaultModels",
    "DivergenceError",
    "EmptyReplyError",
    "Estimate",
    "Image",
    "IncompleteRecordError",
    "InvalidTransition",
    "LimitUse",
    "MalformedReplyError",
    "Message",
    "MissingExtraError",
    "Model",
    "ModelError",
    "ModelNotFoundError",
    "ModelTimeoutError",
    "NoAnswerError",
    "NodeRecord",
    "OutOfCreditError",
    "PromptFacts",
    "PromptTooLongError",
    "ProtocolViolationError",
    "ProviderUnavailableError",
    "ProviderUnreachableError",
    "RLM",
    "RLMError",
    "RLM_REPL",
    "RateLimitedError",
    "RefusalError",
    "Reply",
    "ReplyDoesNotFitError",
    "Request",
    "RequestRejectedError",
    "Result",
    "RunCancelledError",
    "RunHandle",
    "Session",
    "SandboxDiedError",
    "SandboxError",
    "SandboxUnavailableError",
    "SchemaError",
    "Sink",
    "Spend",
    "StoreError",
    "Stream",
    "Task",
    "TruncatedReplyError",
    "Unfinished",
    "UnknownRunError",
    "UntrustedRecordError",
    "Usage",
    "UsageReport",
    "__version__",
    "ask",
    "default_models",
    "report_html",
}
"""Names can be added, and never removed."""


def test_promised_names_are_there() -> None:
    assert set(rlm.__all__) >= PROMISED
    for name in rlm.__all__:
        assert getattr(rlm, name) is not None


def test_every_error_of_the_tree_is_public() -> None:
    errors = {cls.__name__ for cls in _descendants(rlm.RLMError) if cls.__module__ == "rlm.core.errors"}
    assert errors == set(rlm.errors.__all__)
    assert errors <= set(rlm.__all__)
    assert rlm.errors.UnknownRunError is rlm.UnknownRunError


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = rlm.no_such_thing


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import rlm, sys; print([m for m in ('asyncio', 'aiohttp', 'rich', 'pydantic') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def _descendants(cls: type[Exception]) -> set[type[Exception]]:
    return {cls}.union(*map(_descendants, cls.__subclasses__()))
