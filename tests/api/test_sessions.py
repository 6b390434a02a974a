"""Sessions: several questions over one REPL and one conversation, each of them a recorded run."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from programs import cell

import rlm
from rlm.core.messages import Request
from rlm.testing.scripted import ScriptedModel
from rlm.testing.server import ScriptedServer

Script = Callable[[int, Request], str]


def by_question(answer: Script) -> ScriptedModel:
    """A root model that is given the number of the present question; leaf calls answer with their prompt."""

    def reply(request: Request) -> str:
        if request.role == "leaf":
            return request.messages[-1].text.upper()
        asked = sum(message.text.count("uestion: ") for message in request.messages if message.role == "user")
        return answer(asked, request)

    return ScriptedModel(reply)


def counting(number: int, _: Request) -> str:
    if number == 1:
        return cell("n = 1; heard = llm_query('a'); print('counted'); FINAL(n)")
    return cell("n += 1; FINAL((n, heard, len(context)))")


@pytest.fixture
def engine(tmp_path: Path) -> rlm.RLM:
    return rlm.RLM(by_question(counting), store=tmp_path / "runs.db")


def test_later_questions_have_variables_and_conversation(engine: rlm.RLM) -> None:
    with engine.session("abc") as session:
        assert session.ask("one").answer == 1
        second = session.ask("two")
        assert second.answer == (2, "A", 3)
        assert second.usage.total.usage.calls == 1
        assert session.ask("three").answer == (3, "A", 3)
        assert session.usage.total.usage.calls == 4
        assert len(set(session.run_ids)) == 3
        assert session.last_result is not None
        tree = session.last_result.tree
    assert tree is not None
    assert [turn.turn for turn in tree.turns] == [3]
    assert "counted" in second.calls[0].prompt
    assert "Next question: two" in second.calls[0].prompt


async def test_an_asession_is_awaited(engine: rlm.RLM) -> None:
    async with engine.asession("abc") as session:
        assert (await session.ask("one")).answer == 1
        assert (await session.ask("two")).answer == (2, "A", 3)


def test_later_questions_are_replayed_and_continued(engine: rlm.RLM) -> None:
    with engine.session("abc") as session:
        for _ in range(3):
            session.ask("q")
        runs = session.run_ids
    for run, answer in zip(runs, [1, (2, "A", 3), (3, "A", 3)], strict=True):
        assert engine.replay(run).answer == answer
    with engine.resume_session(runs[1]) as session:
        assert session.run_ids == runs[:2]
        assert session.cut_off is None
        assert session.ask("q").answer == (3, "A", 3)
        assert session.usage.total.usage.calls == 1
        assert engine.replay(session.run_ids[-1]).answer == (3, "A", 3)


def test_a_lost_repl_is_rebuilt(engine: rlm.RLM) -> None:
    with engine.session("abc") as session:
        session.ask("one")
        session.ask("two")
        repl = session._setup.continuation.repl
        os.kill(repl._worker.process.pid, signal.SIGKILL)  # type: ignore[union-attr]
        assert session.ask("three").answer == (3, "A", 3)


def test_a_cancelled_question_leaves_the_session_usable(tmp_path: Path) -> None:
    def answer(number: int, _: Request) -> str:
        return cell(
            "n = 1; FINAL(n)" if number == 1 else "n += 1\nimport time; time.sleep(60)" if number == 2 else "FINAL(n)"
        )

    engine = rlm.RLM(by_question(answer), store=tmp_path / "runs.db")
    with engine.session("abc") as session:
        session.ask("one")
        handle = session.start("two")
        while not any(type(event).__name__ == "CellStarted" for event in handle._log._events):
            time.sleep(0.01)
        with pytest.raises(rlm.ConfigurationError, match="is answering a question"):
            session.start("three")
        handle.cancel()
        with pytest.raises(rlm.RunCancelledError):
            handle.result()
        assert session.ask("three").answer == 1  # the interrupted cell is not repeated
        runs = session.run_ids
    assert engine.replay(runs[-1]).answer == 1


def test_a_failed_question_leaves_the_session_usable() -> None:
    def reply(request: Request) -> str | rlm.ModelError:
        text = request.messages[-1].text
        if "two" in text and "three" not in text:
            return rlm.AuthenticationError("no", model="scripted:root")
        return cell("n = globals().get('n', 0) + 1; FINAL(n)")

    engine = rlm.RLM(ScriptedModel(reply), store=None, retries=0)
    with engine.session("abc") as session:
        session.ask("one")
        with pytest.raises(rlm.ModelError):
            session.ask("two")
        assert session.ask("three").answer == 2


def test_turns_are_limited_for_each_question() -> None:
    def answer(number: int, request: Request) -> str:
        return "FINAL(late)" if "answer now" in request.messages[-1].text.lower() else cell(f"print({number})")

    engine = rlm.RLM(by_question(answer), store=None, max_iterations=2)
    with engine.session("abc") as session:
        for _ in range(3):
            result = session.ask("q")
            assert (result.answer, result.limit) == ("late", "iterations")
            assert len(result.calls) == 3


def test_budget_counts_the_turns_of_the_present_question() -> None:
    engine = rlm.RLM(by_question(lambda *_: cell("FINAL(budget()['iterations'])")), store=None, max_iterations=3)
    with engine.session("abc") as session:
        assert [session.ask("q").answer for _ in range(3)] == [2, 2, 2]


def test_children_of_earlier_questions_are_not_asked_again(tmp_path: Path) -> None:
    def reply(request: Request) -> str:
        if request.depth == 1:
            return cell("FINAL('child of ' + context)")
        number = sum("uestion: " in message.text for message in request.messages if message.role == "user")
        return cell("x = llm_query('part'); FINAL(x)" if number == 1 else "FINAL(x + '!')")

    model = ScriptedModel(reply)
    engine = rlm.RLM(model, store=tmp_path / "runs.db", max_depth=2)
    with engine.session("abc") as session:
        assert session.ask("one").answer == "child of part"
    asked = len(model.requests)
    with engine.resume_session() as session:
        assert session.ask("two").answer == "child of part!"
    assert len(model.requests) == asked + 1


def test_a_session_has_a_budget_for_all_questions() -> None:
    engine = rlm.RLM(by_question(counting), store=None, budget=rlm.Budget(calls=5))
    with engine.session("abc", budget=rlm.Budget(calls=5)) as session:
        session.ask("one")
        session.ask("two")
        assert session.ask("three").used["calls"].allowed == 2
        with pytest.raises(rlm.BudgetExceededError, match="calls"):
            session.ask("four")
        assert session.usage.total.usage.calls == 4


def test_a_closed_session_refuses_questions(engine: rlm.RLM) -> None:
    session = engine.session("abc")
    session.ask("one")
    session.close()
    session.close()
    with pytest.raises(rlm.ConfigurationError, match="closed"):
        session.ask("two")


def test_closing_cancels_the_question_in_progress() -> None:
    engine = rlm.RLM(ScriptedModel([cell("import time; time.sleep(60)")]), store=None)
    session = engine.session("abc")
    handle = session.start("one")
    session.close()
    with pytest.raises(rlm.RunCancelledError):
        handle.result(5)


def test_plans_answer_each_question_of_a_session(tmp_path: Path) -> None:
    plan = tmp_path / "two_steps.py"
    plan.write_text(
        textwrap.dedent(
            """
            from rlm.plans import cell

            def plan(task):
                seen = yield cell(f"print({task.question!r}, len(context))")
                yield cell(f"FINAL({seen.splitlines()[0]!r})")
            """
        )
    )
    with rlm.RLM(f"plan:{plan}", sub_model=ScriptedModel([]), store=None).session("abc") as session:
        assert session.ask("one").answer == "one 3"
        assert session.ask("two").answer == "two 3"


def test_compaction_keeps_the_present_question() -> None:
    def reply(request: Request) -> str:
        if request.role == "leaf":
            return "summary"
        users = [message.text for message in request.messages if message.role == "user"]
        if "Next question: two" in "".join(users) or "The question now: two" in "".join(users):
            turns = "".join(users).count("filler")
            return (
                cell("FINAL('answered two')")
                if "The question now: two" in "".join(users)
                else cell(f"print('filler' + 'x' * 9000, {turns})")
            )
        return cell("FINAL(1)")

    engine = rlm.RLM(ScriptedModel(reply, window_tokens=9_000), store=None)
    with engine.session("abc") as session:
        session.ask("one")
        assert session.ask("two").answer == "answered two"


KILLED = """
import rlm, sys
from pathlib import Path

