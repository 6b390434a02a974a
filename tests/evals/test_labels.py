"""Label accuracy is measured from calls in the formats of real roots, without guesses."""

from __future__ import annotations

import pytest
from rlm_evals.labels import Labelling, judge_call

TRUTH = {"free prize, call now": "spam", "see you at 8": "ham", "ok lar": "ham"}
LABELS = ("ham", "spam")
NUMBERED = "Classify:\n1. free prize, call now\n2. see you at 8\n3. ok lar"


@pytest.mark.parametrize(
    ("prompt", "reply", "expected"),
    [
        (NUMBERED, "1: spam\n2: ham\n3: ham", Labelling(3, 3, 3)),
        (NUMBERED, "1. **Spam**\n2. ham\n3. spam", Labelling(3, 3, 2)),
        (NUMBERED, "Here they are:\n1) spam\n3) ham", Labelling(3, 2, 2)),  # one row left out
        (NUMBERED, "2: ham\n1: spam\n3: ham", Labelling(3, 3, 3)),  # the numbers decide, not the order
        (NUMBERED, "1: ham or spam\n2: ham\n3: ham", Labelling(3, 2, 2)),  # two labels are ambiguous
        (NUMBERED, '["spam", "ham", "ham"]', Labelling(3, 3, 3)),
        (NUMBERED, '{"1": "spam", "2": "ham", "3": "spam"}', Labelling(3, 3, 2)),
        (NUMBERED, "[call failed: busy]", Labelling(3, 0, 0)),
        ("Label this: \nsee you at 8", "I would say ham.", Labelling(1, 1, 1)),
        ("Date: Jan 05, 2023 || User: 1 || Instance: ok lar\nWhich?", "ham", Labelling(1, 1, 1)),
        ("free prize, call now\nok lar", "spam\nham", Labelling(2, 2, 2)),
        ("free prize, call now\nok lar", "spam\nham\nham", Labelling(2, 0, 0)),  # 3 labels for 2 rows
        ("Summarise the minutes.", "ham", Labelling()),
    ],
)
def test_replies_are_compared_with_true_labels(prompt: str, reply: str, expected: Labelling) -> None:
    assert judge_call(TRUTH, LABELS, prompt, reply) == expected


def test_label_inside_longer_label_is_distinguished() -> None:
    truth = {"row": "more common than"}
    assert judge_call(truth, ("common", "more common than"), "1. row", "1: more common than") == Labelling(1, 1, 1)
