"""The errors of this package.

All derive from ``RLMError``; ``rlm.core.errors`` draws the tree. Everything in ``__all__`` is public and stays.
"""

from __future__ import annotations

from rlm.core.errors import *

__all__ = [
    "AnswerDoesNotFitError",
    "AuthenticationError",
    "BlockingCallError",
    "BudgetExceededError",
    "ConfigurationError",
    "ContextError",
    "DivergenceError",
    "EmptyReplyError",
    "ImagesNotSupportedError",
    "IncompleteRecordError",
    "InvalidTransition",
    "MalformedReplyError",
    "MissingExtraError",
    "ModelError",
    "ModelNotFoundError",
    "ModelTimeoutError",
    "NoAnswerError",
    "OutOfCreditError",
    "PromptTooLongError",
    "ProtocolViolationError",
    "ProviderUnavailableError",
    "ProviderUnreachableError",
    "RLMError",
    "RateLimitedError",
    "RefusalError",
    "ReplyDoesNotFitError",
    "RequestRejectedError",
    "RunCancelledError",
    "SandboxDiedError",
    "SandboxError",
    "SandboxUnavailableError",
    "SchemaError",
    "StoreError",
    "ToolSourceError",
    "TruncatedReplyError",
    "UnknownRunError",
    "UntrustedRecordError",
]
