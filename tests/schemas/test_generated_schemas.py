"""Generated schemas: a root that errs first corrects itself, and the result follows the schema."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from schema_kit import Sample, sample

import rlm
from rlm.core.messages import Request
from rlm.schemas.form import JsonForm
from rlm.schemas.outline import MAX_CHARS, outline
from rlm.testing import ScriptedModel

COUNT = 500
SAMPLES = [sample(random.Random(seed)) for seed in range(COUNT)]


def final(value: Any, rng: random.Random) -> str:
    """One of the ways in which a model gives a value."""
    text = json.dumps(value, ensure_ascii=False)
    forms = [f"```repl\nFINAL({value!r})\n```", f"```repl\nvalue = {value!r}\n```\nFINAL_VAR(value)"]
    if not isinstance(value, str):
        forms += [f"FINAL({text})", f"```repl\nFINAL({text!r})\n```", f"FINAL({value!r})"]
    return rng.choice(forms)


async def test_roots_that_err_first_correct_themselves() -> None:
    wrong: list[tuple[int, Sample, Any]] = []
    current: list[str] = []

    def reply(_: Request) -> str:
        return current.pop(0)

    with rlm.RLM(ScriptedModel(reply), store=None) as engine:
        for seed, case in enumerate(SAMPLES):
            rng = random.Random(seed)
            current[:] = [final(case.invalid, rng), final(case.valid, rng)]
            result = await engine.arun("q", "c", schema=case.schema)
            if result.answer != case.valid or current or len(result.calls) != 2:
                wrong.append((seed, case, result.answer))
    assert wrong == []


def test_generated_values_agree_with_another_validator() -> None:
    other = pytest.importorskip("jsonschema_rs")
    for case in SAMPLES:
        validator = other.validator_for(case.schema, validate_formats=True)
        assert validator.is_valid(case.valid)
        assert not validator.is_valid(case.invalid)


def test_generated_schemas_have_short_forms() -> None:
    for case in SAMPLES:
        form = JsonForm(case.schema)
        text = outline(form.schema)
        assert text
        assert len(text) < MAX_CHARS + 200
        assert form.fit(case.valid, 10_000).problems == ()
        assert form.fit(case.invalid, 10_000).problems