engine = rlm.RLM("openai:m", api_key="x", base_url=sys.argv[1], store=sys.argv[2])
session = engine.session("abc")
session.ask("one")
Path(sys.argv[2] + ".ready").touch()
session.ask("two")
"""


def test_a_killed_session_is_restored_with_its_question(tmp_path: Path) -> None:
    def answer(call: object) -> str:
        text = "\n".join(message.text for message in call.messages)  # type: ignore[attr-defined]
        if "uestion: two" not in text:
            return cell("n = llm_query('a'); FINAL(n)") if call.is_root else "leaf"  # type: ignore[attr-defined]
        if "Next question: two" in call.messages[-1].text:  # type: ignore[attr-defined]
            return cell("m = n + '!'; print(m)")
        until = time.monotonic() + 30
        while not released.exists() and time.monotonic() < until:
            time.sleep(0.02)
        return cell("FINAL(m)")

    released, store = tmp_path / "released", tmp_path / "runs.db"
    with ScriptedServer.in_thread(answer) as server:
        process = subprocess.Popen([sys.executable, "-c", KILLED, server.base_url, str(store)])
        until = time.monotonic() + 60
        while len(server.calls) < 4 and time.monotonic() < until:
            time.sleep(0.02)
        process.kill()
        process.wait()
        released.touch()
        engine = rlm.RLM("openai:m", api_key="x", base_url=server.base_url, store=store)
        with engine.resume_session() as session:
            assert session.cut_off is not None
            assert session.cut_off.text == "two"
            assert len(session.run_ids) == 1
            asked = len(server.calls)
            assert session.resume().answer == "leaf!"
            assert len(server.calls) == asked + 1
            assert session.cut_off is None
            assert len(session.run_ids) == 2


def test_a_missing_earlier_question_is_a_clear_error(engine: rlm.RLM) -> None:
    with engine.session("abc") as session:
        session.ask("one")
        session.ask("two")
        first, second = session.run_ids
    with rlm.open_store(engine.options.store or "") as store:
        store.delete(first)
    with pytest.raises(rlm.IncompleteRecordError, match="earlier question"):
        engine.resume_session(second)
    with pytest.raises(rlm.IncompleteRecordError, match="earlier question"):
        engine.replay(second)


async def test_cancelling_the_task_cancels_the_question(engine: rlm.RLM) -> None:
    slow = rlm.RLM(ScriptedModel([cell("import time; time.sleep(60)"), cell("FINAL(2)")]), store=None)
    async with slow.asession("abc") as session:
        task = asyncio.create_task(session.ask("one"))
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while session._current is not None and not session._current.done:
            await asyncio.sleep(0.01)
        assert (await session.ask("two")).answer == 2
