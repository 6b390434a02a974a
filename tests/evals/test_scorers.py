"""Scorers: the published rules, and our corrections of their faults."""

from __future__ import annotations

import datetime

import pytest
from rlm_evals.item import Item, ScorerName
from rlm_evals.scorers import answer_cap, f1, read_date, score

from rlm.core.cells import PlainValue


def item(scorer: ScorerName, *gold: str, answer_type: str = "") -> Item:
    return Item("id", "task", 1024, "question", "context", gold, scorer, answer_type)


@pytest.mark.parametrize(
    ("answer_type", "gold", "reply", "value", "published"),
    [
        ("LABEL", ["spam"], "Label: spam", 1.0, 1.0),
        ("LABEL", ["spam"], "**Label: [spam]**", 1.0, 1.0),
        ("LABEL", ["spam"], "Label: ham", 0.0, 0.0),
        ("LABEL", ["spam"], "spam", 1.0, 1.0),
        ("LABEL", ["spam"], "Label: Spam.", 1.0, 0.0),  # fault 5, and a final stop
        ("LABEL", ["ham", "spam"], "Label: spam", 1.0, 0.0),  # fault 1: a tie
        ("LABEL", ["human being"], "The most common of the labels is human being", 1.0, 0.0),  # fault 3
        ("LABEL", ["spam"], "Label: spam\n\nNote: there were 3: two and one", 1.0, 0.0),  # fault 7
        ("LABEL", ["spam"], "", 0.0, 0.0),
        ("NUMERIC", ["40"], "Answer: 40", 1.0, 1.0),
        ("NUMERIC", ["40"], "Answer: 41", 0.75, 0.75),
        ("NUMERIC", ["40"], "Answer: 38", 0.5625, 0.5625),
        ("NUMERIC", ["1234"], "Answer: 1,234", 1.0, 0.0),  # fault 2
        ("NUMERIC", ["40"], "Answer: 40 rows.", 1.0, 0.0),
        ("NUMERIC", ["40"], "Answer: forty", 0.0, 0.0),
        ("NUMERIC", ["0"], "Answer: 10", 0.75**10, 0.75**10),
        ("COMPARISON", ["more common than"], "Answer: ham is [more common than] spam", 1.0, 1.0),
        ("COMPARISON", ["less common than"], "Answer: ham is more common than spam", 0.0, 0.0),
        ("COMPARISON", ["less common than"], "Answer: a is less common b", 1.0, 0.0),  # fault 4
        ("COMPARISON", ["same frequency as"], "Answer: spam is same frequency as ham", 1.0, 1.0),
        ("COMPARISON", ["more common"], "either more common or less common, I cannot say", 0.0, 0.0),
        ("USER", ["44106"], "User: [44106]", 1.0, 1.0),
        ("USER", ["44106"], "User: 44107", 0.0, 0.0),
        ("DATE", ["01/05/2023"], "Date: 01/05/2023", 1.0, 1.0),
        ("DATE", ["01/05/2023"], "Date: Jan 05, 2023", 1.0, 1.0),
        ("DATE", ["01/05/2023"], "Date: 2023-01-05", 1.0, 1.0),
        ("DATE", ["01/05/2023"], "Date: 05/01/2023", 0.0, 0.0),
        ("MONTH_YEAR", ["March 2022"], "Answer: March 2022", 1.0, 1.0),
    ],
)
def test_oolong_scores_by_answer_type(
    answer_type: str, gold: list[str], reply: str, value: float, published: float
) -> None:
    judged = score(item("oolong", *gold, answer_type=answer_type), reply)
    assert judged.value == pytest.approx(value)
    assert judged.published == pytest.approx(published)


@pytest.mark.parametrize(
    ("answer", "value"),
    [(40, 1.0), (41, 0.75), (["40"], 1.0), ({"Answer": 40}, 1.0), (None, 0.0), (40.0, 1.0)],
)
def test_oolong_accepts_data_as_answer(answer: PlainValue, value: float) -> None:
    assert score(item("oolong", "40", answer_type="NUMERIC"), answer).value == value


