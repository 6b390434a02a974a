"""Leaf errors and server faults change scores exactly as arithmetic predicts."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from math import comb, sqrt
from pathlib import Path
from statistics import fmean

import pytest
from eval_kit import POOLS
from rlm_evals import oolong, ruler
from rlm_evals.arms import Arm, Outcome, Terms, open_arm, parse_arm, run_engine
from rlm_evals.harness import Plan, run_comparison
from rlm_evals.item import Item
from rlm_evals.reference.leaf import ReferenceLeaf, read
from rlm_evals.reference.root import ReferenceRoot, program
from rlm_evals.results import Line, ResultsFile
from rlm_evals.scorers import NUMERIC_BASE

from rlm.api import RLM
from rlm.testing.server import ScriptedReply, ScriptedServer
from rlm.testing.wire import ChatCall

NOISE = 0.05
SIGMAS = 4


class NoisyArm:
    """The reference root with a noisy leaf. Errors are independent between items."""

    models = ("reference:root", "reference:leaf")

    async def answer(self, item: Item) -> Outcome:
        leaf = ReferenceLeaf(item.labels, noise=NOISE, seed=sum(map(ord, item.id)) * 7919 + len(item.context))
        engine = RLM(models=[ReferenceRoot(), leaf], max_depth=1, setup_code=program())
        return await run_engine(engine, item.question, item, 60.0)

    async def aclose(self) -> None:
        pass


def run_arm(arm: Arm, items: Sequence[Item], folder: Path) -> list[Line]:
    with ResultsFile(folder / "results.jsonl", {}) as results:
        run_comparison(Plan(items, {"arm": arm}, parallel=8), results)
        return results.lines


@pytest.mark.slow
def test_needle_noise_lowers_score_by_its_share(tmp_path: Path) -> None:
    items = list(ruler.make_items(POOLS, "niah_multiquery", 1024, 75, 0))
    scores = [line.score for line in run_arm(NoisyArm(), items, tmp_path)]
    facts_read = 4 * len(items)
    assert fmean(scores) == pytest.approx(1 - NOISE, abs=SIGMAS * sqrt(NOISE * (1 - NOISE) / facts_read))
    assert fmean(scores) < 1.0


@pytest.mark.slow
def test_label_noise_lowers_score_as_predicted(tmp_path: Path) -> None:
    """With two labels a count changes by Bin(others, p) - Bin(own, p). OOLONG scores 0.75 to the power of the distance."""
    items = [
        item for seed in range(60) for item in oolong.make_items(POOLS, "spam", 2048, 25, seed) if _is_count(item)
    ][::2]
    lines = {line.item: line for line in run_arm(NoisyArm(), items, tmp_path)}
    expected, variance = zip(*(_expected_score(item) for item in items), strict=True)
    measured = fmean(lines[item.id].score for item in items)
    assert measured == pytest.approx(fmean(expected), abs=SIGMAS * sqrt(sum(variance)) / len(items))
    assert fmean(expected) < 0.85
    judged = sum(line.labels_judged for line in lines.values())
    right = sum(line.labels_right for line in lines.values()) / judged
    assert right == pytest.approx(1 - NOISE, abs=SIGMAS * sqrt(NOISE * (1 - NOISE) / judged))


def _is_count(item: Item) -> bool:
    return item.task.endswith("counting/NUMERIC_ONE_CLASS")


def _expected_score(item: Item) -> tuple[float, float]:
    """Mean and variance of an item's score under label noise."""
    own = int(item.gold[0])
    others = item.context.count("|| Instance: ") - own
    moments = [0.0, 0.0]
    for lost in range(own + 1):
        for won in range(others + 1):
            chance = _binomial(own, lost) * _binomial(others, won)
            value = NUMERIC_BASE ** abs(won - lost)
            moments[0] += chance * value
            moments[1] += chance * value * value
    return moments[0], moments[1] - moments[0] ** 2


def _binomial(number: int, hits: int) -> float:
    return comb(number, hits) * NOISE**hits * (1 - NOISE) ** (number - hits)


# Server faults.


def faulty(share: float) -> Callable[[ChatCall], ScriptedReply]:
    """A server that answers like the reference leaf and fails a share of its calls, in several ways."""
    rng = random.Random(1)
    faults = [
        lambda: ScriptedReply("busy", status=503),
        lambda: ScriptedReply("slow down", status=429),
        lambda: ScriptedReply("broken", status=500),
        lambda: ScriptedReply("never arrives", reset=True),
        lambda: ScriptedReply("cut", cut=True),
    ]

    def answer(call: ChatCall) -> ScriptedReply:
        if rng.random() < share:
            return rng.choice(faults)()
        return ScriptedReply(read(call.prompt, {}))

    return answer


@pytest.mark.slow
@pytest.mark.parametrize(("retries", "expected"), [(0, 0.9), (5, 1.0)])
def test_retries_absorb_server_faults(retries: int, expected: float, tmp_path: Path) -> None:
    items = list(ruler.make_items(POOLS, "niah_single_1", 1024, 150, 0))
    with ScriptedServer.in_thread(faulty(0.1)) as server:
        arm = open_arm(parse_arm(f"reference:1@openai:leaf={server.base_url}"), Terms(retries=retries))
        lines = run_arm(arm, items, tmp_path)
        calls = len(server.calls)
    leaf_calls = sum(line.calls for line in lines) - 3 * len(items)
    sigma = sqrt(expected * (1 - expected) / len(items))
    assert fmean(line.score for line in lines) == pytest.approx(expected, abs=SIGMAS * sigma)
    assert {line.status for line in lines} == {"complete"}  # a failed leaf call does not fail the run
    assert calls > leaf_calls if retries else calls == len(items)
