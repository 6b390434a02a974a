"""The language rule over all docstrings and test names, and the checker's own reading of docstrings."""

from __future__ import annotations

import language
import pytest

COMMAND = "python -m tests.architecture.language"


def test_docstrings_keep_the_language_rule() -> None:
    violations = language.check_files(language.project_files())
    listing = "\n".join(map(str, violations))
    assert not violations, f"{len(violations)} violations (also shown by `{COMMAND}`):\n{listing}"


def test_documents_keep_the_language_rule() -> None:
    violations = language.check_documents()
    listing = "\n".join(map(str, violations))
    assert not violations, f"{len(violations)} violations (also shown by `{COMMAND}`):\n{listing}"


def test_long_sentence_of_a_document_is_found() -> None:
    item = f"- {'word ' * 12}[a link to a page](with/an/address.md) {'word ' * 13}."
    text = f"# {'Heading ' * 30}\n\n{item}\n\n```\n{'word ' * 40}\n```\n"
    assert [item.reason for item in language.check_document(text, "x.md")] == ["a sentence of 26 words"]


@pytest.mark.parametrize(
    ("doc", "reason"),
    [
        ("What a call costs.", "opens with 'What'"),
        ("Whether the run ended.", "opens with 'Whether'"),
        ("Of two calls, the first.", "opens with 'Of'"),
        ("The cost, where it is known.", "'where'"),
        ("The value.\n\nWhere the limit is met, it is None.", "'where'"),
        ("A reply that is none.", "that is none"),
        ("The mode is none of the three.", "is none of"),
        ("The port is no Model.", "is no M"),
        ("The price, else zero.", "'else'"),
        ("A call may be retried.", "'may'"),
        ("As so many rows as wanted.", "'so many'"),
        ("The model is told.", "'told'"),
        ("The run is taken up.", "'taken up'"),
        ("The run had begun.", "'begun'"),
        ("The REPL is started anew.", "'anew'"),
        ("Whoever waits.", "'Whoever'"),
        ("Nobody waits.", "'Nobody'"),
        (f"Word {'word ' * 25}end.", "a sentence of 27 words"),
        ("Modes: one is fast; the other is slow.", "both a colon and a semicolon"),
        ("Call.\n\nArgs:\n    price: the cost, where it is known.\n", "'where'"),
        (f"List:\n\n- first\n- {'word ' * 26}\n", "a sentence of 26 words"),
        (f"Call.\n\nReturns:\n    {'word ' * 26}\n", "a sentence of 26 words"),
    ],
)
def test_violation_is_found(doc: str, reason: str) -> None:
    assert [found for found, _ in language.check_docstring(doc) if reason in found]


@pytest.mark.parametrize(
    "doc",
    [
        "Settles a reservation.",
        "The folder where runs are stored.",
        "There is no limit, and the run is no longer open.",
        "Something else, or nothing else.",
        f"Example::\n\n    {'word ' * 40}\n",
        f"Example.\n\n```python\n{'word ' * 40}\n```\n",
        f"Example.\n\n>>> call({'word ' * 40})\n",
        f"Inline code ``{'word ' * 40}`` counts once.",
        "Table.\n\n| what | where |\n|---|---|\n| may | told; and: else |\n",
        "Columns.\n\n    usd        what may be spent, else nothing\n    calls      told\n",
        f"Call.\n\nArgs:\n    first: {'word ' * 20}\n    second (int): {'word ' * 20}\n        {'more ' * 4}\n",
        f"List:\n\n- {'word ' * 20}\n- {'word ' * 20}\n  {'more ' * 4}\n1. {'word ' * 20}\n",
        f"Costs {'word ' * 12}1.5 s, e.g. Two {'word ' * 6}. Then {'word ' * 20}.",
    ],
)
def test_plain_english_and_code_pass(doc: str) -> None:
    assert list(language.check_docstring(doc)) == []


@pytest.mark.parametrize(
    ("doc", "reason"),
    [
        (f"List:\n\n- {'word ' * 20}\n- {'word ' * 20}\n", "40 words"),
        (f"Table.\n\n    first    {'word ' * 20}\n    second    {'word ' * 20}\n", "42 words"),
        ("Call ``begun`` after it.", "'begun'"),
    ],
)
def test_plain_text_of_lists_is_checked(doc: str, reason: str) -> None:
    assert [found for found, _ in language.check_plain_text(doc.replace("- ", "")) if reason in found]


def test_list_with_periods_passes() -> None:
    assert list(language.check_plain_text(f"List:\n\n- {'word ' * 20}.\n- {'word ' * 20}.\n")) == []


def test_long_test_names_are_found() -> None:
    source = "def test_one_two_three_four_five_six_seven_eight_nine() -> None: ..."
    assert [item.reason for item in language.check_source(source, "x.py")] == ["a test name of 9 words"]
