"""Items round-trip as JSON lines, and the published benchmarks' rows are read, scored and run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from eval_kit import every_task, solve_without_engine
from rlm_evals.exchange import read_items, write_items
from rlm_evals.scorers import score

from rlm.core.errors import ConfigurationError

ROWS = [
    ("Jan 05, 2023", 11111, "free prize, call now", "spam"),
    ("Feb 07, 2023", 22222, "see you at 8 ", "ham"),
    ("Feb 07, 2023", 11111, "ok lar", "ham"),
]
HEADER = (
    "The following lines contain 3 text messages, one per line. "
    "Each text message can be classified as spam or ham (i.e., not spam).\n\n"
)


def oolong_row(**changes: Any) -> dict[str, Any]:
    """A row with the fields of the published data set."""
    plain = "\n".join(f"Date: {day} || User: {user} || Instance: {text}" for day, user, text, _ in ROWS)
    labelled = "\n".join(
        f"Date: {day} || User: {user} || Instance: {text} || Label: {label}" for day, user, text, label in ROWS
    )
    return {
        "id": 17,
        "context_len": 1024,
        "dataset": "spam",
        "context_window_text": HEADER + plain + "\nRecall: the preceding lines contain 3 text messages",
        "context_window_text_with_labels": HEADER + labelled,
        "question": "In the above data, how many data points should be classified as label 'ham'?",
        "task_group": "counting",
        "task": "TASK_TYPE.NUMERIC_ONE_CLASS",
        "answer": "[2]",
        "answer_type": "ANSWER_TYPE.NUMERIC",
        **changes,
    }


def read_row(folder: Path, row: dict[str, Any], name: str = "rows.jsonl") -> Any:
    (folder / name).write_text(json.dumps(row) + "\n")
    (item,) = read_items(folder / name)
    return item


def test_own_items_round_trip_unchanged(tmp_path: Path) -> None:
    items = list(every_task(2048))
    assert write_items(tmp_path / "items.jsonl", items) == len(items)
    assert list(read_items(tmp_path / "items.jsonl")) == items


@pytest.mark.parametrize(
    ("changes", "gold"),
    [
        ({}, "2"),
        (
            {
                "question": "In the above data, which user is represented most often?",
                "answer": "[11111]",
                "answer_type": "ANSWER_TYPE.USER",
            },
            "11111",
        ),
        (
            {
                "question": "In the above data, which date is represented most often?",
                "answer": "[datetime.date(2023, 2, 7)]",
                "answer_type": "ANSWER_TYPE.DATE",
            },
            "02/07/2023",
        ),
        (
            {
                "question": "In the above data, which of the labels is the most common?",
                "answer": "['ham']",
                "answer_type": "ANSWER_TYPE.LABEL",
            },
            "ham",
        ),
        (
            {
                "question": "In the above data, is label 'ham' more common, less common, or the same frequency as label 'spam'?",
                "answer": "['more common than']",
                "answer_type": "ANSWER_TYPE.COMPARISON",
            },
            "more common than",
        ),
        (
            {
                "question": "In the above data, was label 'ham' more common, less common, or the same frequency "
                "before 2023-02-07 00:00:00, as "
                "compared to after 2023-02-07 00:00:00?",
                "answer": "['the same frequency']",
                "answer_type": "ANSWER_TYPE.COMPARISON",
            },
            "the same frequency",
        ),
        (
            {
                "question": "In which month did the label 'ham first occur more often than the label 'spam'? Give your final "
                "answer in the form 'Answer: [month] [year]'",
                "answer": "['February 2023']",
                "answer_type": "ANSWER_TYPE.MONTH_YEAR",
            },
            "February 2023",
        ),
    ],
)
def test_reference_answers_oolong_rows(changes: dict[str, Any], gold: str, tmp_path: Path) -> None:
    item = read_row(tmp_path, oolong_row(**changes))
    assert item.gold == (gold,)
    assert item.labels == {text.strip(): label for _, _, text, label in ROWS}
    judged = score(item, solve_without_engine(item))
    assert (judged.value, judged.published) == (1.0, 1.0)


def test_oolong_real_and_pairs_rows_are_distinguished(tmp_path: Path) -> None:
    real = {"id": 1, "context_window_text": "...", "question": "How many rolls?", "answer": "84"}
    assert read_row(tmp_path, real).scorer == "oolong-real"
    pairs = oolong_row(question="list all pairs of user IDs", answer=["(11111, 22222)"], answer_type="list")
    item = read_row(tmp_path, pairs)
    assert (item.scorer, item.gold) == ("pairs", ("(11111, 22222)",))


def test_ruler_rows_are_read(tmp_path: Path) -> None:
    prompt = (
        "Some special magic numbers are hidden within the following text. Make sure to memorize it. I will quiz you about the "
        "numbers afterwards.\nIt rained. One of the special magic numbers for old-dog is: 1234567. It stopped.\n"
        "What are all the special magic numbers for old-dog mentioned in the provided text?"
    )
    item = read_row(
        tmp_path, {"index": 0, "input": prompt, "outputs": ["1234567"], "length": 60}, "niah_single_1.jsonl"
    )
    assert item.question.startswith("What are all")
    assert score(item, solve_without_engine(item)).value == 1.0
    assert read_row(tmp_path, {"index": 0, "input": "a\nb", "outputs": ["x", "y"]}, "qa_1.jsonl").scorer == "ruler-any"


@pytest.mark.parametrize("line", ["{", "[1]", '{"a": 1}', '{"gold": ["1"]}'])
def test_invalid_item_error_names_its_line(line: str, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text(f"\n{line}\n")
    with pytest.raises(ConfigurationError, match=r"bad\.jsonl, line 2"):
        list(read_items(tmp_path / "bad.jsonl"))


def test_missing_file_error_names_its_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere"):
        list(read_items(tmp_path / "nowhere"))
