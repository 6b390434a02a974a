"""A comparison resumes, respects its budget, runs in parallel, and stops at errors of every item."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from rlm_evals.arms import Arm, Outcome, Terms, describe_terms, open_arm, parse_arm
from rlm_evals.harness import Plan, Tally, TotalBudget, run_comparison
from rlm_evals.item import Item
from rlm_evals.results import Line, ResultsFile, read_results

from rlm.core.errors import AuthenticationError, ConfigurationError
from rlm.core.messages import Usage
from rlm.testing.server import ScriptedReply, ScriptedServer
from rlm.testing.wire import ChatCall


def items(count: int) -> list[Item]:
    return [Item(f"item/{n}", "made/up", 1024, "How many?", "x" * 100, (str(n),), "exact") for n in range(count)]


class CountingArm:
    """Answers correctly, and records its items and its concurrency."""

    models = ("test:model",)

    def __init__(self, change: Callable[[Item], Outcome] | None = None, wait_s: float = 0.0) -> None:
        self.asked: list[str] = []
        self.running = 0
        self.peak = 0
        self.closed = False
        self._change = change
        self._wait_s = wait_s

    async def answer(self, item: Item) -> Outcome:
        self.asked.append(item.id)
        self.running += 1
        self.peak = max(self.running, self.peak)
        await asyncio.sleep(self._wait_s)
        self.running -= 1
        if self._change:
            return self._change(item)
        return right(item)

    async def aclose(self) -> None:
        self.closed = True


def right(item: Item) -> Outcome:
    return Outcome(f"Answer: {item.gold[0]}", "complete", Usage(3, 100, output_tokens=10), 0.01, 0.5)


def run(folder: Path, plan: Plan) -> tuple[Tally, list[Line]]:
    with ResultsFile(folder / "results.jsonl", {"terms": 1}) as results:
        return run_comparison(plan, results), list(results.lines)


def test_every_item_runs_once_per_arm(tmp_path: Path) -> None:
    first, second = CountingArm(), CountingArm()
    tally, lines = run(tmp_path, Plan(items(7), {"a": first, "b": second}, parallel=3))
    assert Counter(first.asked) == Counter(second.asked) == Counter(item.id for item in items(7))
    assert (tally.done, tally.calls) == (14, 42)
    assert tally.usd == pytest.approx(0.14)
    assert {line.score for line in lines} == {1.0}
    assert first.closed
    assert second.closed


def test_items_run_in_parallel_up_to_limit(tmp_path: Path) -> None:
    arm = CountingArm(wait_s=0.02)
    run(tmp_path, Plan(items(20), {"a": arm}, parallel=5))
    assert arm.peak == 5


def test_second_run_skips_finished_items(tmp_path: Path) -> None:
    run(tmp_path, Plan(items(4), {"a": CountingArm()}))
    arm, new = CountingArm(), CountingArm()
    tally, lines = run(tmp_path, Plan(items(6), {"a": arm, "b": new}))
    assert sorted(arm.asked) == ["item/4", "item/5"]
    assert len(new.asked) == 6
    assert (tally.done, tally.skipped) == (8, 4)
    assert len(lines) == 12


def test_item_of_truncated_line_runs_again(tmp_path: Path) -> None:
    run(tmp_path, Plan(items(3), {"a": CountingArm()}, parallel=1))
    path = tmp_path / "results.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    arm = CountingArm()
    run(tmp_path, Plan(items(3), {"a": arm}))
    assert arm.asked == ["item/2"]
    assert len(read_results(path)[1]) == 3
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_file_with_other_settings_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    ResultsFile(path, describe_terms(Terms(model="openai:a"))).close()
    ResultsFile(path, describe_terms(Terms(model="openai:a", concurrency=3))).close()  # does not affect results
    with pytest.raises(ConfigurationError, match=r"other values of model\."):
        ResultsFile(path, describe_terms(Terms(model="openai:b")))


def test_file_of_other_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_text('{"hello": 1}\n')
    with pytest.raises(ConfigurationError, match="must be a results file"):
        ResultsFile(path, {})


def test_call_budget_is_never_exceeded(tmp_path: Path) -> None:
    arm = CountingArm(wait_s=0.005)
    tally, _ = run(tmp_path, Plan(items(50), {"a": arm}, parallel=8, budget=TotalBudget(calls=40), calls_per_item=10))
    assert tally.stopped == "calls"
    assert 30 <= tally.calls <= 40


def test_dollar_budget_holds_with_item_limits(tmp_path: Path) -> None:
    arm = CountingArm(wait_s=0.005)
    budget = TotalBudget(usd=0.155)
    tally, _ = run(tmp_path, Plan(items(50), {"a": arm}, parallel=8, budget=budget, usd_per_item=0.05))
    assert tally.stopped == "usd"
    assert 0.10 <= tally.usd <= 0.155


def test_dollar_budget_includes_earlier_runs(tmp_path: Path) -> None:
    budget = TotalBudget(usd=0.095)
    tally, _ = run(tmp_path, Plan(items(5), {"a": CountingArm()}, parallel=1, budget=budget))
    assert tally.stopped is None
    tally, _ = run(tmp_path, Plan(items(50), {"a": CountingArm()}, parallel=1, budget=budget))
    assert (tally.stopped, tally.done) == ("usd", 5)


def test_failed_item_is_retried_only_on_request(tmp_path: Path) -> None:
    def fail(item: Item) -> Outcome:
        kind = "RateLimitedError" if item.id == "item/0" else "NoAnswerError"
        return Outcome(None, "failed", Usage(1, 50), None, 0.1, error=kind, message="the reason")

    tally, lines = run(tmp_path, Plan(items(2), {"a": CountingArm(fail)}))
    assert tally.failed == 2
    assert {(line.score, line.error) for line in lines} == {(0.0, "RateLimitedError"), (0.0, "NoAnswerError")}
    again = CountingArm()
    run(tmp_path, Plan(items(2), {"a": again}))
    assert again.asked == []
    run(tmp_path, Plan(items(2), {"a": again}, retry_errors=True))
    assert again.asked == ["item/0"]
    assert sorted(line.score for line in read_results(tmp_path / "results.jsonl")[1]) == [0.0, 1.0]


def test_error_of_every_item_ends_comparison(tmp_path: Path) -> None:
    def refuse(item: Item) -> Outcome:
        raise AuthenticationError("the key is refused")

    arm = CountingArm(refuse)
    with pytest.raises(AuthenticationError, match="refused"):
        run(tmp_path, Plan(items(30), {"a": arm}, parallel=2))
    assert len(arm.asked) <= 2
    assert arm.closed
    assert read_results(tmp_path / "results.jsonl")[1] == []


# Arms against a real server.


def answer_everything(call: ChatCall) -> ScriptedReply:
    if call.is_root:
        return ScriptedReply("FINAL(Answer: 0)")
    return ScriptedReply("Answer: 0")


def run_arms(names: list[str], folder: Path, script: Callable[[ChatCall], ScriptedReply], terms: Terms) -> list[Line]:
    with ScriptedServer.in_thread(script) as server:
        arms: dict[str, Arm] = {}
        for name in names:
            spec = parse_arm(f"{name}@openai:scripted={server.base_url}")
            arms[name] = open_arm(spec, terms)
        return run(folder, Plan(items(1), arms))[1]


def test_arms_differ_only_in_visible_context(tmp_path: Path) -> None:
    prompts: dict[str, str] = {}

    def script(call: ChatCall) -> ScriptedReply:
        everything = "\n".join(message.text for message in call.messages)
        kind = "direct" if not call.is_root else "code" if "x" * 100 in everything else "rlm"
        prompts[kind] = everything
        return answer_everything(call)

    terms = Terms(prices={"openai:scripted": (1.0, 2.0)})
    lines = run_arms(["direct", "code", "rlm:0", "rlm:1"], tmp_path, script, terms)
    assert {(line.arm, line.score, line.status) for line in lines} == {
        (arm, 1.0, "complete") for arm in ("direct", "code", "rlm:0", "rlm:1")
    }
    assert all(line.cost_usd and line.input_tokens and line.calls == 1 for line in lines)
    assert sorted(prompts) == ["code", "direct", "rlm"]
    assert all("How many?" in prompt for prompt in prompts.values())
    assert "llm_query" not in prompts["code"]


def test_partial_answer_at_call_limit_is_scored(tmp_path: Path) -> None:
    def script(call: ChatCall) -> ScriptedReply:
        last = "Answer now" in call.prompt
        return ScriptedReply("FINAL(Answer: 0)" if last else "```repl\nprint(1)\n```")

    (line,) = run_arms(["rlm:1"], tmp_path, script, Terms(calls=3))
    assert (line.status, line.limit, line.score, line.calls) == ("partial", "calls", 1.0, 3)


@pytest.mark.parametrize("arm", ["direct", "rlm:1"])
def test_provider_failure_is_recorded_by_class(arm: str, tmp_path: Path) -> None:
    (line,) = run_arms([arm], tmp_path, lambda call: ScriptedReply("busy", status=503), Terms(retries=0))
    assert (line.status, line.error, line.score) == ("failed", "ProviderUnavailableError", 0.0)


@pytest.mark.parametrize(("arm", "error"), [("rlm:1", "BudgetExceededError"), ("direct", "Timeout")])
def test_time_limit_fails_the_item(arm: str, error: str, tmp_path: Path) -> None:
    (line,) = run_arms([arm], tmp_path, lambda call: ScriptedReply(hang=True), Terms(seconds=0.3))
    assert (line.status, line.error, line.score) == ("failed", error, 0.0)
    assert line.elapsed_s < 5


@pytest.mark.parametrize("text", ["", "rlm", "rlm:x", "reference:0", "direct@", "magic"])
def test_invalid_arm_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_arm(text)


def test_arm_text_is_parsed() -> None:
    spec = parse_arm("rlm:2@openai:gpt-5+ollama:qwen2.5:7b=http://localhost:1/v1")
    assert (spec.kind, spec.depth, spec.model, spec.sub_model) == ("rlm", 2, "openai:gpt-5", "ollama:qwen2.5:7b")
    assert spec.base_url == "http://localhost:1/v1"


def test_arm_without_model_names_the_option() -> None:
    with pytest.raises(ConfigurationError, match="--model"):
        open_arm(parse_arm("rlm:1"), Terms())
