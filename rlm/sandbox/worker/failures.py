"""The exceptions that model-written code meets. Knows nothing of sockets or frames.

Their module reads ``__main__``, because that is where cells find them: tracebacks then show the name a cell would use.
"""

from __future__ import annotations


class LLMQueryError(RuntimeError):
    """A sub-call has no answer. ``kind`` names the reason, for instance ``"RateLimitedError"``."""

    def __init__(self, message: str, kind: str = "LLMQueryError") -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self), self.kind)


class BudgetExceeded(LLMQueryError):
    """The run has no budget left for this sub-call."""


class FailedCall(str):
    """The place of a failed call in a batch's results: text that says so, with the error beside it."""

    __slots__ = ("error",)
    error: LLMQueryError

    @classmethod
    def of(cls, error: LLMQueryError) -> FailedCall:
        made = cls(f"[call failed: {error}]")
        made.error = error
        return made


class AnswerGiven(SystemExit):
    """Ends the cell once FINAL has noted the answer.

    A SystemExit because that passes ``except Exception``, ends an event loop at once, and ends a thread in silence.
    """


class CellInterrupted(KeyboardInterrupt):
    """The host asked the cell to stop."""


def failure_of(kind: str, message: str) -> LLMQueryError:
    """The exception for a failure that the host reported."""
    made = BudgetExceeded if kind in ("BudgetExceededError", "BudgetExceeded") else LLMQueryError
    return made(message if kind == "LLMQueryError" else f"{kind}: {message}", kind)


for _shown in (LLMQueryError, BudgetExceeded, FailedCall):
    _shown.__module__ = "__main__"
CellInterrupted.__module__, CellInterrupted.__name__ = "builtins", "KeyboardInterrupt"
CellInterrupted.__qualname__ = "KeyboardInterrupt"
