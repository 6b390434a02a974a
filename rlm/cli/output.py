"""Writes to stdout: the answer, or one JSON object. No other module writes there.

On a terminal, an answer is stripped of control sequences. Into a pipe or a file, it is written unchanged.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TextIO

from rlm.core.cells import PlainValue
from rlm.core.estimates import Estimate, Range
from rlm.core.evidence import Citation
from rlm.core.messages import JsonValue
from rlm.core.plain import to_json
from rlm.core.redaction import SECRETS
from rlm.core.result import Result
from rlm.views.escape import one_line, without_controls

MAX_QUOTE_CHARS = 200


class OutputError(Exception):
    """The answer could not be written: the disk is full, or stdout is closed. A closed pipe is not an error."""


def write_answer(answer: PlainValue, stdout: TextIO | None) -> None:
    """Writes text unchanged and data as JSON, followed by a newline.

    Raises:
        OutputError: the answer could not be written.
    """
    text = answer if isinstance(answer, str) else json.dumps(to_json(answer), ensure_ascii=False, indent=2)
    if stdout is not None and stdout.isatty():
        text = without_controls(text)
    _write(text if text.endswith("\n") else f"{text}\n", stdout)


def write_json(report: Mapping[str, JsonValue], stdout: TextIO | None) -> None:
    """Writes one JSON object, on one line, in ASCII.

    Raises:
        OutputError: the object could not be written.
    """
    _write(json.dumps(report) + "\n", stdout)


def write_text(text: str, stdout: TextIO | None) -> None:
    """Writes text unchanged.

    Raises:
        OutputError: it could not be written.
    """
    _write(text, stdout)


def put(text: str) -> None:
    """Writes text without secrets to standard output; on failure, exits with the reason."""
    try:
        write_text(SECRETS.redact_text(text), sys.stdout)
    except OutputError as error:
        raise SystemExit(str(error)) from error


def describe_result(result: Result, models: tuple[str, ...]) -> dict[str, JsonValue]:
    """The JSON object of a run."""
    return {**result.to_dict(), "models": list(models)}


def footnotes(citations: Sequence[Citation]) -> list[str]:
    """Lines such as ``[1] contracts/a.pdf, p. 3: "..."``, safe on a terminal."""
    lines = []
    for number, citation in enumerate(citations, 1):
        place = ", ".join(part for part in (citation.path, citation.place) if part)
        source = one_line(place, 200) if citation.verified else "NOT FOUND in the sources"
        lines.append(f'[{number}] {source}: "{one_line(citation.quote, MAX_QUOTE_CHARS)}"')
    return lines


def describe_estimate(estimate: Estimate, models: tuple[str, ...]) -> str:
    """The lines of ``rlm ask --estimate``."""

    def line(name: str, bound: Range) -> str:
        cost = "no price known" if bound.usd is None else f"${bound.usd:.4f}"
        return f"{name:<6}{bound.calls:>7,} calls  {bound.tokens:>13,} tokens  {cost}"

    return "\n".join(
        [
            f"input {estimate.size_bytes:,} bytes, about {estimate.size_tokens:,} tokens, "
            f"{estimate.pieces:,} pieces for sub-calls",
            f"models {', '.join(dict.fromkeys(models))}",
            f"{line('low', estimate.low)}  (code alone finds the answer)",
            f"{line('high', estimate.high)}  (every byte is read once by sub-calls)",
        ]
    )


def describe_failure(error: str, status: str) -> dict[str, JsonValue]:
    """The JSON object of a failure without a result: the same keys, all null except the status and the error."""
    return {
        "answer": None,
        "status": status,
        "limit": None,
        "error": error,
        "run_id": None,
        "models": [],
        "sandbox": None,
        "citations": [],
        "coverage": None,
        "elapsed_s": None,
        "cost_usd": None,
        "usage": None,
        "used": None,
        "unfinished": None,
        "tool_calls": [],
    }


def _write(text: str, stdout: TextIO | None) -> None:
    if stdout is None:
        raise OutputError("stdout is closed")
    try:
        # Bytes: a character outside the locale's encoding, or a lone surrogate, must not lose the answer.
        encoding = (stdout.encoding or "utf-8") if stdout.isatty() else "utf-8"
        stdout.flush()
        stdout.buffer.write(text.encode(encoding, "backslashreplace"))
        stdout.flush()
    except BrokenPipeError:
        _forget_stdout(stdout)
    except OSError as error:
        _forget_stdout(stdout)
        raise OutputError(f"cannot write to stdout: {error.strerror}") from error


def _forget_stdout(stdout: TextIO) -> None:
    """Redirects stdout to the null device, so that the interpreter's flush at exit does not fail again."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, stdout.fileno())
    os.close(nothing)


def forget_stdout() -> None:
    """Redirects stdout to the null device, after its reader closed the pipe."""
    if sys.stdout is not None:
        _forget_stdout(sys.stdout)
