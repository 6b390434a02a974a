"""Append-only results file of a comparison: one JSON line per item and arm.

The first line holds the settings, and other settings are refused. Opening the file drops a line that a crash truncated, so that
its item runs again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any

from rlm.core.errors import ConfigurationError
from rlm.core.messages import JsonValue

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Line:
    """Result of one item in one arm. ``published`` follows the benchmark's own rule; counts and dollars are run totals."""

    arm: str
    item: str
    task: str
    length: int
    score: float
    published: float
    scorer: str
    status: str
    answer: str
    gold: str
    calls: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_usd: float | None
    elapsed_s: float
    labelled_rows: int = 0
    labels_judged: int = 0
    labels_right: int = 0
    error: str | None = None
    message: str | None = None
    limit: str | None = None
    models: tuple[str, ...] = ()
    run_id: str = ""

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens


class ResultsFile:
    """Results file, read and then opened for appending.

    Args:
        path: the file; created if missing.
        settings: options that affect results; must equal the file's.

    Raises:
        ConfigurationError: the file has other settings or another format.
    """

    def __init__(self, path: Path, settings: Mapping[str, JsonValue]) -> None:
        self.path = path
        self.lines: list[Line] = []
        stored: Mapping[str, Any] | None = None
        if path.exists() and path.stat().st_size:
            _drop_truncated_line(path)
            stored, self.lines = read_results(path) if path.stat().st_size else (None, [])
        if stored is not None and json.loads(json.dumps(settings)) != stored:
            changed = sorted(name for name in {*stored, *settings} if stored.get(name) != _plain(settings.get(name)))
            raise ConfigurationError(
                f"settings must equal those of {path}; got other values of {', '.join(changed)}. Use another file."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")
        if stored is None:
            self._write({"rlm_eval": FORMAT, "settings": dict(settings)})

    def append(self, line: Line) -> None:
        """Appends a line and syncs it to disk."""
        self.lines.append(line)
        self._write(asdict(line))

    def _write(self, row: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> ResultsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_results(path: Path) -> tuple[Mapping[str, Any], list[Line]]:
    """Settings and lines of a file, with only the last line of each item and arm.

    Raises:
        ConfigurationError: the file is unreadable or has another format.
    """
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"cannot read results from {path}: {error}") from error
    if not rows or not isinstance(rows[0], dict) or rows[0].get("rlm_eval") != FORMAT:
        raise ConfigurationError(f"{path} must be a results file of this version of rlm eval. Use another file.")
    names = {field.name for field in fields(Line)}
    lines = [
        Line(**{**{k: v for k, v in row.items() if k in names}, "models": tuple(row["models"])}) for row in rows[1:]
    ]
    return rows[0]["settings"], latest(lines)


def latest(lines: Iterable[Line]) -> list[Line]:
    """The last line of each item and arm."""
    return list({(line.arm, line.item): line for line in lines}.values())


def _drop_truncated_line(path: Path) -> None:
    with path.open("rb+") as file:
        data = file.read()
        if not data.endswith(b"\n"):
            file.truncate(data.rfind(b"\n") + 1)


def _plain(value: JsonValue) -> Any:
    return json.loads(json.dumps(value))
