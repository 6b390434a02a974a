"""Overshoot of budgets: each case requests far more than its limit, and the server counts the actual spend.

    python benchmarks/overshoot.py [--markdown]

A scripted server implements the OpenAI API and counts billable tokens, at the published prices of gpt-4o and gpt-4o-mini.
"""

from __future__ import annotations

import argparse
import threading
from dataclasses import dataclass

import rlm
from rlm.testing.server import ChatCall, ScriptedReply, ScriptedServer

DOLLARS = {"gpt-4o": (2.5, 10.0), "gpt-4o-mini": (0.15, 0.6)}  # per million tokens: prompt, reply
REPLY = "word " * 120
WIDTHS = (42, 16, 18, 10, 10)
PIECE = "line of the log, with some text in it. " * 100
BATCH = "replies = llm_query_batch(['{n} ' + context] * {calls})\nprint(len(replies))"
LOOP = "replies = []\nwhile True:\n    replies.append(llm_query('again ' + context))"


@dataclass(frozen=True)
class Case:
    name: str
    budget: rlm.Budget
    code: str
    depth: int = 1
    failing: float = 0.0


CASES = (
    Case("one batch of 2,000 calls", rlm.Budget(usd=0.05), BATCH.format(n=1, calls=2_000)),
    Case("a loop without an end", rlm.Budget(usd=0.05), LOOP),
    Case("100 nodes, each with a batch of 100", rlm.Budget(usd=0.50), BATCH.format(n=1, calls=100), depth=2),
    Case("three levels of batches of 20", rlm.Budget(usd=0.50), BATCH.format(n=1, calls=20), depth=3),
    Case(
        "a batch of 2,000, a third of it failing", rlm.Budget(usd=0.05), BATCH.format(n=1, calls=2_000), failing=1 / 3
    ),
    Case("a batch of 2,000 calls", rlm.Budget(tokens=100_000), BATCH.format(n=1, calls=2_000)),
    Case("a batch of 2,000 calls", rlm.Budget(calls=100), BATCH.format(n=1, calls=2_000)),
)


def answer_for(case: Case) -> object:
    lock, count = threading.Lock(), [0]

    def answer(call: ChatCall) -> ScriptedReply:
        if call.is_root:
            if call.turn > 1 or "Answer now" in call.prompt:
                return ScriptedReply("FINAL(what there is)")
            return ScriptedReply(f"```repl\n{case.code}\n```", latency_s=0.0)
        with lock:
            count[0] += 1
            number = count[0]
        if case.failing and number % 3 == 0:
            kind = number // 3 % 3
            if kind == 0:
                return ScriptedReply(status=429, headers={"Retry-After": "0"})
            return ScriptedReply(REPLY, finish_reason="length") if kind == 1 else ScriptedReply("")
        return ScriptedReply(REPLY)

    return answer


def measure(case: Case) -> tuple[str, str, str, str, str]:
    with ScriptedServer.in_thread(answer_for(case), latency_s=0.02) as server:  # type: ignore[arg-type]
        engine = rlm.RLM(
            "gpt-4o",
            sub_model="gpt-4o-mini",
            max_depth=case.depth,
            budget=case.budget,
            api_key="x",
            base_url=server.base_url,
            prices=DOLLARS,
        )
        with engine:
            try:
                status = engine.run("What is in the log?", PIECE).status
            except rlm.RLMError as error:
                status = type(error).__name__
    usd = (
        sum(
            call.usage.input_tokens * DOLLARS[call.model][0] + call.usage.output_tokens * DOLLARS[call.model][1]
            for call in server.calls
        )
        / 1e6
    )
    tokens = sum(call.usage.total_tokens for call in server.calls)
    calls = sum(call.usage.calls for call in server.calls)
    budget = case.budget
    if budget.usd is not None:
        limit, spent, allowed, shown = f"${budget.usd:.2f}", usd, budget.usd, f"${usd:.4f}"
    elif budget.tokens is not None:
        limit, spent, allowed, shown = f"{budget.tokens:,} tokens", tokens, budget.tokens, f"{tokens:,}"
    else:
        limit, spent, allowed, shown = f"{budget.calls} calls", calls, budget.calls or 0, str(calls)
    over = max(0.0, spent - allowed)
    return case.name, limit, f"{shown} ({spent / allowed:.0%})", f"{over:g}", status


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--markdown", action="store_true")
    markdown = parser.parse_args().markdown
    head = ("case", "limit", "spent", "overshoot", "ended")
    if markdown:
        print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for case in CASES:
        row = measure(case)
        if markdown:
            print(f"| {' | '.join(row)} |")
        else:
            print("  ".join(f"{text:<{width}}" for text, width in zip(row, WIDTHS, strict=True)))


if __name__ == "__main__":
    main()
