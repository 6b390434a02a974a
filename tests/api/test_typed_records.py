"""Records of typed runs: schema, checks and answers, for resumes and replays with and without the type."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TypedDict

import pydantic
import pytest

import rlm
from rlm.events import AnswerValidated
from rlm.testing import ScriptedModel


@dataclasses.dataclass
class Person:
    name: str
    age: int


class Movie(TypedDict):
    title: str


class Loud(pydantic.BaseModel):
    word: str

    @pydantic.field_validator("word")
    @classmethod
    def check_case(cls, value: str) -> str:
        if not value.isupper():
            raise ValueError("write it in upper case")
        return value


def test_record_has_schema_and_plain_answer(tmp_path: Path) -> None:
    store = tmp_path / "runs.db"
    root = ScriptedModel(['FINAL({"name": 1})', 'FINAL({"name": "Ann", "age": 3})'])
    with rlm.RLM(root, store=store) as engine:
        run_id = engine.run("q", "c", schema=Person).run_id
        replayed = engine.replay(run_id)
    assert replayed.answer == {"name": "Ann", "age": 3}
    with rlm.open_store(store) as stored:
        assert stored.result(run_id).data == {"name": "Ann", "age": 3}
        checks = [event for event in stored.events(run_id) if isinstance(event, AnswerValidated)]
    assert [len(event.problems) for event in checks] == [2, 0]
    with rlm.RLM(ScriptedModel([]), store=store) as engine:
        assert engine.resume(run_id).answer == {"name": "Ann", "age": 3}
        assert engine.resume(run_id, schema=Person).answer == Person("Ann", 3)
        with pytest.raises(rlm.ConfigurationError, match="with another schema"):
            engine.resume(run_id, schema=Movie)


def test_validation_of_user_code_is_not_repeated(tmp_path: Path) -> None:
    """A resume without the type follows the record, although the JSON schema would accept the first answer."""
    store = tmp_path / "runs.db"
    root = ScriptedModel(['FINAL({"word": "quiet"})', 'FINAL({"word": "LOUD"})'])
    with rlm.RLM(root, store=store) as engine:
        run_id = engine.run("q", "c", schema=Loud).run_id
    with rlm.RLM(ScriptedModel([]), store=store) as engine:
        assert engine.resume(run_id).answer == {"word": "LOUD"}
        assert engine.replay(run_id).answer == {"word": "LOUD"}


KILLED = """
import os, signal, sys
import rlm
from rlm.testing import ScriptedModel
replies = ['FINAL({"title": 1})', None]
def reply(request):
    text = replies.pop(0)
    if text is None:
        os.kill(os.getpid(), signal.SIGKILL)
    return text
schema = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}
rlm.RLM(ScriptedModel(reply), store=sys.argv[1]).run("q", "c", schema=schema)
"""


def test_killed_run_is_resumed_with_its_schema(tmp_path: Path) -> None:
    store = tmp_path / "runs.db"
    ended = subprocess.run([sys.executable, "-c", KILLED, str(store)], check=False, env={**os.environ})
    assert ended.returncode == -signal.SIGKILL
    root = ScriptedModel(['FINAL({"title": 2})', 'FINAL({"title": "M"})'])
    with rlm.RLM(root, store=store) as engine:
        assert engine.resume("last").answer == {"title": "M"}
    assert "title must be a string; got 2" in root.requests[1].messages[-1].text
