"""The error tree, sorted by cause: the caller, the provider, the sandbox, the store. Public as ``rlm.errors``.

Every message says what to do next.

    RLMError
    ├── ConfigurationError          the caller: a bad argument, an unknown provider, a missing key.
    │   ├── BlockingCallError       a call that waits for the engine, on the engine's own thread.
    │   ├── MissingExtraError       an optional package is not installed.
    │   ├── SchemaError             a schema of answers cannot be used.
    │   └── UntrustedRecordError    a recorded option needs the caller's own flag.
    ├── ContextError                the caller: the input cannot be read or decoded.
    ├── ModelError                  the provider, or what it sent.
    │   ├── AuthenticationError     the key is missing, wrong or not allowed       (ends the run).
    │   ├── ModelNotFoundError      the provider does not know this model          (ends the run).
    │   ├── RequestRejectedError    the provider refuses the request as it stands.
    │   │   ├── PromptTooLongError  it does not fit the model's window.
    │   │   └── ImagesNotSupportedError  the model accepts text only.
    │   ├── OutOfCreditError        the account has no credit or quota left        (ends the run).
    │   ├── RateLimitedError        429; retried.
    │   ├── ProviderUnavailableError  5xx, overloaded; retried.
    │   ├── ProviderUnreachableError  no connection, or it broke; retried.
    │   ├── ModelTimeoutError       no reply within the time allowed; retried.
    │   ├── EmptyReplyError         a reply without text; retried.
    │   ├── MalformedReplyError     not the protocol, or not the JSON asked for; retried.
    │   │   └── ReplyDoesNotFitError  it violates its schema, also after a correction; not retried.
    │   ├── TruncatedReplyError     the reply was cut by its token limit.
    │   └── RefusalError            the model, or a filter before it, declined.
    ├── SandboxError                the machinery that executes cells.
    │   ├── SandboxUnavailableError no worker could be started at the level asked for.
    │   ├── SandboxDiedError        a worker ended and could not be replaced.
    │   └── ProtocolViolationError  a worker sent what no honest worker sends.
    ├── ToolSourceError             a server of tools cannot be started or reached.
    ├── StoreError                  the journal cannot be opened, written or read.
    │   ├── UnknownRunError         the store has no run of this id.
    │   └── IncompleteRecordError   the run's texts or context were not stored.
    ├── DivergenceError             a re-executed cell differs from its recording.
    ├── BudgetExceededError         a limit of the run was met.
    ├── NoAnswerError               the run ended without an answer.
    │   └── AnswerDoesNotFitError   its last answer violates the schema.
    ├── RunCancelledError           the caller cancelled the run.
    └── InvalidTransition           a defect of this package; please report it.

An exception raised by model-written code is output, not an error of this tree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm.core.redaction import SECRETS

if TYPE_CHECKING:
    from rlm.core.messages import Usage
    from rlm.core.result import Result


class RLMError(Exception):
    """Base of every error this package raises. Its message is free of registered secrets.

    Attributes:
        result: usage, tree and id of the run when it failed; None if no run had started.
    """

    result: Result | None = None

    def __init__(self, *args: object) -> None:
        super().__init__(*(SECRETS.redact_message(arg) if isinstance(arg, str) else arg for arg in args))


class ConfigurationError(RLMError):
    """An argument, a model name or the environment is not usable."""


class BlockingCallError(ConfigurationError):
    """A blocking call from a sink or a model, on the engine's own thread: it would wait for itself."""

    def __init__(self) -> None:
        super().__init__(
            "A sink or a model must not block the engine's thread, which this call would wait for. "
            "Await arun(), aresume(), areplay() or aclose() in a task, or call from another thread."
        )


class MissingExtraError(ConfigurationError):
    """An optional package is needed and not installed; the message holds the install line."""

    def __init__(self, what: str, install: str) -> None:
        super().__init__(f"{what} needs a package that is not installed. Install it with: {install}")
        self.what = what
        self.install = install


class SchemaError(ConfigurationError):
    """A schema is not a JSON schema, exceeds a limit, or uses a keyword that cannot be checked in bounded time."""


