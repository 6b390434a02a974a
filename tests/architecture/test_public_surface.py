"""The public names: the documented ones stay, and all of them load."""

from __future__ import annotations

import ast
import importlib

import pytest
from modules import ROOT

import rlm

DOCUMENTED = {
    "AuthenticationError",
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
    "Request",
    "RequestRejectedError",
    "Result",
    "RunCancelledError",
    "RunHandle",
    "SandboxDiedError",
    "SandboxError",
    "SandboxUnavailableError",
    "Sink",
    "Spend",
    "StoreError",
    "Stream",
    "Task",
    "TruncatedReplyError",
    "Unfinished",
    "UnknownRunError",
    "Usage",
    "UsageReport",
    "__version__",
    "ask",
    "default_models",
    "report_html",
}


def test_documented_names_stay_public() -> None:
    assert set(rlm.__all__) >= DOCUMENTED


def test_type_checkers_see_all_public_names() -> None:
    """Names load lazily, so ``if TYPE_CHECKING`` lists them a second time for type checkers and editors."""
    tree = ast.parse((ROOT / "rlm" / "__init__.py").read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module != "importlib"]
    names = {alias.asname or alias.name for node in imports for alias in node.names} - {"annotations", "TYPE_CHECKING"}
    submodules = {name for name in rlm.__all__ if (ROOT / "rlm" / f"{name}.py").exists()}
    assert names | submodules == (set(rlm.__all__) - {"__version__"}) | (names & submodules)


def test_all_has_no_duplicates() -> None:
    assert len(rlm.__all__) == len(set(rlm.__all__))


@pytest.mark.parametrize("name", sorted(rlm.__all__))
def test_public_name_loads(name: str) -> None:
    assert getattr(rlm, name) is not None


@pytest.mark.parametrize("module", ["rlm.rlm_repl", "rlm.repl", "rlm.utils.prompts"])
def test_older_module_name_imports(module: str) -> None:
    assert importlib.import_module(module).__name__ == module
