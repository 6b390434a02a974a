"""Recursive Language Models: answer questions over inputs larger than any context window.

    import rlm

    result = rlm.ask("Who is the captain of the Pequod?", open("moby-dick.txt").read())
    print(result.answer, result.usage.total, result.cost_usd)

Everything in ``__all__`` is public and stays; ``rlm.errors`` has the errors. Names load on first use, so that importing this
package is free.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlm.api import RLM, ask
    from rlm.core.budget import Budget, LimitUse
    from rlm.core.estimates import Estimate
    from rlm.core.evidence import Citation, Coverage
    from rlm.core.messages import Message, Reply, Request, Task, Usage
    from rlm.core.result import Result
    from rlm.core.tree import CallRecord, NodeRecord, ToolRecord, Unfinished
    from rlm.core.usage import Spend, UsageReport
    from rlm.documents.values import Document, Documents
    from rlm.errors import *
    from rlm.models.defaults import DefaultModels, default_models
    from rlm.ports import Model, Sink
    from rlm.prompts import PromptFacts
    from rlm.report.page import report_html
    from rlm.rlm_repl import RLM_REPL
    from rlm.runtime.handles import RunHandle, Stream
    from rlm.runtime.images import Image
    from rlm.runtime.journaling import DEFAULT_STORE
    from rlm.runtime.reading import load
    from rlm.runtime.sessions import AsyncSession, Session
    from rlm.runtime.stored_runs import StoredRuns, open_store
    from rlm.tools.function_tool import FunctionTool, tool
    from rlm.tools.mcp.server import McpServer, mcp_tools

__version__ = "0.1.0"

_HOMES = {
    "rlm.api": ("RLM", "ask"),
    "rlm.models.defaults": ("DefaultModels", "default_models"),
    "rlm.core.budget": ("Budget", "LimitUse"),
    "rlm.core.estimates": ("Estimate",),
    "rlm.core.evidence": ("Citation", "Coverage"),
    "rlm.documents.values": ("Document", "Documents"),
    "rlm.runtime.reading": ("load",),
    "rlm.core.messages": ("Message", "Reply", "Request", "Task", "Usage"),
    "rlm.core.result": ("Result",),
    "rlm.core.tree": ("CallRecord", "NodeRecord", "ToolRecord", "Unfinished"),
    "rlm.core.usage": ("Spend", "UsageReport"),
    "rlm.runtime.handles": ("RunHandle", "Stream"),
    "rlm.ports": ("Model", "Sink"),
    "rlm.prompts": ("PromptFacts",),
    "rlm.runtime.journaling": ("DEFAULT_STORE",),
    "rlm.runtime.images": ("Image",),
    "rlm.runtime.sessions": ("AsyncSession", "Session"),
    "rlm.runtime.stored_runs": ("StoredRuns", "open_store"),
    "rlm.report.page": ("report_html",),
    "rlm.tools.function_tool": ("FunctionTool", "tool"),
    "rlm.tools.mcp.server": ("McpServer", "mcp_tools"),
    "rlm.rlm_repl": ("RLM_REPL",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
"""The module of each public name that is not an error."""

__all__ = [
    "DEFAULT_STORE",
    "RLM",
    "RLM_REPL",
    "AnswerDoesNotFitError",
    "AsyncSession",
    "AuthenticationError",
    "BlockingCallError",
    "Budget",
    "BudgetExceededError",
    "CallRecord",
    "Citation",
    "ConfigurationError",
    "ContextError",
    "Coverage",
    "DefaultModels",
    "DivergenceError",
    "Document",
    "Documents",
    "EmptyReplyError",
    "Estimate",
    "FunctionTool",
    "Image",
    "ImagesNotSupportedError",
    "IncompleteRecordError",
    "InvalidTransition",
    "LimitUse",
    "MalformedReplyError",
    "McpServer",
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
    "RLMError",
    "RateLimitedError",
    "RefusalError",
    "Reply",
    "ReplyDoesNotFitError",
    "Request",
    "RequestRejectedError",
    "Result",
    "RunCancelledError",
    "RunHandle",
    "SandboxDiedError",
    "SandboxError",
    "SandboxUnavailableError",
    "SchemaError",
    "Session",
    "Sink",
    "Spend",
    "StoreError",
    "StoredRuns",
    "Stream",
    "Task",
    "ToolRecord",
    "ToolSourceError",
    "TruncatedReplyError",
    "Unfinished",
    "UnknownRunError",
    "UntrustedRecordError",
    "Usage",
    "UsageReport",
    "__version__",
    "ask",
    "default_models",
    "load",
    "mcp_tools",
    "open_store",
    "report_html",
    "tool",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'rlm' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF.get(name, "rlm.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
