"""Prompts and contexts of many megabytes: hashed outside the event loop, recorded and found again."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripts_kit import cells

import rlm
from rlm.testing.scripted import ScriptedModel

CODES = {
    "a prompt": "reply = llm_query('x' * 3_000_000)",
    "a batch": "reply = llm_query_batch([c * 2_000_000 for c in 'abc'] + ['small'])",
    "a context": "reply = llm_query('x', context='y' * 3_000_000)",
    "a structured context": "reply = llm_query('x', context=[{'n': n, 'text': 'y' * 300} for n in range(10_000)])",
    "prompts with addresses": "reply = llm_query(f'{object()!r} ' * 60_000)",
}


@pytest.mark.parametrize("name", CODES)
def test_large_prompts_replay_and_resume(tmp_path: Path, name: str) -> None:
    script = cells(
        f"{CODES[name]}\nprint(reply)", "FINAL(str(reply))", leaf=lambda request: request.messages[0].text[-3:]
    )
    model = ScriptedModel(script, window_tokens=10_000_000)
    engine = rlm.RLM(model, store=tmp_path / "runs.db", sandbox="unconfined")
    answer = engine.run("q", "context").answer
    assert isinstance(answer, str)
    asked = len(model.requests)
    assert engine.replay("last").answer == answer
    assert engine.resume("last").answer == answer
    assert len(model.requests) == asked
