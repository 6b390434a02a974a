"""Follow-up questions of a session: their time beside a turn of one run, and the share of prompt tokens that caches serve.

    python -m benchmarks.sessions [--questions N] [--megabytes N]

A session asks short questions over a large text. Every question takes two turns: a look at the text, and the answer. The same
number of turns in one run gives the time of a turn. The scripted server counts cached tokens as providers do, by prefix.
"""

from __future__ import annotations

import argparse
import statistics
import time

from rlm import RLM
from rlm.testing.server import ChatCall, ScriptedServer

LOOK_CHARS = 1_500


def look(turn: int) -> str:
    return f"```repl\nprint(context[{turn} * 1000:][:{LOOK_CHARS}])\n```"


def answer(call: ChatCall) -> str:
    """Looks at the text in the first turn of each question, and answers in the second."""
    return look(call.turn) if "uestion: " in call.messages[-1].text else "```repl\nFINAL(len(context))\n```"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--questions", type=int, default=20)
    parser.add_argument("--megabytes", type=int, default=100)
    options = parser.parse_args()
    text = ("the whale and the sea " * (options.megabytes * 50_000))[: options.megabytes * 1_000_000]
    count = 2 * options.questions

    def long_run(call: ChatCall) -> str:
        return look(call.turn) if call.turn < count else "```repl\nFINAL(len(context))\n```"

    with ScriptedServer.in_thread(answer) as server, ScriptedServer.in_thread(long_run) as other:
        with RLM("openai:m", api_key="x", base_url=other.base_url, store="memory", max_iterations=count) as engine:
            engine.run("q", text)
            began = time.perf_counter()
            engine.run("q", text)
            turn_s = (time.perf_counter() - began) / count
        times: list[float] = []
        engine = RLM("openai:m", api_key="x", base_url=server.base_url, store="memory")
        with engine, engine.session(text) as session:
            for number in range(options.questions):
                began = time.perf_counter()
                session.ask(f"question {number}")
                times.append(time.perf_counter() - began)
            usage = session.usage.total.usage
    follow_up = statistics.median(times[1:])
    print(f"context {options.megabytes} MB, {options.questions} questions of 2 turns")
    print(f"first question   {times[0] * 1000:8.1f} ms")
    print(f"follow-up        {follow_up * 1000:8.1f} ms (median), slowest {max(times[1:]) * 1000:.1f} ms")
    print(f"2 turns of a run {2 * turn_s * 1000:8.1f} ms: a follow-up takes {(follow_up - 2 * turn_s) * 1000:+.1f} ms")
    print(
        f"prompt tokens    {usage.input_tokens:,}, of which caches serve {usage.cached_tokens / usage.input_tokens:.1%}"
    )


if __name__ == "__main__":
    main()
