"""Items as JSON lines: export of our own, import of the published benchmarks' rows.

Formats are recognised by their fields:

- OOLONG-synth: ``context_window_text`` and ``answer_type``
- OOLONG-real: the same without ``answer_type``
- OOLONG-Pairs: an OOLONG row whose answer is a list of pairs, as in its reproductions
- RULER: ``input`` and ``outputs``
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rlm.core.errors import ConfigurationError
from rlm_evals.item import Item, ScorerName

_LABELLED_ROW = re.compile(r"\|\| Instance: (.*?) \|\| Label: (.*)$", re.MULTILINE)
_GOLD_DATE = re.compile(r"datetime\.date(?:time)?\((\d+), (\d+), (\d+)[^)]*\)")
_FIELDS = ("id", "task", "length", "question", "context", "scorer", "answer_type", "preamble")


def write_items(path: Path, items: Iterable[Item]) -> int:
    """Writes items, one per line, and returns their number."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for item in items:
            row = {name: getattr(item, name) for name in _FIELDS}
            file.write(
                json.dumps({**row, "gold": list(item.gold), "labels": dict(item.labels)}, ensure_ascii=False) + "\n"
            )
            count += 1
    return count


def read_items(path: Path) -> Iterator[Item]:
    """Reads items, one per line.

    Raises:
        ConfigurationError: the file is unreadable, or a line has an unknown format.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _read_row(line, number, path.name)
    except OSError as error:
        raise ConfigurationError(f"cannot read items: {error}") from error


def _read_row(line: str, number: int, name: str) -> Item:
    try:
        row = json.loads(line)
        if "gold" in row:
            return Item(**{key: row[key] for key in _FIELDS}, gold=tuple(row["gold"]), labels=row["labels"])
        if "context_window_text" in row:
            return _read_oolong(row, number)
        if "input" in row and "outputs" in row:
            return _read_ruler(row, number, name)
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{name}, line {number}: not an item: {type(error).__name__}: {error}") from error
    raise ConfigurationError(
        f"{name}, line {number}: must be an item of rlm eval make, or a row of OOLONG or RULER; got the fields {list(row)}"
    )


def _read_oolong(row: Mapping[str, Any], number: int) -> Item:
    gold = _read_gold(row["answer"])
    kind = str(row.get("answer_type", "")).rpartition(".")[2]
    scorer: ScorerName = "oolong-real" if "answer_type" not in row else "oolong"
    if kind.lower() == "list" or (gold and gold[0].startswith("(")) or "list all pairs" in row["question"]:
        scorer = "pairs"
    labelled = _LABELLED_ROW.findall(str(row.get("context_window_text_with_labels", "")))
    group, task = (str(row.get(name, "")).rpartition(".")[2] for name in ("task_group", "task"))
    return Item(
        id=f"{row.get('dataset', 'oolong')}/{row.get('id', number)}",
        task="/".join(part for part in ("oolong", str(row.get("dataset", "")), group, task) if part),
        length=int(row.get("context_len") or len(row["context_window_text"]) // 4),
        question=row["question"].strip(),
        context=row["context_window_text"],
        gold=gold,
        scorer=scorer,
        answer_type=kind,
        labels={text.strip(): label.strip() for text, label in labelled},
    )


def _read_gold(answer: object) -> tuple[str, ...]:
    """Gold answers from ``"['spam']"``, ``"[3]"``, ``"[datetime.date(2023, 1, 5)]"``, a list, or plain text."""
    if isinstance(answer, str):
        if match := _GOLD_DATE.search(answer):
            return (f"{int(match[2]):02d}/{int(match[3]):02d}/{match[1]}",)
        try:
            answer = ast.literal_eval(answer)
        except (ValueError, SyntaxError):
            return (str(answer),)
    return tuple(map(str, answer)) if isinstance(answer, list | tuple) else (str(answer),)


def _read_ruler(row: Mapping[str, Any], number: int, name: str) -> Item:
    """Splits a RULER row, which is one whole prompt: its last line is the question."""
    context, _, question = row["input"].rstrip().rpartition("\n")
    return Item(
        id=f"{Path(name).stem}/{row.get('index', number)}",
        task=f"ruler/{Path(name).stem}",
        length=int(row.get("length") or len(row["input"]) // 4),
        question=question.removeprefix("Question: ").strip(),
        context=context,
        gold=tuple(map(str, row["outputs"])),
        scorer="ruler-any" if "qa" in name else "ruler",
    )