class UntrustedRecordError(ConfigurationError):
    """A recorded option would widen the rights of a run; the caller must give it.

    Attributes:
        options: the names of the options in Python.
        flags: their names on the command line.
    """

    def __init__(self, message: str, *, options: tuple[str, ...] = (), flags: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.options = options
        self.flags = flags


class ContextError(RLMError):
    """The input cannot be read, decoded or sent into the sandbox."""


class ModelError(RLMError):
    """A call to a model failed.

    Attributes:
        model: the model's full name, ``provider:model``.
        status: the HTTP status, if there was a response.
        retry_after_s: seconds that the provider asked to wait, if it did.
        retryable: True if the same call can succeed later. Fixed for each class.
        ends_run: True if no other call of the run can succeed either. Fixed for each class.
        usage: the reported usage of the failed call: a reply that was cut, refused or empty is billed.
        reached: False if the request certainly did not reach the provider.
    """

    retryable = False
    ends_run = False
    usage: Usage | None = None
    reached: bool = True

    def __init__(
        self,
        message: str,
        *,
        model: str = "",
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.model = model
        self.status = status
        self.retry_after_s = retry_after_s


class AuthenticationError(ModelError):
    """The provider does not accept the key, or does not allow it to use this model."""

    ends_run = True


class ModelNotFoundError(ModelError):
    """The provider has no model of this name."""

    ends_run = True


class RequestRejectedError(ModelError):
    """The provider refuses this request (HTTP 400 and similar); a retry will not help."""


class PromptTooLongError(RequestRejectedError):
    """The prompt does not fit the model's context window; send a shorter one."""


class ImagesNotSupportedError(RequestRejectedError):
    """The request holds an image and the model accepts text only; nothing was sent."""


class OutOfCreditError(ModelError):
    """The account of the key has no credit or quota left (HTTP 402, or a 429 that does not pass)."""

    ends_run = True


class RateLimitedError(ModelError):
    """The provider asks for fewer calls (HTTP 429)."""

    retryable = True


class ProviderUnavailableError(ModelError):
    """The provider failed or is overloaded (HTTP 5xx)."""

    retryable = True


class ProviderUnreachableError(ModelError):
    """No connection could be made, or it broke before the reply was complete.

    Attributes:
        hopeless: no server listens at an address of this machine, or the host has no address. A retry rarely helps.
    """

    retryable = True
    hopeless: bool = False


class ModelTimeoutError(ModelError):
    """No complete reply within the timeout of one call."""

    retryable = True


class EmptyReplyError(ModelError):
    """The reply held no text."""

    retryable = True


class MalformedReplyError(ModelError):
    """The reply violates the protocol, or the requested schema."""

    retryable = True


class ReplyDoesNotFitError(MalformedReplyError):
    """The reply violates the requested schema, also after the model was asked once to correct it."""

    retryable = False


class TruncatedReplyError(ModelError):
    """The reply was cut by its token limit; ``text`` is the part that arrived."""

    def __init__(self, message: str, *, text: str = "", model: str = "") -> None:
        super().__init__(message, model=model)
        self.text = text


class RefusalError(ModelError):
    """The model, or a filter in front of it, declined to answer."""


class SandboxError(RLMError):
    """The machinery that executes cells failed."""


class SandboxUnavailableError(SandboxError):
    """No worker could be started at the isolation level asked for."""


class SandboxDiedError(SandboxError):
    """A worker process ended and could not be replaced."""


class ProtocolViolationError(SandboxError):
    """A worker sent a malformed or forbidden frame, and was killed."""


class ToolSourceError(RLMError):
    """A server of tools cannot be started or reached, or sends what it must not. The run was not started."""


class StoreError(RLMError):
    """The store of runs cannot be opened, written or read. Earlier writes are intact."""


class UnknownRunError(StoreError):
    """The store has no run of this id."""


class IncompleteRecordError(StoreError):
    """The run cannot be executed again: its texts or context were not stored, or another context was given."""


class DivergenceError(RLMError):
    """A re-executed cell, or its turn, differs from its recording.

    Attributes:
        node, turn, cell: the place. ``cell`` is 0 if the prompt of the turn differs.
        difference: the difference, in one line.
    """

    def __init__(self, node: str, turn: int, cell: int, difference: str) -> None:
        place = f"node {node}, cell {turn}.{cell}" if cell else f"node {node}, turn {turn}"
        super().__init__(
            f"{place} differs from its recording: {difference}. Code that depends on more than its input "
            "cannot be repeated. Resume with on_divergence='pay' to repeat, and pay, the calls that differ."
        )
        self.node = node
        self.turn = turn
        self.cell = cell
        self.difference = difference


class BudgetExceededError(RLMError):
    """A limit of the run was met.

    Attributes:
        limit: its name, for instance ``"iterations"``, ``"calls"`` or ``"usd"``.
    """

    def __init__(self, message: str, *, limit: str) -> None:
        super().__init__(message)
        self.limit = limit


class NoAnswerError(RLMError):
    """The run ended without an answer.

    Attributes:
        limit: the limit that ended it, if one did.
    """

    def __init__(self, message: str, limit: str | None = None) -> None:
        super().__init__(message)
        self.limit = limit


class AnswerDoesNotFitError(NoAnswerError):
    """The last answer of a run violates the schema, and a limit left no turn to correct it.

    Attributes:
        problems: each violation, with its path.
        value: the answer, as plain data. It is not valid.
    """

    def __init__(
        self, message: str, limit: str | None = None, *, problems: tuple[str, ...] = (), value: object = None
    ) -> None:
        super().__init__(message, limit)
        self.problems = problems
        self.value = value


class RunCancelledError(RLMError):
    """The run was cancelled before it had an answer."""


class InvalidTransition(RLMError):
    """A node received an event that its state does not allow: a defect of this package, please report it."""
