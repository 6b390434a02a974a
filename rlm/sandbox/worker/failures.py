"""Exceptions raised into model-written code. They know neither sockets nor frames.

Their ``__module__`` is ``__main__``, the module in which cells find them, so that tracebacks show the name that a cell uses.
"""

from __future__ import annotations


class LLMQueryError(RuntimeError):
    """A sub-call failed. ``kind`` names the reason, for instance ``"RateLimitedError"``."""

    def __init__(self, message: str, kind: str = "LLMQueryError") -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self), self.kind)


class BudgetExceeded(LLMQueryError):
    """The run has no budget left for this sub-call."""


class ToolError(RuntimeError):
    """A tool failed. ``type`` is the name of the exception that it raised, or of the reason for refusing the call."""

    def __init__(self, message: str, type: str = "ToolError") -> None:
        super().__init__(message)
        self.type = type

    def __reduce__(self) -> tuple[object, ...]:
        return self.__class__, (str(self), self.type)


class FailedCall(str):
    """Text that stands for a failed call in a batch's results, with the exception as ``error``."""

    __slots__ = ("error",)
    error: LLMQueryError

    @classmethod
    def of(cls, error: LLMQueryError) -> FailedCall:
        text = cls(f"[call failed: {error}]")
        text.error = error
        return text


class AnswerGiven(SystemExit):
    """Ends the cell after FINAL has stored the answer.

    It is a SystemExit because that passes ``except Exception``, ends an event loop at once, and ends a thread silently.
    """


class CellInterrupted(KeyboardInterrupt):
    """The host stopped the cell."""


def failure_of(kind: str, message: str) -> LLMQueryError | ToolError:
    """The exception for a failure reported by the host."""
    if kind.startswith("ToolError."):
        return ToolError(message, kind.partition(".")[2])
    kind_class = BudgetExceeded if kind in ("BudgetExceededError", "BudgetExceeded") else LLMQueryError
    return kind_class(message if kind == "LLMQueryError" else f"{kind}: {message}", kind)


for _shown in (LLMQueryError, BudgetExceeded, ToolError, FailedCall):
    _shown.__module__ = "__main__"
CellInterrupted.__module__, CellInterrupted.__name__ = "builtins", "KeyboardInterrupt"
CellInterrupted.__qualname__ = "KeyboardInterrupt"