def test_date_object_is_accepted() -> None:
    assert score(item("oolong", "01/05/2023", answer_type="DATE"), datetime.date(2023, 1, 5)).value == 1.0


@pytest.mark.parametrize("text", ["5 January 2023", "January 5th, 2023", "01/05/2023", "2023-01-05", "Jan 5, 2023"])
def test_common_date_formats_are_read(text: str) -> None:
    assert read_date(f"It was {text}.") == datetime.date(2023, 1, 5)


def test_impossible_date_is_rejected() -> None:
    assert read_date("02/30/2023") is None


@pytest.mark.parametrize(
    ("gold", "reply", "value"),
    [
        (["7"], r"So it is \boxed{7}", 1.0),
        (["7"], r"\boxed{9}", 0.5625),
        (["Vex"], r"\boxed{vex}", 1.0),
        (["a", "b", "c", "d"], r"\boxed{a, b, x}", 0.5),
        (["a", "b"], r"\boxed{\text{b, a}}", 1.0),
    ],
)
def test_oolong_real_reads_boxed_answers(gold: list[str], reply: str, value: float) -> None:
    assert score(item("oolong-real", *gold), reply).value == value


@pytest.mark.parametrize(
    ("gold", "answer", "value"),
    [
        (["(1, 2)", "(1, 3)"], "(1, 2)\n(3, 1)", 1.0),  # order inside a pair does not matter
        (["(1, 2)", "(1, 3)"], "(1, 2)\n(1, 1)\n(1,2)", 2 / 3),  # pairs with oneself and duplicates are ignored
        (["(1, 2)"], [[1, 2]], 1.0),
        (["(1, 2)"], [("1", "2"), (4, 5)], 2 / 3),
        (["(1, 2)"], {(2, 1)}, 1.0),
        ([], "none", 1.0),
        ([], "(1, 2)", 0.0),
        (["(1, 2)"], "", 0.0),
    ],
)
def test_pairs_score_by_f1(gold: list[str], answer: PlainValue, value: float) -> None:
    assert score(item("pairs", *gold), answer).value == pytest.approx(value)


@pytest.mark.parametrize(
    ("reply", "value", "published"),
    [
        ("They are 1234567 and 7654321.", 1.0, 1.0),
        ("1234567", 0.5, 0.5),
        ("91234567 and 7654321", 0.5, 1.0),  # fault 8: inside a longer number
        ("x " * 2000 + "1234567 7654321", 0.0, 1.0),  # fault 9: a dump
    ],
)
def test_ruler_matches_whole_values(reply: str, value: float, published: float) -> None:
    judged = score(item("ruler", "1234567", "7654321"), reply)
    assert (judged.value, judged.published) == (value, published)


def test_ruler_any_accepts_one_reference() -> None:
    assert score(item("ruler-any", "Paris", "the city of Paris"), "It was PARIS.").value == 1.0


def test_answer_cap_fits_every_gold_value() -> None:
    gold = ["0" * 36] * 100
    assert answer_cap(gold) > 5 * sum(map(len, gold))


@pytest.mark.parametrize(
    ("gold", "answer", "value"),
    [
        ("12", "Answer: 12", 1.0),
        ("12", "I counted.\nAnswer: [12]", 1.0),
        ("1234", "Answer: 1,234", 1.0),
        ("12", "Answer: 13", 0.0),
        ("Cisco", "Answer: cisco", 1.0),
        ("12", 12, 1.0),
        ("2021-11", "2021-11", 1.0),
    ],
)
def test_exact_answers_ignore_formatting(gold: str, answer: PlainValue, value: float) -> None:
    assert score(item("exact", gold), answer).value == value


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("Answer: CVE-1, CVE-2", 1.0),
        (["cve-1", "CVE-2"], 1.0),
        ("- CVE-1\n- CVE-3", 0.5),
        ("none", 0.0),
        ("CVE-1 and CVE-2", 1.0),
    ],
)
def test_lists_score_by_f1(answer: PlainValue, value: float) -> None:
    assert score(item("list", "CVE-1", "CVE-2"), answer).value == pytest.approx(value)


def test_f1_of_empty_sets_is_one() -> None:
    assert f1(set(), set()) == 1.0
